"""Scores for pictures from what finetune.py has trained (Section 4.2, BIQA)."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ssl_iqa import data, runs, sets, views
from ssl_iqa.model import Encoder, Regressor, encoder_from_state

KEYS = {"encoder", "regressor", "score_range", "settings"}


class Model(NamedTuple):
    """Encoder f and regressor h of Eq. 6, in eval mode on the CPU, with what they were trained with."""

    encoder: Encoder
    regressor: Regressor
    score_range: tuple[float, float]  # what the scores 1 and 10 stand for on the scale of the labels
    settings: dict[str, Any]  # finetune.py's


def load_model(path: Path) -> Model:
    """The `model.pt` of a finetune.py run.

    Raises FileNotFoundError without it, ValueError for a file that is damaged or something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; the {runs.MODEL} of a finetune.py run is wanted")
    content = runs.load(path)
    if not isinstance(content, Mapping) or not content.keys() >= KEYS:
        raise ValueError(f"{path}: no model of finetune.py; its {runs.MODEL} is wanted")
    encoder = encoder_from_state(content["encoder"], source=str(path))
    regressor = Regressor(encoder.dim)
    try:
        regressor.load_state_dict(content["regressor"])
    except RuntimeError as error:
        raise ValueError(f"{path}: the regressor's weights do not fit a {encoder.arch} encoder") from error
    low, high = content["score_range"]
    return Model(encoder.eval(), regressor.eval(), (low, high), content["settings"])


def read_picture(model: Model, path: str | Path) -> Tensor:
    """A picture in [0, 1], [3, H, W], at the size that the model was trained at: the demo's reads at half size.

    Raises OSError or data.UnreadableImage.
    """
    return views.to_float(data.read_image(path), sets.DEMO_REDUCE if model.settings["data"] == "demo" else 1)


@torch.no_grad()
def score_pictures(model: Model, pictures: Iterable[Tensor]) -> list[float]:
    """y_hat, about 1 (worst) to 10 (best), of pictures in [0, 1], [3, H, W] each: the mean over a picture's crops."""
    scores = []
    for picture in pictures:
        crops = views.test_crops(picture, model.settings["crops"], model.settings["crop"])  # [crops, 3, h, w]
        scores.append(model.regressor(model.encoder(crops)).mean().item())
    return scores
