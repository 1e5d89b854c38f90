"""Figure 4: images in the order of the score that a model of finetune.py predicts.

They are those of a folder, or with --data those of a labeled set's test part, with their true scores.
"""

import argparse
from collections.abc import Callable, Sequence
from math import ceil
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from ssl_iqa.data import sets
from ssl_iqa.data.datasets import name_skipped
from ssl_iqa.data.images import UnreadableImage, list_images, read_image
from ssl_iqa.data.seen import known_parts
from ssl_iqa.distortions.compression import to_pil
from ssl_iqa.engine import console
from ssl_iqa.engine.device import use_device
from ssl_iqa.engine.settings import whole
from ssl_iqa.scoring import pages, quality
from ssl_iqa.scoring.pages import HEAD, MARGIN, new_page, put_cell

CELL, GAP, CAPTION, CAPTION_SIZE = (280, 210), 16, 34, 17  # pixels: a cell's most, between cells, below them


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="the model.pt of a finetune.py run")
    parser.add_argument("folder", type=Path, nargs="?", metavar="FOLDER", help="a folder of images")
    parser.add_argument("--data", metavar="SPEC", help="instead: the test part of MODEL's labeled set")
    parser.add_argument("--columns", type=whole(1, 1000), default=4, help="images side by side (4)")
    text = "images shown, evenly spaced along the ranking (12)"
    parser.add_argument("--count", type=whole(1, 10**6), default=12, help=text)
    parser.add_argument("--quality", type=whole(1, 100), default=90, help="of a .jpg or .webp, 1 to 100 (90)")


def run(args: argparse.Namespace) -> tuple[bytes, str]:
    if (args.folder is None) == (args.data is None):
        raise ValueError("either FOLDER or --data is required")
    model = quality.load(args.model)
    use_device("cpu", workers=0)
    if args.data is None:
        ranked, total = rank_folder(model, args.folder, args.count)
        title = f"{args.folder.name or args.folder} by {args.model}"
    else:
        ranked, total = rank_test_part(model, args.data, args.count)
        title = f"Test part of {args.data} by {args.model}"
    return pages.encode(draw(ranked, total, args.columns, title), args.out.suffix.lower(), args.quality)


class Scored(NamedTuple):
    """An image, bytes [3, H, W], with its predicted and, where it is known, its true score."""

    image: Tensor
    predicted: float
    true: float | None


def rank_folder(model: quality.QualityModel, folder: Path, count: int) -> tuple[list[Scored], int]:
    """`count` of a folder's images, evenly spaced along their ranking, best first, and how many were ranked.

    Files that cannot be read are named and left out. Raises ValueError where none can be.
    """
    paths = list_images(folder)
    predicted = predict(model, range(len(paths)), paths, lambda i: read_image(paths[i]))
    if not predicted:
        raise ValueError(f"{folder}: none of its {len(paths)} images can be read")
    return [Scored(read_image(paths[i]), predicted[i], None) for i in spaced(predicted, count)], len(predicted)


def rank_test_part(model: quality.QualityModel, spec: str, count: int) -> tuple[list[Scored], int]:
    """The same for the images of a labeled set that the model was not trained with.

    Raises ValueError where the model was not trained with any of this set.
    """
    labeled = sets.load_labeled(spec, model.long_side)
    known = known_parts(labeled, model.encoder.seen or ())
    if not known:
        raise ValueError(f"{spec}: the model has seen nothing of it, so that it has no test part; give the folder")
    test = [i for i, name in enumerate(labeled.references) if known.get(name, "test") == "test"]
    predicted = predict(model, test, labeled.paths, labeled.read)
    if not predicted:
        raise ValueError(f"{spec}: none of the test part's {len(test)} images can be read")
    places = spaced(predicted, count)
    return [Scored(labeled.read(i), predicted[i], labeled.scores[i]) for i in places], len(predicted)


def predict(
    model: quality.QualityModel, indices: Sequence[int], paths: Sequence[str], read: Callable[[int], Tensor]
) -> dict[int, float]:
    """The predicted scores of the images that can be read, by index; the others are named."""
    predicted: dict[int, float] = {}
    for i in console.bar(indices, "images"):
        try:
            crops = quality.crops_of(model, read(i))
        except (OSError, UnreadableImage):
            continue
        predicted[i] = quality.look(model, [crops])[0].y_hat
    name_skipped((paths[i] for i in indices if i not in predicted), set())
    return predicted


def spaced(predicted: dict[int, float], count: int) -> list[int]:
    """`count` of the images, evenly spaced from the best to the worst, both among them; all where there are no more."""
    order = sorted(predicted, key=lambda i: -predicted[i])  # of equal ones the first comes first
    places = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)
    return [order[place] for place in places]


def draw(ranked: Sequence[Scored], total: int, columns: int, title: str) -> Image.Image:
    """The images row by row, the best first, whole: larger ones than a cell are reduced, none is enlarged."""
    cells = []
    for image, *_ in ranked:
        cell = to_pil(image)
        cell.thumbnail(CELL, Image.Resampling.LANCZOS)
        cells.append(cell)
    width, height = (max(sizes) for sizes in zip(*(cell.size for cell in cells), strict=True))
    columns = min(columns, len(cells))
    part = f"{len(ranked)} of {total}, evenly spaced along the ranking" if len(ranked) < total else f"all {total}"
    score = "predicted score" if ranked[0].true is None else "predicted (true) score"
    note = f"Best first, {part}. Below each: {score}, 1 (worst) to 10 (best)."
    step, row = width + GAP, height + CAPTION
    page = new_page(columns * step - GAP, ceil(len(cells) / columns) * row, title, note)
    for i, (cell, (_, y_hat, y)) in enumerate(zip(cells, ranked, strict=True)):
        left = MARGIN + i % columns * step + (width - cell.width) // 2
        top = HEAD + i // columns * row + (height - cell.height) // 2
        true = "" if y is None else f"({y:.2f})"
        put_cell(page, left, top, cell, f"{quality.clipped(y_hat):.2f}", true, CAPTION_SIZE)
    return page
