"""Does a model's score fall as a distortion grows? Asked of pristine photographs, in each type and level.

    ssl-iqa severity DIR/photographs                        the model in the package
    ssl-iqa severity runs/finetune/model.pt DIR/photographs

Two shares a type: of the steps from level to level, from level 2 on, those that lower the score; and of the versions
of level 3 to 5 those below the pristine photograph. mean_shift and contrast_change, whose published levels do not grow
in severity, do not count in the means. Photographs that the model was trained with are no test.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssl_iqa.data.images import UnreadableImage, list_images, read_image
from ssl_iqa.data.views import to_bytes, to_float
from ssl_iqa.distortions import NAMES, NUM_LEVELS, distort
from ssl_iqa.engine import console
from ssl_iqa.engine.device import use_device
from ssl_iqa.engine.settings import whole
from ssl_iqa.evaluation import tables
from ssl_iqa.scoring import quality, score

NOT_GROWING = ("mean_shift", "contrast_change")
FIRST, CLEAR = 2, 3  # the levels from which steps count, and from which a version is clearly distorted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    score.add_model(parser)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="pristine photographs, new to the model")
    parser.add_argument("--count", type=whole(1, 10**6), default=20, help="photographs at most, evenly chosen (20)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="(auto)")


def run(args: argparse.Namespace) -> None:
    with score.say_failures() as failures:
        model = quality.load(args.model).to(use_device(args.device, workers=0))
        paths = list_images(args.folder)
        paths = [paths[i] for i in np.linspace(0, len(paths) - 1, min(args.count, len(paths))).round().astype(int)]
        scores = []
        for path in console.bar(paths, "photographs"):
            try:
                scores.append(scores_by_type(model, read_image(path)))
            except (OSError, UnreadableImage) as error:
                failures.append(error)
        if scores:
            print(table(np.stack(scores)))


def scores_by_type(model: quality.QualityModel, image: Tensor) -> np.ndarray:
    """y_hat of a photograph, bytes [3, H, W], in each type, [25, 6]: pristine, then in levels 1 to 5."""
    pristine = quality.at_its_size(model, image)
    x_u, scores = to_float(pristine), np.empty((len(NAMES), NUM_LEVELS + 1))
    scores[:, 0] = quality.look(model, [quality.crops_of(model, pristine)])[0].y_hat
    for kind, name in enumerate(NAMES):
        draws = [torch.Generator().manual_seed(level) for level in range(1, NUM_LEVELS + 1)]
        x_d = [to_bytes(distort(x_u, name, level, draw)) for level, draw in enumerate(draws, start=1)]
        scores[kind, 1:] = [seen.y_hat for seen in quality.look(model, [quality.crops_of(model, x) for x in x_d])]
    return scores


def shares(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of scores [photographs, 25, 6] the share of steps that lower them, and of versions below pristine, [25] each."""
    falls = np.diff(scores[..., FIRST:], axis=-1) < 0  # [photographs, 25, 3]
    below = scores[..., CLEAR:] < scores[..., :1]
    return falls.mean(axis=(0, 2)), below.mean(axis=(0, 2))


def table(scores: np.ndarray) -> str:
    """A Markdown table, a row a type, and the means."""
    falls, below = shares(scores)
    grows = np.array([name not in NOT_GROWING for name in NAMES])
    body = [
        [name, f"{step:.0%}" if is_growing else "-", f"{version:.0%}"]
        for name, step, version, is_growing in zip(NAMES, falls, below, grows, strict=True)
    ]
    means = f"{falls[grows].mean():.1%}", f"{below[grows].mean():.1%}"
    body.append([f"**all**, of {len(scores)} photographs", *means])
    return tables.lines(["type", "steps that lower the score", "below pristine"], body)
