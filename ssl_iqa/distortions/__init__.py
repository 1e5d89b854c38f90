"""The synthetic image distortions of Section 3.1 and Appendix A: 25 types with 5 levels each, 125 classes.

Types, order and levels are those of KADIS-700k and KADID-10k (Lin, Hosu and Saupe, QoMEX 2019). Three classes leave
the picture as it was, but for the stretch: gaussian_blur at level 1, motion_blur at level 1 and mean_shift at level 3;
color_saturation_2 at level 1 does so too, but for rounding. The levels of mean_shift and contrast_change do not grow in
severity from 1 to 5.

    from ssl_iqa.distortions import distort
    worse = distort(image, "motion_blur", level=4)

Needs torch, numpy, scipy and Pillow, and nothing else of this package.
"""

from collections.abc import Callable
from numbers import Integral

import torch
from torch import Tensor

from . import blur, brightness, color, compression, noise, sharpness, spatial
from .filters import stretch as stretch_to_full_range

Distortion = Callable[[Tensor, float, torch.Generator | None], Tensor]

_TABLE: dict[str, tuple[Distortion, tuple[float, ...]]] = {
    "gaussian_blur": (blur.gaussian_blur, (0.1, 0.5, 1, 2, 5)),  # sigma, pixels
    "lens_blur": (blur.lens_blur, (1, 2, 4, 6, 8)),  # radius, pixels
    "motion_blur": (blur.motion_blur, (1, 2, 4, 6, 10)),  # length, pixels
    "color_diffusion": (color.color_diffusion, (1, 3, 6, 8, 12)),  # factor on a and b
    "color_shift": (color.color_shift, (1, 3, 6, 8, 12)),  # pixels
    "color_quantization": (color.color_quantization, (64, 48, 32, 16, 8)),  # colors
    "color_saturation_1": (color.color_saturation_1, (0.4, 0.2, 0.1, 0, -0.4)),  # factor on S
    "color_saturation_2": (color.color_saturation_2, (1, 2, 3, 6, 9)),  # factor on a and b
    "jpeg2000": (compression.jpeg2000, (16, 32, 45, 120, 400)),  # compression ratio
    "jpeg": (compression.jpeg, (43, 36, 24, 7, 4)),  # libjpeg quality
    "white_noise": (noise.white_noise, (0.001, 0.002, 0.003, 0.005, 0.01)),  # variance
    "white_noise_color_component": (noise.white_noise_color_component, (0.0001, 0.0005, 0.001, 0.002, 0.003)),
    "impulse_noise": (noise.impulse_noise, (0.001, 0.005, 0.01, 0.02, 0.03)),  # density
    "multiplicative_noise": (noise.multiplicative_noise, (0.001, 0.005, 0.01, 0.02, 0.05)),  # variance
    "denoise": (noise.denoise, (0.01, 0.03, 0.05, 0.1, 0.15)),  # variance
    "brighten": (brightness.brighten, (0.1, 0.2, 0.4, 0.7, 1.1)),  # twice the middle's rise
    "darken": (brightness.darken, (0.05, 0.1, 0.2, 0.4, 0.8)),  # twice the middle's fall
    "mean_shift": (brightness.mean_shift, (0.15, 0.08, 0, -0.08, -0.15)),  # added intensity
    "jitter": (spatial.jitter, (0.05, 0.1, 0.2, 0.5, 1)),  # standard deviation, pixels
    "non_eccentricity_patch": (spatial.non_eccentricity_patch, (20, 40, 60, 80, 100)),  # patches
    "pixelate": (spatial.pixelate, (0.01, 0.05, 0.1, 0.2, 0.5)),  # z = 0.95 - level^0.6
    "quantization": (spatial.quantization, (20, 16, 13, 10, 7)),  # thresholds
    "color_block": (spatial.color_block, (2, 4, 6, 8, 10)),  # blocks
    "high_sharpen": (sharpness.high_sharpen, (1, 2, 3, 6, 12)),  # amount
    "contrast_change": (brightness.contrast_change, (0.3, 0.15, 0, -0.4, -0.6)),  # four times the shoulders' rise
}
DISTORTIONS: dict[str, tuple[float, ...]] = {name: levels for name, (_, levels) in _TABLE.items()}
"""The 25 types in the order of the paper's Appendix A, each with its five published levels."""
NAMES: tuple[str, ...] = tuple(DISTORTIONS)
NUM_LEVELS = 5
NUM_CLASSES = len(DISTORTIONS) * NUM_LEVELS  # 125
_FLAT = 0.5 / 255  # half a step of 8 bits: to stretch a picture with less range would only show rounding errors


