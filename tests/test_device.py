"""What has a form of its own on an accelerator, there against the CPU: SSL_IQA_TEST_DEVICE=cuda runs them on a GPU."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import train_joint
from ssl_iqa.baselines.deepfl_iqa import full_reference
from ssl_iqa.data.datasets import UnlabeledViews, distorted_views
from ssl_iqa.data.samplers import Draw
from ssl_iqa.distortions import KADIS, distort_as, distort_batch
from ssl_iqa.engine.weights import load_encoder
from ssl_iqa.lars import LARS
from ssl_iqa.losses import supervised_nt_xent
from ssl_iqa.model import Networks

SETTINGS = replace(train_joint.PRESETS["paper"], arch="resnet18", alpha=0.7)
PLACED = ("non_eccentricity_patch", "color_block")  # how far they move an image depends on where they fall
RANDOM = (
    *("motion_blur", "color_shift", "white_noise", "white_noise_color_component", "impulse_noise"),
    *("multiplicative_noise", "denoise", "jitter"),
)


def smooth_images(count: int) -> Tensor:
    """[count, 3, 96, 128], smooth colors under a little noise."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 6, 8, generator=generator)
    x_u = nn.functional.interpolate(coarse, (96, 128), mode="bicubic").clamp(0, 1)
    return (x_u + 0.03 * torch.randn(x_u.shape, generator=generator)).clamp(0, 1)


def distance(a: Tensor, b: Tensor) -> float:
    """Root mean square."""
    return (a - b).square().mean().sqrt().item()


@pytest.mark.parametrize("name", sorted({one.name for one in KADIS}))
def test_a_group_of_images_is_distorted_as_on_the_cpu(name: str, device: torch.device) -> None:
    x_u = smooth_images(4)
    for k, distortion in enumerate(KADIS):
        if distortion.name != name:
            continue
        expected = torch.stack(
            [distort_as(image, distortion, torch.Generator().manual_seed(i)) for i, image in enumerate(x_u)]
        )
        draws = [torch.Generator(device).manual_seed(i) for i in range(4)]
        x_d = distort_batch(x_u.to(device), [k] * 4, draws).cpu()
        assert x_d.min() >= 0 and x_d.max() <= 1
        moved, off = distance(expected, x_u), distance(x_d, expected)
        if device.type == "cpu" or name not in (*RANDOM, *PLACED):
            assert off <= 2 / 255, (distortion, off)
        elif name in RANDOM:  # other random numbers, of the same distribution
            assert distance(x_d, x_u) == pytest.approx(moved, rel=0.5, abs=1 / 255), distortion


def test_views_are_the_cpus_crops(device: torch.device) -> None:
    x_u = (smooth_images(3) * 255).round().to(torch.uint8)
    blur = [k for k, one in enumerate(KADIS) if one.name == "gaussian_blur"]
    draws = [Draw(i, 10 + i, blur[i]) for i in range(3)]
    dataset = UnlabeledViews([], size=64)
    views = distorted_views(x_u.to(device), draws, dataset)
    assert views.device.type == device.type and views.shape == (2, 3, 3, 64, 64)
    expected = torch.stack([dataset.make(image, draw) for image, draw in zip(x_u, draws, strict=True)], dim=1)
    assert (views.cpu().int() - expected).abs().max() <= 1  # half a level may be rounded to either side
    assert distance(views[0].cpu() / 255, expected[1] / 255) > 0.05  # another crop


def test_full_reference_scores_are_the_cpus(device: torch.device) -> None:
    if device.type == "cpu":
        pytest.skip("the CPU's are compared with piq's in tests/baselines/test_deepfl_iqa.py")
    x = nn.functional.interpolate(smooth_images(2), (168, 168), mode="bilinear")
    x[1] = 0.5  # IW-SSIM takes the inverse of a matrix that is singular
    x_d = (x + 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    scores = full_reference(x_d.to(device), x.to(device)).cpu()
    torch.testing.assert_close(scores, full_reference(x_d, x), rtol=0, atol=1e-3, equal_nan=True)


@pytest.mark.parametrize("max_similarities", [2**24, 1000])
def test_eq_5_in_float32_is_near_the_cpus_in_float64(max_similarities: int, device: torch.device) -> None:
    p = torch.randn(200, 128, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    classes = torch.arange(200) % 25
    ours, exact = p.float().to(device).requires_grad_(), p.clone().requires_grad_()
    loss = supervised_nt_xent(ours, classes.to(device), max_similarities=max_similarities)
    expected = supervised_nt_xent(exact, classes)
    (gradient,), (exact_gradient,) = torch.autograd.grad(loss, ours), torch.autograd.grad(expected, exact)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert (gradient.cpu() - exact_gradient).norm() < 1e-4 * exact_gradient.norm()


def test_lars_takes_the_cpus_steps(device: torch.device) -> None:
    torch.manual_seed(0)
    exact = nn.Linear(50, 20).double()
    ours = copy.deepcopy(exact).float().to(device)
    before = copy.deepcopy(exact)
    optimizers = [LARS(module.parameters(), lr=2.0, trust_coefficient=0.1) for module in (exact, ours)]
    for _ in range(3):
        for w, w_exact in zip(ours.parameters(), exact.parameters(), strict=True):
            w_exact.grad = torch.randn_like(w_exact)
            w.grad = w_exact.grad.float().to(device)
        for optimizer in optimizers:
            optimizer.step()
    for w, w_exact, w_before in zip(*(net.parameters() for net in (ours, exact, before)), strict=True):
        torch.testing.assert_close(w.cpu().double(), w_exact, rtol=1e-5, atol=1e-5)
        assert (w_exact - w_before).norm() > 0.1


def test_a_joint_step_has_the_cpus_gradient(device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    x_d, x = (torch.rand(n, 3, 64, 64, generator=generator, dtype=torch.float64) for n in (24, 8))
    classes, y = torch.arange(12).remainder(5).repeat(2), torch.linspace(1, 10, 8, dtype=torch.float64)
    nets = Networks(load_encoder("random", SETTINGS.arch), 5.5).double()
    on_device = copy.deepcopy(nets).to(device, memory_format=torch.channels_last)
    expected = train_joint.joint_step(nets, (x_d, classes), (x, y), SETTINGS)
    moved = [tensor.to(device) for tensor in (x_d, classes, x, y)]
    losses = train_joint.joint_step(on_device, (moved[0], moved[1]), (moved[2], moved[3]), SETTINGS)
    assert losses == pytest.approx(expected, rel=1e-9)
    for w, w_expected in zip(on_device.parameters(), nets.parameters(), strict=True):
        torch.testing.assert_close(w.grad.cpu(), w_expected.grad, rtol=1e-7, atol=1e-9)
