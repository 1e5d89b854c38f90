"""The contrastive loss of Section 3.1."""

import torch
from torch import Tensor


def supervised_nt_xent(
    projections: Tensor, classes: Tensor, temperature: float = 0.5, average: str = "anchors"
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

    Returns:
        The loss, a scalar, float32 or (float64 input) float64.

    Raises:
        ValueError: for wrong shapes or types, a temperature that is not positive, an unknown average.
    """
    if projections.ndim != 2 or not projections.is_floating_point():
        raise ValueError(f"projections must be floating point [N, D], got {_describe(projections)}")
    if classes.shape != projections.shape[:1] or classes.is_floating_point():
        raise ValueError(f"classes must be integers [{len(projections)}], got {_describe(classes)}")
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    if average not in ("anchors", "classes"):
        raise ValueError(f"average must be 'anchors' or 'classes', got {average!r}")

    with torch.autocast(projections.device.type, enabled=False):
        p = projections.to(torch.promote_types(projections.dtype, torch.float32))  # [N, D]
        length = p.norm(dim=1, keepdim=True)
        p = p / length.masked_fill(length == 0, 1)
        itself = torch.eye(len(p), dtype=torch.bool, device=p.device)
        positive = (classes[:, None] == classes) & ~itself  # [N, N], j in P(i)
        n_positive = positive.sum(dim=1)  # [N], |P(i)|

        sim = p @ p.T / temperature  # [N, N]
        # The lowest finite number rather than -inf: a lone view (N = 1) would make it -inf - -inf = NaN.
        log_denominator = sim.masked_fill(itself, torch.finfo(p.dtype).min).logsumexp(dim=1, keepdim=True)  # k != i
        l_cont = ((log_denominator - sim) * positive).sum(dim=1) / n_positive.clamp(min=1)  # [N]

        weight = (n_positive > 0).to(p.dtype)
        if average == "classes":
            weight = weight / (n_positive + 1)  # over the |P(i)| + 1 views of a class, this sums to 1
        return (weight * l_cont).sum() / weight.sum().clamp(min=1)


def _describe(tensor: Tensor) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}"
