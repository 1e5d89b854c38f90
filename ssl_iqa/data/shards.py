"""The unlabeled stream from tar shards, for more photographs than can be files on a disk.

Shards are read from their first byte on, through the webdataset library (the extra `shards`). Which pictures a process
and a worker of it read is settled beforehand, by numbers of pictures: each process begins with reading the tars'
headers to count them.
"""

import glob
import io
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
from ssl_iqa.data.images import PICTURE_SUFFIXES, UnreadableImage, decode_image, refuse_special_file
from ssl_iqa.data.samplers import Draw, draw_classes, part_of
from ssl_iqa.data.splits import split_pictures
from ssl_iqa.distortions import KADIS, DistortionClass
from ssl_iqa.engine import console
from ssl_iqa.engine.workers import leave_signals_to_the_loop

# Encoded pictures that a worker holds to take the next one at random from: about as many as a usual shard has, so that
# its neighbors there, which may be alike, are apart. Bounded in bytes since every worker of a machine has its own.
BUFFER = 1000
BUFFER_BYTES = 2**28

Picture = tuple[str, bytes]  # "shard.tar/member", and the file's content


class Shard(NamedTuple):
    """A tar, how many pictures it holds, and their bytes together."""

    path: str
    pictures: int
    size: int


class Piece(NamedTuple):
    """Pictures first .. stop - 1 of a shard."""

    path: str
    first: int
    stop: int


def list_shards(spec: str, workers: int = 0) -> list[Shard]:
    """The shards that a spec names, sorted by path, their pictures counted by `workers` processes.

    Raises FileNotFoundError for a file that is missing, ValueError for one that is no whole tar or has no pictures,
    for an address in place of a file, and where webdataset is not installed.
    """
    try:
        from webdataset.shardlists import expand_urls
    except ImportError as error:
        raise ValueError(f"{spec}: shards need the webdataset library: pip install 'ssl_iqa[shards]'") from error
    paths = []
    for pattern in filter(None, expand_urls(f"{{{spec},}}")):  # in braces, so that a list with commas expands, too
        if re.match(r"pipe:|[\w.+-]+://", pattern):
            raise ValueError(f"{pattern}: shards must be files, since their pictures are counted first; mount them")
        pattern = os.path.expanduser(pattern)
        found = [pattern] if os.path.exists(pattern) else glob.glob(pattern)
        if not found:
            raise FileNotFoundError(f"{pattern}: no such file; a tar of pictures is wanted")
        paths += found
    paths = sorted(set(paths))
    if not workers:
        return list(map(count_pictures, console.bar(paths, "counting images")))
    # not threads: parsing headers is Python's work
    with ProcessPoolExecutor(min(workers, len(paths)), initializer=leave_signals_to_the_loop) as pool:
        return list(console.bar(pool.map(count_pictures, paths), "counting images", len(paths)))


def count_pictures(path: str) -> Shard:
    """From the headers alone; what is between them is passed over."""
    sizes = []
    refuse_special_file(path)
    try:
        with tarfile.open(path, "r:") as archive:
            for member in iter(archive.next, None):
                if member.isreg() and is_picture(member.name):
                    sizes.append(member.size)
                archive.members.clear()  # it would keep them all
            archive.fileobj.seek(archive.offset)
            if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile takes any end for one
                raise tarfile.ReadError("it has no end")
    except tarfile.TarError as error:
        raise ValueError(f"{path}: not a tar, or a damaged one ({error})") from error
    if not sizes:
        raise ValueError(f"{path}: no pictures in this tar; wanted are files ending in {' '.join(PICTURE_SUFFIXES)}")
    return Shard(path, len(sizes), sum(sizes))


def is_picture(name: str) -> bool:
    """Whether a member of a tar is one, by its name, as `images.list_pictures` tells files: hidden ones are not."""
    is_hidden = any(part.startswith(".") for part in name.split("/") if part != ".")
    return name.lower().endswith(PICTURE_SUFFIXES) and not is_hidden


def split_shards(shards: Sequence[Shard], seed: int) -> tuple[list[Shard], list[Shard]]:
    """Divides whole shards by `seed` into train and val as `splits.split_pictures` does pictures, 80 % and 20 %.

    Raises ValueError for fewer than two.
    """
    if len(shards) < 2:
        raise ValueError(f"{shards[0].path}: the only shard; two or more are wanted, to train and to validate")
    by_path = {shard.path: shard for shard in shards}
    train, val = split_pictures(list(by_path), seed)
    return [by_path[path] for path in train], [by_path[path] for path in val]


