"""A page of scored pictures to look at, in any browser and without a network.

    ssl-iqa report runs/finetune/model.pt DIR/photographs -o report.html

Thumbnails with their scores and intervals, to be sorted and filtered, and a histogram; where the model names
distortions (`python -m ssl_iqa.scoring.naming`), the likeliest one. Files that cannot be read are named on the page and
here; the exit code is then 1.
"""

import argparse
import base64
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from ssl_iqa.distortions.compression import to_pil
from ssl_iqa.engine import console, run_folder
from ssl_iqa.engine.device import cpu_cores
from ssl_iqa.engine.settings import Parser
from ssl_iqa.scoring import explain, quality
from ssl_iqa.scoring.score import add_flags, check_flags, interval, name_failures, pictures_in, prepare

TEMPLATE = Path(__file__).with_name("page.html")
SIDE, QUALITY = 320, 80  # of a thumbnail: pixels at most, and WebP's quality
# Of the histogram: bars, half a point wide; percent left free at both ends; pixels: the highest bar, its lower end.
BINS, EDGE, HIGHEST, BASE = 18, 2, 104, 126


class Entry(NamedTuple):
    """What the page shows of a picture."""

    picture: str  # path
    score: float  # 1 (worst) to 10 (best)
    low: float | None  # both None where the model has no interval
    high: float | None
    distortion: str | None  # the likeliest type; None where the model names none
    level: int | None  # 1 to 5; None of a type without levels, as "pristine"
    probability: float | None
    thumbnail: bytes  # as `thumbnail` makes it
    size: tuple[int, int]  # of the whole picture, width and height


def thumbnail(picture: Tensor) -> bytes:
    """A picture, uint8 [3, H, W], as a small WebP file: reduced to SIDE pixels at most, never enlarged."""
    small = to_pil(picture)
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    encoded = BytesIO()
    small.save(encoded, "WEBP", quality=QUALITY, method=2)  # a tenth larger than by the default, in 2/3 of the time
    return encoded.getvalue()


def album(entries: Sequence[Entry], title: str, card: str, failed: Sequence[str], coverage: float) -> bytes:
    """The page as a file of HTML in UTF-8, the best picture first.

    `card` is the model's (`QualityModel.card`), `failed` says in a line each what could not be read, `coverage` is the
    intervals', 0.9. Any path and any text may hold anything: it is shown and never run.
    """
    entries = sorted((entry._replace(score=round(entry.score, 4)) for entry in entries), key=lambda entry: -entry.score)
    shared = os.path.commonprefix([entry.picture for entry in entries])
    parent = shared.rfind(os.sep) + 1  # where the part of a path begins that tells it from others
    parts = {
        "title": shown(title),
        "summary": _summary([entry.score for entry in entries]),
        "card": "\n".join(shown(line) for line in card.splitlines()),
        "histogram": _histogram([entry.score for entry in entries]),
        "coverage": f"{100 * coverage:g}",
        "failed": _failures(failed),
    }
    template = TEMPLATE.read_text(encoding="utf-8")
    text = re.sub(r"<!-- (\w+) -->", lambda found: parts.get(found[1], found[0]), template)
    head, tail = text.encode().split(b"<!-- pictures -->\n")
    # bytes, since one rare letter would make a string of it all four times as large
    return b"".join([head, *(_card(entry, entry.picture[parent:]).encode() for entry in entries), tail])


def shown(text: str) -> str:
    r"""A text for HTML, <, >, & and quotes escaped; what cannot be printed as \n, \u202e or, of no UTF-8, \xe9."""
    return escape("".join(c if c.isprintable() else _code(c) for c in text))


def _code(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # how os.fsdecode keeps a byte that is no UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def _summary(scores: Sequence[float]) -> str:
    if not scores:
        return "No picture could be scored."
    several = f"s from {scores[-1]:.2f} to {scores[0]:.2f}, median {np.median(scores):.2f}"
    one = f" {scores[0]:.2f}"
    return f"{_count(len(scores), 'picture')}, score{several if len(scores) > 1 else one}. 1 is the worst, 10 the best."


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'s' if number != 1 else ''}"


def _failures(failed: Sequence[str]) -> str:
    if not failed:
        return ""
    items = "\n".join(f"<li>{shown(message)}</li>" for message in failed)
    summary = f"{_count(len(failed), 'file')} could not be read"
    return f'<details id="failed"><summary>{summary}</summary>\n<ul>\n{items}\n</ul></details>'


def _histogram(scores: Sequence[float]) -> str:
    """A link a bar: from where to where it goes, how many pictures it has; beyond 1 to 10 counts as at the end."""
    counts, edges = np.histogram(np.clip(scores, 1, 10), bins=BINS, range=(1, 10))
    width = (100 - 2 * EDGE) / BINS
    bars = [
        _bar(*edges[i : i + 2], count, EDGE + i * width, width, HIGHEST * count / counts.max())
        for i, count in enumerate(counts)
        if count
    ]
    marks = [f'<text x="{EDGE + 2 * width * i:.2f}%" y="{BASE + 20}">{i + 1}</text>' for i in range(10)]
    axis = f'<line x1="{EDGE}%" x2="{100 - EDGE}%" y1="{BASE}.5" y2="{BASE}.5"/>'
    head = '<svg role="group" aria-label="How many pictures have which score">'
    return "\n".join([head, *bars, axis, *marks, "</svg>"])


