"""Scores of images, 1 (worst) to 10 (best).

    ssl-iqa score photo.jpg FOLDER ..                       by the model in the package
    ssl-iqa score runs/finetune/model.pt photo.jpg ..       by another
    ssl-iqa score FOLDER --sort --csv > scores.csv
    find . -name '*.jpg' -print0 | ssl-iqa score -

Each score has the interval that holds the true score of 90 % of such images. Files that cannot be read are named at the
end; the exit code is then 1.
"""

import argparse
import codecs
import csv
import json
import math
import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from PIL import Image
from torch import Tensor

from ssl_iqa.data.images import no_images, passed_over, walk_images
from ssl_iqa.engine import console, model_file
from ssl_iqa.engine.device import cpu_cores, use_device
from ssl_iqa.engine.settings import whole
from ssl_iqa.evaluation import calibration
from ssl_iqa.scoring import quality

MEGAPIXELS = 200
STDIN = "-"
COLUMNS = ("picture", "score", "low", "high")  # the path, and the interval: None where the model does not know it
TYPE_WIDTH = 35  # of the longest distortion type, with a probability before and a level after it

Row = dict[str, Any]  # COLUMNS, y_hat, and what `explain` adds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_and_images(parser)
    add_formats(parser)


def add_model(parser: argparse.ArgumentParser) -> None:
    """What `card` and `severity` have: a model, unasked the one in the package."""
    text = "model.pt of finetune.py, or a .safetensors of it (the model in the package)"
    parser.add_argument("model", nargs="?", default=quality.PACKAGED, metavar="MODEL", help=text)


def add_model_and_images(parser: argparse.ArgumentParser) -> None:
    """What `explain` and `report` have as well."""
    text = "images, folders (all images below them), - for a list of paths on standard input; the first may be a model"
    parser.add_argument("paths", nargs="+", metavar="PATH", help=text)
    share = f"share of images whose true score is in their interval ({calibration.COVERAGE})"
    parser.add_argument("--coverage", type=float, default=calibration.COVERAGE, help=share)
    limit = f"larger images are refused ({MEGAPIXELS})"
    parser.add_argument("--max-megapixels", type=float, default=MEGAPIXELS, help=limit)
    size = "pixels that images are reduced to, 0: as they are (the size that the model knows)"
    parser.add_argument("--long-side", type=whole(0, 10**6), help=size)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="(auto)")


