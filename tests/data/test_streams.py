"""Both streams side by side: batches, their parts, where they start, and files that cannot be read."""

import multiprocessing
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

import train_joint
from ssl_iqa.data.datasets import LabeledCrops, UnlabeledViews
from ssl_iqa.data.joint_run import find_images
from ssl_iqa.data.sets import load_labeled
from ssl_iqa.data.streams import Streams
from ssl_iqa.distortions import KADIS
from ssl_iqa.engine import distributed
from ssl_iqa.engine.workers import make_loader
from tests.conftest import as_process

SETTINGS = replace(train_joint.PRESETS["paper"], batch_size=4, labeled_batch_size=3, images_per_class=2, workers=0)


def sorted_paths(folder: Path) -> list[str]:
    return sorted(map(str, folder.iterdir()))


@pytest.fixture
def streams(photographs: Path, scored: Path) -> Callable[..., Streams]:
    def make(paths: list[str] | None = None, labeled: bool = True, workers: int = 0, views: int = 2) -> Streams:
        return Streams(
            UnlabeledViews(paths or sorted_paths(photographs), size=32),
            LabeledCrops(load_labeled(f"csv:{scored}"), range(0, 40, 3), size=32) if labeled else None,
            replace(SETTINGS, workers=workers, views=views),
            torch.device("cpu"),
        )

    return make


def test_other_files_of_the_unlabeled_folder_are_counted(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(photographs, tmp_path / "mixed")
    for name in ("a.txt", "b.txt", "c.cr2"):
        (tmp_path / "mixed" / name).touch()
    arguments = (replace(SETTINGS, unlabeled=str(tmp_path / "mixed")), KADIS)
    assert find_images(*arguments).splits["unlabeled"]["train"] == 8
    assert capsys.readouterr().err == "passed over: 2 .txt, 1 .cr2\n"
    monkeypatch.setattr(distributed, "is_main", lambda: False)  # another process does not say it again
    find_images(*arguments)
    assert capsys.readouterr().err == ""


def test_a_labeled_batch_comes_with_every_unlabeled_one(streams: Callable[..., Streams]) -> None:
    both = streams()
    batches = list(both.batches(0))
    assert len(batches) == len(both) == 2
    for (x_d, classes), (x, y) in batches:
        assert (x_d.shape, classes.shape, x.shape, y.shape) == ((8, 3, 32, 32), (8,), (3, 3, 32, 32), (3,))
        assert torch.equal(classes[:4], classes[4:]) and len(classes.unique()) == 2
        assert ((y >= 1) & (y <= 10)).all()
    assert all(labeled is None for _, labeled in streams(labeled=False).batches(0))


def test_one_view_is_the_first_of_two(streams: Callable[..., Streams]) -> None:
    pairs = zip(streams().batches(0), streams(views=1).batches(0), strict=True)
    for ((x_d, classes), labeled), ((first, first_classes), same_labeled) in pairs:
        assert torch.equal(first, x_d[:4]) and torch.equal(first_classes, classes[:4])
        assert torch.equal(labeled[0], same_labeled[0])


def flat(batches: list) -> list[Tensor]:
    return [tensor for pair in batches for batch in pair for tensor in batch]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_epoch_is_the_same_with_any_workers_whatever_came_before(
    streams: Callable[..., Streams], workers: int
) -> None:
    again = streams(workers=workers)
    list(again.batches(0))
    pairs = list(zip(flat(streams().batches(1)), flat(again.batches(1)), strict=True))
    assert len(pairs) == 8 and all(torch.equal(one, two) for one, two in pairs)
    assert not torch.equal(flat(streams().batches(0))[0], pairs[0][0])


def test_files_skipped_are_named_once_and_gathered(
    streams: Callable[..., Streams], damaged: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    both = streams(damaged)
    for epoch in range(8):
        list(both.batches(epoch))
    assert both.skipped == set(damaged[:4])
    lines = capsys.readouterr().err.splitlines()
    assert sorted(lines) == [f"warning: {path}: cannot be read, skipped" for path in damaged[:4]]


def test_an_epoch_goes_on_at_any_step(streams: Callable[..., Streams]) -> None:
    for workers in (0, 1):
        whole, rest = list(streams(workers=workers).batches(2)), list(streams(workers=workers).batches(2, start=1))
        assert len(rest) == len(whole) - 1 == 1
        assert all(torch.equal(one, two) for one, two in zip(flat(whole[1:]), flat(rest), strict=True))
    assert list(streams().batches(2, start=2)) == []


def test_a_batch_made_in_parts_is_the_same(streams: Callable[..., Streams], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = flat(streams().batches(0))
    monkeypatch.setattr("ssl_iqa.data.streams.PART", 3)
    for workers in (0, 2):
        both = streams(workers=workers)
        assert both.parts == 2  # of 3 images and 1
        assert all(torch.equal(one, two) for one, two in zip(whole, flat(both.batches(0)), strict=True))


@pytest.mark.parametrize("part", [64, 1])
def test_processes_have_their_parts_of_each_batch(
    photographs: Path, scored: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    monkeypatch.setattr("ssl_iqa.data.streams.PART", part)

    def batches(process: int, processes: int) -> list:
        labeled = LabeledCrops(load_labeled(f"csv:{scored}"), range(12), size=32)
        unlabeled = UnlabeledViews(sorted_paths(photographs), size=32)
        settings = replace(SETTINGS, labeled_batch_size=2)
        with as_process(process, processes):
            return list(Streams(unlabeled, labeled, settings, torch.device("cpu")).batches(0))

    for ((x_d, classes), (x, y)), *parts in zip(batches(0, 1), batches(0, 2), batches(1, 2), strict=True):
        views = torch.cat([part[0][0].unflatten(0, (2, 2)) for part in parts], dim=1).flatten(0, 1)
        assert torch.equal(x_d, views) and classes.tolist()[:4] == sum((part[0][1].tolist()[:2] for part in parts), [])
        assert torch.equal(x, torch.cat([part[1][0] for part in parts]))
        assert torch.equal(y, torch.cat([part[1][1] for part in parts]))


def test_other_processes_skip_files_without_a_word(
    damaged: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(distributed, "is_main", lambda: False)
    settings = replace(SETTINGS, images_per_class=0, epoch_size=8)
    with as_process(1, 2):
        both = Streams(UnlabeledViews(damaged, 32), None, settings, torch.device("cpu"))
    for epoch in range(8):
        list(both.batches(epoch))
    assert both.skipped == set(damaged[:4]) and capsys.readouterr().err == ""


class Slow(Dataset):
    """The number of the process that made an item."""

    def __len__(self) -> int:
        return 9

    def __getitem__(self, index: int) -> int:
        time.sleep(0.05)
        return os.getpid()


def test_workers_leave_signals_to_the_run_but_for_its_own() -> None:
    items = iter(make_loader(Slow(), 1, int, batch_size=None))
    worker = int(next(items))
    for name in ("-TERM", "-INT"):
        subprocess.run(["kill", name, str(worker)], check=True)  # from another process, as a scheduler's
    assert [int(item) for item in items] == [worker] * 8
    items = iter(make_loader(Slow(), 1, int, batch_size=None))
    worker = int(next(items))
    (child,) = [child for child in multiprocessing.active_children() if child.pid == worker]
    child.terminate()  # SIGTERM from the run
    child.join(5)
    assert child.exitcode == 0
