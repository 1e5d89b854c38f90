"""The processes that read images for a run: how they begin, hand over batches, and end.

PyTorch's DataLoader hands batches over in /dev/shm, of which a container has 64 MB unless it is told otherwise; a
batch that does not fit is dropped, and the run waits for it forever. Here batches travel in memory files of the kernel
(`memfd_create`), which no such limit holds for and which take no longer.
"""

import mmap
import multiprocessing.queues
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import reduction
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

SMALL = 2**16  # bytes of a tensor that goes through the workers' pipe; each larger one keeps a file open


def make_loader(dataset: Dataset, workers: int, collate: Callable[[list], Any], **settings: Any) -> DataLoader:
    """A DataLoader whose `workers` processes end and hand over as described above; `settings` are DataLoader's own."""
    return DataLoader(dataset, num_workers=workers, collate_fn=collate, worker_init_fn=begin_worker, **settings)


def begin_worker(worker: int) -> None:
    """A DataLoader's worker_init_fn."""
    leave_signals_to_the_loop()
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(end_worker)
    if hasattr(os, "memfd_create"):  # Linux
        reduction.ForkingPickler.register(Tensor, hand_over)


def leave_signals_to_the_loop() -> None:
    """A worker goes on when a signal ends the run, whose current step still needs its images.

    Ctrl-C and schedulers send their signals to every process. SIGTERM ends a worker only when its own run sends it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not hasattr(signal, "sigwaitinfo"):  # macOS
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def wait_for_the_run() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
            pass
        os._exit(0)

    threading.Thread(target=wait_for_the_run, daemon=True).start()


def end_worker(error: Exception, batch: Any) -> NoReturn:
    """Ends a worker that cannot send a batch, which ends the run.

    It takes the place of multiprocessing's own hook, which drops the batch: the run would wait for it forever.
    """
    print(f"error: a batch cannot be handed over ({type(error).__name__}: {error})", file=sys.stderr, flush=True)
    os._exit(1)


def hand_over(tensor: Tensor) -> tuple[Callable[..., Tensor], tuple]:
    """How a worker sends a tensor, for pickle: as bytes where it is small, otherwise as a memory file."""
    array = tensor.contiguous().numpy()
    if array.nbytes < SMALL:
        return torch.from_numpy, (array,)
    with open(os.memfd_create("batch"), "wb") as file:
        file.write(array)
        file.flush()
        return take_over, (reduction.DupFd(file.fileno()), tensor.dtype, tensor.shape)


def take_over(file: Any, dtype: torch.dtype, shape: torch.Size) -> Tensor:
    """The tensor in a memory file (a multiprocessing.reduction.DupFd), which is freed with it."""
    with open(file.detach(), "r+b") as opened:
        memory = mmap.mmap(opened.fileno(), 0)
    return torch.frombuffer(memory, dtype=dtype).view(shape)


def worker_end(error: RuntimeError) -> str:
    """The message for an error by which DataLoader or a pool says that a worker has ended; empty for any other."""
    if not (str(error).startswith("DataLoader worker (pid") or isinstance(error, BrokenProcessPool)):
        return ""
    text = f"{error} {error.__cause__}"  # DataLoader says how in the first of two errors
    cause = re.search(r"killed by signal: (.+?)\.", text) or re.search(r"(exit code \d+)", text)
    words = f" ({cause[1]})" if cause else ""
    hint = "; the memory may not be enough for so many --workers" if words == " (Killed)" else ""
    return f"a worker process that reads images has ended{words}{hint}"
