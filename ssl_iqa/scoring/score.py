"""Scores for pictures, from the shell.

    python -m ssl_iqa.scoring.score runs/finetune/model.pt photo.jpg FOLDER ..      also installed as `ssl-iqa`
    python -m ssl_iqa.scoring.score runs/finetune/model.pt FOLDER --sort --csv > scores.csv
    find . -name '*.jpg' -print0 | python -m ssl_iqa.scoring.score runs/finetune/model.pt -
    python -m ssl_iqa.scoring.score runs/finetune/model.pt photo.jpg --explain why  what is wrong with it, and where
    python -m ssl_iqa.scoring.score runs/finetune/model.pt --card                   what the score means

A score is 1 (worst) to 10 (best), with the interval that holds the true score of 90 % of such pictures. Files that
cannot be read are named at the end; the exit code is then 1.
"""

import argparse
import codecs
import csv
import io
import json
import os
import shlex
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from ssl_iqa.data.images import UnreadableImage, in_utf8, no_images, passed_over, read_image, walk_images
from ssl_iqa.engine import console, run_folder
from ssl_iqa.engine.device import cpu_cores, use_device
from ssl_iqa.engine.settings import Parser, add_version
from ssl_iqa.evaluation import calibration
from ssl_iqa.scoring import explain, quality
from ssl_iqa.scoring.pages import encode

MEGAPIXELS = 200
STDIN = "-"
TYPE_WIDTH = 35  # of the longest distortion type, with a probability before and a level after it


class Scored(NamedTuple):
    """What is printed of a picture; low and high are None where the model does not know them."""

    picture: str  # path
    score: float
    low: float | None
    high: float | None


class Explained(NamedTuple):
    """The same with what `explain.name_distortion` says, and the file with the map of local quality."""

    picture: str
    score: float
    low: float | None
    high: float | None
    distortion: str
    level: int
    probability: float
    map: str


def find_pictures(paths: Iterable[str], failed: Callable[[OSError], object], passed: Counter[str]) -> Iterator[str]:
    """The files among `paths`, and the pictures in the folders among them; `failed` gets a folder's errors.

    `passed` counts the other files in these folders by suffix.
    """
    for path in paths:
        yield from walk_images(path, failed, passed) if os.path.isdir(path) else [path]


def listed(stream: bytes) -> list[str]:
    """The paths on standard input: a line each, or, where there is a zero byte, each ended by one.

    Lines may end as on Windows and begin with a byte-order mark; names that do so themselves need zero bytes.
    Raises ValueError for damaged UTF-16.
    """
    if stream.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" not in stream:
        try:
            lines = in_utf8(stream).split(b"\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"{STDIN}: the list on standard input must be whole UTF-16, got {error}") from error
        paths = [line.removesuffix(b"\r") for line in lines]
    else:
        paths = stream.split(b"\0")
    return [os.fsdecode(path) for path in paths if path]


def score_all(
    model: quality.QualityModel,
    paths: Iterable[str],
    margin: float | None,
    why: Path | None,
    failed: Callable[[Exception], object],
) -> Iterator[tuple[float, Scored | Explained]]:
    """Scores file after file, y_hat before it is clipped beside each; `failed` gets why one has none. Explanations are
    written to the folder `why`.
    """
    for path, seen in quality.score_files(model, paths, threads=cpu_cores()):
        if isinstance(seen, Exception):
            failed(seen)
            continue
        row = Scored(path, round(seen.score, 4), *interval(seen.score, margin))
        try:
            yield seen.y_hat, explain_one(model, row, seen, why) if why else row
        except run_folder.NotWritten:  # a full disk ends it all
            raise
        except (OSError, UnreadableImage) as error:  # gone since
            failed(error)


def interval(score: float, margin: float | None) -> tuple[float | None, float | None]:
    """score +- margin, clipped to the scale's ends as the score is."""
    if margin is None:
        return None, None
    return round(max(quality.LOW, score - margin), 4), round(min(quality.HIGH, score + margin), 4)


def explain_one(model: quality.QualityModel, row: Scored, seen: quality.Seen, why: Path) -> Explained:
    """Writes a picture's map, named after it, to a folder."""
    named = explain.name_distortion(model.naming, seen.z)
    picture = read_image(row.picture)
    within = "" if row.low is None else f" ({row.low:.2f} to {row.high:.2f})"
    drawn = explain.draw(picture, explain.local_scores(model, picture), f"{row.score:.2f}{within}", named.words())
    stem = os.fsdecode(os.fsencode(Path(row.picture).stem)[:200])  # a name has 255 bytes at most
    place = next(path for i in count(1) if not (path := why / f"{stem}{f'-{i}' * (i > 1)}.jpg").exists())
    run_folder.write_atomic(place, lambda file: file.write(encode(drawn, ".jpg", 90)[0]))
    return Explained(*row, named.distortion, named.level, round(named.probability, 4), str(place))


def table_row(row: Scored | Explained) -> str:
    """Control characters in a name are written as escapes, so that a picture has one line."""
    numbers = ["    -" if value is None else f"{value:5.2f}" for value in row[1:4]]
    if isinstance(row, Explained):
        numbers.append(f"{row.probability:4.0%} {row.distortion} {row.level or ''}".ljust(TYPE_WIDTH))
    name = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in row.picture)
    return "  ".join([*numbers, name]) + "\n"


