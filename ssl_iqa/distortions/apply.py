"""Section 3.1's distortion module T: one class for an image or a batch, or a class for each image of a batch."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from . import imgaug_types
from .filters import Draws
from .filters import stretch as stretch_to_full_range
from .table import KADIS, TYPES, DistortionClass, distortion_class

FLAT = 0.5 / 255  # half a step of 8 bits: to stretch an image with less range would only show rounding errors
Images = TypeVar("Images", Tensor, list[Tensor])


def distort(image: Tensor, name: str, level: int, generator: Draws = None, stretch: bool = True) -> Tensor:
    """One distortion of Section 3.1's module T: x^d from x^u.

    Args:
        image: float32 or float64 [3, H, W] or [B, 3, H, W], RGB in [0, 1], at least 16 pixels a side, on any device.
            It is not changed. Each image of a batch is distorted on its own, with its own random draws.
        name: one of `DISTORTIONS`.
        level: 1 .. 5.
        generator: source of all random draws, or one for each image of a batch; torch's default one if None. The
            same state gives the same image.
        stretch: stretch each image to its full range before and after, as the KADIS generator does; an image whose
            range is under half a step of 8 bits stays as it is.

    Returns:
        A new tensor of the same shape, dtype and device, in [0, 1].

    Raises:
        ValueError: unknown name, level, shape, dtype or range.
    """
    return distort_as(image, KADIS[distortion_class(name, level)], generator, stretch)


def distort_as(image: Tensor, distortion: DistortionClass, generator: Draws = None, stretch: bool = True) -> Tensor:
    """`distort` by a class of any set, such as one of `load_distortions`."""
    check_image(image)
    batch = image if image.dim() == 4 else image[None]
    generators = generator if isinstance(generator, Sequence) else [generator] * len(batch)
    if len(generators) != len(batch):
        raise ValueError(f"generator must be one, or one for each of {len(batch)} images, got {len(generators)}")
    if image.device.type == "cpu":  # there one by one is no slower, and an image comes out alike in any company
        pairs = zip(batch.split(1), generators, strict=True)
        distorted = [_distort_group(x_u, distortion, draws, stretch) for x_u, draws in pairs]
        batch = torch.cat(distorted) if len(distorted) > 1 else distorted[0]
    else:
        batch = _distort_group(batch, distortion, generator, stretch)
    return batch if image.dim() == 4 else batch[0]


def distort_batch(
    images: Images,
    classes: Sequence[int] | Tensor,
    generators: Sequence[torch.Generator] | int,
    distortions: Sequence[DistortionClass] = KADIS,
    stretch: bool = True,
) -> Images:
    """Each image by its own class, those of one class and size at once: what a step of Section 4.2 distorts.

    Args:
        images: [B, 3, H, W], or a list of [3, H, W] whose sizes may differ; otherwise as `distort` takes them.
        classes: B places in `distortions`.
        generators: one for each image, or a seed, from which one for each is made on the images' device. With the
            same generator, an image is the same here as from `distort_as`: on the CPU bit for bit, elsewhere but for
            rounding.
        distortions: the set of classes.
        stretch: as in `distort`.

    Returns:
        New images in the order of `images`, a tensor or a list as these are.

    Raises:
        ValueError: as `distort`; for lengths that differ, and for a class that is not in the set.
    """
    classes = [int(k) for k in classes]
    if isinstance(generators, int):
        seeds = torch.randint(2**62, (len(images),), generator=torch.Generator().manual_seed(generators)).tolist()
        generators = [torch.Generator(images[0].device).manual_seed(seed) for seed in seeds]
    if not len(images) == len(classes) == len(generators):
        counts = f"{len(images)}, {len(classes)} and {len(generators)}"
        raise ValueError(f"images, classes and generators must be equally many, got {counts}")
    groups = defaultdict(list)
    for i, (image, k) in enumerate(zip(images, classes, strict=True)):
        if k not in range(len(distortions)):
            raise ValueError(f"classes must be 0 .. {len(distortions) - 1}, got {k}")
        groups[k, image.shape, image.dtype].append(i)
    out = list(images)
    for (k, *_), members in groups.items():
        group = torch.stack([images[i] for i in members])
        distorted = distort_as(group, distortions[k], [generators[i] for i in members], stretch)
        for i, x_d in zip(members, distorted, strict=True):
            out[i] = x_d
    return torch.stack(out) if isinstance(images, Tensor) else out


def _distort_group(x: Tensor, distortion: DistortionClass, draws: Draws, stretch: bool) -> Tensor:
    """Images [B, 3, H, W] of one class, all at once."""
    name, _, value, _, library = distortion
    x = x.contiguous()  # images in memory as [H, W, 3] would be many times slower
    x = stretch_to_full_range(x, FLAT) if stretch else x
    x = imgaug_types.augment(x, name, value, draws) if library == "imgaug" else TYPES[name].function(x, value, draws)
    return (stretch_to_full_range(x, FLAT) if stretch else x).clamp_(0, 1)


def on_cpu_only(distortion: DistortionClass) -> bool:
    """Whether its images go to the CPU and back: codecs, dithering pixel after pixel, and imgaug."""
    return distortion.library == "imgaug" or distortion.name in ("color_quantization", "jpeg2000", "jpeg")


def check_image(image: Tensor) -> None:
    """Raise a ValueError unless `image` is what `distort` takes."""
    if not isinstance(image, Tensor) or image.dtype not in (torch.float32, torch.float64):
        kind = image.dtype if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(f"image must be a float32 or float64 tensor in [0, 1], got {kind}")
    if image.dim() not in (3, 4) or image.shape[-3] != 3 or min(image.shape[-2:]) < 16 or image.shape[0] == 0:
        shape = list(image.shape)
        raise ValueError(f"image must have shape [3, H, W] or [B, 3, H, W] with H and W >= 16, got {shape}")
    low, high = image.aminmax()
    if not (low >= 0 and high <= 1):  # written so that NaN fails too
        raise ValueError(f"image must be in [0, 1], got {low.item():.4g} .. {high.item():.4g}")
