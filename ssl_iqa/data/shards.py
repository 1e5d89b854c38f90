"""The unlabeled stream from tar shards, for more photographs than can be files on a disk.

Shards are read from their first byte on, through the webdataset library (the extra `shards`). Which images a process
and a worker of it read is settled beforehand, by numbers of images: each process first reads the tars' headers to count
them.
"""

import glob
import io
import math
import os
import random
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from itertools import chain, islice, zip_longest
from typing import NamedTuple

import numpy as np
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from ssl_iqa.data.datasets import UnlabeledViews, first_readable
from ssl_iqa.data.images import IMAGE_SUFFIXES, UnreadableImage, decode_image, refuse_special_file
from ssl_iqa.data.samplers import PART, Draw, draw_classes, own_part
from ssl_iqa.data.splits import split_unlabeled
from ssl_iqa.distortions import KADIS, DistortionClass
from ssl_iqa.engine import console, distributed
from ssl_iqa.engine.workers import leave_signals_to_the_loop

# Encoded images that a worker holds to take the next one at random from: about as many as a usual shard has, so that
# its neighbors there, which may be alike, are apart. Bounded in bytes since every worker of a machine has its own.
BUFFER = 1000
BUFFER_BYTES = 2**28

Encoded = tuple[str, bytes]  # "shard.tar/member", and the file's content


class Shard(NamedTuple):
    path: str
    images: int  # how many it holds
    size: int  # bytes of all its images


class Piece(NamedTuple):
    path: str  # of a shard, whose images first .. stop - 1 these are
    first: int
    stop: int


def list_shards(spec: str, workers: int = 0) -> list[Shard]:
    """The shards that a spec names, sorted by path, their images counted by `workers` processes.

    Raises FileNotFoundError for a file that is missing, ValueError for one that is no whole tar or has no images,
    for an address in place of a file, and where webdataset is not installed.
    """
    try:
        from webdataset.shardlists import expand_urls
    except ImportError as error:
        raise ValueError(f"{spec}: shards need the webdataset library: pip install 'ssl_iqa[shards]'") from error
    paths: set[str] = set()
    for pattern in filter(None, expand_urls(f"{{{spec},}}")):  # in braces, so that a list with commas expands, too
        if re.match(r"pipe:|[\w.+-]+://", pattern):
            raise ValueError(f"shards must be files, since their images are counted first, got {pattern}")
        pattern = os.path.expanduser(pattern)
        matches = [pattern] if os.path.exists(pattern) else glob.glob(pattern)
        if not matches:
            raise FileNotFoundError(f"{pattern}: no such file")
        paths.update(matches)
    ordered = sorted(paths)
    if not workers:
        return list(map(count_images, console.bar(ordered, "counting images")))
    # not threads: parsing headers is Python's work
    with ProcessPoolExecutor(min(workers, len(ordered)), initializer=leave_signals_to_the_loop) as pool:
        return list(console.bar(pool.map(count_images, ordered), "counting images", len(ordered)))


def count_images(path: str) -> Shard:
    """From the headers alone."""
    sizes = []
    refuse_special_file(path)
    try:
        with tarfile.open(path, "r:") as archive:
            for member in iter(archive.next, None):
                if member.isreg() and is_image(member.name):
                    sizes.append(member.size)
                archive.members.clear()  # it would keep them all
            archive.fileobj.seek(archive.offset)
            if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile takes any end for one
                raise tarfile.ReadError("it has no end")
    except tarfile.TarError as error:
        raise ValueError(f"{path}: must be a whole tar ({error})") from error
    if not sizes:
        raise ValueError(f"{path}: no images in this tar, which are files ending in {' '.join(IMAGE_SUFFIXES)}")
    return Shard(path, len(sizes), sum(sizes))


def is_image(name: str) -> bool:
    """Whether a member of a tar is one, by its name, as `images.list_images` recognizes files: hidden ones are not."""
    is_hidden = any(part.startswith(".") for part in name.split("/") if part != ".")
    return name.lower().endswith(IMAGE_SUFFIXES) and not is_hidden


def split_shards(shards: Sequence[Shard], seed: int) -> tuple[list[Shard], list[Shard]]:
    """Divides whole shards by `seed` into train and val as `splits.split_unlabeled` does images, 80 % and 20 %."""
    train, val = split_unlabeled([shard.path for shard in shards], seed)
    return [shard for shard in shards if shard.path in train], [shard for shard in shards if shard.path in val]