def csv_row(row: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(row)
    return line.getvalue()


FORMATS: dict[str, tuple[Callable[[Any], str], Callable[[Any], str]]] = {
    # the first line, by the class of the rows, and a picture's
    "table": (
        lambda kind: "score    low   high  " + "distortion".ljust(TYPE_WIDTH + 2) * (kind is Explained) + "picture\n",
        table_row,
    ),
    "csv": (lambda kind: csv_row(kind._fields), csv_row),
    "json": (lambda kind: "", lambda row: json.dumps(row._asdict()) + "\n"),
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What `ssl-iqa report` has as well."""
    parser.add_argument(
        "--coverage",
        type=float,
        default=calibration.COVERAGE,
        help=f"share of pictures whose true score is in their interval ({calibration.COVERAGE})",
    )
    parser.add_argument(
        "--max-megapixels", type=float, default=MEGAPIXELS, help=f"larger pictures are refused ({MEGAPIXELS})"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="(auto)")


def check_flags(args: argparse.Namespace) -> None:
    """Raises ValueError or FileNotFoundError, naming what is wrong."""
    if not args.max_megapixels > 0:
        raise ValueError(f"--max-megapixels {args.max_megapixels:g}: more than 0 is wanted")
    if not 0 < args.coverage < 1:
        raise ValueError(f"--coverage {args.coverage:g}: more than 0 and less than 1 is wanted")
    for path in args.paths:
        if path != STDIN and not os.path.exists(path):
            raise FileNotFoundError(f"{path}: no such file or folder")


def prepare(args: argparse.Namespace) -> quality.QualityModel:
    """The model, on the device; larger pictures than asked for are refused from then on."""
    Image.MAX_IMAGE_PIXELS = int(args.max_megapixels * 1e6 / 2)  # PIL refuses twice that
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # and warns of less
    return quality.load(args.model).to(use_device(args.device, workers=0))


def pictures_in(given: Iterable[str], failures: list[Exception]) -> list[str]:
    """All files, with those on standard input for `-`; `failures` gets the folders' errors.

    Says what is passed over in the folders. Raises ValueError where there are no pictures.
    """
    # a stream in memory, which a program may have put there, has no bytes below
    stdin = getattr(sys.stdin, "buffer", None)
    names = []
    for path in given:
        names += listed(stdin.read() if stdin else os.fsencode(sys.stdin.read())) if path == STDIN else [path]
    passed: Counter[str] = Counter()
    paths = list(find_pictures(names, failures.append, passed))
    if not paths and not failures:
        raise ValueError(f"{' '.join(names)}: {no_images(passed)}")
    if passed:
        print(passed_over(passed), file=sys.stderr)
    return paths


def name_failures(failures: Sequence[Exception]) -> None:
    """Says what could not be read, and ends the program with exit code 1 then."""
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    if failures:
        print(f"{len(failures)} could not be read", file=sys.stderr)
        sys.exit(1)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = Parser(prog="ssl-iqa", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", help="a model.pt of finetune.py, or a .safetensors of it")
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="pictures, folders (all pictures below them), - for a list of paths"
    )
    add_version(parser)
    parser.add_argument("--card", action="store_true", help="what the model's score means, and nothing more")
    parser.add_argument("--sort", action="store_true", help="from best to worst")
    parser.add_argument(
        "--explain",
        type=Path,
        metavar="DIR",
        help="the likeliest distortion and its level, and into this new folder maps of where a picture is bad",
    )
    formats = parser.add_mutually_exclusive_group()
    for name, text in (("csv", "comma-separated values"), ("json", "a line of JSON a picture")):
        formats.add_argument(f"--{name}", dest="format", action="store_const", const=name, default="table", help=text)
    add_flags(parser)
    args = parser.parse_args(arguments)
    with console.clear_errors():
        if not args.paths and not args.card:
            raise ValueError("PATH: pictures or folders are wanted, or - for a list of paths on standard input")
        check_flags(args)
    return args


def prepare_explanations(folder: Path, model: quality.QualityModel, file: str) -> None:
    """Raises ValueError for a model that names no distortions, FileExistsError for a folder that holds something."""
    if model.naming is None:
        command = shlex.join(["python", "-m", "ssl_iqa.scoring.naming", file])
        raise ValueError(f"{file}: names no distortions yet; `{command}` teaches it that")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"--explain {folder}: is there already; a new or an empty folder is wanted")
    folder.mkdir(parents=True, exist_ok=True)


def print_scores(args: argparse.Namespace, model: quality.QualityModel) -> list[Exception]:
    """Returns why files and folders could not be read."""
    failures: list[Exception] = []
    paths = pictures_in(args.paths, failures)
    if args.explain:
        prepare_explanations(args.explain, model, args.model)
    margin = model.margin(args.coverage) if len(model.residuals) else None
    # a bar beside lines that come on the same terminal would garble them
    shown = paths if sys.stdout.isatty() and not args.sort else console.bar(paths, "pictures")
    scored = score_all(model, shown, margin, args.explain, failures.append)
    if args.sort:  # by what is not clipped yet, so that there is an order at the scale's ends
        scored = sorted(scored, key=lambda pair: -pair[0])
    head, line = FORMATS[args.format]
    sys.stdout.write(head(Explained if args.explain else Scored))
    for _, row in scored:
        sys.stdout.write(line(row))
    sys.stdout.flush()
    return failures


def main(arguments: list[str] | None = None) -> None:
    args = parse_arguments(arguments)
    # names of files are bytes: what is no UTF-8 goes out as it came; a stream in memory or a notebook takes any text
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="surrogateescape")
    with console.clear_errors():
        try:
            model = prepare(args)
            if args.card:
                print(model.card())
                return
            failures = print_scores(args, model)
        except KeyboardInterrupt:
            sys.exit(130)
        except BrokenPipeError:  # `| head` has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
    name_failures(failures)


if __name__ == "__main__":
    main()
