"""Reading and decoding images from tar shards, beside the same images as files, both in a random order.

python -m benchmarks.shards
"""

import os
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from benchmarks.timing import MANY, SIZE, photographs, seconds
from ssl_iqa.data.datasets import UnlabeledViews
from ssl_iqa.data.demo import demo_sources
from ssl_iqa.data.shards import Members, ShardViews, list_shards
from ssl_iqa.engine import console
from ssl_iqa.engine.settings import Parser, whole

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


def main(arguments: list[str] | None = None) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--images", type=whole(TARS, MANY), default=2000, help="in the tars, and as files (2000)")
    parser.add_argument("--repeats", type=whole(1, MANY), default=3, help="of each measurement (3)")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder, console.clear_errors():
        paths, spec = write_images(Path(folder), args.images)
        shards, files = ShardViews(Members(list_shards(spec)), SIZE[0]), UnlabeledViews(paths, SIZE[0])
        size = sum(map(os.path.getsize, paths)) / len(paths)
        in_tar = sum(os.path.getsize(shard.path) for shard in shards.paths.shards) / len(paths)
        print(
            f"{len(paths)} JPEG images of {SIZE[0]}x{SIZE[1]}, {size:.0f} bytes each, {in_tar:.0f} in a tar; from the"
        )
        print(f"page cache, by one process, medians of {args.repeats}; a disk or a network may be slower")
        order = np.random.default_rng(0).permutation(len(paths)).tolist()
        works = {
            "shards: headers": lambda: list_shards(spec),
            "shards: read": lambda: [shards.encoded(i) for i in order],
            "shards: read, decode": lambda: [shards.decode(i) for i in order],
            "files: read": lambda: [Path(paths[i]).read_bytes() for i in order],
            "files: read, decode": lambda: [files.decode(i) for i in order],
        }
        for name, work in works.items():
            speed = len(paths) / seconds(work, args.repeats, torch.device("cpu"))
            print(f"{name:<22} {speed:9.0f} images/s {speed * size / 1e6:7.1f} MB/s", flush=True)


if __name__ == "__main__":
    main()
