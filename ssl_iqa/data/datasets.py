"""The images of both streams as PyTorch's datasets: two views of a distorted one, and labeled crops."""

import sys
from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ssl_iqa.data.images import UnreadableImage, read_image
from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.data.samplers import Draw
from ssl_iqa.data.views import in_8_bits, random_view, to_float, view_places
from ssl_iqa.distortions import KADIS, DistortionClass, distort_as, distort_batch, on_cpu_only
from ssl_iqa.engine import console, distributed
from ssl_iqa.engine.workers import make_loader


def read_labeled(labeled: LabeledSet, index: int) -> Tensor:
    """x_i of Section 3.2, [3, H, W] in [0, 1]; the demo's are photographs that are distorted here, always alike, and
    rounded to 8 bits as the files of other sets.
    """
    picture = to_float(read_image(labeled.paths[index]), labeled.reduce)
    if labeled.classes is None:
        return picture
    return in_8_bits(distort_as(picture, KADIS[labeled.classes[index]], torch.Generator().manual_seed(index)))


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
        reduce: int = 1,
        distortions: Sequence[DistortionClass] = KADIS,
        on_device: bool = False,
    ) -> None:
        self.paths, self.size, self.reduce = paths, size, reduce
        self.distortions, self.on_device = distortions, on_device
        self.kept: dict[int, Tensor] = {}

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Draw, list[str]]:
        _, picture, skipped = first_readable(self.read, self.paths, draw.index)
        return self.make(picture, draw), draw, skipped

    def make(self, picture: Tensor, draw: Draw) -> Tensor:
        """What a picture's bytes [3, H, W] become: two views of it, distorted, or with `on_device` still its bytes."""
        distortion = self.distortions[draw.distortion_class]  # d_t, d_s
        if self.on_device and not on_cpu_only(distortion):
            return picture
        x_u = to_float(picture, self.reduce)
        x_d = in_8_bits(distort_as(x_u, distortion, torch.Generator().manual_seed(draw.seed)))
        crops = crop_generator(draw)
        return torch.stack([random_view(x_d, self.size, crops) for _ in range(2)])  # x^d_i, x^d_j

    def read(self, index: int) -> Tensor:
        if index in self.kept:
            return self.kept[index]
        picture = self.checked(read_image(self.paths[index]), self.paths[index])
        if len(self.paths) <= self.KEEP:
            self.kept[index] = picture
        return picture

    def checked(self, picture: Tensor, name: str) -> Tensor:
        """The picture [3, H, W]. Raises UnreadableImage where it is too small to be distorted."""
        if min(picture.shape[1:]) < 16 * self.reduce:
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
    x_d = in_8_bits(distort_batch(to_float(pictures, dataset.reduce), classes, generators, dataset.distortions))
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
    """Pictures of a labeled set, each with its index in the set: (index, bytes [3, H, W] or None where unreadable)."""

    def __init__(self, labeled: LabeledSet, indices: Sequence[int]) -> None:
        self.labeled, self.indices = labeled, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> tuple[int, Tensor | None]:
        index = self.indices[place]
        try:
            return index, (read_labeled(self.labeled, index) * 255).round().to(torch.uint8)
        except (UnreadableImage, OSError):
            return index, None


def make_demo_pictures(labeled: LabeledSet, indices: Sequence[int], workers: int) -> dict[int, Tensor]:
    """The demo's labeled pictures as bytes [3, H, W], by index: they have to be distorted, so they are made once.

    Nothing for other sets, whose pictures are read when they are wanted.
    """
    if labeled.classes is None:
        return {}
    pictures = LabeledPictures(labeled, indices)
    batches = make_loader(pictures, workers, list, batch_size=25)
    bar = console.bar(batches, "distorting the demo's labeled photographs")
    # clones: what a worker sends keeps a file open
    return {index: picture.clone() for batch in bar for index, picture in batch}


def picture_batches(
    labeled: LabeledSet, indices: Sequence[int], made: dict[int, Tensor], workers: int
) -> Iterable[list[tuple[int, Tensor | None]]]:
    """Every picture of a part, in order, in batches of (index, bytes [3, H, W], or None where it cannot be read)."""
    if made:
        return [[(index, made[index]) for index in indices[start : start + 25]] for start in range(0, len(indices), 25)]
    return make_loader(LabeledPictures(labeled, indices), workers, list, batch_size=25)


class LabeledCrops(Dataset):
    """The labeled stream: a `Draw` of a place in `indices` -> (random view [3, size, size], score in [1, 10], skipped).

    `made` holds pictures that need not be read, see `make_demo_pictures`.
    """

    def __init__(self, labeled: LabeledSet, indices: Sequence[int], size: int, made: dict[int, Tensor]) -> None:
        self.labeled, self.indices, self.size, self.made = labeled, indices, size, made
        self.paths = [labeled.paths[i] for i in indices]

    def __getitem__(self, draw: Draw) -> tuple[Tensor, float, list[str]]:
        place, x, skipped = first_readable(self.read, self.paths, draw.index)
        view = to_float(random_view(x, self.size, torch.Generator().manual_seed(draw.seed)))  # `made` holds bytes
        return view, self.labeled.scores[self.indices[place]], skipped

    def read(self, place: int) -> Tensor:
        index = self.indices[place]
        return self.made[index] if index in self.made else read_labeled(self.labeled, index)


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
