"""A run's folder: what is written there, so that a kill at any moment leaves what was there before, whole."""

import io
import json
import math
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import torch
from tqdm import tqdm

from ssl_iqa import distributed
from ssl_iqa.workers import worker_end

CONFIG, SPLITS, LOG, RESULTS, LAUNCH = "config.json", "splits.json", "log.jsonl", "results.json", "launch.txt"
TENSORBOARD, CELLS, FEATURES = "tensorboard", "cells", "features"  # folders
LAST, BEST, ENCODER, MODEL = "last.pt", "best.pt", "encoder.pt", "model.pt"
PREDICTIONS, TABLES = "predictions.csv", ("tables.md", "tables.csv", "tables.json")
NEAR_DUPLICATES = "near_duplicates.json"
FILES = (CONFIG, SPLITS, LOG, RESULTS, PREDICTIONS, *TABLES, LAUNCH, LAST, BEST, ENCODER, MODEL, NEAR_DUPLICATES)
FOLDERS = (TENSORBOARD, CELLS, FEATURES)
NUMBERED = "epoch-*.pt"  # the checkpoints that --keep keeps
ONE_SIGTERM = 5.0  # seconds, see stop_signals
STOPPED = 75  # the exit code of a run that a signal has ended; sysexits.h calls it "temporary failure, try again"


Item = TypeVar("Item")


class NotWritten(OSError):
    """A file that could not be written: a full disk, for one. What was there before is still there."""


class Stopped(KeyboardInterrupt):
    """The run was told to end. As with Ctrl-C's own exception, no `except Exception` takes it for an error."""


@dataclass
class Stop:
    """Whether a signal has asked the run to end (`stop_signals`), and whether one ends it at once or after the step."""

    asked: bool = False
    at_once: bool = False

    @contextmanager
    def anywhere(self) -> Iterator[None]:
        """While it lasts, a signal ends the run where it is: raises Stopped, also for one that has come before."""
        before, self.at_once = self.at_once, True
        try:
            if self.asked:
                raise Stopped
            yield
        finally:
            self.at_once = before

    def waiting(self, batches: Iterable[Item]) -> Iterator[Item]:
        """The batches. A signal that comes while one is waited for ends the run, since it may never come.

        Of several processes none ends alone, but all after the same step.
        """
        iterator = iter(batches)
        while True:
            with self.anywhere() if distributed.size() == 1 else nullcontext():
                try:
                    batch = next(iterator)
                except StopIteration:
                    return
            yield batch


class LineAMinute(tqdm):
    """A progress bar where there is no terminal: a line a minute, and none for what takes less than one."""

    def __init__(self, items: Iterable[Item] | None, title: str, total: int | None, done: int) -> None:
        # tqdm's own output, with its carriage returns, goes nowhere
        settings = {"initial": done, "leave": False, "delay": 60, "mininterval": 60, "miniters": 1}
        super().__init__(items, title, total, file=io.StringIO(), **settings)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        if msg is not None:  # the last one, which clears the bar
            return
        state = self.format_dict
        text = f"{self.desc}: {self.n} done"
        if self.total and self.n > self.initial:
            minutes = math.ceil(state["elapsed"] / (self.n - self.initial) * (self.total - self.n) / 60)
            text = f"{self.desc}: {self.n / self.total:.0%} done, {minutes} minutes left"
        print(text + (f"; {self.postfix}" if self.postfix else ""), file=sys.stderr, flush=True)


def bar(items: Iterable[Item], title: str, total: int | None = None, done: int = 0) -> tqdm:
    """The items, `done` of `total` having come before, with a progress bar of the main process on standard error."""
    if not distributed.is_main():
        return tqdm(items, disable=True)
    if sys.stderr.isatty():
        return tqdm(items, title, total, initial=done, leave=False)
    return LineAMinute(items, title, total, done)


@contextmanager
def clear_errors() -> Iterator[None]:
    """Bad input (a ValueError or an OSError from reading it) ends the program with its one line and exit code 2.

    Of several processes on a machine one says it.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        if distributed.on_this_machine()[0] == 0:
            print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:
        if not worker_end(error):
            raise
        sys.exit(f"error: {worker_end(error)}")


@contextmanager
def clear_stop(where: str) -> Iterator[None]:
    """Stopped ends the program with a line, "ended " and `where`, and exit code STOPPED."""
    try:
        yield
    except Stopped:
        print(f"ended {where}", flush=True)
        sys.exit(STOPPED)


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """While it lasts, SIGINT (Ctrl-C) and SIGTERM (a scheduler's) only ask to end: whether they have is what it gives.

    A second one ends the program at once. Two SIGTERMs within `ONE_SIGTERM` seconds are one: a scheduler may signal
    torchrun, which tells its processes, and these processes, too. Outside of the main thread, where Python takes no
    handlers, signals mean what they did before.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: Any) -> None:
        is_first, stop.asked = not stop.asked, True
        if is_first and stop.at_once:
            raise Stopped
        if is_first:
            name = signal.Signals(number).name.encode()
            os.write(2, b"\n" + name + b": ending after this step; a second one ends at once\n")  # amid a print, too

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    threading.Thread(target=_end_at_a_second, args=(reader,), daemon=True).start()
    descriptor = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(descriptor)
        os.write(writer, b"\0")
        os.close(writer)


