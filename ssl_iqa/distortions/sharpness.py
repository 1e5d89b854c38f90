"""Type 24: sharpness."""

import torch
from torch import Tensor

from .colorspace import lab_to_rgb, rgb_to_lab
from .filters import gaussian


def high_sharpen(image: Tensor, level: float, generator: torch.Generator | None) -> Tensor:
    """24, oversharpened: unsharp mask on Lab's L: L + level * (L - Gaussian of L), sigma 3, kernel 13; truncated."""
    lab = rgb_to_lab(image)
    lightness = lab[:, :1]
    lab[:, :1] = lightness + level * (lightness - gaussian(lightness, 3.0))
    return lab_to_rgb(lab).clamp(0, 1)
