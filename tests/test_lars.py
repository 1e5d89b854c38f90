"""The LARS update against numbers worked out by hand, and its behavior as a torch optimizer."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssl_iqa.lars import LARS


def parameter(values: list, gradient: list, dtype: torch.dtype = torch.float64) -> nn.Parameter:
    w = nn.Parameter(torch.tensor(values, dtype=dtype))
    w.grad = torch.tensor(gradient, dtype=dtype)
    return w


def steps(w: nn.Parameter, n: int, **settings: Any) -> list[Any]:
    """The values of w after each of n steps with an unchanged gradient."""
    optimizer = LARS([w], **settings)
    values = []
    for _ in range(n):
        optimizer.step()
        values.append(w.detach().clone())
    return values


def assert_close(actual: Tensor, expected: list, tolerance: float = 1e-14) -> None:
    torch.testing.assert_close(actual.double(), torch.tensor(expected, dtype=torch.float64), rtol=tolerance, atol=1e-15)


def test_two_steps_by_hand() -> None:
    # ||w|| = 5, ||g|| = 2: ratio 0.01 * 5 / 2 = 0.025, v = (0, 0.05), w = (3, 4 - 2 * 0.05).
    # Then ||w|| = sqrt(9 + 3.9^2), ratio * d = (0, 0.01 ||w||), v = 0.9 * 0.05 + 0.01 ||w||.
    w = parameter([[3.0, 4.0]], [[0.0, 2.0]])
    first, second = steps(w, 2, lr=2.0, momentum=0.9, weight_decay=0.0, trust_coefficient=0.01)
    assert_close(first, [[3.0, 3.9]])
    assert_close(second, [[3.0, 3.9 - 2 * (0.045 + 0.01 * (9 + 3.9**2) ** 0.5)]])


def test_three_steps_with_decay_by_hand() -> None:
    # g and w on one axis: d = g + 0.5 w, ratio * d = 0.1 |w| sign(d); v = 0.5 v + that.
    # w 4: d = 3, v = 0.4, w 3.6.  w 3.6: d = 2.8, v = 0.2 + 0.36, w 3.04.  w 3.04: v = 0.28 + 0.304, w 2.456.
    w = parameter([[4.0]], [[1.0]])
    values = steps(w, 3, lr=1.0, momentum=0.5, weight_decay=0.5, trust_coefficient=0.1)
    assert_close(torch.cat(values), [[3.6], [3.04], [2.456]])


def test_norm_is_that_of_gradient_and_decay_together() -> None:
    # d = (0, 3) + 1 * (4, 0), of length 5; ratio = 0.1 * 4 / 5. Norms added up would give 0.1 * 4 / (3 + 4).
    w = parameter([[4.0, 0.0]], [[0.0, 3.0]])
    assert_close(steps(w, 1, lr=1.0, weight_decay=1.0, trust_coefficient=0.1)[0], [[4 - 0.08 * 4, -0.08 * 3]])


def test_defaults_are_those_of_the_paper_and_of_lars() -> None:
    group = LARS([nn.Parameter(torch.ones(1))], lr=1e-2).param_groups[0]
    names = ("lr", "momentum", "weight_decay", "trust_coefficient", "adapt")
    assert [group[name] for name in names] == [1e-2, 0.9, 1e-6, 1e-3, True]


def test_zero_weights_take_the_plain_step() -> None:
    assert_close(steps(parameter([[0.0, 0.0]], [[3.0, 4.0]]), 1, lr=0.1)[0], [[-0.3, -0.4]])


def test_zero_gradient_without_decay_leaves_the_weights() -> None:
    values = steps(parameter([[3.0, 4.0]], [[0.0, 0.0]]), 2, lr=0.1, weight_decay=0.0)
    assert_close(values[1], [[3.0, 4.0]])


def test_decay_that_cancels_the_gradient_leaves_the_weights() -> None:
    assert_close(steps(parameter([[2.0]], [[-1.0]]), 1, lr=0.1, weight_decay=0.5)[0], [[2.0]])


@pytest.mark.parametrize("adapt", [True, False])
@pytest.mark.parametrize("shape", [(), (2,)])
def test_one_dimensional_parameters_are_neither_adapted_nor_decayed(shape: tuple[int, ...], adapt: bool) -> None:
    w = nn.Parameter(torch.full(shape, 4.0, dtype=torch.float64))
    w.grad = torch.full(shape, 2.0, dtype=torch.float64)
    optimizer = LARS([{"params": [w], "adapt": adapt}], lr=0.1, momentum=0.5, weight_decay=0.5)
    optimizer.step()
    optimizer.step()  # v = 2, then 1 + 2
    torch.testing.assert_close(w.detach(), torch.full(shape, 4 - 0.1 * (2 + 3), dtype=torch.float64))


def test_group_without_adaptation_is_torch_sgd() -> None:
    generator = torch.Generator().manual_seed(0)
    ours = nn.Parameter(torch.randn(4, 3, generator=generator, dtype=torch.float64))
    sgd = nn.Parameter(ours.detach().clone())
    optimizers = (
        LARS([{"params": [ours], "adapt": False}], lr=0.1, momentum=0.9, weight_decay=0.1),
        torch.optim.SGD([sgd], lr=0.1, momentum=0.9, weight_decay=0.1),
    )
    for _ in range(4):
        g = torch.randn(4, 3, generator=generator, dtype=torch.float64)
        ours.grad, sgd.grad = g.clone(), g.clone()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(ours, sgd, rtol=1e-14, atol=1e-15)


def test_groups_have_their_own_settings() -> None:
    a, b = parameter([[4.0]], [[1.0]]), parameter([[4.0]], [[1.0]])
    optimizer = LARS(
        [{"params": [a]}, {"params": [b], "lr": 0.1, "adapt": False}], lr=1.0, weight_decay=0.0, trust_coefficient=0.1
    )
    optimizer.step()
    assert_close(torch.cat([a, b]).detach(), [[4 - 0.1 * 4], [4 - 0.1 * 1]])


def test_each_tensor_has_its_own_ratio() -> None:
    a, b = parameter([[4.0]], [[1.0]]), parameter([[2.0]], [[100.0]])
    LARS([a, b], lr=1.0, weight_decay=0.0, trust_coefficient=0.1).step()
    assert_close(torch.cat([a, b]).detach(), [[3.6], [1.8]])


def step_of_one(w: Tensor, g: Tensor, v: Tensor, group: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The rule, for one tensor: w and v after a step."""
    d = g
    if w.ndim > 1:
        d = g + group["weight_decay"] * w
        w_norm, d_norm = w.square().sum().sqrt().item(), d.square().sum().sqrt().item()
        if group["adapt"] and w_norm > 0 and d_norm > 0:
            d = group["trust_coefficient"] * w_norm / d_norm * d
    v = group["momentum"] * v + d
    return w - group["lr"] * v, v