def _end_at_a_second(reader: int) -> None:
    """Reads signals, which Python writes there when they come: its handlers wait for the end of a long computation."""
    first, came = 0, 0.0
    while number := os.read(reader, 1)[0]:
        if number not in (signal.SIGINT, signal.SIGTERM):
            continue
        if not first:
            first, came = number, time.monotonic()
        elif first != signal.SIGTERM or number != signal.SIGTERM or time.monotonic() - came > ONE_SIGTERM:
            os._exit(128 + number)
    os.close(reader)


def run_in(folder: Path, keep: bool, replace: bool) -> list[str]:
    """What a folder holds of a run: names of files.

    Raises FileExistsError for a run that is neither to be kept nor replaced, NotADirectoryError for a file.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"--out {folder}: not a folder")
    patterns = (NUMBERED, "*.pt.part", "*.json.part")  # and what a kill amid a write has left
    there = [name for name in FILES if (folder / name).exists()]
    there += [path.name for pattern in patterns for path in folder.glob(pattern)]
    if there and not keep and not replace:
        raise FileExistsError(f"--out {folder}: holds a run ({there[0]}); choose another folder, or give --overwrite")
    return there


def prepare_folder(folder: Path, keep: bool, replace: bool) -> None:
    """Make a run's folder, or, where it holds a run, keep it (`keep`), empty it of that run (`replace`) or refuse.

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


def is_of_this_launch(folder: Path) -> bool:
    """Whether the torchrun that has started this process has begun the run in a folder: it goes on after a restart."""
    path, launch = folder / LAUNCH, distributed.launch()
    return bool(launch) and path.is_file() and path.read_text() == launch


def write_atomic(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file beside its place, make sure that it is on the disk, and move it there in one step.

    A symbolic link stays one: what it points to is written. When that fails, what was there before stays, and nothing
    beside it. Raises NotWritten for a disk that is full or fails.
    """
    place = Path(os.path.realpath(path))
    beside = place.with_name(place.name + ".part")
    try:
        with open(beside, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, place)
    except BaseException as error:
        beside.unlink(missing_ok=True)
        for reason in (error, error.__context__):  # torch.save raises a RuntimeError while it handles an OSError
            if isinstance(reason, OSError):
                raise NotWritten(f"{path}: could not be written ({reason})") from error
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
    """One more line of a JSON-lines file. Raises NotWritten."""
    try:
        with open(path, "a") as file:
            file.write(json.dumps(without_nan(content)) + "\n")
    except OSError as error:
        raise NotWritten(f"{path}: could not be written ({error})") from error


def use_device(name: str, workers: int, amp: str = "off") -> torch.device:
    """The device of a name (`auto`: the accelerator where there is one), with torch's threads set for it.

    Of several processes on a machine each gets a GPU of its own. On the CPU the encoder gets the cores that the workers
    leave, and a single process no more threads than OMP_NUM_THREADS says: more threads than cores wait for one another.
    Other numbers of threads add up in another order: results are then the same up to rounding, not bit for bit.
    `amp` is the precision that it will be asked for, see `autocast`.

    Raises ValueError for a device that is not there or has no such precision.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if (name == "cuda" and not torch.cuda.is_available()) or (name == "mps" and not torch.backends.mps.is_available()):
        raise ValueError(f"--device {name}: there is none here; wanted is cpu or auto")
    process, processes = distributed.on_this_machine()
    if name == "mps" and processes > 1:
        raise ValueError("--device mps: processes cannot share it; wanted is cpu, or a single process")
    if name == "cuda" and processes > max(torch.cuda.device_count(), 1):
        raise ValueError(f"--nproc_per_node {processes}: there are {torch.cuda.device_count()} GPUs here")
    if name == "cpu":
        threads = max(1, cpu_cores() // processes - workers)
        asked = os.environ.get("OMP_NUM_THREADS", "")
        if processes == 1 and asked.isdigit():  # torchrun sets it, unasked, to 1
            threads = min(threads, max(1, int(asked)))
        torch.set_num_threads(threads)
        if amp == "fp16" or (amp == "bf16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported()):
            raise ValueError(f"--amp {amp}: this CPU has no such arithmetic; wanted is off")
    if name == "cuda" and amp == "bf16" and not torch.cuda.is_bf16_supported():
        raise ValueError("--amp bf16: this GPU has no such arithmetic; wanted is fp16 or off")
    if name == "cuda" and processes > 1:
        torch.cuda.set_device(process)
        return torch.device("cuda", process)
    return torch.device(name)


def autocast(device: torch.device, amp: str) -> torch.autocast:
    """Mixed precision, `bf16` or `fp16`, for the networks' forward passes in it; `off`: float32."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "off": None}[amp]
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


def cpu_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
