"""A finetuned model in use: the score of a picture (Eq. 6), and what that score means."""

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ssl_iqa.data import views
from ssl_iqa.data.images import UnreadableImage, from_pil, read_image, reduced
from ssl_iqa.engine import model_file, run_folder
from ssl_iqa.engine.weights import copy_weights, encoder_from_state
from ssl_iqa.evaluation import calibration
from ssl_iqa.evaluation.resampling import TOO_FEW
from ssl_iqa.model import Encoder, Regressor

A_FEW = 8  # pictures in memory at a time, and as many that come next
LOW, HIGH = 1.0, 10.0  # the ends of the scale of scores
AT_ONCE_PIXELS = 40 * 224**2  # of the crops that pass the encoder together
Picture = str | os.PathLike[str] | Image.Image | np.ndarray | Tensor


def clipped(y_hat: float) -> float:
    """The score that is shown of a prediction: no image is worse than 1 or better than 10, the scale's ends."""
    return min(max(y_hat, LOW), HIGH)


class Seen(NamedTuple):
    """What the networks say of a picture."""

    y_hat: float  # the mean over its crops; now and then a little beyond the scale's ends
    z: Tensor  # features of the crops, [crops, d], on the CPU
    kept: Any = None  # what else is wanted of it, see `score_files`

    @property
    def score(self) -> float:
        return clipped(self.y_hat)


@dataclass(frozen=True)
class QualityModel:
    """Encoder f and regressor h of Eq. 6, in eval mode, with what they were trained with. `load` makes one."""

    encoder: Encoder
    regressor: Regressor
    score_range: tuple[float, float]  # what the scores 1 and 10 stand for on the scale of the labels
    settings: dict[str, Any]  # finetune.py's
    results: dict[str, Any]  # what finetune.py measured; empty in an older file
    residuals: Tensor  # |predicted - true| of the validation part, [M]; none in an older file
    naming: dict[str, Any] | None = (
        None  # what `explain.name_distortion` takes, once `ssl_iqa.scoring.naming` has learned it
    )

    @property
    def long_side(self) -> int:
        """Images are reduced to it first, as those that the model was trained on; 0: they stay as they are."""
        return run_folder.saved_long_side(self.settings)

    def to(self, device: torch.device | str) -> "QualityModel":
        self.encoder.to(device)
        self.regressor.to(device)
        return self

    def score(self, pictures: Picture | Sequence[Picture]) -> float | list[float]:
        """The quality of a picture, 1 (worst) to 10 (best), clipped to these ends; of a list, a list.

        A picture is the path of a file, a PIL image, an array or a tensor: arrays are [H, W, 3] or, gray, [H, W],
        tensors [3, H, W] or [1, H, W], RGB; integers are bytes, 0 to 255 (uint8), floating-point numbers 0 to 1.

        Raises OSError or UnreadableImage for a file, ValueError for what is no such picture.
        """
        if isinstance(pictures, list | tuple):
            found: list[float] = []
            for start in range(0, len(pictures), A_FEW):
                few = pictures[start : start + A_FEW]
                found += [seen.score for seen in look(self, [crops_of(self, as_tensor(picture)) for picture in few])]
            return found
        return look(self, [crops_of(self, as_tensor(pictures))])[0].score

    def margin(self, coverage: float = calibration.COVERAGE) -> float:
        """score +- this holds the true score of that share of pictures like those it was trained on: `calibration`.

        Raises ValueError for a file from before model.pt held `residuals`.
        """
        if not len(self.residuals):
            raise ValueError("this model.pt was written by an older version, without what intervals need: train anew")
        return calibration.margin(self.residuals.numpy(), coverage)

    def card(self) -> str:
        """What the score means, how the model was made and how good it was on pictures that it has not seen."""
        low, high = self.score_range
        lines = {
            "score": f"1 (worst) to 10 (best); on the labels' scale {low:g} and {high:g}",
            "trained on": self.settings["data"],
            "by": f"{self.settings['mode'].upper()} of {self.settings['encoder']} ({self.encoder.arch})",
            "looks at": _CROPS[self.settings["crops"]].format(side=self.settings["crop"])
            + (f", images reduced to {self.long_side} pixels first" if self.long_side else ""),
        }
        if self.results:
            lines |= _measured(self.results, self.margin())
        if self.naming:
            lines["distortions"] = naming_text(self.naming["right"])
        return "\n".join(f"{name:<11} {text}" for name, text in lines.items())