def test_all_tensors_at_once_are_as_one_by_one() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(4, 3), (5,), (2, 3, 3, 3), (), (6, 2), (2, 2), (7,), (1, 1)]
    groups = []
    for setting in ({"adapt": True, "lr": 0.5, "momentum": 0.5}, {"adapt": False, "weight_decay": 0.3}):
        weights = [nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64)) for shape in shapes]
        weights[5].data.zero_()
        groups.append({"params": weights, **setting})
    optimizer = LARS(groups, lr=0.1, momentum=0.9, weight_decay=0.2, trust_coefficient=0.02)
    expected = {w: (w.detach().clone(), torch.zeros_like(w)) for group in groups for w in group["params"]}
    for step in range(5):
        for i, w in enumerate(expected):
            w.grad = torch.randn(w.shape, generator=generator, dtype=torch.float64)
            if (
                i % len(shapes) == step
            ):  # another one in each step: without a gradient in the first group, 0 in the second
                w.grad = None if i == step else torch.zeros_like(w)
        optimizer.step()
        for group in optimizer.param_groups:
            for w in group["params"]:
                if w.grad is not None:
                    expected[w] = step_of_one(expected[w][0], w.grad, expected[w][1], group)
                torch.testing.assert_close(w.detach(), expected[w][0], rtol=1e-12, atol=1e-15)


def test_a_group_may_mix_devices_and_dtypes() -> None:
    def updated(*weights: nn.Parameter) -> None:
        LARS(weights, lr=1.0, weight_decay=0.0, trust_coefficient=0.25).step()

    dtypes = (torch.float16, torch.float32, torch.float64)
    alone = [parameter([[4.1, 2.3]], [[1.1, 3.3]], dtype) for dtype in dtypes]
    together = [parameter([[4.1, 2.3]], [[1.1, 3.3]], dtype) for dtype in dtypes]
    elsewhere = nn.Parameter(torch.ones(2, 2, device="meta"))
    elsewhere.grad = torch.ones(2, 2, device="meta")
    for w in alone:
        updated(w)
    updated(together[0], elsewhere, *together[1:])
    for w, expected in zip(together, alone, strict=True):
        assert w.dtype == expected.dtype and torch.equal(w, expected) and w[0, 0] < 4


