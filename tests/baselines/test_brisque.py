"""BRISQUE's parts against loops over the formulas, and its fits against distributions whose parameters are known."""

import math

import numpy as np
import pytest
import torch
from scipy.special import gamma, gammaincinv
from torch import Tensor

from ssl_iqa.baselines.brisque import (
    SMALLEST,
    brisque_features,
    fit_asymmetric_gaussian,
    fit_gaussian,
    half_size,
    mscn,
    to_gray,
)

RNG = np.random.default_rng(0)


def levels(*shape: int) -> Tensor:
    """Random gray levels."""
    return torch.from_numpy(RNG.integers(0, 256, shape)).double()


def test_coefficients_are_those_of_a_loop_over_the_formulas() -> None:
    """Eqs. 1 to 3 as they stand: a window around each pixel, the image 0 outside."""
    w = np.array([[math.exp(-(k * k + m * m) / (2 * (7 / 6) ** 2)) for m in range(-3, 4)] for k in range(-3, 4)])
    w /= w.sum()
    images = levels(2, 9, 8)
    for image, found in zip(images, mscn(images), strict=True):
        outside = np.pad(image.numpy(), 3)
        for i in range(9):
            for j in range(8):
                window = outside[i : i + 7, j : j + 7]
                mu = (w * window).sum()
                sigma = math.sqrt((w * (window - mu) ** 2).sum())
                assert found[i, j].item() == pytest.approx((image[i, j].item() - mu) / (sigma + 1), abs=1e-11)


@pytest.mark.parametrize("size", [(16, 16), (17, 22), (19, 21)])
def test_half_size_is_bicubic_with_a_widened_kernel_and_a_mirrored_border(size: tuple[int, int]) -> None:
    def cubic(x: float) -> float:  # R. Keys, 1981, a = -1/2
        x = abs(x)
        if x >= 2:
            return 0.0
        return 1.5 * x**3 - 2.5 * x**2 + 1 if x <= 1 else -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2

    def weights(side: int) -> np.ndarray:
        matrix = np.zeros((math.ceil(side / 2), side))
        for o in range(len(matrix)):
            center = 2 * o + 0.5  # where the middle of pixel o lies in the larger image
            for place in range(-8, side + 8):
                mirrored = -1 - place if place < 0 else min(place, 2 * side - 1 - place)
                matrix[o, mirrored] += cubic((place - center) / 2) / 2
        return matrix

    gray = levels(2, *size)
    expected = weights(size[0]) @ gray.numpy() @ weights(size[1]).T
    np.testing.assert_allclose(half_size(gray), expected, atol=1e-11)