_CROPS = {
    "five": "five crops of {side}x{side} pixels, in the corners and the center",
    "center": "the {side}x{side} pixels in the center",
    "full": "the whole picture",
}


def _measured(results: Mapping[str, Any], margin: float) -> dict[str, str]:
    srocc, low, high, plcc, coverage = (  # None: they could not be computed
        math.nan if value is None else value
        for value in (results["srocc"], *results["srocc_interval"], results["plcc"], results["coverage"])
    )
    parts = results["split"]
    interval = f"score +- {margin:.2f} for 90 %; held for {coverage:.0%} of the test pictures"
    return {
        "references": f"{len(parts['train'])} to train, {len(parts['val'])} to choose the epoch",
        "tested on": f"{results['images']} pictures of {len(parts['test'])} other references",
        "SROCC": f"{srocc:.3f} ("
        + (f"95 % interval {low:.3f} to {high:.3f})" if low <= high else f"no interval: {TOO_FEW})"),
        "PLCC": f"{plcc:.3f}",
        "interval": interval if margin < math.inf else "none: too few pictures to choose the epoch with",
    }


def naming_text(right: Mapping[str, Any]) -> str:
    """How well distortions are named, in words."""
    shares = f"{right['type']:.0%} of types right (chance 4 %), {right['level']:.0%} of these levels (chance 20 %)"
    return f"{shares}, on {right['photographs']} photographs held out"


def load(path: str | os.PathLike[str]) -> QualityModel:
    """The `model.pt` of a finetune.py run, or a .safetensors that `ssl_iqa.scoring.export` has made of one, on the CPU.

    Raises FileNotFoundError without it, ValueError for a file that is damaged, of a newer version or something else.
    """
    return from_content(model_file.read(Path(path)), source=str(path))


def from_content(content: Mapping[str, Any], source: str) -> QualityModel:
    """The model of what `model_file.read` gives. Raises ValueError, naming `source`, for weights that do not fit."""
    encoder = encoder_from_state(content["encoder"], source)
    settings, results = content["settings"], content["results"]
    if encoder.seen is None and results:  # a file of an earlier version says it by names alone
        encoder.seen = [{"data": settings["data"], "references": results["split"], "images": {}}]
    regressor = Regressor(encoder.dim)
    copy_weights(regressor, content["regressor"], f"{source}: the regressor of a {encoder.arch} encoder")
    naming = content["naming"]
    if naming and naming["weight"].shape[1] != encoder.dim:
        raise ValueError(f"{source}: its naming is not for a {encoder.arch} encoder")
    low, high = content["score_range"]
    return QualityModel(
        encoder.eval(),
        regressor.eval(),
        (low, high),
        settings,
        results,
        content["residuals"],
        naming,
    )


