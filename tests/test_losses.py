"""Eq. 5 against a double loop in plain Python, numbers worked out by hand, and its limits."""

import math

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ssl_iqa.losses import supervised_nt_xent


def eq5(projections: Tensor, classes: list[int], temperature: float, average: str) -> Tensor:
    """The formula, term by term; Python lists and scalars only, so that nothing is shared with the implementation."""

    def sim(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum() / ((a * a).sum() * (b * b).sum()).sqrt()

    n = len(classes)
    terms: dict[int, list[Tensor]] = {}
    for i in range(n):
        positives = [j for j in range(n) if j != i and classes[j] == classes[i]]
        if not positives:
            continue
        denominator = sum(torch.exp(sim(projections[i], projections[k]) / temperature) for k in range(n) if k != i)
        l_cont = sum(
            -torch.log(torch.exp(sim(projections[i], projections[j]) / temperature) / denominator) for j in positives
        ) / len(positives)
        terms.setdefault(classes[i], []).append(l_cont)
    if average == "classes":
        means = [sum(of_class) / len(of_class) for of_class in terms.values()]
        return sum(means) / len(means)
    anchors = [l_cont for of_class in terms.values() for l_cont in of_class]
    return sum(anchors) / len(anchors)


def random_projections(n: int, dim: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


UNEQUAL = [3, 7, 3, 0, 3, 7, 5, 3, 7]  # classes of 4, 3, 1 and 1 views


@pytest.mark.parametrize("average", ["anchors", "classes"])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_value_and_gradient_are_those_of_the_double_loop(temperature: float, average: str) -> None:
    ours = random_projections(9, 5).requires_grad_()
    formula = ours.detach().clone().requires_grad_()
    loss = supervised_nt_xent(ours, torch.tensor(UNEQUAL), temperature, average)
    expected = eq5(formula, UNEQUAL, temperature, average)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-13, atol=0)
    torch.testing.assert_close(ours.grad, formula.grad, rtol=1e-11, atol=1e-14)


def test_gradient_matches_finite_differences() -> None:
    p = random_projections(9, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: supervised_nt_xent(x, torch.tensor(UNEQUAL)), p)


def test_four_views_by_hand() -> None:
    # Class 0 twice at 0 degrees, class 1 twice at 90: each anchor has one positive of similarity 1, two negatives of 0.
    p = torch.tensor([[1.0, 0.0], [5.0, 0.0], [0.0, 2.0], [0.0, 0.1]], dtype=torch.float64)
    loss = supervised_nt_xent(p, torch.tensor([0, 0, 1, 1]), temperature=0.5)
    assert loss.item() == pytest.approx(-math.log(math.exp(2) / (math.exp(2) + 2)), rel=1e-14)


def test_averages_by_hand_where_they_differ() -> None:
    # Three views of class 0 at 0 degrees, two of class 1 at 90, tau 1.
    p = torch.tensor([[1.0, 0.0]] * 3 + [[0.0, 1.0]] * 2, dtype=torch.float64)
    classes = torch.tensor([0, 0, 0, 1, 1])
    of_0 = math.log(2 * math.e + 2) - 1
    of_1 = math.log(math.e + 3) - 1
    anchors = supervised_nt_xent(p, classes, 1.0, "anchors").item()
    by_class = supervised_nt_xent(p, classes, 1.0, "classes").item()
    assert anchors == pytest.approx((3 * of_0 + 2 * of_1) / 5, rel=1e-14)
    assert by_class == pytest.approx((of_0 + of_1) / 2, rel=1e-14)


def test_length_of_projections_does_not_matter() -> None:
    p = random_projections(9, 5)
    scale = torch.logspace(-6, 6, 9, dtype=torch.float64)[:, None]
    classes = torch.tensor(UNEQUAL)
    torch.testing.assert_close(
        supervised_nt_xent(p * scale, classes), supervised_nt_xent(p, classes), rtol=1e-13, atol=0
    )


@pytest.mark.parametrize("average", ["anchors", "classes"])
def test_order_of_views_and_names_of_classes_do_not_matter(average: str) -> None:
    p, classes = random_projections(9, 5), torch.tensor(UNEQUAL)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    shuffled = supervised_nt_xent(p[order], 124 - classes[order], average=average)
    torch.testing.assert_close(shuffled, supervised_nt_xent(p, classes, average=average), rtol=1e-13, atol=0)


def test_view_without_positive_counts_as_negative_only() -> None:
    p = random_projections(5, 4)
    classes = [0, 0, 1, 1, 2]
    loss = supervised_nt_xent(p, torch.tensor(classes))
    torch.testing.assert_close(loss, eq5(p, classes, 0.5, "anchors"), rtol=1e-13, atol=0)
    assert loss > supervised_nt_xent(p[:4], torch.tensor(classes[:4]))  # one more term in each denominator


@pytest.mark.parametrize("average", ["anchors", "classes"])
@pytest.mark.parametrize("n", [0, 1, 2, 6])
def test_no_positive_at_all_gives_zero_and_zero_gradient(n: int, average: str) -> None:
    p = random_projections(n, 3, torch.float32).requires_grad_()
    loss = supervised_nt_xent(p, torch.arange(n), 0.01, average)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(p.grad, torch.zeros(n, 3))


def test_zero_projection_has_similarity_zero_and_a_bounded_gradient() -> None:
    p = random_projections(6, 4, torch.float32)
    p[1] = 0
    p.requires_grad_()
    loss = supervised_nt_xent(p, torch.tensor([0, 0, 1, 1, 2, 2]))
    loss.backward()
    # Similarity 0 to every view is also what a direction at right angles to all the others has.
    wide = torch.cat([p.detach().double(), torch.zeros(6, 1, dtype=torch.float64)], dim=1)
    wide[1, 4] = 1
    torch.testing.assert_close(loss.double(), eq5(wide, [0, 0, 1, 1, 2, 2], 0.5, "anchors"), rtol=1e-6, atol=0)
    assert p.grad.isfinite().all() and p.grad.abs().max() < 10


def test_all_zero_projections_give_chance() -> None:
    p = torch.zeros(6, 4, requires_grad=True)
    loss = supervised_nt_xent(p, torch.tensor([0, 0, 1, 1, 2, 2]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(5), rel=1e-6)
    assert p.grad.isfinite().all()


def test_float32_is_stable_at_temperature_001() -> None:
    classes = torch.arange(40) % 5
    p = random_projections(40, 16)
    p[1::2] = -p[::2]  # similarities down to -1: exponents from -100 to 100
    p32 = p.float().requires_grad_()
    p = p32.detach().double().requires_grad_()
    loss = supervised_nt_xent(p32, classes, temperature=0.01)
    expected = supervised_nt_xent(p, classes, temperature=0.01)
    (loss + 0).backward()
    expected.backward()
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(p32.grad.double(), p.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    p = (100 * random_projections(9, 5)).to(dtype).requires_grad_()  # squares beyond float16
    loss = supervised_nt_xent(p, torch.tensor(UNEQUAL), temperature=0.05)
    loss.backward()
    assert loss.dtype == torch.float32 and p.grad.dtype == dtype
    torch.testing.assert_close(loss.double(), eq5(p.detach().double(), UNEQUAL, 0.05, "anchors"), rtol=1e-5, atol=0)


@pytest.mark.parametrize("max_similarities", [2**24, 30])
def test_autocast_does_not_lower_the_precision(max_similarities: int) -> None:
    p, classes = random_projections(9, 5, torch.float32).requires_grad_(), torch.tensor(UNEQUAL)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = supervised_nt_xent(p, classes, temperature=0.05, max_similarities=max_similarities)
        assert (p @ p.T).dtype == torch.bfloat16  # autocast goes on afterwards
    outside = supervised_nt_xent(p, classes, temperature=0.05, max_similarities=max_similarities)
    assert torch.equal(inside, outside)
    assert torch.equal(*(torch.autograd.grad(loss, p)[0] for loss in (inside, outside)))


def test_float64_stays() -> None:
    assert supervised_nt_xent(random_projections(9, 5), torch.tensor(UNEQUAL)).dtype == torch.float64


def test_chance_is_the_log_of_the_others() -> None:
    p = random_projections(2000, 128, torch.float32)
    classes = torch.arange(2000) // 2 % 125
    assert supervised_nt_xent(p, classes).item() == pytest.approx(math.log(1999), abs=0.05)
    assert round(math.log(1999), 2) == 7.60  # as in the docstring


def test_floor_of_1000_images_at_temperature_05() -> None:
    # The best 125 directions are a simplex: similarity 1 to the 15 positives, -1/124 to the 1984 other views.
    classes = torch.arange(1000).repeat(2) % 125
    p = (torch.eye(125, dtype=torch.float64) - 1 / 125)[classes]
    floor = math.log(15 + 1984 * math.exp(-2 / 124 - 2))
    loss = supervised_nt_xent(p, classes).item()
    assert loss == pytest.approx(floor, rel=1e-12)
    assert round(floor, 2) == 5.63  # as in the docstring
    nearby = p + 1e-2 * random_projections(2000, 125)
    assert supervised_nt_xent(nearby, classes).item() > loss


def loss_and_gradient(n: int, **settings: object) -> tuple[Tensor, Tensor]:
    """Of n views, float64; 24 of them are in classes of 1, 1, 2 .. 2, 3 and 5 views."""
    p = random_projections(n, 5).requires_grad_()
    loss = supervised_nt_xent(p, torch.arange(n) ** 2 % 27, 0.1, **settings)
    return loss.detach(), torch.autograd.grad(loss, p)[0]


@pytest.mark.parametrize("anchors", [None, (0, 24), (5, 17), (23, 24), (24, 24)])
@pytest.mark.parametrize("average", ["anchors", "classes"])
@pytest.mark.parametrize(
    "max_similarities", [1, 3 * 24, 5 * 24, 7 * 24 + 23]
)  # rows: 1, then 3, which divides 24, 5, 7
def test_chunks_change_nothing(max_similarities: int, average: str, anchors: tuple[int, int] | None) -> None:
    loss, gradient = loss_and_gradient(24, average=average, anchors=anchors, max_similarities=max_similarities)
    expected, of_expected = loss_and_gradient(24, average=average, anchors=anchors)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, of_expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("max_similarities", [2**24, 50])
@pytest.mark.parametrize("average", ["anchors", "classes"])
def test_shares_and_their_gradients_add_up(average: str, max_similarities: int) -> None:
    expected, of_expected = loss_and_gradient(24, average=average)
    parts = [(0, 1), (1, 9), (9, 9), (9, 24)]
    shares = [loss_and_gradient(24, average=average, anchors=part, max_similarities=max_similarities) for part in parts]
    torch.testing.assert_close(sum(loss for loss, _ in shares), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(sum(gradient for _, gradient in shares), of_expected, rtol=1e-12, atol=1e-12)


def test_share_is_that_of_its_anchors_alone() -> None:
    # Anchors 1 and 2 of the four by hand above: each l_cont is the same, so that two of four are half of the loss.
    p = torch.tensor([[1.0, 0.0], [5.0, 0.0], [0.0, 2.0], [0.0, 0.1]], dtype=torch.float64)
    share = supervised_nt_xent(p, torch.tensor([0, 0, 1, 1]), temperature=0.5, anchors=(1, 3))
    assert share.item() == pytest.approx(-math.log(math.exp(2) / (math.exp(2) + 2)) / 2, rel=1e-14)


def test_chunked_losses_share_a_graph_that_goes_backward_twice() -> None:
    p, classes = random_projections(9, 5).requires_grad_(), torch.tensor(UNEQUAL)
    q = p * 2  # [9, 5], part of both graphs
    loss = supervised_nt_xent(q, classes, max_similarities=20) + supervised_nt_xent(-q, classes, max_similarities=40)
    once, again = (torch.autograd.grad(loss, p, retain_graph=True)[0] for _ in range(2))
    (expected,) = torch.autograd.grad(supervised_nt_xent(p, classes) + supervised_nt_xent(-p, classes), p)
    assert torch.equal(once, again)
    torch.testing.assert_close(once, expected, rtol=1e-12, atol=1e-12)


class LargestTensor(TorchDispatchMode):
    """Notes the largest number of elements of any tensor that an operation returns."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN201
        result = func(*args, **kwargs or {})
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, Tensor):
                self.numel = max(self.numel, tensor.numel())
        return result


def test_no_more_similarities_than_allowed_are_in_memory() -> None:
    n, allowed = 512, 2**12  # 8 rows of 512 at a time, of 512 x 512
    p, classes = random_projections(n, 4).requires_grad_(), torch.arange(n) % 30
    saved = {}  # bytes by address, of what is kept for the backward pass

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with LargestTensor() as largest, torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = supervised_nt_xent(p, classes, max_similarities=allowed)
        forward = largest.numel
        loss.backward()
    assert forward == largest.numel == allowed
    assert sum(saved.values()) < 8 * n * n / 8  # float64


P, C = torch.zeros(4, 3), torch.zeros(4, dtype=torch.long)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((P[0], C), r"projections .*float32 \[3\]"),
        ((P[None], C), r"projections .*float32 \[1, 4, 3\]"),
        ((P.long(), C), "projections must be floating point"),
        ((P, C[:3]), r"classes must be integers \[4\], got .* \[3\]"),
        ((P, C[:, None]), r"classes must be integers \[4\]"),
        ((P, C.float()), "classes must be integers"),
        ((P, C, 0.0), "temperature must be positive, got 0.0"),
        ((P, C, -1.0), "temperature"),
        ((P, C, float("nan")), "temperature"),
        ((P, C, 0.5, "views"), "average must be 'anchors' or 'classes', got 'views'"),
    ],
)
def test_wrong_arguments_are_named(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        supervised_nt_xent(*arguments)
