"""BRISQUE, one of the conventional methods of Table 3: 36 features made by hand, for `regressor` to learn from.

Mittal, Moorthy, Bovik, "No-Reference Image Quality Assessment in the Spatial Domain", IEEE Transactions on Image
Processing, 2012: the equations and Table I are that paper's. What it leaves open is as in its authors' MATLAB code:
gray levels are whole, C of Eq. 1 is 1, the window sees 0 beyond the border, neighbors go round it, half size is
imresize's, shapes are looked up. One thing is not: a gray level less than 1e-9 from its local mean counts as equal to
it, so that rounding in flat parts is of neither side (tests/external/test_brisque.py).
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_iqa.baselines import SMALLEST, usable

NEIGHBORS = ((0, 1), (1, 0), (1, 1), (-1, 1))  # H, V, D1, D2: how far down and to the right the image is shifted

# w of Eqs. 2 and 3 is the outer product of this and itself: K = L = 3 pixels are 3 standard deviations, the sum is 1.
WINDOW = torch.exp(-(torch.arange(-3.0, 4, dtype=torch.float64) ** 2) / (2 * (7 / 6) ** 2))
WINDOW /= WINDOW.sum()

# Keys' cubic (a = -1/2) at 7/4, 5/4, 3/4 and 1/4, halved: how far, in pixels of half size, the pixels to a side are.
CUBIC = torch.tensor((-0.0234375, -0.0703125, 0.2265625, 0.8671875), dtype=torch.float64) / 2
HALVING = torch.cat((CUBIC, CUBIC.flip(0)))


def rho(shape: Tensor) -> Tensor:
    """(E|x|)^2 / E x^2 of a generalized Gaussian, which rises with its shape."""
    return torch.exp(2 * torch.lgamma(2 / shape) - torch.lgamma(1 / shape) - torch.lgamma(3 / shape))


SHAPES = torch.arange(200, 10_001, dtype=torch.float64) / 1000
RHOS = rho(SHAPES)


def brisque_features(image: Tensor) -> Tensor:
    """Table I, on the CPU: of an image, RGB [3, H, W] in [0, 1], float64 [36]; of several, [B, 3, H, W], [B, 36].

    f1 to f18 are of the image, f19 to f36 of the image at half size: shape and variance (alpha, sigma^2) of the
    MSCN coefficients, then for each of four neighbors (H, V, D1, D2) shape, mean, left and right variance (nu, eta,
    sigma_l^2, sigma_r^2) of the products of a coefficient and its neighbor's. All are finite.

    Raises ValueError for tensors of another shape and for images of fewer than 16 pixels a side.
    """
    if image.ndim not in (3, 4) or image.shape[-3] != 3 or min(image.shape[-2:]) < SMALLEST:
        shapes = f"[3, H, W] or [B, 3, H, W] with at least {SMALLEST} pixels a side"
        raise ValueError(f"image must be {shapes}, got {list(image.shape)}")
    gray = to_gray(image.reshape(-1, *image.shape[-3:]))  # [B, H, W]
    return torch.cat((scene_statistics(gray), scene_statistics(half_size(gray))), dim=1).view(*image.shape[:-3], 36)


usable_features = partial(usable, brisque_features, 36)


def to_gray(image: Tensor) -> Tensor:
    """RGB in [0, 1] as whole gray levels, 0 to 255: [B, 3, H, W] -> float64 [B, H, W]."""
    r, g, b = (image.double() * 255).round().unbind(1)  # whole levels: every machine rounds their exact sum alike
    return ((299 * r + 587 * g + 114 * b) / 1000 + 0.5).floor()


def half_size(gray: Tensor) -> Tensor:
    """MATLAB's imresize(gray, 0.5), bicubic: [B, H, W] -> [B, ceil(H / 2), ceil(W / 2)]."""
    for _ in range(2):  # columns, then rows
        gray = torch.cat((gray[..., :3].flip(2), gray, gray[..., -4:].flip(2)), dim=2)
        gray = (gray.unfold(2, 8, 2) @ HALVING).transpose(1, 2)
    return gray


def scene_statistics(gray: Tensor) -> Tensor:
    """A scale's half of Table I: gray levels [B, H, W] -> [B, 18]."""
    coefficients = mscn(gray)
    features = fit_gaussian(coefficients)
    for neighbor in NEIGHBORS:
        features += fit_asymmetric_gaussian(coefficients * coefficients.roll(neighbor, dims=(1, 2)))
    return torch.stack(features, dim=1)


def mscn(gray: Tensor) -> Tensor:
    """Eq. 1, mean subtracted contrast normalized coefficients: gray levels [B, H, W] -> [B, H, W]."""
    mu = local_mean(gray)
    sigma = (local_mean(gray**2) - mu**2).clamp_min(0).sqrt()  # Eq. 3
    return F.hardshrink(gray - mu, 1e-9) / (sigma + 1)


def local_mean(gray: Tensor) -> Tensor:
    """Eq. 2: [B, H, W] -> [B, H, W]."""
    down = F.conv2d(gray[:, None], WINDOW.view(1, 1, 7, 1), padding=(3, 0))
    return F.conv2d(down, WINDOW.view(1, 1, 1, 7), padding=(0, 3))[:, 0]


def fit_gaussian(x: Tensor) -> list[Tensor]:
    """The generalized Gaussian with E|x| and E x^2 of samples [B, H, W]: its alpha and sigma^2, [B] each."""
    variance = (x**2).mean((1, 2))
    return [nearest_shape(x.abs().mean((1, 2)) ** 2, variance), variance]


def fit_asymmetric_gaussian(x: Tensor) -> list[Tensor]:
    """The asymmetric generalized Gaussian of samples [B, H, W]: its nu, eta, sigma_l^2 and sigma_r^2, [B] each.

    sigma_l^2 and sigma_r^2 are E x^2 of the samples below and above 0. With g = sigma_l / sigma_r the distribution has
    (E|x|)^2 / E x^2 = rho(nu) (g^2 + 1)^2 / ((g^3 + 1) (g + 1)) (Lasmar, Stitou, Berthoumieu, ICIP 2009).
    """
    squares = x**2
    left, right = ((squares * side).sum((1, 2)) / side.sum((1, 2)).clamp_min(1) for side in (x < 0, x > 0))
    sigma_l, sigma_r = left.sqrt(), right.sqrt()
    numerator = x.abs().mean((1, 2)) ** 2 * (sigma_l**3 + sigma_r**3) * (sigma_l + sigma_r)
    nu = nearest_shape(numerator, squares.mean((1, 2)) * (left + right) ** 2)
    # (beta_r - beta_l) Gamma(2 / nu) / Gamma(1 / nu) with beta = sigma (Gamma(1 / nu) / Gamma(3 / nu))^(1/2)
    eta = (sigma_r - sigma_l) * rho(nu).sqrt()
    return [nu, eta, left, right]


def nearest_shape(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The one of SHAPES with rho nearest to a quotient; 0 / 0 counts as 0. [B] -> [B]."""
    quotient = numerator / denominator.clamp_min(torch.finfo(torch.float64).tiny)
    return SHAPES[(RHOS - quotient[:, None]).abs().argmin(dim=1)]
