"""The 25 types of Appendix A: the function, five published levels and the range of levels of each; the 125 classes."""

from collections.abc import Callable
from numbers import Integral
from typing import NamedTuple

from torch import Tensor

from . import blur, brightness, color, compression, noise, spatial
from .filters import Draws


class DistortionType(NamedTuple):
    function: Callable[[Tensor, float, Draws], Tensor]  # of the type's name, see any of them
    levels: tuple[float, ...]  # KADIS-700k's and KADID-10k's
    low: float  # the least and the largest value that makes sense as a level
    high: float
    caption: str  # a level's value in words
    whole: bool = False  # whether a level must be a whole number


TYPES: dict[str, DistortionType] = {
    kind.function.__name__: kind
    for kind in (
        DistortionType(blur.gaussian_blur, (0.1, 0.5, 1, 2, 5), 0.01, 100, "sigma {:g} px"),
        DistortionType(blur.lens_blur, (1, 2, 4, 6, 8), 0.5, 32, "radius {:g} px"),
        DistortionType(blur.motion_blur, (1, 2, 4, 6, 10), 1, 200, "length {:g} px"),
        DistortionType(color.color_diffusion, (1, 3, 6, 8, 12), 0, 50, "a and b x {:g}"),
        DistortionType(color.color_shift, (1, 3, 6, 8, 12), 0, 1000, "by {:g} px"),
        DistortionType(color.color_quantization, (64, 48, 32, 16, 8), 1, 256, "{:g} colors", whole=True),
        DistortionType(color.color_saturation_1, (0.4, 0.2, 0.1, 0, -0.4), -10, 10, "S x {:g}"),
        DistortionType(color.color_saturation_2, (1, 2, 3, 6, 9), 0, 100, "a and b x {:g}"),
        DistortionType(compression.jpeg2000, (16, 32, 45, 120, 400), 1, 10000, "ratio {:g}"),
        DistortionType(compression.jpeg, (43, 36, 24, 7, 4), 1, 100, "quality {:g}", whole=True),
        DistortionType(noise.white_noise, (0.001, 0.002, 0.003, 0.005, 0.01), 0, 1, "variance {:g}"),
        DistortionType(noise.white_noise_color_component, (1e-4, 5e-4, 0.001, 0.002, 0.003), 0, 1, "variance {:g}"),
        DistortionType(noise.impulse_noise, (0.001, 0.005, 0.01, 0.02, 0.03), 0, 1, "density {:g}"),
        DistortionType(noise.multiplicative_noise, (0.001, 0.005, 0.01, 0.02, 0.05), 0, 1, "variance {:g}"),
        DistortionType(noise.denoise, (0.01, 0.03, 0.05, 0.1, 0.15), 0, 1, "variance {:g}"),
        DistortionType(brightness.brighten, (0.1, 0.2, 0.4, 0.7, 1.1), 0, 2, "amount {:g}"),
        DistortionType(brightness.darken, (0.05, 0.1, 0.2, 0.4, 0.8), 0, 2, "amount {:g}"),
        DistortionType(brightness.mean_shift, (0.15, 0.08, 0, -0.08, -0.15), -1, 1, "by {:g}"),
        DistortionType(spatial.jitter, (0.05, 0.1, 0.2, 0.5, 1), 0, 50, "sigma {:g} px"),
        DistortionType(spatial.non_eccentricity_patch, (20, 40, 60, 80, 100), 0, 10000, "{:g} patches", whole=True),
        DistortionType(spatial.pixelate, (0.01, 0.05, 0.1, 0.2, 0.5), 0, 0.9, "amount {:g}"),
        DistortionType(spatial.quantization, (20, 16, 13, 10, 7), 1, 254, "{:g} thresholds", whole=True),
        DistortionType(spatial.color_block, (2, 4, 6, 8, 10), 0, 1000, "{:g} blocks", whole=True),
        DistortionType(brightness.high_sharpen, (1, 2, 3, 6, 12), 0, 100, "amount {:g}"),
        DistortionType(brightness.contrast_change, (0.3, 0.15, 0, -0.4, -0.6), -2, 1, "amount {:g}"),
    )
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
        raise ValueError(f"name must be one of {', '.join(NAMES)}, got {name!r}")
    if not isinstance(level, Integral) or isinstance(level, bool) or level not in range(1, NUM_LEVELS + 1):
        raise ValueError(f"level must be a whole number 1 .. {NUM_LEVELS}, got {level!r}")
    return NUM_LEVELS * NAMES.index(name) + level - 1


KADIS: tuple[DistortionClass, ...] = tuple(
    DistortionClass(name, level, value)
    for name, levels in DISTORTIONS.items()
    for level, value in enumerate(levels, start=1)
)
"""The 125 classes of KADIS-700k and KADID-10k, in the order of `distortion_class`."""
