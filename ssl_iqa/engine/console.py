"""What is printed: progress bars, errors, and a pretraining's start, epochs and end."""

import io
import math
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from typing import Any, TypeVar

import torch
from tqdm import tqdm

from ssl_iqa.engine import distributed, run_folder
from ssl_iqa.engine.checkpoint import Run
from ssl_iqa.engine.workers import worker_end

Batch = TypeVar("Batch")
Item = TypeVar("Item")


class Clock:
    """Images a second, and the share of the time that waiting for batches takes."""

    def __init__(self, images: int) -> None:
        self.images = images  # in a batch
        self.began, self.waited, self.batches = time.perf_counter(), 0.0, 0

    def waiting(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches; the time until each counts as waiting."""
        asked = time.perf_counter()
        for batch in batches:
            self.waited += time.perf_counter() - asked
            self.batches += 1
            yield batch
            asked = time.perf_counter()

    def rates(self) -> dict[str, float]:
        """Images a second and the share of waiting; nothing before the first batch."""
        if not self.batches:
            return {}
        taken = time.perf_counter() - self.began
        per_second = self.batches * self.images / taken
        return {"pictures_per_second": round(per_second, 1), "data_wait": round(self.waited / taken, 3)}


def shown(values: dict[str, float]) -> dict[str, str]:
    """A step's values for the bar."""
    named = {"pictures_per_second": "images/s", "data_wait": "wait"}
    return {named.get(name, name): f"{value:.3g}" for name, value in values.items()}


def one_voice(is_main: bool) -> AbstractContextManager:
    """Within it, of several processes only the main one prints to the standard output."""
    return nullcontext() if is_main else redirect_stdout(None)


def print_start(run: Run, splits: dict, steps: int, device: torch.device) -> None:
    settings = run.settings
    for name, value in sorted(settings.items()):
        print(f"  {name:<20} {value}")
    if settings.get("labeled") == "demo":
        print("The demo's scores are the mean opinions of KADID-10k's 125 classes, not opinions of these very images.")
    train, val = (splits["unlabeled"][part] for part in ("train", "val_pictures"))
    types = len({name for name, *_ in run.distortions})
    classes = f"{types} distortion types, {len(run.distortions)} classes"
    print(f"unlabeled: {train} photographs to train, {val} to validate; {classes}")
    if "labeled" in splits:
        counts = ", ".join(f"{len(splits['labeled'][part])} {part}" for part in ("train", "val", "test"))
        print(f"labeled: {settings['labeled']}, by reference image: {counts}")
    chance = ""
    if "temperature" in settings:  # of Eq. 5
        loss = math.log(settings["views"] * settings["batch_size"] - 1)
        chance = f"; L_cont is about {loss:.2f} where features say nothing"
    places = f"{device.type}, {distributed.size()} processes" if distributed.size() > 1 else str(device)
    print(f"{steps} steps an epoch on {places}{chance}")
    going_on = f", going on after {run.progress}" if run.saved else ""
    print(f"run folder: {run.out}{going_on}", flush=True)


def print_epoch(record: dict[str, Any], is_best: bool, epochs: int) -> None:
    """A line of log.jsonl for people, * at the best epoch so far."""
    parts = [f"epoch {record['epoch']:>3}/{epochs}  L_cont {record['L_cont']:.3f}"]
    val = f"validation: L {record['val_L']:.3f}  L_cont {record['val_L_cont']:.3f}"
    if "L_r" in record:
        parts[0] += f"  L_r {record['L_r']:.3f}"
        val += f"  L_r {record['val_L_r']:.3f}  SROCC {record['val_SROCC']:.3f}"
    print_parts([*parts, val], record, is_best)


def print_parts(parts: list[str], record: dict[str, Any], is_best: bool) -> None:
    """An epoch's losses, in words, and how long it took."""
    if "data_wait" in record:
        parts.append(f"{record['pictures_per_second']:.0f} images/s, {record['data_wait']:.0%} waiting")
    parts.append(f"{record['minutes']:.1f} min" + (" *" if is_best else ""))
    print(" | ".join(parts), flush=True)


def print_probe(accuracies: dict[str, dict[str, float]], run: Run) -> None:
    """What the best encoder has learned (`probe.probe_types`, by name)."""
    types = len({name for name, *_ in run.distortions})
    print(f"Which of the {types} types has a validation photograph? (chance {1 / types:.0%})")
    for name, shares in accuracies.items():
        print(f"  {name}: a linear probe names {shares['linear']:.0%}, the nearest neighbor {shares['neighbor']:.0%}")


def print_end(run: Run, next_command: str, specs: str) -> None:
    """The next command, in which `specs` explain SPEC."""
    if run.skipped:
        print(f"{len(run.skipped)} files could not be read and were skipped")
    print(f"{run.minutes():.1f} minutes. The encoder of the best epoch (*) is {run.out / run_folder.ENCODER}")
    print(f"Next: {next_command}")
    if not run.settings.get("labeled"):
        print(f"with a labeled set as SPEC: {specs}")


class LineAMinute(tqdm):
    """A progress bar where there is no terminal: a line a minute, and none for what takes less than one."""

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        if msg is None:  # the last one clears the bar
            print(self, file=sys.stderr, flush=True)


def bar(items: Iterable[Item], title: str, total: int | None = None, done: int = 0) -> tqdm:
    """The items, `done` of `total` having come before, with a progress bar of the main process on standard error."""
    if not distributed.is_main():
        return tqdm(items, disable=True)
    if sys.stderr.isatty():
        return tqdm(items, title, total, initial=done, leave=False)
    quiet = {"delay": 60, "mininterval": 60, "miniters": 1, "file": io.StringIO()}  # which takes its carriage returns
    return LineAMinute(items, title, total, initial=done, leave=False, **quiet)


@contextmanager
def clear_errors() -> Iterator[None]:
    """Bad input (a ValueError or an OSError from reading it) ends the program with its one line and exit code 2.

    Of several processes on a machine one says it.
    """
    try:
        yield
    except BrokenPipeError:  # is no input
        raise
    except (ValueError, OSError) as error:
        if distributed.on_this_machine()[0] == 0:
            is_systems = isinstance(error, OSError) and error.filename  # as [Errno 2] No such file or directory: ..
            print(f"error: {f'{error.filename}: {error.strerror.lower()}' if is_systems else error}", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:
        if not worker_end(error):
            raise
        sys.exit(f"error: {worker_end(error)}")