def plan(shards: Sequence[Shard], ranges: Iterable[range]) -> list[Piece]:
    """What ranges of images are, counted through all shards one after the other: the pieces to be read in turn."""
    ends = np.cumsum([shard.images for shard in shards])
    pieces = []
    for images in filter(None, ranges):  # a worker may have none to read
        for i in range(int(np.searchsorted(ends, images.start, side="right")), len(shards)):
            begin = int(ends[i]) - shards[i].images
            if begin >= images.stop:
                break
            first, stop = max(images.start - begin, 0), min(images.stop - begin, shards[i].images)
            pieces.append(Piece(shards[i].path, first, stop))
    return pieces


def read_shard(path: str) -> Iterator[Encoded]:
    """All images of a tar, in its order."""
    from webdataset.tariterators import tar_file_iterator

    with open(path, "rb") as file:
        for member in tar_file_iterator(file, skip_meta=None, select_files=is_image):
            yield f"{path}/{member['fname']}", member["data"]


def read_pieces(pieces: Iterable[Piece]) -> Iterator[Encoded]:
    """The images of pieces, one after the other. A shard is read on, not anew, for a piece that follows in it."""
    path, place, images = "", 0, iter(())
    for piece in pieces:
        if piece.path != path or piece.first < place:
            path, place, images = piece.path, 0, read_shard(piece.path)
        in_piece = islice(images, piece.first - place, piece.stop - place)
        place = piece.first
        for image in in_piece:
            yield image
            place += 1
        if place != piece.stop:
            raise ValueError(f"{path}: must keep the images that were counted in it, got fewer")


def with_neighbors(items: Iterable[list[Encoded]]) -> Iterator[tuple[list[Encoded], list[Encoded]]]:
    """(an item, the images of the one after it and of the one before it) for each item."""
    before: list[Encoded] = []
    item: list[Encoded] = []
    for after in chain(items, [[]]):
        if item:
            yield item, after + before
        before, item = item, after


