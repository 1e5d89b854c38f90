"""Why a picture has its score: the distortion that it seems to have, and where it is bad.

    python -m ssl_iqa.scoring.explain runs/finetune/model.pt

tells how far the maps of a model can be trusted: of the demo's photographs, those that it was not trained with where
that is known, one half is distorted, and its mean in the map compared with the other's.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ssl_iqa.data import sets, views
from ssl_iqa.data.demo import demo_sources
from ssl_iqa.data.images import read_image
from ssl_iqa.data.seen import known_parts
from ssl_iqa.distortions import NAMES, NUM_LEVELS, distort
from ssl_iqa.distortions.compression import to_bytes, to_pil
from ssl_iqa.engine import console
from ssl_iqa.engine.device import use_device
from ssl_iqa.engine.settings import Parser
from ssl_iqa.scoring import quality
from ssl_iqa.scoring.pages import DARK, GRAY, HEAD, MARGIN, new_page, put_cell

Classifier = dict[str, Any]  # plain, for model.pt: weight [k, d], bias [k], classes [[type, level], ..], see `naming`

STEPS = 24  # the most crops along a side of a map, unless more are needed for all of the picture
AT_ONCE = 64  # crops of a picture in memory
SHOWN = 480  # pixels: a drawn picture's longer side, at most
BAR, GAP, WORDS = 14, 16, 34  # pixels: the color bar's height, between the pictures, below them
COLORS = ((178, 24, 43), (247, 247, 247), (33, 102, 172))  # bad, middle, good: ColorBrewer's RdBu, for any eyes
LEAST_SPAN = 1.0  # of the colors, points: less would show noise


class Named(NamedTuple):
    """The likeliest distortion type of a picture and its probability, and the type's likeliest level, 1 to 5, or 0 of
    pristine.
    """

    distortion: str
    level: int
    probability: float

    def words(self) -> str:
        level = f", level {self.level}" if self.level else ""
        return f"{self.distortion.replace('_', ' ')}{level} ({self.probability:.0%})"


def name_distortion(classifier: Classifier, z: Tensor) -> Named:
    """From the features of a picture's crops, [crops, d]; the crops' probabilities are averaged."""
    found = F.linear(z, classifier["weight"], classifier["bias"]).softmax(dim=1).mean(dim=0).tolist()
    by_type: dict[str, dict[int, float]] = {}
    for (name, level), probability in zip(classifier["classes"], found, strict=True):
        by_type.setdefault(name, {})[level] = probability
    likeliest = max(by_type, key=lambda name: sum(by_type[name].values()))
    levels = by_type[likeliest]
    return Named(likeliest, max(levels, key=levels.__getitem__), sum(levels.values()))


def local_scores(model: quality.QualityModel, picture: Tensor) -> Tensor:
    """A map of local quality: bytes [3, H, W] -> scores [h, w], H x W being those at `model.long_side`.

    The score of a crop alone, for crops a quarter of their side apart, in a large picture up to a whole one; a pixel's
    is the mean of those of the crops that hold it, not clipped. A picture that is no larger than a crop has one.
    """
    size = model.settings["crop"]
    x = quality.at_its_size(model, picture)
    height, width = x.shape[1:]
    x = views.pad_to(x, size)
    places = [(top, left) for top in _places(x.shape[1], size) for left in _places(x.shape[2], size)]
    sums, counts = torch.zeros(2, *x.shape[1:])
    for some in (places[i : i + AT_ONCE] for i in range(0, len(places), AT_ONCE)):
        crops = [views.to_float(x[None, :, top : top + size, left : left + size]) for top, left in some]
        for (top, left), seen in zip(some, quality.look(model, crops), strict=True):
            sums[top : top + size, left : left + size] += seen.y_hat
            counts[top : top + size, left : left + size] += 1
    return (sums / counts)[:height, :width]


def _places(side: int, size: int) -> list[int]:
    """Where crops begin along a side, the first and the last at its ends, none of its pixels in no crop."""
    room = side - size
    count = max(min(-(-room // (size // 4)) + 1, STEPS), -(-side // size))
    return np.linspace(0, room, count).round().astype(int).tolist()


def draw(picture: Tensor, scores: Tensor, title: str, note: str) -> Image.Image:
    """A picture, bytes [3, H, W], and beside it in gray, with its map [h, w] over it: red where it is worst.

    The map is clipped to the scale's ends, as a score is. The colors go from its least to its largest score, but over
    `LEAST_SPAN` points at least.
    """
    shown = to_pil(picture)
    shown.thumbnail((SHOWN, SHOWN), Image.Resampling.LANCZOS)
    scores = scores.clamp(quality.LOW, quality.HIGH)
    low, high = (value.item() for value in scores.aminmax())
    if high - low < LEAST_SPAN:
        low = min(max((low + high - LEAST_SPAN) / 2, quality.LOW), quality.HIGH - LEAST_SPAN)
        high = low + LEAST_SPAN
    places = (scores - low) / (high - low)  # [h, w], 0 the worst
    places = F.interpolate(places[None, None], (shown.height, shown.width), mode="bilinear")[0, 0]
    over = Image.blend(shown.convert("L").convert("RGB"), _colored(places.numpy()), 0.5)
    page = new_page(2 * shown.width + GAP, shown.height + WORDS + 2 * BAR, title, note)
    right, bottom = MARGIN + shown.width + GAP, HEAD + shown.height
    put_cell(page, MARGIN, HEAD, shown, "", "", 15)
    put_cell(page, right, HEAD, over, "", "", 15)
    bar = _colored(np.linspace(0, 1, shown.width)[None].repeat(BAR, axis=0))
    page.paste(bar, (right, bottom + GAP))
    words, font = ImageDraw.Draw(page), ImageFont.load_default(15)
    end = bottom + GAP + BAR + 18
    words.text((right, end), f"{low:.2f}", DARK, font, anchor="ls")
    words.text((right + shown.width / 2, end), "score of the crops around", GRAY, font, anchor="ms")
    words.text((right + shown.width, end), f"{high:.2f}", DARK, font, anchor="rs")
    return page


def _colored(places: np.ndarray) -> Image.Image:
    """Places between the worst, 0, and the best, 1, [h, w], in `COLORS`."""
    ends = np.linspace(0, 1, len(COLORS))
    channels = [np.interp(places, ends, values) for values in zip(*COLORS, strict=True)]
    return Image.fromarray(np.stack(channels, axis=-1).round().astype(np.uint8))


def held_out(model: quality.QualityModel) -> list[str]:
    """The demo's photographs of a model's test part; none for a model that has seen none of them."""
    known = known_parts(sets.load_labeled("demo"), model.encoder.seen or ())
    return [path for path, source in demo_sources().items() if known.get(source) == "test"]


def halves_told(model: quality.QualityModel, paths: Sequence[str], level: int) -> float:
    """The share of photographs x 25 types in which the distorted half, in turns the left and the right one, has the
    lower mean in the map. Chance is 0.5; at levels that leave a picture as it was it is no more.
    """
    told = []
    for number, path in enumerate(console.bar(paths, f"level {level}")):
        picture = read_image(path) / 255
        middle = picture.shape[2] // 2
        for kind, name in enumerate(NAMES):
            is_left = (number + kind) % 2 == 0
            half = slice(None, middle) if is_left else slice(middle, None)
            mixed = picture.clone()
            mixed[:, :, half] = distort(picture, name, level, torch.Generator().manual_seed(number))[:, :, half]
            (mixed,) = to_bytes(mixed[None])
            left, right = (part.mean() for part in local_scores(model, mixed).tensor_split(2, dim=1))
            told.append(bool(left < right) == is_left)
    return sum(told) / len(told)


def main(arguments: list[str] | None = None) -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL", help="the model.pt of a finetune.py run")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="(auto)")
    args = parser.parse_args(arguments)
    with console.clear_errors():
        model = quality.load(args.model).to(use_device(args.device, workers=0))
    paths = held_out(model) or [*demo_sources()]  # to a model of another set all are new
    print(
        f"one half of {len(paths)} photographs distorted, 25 types: its mean is the lower one in the map (chance 50 %)"
    )
    for level in range(1, NUM_LEVELS + 1):
        print(f"  level {level}: {halves_told(model, paths, level):.0%}", flush=True)


if __name__ == "__main__":
    main()
