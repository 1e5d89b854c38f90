"""The checkpoints of joint training: what an epoch leaves, and how a killed run goes on after its last whole one."""

import math
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch

from ssl_iqa import runs
from ssl_iqa.model import Networks, encoder_state

# Where a run computes does not change what it computes; of `distortions` the classes are compared, not the name.
MAY_DIFFER = ("workers", "device", "distort_on", "distortions")


@dataclass
class Progress:
    """How far a run has come: whole epochs done, and what plateaus and early stopping count (Section 4.2)."""

    epochs: int = 0
    best_loss: float = math.inf
    since_best: int = 0
    plateaus: int = 0

    def update(self, val_loss: float, patience: int) -> bool:
        """Counts an epoch by its monitored loss; True if that is the best so far."""
        self.epochs += 1
        if val_loss < self.best_loss:
            self.best_loss, self.since_best = val_loss, 0
            return True
        self.since_best += 1
        self.plateaus += self.since_best % patience == 0
        return False


def save_run(
    out: Path,
    nets: Networks,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    settings: dict[str, Any],
    distortions: list[list],
    is_best: bool,
) -> None:
    """The checkpoint of an epoch; also the best one and its encoder, if it is that.

    `distortions` are the classes, as plain values.
    """
    state = {
        "settings": settings,
        "distortions": distortions,
        "progress": asdict(progress),
        "encoder": encoder_state(nets.encoder) | {"distortions": distortions},
        "projector": nets.projector.state_dict(),
        "regressor": nets.regressor.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    if is_best:
        runs.save(state["encoder"], out / runs.ENCODER)
        runs.save(state, out / runs.BEST)
    runs.save(state, out / runs.LAST)


def read_run(out: Path, settings: dict[str, Any], distortions: list[list]) -> dict[str, Any]:
    """The last checkpoint in a run's folder.

    Raises FileNotFoundError where there is none, ValueError for another file or a run of other settings.
    """
    path = out / runs.LAST
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; --resume wants the folder of a run that has saved an epoch")
    state = runs.load(path)
    wanted = ("settings", "distortions", "progress", "encoder", "projector", "regressor", "optimizer")
    if not isinstance(state, dict) or not {*wanted} <= {*state}:
        raise ValueError(f"{path}: not a checkpoint of train_joint.py; wanted is one with {', '.join(wanted)}")
    differing = [
        f"--{name.replace('_', '-')} was {was!r}, is {settings.get(name)!r}"
        for name, was in state["settings"].items()
        if name not in MAY_DIFFER and was != settings.get(name)
    ]
    for was, now in zip_longest(state["distortions"], distortions):
        if was != now:
            differing.append(f"--distortions had the class {was}, has {now}")
            break
    if differing:
        raise ValueError(f"{path}: a run of other settings: {'; '.join(differing)}")
    return state


def resume_run(state: dict[str, Any], out: Path, nets: Networks, optimizer: torch.optim.Optimizer) -> Progress:
    """Puts everything back as it was after the epoch of `state`, the log too."""
    nets.encoder.load_state_dict(state["encoder"]["weights"])
    nets.projector.load_state_dict(state["projector"])
    nets.regressor.load_state_dict(state["regressor"])
    optimizer.load_state_dict(state["optimizer"])
    progress = Progress(**state["progress"])
    log = out / runs.LOG  # an epoch that was logged but not saved will be run again
    kept = log.read_bytes().splitlines(keepends=True)[: progress.epochs]
    runs.write_atomic(log, lambda file: file.writelines(kept))
    return progress
