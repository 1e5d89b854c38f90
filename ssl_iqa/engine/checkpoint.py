"""The checkpoints of a pretraining: what a run leaves, and how it goes on bit for bit after it was ended.

No random state is saved, since none is used while training: every draw comes from the seed and its place in the run
(`ssl_iqa/data/samplers.py`), so that `Progress` says all. Equal bits take sums in the same order: as many processes,
and on a CPU as many threads, which `--workers` changes (`use_device`).
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ssl_iqa.engine import distributed, run_folder
from ssl_iqa.engine.settings import flag
from ssl_iqa.engine.signals import STOPPED, Stopped
from ssl_iqa.engine.weights import encoder_state
from ssl_iqa.engine.workers import worker_end
from ssl_iqa.schedule import Progress

# Where and how fast a run computes, and, `keep` of earlier versions, what it kept. Of `distortions` the classes are
# compared, of both streams the images (`check_splits`).
MAY_DIFFER = {"unlabeled", "labeled", "workers", "device", "distort_on", "distortions", "amp", "compile"}
MAY_DIFFER |= {"save_every", "keep"}


@dataclass
class Run:
    """The state of a pretraining, which its checkpoints hold."""

    out: Path
    settings: dict[str, Any]
    distortions: list[list]  # the classes, as plain values
    nets: nn.Module  # train_joint.py's `Networks`, or others, of which one is `encoder`
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    progress: Progress = field(default_factory=Progress)
    skipped: set[str] = field(default_factory=set)  # files that could not be read
    earlier_minutes: float = 0.0  # of training, before this start of the program
    began: float = field(default_factory=time.perf_counter)
    saved: str = ""  # the progress in the last checkpoint, in words

    def minutes(self) -> float:
        return self.earlier_minutes + (time.perf_counter() - self.began) / 60


def save_run(run: Run, record: dict[str, Any] | None = None, is_best: bool = False) -> None:
    """Writes last.pt; at an epoch's end a line of the log, too, and encoder.pt where the epoch is the best.

    The first process writes, and the others wait for it. Raises run_folder.NotWritten, on all of them.
    """
    with distributed.together():
        if distributed.is_main():
            _write(run, record, is_best)
    run.saved = str(run.progress)


def _write(run: Run, record: dict[str, Any] | None, is_best: bool) -> None:
    state = {
        "settings": run.settings,
        "distortions": run.distortions,
        "progress": asdict(run.progress),
        "encoder": encoder_state(run.nets.encoder) | {"distortions": run.distortions},
        **{name: head.state_dict() for name, head in heads(run)},
        "optimizer": run.optimizer.state_dict(),
        "scaler": run.scaler.state_dict(),
        "skipped": sorted(run.skipped),
        "minutes": run.minutes(),
    }
    if record is not None:
        run_folder.append_json(record, run.out / run_folder.LOG)
    if is_best:
        run_folder.save(state["encoder"], run.out / run_folder.ENCODER)
    run_folder.save(state, run.out / run_folder.LAST)


def heads(run: Run) -> list[tuple[str, nn.Module]]:
    """The networks beside the encoder: projector and regressor in joint training."""
    return [(name, child) for name, child in run.nets.named_children() if name != "encoder"]


@contextmanager
def clear_end(run: Run) -> Iterator[None]:
    """A signal ends the run with a checkpoint, one line and exit code STOPPED.

    A loss that is not finite, a full disk and a dead worker end it with one line and code 1, and leave the checkpoint
    that was there before.
    """
    try:
        try:
            yield
        except Stopped:
            save_run(run)
            print(f"ended after {run.progress}, which {run.out / run_folder.LAST} holds; --resume goes on from there")
            sys.exit(STOPPED)
    except (FloatingPointError, run_folder.NotWritten, RuntimeError) as error:
        is_known = isinstance(error, FloatingPointError | run_folder.NotWritten)
        message = str(error) if is_known else worker_end(error)
        if not message:
            raise
        left = f"{run.out / run_folder.LAST} holds {run.saved}" if run.saved else "nothing was saved before"
        sys.exit(f"error: {message}; {left}" if distributed.is_main() or not is_known else 1)


def read_run(out: Path, settings: dict[str, Any], distortions: list[list]) -> dict[str, Any]:
    """The last checkpoint in a run's folder.

    Raises FileNotFoundError where there is none, ValueError for another file or a run of other settings.
    """
    path = out / run_folder.LAST
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; --resume needs the folder of a run that has been saved")
    state = run_folder.load(path)
    if not isinstance(state, dict) or not {"settings", "distortions", "optimizer"} <= state.keys():
        raise ValueError(f"{path}: not a checkpoint of a pretraining")
    saved = state["settings"]
    saved["long_side"] = run_folder.saved_long_side(saved)
    may_differ = {*MAY_DIFFER}
    if settings["schedule"] == "plateau":  # where no rate of a step depends on it, a run may become longer
        may_differ.add("epochs")
    if "remove" not in (saved.setdefault("near_duplicates", "ignore"), settings.get("near_duplicates")):
        may_differ.add("near_duplicates")
    differing = [
        f"{flag(name)} was {was!r}, is {settings.get(name)!r}"
        for name, was in saved.items()
        if name not in may_differ and was != settings.get(name)
    ]
    if any(name.startswith("--epochs ") for name in differing):
        differing.append("with --schedule linear the learning rates of all steps depend on --epochs")
    if state["distortions"] != distortions:
        differing.append("--distortions had other classes")
    if differing:
        raise ValueError(f"{path}: a run of other settings: {'; '.join(differing)}")
    return state


def check_splits(out: Path, splits: dict[str, Any]) -> None:
    """Raises ValueError where the images of a run, or their split, are no longer those of its splits.json."""
    path = out / run_folder.SPLITS
    was = run_folder.read_json(path)
    differing = [f"there were no {stream} images" for stream in splits.keys() - was.keys() - {"sha256"}]
    words = {"unlabeled": "unlabeled names", "labeled": "labeled names or scores"}  # of a digest
    for stream, parts in was.items():  # digests of an earlier version may be fewer
        for part, before in parts.items():
            after = splits.get(stream, {}).get(part)
            if part == "spec" or before == after:  # the spec: where the images lie
                continue
            if stream == "sha256":
                differing.append(f"the {words.get(part, part)} are others")
                continue
            counts = [len(value) if isinstance(value, list) else value for value in (before, after)]
            others = " others" if counts[0] == counts[1] else ""
            differing.append(f"{stream} {part} was {counts[0]}, is {counts[1]}{others}")
    if differing:
        raise ValueError(f"{path}: the images have changed since: {'; '.join(differing)}")


def restore(run: Run, state: dict[str, Any], splits: dict[str, Any]) -> None:
    """Puts everything back as it was when `state` was saved. Raises ValueError where the images are others."""
    check_splits(run.out, splits)
    run.nets.encoder.load_state_dict(state["encoder"]["weights"])
    for name, head in heads(run):
        head.load_state_dict(state[name])
    run.optimizer.load_state_dict(state["optimizer"])
    if state.get("scaler"):  # of fp16 only
        run.scaler.load_state_dict(state["scaler"])
    run.progress = Progress(**state["progress"])
    run.skipped.update(state.get("skipped", ()))
    run.earlier_minutes = state.get("minutes", 0.0)
    run.saved = str(run.progress)


def begin(run: Run, splits: dict[str, Any]) -> None:
    """Writes what a run's folder has from the start, and takes out of its log what will be done again."""
    log = run.out / run_folder.LOG
    kept = log.read_bytes().splitlines(keepends=True)[: run.progress.epochs] if log.exists() else []
    run_folder.write_atomic(log, lambda file: file.writelines(kept))
    run_folder.write_json(run.settings, run.out / run_folder.CONFIG)
    run_folder.write_json(splits, run.out / run_folder.SPLITS)
    if launch := distributed.launch():
        run_folder.write_atomic(run.out / run_folder.LAUNCH, lambda file: file.write(launch.encode()))
