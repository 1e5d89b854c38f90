"""Reading and decoding images from tar shards, beside the same images as files.

python -m benchmarks.shards
"""

import io
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.timing import SIZE, at_least, photographs, seconds
from ssl_iqa.data.demo import demo_sources
from ssl_iqa.data.images import decode_image, read_image
from ssl_iqa.data.shards import Shard, list_shards, read_shard
from ssl_iqa.engine import console
from ssl_iqa.engine.settings import Parser

TARS = 4


def write_images(folder: Path, count: int) -> tuple[list[str], str]:
    """`count` images, demo photographs under ever new names, twice: (the paths of files, the spec of tars)."""
    contents = [Path(path).read_bytes() for path in photographs(folder, count, demo_sources())]
    paths = [folder / f"image{i}.jpg" for i in range(count)]
    for i, path in enumerate(paths):
        path.write_bytes(contents[i % len(contents)])
    for number in range(TARS):
        with tarfile.open(folder / f"{number}.tar", "w", format=tarfile.GNU_FORMAT) as archive:  # the tar command's
            for path in paths[number * count // TARS : (number + 1) * count // TARS]:
                archive.add(path, path.name)
    return [str(path) for path in paths], f"{folder}/{{0..{TARS - 1}}}.tar"


def decode_shards(shards: Sequence[Shard]) -> None:
    for shard in shards:
        for name, encoded in read_shard(shard.path):
            decode_image(io.BytesIO(encoded), name)


def main(arguments: list[str] | None = None) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--images", type=at_least(TARS), default=2000, help="in the tars, and as files (2000)")
    parser.add_argument("--repeats", type=at_least(1), default=3, help="of each measurement (3)")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder, console.clear_errors():
        paths, spec = write_images(Path(folder), args.images)
        shards = list_shards(spec)
        size = sum(shard.size for shard in shards) / len(paths)
        in_tar = sum(os.path.getsize(shard.path) for shard in shards) / len(paths)
        print(
            f"{len(paths)} JPEG images of {SIZE[0]}x{SIZE[1]}, {size:.0f} bytes each, {in_tar:.0f} in a tar; from the"
        )
        print(f"page cache, by one process, medians of {args.repeats}; a disk or a network may be slower")
        works = {
            "shards: count": lambda: list_shards(spec),
            "shards: read": lambda: [sum(1 for _ in read_shard(shard.path)) for shard in shards],
            "shards: read, decode": lambda: decode_shards(shards),
            "files: read": lambda: [Path(path).read_bytes() for path in paths],
            "files: read, decode": lambda: [read_image(path) for path in paths],
        }
        for name, work in works.items():
            speed = len(paths) / seconds(work, args.repeats, torch.device("cpu"))
            print(f"{name:<22} {speed:9.0f} images/s {speed * size / 1e6:7.1f} MB/s", flush=True)


if __name__ == "__main__":
    main()
