"""What is wrong with images, and where: the distortion that each seems to have, and a map of its local quality.

    ssl-iqa explain photo.jpg FOLDER .. -o why

prints the scores with the likeliest distortion and its level, and writes a map for each image into a new folder: red
where the image is worst. The model in the package knows the distortions' names. Another is taught them, once:

    ssl-iqa learn-names runs/finetune/model.pt
    ssl-iqa explain runs/finetune/model.pt photo.jpg -o why
"""

import argparse
import math
import os
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ssl_iqa.data import views
from ssl_iqa.data.images import read_image
from ssl_iqa.distortions.compression import to_pil
from ssl_iqa.engine import run_folder
from ssl_iqa.scoring import quality, score
from ssl_iqa.scoring.pages import HEAD, MARGIN, new_page, put_cell

Classifier = dict[str, Any]  # plain, for model.pt: weight [k, d], bias [k], classes [[type, level], ..], see `naming`

STEPS = 24  # the most crops along a side of a map, unless all of the image needs more
AT_ONCE = 64  # crops in memory
SHOWN = 480  # pixels: a drawn image's longer side, at most
GAP = 16  # pixels between the images
COLORS = ((178, 24, 43), (247, 247, 247), (33, 102, 172))  # bad, middle, good: ColorBrewer's RdBu, for any eyes
LEAST_SPAN = 1.0  # of the colors, points: less would show noise


class Named(NamedTuple):
    """The likeliest distortion type of an image."""

    distortion: str
    level: int  # the type's likeliest, 1 to 5; 0 of pristine
    probability: float  # of the type

    def words(self) -> str:
        level = f", level {self.level}" if self.level else ""
        return f"{self.distortion.replace('_', ' ')}{level} ({self.probability:.0%})"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    score.add_model_and_images(parser)
    text = "for the maps, a new or an empty folder"
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help=text)
    score.add_formats(parser)


def run(args: argparse.Namespace) -> None:
    with score.say_failures() as failures:
        model = score.prepare(args)
        if model.naming is None:
            command = shlex.join(["ssl-iqa", "learn-names", args.model])
            raise ValueError(f"{args.model}: names no distortions yet; `{command}` teaches it that")
        if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
            raise FileExistsError(f"--out {args.out}: must be a new or an empty folder")
        paths = score.with_bar(score.images_in(args.paths, failures), args)
        args.out.mkdir(parents=True, exist_ok=True)
        scored = score.score_all(model, paths, args.coverage, failures)
        rows = (explain_one(model, row, seen, args.out) for seen, row in scored)
        score.print_rows((*score.COLUMNS, *Named._fields, "map"), rows, args)


def explain_one(model: quality.QualityModel, row: score.Row, seen: quality.Seen, folder: Path) -> score.Row:
    """The row with its explanation; the map is written to the folder, named after its image."""
    # once more, as `score_files` reads it: images that it had kept would take much memory
    image = read_image(row["picture"], model.long_side)
    named = name_distortion(model.naming, seen.z)
    interval = "" if row["low"] is None else f" ({row['low']:.2f} to {row['high']:.2f})"
    drawn = draw(image, local_scores(model, image), f"{row['score']:.2f}{interval}", named.words())
    stem = os.fsdecode(os.fsencode(Path(row["picture"]).stem)[:200])  # a name has 255 bytes at most
    path, number = folder / f"{stem}.jpg", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}-{number}.jpg"
    run_folder.write_atomic(path, lambda file: drawn.save(file, "JPEG", quality=90))
    return row | named._asdict() | {"probability": round(named.probability, 4), "map": str(path)}


def name_distortion(classifier: Classifier, z: Tensor) -> Named:
    """From the features of an image's crops, [crops, d]; the crops' probabilities are averaged."""
    probabilities = F.linear(z, classifier["weight"], classifier["bias"]).softmax(dim=1).mean(dim=0).tolist()
    by_type: dict[str, dict[int, float]] = {}
    for (name, level), probability in zip(classifier["classes"], probabilities, strict=True):
        by_type.setdefault(name, {})[level] = probability
    likeliest = max(by_type, key=lambda name: sum(by_type[name].values()))
    levels = by_type[likeliest]
    return Named(likeliest, max(levels, key=levels.__getitem__), sum(levels.values()))


def local_scores(model: quality.QualityModel, image: Tensor) -> Tensor:
    """A map of local quality: bytes [3, H, W] -> scores [h, w], the image's size at `model.long_side`.

    The score of a crop alone, for crops a quarter of their side apart, in a large image up to a whole one. A pixel's
    score is the mean over the crops that hold it, not clipped.
    """
    size = model.settings["crop"]
    x = quality.at_its_size(model, image)
    height, width = x.shape[1:]
    x = views.pad_to(x, size)
    places = [(top, left) for top in _places(x.shape[1], size) for left in _places(x.shape[2], size)]
    sums, counts = torch.zeros(2, *x.shape[1:])
    for start in range(0, len(places), AT_ONCE):
        batch = places[start : start + AT_ONCE]
        crops = [views.to_float(x[None, :, top : top + size, left : left + size]) for top, left in batch]
        for (top, left), seen in zip(batch, quality.look(model, crops), strict=True):
            sums[top : top + size, left : left + size] += seen.y_hat
            counts[top : top + size, left : left + size] += 1
    return (sums / counts)[:height, :width]


def _places(side: int, size: int) -> list[int]:
    """Where crops begin along a side: the first and the last lie at its ends, and each pixel is in a crop."""
    room = side - size
    count = max(min(math.ceil(room / (size // 4)) + 1, STEPS), math.ceil(side / size))
    return np.linspace(0, room, count).round().astype(int).tolist()


def draw(image: Tensor, scores: Tensor, title: str, note: str) -> Image.Image:
    """An image, bytes [3, H, W], and beside it in gray, with its map [h, w] over it: red where it is worst.

    The colors go from the least to the largest score of the map, but over `LEAST_SPAN` points at least.
    """
    shown = to_pil(image)
    shown.thumbnail((SHOWN, SHOWN), Image.Resampling.LANCZOS)
    scores = scores.clamp(quality.LOW, quality.HIGH)
    low, high = (value.item() for value in scores.aminmax())
    if high - low < LEAST_SPAN:
        low = min(max((low + high - LEAST_SPAN) / 2, quality.LOW), quality.HIGH - LEAST_SPAN)
        high = low + LEAST_SPAN
    places = (scores - low) / (high - low)  # [h, w], 0 the worst
    places = F.interpolate(places[None, None], (shown.height, shown.width), mode="bilinear")[0, 0]
    colored = Image.blend(shown.convert("L").convert("RGB"), _colored(places.numpy()), 0.5)
    legend = f"score of the crops around: {low:.2f} red, {high:.2f} blue"
    page = new_page(2 * shown.width + GAP, shown.height, title, f"{note}; {legend}")
    put_cell(page, MARGIN, HEAD, shown, "", "", 15)
    put_cell(page, MARGIN + shown.width + GAP, HEAD, colored, "", "", 15)
    return page


def _colored(places: np.ndarray) -> Image.Image:
    """Places between the worst, 0, and the best, 1, [h, w], in `COLORS`."""
    ends = np.linspace(0, 1, len(COLORS))
    channels = [np.interp(places, ends, values) for values in zip(*COLORS, strict=True)]
    return Image.fromarray(np.stack(channels, axis=-1).round().astype(np.uint8))