def plan(shards: Sequence[Shard], ranges: Iterable[range]) -> list[Piece]:
    """What ranges of pictures are, counted through all shards one after the other: the pieces to be read in turn."""
    ends = np.cumsum([shard.pictures for shard in shards])
    pieces = []
    for pictures in filter(None, ranges):  # a worker may have none to read
        for i in range(int(np.searchsorted(ends, pictures.start, side="right")), len(shards)):
            begin = int(ends[i]) - shards[i].pictures
            if begin >= pictures.stop:
                break
            first, stop = max(pictures.start - begin, 0), min(pictures.stop - begin, shards[i].pictures)
            pieces.append(Piece(shards[i].path, first, stop))
    return pieces


def read_shard(path: str) -> Iterator[Picture]:
    """All pictures of a tar, in its order."""
    from webdataset.tariterators import tar_file_iterator

    with open(path, "rb") as file:
        for member in tar_file_iterator(file, skip_meta=None, select_files=is_picture):
            yield f"{path}/{member['fname']}", member["data"]


def read_pieces(pieces: Iterable[Piece]) -> Iterator[Picture]:
    """The pictures of pieces, one after the other. A shard is read on, not anew, for a piece that follows in it."""
    path, place, pictures = "", 0, iter(())
    for piece in pieces:
        if piece.path != path or piece.first < place:
            path, place, pictures = piece.path, 0, read_shard(piece.path)
        wanted = islice(pictures, piece.first - place, piece.stop - place)
        place = piece.first
        for picture in wanted:
            yield picture
            place += 1
        if place != piece.stop:
            raise ValueError(f"{path}: fewer pictures than were counted in it; shards must stay as they are")


def with_neighbors(items: Iterable[list[Picture]]) -> Iterator[tuple[list[Picture], list[Picture]]]:
    """(an item, the pictures of the one after it and of the one before it) for each item."""
    before: list[Picture] = []
    item: list[Picture] = []
    for after in chain(items, [[]]):
        if item:
            yield item, after + before
        before, item = item, after


