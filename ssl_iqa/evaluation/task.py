"""One fit of an encoder to a labeled set: its data and settings, its best epoch, and the last epoch that is saved."""

import copy
import hashlib
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.data.samplers import LabeledBatches
from ssl_iqa.data.seen import contents
from ssl_iqa.engine import distributed, run_folder
from ssl_iqa.engine.weights import encoder_state
from ssl_iqa.model import Encoder, Regressor

SAVE_AFTER = 30.0  # seconds since the last save, at an epoch's end: LP's epochs take less than a save


@dataclass
class Task:
    """A labeled set, its parts (indices of images), and how an encoder is fitted to it."""

    labeled: LabeledSet
    parts: dict[str, list[int]]
    device: torch.device
    settings: Any  # finetune.py's: of one mode, one encoder, one set, its split's seed
    verbose: bool = False  # a line an epoch
    last: Path | None = None  # the file in which epochs are saved, if they are
    saved: dict[str, Any] = field(default_factory=dict)  # its content at the start, see `read_epoch`
    skipped: set[str] = field(default_factory=set)  # files that could not be read
    began: float = field(default_factory=time.perf_counter)
    saved_at: float = field(default_factory=time.monotonic)

    @property
    def is_save_due(self) -> bool:
        """Whether the epoch that has ended is to be saved, by this process."""
        return self.last is not None and distributed.is_main() and time.monotonic() - self.saved_at >= SAVE_AFTER

    @property
    def workers(self) -> int:
        return 0 if self.labeled.kept else self.settings.workers

    def sampler(self, images: int) -> LabeledBatches:
        """Draws of as many images, in as many steps an epoch as the whole training part takes."""
        size, seed = self.settings.batch_size, self.settings.seed
        steps = math.ceil(len(self.parts["train"]) / size)
        return LabeledBatches(images, steps, size, seed)

    def minutes(self) -> float:
        return self.saved.get("minutes", 0.0) + (time.perf_counter() - self.began) / 60

    def digest(self, encoder: Encoder) -> str:
        """Names all that features depend on: the encoder's weights, the images wherever they lie, and their crops."""
        settings, labeled = self.settings, self.labeled
        cropped: tuple = (encoder.arch, settings.crop, settings.crops, settings.amp, labeled.classes)
        if labeled.long_side != run_folder.saved_long_side({"data": labeled.name}):  # else as before --long-side
            cropped += (labeled.long_side,)
        known = hashlib.sha256((repr(cropped) + repr(contents(labeled))).encode())
        for tensor in encoder.state_dict().values():
            known.update(tensor.cpu().contiguous().numpy().tobytes())
        return known.hexdigest()[:32]


@dataclass
class Best:
    """The epoch with the best validation SROCC so far, the weights that it had, and how far its scores were off."""

    srocc: float = -2.0
    epoch: str = ""
    weights: dict = field(default_factory=dict)
    residuals: Tensor = field(default_factory=lambda: torch.empty(0))  # |y_hat - y|, [M]

    def offer(self, srocc: float, epoch: str, networks: tuple[Encoder, Regressor], residuals: Tensor) -> bool:
        """Takes an epoch that is better than all before. SROCC is nan where predictions are all equal."""
        new, best = np.nan_to_num([srocc, self.srocc], nan=-2)
        if self.weights and new <= best:
            return False
        encoder, regressor = networks
        self.weights = copy.deepcopy({"encoder": encoder_state(encoder), "regressor": regressor.state_dict()})
        self.srocc, self.epoch, self.residuals = srocc, epoch, residuals
        return True


def save_epoch(
    phase: str, epochs: int, trained: tuple[Encoder, Regressor, torch.optim.Adam], best: Best, task: Task, **more: Any
) -> None:
    """Saves what a run needs to resume bit for bit after `epochs` of a phase: draws come from the epoch's number.

    `more` is what the phase has of its own, by the names that `Task.saved` gives it back under.
    """
    names = ("encoder", "regressor", "optimizer")
    state = {name: part.state_dict() for name, part in zip(names, trained, strict=True)}
    state |= {"phase": phase, "epochs": epochs, "best": vars(best), **more}
    state |= {"minutes": task.minutes(), "digest": task.saved["digest"], "parts": task.parts}
    task.last.parent.mkdir(parents=True, exist_ok=True)
    run_folder.save(state, task.last)
    task.saved_at = time.monotonic()


def read_epoch(last: Path, encoder: Encoder, task: Task) -> None:
    """Reads what `save_epoch` wrote into `last`, if it did, and the digest of what is trained on, into the task.

    Raises ValueError for a damaged file, and where the encoder to start from, the images or their parts have changed.
    """
    task.last, task.saved = last, {"digest": task.digest(encoder)}
    if not distributed.every(last.is_file())[0]:
        return
    saved = run_folder.load(last)
    if (saved["digest"], saved["parts"]) != (task.saved["digest"], task.parts):
        raise ValueError(f"{last}: the encoder, the images or their split have changed since; --overwrite starts again")
    task.saved = saved


def restore(encoder: Encoder, regressor: Regressor, task: Task) -> Best:
    """Gives both networks the weights of the epoch that was saved, if any. Returns the best epoch until then."""
    if "phase" not in task.saved:
        return Best()
    encoder.load_state_dict(task.saved["encoder"])
    regressor.load_state_dict(task.saved["regressor"])
    return Best(**task.saved["best"])
