"""The images of both streams as PyTorch's datasets: two views of a distorted one, and labeled crops."""

import sys
from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ssl_iqa.data.images import UnreadableImage, read_image, reduced
from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.data.samplers import Draw
from ssl_iqa.data.views import in_8_bits, random_view, to_float, view_places
from ssl_iqa.distortions import KADIS, DistortionClass, distort_as, distort_batch, on_cpu_only
from ssl_iqa.engine import console, distributed
from ssl_iqa.engine.workers import make_loader


def first_readable(read: Callable[[int], Tensor], paths: Sequence[str], start: int) -> tuple[int, Tensor, list[str]]:
    """The first of read(start), read(start + 1), .. that is a usable picture: (its index, the picture, paths skipped).

    Training goes on without files that are damaged or no pictures. Raises ValueError when none is left.
    """
    skipped = []
    for index in (*range(start, len(paths)), *range(start)):
        try:
            return index, read(index), skipped
        except (UnreadableImage, OSError):
            skipped.append(paths[index])
    raise ValueError(f"{paths[start]}: not a usable picture, nor is any of the other {len(paths) - 1}")


def name_skipped(paths: Iterable[str], named: set[str]) -> None:
    """Says of each file once that it cannot be read, of several processes the main one; `named` gathers them."""
    for path in sorted(set(paths) - named):
        if distributed.is_main():
            print(f"warning: {path}: cannot be read, skipped", file=sys.stderr)
        named.add(path)


class UnlabeledViews(Dataset):
    """The unlabeled stream: a `Draw` -> (two views [2, 3, size, size] of ONE distorted picture, the draw, skipped).

    With `on_device` the picture itself comes in place of its views, bytes [3, H, W] for `distorted_views`, unless its
    class can be made on the CPU only. Of at most `KEEP` pictures each is decoded once only.
    """

    KEEP = 300

    def __init__(
        self,
        paths: Sequence[str],
        size: int,
        distortions: Sequence[DistortionClass] = KADIS,
        on_device: bool = False,
        long_side: int = 0,
    ) -> None:
        self.paths, self.size, self.distortions = paths, size, distortions
        self.on_device, self.long_side = on_device, long_side
        self.kept: dict[int, Tensor] = {}

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Draw, list[str]]:
        _, picture, skipped = first_readable(self.read, self.paths, draw.index)
        return self.make(picture, draw), draw, skipped

    def make(self, picture: Tensor, draw: Draw) -> Tensor:
        """What a picture's bytes [3, H, W] become: two views of it, distorted, or with `on_device` still its bytes."""
        distortion = self.distortions[draw.distortion_class]  # d_t, d_s
        if self.on_device and not on_cpu_only(distortion):
            return picture
        x_u = to_float(picture)
        x_d = in_8_bits(distort_as(x_u, distortion, torch.Generator().manual_seed(draw.seed)))
        crops = crop_generator(draw)
        return torch.stack([random_view(x_d, self.size, crops) for _ in range(2)])  # x^d_i, x^d_j

    def read(self, index: int) -> Tensor:
        if index in self.kept:
            return self.kept[index]
        picture = self.prepared(read_image(self.paths[index]), self.paths[index])
        if len(self.paths) <= self.KEEP:
            self.kept[index] = picture
        return picture

    def prepared(self, picture: Tensor, name: str) -> Tensor:
        """The image at its long side, [3, h, w]. Raises UnreadableImage where it is too small to be distorted."""
        picture = reduced(picture, self.long_side)
        if min(picture.shape[1:]) < 16:
            raise UnreadableImage(f"{name}: {list(picture.shape[1:])} pixels, distort takes 16 a side")
        return picture


def crop_generator(draw: Draw) -> torch.Generator:
    """What a draw's crops come from: always on the CPU, so that they are the same wherever its picture is distorted."""
    return torch.Generator().manual_seed(draw.seed + 1)


def distorted_views(pictures: Tensor, draws: Sequence[Draw], dataset: UnlabeledViews) -> Tensor:
    """What `dataset` makes of pictures [n, 3, H, W], bytes, on their device: views [2, n, 3, size, size]."""
    device = pictures.device
    classes = [draw.distortion_class for draw in draws]
    generators = [torch.Generator(device).manual_seed(draw.seed) for draw in draws]
    x_d = in_8_bits(distort_batch(to_float(pictures), classes, generators, dataset.distortions))
    size, crops = x_d.shape[2:], [crop_generator(draw) for draw in draws]
    n, channel = (
        torch.arange(len(draws), device=device)[:, None, None, None],
        torch.arange(3, device=device)[:, None, None],
    )
    views = []
    for _ in range(2):
        places = [view_places(*size, dataset.size, generator) for generator in crops]
        rows, columns = (torch.stack(side).to(device) for side in zip(*places, strict=True))  # [n, s] each
        views.append(x_d[n, channel, rows[:, None, :, None], columns[:, None, None, :]])
    return torch.stack(views)