def add_formats(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sort", action="store_true", help="from best to worst")
    formats = parser.add_mutually_exclusive_group()
    for name, text in (("csv", "comma-separated values"), ("json", "a line of JSON an image")):
        formats.add_argument(f"--{name}", dest="format", action="store_const", const=name, default="table", help=text)


def run(args: argparse.Namespace) -> None:
    with say_failures() as failures:
        model = prepare(args)
        paths = with_bar(images_in(args.paths, failures), args)
        print_rows(COLUMNS, (row for _, row in score_all(model, paths, args.coverage, failures)), args)


@contextmanager
def say_failures() -> Iterator[list[Exception]]:
    """A list for what cannot be read, which is named at the end, with exit code 1.

    Bad input ends the program with its one line.
    """
    failures: list[Exception] = []
    with console.clear_errors():
        yield failures
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    if failures:
        print(f"{len(failures)} could not be read", file=sys.stderr)
        sys.exit(1)


def prepare(args: argparse.Namespace) -> quality.QualityModel:
    """The model, on the device; `args.model` is its file from then on, `args.paths` the images, and those over
    --max-megapixels are refused.

    Raises ValueError or FileNotFoundError for what is wrong with the arguments.
    """
    args.model, args.paths = model_and_images(args.paths)
    if not 0 < args.max_megapixels < math.inf:
        raise ValueError(f"--max-megapixels must be more than 0 and finite, got {args.max_megapixels:g}")
    if not 0 < args.coverage < 1:
        raise ValueError(f"--coverage must be more than 0 and less than 1, got {args.coverage:g}")
    for path in args.paths:
        if path != STDIN and not os.path.exists(path):
            raise FileNotFoundError(f"{path}: no such file or folder")
    Image.MAX_IMAGE_PIXELS = int(args.max_megapixels * 1e6 / 2)  # PIL refuses twice that
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # and warns of less
    return quality.load(args.model, args.long_side).to(use_device(args.device, workers=0))


def model_and_images(paths: list[str]) -> tuple[str, list[str]]:
    """The model is the first path, where its name is one of a model's file, else the one in the package."""
    model, *others = paths
    if not model.endswith(model_file.SUFFIXES):
        return str(quality.PACKAGED), paths
    if not others:
        raise ValueError(f"an image or a folder is required after the model {model}")
    return model, others


def images_in(paths: Iterable[str], failures: list[Exception]) -> list[str]:
    """All files, those in folders and on standard input with them; `failures` gets the errors of folders.

    Says which files of folders are passed over. Raises ValueError where there are no images.
    """
    given: list[str] = []
    for path in paths:
        given += listed() if path == STDIN else [path]
    if not given:
        raise ValueError("standard input must name an image, got nothing")
    passed: Counter[str] = Counter()
    images: list[str] = []
    for path in given:
        images += walk_images(path, failures.append, passed) if os.path.isdir(path) else [path]
    if not images and not failures:
        raise ValueError(f"{' '.join(given)}: {no_images(passed)}")
    if passed:
        print(passed_over(passed), file=sys.stderr)
    return images


def listed() -> list[str]:
    """The paths on standard input: a line each, or, where there is a zero byte, each ended by one."""
    # a stream in memory, which a program may have put there, has no bytes below
    stream = sys.stdin.buffer.read() if hasattr(sys.stdin, "buffer") else os.fsencode(sys.stdin.read())
    stream = stream.removeprefix(codecs.BOM_UTF8)
    paths = stream.split(b"\0") if b"\0" in stream else stream.splitlines()
    return [os.fsdecode(path) for path in paths if path]


def with_bar(paths: list[str], args: argparse.Namespace) -> Iterable[str]:
    # a bar beside lines that come on the same terminal would garble them
    return paths if sys.stdout.isatty() and not args.sort else console.bar(paths, "images")


def score_all(
    model: quality.QualityModel,
    paths: Iterable[str],
    coverage: float,
    failures: list[Exception],
    keep: Callable[[Tensor], Any] = lambda image: None,
) -> Iterator[tuple[quality.Seen, Row]]:
    """Scores file after file; `failures` gets why one has no score. For `keep` see `quality.score_files`."""
    margin = model.margin(coverage) if len(model.residuals) else None
    for path, seen in quality.score_files(model, paths, cpu_cores(), keep):
        if isinstance(seen, Exception):
            failures.append(seen)
            continue
        low = high = None
        if margin is not None:  # clipped as the score is
            low, high = (round(quality.clipped(end), 4) for end in (seen.score - margin, seen.score + margin))
        yield seen, {"picture": path, "score": round(seen.score, 4), "low": low, "high": high, "y_hat": seen.y_hat}


def print_rows(columns: Sequence[str], rows: Iterable[Row], args: argparse.Namespace) -> None:
    """A line an image."""
    # names of files are bytes: what is no UTF-8 goes out as it came; a stream in memory or a notebook takes any text
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="surrogateescape")
    if args.sort:
        rows = best_first(rows)
    if args.format == "csv":
        writer = csv.DictWriter(sys.stdout, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    elif args.format == "json":
        for row in rows:
            print(json.dumps({name: row[name] for name in columns}))
    else:
        print(table_head(columns))
        for row in rows:
            print(table_row(row))
    sys.stdout.flush()


def best_first(rows: Iterable[Row]) -> list[Row]:
    """By the predictions before they are clipped, which tell scores at the scale's ends apart."""
    return sorted(rows, key=lambda row: -row["y_hat"])


def table_head(columns: Sequence[str]) -> str:
    distortion = ["distortion".ljust(TYPE_WIDTH)] if "distortion" in columns else []
    return "  ".join(["score", "  low", " high", *distortion, "image"])


def table_row(row: Row) -> str:
    """Control characters in a name are escapes, so that an image has one line."""
    cells = ["    -" if row[name] is None else f"{row[name]:5.2f}" for name in ("score", "low", "high")]
    if "distortion" in row:
        cells.append(f"{row['probability']:4.0%} {row['distortion']} {row['level'] or ''}".ljust(TYPE_WIDTH))
    return "  ".join([*cells, printable(row["picture"])])


def printable(text: str) -> str:
    r"""What cannot be printed as \n, \u202e or, of a byte that is no UTF-8, \udce9."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
