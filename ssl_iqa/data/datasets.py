"""The images of both streams as PyTorch datasets: two views of a distorted one, and labeled crops."""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ssl_iqa.data.images import UnreadableImage, read_image, reduced, resized
from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.data.samplers import Draw, UnlabeledBatches
from ssl_iqa.data.views import random_view, to_bytes, to_float, view_places
from ssl_iqa.distortions import KADIS, DistortionClass, distort_as, distort_batch, on_cpu_only
from ssl_iqa.engine import distributed

Sample = tuple[Tensor, Draw, list[str]]  # of the unlabeled stream: views or bytes, the draw, paths skipped


def first_readable(read: Callable[[int], Tensor], paths: Sequence[str], start: int) -> tuple[int, Tensor, list[str]]:
    """The first of read(start), read(start + 1), .. that is a usable image: (its index, the image, paths skipped).

    Training goes on without files that are damaged or no images. Raises ValueError when none is left.
    """
    skipped = []
    for index in (*range(start, len(paths)), *range(start)):
        try:
            return index, read(index), skipped
        except (UnreadableImage, OSError):
            skipped.append(paths[index])
    raise ValueError(f"{paths[start]}: not a usable image, nor is any of the other {len(paths) - 1}")


def name_skipped(paths: Iterable[str], named: set[str]) -> None:
    """Warns once of each file that cannot be read, on the main process; `named` gathers them."""
    for path in sorted(set(paths) - named):
        if distributed.is_main():
            print(f"warning: {path}: cannot be read, skipped", file=sys.stderr)
        named.add(path)


@dataclass(eq=False)
class UnlabeledViews(Dataset):
    """The unlabeled stream: a `Draw` -> (two views of ONE distorted image, the draw, skipped).

    Views are bytes [2, 3, size, size]. With `on_device` the image itself comes in their place, bytes [3, H, W] for
    `distorted_views`, unless its class can be made on the CPU only. Of at most `KEEP` images each is decoded only once.
    """

    KEEP = 300

    paths: Sequence[str]
    size: int
    distortions: Sequence[DistortionClass] = KADIS
    on_device: bool = False
    long_side: int = 0
    with_pristine: bool = False  # the second view is the pristine image's, at the first one's place
    kept: dict[int, Tensor] = field(default_factory=dict, init=False)

    def __getitem__(self, draw: Draw) -> Sample:
        _, image, skipped = first_readable(self.read, self.paths, draw.index)
        return self.make(image, draw), draw, skipped

    def make(self, image: Tensor, draw: Draw) -> Tensor:
        """Two views [2, 3, size, size] of an image [3, H, W]; with `on_device` the image itself; all bytes."""
        distortion = self.distortions[draw.distortion_class]  # d_t, d_s
        if self.on_device and not on_cpu_only(distortion):
            return image
        x_d = to_bytes(distort_as(to_float(image), distortion, torch.Generator().manual_seed(draw.seed)))
        crops = crop_generator(draw)
        second = (image, crop_generator(draw)) if self.with_pristine else (x_d, crops)
        return torch.stack([random_view(x, self.size, each) for x, each in ((x_d, crops), second)])  # x^d_i, x^d_j

    def read(self, index: int) -> Tensor:
        """The image at its long side, bytes [3, h, w]. Raises OSError or UnreadableImage."""
        if index in self.kept:
            return self.kept[index]
        image = reduced(self.decode(index), self.long_side)
        if min(image.shape[1:]) < 16:
            raise UnreadableImage(f"an image must have at least 16 pixels a side, got {list(image.shape[1:])}")
        if len(self.paths) <= self.KEEP:
            self.kept[index] = image
        return image

    def decode(self, index: int) -> Tensor:
        return read_image(self.paths[index])

    def order(self, epoch_size: int, batch_size: int, images_per_class: int, seed: int) -> UnlabeledBatches:
        """Its batch sampler; `epoch_size` 0: each image once. Raises ValueError at once where no image is usable."""
        first_readable(self.read, self.paths, 0)
        weights = [distortion.weight for distortion in self.distortions]
        epoch_size = epoch_size or len(self.paths)
        return UnlabeledBatches(len(self.paths), weights, epoch_size, batch_size, images_per_class, seed)

    def listing(self) -> tuple[list, int, list[int]]:
        """What tells these images from others: their files' names, how many they are, and their files' sizes."""
        return [*map(os.path.basename, self.paths)], len(self.paths), [*map(os.path.getsize, self.paths)]


def crop_generator(draw: Draw) -> torch.Generator:
    """Always on the CPU, so that crops are the same wherever the image is distorted."""
    return torch.Generator().manual_seed(draw.seed + 1)


def labeled_image(labeled: LabeledSet, index: int) -> Tensor:
    """x_i of Section 3.2, bytes [3, H, W], at the set's size: one that the set keeps, else read."""
    image = labeled.kept[index] if index in labeled.kept else labeled.read(index)
    return resized(image, labeled.size) if labeled.size else image


