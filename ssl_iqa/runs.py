"""A run's folder: what is written there, so that a kill at any moment leaves what was there before, whole."""

import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch

CONFIG, SPLITS, LOG, RESULTS = "config.json", "splits.json", "log.jsonl", "results.json"
LAST, BEST, ENCODER, MODEL = "last.pt", "best.pt", "encoder.pt", "model.pt"
FILES = (CONFIG, SPLITS, LOG, RESULTS, LAST, BEST, ENCODER, MODEL)


@contextmanager
def clear_errors() -> Iterator[None]:
    """Bad input (a ValueError or an OSError from reading it) ends the program with its one line and exit code 2."""
    try:
        yield
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def prepare_folder(folder: Path, keep: bool, replace: bool) -> None:
    """Make a run's folder, or, where it holds a run, keep it (`keep`), empty it of that run (`replace`) or refuse.

    Raises FileExistsError for a run that is neither to be kept nor replaced, and OSError for a folder that cannot be
    made or written.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"--out {folder}: not a folder")
    there = [name for name in FILES if (folder / name).exists()]
    if there and not keep and not replace:
        raise FileExistsError(f"--out {folder}: holds a run ({there[0]}); choose another folder, or give --overwrite")
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"--out {folder}: this folder cannot be written")
    if there and not keep:
        print(f"{folder}: the run that was here is replaced")
        for name in there:
            (folder / name).unlink()


def write_atomic(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file beside its place, make sure that it is on the disk, and move it there in one step.

    When that fails, what was there before stays, and nothing beside it.
    """
    beside = path.with_name(path.name + ".part")
    try:
        with open(beside, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def save(state: dict[str, Any], path: Path) -> None:
    """Tensors and plain values, for `torch.load(weights_only=True)`."""
    write_atomic(path, lambda file: torch.save(state, file))


def load(path: Path) -> dict[str, Any]:
    """What `save` wrote. Raises ValueError for a file that is damaged."""
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
    """One more line of a JSON-lines file."""
    with open(path, "a") as file:
        file.write(json.dumps(without_nan(content)) + "\n")


def use_device(name: str, workers: int) -> torch.device:
    """The device of a name (`auto`: the accelerator where there is one), with torch's threads set for it.

    On the CPU the encoder gets the cores that the workers leave: more threads than cores wait for one another.
    Raises ValueError for a device that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if (name == "cuda" and not torch.cuda.is_available()) or (name == "mps" and not torch.backends.mps.is_available()):
        raise ValueError(f"--device {name}: there is none here; wanted is cpu or auto")
    if name == "cpu":
        torch.set_num_threads(max(1, cpu_cores() - workers))
    return torch.device(name)


def cpu_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
