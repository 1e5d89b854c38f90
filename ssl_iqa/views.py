"""Section 3.1's two views of a distorted picture, and the batches of both streams.

Every draw (class, distortion, crops, flips) comes from a seed that the sampler hands out with the sample, so that a
batch does not depend on who makes it: any number of workers gives the same training.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ssl_iqa.data import LabeledSet, UnreadableImage, read_image
from ssl_iqa.distortions import NUM_CLASSES, class_distortion, distort


class Draw(NamedTuple):
    """What a sampler asks a dataset for."""

    index: int  # of the picture
    seed: int
    distortion_class: int = -1  # 0 .. 124; labeled pictures have none to be drawn


def random_view(image: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """V of Section 3.1: a random size x size crop, flipped left-right and upside down with probability 1/2 each.

    [C, H, W] -> [C, size, size]. Nothing is resized, since that would change the quality.
    """
    image = pad_to(image, size)
    top, left = (int(torch.randint(side - size + 1, (), generator=generator)) for side in image.shape[-2:])
    upside_down, mirrored = (torch.rand(2, generator=generator) < 0.5).tolist()
    view = image[:, top : top + size, left : left + size]
    return view.flip([dim for dim, flip in ((1, upside_down), (2, mirrored)) if flip])


def test_crops(image: Tensor, mode: str, size: int) -> Tensor:
    """What a picture's score is the mean over, [C, H, W] -> [crops, C, h, w].

    `five`: size x size, the corners and the center; `center`; or `full`, the whole picture.
    """
    if mode == "full":
        return pad_to(image, 32)[None]
    image = pad_to(image, size)
    bottom, right = (side - size for side in image.shape[-2:])
    places = [(bottom // 2, right // 2)]
    if mode == "five":
        places += [(0, 0), (0, right), (bottom, 0), (bottom, right)]
    return torch.stack([image[:, top : top + size, left : left + size] for top, left in places])


def pad_to(image: Tensor, size: int) -> Tensor:
    """Reflect a picture at its right and lower border up to at least `size` a side: [C, H, W] -> [C, H', W']."""
    for dim in (1, 2):
        side = image.shape[dim]
        if side < size:
            there_and_back = torch.arange(size) % max(2 * side - 2, 1)  # 0 1 2 3 2 1 0 1 .. for a side of 4
            image = image.index_select(dim, torch.minimum(there_and_back, 2 * side - 2 - there_and_back).clamp_min(0))
    return image


def read_picture(path: str, reduce: int = 1) -> Tensor:
    """A picture as the encoder takes it: float32 [3, H, W], RGB in [0, 1], averaged over reduce x reduce pixels."""
    picture = read_image(path).float() / 255
    return F.avg_pool2d(picture, reduce) if reduce > 1 else picture


def read_labeled(labeled: LabeledSet, index: int) -> Tensor:
    """x_i of Section 3.2, [3, H, W] in [0, 1]; the demo's are photographs that are distorted here, always alike."""
    picture = read_picture(labeled.paths[index], labeled.reduce)
    if labeled.classes is None:
        return picture
    name, level = class_distortion(labeled.classes[index])
    return distort(picture, name, level, torch.Generator().manual_seed(index))


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
    """Says of each file once that it cannot be read; `named` gathers them."""
    for path in sorted(set(paths) - named):
        print(f"warning: {path}: cannot be read, skipped", file=sys.stderr)
        named.add(path)


class UnlabeledViews(Dataset):
    """The unlabeled stream: a `Draw` -> (two views [2, 3, size, size] of ONE distorted picture, its class, skipped).

    Of at most `KEEP` pictures each is decoded once only.
    """

    KEEP = 100

    def __init__(self, paths: Sequence[str], size: int, reduce: int = 1) -> None:
        self.paths, self.size, self.reduce = paths, size, reduce
        self.kept: dict[int, Tensor] = {}

    def __getitem__(self, draw: Draw) -> tuple[Tensor, int, list[str]]:
        generator = torch.Generator().manual_seed(draw.seed)
        name, level = class_distortion(draw.distortion_class)  # d_t, d_s
        _, x_u, skipped = first_readable(self.read, self.paths, draw.index)
        x_d = distort(x_u, name, level, generator)
        views = torch.stack([random_view(x_d, self.size, generator) for _ in range(2)])  # x^d_i, x^d_j
        return views, draw.distortion_class, skipped

    def read(self, index: int) -> Tensor:
        if index in self.kept:
            return self.kept[index]
        picture = read_picture(self.paths[index], self.reduce)
        if min(picture.shape[1:]) < 16:
            raise UnreadableImage(f"{self.paths[index]}: {list(picture.shape[1:])} pixels, distort takes 16 a side")
        if len(self.paths) <= self.KEEP:
            self.kept[index] = picture
        return picture


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
    batches = DataLoader(pictures, batch_size=25, num_workers=workers, collate_fn=list)
    bar = tqdm(batches, "distorting the demo's labeled photographs", leave=False, disable=None)
    return {index: picture.clone() for batch in bar for index, picture in batch}  # clones: shared memory is scarce


