"""A run's folder, written so that a kill at any moment leaves each file whole, as it was before or after."""

import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import torch

from ssl_iqa.engine import distributed

CONFIG, SPLITS, LOG, RESULTS, LAUNCH = "config.json", "splits.json", "log.jsonl", "results.json", "launch.txt"
CELLS, FEATURES = "cells", "features"  # folders
LAST, BEST, ENCODER, MODEL = "last.pt", "best.pt", "encoder.pt", "model.pt"
PREDICTIONS, TABLES = "predictions.csv", ("tables.md", "tables.csv", "tables.json")
NEAR_DUPLICATES = "near_duplicates.json"
FILES = (CONFIG, SPLITS, LOG, RESULTS, PREDICTIONS, *TABLES, LAUNCH, LAST, BEST, ENCODER, MODEL, NEAR_DUPLICATES)
FOLDERS = (CELLS, FEATURES, "tensorboard")  # the last is of earlier versions, as epoch-*.pt is


def saved_long_side(settings: Mapping[str, Any]) -> int | None:
    """`--long-side` in the settings of a file. Earlier files, without it, reduced the demo's photographs to 192 pixels
    and no other images: None for a run that had both.
    """
    if "long_side" in settings:
        return settings["long_side"]
    data = settings.get("data", [])
    specs = {settings.get("unlabeled"), settings.get("labeled"), *([data] if isinstance(data, str) else data)}
    specs -= {None, ""}
    return 192 if specs == {"demo"} else None if "demo" in specs else 0


class NotWritten(OSError):
    """A file that could not be written: a full disk, for one. What was there before is still there."""


def run_in(folder: Path, keep: bool, replace: bool) -> list[str]:
    """The names of a run's files in a folder.

    Raises FileExistsError for a run that is neither kept nor replaced, NotADirectoryError for a file.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"--out {folder}: not a folder")
    patterns = ("epoch-*.pt", "*.pt.part", "*.json.part")  # and what a kill amid a write has left
    there = [name for name in FILES if (folder / name).exists()]
    there += [path.name for pattern in patterns for path in folder.glob(pattern)]
    if there and not keep and not replace:
        raise FileExistsError(f"--out {folder}: holds a run ({there[0]}); choose another folder, or give --overwrite")
    return there


def prepare_folder(folder: Path, keep: bool, replace: bool) -> None:
    """Makes a run's folder; of a run in it the files stay (`keep`) or are removed (`replace`).

    Raises what `run_in` raises, and OSError for a folder that cannot be made or written.
    """
    there = run_in(folder, keep, replace)
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"--out {folder}: this folder cannot be written")
    if there and not keep:
        print(f"{folder}: the run that was here is replaced")
        for name in there:
            (folder / name).unlink()
        for name in FOLDERS:
            shutil.rmtree(folder / name, ignore_errors=True)


def check_out(path: Path, name: str = "--out") -> None:
    """Raises FileNotFoundError or IsADirectoryError where no file can be written: before the work, not after it."""
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"{name} {path}: no such folder: {path.parent}")
    if path.is_dir():
        raise IsADirectoryError(f"{name} must be a file, got the folder {path}")


def refuse_input(out: Path, inputs: Iterable[str | Path]) -> None:
    """Raises ValueError where `out` is one of the files that are read."""
    if out.exists() and out.resolve() in {Path(path).resolve() for path in inputs}:
        raise ValueError(f"--out must be another file than the images, got {out}")


def is_of_this_launch(folder: Path) -> bool:
    """Whether this process's torchrun began the run in a folder, which goes on after a restart."""
    path, launch = folder / LAUNCH, distributed.launch()
    return bool(launch) and path.is_file() and path.read_text() == launch


def write_atomic(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Writes a file beside its place, flushes it to the disk, and moves it there in one step.

    A symbolic link stays one: what it points to is written. What is no file, as a pipe, is written into and stays. When
    that fails, what was there before stays, and nothing beside it. Raises NotWritten for a disk that is full or fails.
    """
    place = Path(os.path.realpath(path))
    is_file = place.is_file() or not place.exists()
    beside = place.with_name(place.name + ".part") if is_file else place
    try:
        with open(beside, "wb") as file:
            write(file)
            file.flush()
            if is_file:
                os.fsync(file.fileno())
        if is_file:
            os.replace(beside, place)
    except BaseException as error:
        if is_file:
            beside.unlink(missing_ok=True)
        for reason in (error, error.__context__):  # torch.save raises a RuntimeError while it handles an OSError
            if isinstance(reason, OSError):
                raise NotWritten(f"{path}: could not be written ({reason})") from error
        raise


def save(state: dict[str, Any], path: Path) -> None:
    """Tensors and plain values, for `torch.load(weights_only=True)`."""
    write_atomic(path, lambda file: torch.save(state, file))


def load(path: Path) -> dict[str, Any]:
    """The content of a file that `save` wrote. Raises ValueError for a damaged file."""
    with open(path, "rb") as file:
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # on damaged files torch raises almost anything, an OSError without the name too
            raise ValueError(f"{path}: damaged, or no checkpoint ({type(error).__name__})") from error


def write_json(content: Any, path: Path) -> None:
    write_atomic(path, lambda file: file.write((json.dumps(without_nan(content), indent=2) + "\n").encode()))


def without_nan(content: Any) -> Any:
    """JSON has no NaN and no infinity: null in their place."""
    if isinstance(content, dict):
        return {name: without_nan(value) for name, value in content.items()}
    if isinstance(content, list):
        return [without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def read_json(path: Path) -> Any:
    """Raises ValueError for a file that is no JSON."""
    try:
        return json.loads(path.read_text())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not a JSON file ({error})") from error


def append_json(content: dict[str, Any], path: Path) -> None:
    """One more line of a JSON-lines file. Raises NotWritten."""
    try:
        with open(path, "a") as file:
            file.write(json.dumps(without_nan(content)) + "\n")
    except OSError as error:
        raise NotWritten(f"{path}: could not be written ({error})") from error
