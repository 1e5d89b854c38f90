"""Section 3.1's distortion module T: one class for a picture or a batch, or a class for each picture of a batch."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from . import imgaug_types
from .filters import Draws
from .filters import stretch as stretch_to_full_range
from .table import KADIS, TYPES, DistortionClass, distortion_class

FLAT = 0.5 / 255  # half a step of 8 bits: to stretch a picture with less range would only show rounding errors
Pictures = TypeVar("Pictures", Tensor, list[Tensor])

# glibc hands pages back to the system as soon as a picture is freed, and to get them again costs more than most types
# do. It stops once it has seen a block of about its largest threshold, 32 MiB, freed: this one, never written to.
torch.empty(31 << 20, dtype=torch.uint8)


def distort(image: Tensor, name: str, level: int, generator: Draws = None, stretch: bool = True) -> Tensor:
    """One distortion of Section 3.1's module T: x^d from x^u.

    Args:
        image: float32 or float64 [3, H, W] or [B, 3, H, W], RGB in [0, 1], at least 16 pixels a side, on any device.
            It is not changed. Each picture of a batch is distorted on its own, with its own random draws.
        name: one of `DISTORTIONS`.
        level: 1 .. 5.
        generator: source of all random draws, or one for each picture of a batch; torch's default one if None. The
            same state gives the same picture.
        stretch: stretch each picture to its full range before and after, as the KADIS generator does; a picture whose
            range is under half a step of 8 bits stays as it is.

    Returns:
        A new tensor of the same shape, dtype and device, in [0, 1].

    Raises:
        ValueError: unknown name, level, shape, dtype or range; says what came and what is wanted.
    """
    return distort_as(image, KADIS[distortion_class(name, level)], generator, stretch)


def distort_as(image: Tensor, distortion: DistortionClass, generator: Draws = None, stretch: bool = True) -> Tensor:
    """`distort` by a class of any set, such as one of `load_distortions`."""
    check_image(image)
    batch = image if image.dim() == 4 else image[None]
    generators = generator if isinstance(generator, Sequence) else [generator] * len(batch)
    if len(generators) != len(batch):
        raise ValueError(f"generator: one, or one for each of {len(batch)} pictures, is wanted; {len(generators)} came")
    if image.device.type == "cpu":  # there one by one is no slower, and a picture comes out alike in any company
        parts = zip(batch, generators, strict=True)
        alone = [_distort_group(one[None], distortion, draws, stretch) for one, draws in parts]
        batch = torch.cat(alone) if len(alone) > 1 else alone[0]
    else:
        batch = _distort_group(batch, distortion, generator, stretch)
    return batch if image.dim() == 4 else batch[0]


def distort_batch(
    images: Pictures,
    classes: Sequence[int] | Tensor,
    generators: Sequence[torch.Generator] | int,
    distortions: Sequence[DistortionClass] = KADIS,
    stretch: bool = True,
) -> Pictures:
    """Each picture by its own class, those of one class and size at once: what a step of Section 4.2 distorts.

    Args:
        images: [B, 3, H, W], or a list of [3, H, W] whose sizes may differ; otherwise as `distort` takes them.
        classes: B places in `distortions`.
        generators: one for each picture, or a seed, from which one for each is made on the pictures' device. With the
            same generator, a picture is the same here as from `distort_as`: on the CPU bit for bit, elsewhere but for
            rounding.
        distortions: the set of classes.
        stretch: as in `distort`.

    Returns:
        New pictures in the order of `images`, a tensor or a list as these are.

    Raises:
        ValueError: as `distort`; for lengths that differ, and for a class that is not in the set.
    """
    classes = [int(one) for one in classes]
    if not len(images) or not all(isinstance(image, Tensor) for image in images):
        raise ValueError("images: a tensor [B, 3, H, W], or a list of tensors [3, H, W], one or more, is wanted")
    device = images[0].device
    if isinstance(generators, int):
        seeds = torch.randint(2**62, (len(images),), generator=torch.Generator().manual_seed(generators)).tolist()
        generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
    if not len(images) == len(classes) == len(generators):
        raise ValueError(
            f"images, classes and generators: equally many are wanted, {len(images)}, {len(classes)} and"
            f" {len(generators)} came"
        )
    for one in classes:
        if one not in range(len(distortions)):
            raise ValueError(f"classes: numbers 0 .. {len(distortions) - 1} are wanted, {one} came")
    if device.type == "cpu":  # there a group would only cost copies, see distort_as
        each = zip(images, classes, generators, strict=True)
        out = [distort_as(image, distortions[one], generator, stretch) for image, one, generator in each]
    else:
        out = _distort_groups(images, classes, generators, distortions, stretch)
    return torch.stack(out) if isinstance(images, Tensor) else out


def _distort_groups(
    images: Tensor | list[Tensor],
    classes: Sequence[int],
    generators: Sequence[torch.Generator],
    distortions: Sequence[DistortionClass],
    stretch: bool,
) -> list[Tensor]:
    """`distort_batch` off the CPU: pictures of one class and size at once."""
    groups: dict[tuple[int, torch.Size], list[int]] = defaultdict(list)
    for i, (image, one) in enumerate(zip(images, classes, strict=True)):
        groups[one, image.shape].append(i)
    out = list(images)
    for (one, _), members in groups.items():
        group = torch.stack([images[i] for i in members])
        check_image(group)
        distorted = _distort_group(group, distortions[one], [generators[i] for i in members], stretch)
        for i, image in zip(members, distorted, strict=True):
            out[i] = image
    return out


def _distort_group(x: Tensor, distortion: DistortionClass, draws: Draws, stretch: bool) -> Tensor:
    """Pictures [B, 3, H, W] of one class, all at once."""
    name, _, value, _, library = distortion
    x = x.contiguous()  # pictures that came as [H, W, 3] would be many times slower
    x = stretch_to_full_range(x, FLAT) if stretch else x
    x = imgaug_types.augment(x, name, value, draws) if library == "imgaug" else TYPES[name].function(x, value, draws)
    return (stretch_to_full_range(x, FLAT) if stretch else x).clamp_(0, 1)


def on_cpu_only(distortion: DistortionClass) -> bool:
    """Whether a class has no form for other devices, so that its pictures go to the CPU and back.

    OpenJPEG's codec, dithering pixel after pixel, and imgaug.
    """
    return distortion.library == "imgaug" or distortion.name in ("jpeg2000", "color_quantization")


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
