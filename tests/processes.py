"""Processes that tests start: forks of a server that has torch imported, which takes any other process seconds."""

import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["torch", "torchvision", "scipy.interpolate", "scipy.optimize"])  # nothing that is tested
TIMEOUT = 120  # seconds


def run_processes(
    count: int, target: Callable[..., None], *arguments: Any, environment: dict[str, str] | None = None
) -> list[subprocess.CompletedProcess[str]]:
    """Runs a function of a module in each of `count` processes, each in a session of its own, as torchrun's if several.

    Returns each one's exit code and what it wrote. Nothing of the caller's memory is there but the arguments.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        together = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    together |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)} | (environment or {})
    with tempfile.TemporaryDirectory() as folder, ExitStack() as ends:
        started = []
        for rank in range(count):
            own = together | {"RANK": str(rank), "LOCAL_RANK": str(rank)} if count > 1 else {}
            process = SERVER.Process(target=_run, args=(f"{folder}/{rank}", own, target, arguments))
            process.start()
            ends.callback(process.kill)
            started.append(process)
        for process in started:
            process.join(TIMEOUT)
            if process.exitcode is None:
                raise subprocess.TimeoutExpired(target.__name__, TIMEOUT)
        return [
            subprocess.CompletedProcess(
                target, process.exitcode, *(Path(folder, f"{rank}.{name}").read_text() for name in ("out", "err"))
            )
            for rank, process in enumerate(started)
        ]


def run_process(target: Callable[..., None], *arguments: Any) -> subprocess.CompletedProcess[str]:
    """Runs a function of a module in a process and a session of its own: its exit code and what it wrote."""
    return run_processes(1, target, *arguments)[0]


def _run(written: str, environment: dict[str, str], target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    # its own processes begin as a script's
    multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0], force=True)
    os.setsid()
    for descriptor, name in ((1, "out"), (2, "err")):
        file = os.open(f"{written}.{name}", os.O_WRONLY | os.O_CREAT)
        os.dup2(file, descriptor)
        os.close(file)
    os.environ.update(environment)
    try:
        target(*arguments)
        code = 0
    except SystemExit as error:
        code = error.code
    sys.exit(code)  # here, so that nothing holds the run's frames, and with them its workers, as in a script that ends