class ShardViews(UnlabeledViews):
    """What `UnlabeledViews` is to files: how images become views, and the shards that they come from.

    An image cannot be asked for by its number, only read in passing: `ShardBatches` does. `in_order` is for validation:
    only whole shards are shuffled, and the images of a step are the same however many processes and workers make them.
    To that end each worker reads all shards in use and takes its part of them.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        size: int,
        distortions: Sequence[DistortionClass] = KADIS,
        on_device: bool = False,
        long_side: int = 0,
        in_order: bool = False,
    ) -> None:
        super().__init__([], size, distortions, on_device, long_side)
        self.shards, self.in_order = shards, in_order

    def decode(self, name: str, encoded: bytes) -> Tensor:
        return self.prepared(decode_image(io.BytesIO(encoded), name), name)

    def order(self, epoch_size: int, batch_size: int, images_per_class: int, seed: int) -> "ShardBatches":
        self.sample(1)
        return ShardBatches(self, epoch_size, batch_size, images_per_class, seed)

    def listing(self) -> tuple[list, int, list[int]]:
        names = [[os.path.basename(shard.path), shard.images] for shard in self.shards]  # as in JSON
        return names, sum(shard.images for shard in self.shards), [shard.size for shard in self.shards]

    def sample(self, count: int) -> UnlabeledViews:
        """`count` usable images, or as many as there are, from as many shards as possible, held in memory.

        Raises ValueError where there is none in the first `count` shards.
        """
        images: dict[str, Tensor] = {}
        rounds = zip_longest(*(read_shard(shard.path) for shard in self.shards[:count]))
        for name, encoded in filter(None, chain.from_iterable(rounds)):
            with suppress(UnreadableImage):
                images[name] = self.decode(name, encoded)
            if len(images) == count:
                break
        if not images:
            raise ValueError(f"{self.shards[0].path}: must have a usable image, got none")
        held = UnlabeledViews(list(images), self.size, self.distortions)
        held.kept.update(enumerate(images.values()))
        return held


class ShardBatches(IterableDataset):
    """A process's batches of images from shards, in parts of at most `part_size` samples of `UnlabeledViews`.

    The shards of an epoch, in a random order, are cut into one range of images for each worker of each process, just
    as long as its parts need: every image comes once, but for a rest smaller than a batch. A worker reads its range
    through a shuffling buffer and makes every n-th part, n being the number of workers, which is the order in which a
    DataLoader (of `batch_size` None, and workers started anew each epoch) asks for them.

    `epoch`, `start`, `epoch_size` (0: each image once) and `batch_size` as in `UnlabeledBatches`, which
    draws classes in the same way: those of a step depend on the seed and the epoch alone, the images also on the
    numbers of processes and workers. Starting amid an epoch, a worker reads what it passes over, but decodes nothing.
    """

    def __init__(
        self,
        dataset: ShardViews,
        epoch_size: int,
        batch_size: int,
        images_per_class: int,
        seed: int,
        part_size: int = PART,
    ) -> None:
        self.dataset, self.batch_size, self.images_per_class, self.seed = dataset, batch_size, images_per_class, seed
        self.weights = np.array([distortion.weight for distortion in dataset.distortions])
        self.process, self.processes = distributed.rank(), distributed.size()
        places = range(batch_size)[own_part(batch_size)]  # in a batch of all processes
        self.parts = [places[i : i + part_size] for i in range(0, len(places), part_size)]
        self.images = sum(shard.images for shard in dataset.shards)
        self.steps = max(1, (epoch_size or self.images) // batch_size)
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[tuple[Tensor, Draw, list[str]]]]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        first = self.start * len(self.parts)
        worker = (worker + first) % workers  # the loader's first worker is the one whose part is asked for first
        numbers = self.part_numbers(worker, workers)
        images = read_pieces(self.pieces(worker, workers))
        if not self.dataset.in_order:
            images = self.shuffled(images, worker, workers)
        items = (list(islice(images, len(self.parts[number % len(self.parts)]))) for number in numbers)
        for number, (item, others) in zip(numbers, with_neighbors(items), strict=True):
            if number >= first:
                yield self.samples(number, item, others)

    def part_numbers(self, worker: int, workers: int) -> range:
        """The parts that a worker makes, counted through the epoch."""
        return range(worker, self.steps * len(self.parts), workers)

    def pieces(self, worker: int, workers: int) -> list[Piece]:
        """What a worker reads in an epoch, in turn."""
        if self.dataset.in_order:
            ranges = []
            for number in self.part_numbers(worker, workers):
                step, part = divmod(number, len(self.parts))
                first = step * self.batch_size + self.parts[part].start
                ranges.append(range(first, first + len(self.parts[part])))
        else:
            sizes = np.resize([len(places) for places in self.parts], self.steps * len(self.parts))
            before = sum(int(sizes[other::workers].sum()) for other in range(worker))  # what other workers read
            first = self.process * int(sizes.sum()) + before
            ranges = [range(first, first + int(sizes[worker::workers].sum()))]
        rng = np.random.default_rng((self.seed, 3, self.epoch))  # 3: the shards' order
        rounds = math.ceil(self.steps * self.batch_size / self.images)
        shards = self.dataset.shards
        return plan([shards[i] for _ in range(rounds) for i in rng.permutation(len(shards))], ranges)

    def shuffled(self, images: Iterator[Encoded], worker: int, workers: int) -> Iterator[Encoded]:
        """Through a buffer, which webdataset begins to take from when it is not yet full: an epoch begins at once."""
        import webdataset

        mean_size = sum(shard.size for shard in self.dataset.shards) // self.images
        size = max(1, min(BUFFER, BUFFER_BYTES // max(1, mean_size)))
        rng = random.Random(f"{self.seed} {self.epoch} {self.process} {self.processes} {worker} {workers}")
        return webdataset.shuffle(size, rng=rng)(images)

    def samples(self, number: int, item: list[Encoded], others: list[Encoded]) -> list[tuple[Tensor, Draw, list[str]]]:
        """A part's samples. The next image that can be read stands in for one that cannot, also one of `others`."""
        step, part = divmod(number, len(self.parts))
        rng = np.random.default_rng((self.seed, 0, self.epoch, step))  # 0: the unlabeled stream
        classes = draw_classes(self.batch_size, self.images_per_class, self.weights, rng)
        seeds = rng.integers(2**62, size=self.batch_size)
        names, encoded = zip(*item, *others, strict=True)

        def read(index: int) -> Tensor:
            return self.dataset.decode(names[index], encoded[index])

        samples = []
        for i, place in enumerate(self.parts[part]):
            index, image, skipped = first_readable(read, names, i)
            draw = Draw(index, int(seeds[place]), int(classes[place]))
            samples.append((self.dataset.make(image, draw), draw, skipped))
        return samples
