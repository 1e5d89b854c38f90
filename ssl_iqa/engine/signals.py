"""How a run ends when a signal asks it to: Ctrl-C, or a scheduler's SIGTERM."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

from ssl_iqa.engine import distributed

ONE_SIGTERM = 5.0  # seconds, see stop_signals
STOPPED = 75  # the exit code of a run that a signal has ended; sysexits.h calls it "temporary failure, try again"

Item = TypeVar("Item")


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