def distort(
    image: Tensor, name: str, level: int, generator: torch.Generator | None = None, stretch: bool = True
) -> Tensor:
    """One distortion of Section 3.1's module T: x^d from x^u.

    Args:
        image: float32 or float64 [3, H, W] or [B, 3, H, W], RGB in [0, 1], at least 16 pixels a side, on any device.
            It is not changed. Each picture of a batch is distorted on its own, with its own random draws.
        name: one of `DISTORTIONS`.
        level: 1 .. 5.
        generator: source of all random draws; torch's default one if None. The same state gives the same picture.
        stretch: stretch each picture to its full range before and after, as the KADIS generator does; a picture whose
            range is under half a step of 8 bits stays as it is.

    Returns:
        A new tensor of the same shape, dtype and device, in [0, 1].

    Raises:
        ValueError: unknown name, level, shape, dtype or range; says what came and what is wanted.
    """
    distortion_class(name, level)  # checks both
    check_image(image)
    function, levels = _TABLE[name]
    x = image if image.dim() == 4 else image[None]
    x = stretch_to_full_range(x, _FLAT) if stretch else x
    x = function(x, levels[level - 1], generator)
    x = (stretch_to_full_range(x, _FLAT) if stretch else x).clamp(0, 1)
    return x if image.dim() == 4 else x[0]


def check_image(image: Tensor) -> None:
    """Raise a ValueError unless `image` is what `distort` takes."""
    if not isinstance(image, Tensor) or image.dtype not in (torch.float32, torch.float64):
        came = image.dtype if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(f"image: a float32 or float64 tensor in [0, 1] is wanted, {came} came")
    if image.dim() not in (3, 4) or image.shape[-3] != 3 or min(image.shape[-2:]) < 16 or image.shape[0] == 0:
        came = list(image.shape)
        raise ValueError(f"image: shape [3, H, W] or [B, 3, H, W] with H and W >= 16 is wanted, {came} came")
    low, high = image.aminmax()
    if not (low >= 0 and high <= 1):  # written so that NaN fails too
        raise ValueError(f"image: values in [0, 1] are wanted, {low.item():.4g} .. {high.item():.4g} came")


def distortion_class(name: str, level: int) -> int:
    """The class of a type and a level, 5 * type + level - 1: 0 .. 124. ValueError if there is no such type or level."""
    if name not in NAMES:
        raise ValueError(f"name: one of {', '.join(NAMES)} is wanted, {name!r} came")
    if not isinstance(level, Integral) or isinstance(level, bool) or level not in range(1, NUM_LEVELS + 1):
        raise ValueError(f"level: a whole number 1 .. {NUM_LEVELS} is wanted, {level!r} came")
    return NUM_LEVELS * NAMES.index(name) + level - 1


def class_distortion(distortion_class: int) -> tuple[str, int]:
    """The inverse of `distortion_class`: 0 .. 124 -> (name, level). ValueError outside."""
    whole = isinstance(distortion_class, Integral) and not isinstance(distortion_class, bool)
    if not whole or distortion_class not in range(NUM_CLASSES):
        raise ValueError(
            f"distortion_class: a whole number 0 .. {NUM_CLASSES - 1} is wanted, {distortion_class!r} came"
        )
    return NAMES[distortion_class // NUM_LEVELS], distortion_class % NUM_LEVELS + 1
