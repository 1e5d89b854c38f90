"""How a run ends when a signal asks it to: Ctrl-C, or a scheduler's SIGTERM."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

STOPPED = 75  # the exit code of a run that a signal has ended; sysexits.h calls it "temporary failure, try again"


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
    """While it lasts, SIGINT (Ctrl-C) and SIGTERM (a scheduler's) only ask to end: gives whether they have.

    A second Ctrl-C ends the program at once. Further SIGTERMs are ignored, since torchrun and the scheduler may both
    send one: SIGKILL remains. Outside of the main thread, where Python takes no handlers, signals keep their meaning.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: Any) -> None:
        stop.asked = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_IGN if number == signal.SIGTERM else signal.SIG_DFL)
        if stop.at_once:
            raise Stopped
        name = signal.Signals(number).name.encode()
        os.write(2, b"\n" + name + b": ending after this step; Ctrl-C ends at once\n")  # amid a print, too

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
