"""Types 16 to 18 and 25: brightness and contrast. Each takes pictures [B, 3, H, W], RGB in [0, 1], the level's value
and a generator."""

from functools import lru_cache

import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from .colorspace import lab_to_rgb, rgb_to_lab


def brighten(image: Tensor, level: float, generator: torch.Generator | None) -> Tensor:
    """16, overexposed: the curve through (0, 0), (.5, .5 + level/2), (1, 1) on RGB and on Lab's L; (2*RGB + Lab)/3."""
    knots = (0.0, 0.5, 1.0), (0.0, 0.5 + level / 2, 1.0)
    lab = rgb_to_lab(image)
    lab[:, 0] = 100 * curve(lab[:, 0] / 100, *knots)
    return (2 * curve(image, *knots) + lab_to_rgb(lab).clamp(0, 1)) / 3


def darken(image: Tensor, level: float, generator: torch.Generator | None) -> Tensor:
    """17, underexposed: the curve through (0, 0), (.5, .5 - level/2), (1, 1) on RGB."""
    return curve(image, (0.0, 0.5, 1.0), (0.0, 0.5 - level / 2, 1.0))


def mean_shift(image: Tensor, level: float, generator: torch.Generator | None) -> Tensor:
    """18, I + level, truncated. Levels run from bright to dark, and level 3 (0) leaves the picture as it is."""
    return (image + level).clamp(0, 1)


def contrast_change(image: Tensor, level: float, generator: torch.Generator | None) -> Tensor:
    """25, the curve through (0, 0), (.3, .25 - level/4), (.5, .5), (.7, .75 + level/4), (1, 1) on RGB.

    Levels run from more contrast to less; the third (0) is nearly the picture itself.
    """
    return curve(image, (0.0, 0.3, 0.5, 0.7, 1.0), (0.0, 0.25 - level / 4, 0.5, 0.75 + level / 4, 1.0))


def curve(image: Tensor, x: tuple[float, ...], y: tuple[float, ...]) -> Tensor:
    """The not-a-knot cubic spline through the points (x, y) (three points: the parabola), clipped to [0, 1].

    The first and last inner points are no knots: up to five points there are two pieces, one on each side of the
    middle point, each a cubic about it.
    """
    left, right = spline_pieces(x, y)
    t = image - x[len(x) // 2]
    return torch.where(t < 0, horner(left, t), horner(right, t)).clamp(0, 1)


def horner(coefficients: tuple[float, ...], t: Tensor) -> Tensor:
    """((c0*t + c1)*t + c2)*t + c3."""
    c0, c1, c2, c3 = coefficients
    return ((c0 * t + c1) * t + c2) * t + c3


@lru_cache(maxsize=32)
def spline_pieces(x: tuple[float, ...], y: tuple[float, ...]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The spline's two cubics as coefficients in powers of (value - middle point), highest first."""
    spline, middle = CubicSpline(x, y), x[len(x) // 2]
    constant, slope, half_second = float(spline(middle)), float(spline(middle, 1)), float(spline(middle, 2)) / 2
    thirds = [float(spline(side, 3)) / 6 for side in (x[0], x[-1])]  # the only one that jumps at the middle
    return tuple((third, half_second, slope, constant) for third in thirds)