@pytest.mark.parametrize("adapt", [True, False])
def test_step_never_waits_for_the_device(adapt: bool) -> None:
    # A tensor on "meta" has no values: whatever the host asked for (item, a comparison in Python), it would raise.
    weights = [nn.Parameter(torch.ones(shape, device="meta")) for shape in ((4, 3), (5,), (2, 3, 3, 3))]
    for w in weights:
        w.grad = torch.ones_like(w)
    optimizer = LARS([{"params": weights, "adapt": adapt}], lr=0.1)
    optimizer.step()
    optimizer.step()
    assert all(optimizer.state[w]["momentum_buffer"].shape == w.shape for w in weights)


def test_gradient_is_left_as_it_was() -> None:
    for w in (parameter([[4.0]], [[1.0]]), parameter([4.0], [1.0])):
        steps(w, 2, lr=1.0, weight_decay=0.5)
        assert w.grad.item() == 1


def test_parameter_without_gradient_is_skipped() -> None:
    w, frozen = parameter([[4.0]], [[1.0]]), nn.Parameter(torch.ones(2, 2))
    optimizer = LARS([w, frozen], lr=1.0)
    optimizer.step()
    assert torch.equal(frozen, torch.ones(2, 2)) and frozen not in optimizer.state
    assert w.item() != 4


def test_state_survives_a_file_bit_for_bit(tmp_path: Path) -> None:
    def network() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))

    def optimizer_of(module: nn.Module) -> LARS:
        groups = [{"params": module[0].parameters()}, {"params": module[1].parameters(), "lr": 1e-4, "adapt": False}]
        return LARS(groups, lr=0.1)

    def train(module: nn.Module, optimizer: LARS) -> None:
        for _ in range(3):
            optimizer.zero_grad()
            module(torch.ones(2, 3)).square().mean().backward()
            optimizer.step()

    straight = network()
    optimizer = optimizer_of(straight)
    train(straight, optimizer)
    torch.save({"model": straight.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "last.pt")
    train(straight, optimizer)

    saved = torch.load(tmp_path / "last.pt", weights_only=True)
    resumed = network()
    resumed.load_state_dict(saved["model"])
    optimizer = LARS([{"params": resumed[0].parameters()}, {"params": resumed[1].parameters()}], lr=9.0)
    optimizer.load_state_dict(saved["optimizer"])
    assert [(group["lr"], group["adapt"]) for group in optimizer.param_groups] == [(0.1, True), (1e-4, False)]
    train(resumed, optimizer)
    for after, expected in zip(resumed.parameters(), straight.parameters(), strict=True):
        assert torch.equal(after, expected)


def test_plateau_scheduler_scales_the_step_by_its_factor() -> None:
    w = parameter([[4.0]], [[1.0]])
    optimizer = LARS([w], lr=1.0, momentum=0.0, weight_decay=0.0, trust_coefficient=0.1)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=0)
    scheduler.step(1.0)
    scheduler.step(1.0)
    optimizer.step()
    assert_close(w.detach(), [[4 - 0.1 * 0.1 * 4]])


def test_cosine_scheduler_ends_at_zero() -> None:
    w = parameter([[4.0]], [[1.0]])
    optimizer = LARS([w], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=2)
    rates = []
    for _ in range(2):
        optimizer.step()
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.5, 0.0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_parameters_are_updated_by_float32_norms(dtype: torch.dtype) -> None:
    # ||d|| = 2 * 40960 is beyond float16, and ratio * d = 0.25 * ||w|| / 2 for each element.
    w = parameter([[256.0] * 2] * 2, [[40960.0] * 2] * 2, dtype)
    values = steps(w, 1, lr=1.0, weight_decay=0.0, trust_coefficient=0.25)[0]
    assert values.dtype == dtype
    assert_close(values, [[192.0] * 2] * 2)


@pytest.mark.parametrize(
    "setting",
    [
        {"lr": -0.1},
        {"lr": float("nan")},
        {"momentum": -0.1},
        {"momentum": 1.0},
        {"weight_decay": -1e-6},
        {"trust_coefficient": 0.0},
    ],
)
def test_settings_out_of_range_are_named(setting: dict[str, float]) -> None:
    (name,) = setting
    w = nn.Parameter(torch.ones(2, 2))
    with pytest.raises(ValueError, match=f"^{name} must be .*, got {setting[name]}"):
        LARS([w], **({"lr": 0.1} | setting))
    with pytest.raises(ValueError, match=f"^{name} must be"):
        LARS([{"params": [w], **setting}], lr=0.1)