def as_tensor(picture: Picture) -> Tensor:
    """A picture of `QualityModel.score` as RGB [3, H, W], bytes or floating point in [0, 1].

    Raises OSError or UnreadableImage for a file, ValueError for what is no such picture.
    """
    if isinstance(picture, str | os.PathLike):
        return read_image(picture)
    if isinstance(picture, Image.Image):
        return from_pil(picture)
    if isinstance(picture, np.ndarray):
        x = torch.from_numpy(picture.copy())  # torch warns of one that cannot be written, as PIL gives
        x = x[None] if x.ndim == 2 else x.movedim(-1, 0) if x.ndim == 3 else x
    elif isinstance(picture, Tensor):
        x = picture.detach().cpu()
    else:
        raise ValueError(f"a picture is a path, a PIL image, an array or a tensor, not {type(picture).__name__}")
    if x.ndim != 3 or x.shape[0] not in (1, 3) or 0 in x.shape:
        shape = list(picture.shape)
        raise ValueError(f"a picture of shape {shape}: wanted are arrays [H, W, 3] or [H, W], tensors [3, H, W]")
    if x.dtype == torch.uint8:
        return x.expand(3, -1, -1)
    if not x.is_floating_point():
        raise ValueError(f"a picture of {x.dtype}: wanted are bytes (uint8), 0 to 255, or floating point, 0 to 1")
    low, high = x.aminmax()
    if not (low >= 0 and high <= 1):  # NaN, too
        raise ValueError(f"samples from {low:g} to {high:g}: floating-point pictures are wanted in 0 to 1")
    return x.float().expand(3, -1, -1)


def crops_of(model: QualityModel, picture: Tensor) -> Tensor:
    """What the model sees of a picture, bytes or in [0, 1]: [3, H, W] -> [crops, 3, h, w] in [0, 1]."""
    crops = views.test_crops(at_its_size(model, picture), model.settings["crops"], model.settings["crop"])
    return views.to_float(crops)  # of a large picture these only


def at_its_size(model: QualityModel, picture: Tensor) -> Tensor:
    """An image [3, H, W], bytes or in [0, 1], reduced to the model's long side where it is larger: as bytes then."""
    if picture.is_floating_point() and 0 < model.long_side < max(picture.shape[1:]):
        picture = views.to_bytes(picture)
    return reduced(picture, model.long_side)


@torch.no_grad()
def look(model: QualityModel, pictures: Sequence[Tensor]) -> list[Seen]:
    """What the networks say of each picture's crops, [crops, 3, h, w]; those of one size pass the encoder together."""
    device = next(model.regressor.parameters()).device
    found: list[Seen] = []
    for _, group in groupby(pictures, key=lambda crops: crops.shape):
        group = list(group)
        x = torch.cat(group).to(device)  # [m * crops, 3, h, w]
        at_once = max(1, AT_ONCE_PIXELS // x[0, 0].numel())
        z = torch.cat([model.encoder(part) for part in x.split(at_once)])  # [m * crops, d]
        y_hat = model.regressor(z).view(len(group), -1).mean(dim=1)
        found += map(Seen, y_hat.tolist(), z.cpu().chunk(len(group)))
    return found


def score_files(
    model: QualityModel, paths: Iterable[str], threads: int, keep: Callable[[Tensor], Any] = lambda picture: None
) -> Iterator[tuple[str, Seen | Exception]]:
    """Each file's path and what is seen of it, in their order, or why nothing is: an OSError or UnreadableImage.

    `threads` decode what comes next while the encoder works; only a few pictures are in memory at any time. `keep`
    makes what else is wanted of a picture, bytes [3, H, W], in these threads, too.
    """

    def read(path: str) -> tuple[Tensor, Any] | Exception:
        try:
            picture = read_image(path)
        except (OSError, UnreadableImage) as error:
            return error
        return crops_of(model, picture), keep(picture)

    for batch in _read_ahead(read, paths, threads):
        seen = iter(look(model, [found[0] for _, found in batch if not isinstance(found, Exception)]))
        for path, found in batch:
            yield path, found if isinstance(found, Exception) else next(seen)._replace(kept=found[1])


def _read_ahead(read: Callable[[str], Any], paths: Iterable[str], threads: int) -> Iterator[list[tuple[str, Any]]]:
    """(path, what `read` makes of it), in lists of a few, the next ones under way."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[tuple[str, Future]] = deque()
        for path in paths:
            waiting.append((path, pool.submit(read, path)))
            if len(waiting) == 2 * A_FEW:
                yield [(first, future.result()) for first, future in (waiting.popleft() for _ in range(A_FEW))]
        yield [(path, future.result()) for path, future in waiting]
