"""The contrastive loss of Section 3.1."""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def supervised_nt_xent(
    projections: Tensor,
    classes: Tensor,
    temperature: float = 0.5,
    average: str = "anchors",
    anchors: tuple[int, int] | None = None,
    max_similarities: int = 2**24,
) -> Tensor:
    """Supervised NT-Xent, Eq. 5: L_cont, the mean of l_cont over the batch.

    With N views in the batch (both views of every image, N = 2B), the positives P(i) of anchor i are the other
    views of its distortion class, the second view of its own image included; the denominator runs over all k != i.
    An anchor without a positive does not count; if none has one, the loss is 0 and so is its gradient. Chance is about
    log(N - 1), and the lowest value is not 0: at temperature 0.5, 1000 images of 125 classes, 7.60 and 5.63.

    Args:
        projections: p, [N, D], of any length: the similarity is the cosine (0 where a length is 0). Half precision is
            raised to float32, inside autocast too.
        classes: distortion class of each view, [N], integers.
        temperature: tau > 0; 0.5 in Section 4.2.
        average: "anchors", the mean over anchors (the "out" form of SupCon, Khosla et al. 2020), or "classes", the
            mean over classes of each class's mean over anchors, the other reading of "average of l_cont computed for
            all classes in the batch".
        anchors: (first, stop): only the views first <= i < stop are anchors, where processes share those of a batch
            whose N views each holds. The value is this part's share of the loss: shares, and their gradients, add up.
            None: all views.
        max_similarities: the most similarities in memory at a time, in chunks of rows of [N, N], of one row at least.
            The backward pass computes each of several chunks anew.

    Returns:
        The loss, a scalar, float32 or (float64 input) float64.

    Raises:
        ValueError: for wrong shapes or types, a temperature that is not positive, an unknown average.
    """
    if projections.ndim != 2 or not projections.is_floating_point():
        got = f"{projections.dtype} {list(projections.shape)}"
        raise ValueError(f"projections must be floating point [N, D], got {got}")
    if classes.shape != projections.shape[:1] or classes.is_floating_point():
        got = f"{classes.dtype} {list(classes.shape)}"
        raise ValueError(f"classes must be integers [{len(projections)}], got {got}")
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    if average not in ("anchors", "classes"):
        raise ValueError(f"average must be 'anchors' or 'classes', got {average!r}")
    n_views = len(projections)
    first, stop = (0, n_views) if anchors is None else anchors

    with torch.autocast(projections.device.type, enabled=False):
        p = projections.to(torch.promote_types(projections.dtype, torch.float32))  # [N, D]
        length = p.norm(dim=1, keepdim=True)
        p = p / length.masked_fill(length == 0, 1)

        x = p[first:stop] / temperature  # [A, D], the anchors
        _, index, count = classes.unique(return_inverse=True, return_counts=True)
        n_positive = count[index] - 1  # [N], |P(i)|

        rows = max(1, max_similarities // max(1, n_views))
        if len(x) <= rows:
            l_cont = _l_cont(x, first, p, classes, n_positive)  # [A]
        else:
            chunks = ((x_chunk, first + i * rows, p, classes, n_positive) for i, x_chunk in enumerate(x.split(rows)))
            l_cont = torch.cat([checkpoint(_l_cont, *chunk, use_reentrant=False) for chunk in chunks])

        weight = (n_positive > 0).to(p.dtype)  # [N]
        if average == "classes":
            weight = weight / (n_positive + 1)  # over the |P(i)| + 1 views of a class, this sums to 1
        return (weight[first:stop] * l_cont).sum() / weight.sum().clamp(min=1)


def _l_cont(x: Tensor, first: int, p: Tensor, classes: Tensor, n_positive: Tensor) -> Tensor:
    """l_cont, [rows], of anchors i = first, first + 1, ..., with x = p_i / tau; of no meaning where P(i) is empty."""
    anchors = slice(first, first + len(x))
    positive = classes[anchors, None] == classes  # [rows, N], j in P(i)
    positive.diagonal(first).fill_(False)
    sim = x @ p.T  # [rows, N], over tau
    log_numerator = (sim * positive).sum(dim=1) / n_positive[anchors].clamp(min=1)  # [rows], mean over P(i)
    with torch.no_grad():  # k = i has no part in the sum, so none in the gradient: autograd need not copy sim for it
        # The lowest finite number rather than -inf: a lone view (N = 1) would make it -inf - -inf = NaN.
        sim.diagonal(first).fill_(torch.finfo(sim.dtype).min)
    return sim.logsumexp(dim=1) - log_numerator
