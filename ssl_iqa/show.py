"""A page of scored pictures to look at, in any browser and without a network.

    ssl-iqa report runs/finetune/model.pt DIR/photographs -o report.html

Thumbnails with their scores and intervals, to be sorted and filtered, and a histogram; where the model names
distortions (`python -m ssl_iqa.naming`), the likeliest one. Files that cannot be read are named on the page and here;
the exit code is then 1.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from torch import Tensor

from ssl_iqa import cli, explain, quality, runs, score
from ssl_iqa.album import Entry, album, thumbnail


def entries_of(
    model: quality.QualityModel, paths: Iterable[str], margin: float | None, failed: Callable[[Exception], object]
) -> Iterator[tuple[float, Entry]]:
    """What the page shows of file after file, beside y_hat before it is clipped; `failed` gets why one is not."""

    def keep(picture: Tensor) -> tuple[bytes, tuple[int, int]]:
        return thumbnail(picture), (picture.shape[2], picture.shape[1])

    for path, seen in quality.score_files(model, paths, runs.cpu_cores(), keep):
        if isinstance(seen, Exception):
            failed(seen)
            continue
        distortion = level = probability = None
        if model.naming:
            distortion, level, probability = explain.name_distortion(model.naming, seen.z)
        low, high = score.interval(seen.score, margin)
        yield seen.y_hat, Entry(path, seen.score, low, high, distortion, level or None, probability, *seen.kept)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = cli.Parser(
        prog="ssl-iqa report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", metavar="MODEL", help="a model.pt of finetune.py, or a .safetensors of it")
    parser.add_argument("paths", nargs="+", metavar="PATH", help="folders (all pictures below them), pictures")
    parser.add_argument("-o", "--out", type=Path, default=Path("report.html"), help="the page (report.html)")
    score.add_flags(parser)
    args = parser.parse_args(arguments)
    with runs.clear_errors():
        score.check_flags(args)
        if args.out.suffix not in (".html", ".htm"):
            raise ValueError(f"--out {args.out}: a name that ends in .html is wanted")
        if not args.out.absolute().parent.is_dir():
            raise FileNotFoundError(f"--out {args.out}: there is no folder {args.out.parent}")
    return args


def main(arguments: list[str] | None = None) -> None:
    args = parse_arguments(arguments)
    failures: list[Exception] = []
    with runs.clear_errors():
        try:
            model = score.prepare(args)
            paths = score.pictures_in(args.paths, failures)
            margin = model.margin(args.coverage) if len(model.residuals) else None
            found = entries_of(model, runs.bar(paths, "pictures"), margin, failures.append)
            # the page keeps the order of equal scores, such as those at the scale's ends
            entries = [entry for _, entry in sorted(found, key=lambda pair: -pair[0])]
        except KeyboardInterrupt:
            sys.exit(130)
        failed = [str(failure) for failure in failures]
        page = album(entries, ", ".join(args.paths), model.card(), failed, args.coverage)
        runs.write_atomic(args.out, lambda file: file.write(page))
    print(f"{args.out}: {len(entries)} pictures, {len(page) / 1e6:.1f} MB")
    score.name_failures(failures)


if __name__ == "__main__":
    main()
