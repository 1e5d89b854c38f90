"""Types 16 to 18, 24 and 25: brightness, sharpness, contrast. Each takes images [B, 3, H, W], RGB in [0, 1], the
level's value and a generator, which none of them uses."""

from functools import lru_cache
from math import factorial

from scipy.interpolate import CubicSpline
from torch import Tensor

from .colorspace import lab_to_rgb, rgb_to_lab
from .filters import Draws, gaussian


def brighten(image: Tensor, level: float, generator: Draws) -> Tensor:
    """16, overexposed: a curve that lifts the middle, on RGB and on Lab's L; (2*RGB + Lab) / 3.

    The curve goes through (0, 0), (.5, .5 + level/2), (1, 1); `level` is twice the middle's rise, intensity.
    Source: KADIS-700k; the curve as MATLAB's spline.
    """
    knots = (0.0, 0.5, 1.0), (0.0, 0.5 + level / 2, 1.0)
    lab = rgb_to_lab(image)
    lab[:, 0] = curve(lab[:, 0] / 100, *knots).mul_(100)
    return curve(image, *knots).mul_(2).add_(lab_to_rgb(lab).clamp_(0, 1)).div_(3)


def darken(image: Tensor, level: float, generator: Draws) -> Tensor:
    """17, underexposed: the curve through (0, 0), (.5, .5 - level/2), (1, 1) on RGB.

    `level` is twice the middle's fall, intensity. Source: as `brighten`.
    """
    return curve(image, (0.0, 0.5, 1.0), (0.0, 0.5 - level / 2, 1.0))


def mean_shift(image: Tensor, level: float, generator: Draws) -> Tensor:
    """18, a wrong black point: I + level, truncated. `level` is an intensity.

    Levels run from bright to dark, and level 3 (0) leaves the image as it is. Source: KADIS-700k.
    """
    return (image + level).clamp_(0, 1)


def high_sharpen(image: Tensor, level: float, generator: Draws) -> Tensor:
    """24, oversharpened: unsharp mask on Lab's L, L + level * (L - Gaussian of L), sigma 3, kernel 13; truncated.

    `level` is the mask's amount, a factor. Nothing is drawn. Source: KADIS-700k; as MATLAB's imsharpen with radius 3.
    """
    lab = rgb_to_lab(image)
    lightness = lab[:, :1]
    lightness += (lightness - gaussian(lightness, 3.0)).mul_(level)  # within lab
    return lab_to_rgb(lab).clamp_(0, 1)


def contrast_change(image: Tensor, level: float, generator: Draws) -> Tensor:
    """25, contrast: the curve through (0, 0), (.3, .25 - level/4), (.5, .5), (.7, .75 + level/4), (1, 1) on RGB.

    `level` is four times what the shoulders move, intensity. Levels run from more contrast to less; the third (0) still
    has a little more than the image itself. Source: as `brighten`.
    """
    return curve(image, (0.0, 0.3, 0.5, 0.7, 1.0), (0.0, 0.25 - level / 4, 0.5, 0.75 + level / 4, 1.0))


def curve(image: Tensor, x: tuple[float, ...], y: tuple[float, ...]) -> Tensor:
    """The not-a-knot cubic spline through the points (x, y), clipped to [0, 1].

    Three points give the parabola. Five give two cubics that meet at the middle point; ours lie symmetric about that
    point, which makes them one and the same.
    """
    c3, c2, c1, c0 = spline_coefficients(x, y)
    t = image - x[len(x) // 2]
    return (t * c3).add_(c2).mul_(t).add_(c1).mul_(t).add_(c0).clamp_(0, 1)


@lru_cache(maxsize=32)
def spline_coefficients(x: tuple[float, ...], y: tuple[float, ...]) -> tuple[float, ...]:
    """The spline as a cubic in powers of (value - middle point), highest first."""
    spline, middle = CubicSpline(x, y), x[len(x) // 2]
    return tuple(float(spline(middle, order)) / factorial(order) for order in (3, 2, 1, 0))
