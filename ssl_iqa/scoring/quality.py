"""A finetuned model in use: the score of an image (Eq. 6), and what that score means."""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ssl_iqa.data import views
from ssl_iqa.data.images import UnreadableImage, from_pil, read_image, reduced
from ssl_iqa.engine import model_file, run_folder
from ssl_iqa.engine.device import autocast, has_bfloat16
from ssl_iqa.engine.weights import copy_weights, encoder_from_state
from ssl_iqa.evaluation import calibration
from ssl_iqa.evaluation.resampling import TOO_FEW
from ssl_iqa.model import Encoder, Regressor
from ssl_iqa.scoring.module import Quality

AGAIN = "it belongs to the package: install ssl_iqa again, or in a clone `git checkout ssl_iqa/scoring/model.pt`"
A_FEW = 8  # images that are scored together, and as many that are read meanwhile
PACKAGED = Path(__file__).with_name(run_folder.MODEL)  # the model in the package: docs/model.md
MOST_BF16_CHANGE = 0.05  # of a score, with which a CPU that has bfloat16 computes in it
LOW, HIGH = 1.0, 10.0  # the ends of the scale of scores
AT_ONCE_PIXELS = 40 * 224**2  # of the crops that pass the encoder together
ImageLike = str | os.PathLike[str] | Image.Image | np.ndarray | Tensor


def clipped(y_hat: float) -> float:
    """A prediction on the scale: no image is worse than 1 or better than 10."""
    return min(max(y_hat, LOW), HIGH)


class Seen(NamedTuple):
    """What the networks say of an image."""

    y_hat: float  # the mean over its crops; now and then a little beyond the scale's ends
    z: Tensor  # features of the crops, [crops, d], on the CPU
    kept: Any = None  # see `score_files`

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
    notes: dict[str, str]  # what its maker adds to the card; none of a finetune.py run
    naming: dict[str, Any] | None = None  # for `explain.name_distortion`, once `ssl-iqa learn-names` has learned it

    @property
    def long_side(self) -> int:
        """Images are reduced to it first, as those that the model was trained on; 0: they stay as they are."""
        return run_folder.saved_long_side(self.settings)

    @property
    def bf16_change(self) -> float:
        """The most that a score changed in bfloat16, of its maker's images; infinite where that was not measured."""
        return self.results.get("bf16_change", math.inf)

    @property
    def module(self) -> Quality:
        """The networks as a differentiable torch.nn.Module, [B, 3, H, W] in [0, 1] -> [B], not clipped."""
        return Quality(
            self.encoder, self.regressor, self.settings["crops"], self.settings["crop"], self.long_side
        ).eval()

    def to(self, device: torch.device | str) -> "QualityModel":
        self.encoder.to(device)
        self.regressor.to(device)
        return self

    def score(self, images: ImageLike | Sequence[ImageLike]) -> float | list[float]:
        """The quality of an image, 1 (worst) to 10 (best), clipped to these ends; of a list, a list.

        An image is the path of a file, a PIL image, an array or a tensor: arrays are [H, W, 3] or, gray, [H, W],
        tensors [3, H, W] or [1, H, W], RGB; integers are bytes, 0 to 255 (uint8), floating-point numbers 0 to 1.

        The file of a JPEG much larger than `long_side` is decoded at a fraction of its size, which is faster and
        changes a score by less than a tenth: a PIL image or an array of it is reduced from all of its pixels.

        Raises OSError or UnreadableImage for a file, ValueError for what is no such image.
        """
        if not isinstance(images, list | tuple):
            return self.score([images])[0]
        scores: list[float] = []
        for start in range(0, len(images), A_FEW):
            crops = [crops_of(self, as_tensor(image, self.long_side)) for image in images[start : start + A_FEW]]
            scores += [seen.score for seen in look(self, crops)]
        return scores

    def margin(self, coverage: float = calibration.COVERAGE) -> float:
        """score +- this holds the true score of that share of images like those it was trained on: `calibration`.

        Raises ValueError for a file of an older version, which has no `residuals`.
        """
        if not len(self.residuals):
            raise ValueError("this model is from an older version, without what intervals need: train it anew")
        return calibration.margin(self.residuals.numpy(), coverage)

    def card(self) -> str:
        """What the score means, how the model was made and how good it was on images that it has not seen."""
        settings = self.settings
        low, high = self.score_range
        reduced_first = f", images reduced to {self.long_side} pixels first" if self.long_side else ""
        lines = {
            "score": f"1 (worst) to 10 (best); on the labels' scale {low:g} and {high:g}",
            "trained on": settings["data"],
            "by": f"{settings['mode'].upper()} of {settings['encoder']} ({self.encoder.arch})",
            "looks at": _CROPS[settings["crops"]].format(side=settings["crop"]) + reduced_first,
        }
        if self.results:
            lines |= _measured(self.results, self.margin())
        if self.naming:
            lines["distortions"] = naming_text(self.naming["right"])
        lines |= self.notes
        card = "\n".join(f"{name:<11} {text}" for name, text in lines.items())
        return card.encode("utf-8", "backslashreplace").decode()  # it names files, which may be no UTF-8


