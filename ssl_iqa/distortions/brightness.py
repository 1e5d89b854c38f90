"""Types 16 to 18 and 25: brightness and contrast. Each takes pictures [B, 3, H, W], RGB in [0, 1], the level's value
and a generator."""

from functools import lru_cache
from math import factorial

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
    """The not-a-knot cubic spline through the points (x, y), clipped to [0, 1].

    Three points give the parabola. Five give two cubics that meet at the middle point; ours lie symmetric about that
    point, which makes them one and the same.
    """
    c3, c2, c1, c0 = spline_coefficients(x, y)
    t = image - x[len(x) // 2]
    return (((c3 * t + c2) * t + c1) * t + c0).clamp(0, 1)


@lru_cache(maxsize=32)
def spline_coefficients(x: tuple[float, ...], y: tuple[float, ...]) -> tuple[float, ...]:
    """The spline as a cubic in powers of (value - middle point), highest first."""
    spline, middle = CubicSpline(x, y), x[len(x) // 2]
    return tuple(float(spline(middle, order)) / factorial(order) for order in (3, 2, 1, 0))
