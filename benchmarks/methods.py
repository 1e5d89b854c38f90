"""Time and memory of Table 3's methods on a set of 1,162 images of 500x500, as LIVE In the Wild is.

    python -m benchmarks.methods biqi random

Each runs in a process of its own, with the cores that torch finds, from the images to predictions: codebooks, features
and regressor. `random` is LP of a ResNet-50 on whole images, whatever its encoder has learned.
"""

import os
import time
from argparse import RawDescriptionHelpFormatter
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

import finetune
from benchmarks.timing import MANY, peak_memory, photographs
from ssl_iqa.baselines import HANDMADE
from ssl_iqa.data.demo import demo_sources
from ssl_iqa.engine.settings import Parser, whole

SIZE = (500, 500)


def write_set(folder: Path, count: int) -> str:
    """The spec of a set of `count` images, demo photographs under ever new names, with scores of no meaning."""
    contents = [Path(path).read_bytes() for path in photographs(folder, count, demo_sources(), SIZE)]
    rows = ["image,score"]
    for i, content in enumerate(islice(cycle(contents), count)):
        (folder / f"image{i}.jpg").write_bytes(content)
        rows.append(f"image{i}.jpg,{i % 7}")
    (folder / "scores.csv").write_text("\n".join(rows))
    return f"csv:{folder / 'scores.csv'}"


def measured(name: str, spec: str, out: Path) -> tuple[float, float]:
    """Seconds that a method takes, and its peak memory in MiB."""
    flags = ["--preset", "paper", "--mode", "lp", "--encoders", name, "--data", spec, "--crops", "full", "--lr", "1e-3"]
    began = time.perf_counter()
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        finetune.main([*flags, "--workers", "0", "--out", str(out / name)])
    return time.perf_counter() - began, peak_memory(torch.device("cpu"))


def main(arguments: list[str] | None = None) -> None:
    parser = Parser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    names = [*HANDMADE, "random"]
    parser.add_argument("methods", nargs="*", metavar="METHOD", help=f"of {', '.join(names)} (all)")
    parser.add_argument("--images", type=whole(20, MANY), default=1162, help="of the set (1162)")
    args = parser.parse_args(arguments)
    if unknown := {*args.methods} - {*names}:
        parser.error(f"a method must be one of {', '.join(names)}, got {min(unknown)}")
    with TemporaryDirectory() as folder:
        spec = write_set(Path(folder), args.images)
        print(f"{args.images} images of {SIZE[0]}x{SIZE[1]}\n{'':<12} minutes   ms an image    MiB")
        for name in args.methods or names:
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                taken, memory = pool.submit(measured, name, spec, Path(folder)).result()
            print(f"{name:<12} {taken / 60:7.1f} {1000 * taken / args.images:13.0f} {memory:6.0f}", flush=True)


if __name__ == "__main__":
    main()