class LabeledPictures(Dataset):
    """Images of a labeled set, each with its index in the set: (index, bytes [3, H, W] or None where unreadable)."""

    def __init__(self, labeled: LabeledSet, indices: Sequence[int]) -> None:
        self.labeled, self.indices = labeled, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> tuple[int, Tensor | None]:
        index = self.indices[place]
        try:
            return index, self.labeled.read(index)
        except (UnreadableImage, OSError):
            return index, None


def make_all(labeled: LabeledSet, indices: Sequence[int], workers: int) -> None:
    """Distorts the demo's labeled photographs once, for the set to keep; nothing for sets of files."""
    if labeled.classes is not None:
        batches = make_loader(LabeledPictures(labeled, indices), workers, list, batch_size=25)
        for batch in console.bar(batches, "distorting the demo's labeled photographs"):
            labeled.kept.update(
                (index, image.clone()) for index, image in batch
            )  # what a worker sends keeps a file open


def picture_batches(
    labeled: LabeledSet, indices: Sequence[int], workers: int
) -> Iterable[list[tuple[int, Tensor | None]]]:
    """Images of a labeled set in order, in batches of (index, bytes [3, H, W] or None where unreadable)."""
    return make_loader(LabeledPictures(labeled, indices), 0 if labeled.kept else workers, list, batch_size=25)


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
        return self.labeled.read(self.indices[place])


class UnlabeledBatch(NamedTuple):
    """B samples of `UnlabeledViews` on their way from a worker: views, and pictures that are to become some.

    One tensor for all pictures, since each tensor that a worker sends keeps a file open.
    """

    draws: list[Draw]
    made: list[int]  # the places in the batch of the m samples that came as views
    views: Tensor  # [2, m, 3, s, s]
    sizes: list[tuple[torch.Size, list[int]]]  # of a picture, and the places of all that have it
    pictures: Tensor  # their bytes, one after the other
    skipped: list[str]


def collate_views(samples: list[tuple[Tensor, Draw, list[str]]]) -> UnlabeledBatch:
    """[B] samples of `UnlabeledViews`."""
    parts, draws, skipped = zip(*samples, strict=True)
    made = [i for i, part in enumerate(parts) if part.is_floating_point()]
    by_size: dict[torch.Size, list[int]] = {}
    for i, part in enumerate(parts):
        if not part.is_floating_point():
            by_size.setdefault(part.shape, []).append(i)
    views = torch.stack([parts[i] for i in made], dim=1) if made else torch.empty(0)
    pictures = [parts[i].flatten() for places in by_size.values() for i in places]
    flat = torch.cat(pictures) if pictures else torch.empty(0, dtype=torch.uint8)
    return UnlabeledBatch(list(draws), made, views, list(by_size.items()), flat, sum(skipped, []))


def finish_views(batch: UnlabeledBatch, dataset: UnlabeledViews, device: torch.device) -> tuple[Tensor, Tensor]:
    """A batch's views [2, B, 3, s, s] and their classes [B], on the device; pictures are distorted there."""
    views = batch.views.to(device, non_blocking=True)
    if batch.sizes:
        made, views = views, torch.empty(2, len(batch.draws), 3, dataset.size, dataset.size, device=device)
        if batch.made:
            views[:, batch.made] = made
        lengths = [prod(shape) * len(places) for shape, places in batch.sizes]
        parts = batch.pictures.to(device, non_blocking=True).split(lengths)
        for (shape, places), part in zip(batch.sizes, parts, strict=True):
            draws = [batch.draws[i] for i in places]
            views[:, places] = distorted_views(part.view(len(places), *shape), draws, dataset)
    return views, torch.tensor([draw.distortion_class for draw in batch.draws], device=device)


def collate_crops(samples: list[tuple[Tensor, float, list[str]]]) -> tuple[Tensor, Tensor, list[str]]:
    """[B] samples of `LabeledCrops` -> x [B, 3, s, s], y [B], paths skipped."""
    crops, scores, skipped = zip(*samples, strict=True)
    return torch.stack(crops), torch.tensor(scores, dtype=torch.float32), sum(skipped, [])
