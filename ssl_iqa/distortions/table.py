"""The 25 types of Appendix A: what makes each, its five published levels, what a level may be; the 125 classes."""

from collections.abc import Callable
from numbers import Integral
from typing import NamedTuple

from torch import Tensor

from . import blur, brightness, color, compression, noise, sharpness, spatial
from .filters import Draws

Distortion = Callable[[Tensor, float, Draws], Tensor]
"""Pictures [B, 3, H, W], RGB in [0, 1], a level's value and where draws come from -> the pictures distorted."""


class DistortionType(NamedTuple):
    function: Distortion
    levels: tuple[float, ...]  # KADIS-700k's and KADID-10k's
    low: float  # the least and the largest value that makes sense as a level
    high: float
    whole: bool = False  # whether a level must be a whole number


TYPES: dict[str, DistortionType] = {
    "gaussian_blur": DistortionType(blur.gaussian_blur, (0.1, 0.5, 1, 2, 5), 0.01, 100),  # sigma, pixels
    "lens_blur": DistortionType(blur.lens_blur, (1, 2, 4, 6, 8), 0.5, 32),  # radius, pixels
    "motion_blur": DistortionType(blur.motion_blur, (1, 2, 4, 6, 10), 1, 200),  # length, pixels
    "color_diffusion": DistortionType(color.color_diffusion, (1, 3, 6, 8, 12), 0, 50),  # factor on a and b
    "color_shift": DistortionType(color.color_shift, (1, 3, 6, 8, 12), 0, 1000),  # pixels
    "color_quantization": DistortionType(color.color_quantization, (64, 48, 32, 16, 8), 1, 256, True),  # colors
    "color_saturation_1": DistortionType(color.color_saturation_1, (0.4, 0.2, 0.1, 0, -0.4), -10, 10),  # factor on S
    "color_saturation_2": DistortionType(color.color_saturation_2, (1, 2, 3, 6, 9), 0, 100),  # factor on a and b
    "jpeg2000": DistortionType(compression.jpeg2000, (16, 32, 45, 120, 400), 1, 10000),  # compression ratio
    "jpeg": DistortionType(compression.jpeg, (43, 36, 24, 7, 4), 1, 100, True),  # libjpeg quality
    "white_noise": DistortionType(noise.white_noise, (0.001, 0.002, 0.003, 0.005, 0.01), 0, 1),  # variance
    "white_noise_color_component": DistortionType(
        noise.white_noise_color_component, (0.0001, 0.0005, 0.001, 0.002, 0.003), 0, 1
    ),  # variance
    "impulse_noise": DistortionType(noise.impulse_noise, (0.001, 0.005, 0.01, 0.02, 0.03), 0, 1),  # density
    "multiplicative_noise": DistortionType(
        noise.multiplicative_noise, (0.001, 0.005, 0.01, 0.02, 0.05), 0, 1
    ),  # variance
    "denoise": DistortionType(noise.denoise, (0.01, 0.03, 0.05, 0.1, 0.15), 0, 1),  # variance
    "brighten": DistortionType(brightness.brighten, (0.1, 0.2, 0.4, 0.7, 1.1), 0, 2),  # twice the middle's rise
    "darken": DistortionType(brightness.darken, (0.05, 0.1, 0.2, 0.4, 0.8), 0, 2),  # twice the middle's fall
    "mean_shift": DistortionType(brightness.mean_shift, (0.15, 0.08, 0, -0.08, -0.15), -1, 1),  # added intensity
    "jitter": DistortionType(spatial.jitter, (0.05, 0.1, 0.2, 0.5, 1), 0, 50),  # standard deviation, pixels
    "non_eccentricity_patch": DistortionType(
        spatial.non_eccentricity_patch, (20, 40, 60, 80, 100), 0, 10000, True
    ),  # patches
    "pixelate": DistortionType(spatial.pixelate, (0.01, 0.05, 0.1, 0.2, 0.5), 0, 0.9),  # z = 0.95 - level^0.6
    "quantization": DistortionType(spatial.quantization, (20, 16, 13, 10, 7), 1, 254, True),  # thresholds
    "color_block": DistortionType(spatial.color_block, (2, 4, 6, 8, 10), 0, 1000, True),  # blocks
    "high_sharpen": DistortionType(sharpness.high_sharpen, (1, 2, 3, 6, 12), 0, 100),  # amount
    "contrast_change": DistortionType(
        brightness.contrast_change, (0.3, 0.15, 0, -0.4, -0.6), -2, 1
    ),  # four times the shoulders' rise
}
DISTORTIONS: dict[str, tuple[float, ...]] = {name: kind.levels for name, kind in TYPES.items()}
"""The 25 types in the order of the paper's Appendix A, each with its five published levels."""
NAMES: tuple[str, ...] = tuple(TYPES)
NUM_LEVELS = 5
NUM_CLASSES = len(NAMES) * NUM_LEVELS  # 125


class DistortionClass(NamedTuple):
    """A type at a level, d_t and d_s of Section 3.1."""

    name: str
    level: int  # 1 .. 5, in a file's set up to the length of its list
    value: float  # of the level, in the type's own unit
    weight: float = 1.0  # how often it is drawn, against the others
    library: str = "ssl_iqa"  # or "imgaug"


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


KADIS: tuple[DistortionClass, ...] = tuple(
    DistortionClass(name, level, value)
    for name, levels in DISTORTIONS.items()
    for level, value in enumerate(levels, start=1)
)
"""The 125 classes of KADIS-700k and KADID-10k, in the order of `distortion_class`."""
