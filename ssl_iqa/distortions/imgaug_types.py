"""Types by imgaug, the paper's own library, where it has them: the extra `[imgaug]`, `--distortions imgaug`.

Levels keep their unit, so that they can be compared with ours; docs/distortions.md says how far each is the same. All
work on the 8-bit image, on the CPU.
"""

from collections.abc import Callable
from importlib import import_module
from math import sqrt
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .compression import from_bytes, to_bytes
from .filters import Draws, randint


def augmenters() -> ModuleType:
    """imgaug's module of augmenters. ImportError where the extra is not installed."""
    return import_module("imgaug.augmenters")


def _gaussian_noise(iaa: Any, variance: float) -> Any:
    return iaa.AdditiveGaussianNoise(scale=255 * sqrt(variance), per_channel=True)


AUGMENTERS: dict[str, Callable[[Any, Any], Any]] = {
    "gaussian_blur": lambda iaa, sigma: iaa.GaussianBlur(sigma),
    "motion_blur": lambda iaa, length: iaa.MotionBlur(k=3 + 2 * int(length / 2), angle=(0, 180), direction=0),
    "color_quantization": lambda iaa, colors: iaa.KMeansColorQuantization(
        int(colors), to_colorspace="RGB", max_size=None
    ),
    "color_saturation_2": lambda iaa, factor: iaa.MultiplySaturation(factor),
    "jpeg": lambda iaa, quality: iaa.JpegCompression(min(100, round(101 * (100 - quality) / 99))),
    "white_noise": _gaussian_noise,
    "white_noise_color_component": lambda iaa, variance: iaa.WithColorspace(
        "YCrCb", from_colorspace="RGB", children=_gaussian_noise(iaa, variance)
    ),
    "impulse_noise": lambda iaa, density: iaa.ImpulseNoise(density),
    "multiplicative_noise": lambda iaa, variance: iaa.MultiplyElementwise(
        (1 - sqrt(3 * variance), 1 + sqrt(3 * variance)), per_channel=True
    ),
    "brighten": lambda iaa, level: iaa.MultiplyBrightness(1 + level),
    "darken": lambda iaa, level: iaa.MultiplyBrightness(1 - level),
    "mean_shift": lambda iaa, level: iaa.Add(round(255 * level)),
    "pixelate": lambda iaa, level: iaa.KeepSizeByResize(
        iaa.Resize(0.95 - level**0.6, interpolation="nearest"), interpolation="nearest"
    ),
    "quantization": lambda iaa, thresholds: iaa.UniformColorQuantization(int(thresholds) + 1),
    "contrast_change": lambda iaa, level: iaa.LinearContrast(1.25 * (1 + level)),
}
"""The types that imgaug has: (its module, the level's value) -> the augmenter."""


def augment(image: Tensor, name: str, value: float, generator: Draws) -> Tensor:
    """A type of `AUGMENTERS` on images [B, 3, H, W], RGB in [0, 1]; imgaug's draws are seeded by one of ours."""
    seeds = randint(2**31 - 1, (len(image), 1), generator)
    augmenter = AUGMENTERS[name](augmenters(), value)
    out = []
    for pixels, (seed,) in zip(to_bytes(image), seeds, strict=True):
        augmenter.seed_(seed)
        augmented = augmenter.augment_image(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()))
        out.append(torch.from_numpy(augmented.copy()).permute(2, 0, 1))
    return from_bytes(torch.stack(out), image)