class ShardViews(UnlabeledViews):
    """What `UnlabeledViews` is to files: how pictures become views, and the shards that they come from.

    A picture cannot be asked for by its number, only read in passing: `ShardBatches` does. `in_order` is for
    validation: no shuffling but of whole shards, and the pictures of a step are the same however many processes and
    workers make them. To that end each worker reads all shards in use and takes from them what is its.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        size: int,
        distortions: Sequence[DistortionClass] = KADIS,
        on_device: bool = False,
        in_order: bool = False,
        long_side: int = 0,
    ) -> None:
        super().__init__([], size, distortions, on_device, long_side)
        self.shards, self.in_order = shards, in_order

    def decode(self, name: str, encoded: bytes) -> Tensor:
        return self.prepared(decode_image(io.BytesIO(encoded), name), name)

    def some(self, count: int) -> UnlabeledViews:
        """`count` usable pictures, or as many as there are, from as many shards as can be, held in memory.

        Raises ValueError where there is none in the first `count` shards.
        """
        pictures: dict[str, Tensor] = {}
        rounds = zip_longest(*(read_shard(shard.path) for shard in self.shards[:count]))
        for name, encoded in filter(None, chain.from_iterable(rounds)):
            with suppress(UnreadableImage):
                pictures[name] = self.decode(name, encoded)
            if len(pictures) == count:
                break
        if not pictures:
            raise ValueError(f"{self.shards[0].path}: not one usable picture in it")
        held = UnlabeledViews(list(pictures), self.size, self.distortions)
        held.kept.update(enumerate(pictures.values()))
        return held


class ShardBatches(IterableDataset):
    """A process's batches of pictures from shards, in parts of at most `part_size` samples of `UnlabeledViews`.

    The shards of an epoch, in a random order, are cut into one range of pictures for each worker of each process, just
    as long as its parts need: every picture comes once, but for a rest smaller than a batch. A worker reads its range
    through a shuffling buffer and makes every n-th part, n being the number of workers, which is the order in which a
    DataLoader (of `batch_size` None, and workers started anew each epoch) asks for them.

    `epoch`, `start`, `epoch_size` (0: each picture once), `batch_size` and `process` as in `UnlabeledBatches`, which
    draws classes in the same way: those of a step depend on the seed and the epoch alone, the pictures also on the
    numbers of processes and workers. Starting amid an epoch, a worker reads what it passes over, but decodes nothing.
    """

    def __init__(
        self,
        dataset: ShardViews,
        epoch_size: int,
        batch_size: int,
        images_per_class: int,
        seed: int,
        process: int,
        processes: int,
        part_size: int,
    ) -> None:
        self.dataset, self.batch_size, self.images_per_class, self.seed = dataset, batch_size, images_per_class, seed
        self.weights = np.array([distortion.weight for distortion in dataset.distortions])
        self.process, self.processes = process, processes
        places = range(batch_size)[part_of(batch_size, process, processes)]  # in a global batch
        self.parts = [places[i : i + part_size] for i in range(0, len(places), part_size)]
        self.pictures = sum(shard.pictures for shard in dataset.shards)
        self.steps = max(1, (epoch_size or self.pictures) // batch_size)
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[tuple[Tensor, Draw, list[str]]]]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        first = self.start * len(self.parts)
        worker = (worker + first) % workers  # the loader's first worker is the one whose part is wanted first
        numbers = self.numbers(worker, workers)
        pictures = read_pieces(self.pieces(worker, workers))
        if not self.dataset.in_order:
            pictures = self.shuffled(pictures, worker, workers)
        items = (list(islice(pictures, len(self.parts[number % len(self.parts)]))) for number in numbers)
        for number, (item, others) in zip(numbers, with_neighbors(items), strict=True):
            if number >= first:
                yield self.samples(number, item, others)

    def numbers(self, worker: int, workers: int) -> range:
        """The parts that a worker makes, counted through the epoch."""
        return range(worker, self.steps * len(self.parts), workers)

    def pieces(self, worker: int, workers: int) -> list[Piece]:
        """What a worker reads in an epoch, in turn."""
        if self.dataset.in_order:
            ranges = []
            for number in self.numbers(worker, workers):
                step, part = divmod(number, len(self.parts))
                first = step * self.batch_size + self.parts[part].start
                ranges.append(range(first, first + len(self.parts[part])))
        else:
            sizes = np.resize([len(places) for places in self.parts], self.steps * len(self.parts))
            before = sum(int(sizes[other::workers].sum()) for other in range(worker))  # what other workers read
            first = self.process * int(sizes.sum()) + before
            ranges = [range(first, first + int(sizes[worker::workers].sum()))]
        rng = np.random.default_rng((self.seed, 3, self.epoch))  # 3: the shards' order
        rounds = -(-self.steps * self.batch_size // self.pictures)
        shards = self.dataset.shards
        return plan([shards[i] for _ in range(rounds) for i in rng.permutation(len(shards))], ranges)

    def shuffled(self, pictures: Iterator[Picture], worker: int, workers: int) -> Iterator[Picture]:
        """Through a buffer, which webdataset begins to take from when it is not yet full: an epoch begins at once."""
        import webdataset

        mean_size = sum(shard.size for shard in self.dataset.shards) // self.pictures
        size = max(1, min(BUFFER, BUFFER_BYTES // max(1, mean_size)))
        rng = random.Random(f"{self.seed} {self.epoch} {self.process} {self.processes} {worker} {workers}")
        return webdataset.shuffle(size, rng=rng)(pictures)

    def samples(self, number: int, item: list[Picture], others: list[Picture]) -> list[tuple[Tensor, Draw, list[str]]]:
        """A part's samples. The next picture that can be read stands in for one that cannot, also one of `others`."""
        step, part = divmod(number, len(self.parts))
        rng = np.random.default_rng((self.seed, 0, self.epoch, step))  # 0: the unlabeled stream
        classes = draw_classes(self.batch_size, self.images_per_class, self.weights, rng)
        seeds = rng.integers(2**62, size=self.batch_size)
        names, encoded = zip(*item, *others, strict=True)

        def read(index: int) -> Tensor:
            return self.dataset.decode(names[index], encoded[index])

        samples = []
        for i, place in enumerate(self.parts[part]):
            index, picture, skipped = first_readable(read, names, i)
            draw = Draw(index, int(seeds[place]), int(classes[place]))
            samples.append((self.dataset.make(picture, draw), draw, skipped))
        return samples
