"""The unlabeled stream from tar shards, for more photographs than can be files on a disk.

A tar's headers say where its images begin. They are read once, by each process; then an image is read from its place,
whatever the order, and all else is as with files.
"""

import glob
import io
import os
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ssl_iqa.data.datasets import UnlabeledViews
from ssl_iqa.data.images import IMAGE_SUFFIXES, decode_image, refuse_special_file
from ssl_iqa.engine import console
from ssl_iqa.engine.workers import leave_signals_to_the_loop


class Shard(NamedTuple):
    """A tar and where its n images are in it."""

    path: str
    places: np.ndarray  # int64 [n, 2]: an image's first byte in the tar, and its bytes


def list_shards(spec: str, workers: int = 0) -> list[Shard]:
    """The shards that a spec names, sorted by path, their headers read by `workers` processes.

    Raises FileNotFoundError for a file that is missing, ValueError for one that is no whole tar or has no images, and
    where braceexpand is not installed.
    """
    try:
        from braceexpand import braceexpand
    except ImportError as error:
        raise ValueError(f"{spec}: shards need the braceexpand library: pip install 'ssl_iqa[shards]'") from error
    paths: set[str] = set()
    for pattern in filter(None, braceexpand(f"{{{spec},}}")):  # in braces, so that a list with commas expands, too
        pattern = os.path.expanduser(pattern)
        matches = [pattern] if os.path.exists(pattern) else glob.glob(pattern)
        if not matches:
            raise FileNotFoundError(f"{pattern}: no such file")
        paths.update(matches)
    ordered = sorted(paths)
    if not workers:
        return list(map(read_shard, console.bar(ordered, "finding images")))
    # not threads: parsing headers is Python's work
    with ProcessPoolExecutor(min(workers, len(ordered)), initializer=leave_signals_to_the_loop) as pool:
        return list(console.bar(pool.map(read_shard, ordered), "finding images", len(ordered)))


def read_shard(path: str) -> Shard:
    """From the headers alone."""
    places = [(member.offset_data, member.size) for member in members(path)]
    if not places:
        raise ValueError(f"{path}: no images in this tar, which are files ending in {' '.join(IMAGE_SUFFIXES)}")
    return Shard(path, np.array(places))


def members(path: str) -> Iterator[tarfile.TarInfo]:
    """The images of a tar: files by their suffix, as `images.list_images` tells them; hidden ones are none."""
    refuse_special_file(path)
    try:
        with tarfile.open(path, "r:") as archive:
            for member in iter(archive.next, None):
                is_hidden = any(part.startswith(".") for part in member.name.split("/") if part != ".")
                if member.isreg() and member.name.lower().endswith(IMAGE_SUFFIXES) and not is_hidden:
                    yield member
                archive.members.clear()  # it would keep them all
            archive.fileobj.seek(archive.offset)
            if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile takes any end for one
                raise tarfile.ReadError("it has no end")
    except tarfile.TarError as error:
        raise ValueError(f"{path}: must be a whole tar ({error})") from error


class Members(Sequence[str]):
    """The images of shards, one shard after the other, as "shard.tar/member".

    A name is looked up in its tar when it is asked for: 16 bytes an image are in memory, in arrays that workers share.
    """

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards, self.ends = shards, np.cumsum([len(shard.places) for shard in shards])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, index: int) -> str:
        path, first, _ = self.find(index)
        try:
            name = next(member.name for member in members(path) if member.offset_data == first)
        except (StopIteration, ValueError, OSError):  # the tar has changed since
            name = f"image {index}"
        return f"{path}/{name}"

    def find(self, index: int) -> tuple[str, int, int]:
        """An image's shard, its first byte there, and how many it has."""
        number = int(np.searchsorted(self.ends, index, side="right"))
        path, places = self.shards[number]
        return path, *places[index - self.ends[number]].tolist()  # counted from the shard's end


class ShardViews(UnlabeledViews):
    """`UnlabeledViews` of images in shards."""

    paths: Members

    def encoded(self, index: int) -> bytes:
        path, first, size = self.paths.find(index)
        with open(path, "rb") as file:
            file.seek(first)
            return file.read(size)

    def decode(self, index: int) -> Tensor:
        return decode_image(io.BytesIO(self.encoded(index)), self.paths.find(index)[0])

    def listing(self) -> tuple[list, int, list[int]]:
        shards = self.paths.shards
        names = [[os.path.basename(path), len(places)] for path, places in shards]  # as in JSON
        return names, len(self.paths), [int(places[:, 1].sum()) for _, places in shards]