def _bar(low: float, high: float, count: int, left: float, width: float, height: float) -> str:
    place = f'x="{left + 0.2:.2f}%" width="{width - 0.4:.2f}%"'
    height = max(height, 2)
    column = f'{place} y="{BASE - height:.1f}" height="{height:.1f}" rx="2"'
    label = f"{_count(count, 'picture')}, score {low:g} to {high:g}"
    return (
        f'<a href="#from={low:g}&amp;to={high:g}" data-from="{low:g}" data-to="{high:g}" data-count="{count}"'
        f' aria-label="{label}" style="--score:{_percent((low + high) / 2)}"><title>{label}</title>'
        f'<rect class="all" {column}/><rect class="part" {column}/>'
        f'<text class="number" x="{left + width / 2:.2f}%" y="{BASE - height - 5:.1f}">{count}</text>'
        f'<rect class="click" {place} y="0" height="{BASE}"/></a>'
    )


def _percent(score: float) -> str:
    """Where a score is on the scale from 1 to 10."""
    return f"{100 * (min(max(score, 1), 10) - 1) / 9:.1f}%"


def _card(entry: Entry, name: str) -> str:
    """A picture's place in the page; the details are attributes, which the page's script shows on a click."""
    facts = {"path": shown(entry.picture), "score": entry.score, "size": f"{entry.size[0]} × {entry.size[1]}"}
    style = f"--score:{_percent(entry.score)}"
    interval = kind = ""
    if entry.low is not None:
        facts |= {"low": round(entry.low, 4), "high": round(entry.high, 4)}
        style += f";--low:{_percent(entry.low)};--high:{_percent(entry.high)}"
        interval = f" <small>{entry.low:.2f} to {entry.high:.2f}</small>"
    if entry.distortion is not None:
        facts |= {"distortion": shown(entry.distortion), "probability": round(entry.probability, 4)}
        facts |= {} if entry.level is None else {"level": entry.level}
        level = "" if entry.level is None else f", level {entry.level}"
        kind = f' <span class="kind">{shown(entry.distortion)}{level}</span>'
    attributes = " ".join(f'data-{key}="{value}"' for key, value in facts.items())
    source = f"data:image/webp;base64,{base64.b64encode(entry.thumbnail).decode()}"
    return (
        f'<li {attributes} style="{style}"><button type="button">'
        f'<img alt="" loading="lazy" decoding="async" src="{source}">'
        f'<span class="numbers"><b>{entry.score:.2f}</b>{interval}</span><span class="track"></span>'
        f'<span class="name">{shown(name)}</span>{kind}</button></li>\n'
    )


def entries_of(
    model: quality.QualityModel, paths: Iterable[str], margin: float | None, failed: Callable[[Exception], object]
) -> Iterator[tuple[float, Entry]]:
    """What the page shows of file after file, beside y_hat before it is clipped; `failed` gets why one is not."""

    def keep(picture: Tensor) -> tuple[bytes, tuple[int, int]]:
        return thumbnail(picture), (picture.shape[2], picture.shape[1])

    for path, seen in quality.score_files(model, paths, cpu_cores(), keep):
        if isinstance(seen, Exception):
            failed(seen)
            continue
        distortion = level = probability = None
        if model.naming:
            distortion, level, probability = explain.name_distortion(model.naming, seen.z)
        low, high = interval(seen.score, margin)
        yield seen.y_hat, Entry(path, seen.score, low, high, distortion, level or None, probability, *seen.kept)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = Parser(prog="ssl-iqa report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", help="a model.pt of finetune.py, or a .safetensors of it")
    parser.add_argument("paths", nargs="+", metavar="PATH", help="folders (all pictures below them), pictures")
    parser.add_argument("-o", "--out", type=Path, default=Path("report.html"), help="the page (report.html)")
    add_flags(parser)
    args = parser.parse_args(arguments)
    with console.clear_errors():
        check_flags(args)
        if args.out.suffix not in (".html", ".htm"):
            raise ValueError(f"--out {args.out}: a name that ends in .html is wanted")
        if not args.out.absolute().parent.is_dir():
            raise FileNotFoundError(f"--out {args.out}: there is no folder {args.out.parent}")
    return args


def main(arguments: list[str] | None = None) -> None:
    args = parse_arguments(arguments)
    failures: list[Exception] = []
    with console.clear_errors():
        try:
            model = prepare(args)
            paths = pictures_in(args.paths, failures)
            margin = model.margin(args.coverage) if len(model.residuals) else None
            found = entries_of(model, console.bar(paths, "pictures"), margin, failures.append)
            # the page keeps the order of equal scores, such as those at the scale's ends
            entries = [entry for _, entry in sorted(found, key=lambda pair: -pair[0])]
        except KeyboardInterrupt:
            sys.exit(130)
        failed = [str(failure) for failure in failures]
        page = album(entries, ", ".join(args.paths), model.card(), failed, args.coverage)
        run_folder.write_atomic(args.out, lambda file: file.write(page))
    print(f"{args.out}: {len(entries)} pictures, {len(page) / 1e6:.1f} MB")
    name_failures(failures)


if __name__ == "__main__":
    main()