def test_gray_levels_are_whole_with_halves_rounded_up() -> None:
    rgb = RNG.integers(0, 256, (2, 3, 200, 100))
    rgb[0, :, 0, 0], rgb[0, :, 0, 1], rgb[0, :, 0, 2] = 255, (0, 0, 250), (120, 119, 112)
    r, g, b = rgb[:, 0], rgb[:, 1], rgb[:, 2]
    thousandths = 299 * r + 587 * g + 114 * b
    assert (thousandths % 1000 == 500).sum() > 5  # halves
    gray = to_gray(torch.from_numpy(rgb).to(torch.uint8) / 255)
    assert gray.dtype == torch.float64
    np.testing.assert_array_equal(gray, (thousandths + 500) // 1000)
    for nearly in (-1e-6, 1e-6):  # 0.0003 of a color's level off
        assert torch.equal(to_gray(torch.from_numpy(rgb) / 255 + nearly), gray)
    assert gray[0, 0, :3].tolist() == [255, 29, 119]  # 28.5 and 118.501


def half_gaussian(shape: float, count: int) -> np.ndarray:
    """Quantiles, at equal steps of probability, of |x| for a generalized Gaussian of scale 1: they stand for samples.

    |x|^shape has a Gamma distribution, of shape 1 / shape.
    """
    return gammaincinv(1 / shape, (np.arange(count) + 0.5) / count) ** (1 / shape)


@pytest.mark.parametrize("shape", [0.4, 0.8, 1.0, 2.0, 5.0])
def test_a_generalized_gaussian_gives_back_its_shape_and_variance(shape: float) -> None:
    x = half_gaussian(shape, 20_000)
    x[::2] *= -1
    variance = gamma(3 / shape) / gamma(1 / shape)
    alphas, variances = fit_gaussian(torch.from_numpy(np.stack([x, 3 * x])).view(2, 100, 200))
    assert alphas.tolist() == pytest.approx([shape] * 2, abs=0.011)
    assert variances.tolist() == pytest.approx([variance, 9 * variance], rel=0.02)


@pytest.mark.parametrize(("shape", "sigma_l", "sigma_r"), [(0.6, 0.3, 0.8), (1.0, 2.0, 1.0), (2.0, 0.5, 0.5)])
def test_an_asymmetric_gaussian_gives_back_its_parameters(shape: float, sigma_l: float, sigma_r: float) -> None:
    """Below 0 it is half a generalized Gaussian of scale beta_l, above of beta_r, in proportion to these."""
    beta_l, beta_r = (sigma * math.sqrt(gamma(1 / shape) / gamma(3 / shape)) for sigma in (sigma_l, sigma_r))
    count_l = round(20_000 * beta_l / (beta_l + beta_r))
    x = np.concatenate([-beta_l * half_gaussian(shape, count_l), beta_r * half_gaussian(shape, 20_000 - count_l)])
    nu, eta, left, right = fit_asymmetric_gaussian(torch.from_numpy(x).view(1, 100, 200))
    assert nu.item() == pytest.approx(shape, abs=0.006)
    assert left.item() == pytest.approx(sigma_l**2, rel=0.005) and right.item() == pytest.approx(sigma_r**2, rel=0.005)
    assert eta.item() == pytest.approx(x.mean(), abs=0.003)  # eta is the distribution's mean
    assert eta.item() == pytest.approx((beta_r - beta_l) * gamma(2 / shape) / gamma(1 / shape), abs=0.003)


def test_samples_of_zero_are_of_neither_side() -> None:
    x = torch.tensor([-2.0, 0, 0, 1, 3], dtype=torch.float64).view(1, 1, 5)
    _, _, left, right = fit_asymmetric_gaussian(x)
    assert (left.item(), right.item()) == (4, 5)


def test_features_are_in_the_order_of_table_i() -> None:
    image = torch.from_numpy(RNG.random((3, 20, 26)))
    image[:, 1:] += image[:, :-1].clone()  # neighbors below one another are alike, others are not
    image /= 2
    found = brisque_features(image)
    for scale, gray in enumerate((to_gray(image[None]), half_size(to_gray(image[None])))):
        s = mscn(gray)[0].numpy()
        height, width = s.shape
        expected = torch.cat(fit_gaussian(mscn(gray)))
        for down, right in ((0, 1), (1, 0), (1, 1), (-1, 1)):  # from a neighbor to the pixel, round the border
            products = [
                [s[i, j] * s[(i - down) % height, (j - right) % width] for j in range(width)] for i in range(height)
            ]
            expected = torch.cat([expected, *fit_asymmetric_gaussian(torch.tensor(np.array([products])))])
        torch.testing.assert_close(found[18 * scale : 18 * scale + 18], expected, rtol=1e-12, atol=1e-12)


def test_several_images_are_done_one_by_one() -> None:
    images = torch.rand(3, 3, 33, 18, generator=torch.Generator().manual_seed(0))
    together = brisque_features(images)
    assert together.shape == (3, 36) and together.dtype == torch.float64
    for image, features in zip(images, together, strict=True):
        torch.testing.assert_close(brisque_features(image), features, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(brisque_features(images.transpose(2, 3).contiguous().transpose(2, 3)), together)


def degenerate() -> dict[str, Tensor]:
    black = torch.zeros(3, 16, 16)
    stripes, dot, checkers, edge = (black.clone() for _ in range(4))
    stripes[:, :, ::2] = 1
    dot[:, 5, 5] = 1
    checkers[:, ::2, ::2] = checkers[:, 1::2, 1::2] = 1
    edge[:, :, 8:] = 1
    images = {"black": black, "gray": black + 0.5, "white": black + 1, "stripes": stripes, "dot": dot}
    return images | {"checkers": checkers, "edge": edge}


@pytest.mark.parametrize("name", degenerate())
def test_degenerate_images_have_finite_features(name: str) -> None:
    features = brisque_features(degenerate()[name]).view(2, 18)
    assert features.isfinite().all()
    shapes, variances = features[:, [0, 2, 6, 10, 14]], features[:, [1, 4, 5, 8, 9, 12, 13, 16, 17]]
    assert shapes.min() >= 0.2 and shapes.max() <= 10 and variances.min() >= 0
    if name == "black":
        assert (shapes == 0.2).all() and (variances == 0).all()


def test_flat_parts_have_coefficients_of_exactly_zero() -> None:
    """A rounding error there would be counted as a sample of one side or the other."""
    flat = torch.arange(256.0, dtype=torch.float64).view(256, 1, 1).expand(256, 9, 10)
    assert (mscn(flat)[:, 3:-3, 3:-3] == 0).all()
    faint = flat.clone()
    faint[:, 3, 3] += 1
    assert (mscn(faint)[:, :7, :7] != 0).all()  # one gray level in the window's corner


@pytest.mark.parametrize("shape", [(3, 15, 40), (3, 40, 15), (1, 40, 40), (40, 40), (1, 1, 3, 40, 40), (2, 4, 40, 40)])
def test_other_tensors_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\[3, H, W\] or \[B, 3, H, W\] with at least 16 pixels a side, got \["):
        brisque_features(torch.rand(shape))


def test_the_smallest_image_holds_a_window_at_half_size() -> None:
    assert half_size(levels(1, SMALLEST, SMALLEST)).shape == (1, 8, 8)
    assert brisque_features(torch.rand(3, SMALLEST, SMALLEST)).isfinite().all()
