"""Figure 4: pictures in the order of their predicted score."""

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from ssl_iqa.data import sets, views
from ssl_iqa.data.datasets import LabeledImages, name_skipped
from ssl_iqa.data.images import list_images, read_image
from ssl_iqa.data.seen import known_parts
from ssl_iqa.distortions.compression import to_bytes, to_pil
from ssl_iqa.engine import console
from ssl_iqa.engine.device import cpu_cores
from ssl_iqa.scoring import quality
from ssl_iqa.scoring.pages import HEAD, MARGIN, new_page, put_cell

CELL, GAP, CAPTION, CAPTION_SIZE = (280, 210), 16, 34, 17  # pixels: a cell's most, between cells, below them


class Scored(NamedTuple):
    """A picture [3, H, W] in [0, 1] with its predicted and, where it is known, its true score."""

    picture: Tensor
    predicted: float
    true: float | None


def rank_folder(model: quality.QualityModel, folder: Path, count: int) -> tuple[list[Scored], int]:
    """`count` of a folder's pictures, evenly spaced along their ranking, best first, and how many were ranked.

    Files that cannot be read are named and left out. Raises ValueError where none can be.
    """
    paths, predicted, skipped = list_images(folder), {}, []
    for i, (path, seen) in enumerate(quality.score_files(model, console.bar(paths, "pictures"), cpu_cores())):
        if isinstance(seen, Exception):
            skipped.append(path)
        else:
            predicted[i] = seen.y_hat
    name_skipped(skipped, set())
    if not predicted:
        raise ValueError(f"{folder}: none of its {len(paths)} pictures can be read")
    shown = spaced(predicted, count)
    return [Scored(views.to_float(read_image(paths[i])), predicted[i], None) for i in shown], len(predicted)


def rank_test_part(model: quality.QualityModel, spec: str, count: int) -> tuple[list[Scored], int]:
    """The same for the images of a labeled set that the model was not trained with.

    Raises ValueError where the model was not trained with any of this set.
    """
    labeled = sets.load_labeled(spec, model.long_side)
    known = known_parts(labeled, model.encoder.seen or ())
    if not known:
        raise ValueError(f"{spec}: the model has seen nothing of it, so that it has no test part; give the folder")
    held_out = [i for i, name in enumerate(labeled.references) if known.get(name, "test") == "test"]
    pictures = LabeledImages(labeled, held_out)
    predicted, skipped = {}, []
    for place in console.bar(range(len(pictures)), "pictures"):
        index, picture = pictures[place]
        if picture is None:
            skipped.append(labeled.paths[index])
        else:
            crops = views.test_crops(views.to_float(picture), model.settings["crops"], model.settings["crop"])
            predicted[index] = quality.look(model, [crops])[0].y_hat
    name_skipped(skipped, set())
    if not predicted:
        raise ValueError(f"{spec}: none of the test part's {len(pictures)} pictures can be read")
    shown = spaced(predicted, count)
    scored = [Scored(views.to_float(labeled.read(i)), predicted[i], labeled.scores[i]) for i in shown]
    return scored, len(predicted)


def spaced(predicted: dict[int, float], count: int) -> list[int]:
    """`count` of the pictures, evenly spaced from the best to the worst, both among them; all where there are no more.

    A single one is the best.
    """
    order = sorted(predicted, key=lambda i: -predicted[i])  # of equal ones the first comes first
    places = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)
    return [order[place] for place in places]


def page(shown: Sequence[Scored], ranked: int, columns: int, title: str) -> Image.Image:
    """The pictures row by row, the best first, whole: larger ones than a cell are reduced, none is enlarged."""
    (pictures, predicted, true) = zip(*shown, strict=True)
    cells = []
    for picture in pictures:
        (pixels,) = to_bytes(picture[None])
        cell = to_pil(pixels)
        cell.thumbnail(CELL, Image.Resampling.LANCZOS)
        cells.append(cell)
    width, height = (max(sizes) for sizes in zip(*(cell.size for cell in cells), strict=True))
    columns = min(columns, len(cells))
    some = f"{len(shown)} of {ranked}, evenly spaced along the ranking" if len(shown) < ranked else f"all {ranked}"
    known = " (true)" if true[0] is not None else ""
    note = f"Best first, {some}. Below each: predicted{known} score, 1 (worst) to 10 (best)."
    step, row = width + GAP, height + CAPTION
    drawn = new_page(columns * step - GAP, ceil(len(cells) / columns) * row, title, note)
    for i, (cell, y_hat, y) in enumerate(zip(cells, predicted, true, strict=True)):
        left = MARGIN + i % columns * step + (width - cell.width) // 2
        top = HEAD + i // columns * row + (height - cell.height) // 2
        put_cell(
            drawn, left, top, cell, f"{quality.clipped(y_hat):.2f}", "" if y is None else f"({y:.2f})", CAPTION_SIZE
        )
    return drawn