_CROPS = {
    "five": "five crops of {side}x{side} pixels, in the corners and the center",
    "center": "the {side}x{side} pixels in the center",
    "full": "the whole image",
}


def _measured(results: Mapping[str, Any], margin: float) -> dict[str, str]:
    values = (results["srocc"], *results["srocc_interval"], results["plcc"], results["coverage"])
    srocc, low, high, plcc, coverage = (math.nan if value is None else value for value in values)
    parts = results["split"]
    srocc_interval = f"95 % interval {low:.3f} to {high:.3f}" if low <= high else f"no interval: {TOO_FEW}"
    tested = results.get("margin") or margin  # another, where the tested model is not this one: recipe/package.py
    of_tested = "" if math.isclose(tested, margin, abs_tol=0.005) else f"+- {tested:.2f} "
    interval = f"score +- {margin:.2f} for 90 %; {of_tested}held for {coverage:.0%} of the test images"
    return {
        "references": f"{len(parts['train'])} to train, {len(parts['val'])} to choose the epoch",
        "tested on": f"{results['images']} images of {len(parts['test'])} other references",
        "SROCC": f"{srocc:.3f} ({srocc_interval})",
        "PLCC": f"{plcc:.3f}",
        "interval": interval if margin < math.inf else "none: too few images to choose the epoch with",
    }


def naming_text(right: Mapping[str, Any]) -> str:
    """How well distortions are named, in words."""
    shares = f"{right['type']:.0%} of types right (chance 4 %), {right['level']:.0%} of these levels (chance 20 %)"
    return f"{shares}, on {right['photographs']} photographs held out"


def load(path: str | os.PathLike[str] = PACKAGED, long_side: int | None = None) -> QualityModel:
    """The model in the package, the `model.pt` of a finetune.py run, or a .safetensors that `ssl-iqa export` has made
    of one, on the CPU.

    Images are reduced to `long_side` pixels in place of the model's own (0: they stay as they are).

    Raises FileNotFoundError without it, ValueError for a file that is damaged, of a newer version or something else,
    and for a `long_side` that is no whole number or less than 0.
    """
    if long_side is not None and (type(long_side) is not int or long_side < 0):
        raise ValueError(f"long_side must be a whole number, 0 or more, got {long_side!r}")
    try:
        return _load(Path(path), long_side)
    except (FileNotFoundError, ValueError) as error:
        if Path(path) == PACKAGED:
            raise type(error)(f"{error}; {AGAIN}") from error
        raise


def _load(path: Path, long_side: int | None) -> QualityModel:
    try:
        content = model_file.read(path)
        encoder = encoder_from_state(content["encoder"], str(path)).eval()
        encoder.to(memory_format=torch.channels_last)  # a sixth faster on CPUs
        settings, results, naming = content["settings"], content["results"], content["naming"]
        settings = settings if long_side is None else settings | {"long_side": long_side}
        if encoder.seen is None and results:  # a file of an earlier version says it by names alone
            encoder.seen = [{"data": settings["data"], "references": results["split"], "images": {}}]
        weights = content["regressor"]
        hidden = weights.get("0.weight") if isinstance(weights, Mapping) else None
        hidden_dim = len(hidden) if isinstance(hidden, Tensor) and hidden.ndim == 2 else 512
        regressor = Regressor(encoder.dim, hidden_dim=hidden_dim).eval()
        copy_weights(regressor, weights, f"{path}: the regressor of a {encoder.arch} encoder")
        if naming:  # of a file in half precision, too
            naming |= {name: naming[name].float() for name in ("weight", "bias")}
        if naming and naming["weight"].shape[1] != encoder.dim:
            raise ValueError(f"{path}: its naming is not for a {encoder.arch} encoder")
        score_range = tuple(content["score_range"])
        residuals, notes = content["residuals"], dict(content["notes"])
        model = QualityModel(encoder, regressor, score_range, settings, results, residuals, notes, naming)
        model.card()  # which reads all that the file says of the model
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: {model_file.NOT_A_MODEL} ({type(error).__name__}: {error})") from error
    return model