def picture_batches(
    labeled: LabeledSet, indices: Sequence[int], made: dict[int, Tensor], workers: int
) -> Iterable[list[tuple[int, Tensor | None]]]:
    """Every picture of a part, in order, in batches of (index, bytes [3, H, W], or None where it cannot be read)."""
    if made:
        return [[(index, made[index]) for index in indices[start : start + 25]] for start in range(0, len(indices), 25)]
    return DataLoader(LabeledPictures(labeled, indices), batch_size=25, num_workers=workers, collate_fn=list)


class LabeledCrops(Dataset):
    """The labeled stream: a `Draw` of a place in `indices` -> (random view [3, size, size], score in [1, 10], skipped).

    `made` holds pictures that need not be read, see `make_demo_pictures`.
    """

    def __init__(self, labeled: LabeledSet, indices: Sequence[int], size: int, made: dict[int, Tensor]) -> None:
        self.labeled, self.indices, self.size, self.made = labeled, indices, size, made
        self.paths = [labeled.paths[i] for i in indices]

    def __getitem__(self, draw: Draw) -> tuple[Tensor, float, list[str]]:
        place, x, skipped = first_readable(self.read, self.paths, draw.index)
        view = random_view(x, self.size, torch.Generator().manual_seed(draw.seed))
        if view.dtype == torch.uint8:  # `made` holds bytes
            view = view / 255
        return view, self.labeled.scores[self.indices[place]], skipped

    def read(self, place: int) -> Tensor:
        index = self.indices[place]
        return self.made[index] if index in self.made else read_labeled(self.labeled, index)


def collate_views(samples: list[tuple[Tensor, int, list[str]]]) -> tuple[Tensor, Tensor, list[str]]:
    """[B] samples of `UnlabeledViews` -> views [2B, 3, s, s], first views first, their classes [2B], paths skipped."""
    views, classes, skipped = zip(*samples, strict=True)
    stacked = torch.stack(views, dim=1).flatten(0, 1)  # [2, B, 3, s, s] -> [2B, 3, s, s]
    return stacked, torch.tensor(classes).repeat(2), sum(skipped, [])


def collate_crops(samples: list[tuple[Tensor, float, list[str]]]) -> tuple[Tensor, Tensor, list[str]]:
    """[B] samples of `LabeledCrops` -> x [B, 3, s, s], y [B], paths skipped."""
    crops, scores, skipped = zip(*samples, strict=True)
    return torch.stack(crops), torch.tensor(scores, dtype=torch.float32), sum(skipped, [])


