"""A page of scored images to look at, in any browser and without a network.

    ssl-iqa report DIR/photographs -o report.html

Thumbnails with their scores and intervals, to be sorted and filtered, and a histogram; where the model names
distortions (`ssl-iqa learn-names`), the likeliest one. Files that cannot be read are named on the page and here; the
exit code is then 1.
"""

import argparse
import base64
import os
import re
from collections.abc import Sequence
from html import escape
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from ssl_iqa.distortions.compression import to_pil
from ssl_iqa.engine import console, run_folder
from ssl_iqa.scoring import explain, quality, score

TEMPLATE = Path(__file__).with_name("page.html")
SIDE, QUALITY = 320, 80  # of a thumbnail: pixels at most, and WebP's quality


def add_arguments(parser: argparse.ArgumentParser) -> None:
    score.add_model_and_images(parser)
    parser.add_argument("-o", "--out", type=Path, default=Path("report.html"), help="the page (report.html)")


def run(args: argparse.Namespace) -> None:
    with score.say_failures() as failures:
        if args.out.suffix not in (".html", ".htm"):
            raise ValueError(f"--out must end in .html, got {args.out}")
        run_folder.check_out(args.out)
        model = score.prepare(args)
        paths = console.bar(score.images_in(args.paths, failures), "images")
        scored = score.score_all(model, paths, args.coverage, failures, kept_of)
        entries = [row | seen.kept | named(model, seen) for seen, row in scored]
        page = album(entries, ", ".join(args.paths), model.card(), [*map(str, failures)], args.coverage)
        run_folder.write_atomic(args.out, lambda file: file.write(page))
        print(f"{args.out}: {len(entries)} images, {len(page) / 1e6:.1f} MB")


def kept_of(image: Tensor) -> score.Row:
    return {"thumbnail": thumbnail(image), "size": (image.shape[2], image.shape[1])}


def thumbnail(image: Tensor) -> bytes:
    """An image, uint8 [3, H, W], as a small WebP file: reduced to SIDE pixels at most, never enlarged."""
    small = to_pil(image)
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    encoded = BytesIO()
    small.save(encoded, "WEBP", quality=QUALITY, method=2)  # a tenth larger than by the default, in 2/3 of the time
    return encoded.getvalue()


def named(model: quality.QualityModel, seen: quality.Seen) -> score.Row:
    return explain.name_distortion(model.naming, seen.z)._asdict() if model.naming else {}


def album(entries: Sequence[score.Row], title: str, card: str, failed: Sequence[str], coverage: float) -> bytes:
    """The page as a file of HTML in UTF-8, the best image first.

    An entry is a row of `score`, with `explain.Named` where the model names distortions, a `thumbnail` and the `size`
    of the image, width and height. `card` is the model's (`QualityModel.card`), `failed` says in a line each what could
    not be read, `coverage` is the intervals', 0.9. Any path and any text may hold anything: it is shown and never run.
    """
    entries = score.best_first(entries)
    scores = [entry["score"] for entry in entries]
    shared = os.path.commonprefix([entry["picture"] for entry in entries])
    parent = shared.rfind(os.sep) + 1  # where the part of a path begins that tells it from others
    parts = {
        "title": shown(title),
        "summary": _summary(scores),
        "card": "\n".join(shown(line) for line in card.splitlines()),
        "coverage": f"{100 * coverage:g}",
        "failed": _failures(failed),
    }
    template = TEMPLATE.read_text(encoding="utf-8")
    text = re.sub(r"<!-- (\w+) -->", lambda match: parts.get(match[1], match[0]), template)
    head, tail = text.encode().split(b"<!-- images -->\n")
    # bytes, since one rare letter would make a string of it all four times as large
    return b"".join([head, *(_card(entry, entry["picture"][parent:]).encode() for entry in entries), tail])


def shown(text: str) -> str:
    """A text for HTML, <, >, & and quotes escaped."""
    return escape(score.printable(text))


def _summary(scores: Sequence[float]) -> str:
    """Of scores from best to worst."""
    if not scores:
        return "No image could be scored."
    spread = f"scores from {scores[-1]:.2f} to {scores[0]:.2f}, median {np.median(scores):.2f}"
    return f"Images: {len(scores):,}; {spread}. 1 is the worst, 10 the best."


def _failures(failed: Sequence[str]) -> str:
    if not failed:
        return ""
    items = "\n".join(f"<li>{shown(message)}</li>" for message in failed)
    return f'<details id="failed"><summary>Could not be read: {len(failed):,}</summary>\n<ul>\n{items}\n</ul></details>'


def _percent(score: float) -> str:
    """The place of a score on the scale from 1 to 10."""
    return f"{100 * (quality.clipped(score) - 1) / 9:.1f}%"


def _card(entry: score.Row, name: str) -> str:
    """An image's place in the page; the details are attributes, which the page's script shows on a click."""
    facts = {"path": shown(entry["picture"]), "size": "{} × {}".format(*entry["size"])}
    details = ("score", "low", "high", "distortion", "level", "probability")
    facts |= {name: entry[name] for name in details if entry.get(name)}
    style = f"--score:{_percent(entry['score'])}"
    interval = kind = ""
    if "low" in facts:
        style += f";--low:{_percent(entry['low'])};--high:{_percent(entry['high'])}"
        interval = f" <small>{entry['low']:.2f} to {entry['high']:.2f}</small>"
    if "distortion" in facts:
        facts |= {"distortion": shown(entry["distortion"]), "probability": round(entry["probability"], 4)}
        level = f", level {entry['level']}" if "level" in facts else ""
        kind = f' <span class="kind">{facts["distortion"]}{level}</span>'
    attributes = " ".join(f'data-{key}="{value}"' for key, value in facts.items())
    source = f"data:image/webp;base64,{base64.b64encode(entry['thumbnail']).decode()}"
    return (
        f'<li {attributes} style="{style}"><button type="button">'
        f'<img alt="" loading="lazy" decoding="async" src="{source}">'
        f'<span class="numbers"><b>{entry["score"]:.2f}</b>{interval}</span><span class="track"></span>'
        f'<span class="name">{shown(name)}</span>{kind}</button></li>\n'
    )