def as_tensor(image: ImageLike, long_side: int) -> Tensor:
    """An image of `QualityModel.score` as RGB [3, H, W], bytes or floating point in [0, 1], of `long_side` or larger.

    Raises OSError or UnreadableImage for a file, ValueError for what is no such image.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(image, least_side=long_side)
    if isinstance(image, Image.Image):
        if 0 in image.size:
            raise ValueError(f"an image must have pixels, got size {image.width} x {image.height}")
        return from_pil(image)
    kinds = "an image must be of bytes (uint8), 0 to 255, or floating point, 0 to 1"
    if isinstance(image, np.ndarray):
        try:
            x = torch.from_numpy(image.copy())  # torch warns of one that cannot be written, as PIL gives
        except TypeError as error:  # text, objects
            raise ValueError(f"{kinds}, got {image.dtype}") from error
        x = x[None] if x.ndim == 2 else x.movedim(-1, 0) if x.ndim == 3 else x
    elif isinstance(image, Tensor):
        if image.is_meta or image.layout != torch.strided:
            raise ValueError("an image must be a tensor with values for all pixels, got a sparse or a meta tensor")
        x = image.detach().cpu()
    else:
        raise ValueError(f"an image must be a path, a PIL image, an array or a tensor, got {type(image).__name__}")
    if x.ndim != 3 or x.shape[0] not in (1, 3) or 0 in x.shape:
        shapes = "an array [H, W, 3] or [H, W], or a tensor [3, H, W]"
        raise ValueError(f"an image must be {shapes}, got shape {list(image.shape)}")
    if x.dtype == torch.uint8:
        return x.expand(3, -1, -1)
    if not x.is_floating_point():
        raise ValueError(f"{kinds}, got {x.dtype}")
    low, high = x.aminmax()
    if not (low >= 0 and high <= 1):  # NaN, too
        raise ValueError(f"{kinds}, got {x.dtype}, {low:g} to {high:g}")
    return x.float().expand(3, -1, -1)


def crops_of(model: QualityModel, image: Tensor) -> Tensor:
    """The test crops of an image, bytes or in [0, 1]: [3, H, W] -> [crops, 3, h, w] in [0, 1]."""
    crops = views.test_crops(at_its_size(model, image), model.settings["crops"], model.settings["crop"])
    return views.to_float(crops)  # of a large image these only


def at_its_size(model: QualityModel, image: Tensor) -> Tensor:
    """An image [3, H, W], bytes or in [0, 1], reduced to the model's long side where it is larger: as bytes then."""
    if image.is_floating_point() and 0 < model.long_side < max(image.shape[1:]):
        image = views.to_bytes(image)
    return reduced(image, model.long_side)


@torch.no_grad()
def look(model: QualityModel, images: Sequence[Tensor]) -> list[Seen]:
    """What the networks say of each image's crops, [crops, 3, h, w]; those of one size pass the encoder together."""
    device = next(model.regressor.parameters()).device
    amp = "bf16" if device.type == "cpu" and model.bf16_change <= MOST_BF16_CHANGE and has_bfloat16() else "off"
    result: list[Seen] = []
    for _, group in groupby(images, key=lambda crops: crops.shape):
        group = list(group)
        x = torch.cat(group).to(device)  # [m * crops, 3, h, w]
        at_once = max(1, AT_ONCE_PIXELS // x[0, 0].numel())
        with autocast(device, amp):
            z = torch.cat([model.encoder(part) for part in x.split(at_once)]).float()  # [m * crops, d]
        y_hat = model.regressor(z).view(len(group), -1).mean(dim=1)
        result += map(Seen, y_hat.tolist(), z.cpu().chunk(len(group)))
    return result


def score_files(
    model: QualityModel, paths: Iterable[str], threads: int, keep: Callable[[Tensor], Any] = lambda image: None
) -> Iterator[tuple[str, Seen | Exception]]:
    """Each file's path and what is seen of it, in their order, or why nothing is: an OSError or UnreadableImage.

    `threads` decode what comes next while the encoder works; only a few images are in memory at any time. `keep` is
    called in these threads with each image, bytes [3, H, W], and gives `Seen.kept`.
    """

    def read(path: str) -> tuple[Tensor, Any] | Exception:
        try:
            image = read_image(path, least_side=model.long_side)
        except (OSError, UnreadableImage) as error:
            return error
        return crops_of(model, image), keep(image)

    for batch in _read_ahead(read, paths, threads):
        seen = iter(look(model, [result[0] for _, result in batch if not isinstance(result, Exception)]))
        for path, result in batch:
            yield path, result if isinstance(result, Exception) else next(seen)._replace(kept=result[1])


def _read_ahead(read: Callable[[str], Any], paths: Iterable[str], threads: int) -> Iterator[list[tuple[str, Any]]]:
    """(path, read(path)), in lists of A_FEW, the next ones under way."""
    paths, before = iter(paths), iter(())
    with ThreadPoolExecutor(threads) as pool:
        while few := list(islice(paths, A_FEW)):
            under_way = zip(few, pool.map(read, few), strict=True)
            yield list(before)
            before = under_way
        yield list(before)