def draw_classes(batch_size: int, images_per_class: int, rng: np.random.Generator) -> np.ndarray:
    """Distortion classes of a batch: [batch_size].

    The paper draws type and level at random for each picture (images_per_class 0). In a small batch most classes then
    come once, and Eq. 5 has no positives but a picture's own second view. With images_per_class M, batch_size / M
    classes are drawn, M pictures of each.
    """
    if images_per_class == 0:
        return rng.integers(NUM_CLASSES, size=batch_size)
    wanted = batch_size // images_per_class
    drawn = np.concatenate([rng.permutation(NUM_CLASSES) for _ in range(-(-wanted // NUM_CLASSES))])[:wanted]
    return np.repeat(drawn, images_per_class)


class UnlabeledBatches:
    """Batch sampler: every picture once in a random order, again until `epoch_size` pictures, a class drawn for each.

    Set `epoch` before iterating; the same seed and epoch give the same draws.
    """

    def __init__(self, pictures: int, epoch_size: int, batch_size: int, images_per_class: int, seed: int) -> None:
        self.pictures, self.batch_size, self.images_per_class, self.seed = pictures, batch_size, images_per_class, seed
        self.steps = max(1, epoch_size // batch_size)
        self.epoch = 0

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[Draw]]:
        rng = np.random.default_rng((self.seed, 0, self.epoch))  # 0: the unlabeled stream
        rounds = -(-self.steps * self.batch_size // self.pictures)
        order = np.concatenate([rng.permutation(self.pictures) for _ in range(rounds)])
        for step in range(self.steps):
            indices = order[step * self.batch_size : (step + 1) * self.batch_size]
            classes = draw_classes(self.batch_size, self.images_per_class, rng)
            seeds = rng.integers(2**62, size=self.batch_size)
            yield [Draw(*draw) for draw in zip(indices.tolist(), seeds.tolist(), classes.tolist(), strict=True)]


class LabeledBatches:
    """Batch sampler of `steps` batches an epoch that goes round the pictures, in a new random order each time round."""

    def __init__(self, pictures: int, steps: int, batch_size: int, seed: int) -> None:
        self.pictures, self.steps, self.batch_size, self.seed = pictures, steps, batch_size, seed
        self.epoch = 0

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[Draw]]:
        rng = np.random.default_rng((self.seed, 1, self.epoch))  # 1: the labeled stream
        first = self.epoch * self.steps * self.batch_size  # pictures that earlier epochs have taken
        last = first + self.steps * self.batch_size
        rounds = range(first // self.pictures, -(-last // self.pictures))
        order = np.concatenate([np.random.default_rng((self.seed, 2, r)).permutation(self.pictures) for r in rounds])
        order = order[first - rounds.start * self.pictures :]
        for step in range(self.steps):
            indices = order[step * self.batch_size : (step + 1) * self.batch_size].tolist()
            seeds = rng.integers(2**62, size=self.batch_size).tolist()
            yield [Draw(index, seed) for index, seed in zip(indices, seeds, strict=True)]


class Streams:
    """Batches of the unlabeled and, beside them, of the labeled pictures: what Section 4.2 takes CombinedLoader for.

    An epoch is as long as the unlabeled stream. `skipped` gathers the paths of files that could not be read.
    """

    def __init__(
        self,
        unlabeled: UnlabeledViews,
        labeled: LabeledCrops | None,
        batch_size: int,
        labeled_batch_size: int,
        images_per_class: int,
        epoch_size: int,
        workers: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self.unlabeled_batches = UnlabeledBatches(
            len(unlabeled.paths), epoch_size or len(unlabeled.paths), batch_size, images_per_class, seed
        )
        self.unlabeled = DataLoader(
            unlabeled,
            batch_sampler=self.unlabeled_batches,
            collate_fn=collate_views,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        self.labeled = None
        if labeled is not None:
            self.labeled_batches = LabeledBatches(len(labeled.paths), len(self), labeled_batch_size, seed)
            labeled_workers = 0 if labeled.made else workers  # cropping bytes is no work
            self.labeled = DataLoader(
                labeled,
                batch_sampler=self.labeled_batches,
                collate_fn=collate_crops,
                num_workers=labeled_workers,
                persistent_workers=labeled_workers > 0,
            )
        for stream in filter(None, (unlabeled, labeled)):
            first_readable(stream.read, stream.paths, 0)  # where none is, this raises now and not amid training
        self.device = device
        self.skipped: set[str] = set()

    def __len__(self) -> int:
        return len(self.unlabeled_batches)

    def batches(self, epoch: int) -> Iterator[tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor] | None]]:
        """((views [2B, 3, s, s], classes [2B]), (x [N_L, 3, s, s], y [N_L]) or None), on the device."""
        self.unlabeled_batches.epoch = epoch
        if self.labeled is None:
            pairs = ((batch, None) for batch in self.unlabeled)
        else:
            self.labeled_batches.epoch = epoch
            pairs = zip(self.unlabeled, self.labeled, strict=True)
        for pair in pairs:
            yield tuple(batch and self.arrived(batch) for batch in pair)

    def arrived(self, batch: tuple[Tensor, Tensor, list[str]]) -> tuple[Tensor, Tensor]:
        pictures, targets, skipped = batch
        name_skipped(skipped, self.skipped)
        return pictures.to(self.device), targets.to(self.device)
