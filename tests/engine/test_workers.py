"""Worker processes: what they hand over, that they need no shared memory, and that a run ends when one of them does."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

import train_joint
from ssl_iqa.data.datasets import UnlabeledViews
from ssl_iqa.data.samplers import Draw
from ssl_iqa.engine import console
from ssl_iqa.engine.workers import make_loader, worker_end
from tests.conftest import error_of, load

ROOT = Path(__file__).parents[2]
Arguments = Callable[..., list[str]]


class Items(Dataset):
    """Tensors of all kinds, large ones and an empty one among them."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(index)
        return [
            torch.rand(3, 200, 200, generator=generator),
            torch.randint(256, (2, 3, 160, 200), generator=generator, dtype=torch.uint8).transpose(2, 3),
            torch.rand(7, generator=generator, dtype=torch.float64),
            torch.empty(0),
            torch.tensor(index),
        ]


def test_what_workers_hand_over_is_what_they_made() -> None:
    """To the bit, and to be written on."""
    expected = list(make_loader(Items(), 0, list, batch_size=None))
    received = list(make_loader(Items(), 2, list, batch_size=None))
    assert len(received) == 4
    for ours, theirs in zip(received, expected, strict=True):
        assert all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
        assert all((tensor + 1).equal(tensor.add_(1)) for tensor in ours)


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="Linux only")
def test_memory_and_files_of_a_batch_are_freed_with_it() -> None:
    files = Path("/proc/self/fd")
    iterator = iter(make_loader(Items(), 1, list, batch_size=None))
    batch = next(iterator)
    held = len(list(files.iterdir()))
    assert sum("memfd:batch" in os.readlink(path) for path in files.iterdir() if path.exists()) == 2
    del batch
    assert len(list(files.iterdir())) <= held - 2


SMALL = """
import sys, torch
from torch.utils.data import Dataset
from ssl_iqa.engine.workers import make_loader

class Large(Dataset):
    def __len__(self): return 3
    def __getitem__(self, index): return torch.full((2**22,), float(index))

print(*(int(batch.sum()) // 2**22 for batch in make_loader(Large(), 1, torch.clone, batch_size=None)))
"""


def test_batches_larger_than_shared_memory_arrive() -> None:
    """16 MB each, where /dev/shm has 1 MB."""
    mounted = "mount -t tmpfs -o size=1m tmpfs /dev/shm"
    in_own_space = ["unshare", "--mount", "sh", "-c", f'{mounted} && "$@"', "sh"]
    if subprocess.run([*in_own_space, "true"], capture_output=True).returncode:
        pytest.skip("mounting a small /dev/shm is not allowed here")
    command = [*in_own_space, sys.executable, "-c", SMALL]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("0 1 2\n", 0), done.stderr


class Ending(Dataset):
    """Items of which the second one ends its worker, or cannot be sent."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> object:
        if index == 1 and self.how == "cannot be sent":
            return lambda: None
        if index == 1:
            os.kill(os.getpid(), getattr(signal, self.how))
        return index


def same_object(item: object) -> object:
    return item


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("SIGKILL", "has ended (Killed); the memory may not be enough for so many --workers"),
        ("SIGBUS", "has ended (Bus error)"),
        ("cannot be sent", "has ended (exit code 1)"),
    ],
)
def test_a_worker_that_ends_ends_the_run_with_a_line(how: str, said: str, capfd: pytest.CaptureFixture[str]) -> None:
    """At once, also where the batch is lost on its way: DataLoader alone would wait for it forever."""
    began = time.monotonic()
    with pytest.raises(SystemExit) as caught, console.clear_errors():
        list(make_loader(Ending(how), 1, same_object, batch_size=None))
    assert caught.value.code == f"error: a worker process that reads images {said}"
    assert time.monotonic() - began < 20
    shown = capfd.readouterr().err
    assert shown.count("error: a batch cannot be handed over (") == (how == "cannot be sent")
    assert "Traceback" not in shown and not multiprocessing.active_children()


def test_all_workers_are_begun_in_one_place() -> None:
    """Elsewhere a loader would hand over in /dev/shm, and drop what cannot be sent."""
    sources = [*ROOT.glob("*.py"), *(ROOT / "ssl_iqa").rglob("*.py")]
    assert [path.name for path in sources if "DataLoader(" in path.read_text()] == ["workers.py"]


def test_other_errors_are_not_taken_for_it() -> None:
    assert worker_end(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) == ""
    assert worker_end(RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly")) == (
        "a worker process that reads images has ended"
    )
    assert worker_end(BrokenProcessPool("A process was terminated abruptly")) != ""


def test_joint_training_says_what_is_saved_when_a_worker_is_killed(
    joint_arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the signal of the kernel that is out of memory, in the second epoch."""
    real, run = UnlabeledViews.__getitem__, os.getpid()

    def getitem(self: UnlabeledViews, draw: Draw) -> object:
        if (tmp_path / "last.pt").exists() and os.getpid() != run:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, draw)

    monkeypatch.setattr(UnlabeledViews, "__getitem__", getitem)
    message = error_of(SystemExit, train_joint.main, joint_arguments(out=tmp_path, workers=1))
    assert message.startswith("error: a worker process that reads images has ended (Killed)")
    assert message.endswith(f"{tmp_path / 'last.pt'} holds epoch 1")
    assert load(tmp_path / "last.pt")["progress"]["epochs"] == 1
