"""Type 24: sharpness."""

from torch import Tensor

from .colorspace import lab_to_rgb, rgb_to_lab
from .filters import Draws, gaussian


def high_sharpen(image: Tensor, level: float, generator: Draws) -> Tensor:
    """24, oversharpened: unsharp mask on Lab's L, L + level * (L - Gaussian of L), sigma 3, kernel 13; truncated.

    `level` is the mask's amount, a factor. Nothing is drawn. Source: KADIS-700k; as MATLAB's imsharpen with radius 3.
    """
    lab = rgb_to_lab(image)
    lightness = lab[:, :1]
    lightness += (lightness - gaussian(lightness, 3.0)).mul_(level)  # within lab
    return lab_to_rgb(lab).clamp_(0, 1)
