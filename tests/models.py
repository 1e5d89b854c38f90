"""Finetuned models for the tests, and their scores worked out crop by crop."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ssl_iqa.engine.weights import encoder_state
from ssl_iqa.model import Encoder, Regressor
from ssl_iqa.scoring import quality

SETTINGS = {
    "data": "csv:own.csv",
    "mode": "lp-ft",
    "encoder": "runs/joint/encoder.pt",
    "crop": 32,
    "crops": "five",
}
RESIDUALS = torch.arange(1, 20) / 10  # 19 images: the 18th smallest is the margin of 90 %
RESULTS = {
    "srocc": 0.81,
    "srocc_interval": [0.7, 0.9],
    "plcc": 0.8,
    "images": 30,
    "margin": 1.8,
    "coverage": 0.87,
    "split": {"train": list("abcdef"), "val": ["g"], "test": ["h", "i"]},
}


def make_networks() -> tuple[Encoder, Regressor]:
    torch.manual_seed(0)
    encoder = Encoder("dct-mlp")
    regressor = Regressor(encoder.dim)
    torch.nn.init.normal_(regressor[-1].weight, std=0.01)  # so that scores differ
    return encoder, regressor


def save_model(path: Path, changed: dict[str, Any] | None = None, **settings: object) -> Path:
    """A model.pt as finetune.py writes one; of `changed` entries None is left out."""
    encoder, regressor = make_networks()
    content = {
        "format": "ssl_iqa.model",
        "version": 1,
        "encoder": encoder_state(encoder) | {"seen": None},  # by an earlier version: `results` say what was seen
        "regressor": regressor.state_dict(),
        "score_range": [0.0, 100.0],
        "settings": SETTINGS | settings,
        "results": RESULTS,
        "residuals": RESIDUALS,
        **(changed or {}),
    }
    path.parent.mkdir(exist_ok=True)
    torch.save({name: value for name, value in content.items() if value is not None}, path)
    return path


def reduced(image: np.ndarray, reduce: int) -> np.ndarray:
    """Means over reduce x reduce pixels of [H, W, 3] in [0, 1], in whole 255ths, as a file of that size holds them."""
    height, width = (side // reduce for side in image.shape[:2])
    levels = (image[: height * reduce, : width * reduce] * 255).round()
    return levels.reshape(height, reduce, width, reduce, 3).mean(axis=(1, 3)).round() / 255


def by_hand(model: quality.QualityModel, image: Path | np.ndarray, reduce: int = 1) -> float:
    """The mean of h(f(x)) over the four corners and the center, one crop after the other."""
    if isinstance(image, Path):
        image = np.asarray(Image.open(image).convert("RGB"), dtype=np.float64) / 255
    pixels = reduced(image, reduce) if reduce > 1 else image
    height, width = pixels.shape[:2]
    x = torch.from_numpy(pixels).permute(2, 0, 1).float()[None]
    places = [(0, 0), (0, width - 32), (height - 32, 0), (height - 32, width - 32)]
    places.append(((height - 32) // 2, (width - 32) // 2))
    with torch.no_grad():
        scores = [model.regressor(model.encoder(x[:, :, y : y + 32, x0 : x0 + 32])).item() for y, x0 in places]
    return sum(scores) / 5
