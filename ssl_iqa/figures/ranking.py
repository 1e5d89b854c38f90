"""Figure 4: images in the order of the score that a model of finetune.py predicts.

They are a folder's, or with --data those of a labeled set that the model was not trained with, with true scores.
"""

import argparse
from collections.abc import Sequence
from math import ceil, isnan, nan
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from ssl_iqa.data import sets
from ssl_iqa.data.images import list_images
from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.data.seen import unseen
from ssl_iqa.distortions.compression import to_pil
from ssl_iqa.engine import run_folder
from ssl_iqa.engine.device import use_device
from ssl_iqa.engine.settings import whole
from ssl_iqa.figures import plots
from ssl_iqa.scoring import pages, quality
from ssl_iqa.scoring.pages import HEAD, MARGIN, put_cell

CELL, GAP, CAPTION, CAPTION_SIZE = (280, 210), 16, 34, 17  # pixels: a cell's most, between cells, below them

Scored = tuple[Tensor, float, float]
"""An image, bytes [3, H, W], its predicted score, and its true one: NaN where that is not known."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="the model.pt of a finetune.py run")
    parser.add_argument("folder", type=Path, nargs="?", metavar="FOLDER", help="a folder of images")
    parser.add_argument("--data", metavar="SPEC", help="instead: a labeled set, but for what MODEL was trained with")
    parser.add_argument("--columns", type=whole(1, 1000), default=4, help="images side by side (4)")
    text = "images shown, evenly spaced along the ranking (12)"
    parser.add_argument("--count", type=whole(1, 10**6), default=12, help=text)


def run(args: argparse.Namespace) -> Image.Image:
    if (args.folder is None) == (args.data is None):
        raise ValueError("either FOLDER or --data is required")
    model = quality.load(args.model)
    use_device("cpu", workers=0)
    if args.data is None:
        paths = list_images(args.folder)
        images = LabeledSet(str(args.folder), paths, [nan] * len(paths), (1, 10), references=paths)
        indices = list(range(len(paths)))
    else:
        images = sets.load_labeled(args.data, model.long_side)
        indices = unseen(images, model.encoder.seen or ())
    run_folder.refuse_input(args.out, images.paths)
    ranked, total = rank(model, images, indices, args.count)
    return draw(ranked, total, args.columns, f"{images.name} by {args.model}")


def rank(
    model: quality.QualityModel, images: LabeledSet, indices: Sequence[int], count: int
) -> tuple[list[Scored], int]:
    """`count` of these images, evenly spaced along their ranking, best first, and how many were ranked.

    Files that cannot be read are named and left out. Raises ValueError where none is left.
    """

    def predict(image: Tensor) -> float:
        return quality.look(model, [quality.crops_of(model, image)])[0].y_hat

    predicted = plots.of_images(images, indices, predict)
    order = sorted(predicted, key=lambda i: -predicted[i])  # of equal ones the first comes first
    places = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)
    shown = [order[place] for place in places]
    return [(images.read(i), predicted[i], images.scores[i]) for i in shown], len(order)


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
    score = "predicted score" if isnan(ranked[0][2]) else "predicted (true) score of images held out"
    note = f"Best first, {part}. Below each: {score}, 1 (worst) to 10 (best)."
    step, row = width + GAP, height + CAPTION
    page = pages.new_page(columns * step - GAP, ceil(len(cells) / columns) * row, title, note)
    for i, (cell, (_, y_hat, y)) in enumerate(zip(cells, ranked, strict=True)):
        left = MARGIN + i % columns * step + (width - cell.width) // 2
        top = HEAD + i // columns * row + (height - cell.height) // 2
        true = "" if isnan(y) else f"({y:.2f})"
        put_cell(page, left, top, cell, f"{quality.clipped(y_hat):.2f}", true, CAPTION_SIZE)
    return page