class LabeledCrops(Dataset):
    """The labeled stream: a `Draw` of a place in `indices` -> (random view [3, size, size], score y_i, skipped)."""

    def __init__(self, labeled: LabeledSet, indices: Sequence[int], size: int) -> None:
        self.labeled, self.indices, self.size = labeled, indices, size
        self.paths = [labeled.paths[i] for i in indices]

    def __getitem__(self, draw: Draw) -> tuple[Tensor, float, list[str]]:
        place, x, skipped = first_readable(self.read, self.paths, draw.index)
        view = to_float(random_view(x, self.size, torch.Generator().manual_seed(draw.seed)))
        return view, self.labeled.scores[self.indices[place]], skipped

    def read(self, place: int) -> Tensor:
        return labeled_image(self.labeled, self.indices[place])


class UnlabeledBatch(NamedTuple):
    """B samples of `UnlabeledViews` on their way from a worker: n views, and with `on_device` B - n images.

    One tensor for all images, since each tensor that a worker sends keeps a file open.
    """

    draws: list[Draw]
    with_views: list[int]  # the places in the batch of the n samples that came as views
    views: Tensor  # bytes [2, n, 3, s, s]
    sizes: list[tuple[torch.Size, list[int]]]  # of an image, and the places of all that have it
    images: Tensor  # their bytes, one after the other
    skipped: list[str]


def collate_views(samples: list[Sample]) -> UnlabeledBatch:
    parts, draws, skipped = zip(*samples, strict=True)
    with_views = [i for i, part in enumerate(parts) if part.ndim == 4]
    sizes: dict[torch.Size, list[int]] = {}
    for i in sorted({*range(len(parts))} - {*with_views}):
        sizes.setdefault(parts[i].shape, []).append(i)
    views = torch.stack([parts[i] for i in with_views], dim=1) if with_views else torch.empty(0)
    images = [parts[i].flatten() for places in sizes.values() for i in places]
    flat = torch.cat(images) if images else torch.empty(0, dtype=torch.uint8)
    return UnlabeledBatch(list(draws), with_views, views, list(sizes.items()), flat, sum(skipped, []))


def finish_views(batch: UnlabeledBatch, dataset: UnlabeledViews, device: torch.device) -> tuple[Tensor, Tensor]:
    """A batch's views [2, B, 3, s, s] in [0, 1] and their classes [B], on the device; images are distorted there."""
    views = batch.views.to(device, non_blocking=True)
    if batch.sizes:
        shape = (2, len(batch.draws), 3, dataset.size, dataset.size)
        from_workers, views = views, torch.empty(shape, dtype=torch.uint8, device=device)
        if batch.with_views:
            views[:, batch.with_views] = from_workers
        lengths = [prod(shape) * len(places) for shape, places in batch.sizes]
        parts = batch.images.to(device, non_blocking=True).split(lengths)
        for (shape, places), part in zip(batch.sizes, parts, strict=True):
            draws = [batch.draws[i] for i in places]
            views[:, places] = distorted_views(part.view(len(places), *shape), draws, dataset)
    return to_float(views), torch.tensor([draw.distortion_class for draw in batch.draws], device=device)


def distorted_views(images: Tensor, draws: Sequence[Draw], dataset: UnlabeledViews) -> Tensor:
    """`UnlabeledViews.make` for images [n, 3, H, W] on their device: views [2, n, 3, size, size], all bytes."""
    device = images.device
    classes = [draw.distortion_class for draw in draws]
    generators = [torch.Generator(device).manual_seed(draw.seed) for draw in draws]
    x_d = to_bytes(distort_batch(to_float(images), classes, generators, dataset.distortions))
    crops = [crop_generator(draw) for draw in draws]
    second = (images, [crop_generator(draw) for draw in draws]) if dataset.with_pristine else (x_d, crops)
    n = torch.arange(len(draws), device=device)[:, None, None, None]
    channel = torch.arange(3, device=device)[:, None, None]
    views = []
    for x, generators in ((x_d, crops), second):
        places = [view_places(*x.shape[2:], dataset.size, generator) for generator in generators]
        rows, columns = (torch.stack(side).to(device) for side in zip(*places, strict=True))  # [n, s] each
        views.append(x[n, channel, rows[:, None, :, None], columns[:, None, None, :]])
    return torch.stack(views)


def collate_crops(samples: list[tuple[Tensor, float, list[str]]]) -> tuple[Tensor, Tensor, list[str]]:
    """[B] samples of `LabeledCrops` -> x [B, 3, s, s], y [B], paths skipped."""
    crops, scores, skipped = zip(*samples, strict=True)
    return torch.stack(crops), torch.tensor(scores, dtype=torch.float32), sum(skipped, [])
