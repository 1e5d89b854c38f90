"""A run's folder: what is written is whole, a run is not lost by accident, and errors are one line."""

import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

import pytest
import torch

from ssl_iqa.engine import console, distributed, run_folder
from ssl_iqa.engine.device import use_device
from tests.processes import run_process


class Stopped(Exception):
    """What a test stops a write with."""


# --- writing ---


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(b"old")

    def half(file: IO[bytes]) -> None:
        file.write(b"ne")
        file.flush()
        assert path.read_bytes() == b"old"
        raise Stopped

    with pytest.raises(Stopped):
        run_folder.write_atomic(path, half)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_write_is_on_the_disk_before_it_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int | str] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_size))
    monkeypatch.setattr(os, "replace", lambda source, target: synced.append("replaced"))
    run_folder.write_atomic(tmp_path / "a", lambda file: file.write(b"whole"))
    assert synced == [len(b"whole"), "replaced"]


def test_a_write_replaces_the_old_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    for content in (b"old and long", b"new"):
        run_folder.write_atomic(tmp_path / "a", lambda file, content=content: file.write(content))
        assert (tmp_path / "a").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def killed_in_save(path: Path) -> None:
    def half(state: dict[str, Any], file: BinaryIO) -> None:
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    run_folder.save({"weights": torch.arange(5)}, path)
    torch.save = half
    run_folder.save({"weights": torch.arange(9)}, path)


def test_kill_9_in_the_middle_of_a_save_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    assert run_process(killed_in_save, path).returncode == -signal.SIGKILL
    assert (tmp_path / "last.pt.part").read_bytes() == b"half"
    assert torch.load(path, weights_only=True)["weights"].tolist() == [0, 1, 2, 3, 4]
    run_folder.save({"weights": torch.zeros(1)}, path)  # what the kill left is not in the way
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_json_comes_back_as_it_was(tmp_path: Path) -> None:
    content = {"a": [1, 2.5, "é"], "b": None}
    run_folder.write_json(content, tmp_path / "a.json")
    assert run_folder.read_json(tmp_path / "a.json") == content == json.loads((tmp_path / "a.json").read_text())


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe"])
def test_a_file_that_is_no_json_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.json: not a JSON file") as caught:
        run_folder.read_json(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


def test_a_log_grows_by_lines(tmp_path: Path) -> None:
    for epoch in (1, 2):
        run_folder.append_json({"epoch": epoch}, tmp_path / "log.jsonl")
    assert [json.loads(line) for line in (tmp_path / "log.jsonl").open()] == [{"epoch": 1}, {"epoch": 2}]


# --- the folder ---


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder, with a file in it that is no part of the run."""
    for name in ("config.json", "last.pt", "log.jsonl", "notes.txt"):
        (tmp_path / name).write_text(name)
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_folder_is_made_with_those_above_it(tmp_path: Path) -> None:
    run_folder.prepare_folder(tmp_path / "a" / "b", keep=False, replace=False)
    assert names(tmp_path / "a" / "b") == []


def test_a_folder_with_other_files_is_used(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    run_folder.prepare_folder(tmp_path, keep=False, replace=False)


@pytest.mark.parametrize("name", run_folder.FILES)
def test_a_run_is_not_overwritten_unasked(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(FileExistsError, match=f"{tmp_path}: holds a run .*--overwrite"):
        run_folder.prepare_folder(tmp_path, keep=False, replace=False)
    assert names(tmp_path) == [name]


def test_a_run_that_is_replaced_is_emptied_of_its_own_files_only(run: Path) -> None:
    run_folder.prepare_folder(run, keep=False, replace=True)
    assert names(run) == ["notes.txt"]


@pytest.mark.parametrize("replace", [False, True])
def test_a_run_that_is_kept_stays_whole(run: Path, replace: bool) -> None:
    run_folder.prepare_folder(run, keep=True, replace=replace)
    assert names(run) == ["config.json", "last.pt", "log.jsonl", "notes.txt"]


@pytest.mark.parametrize("replace", [False, True])
def test_a_folder_that_cannot_be_written_is_an_error_and_stays(
    run: Path, replace: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / "config.json").unlink(), (run / "last.pt").unlink()
    if not replace:
        (run / "log.jsonl").unlink()
    before = names(run)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(PermissionError, match=f"{run}: this folder cannot be written"):
        run_folder.prepare_folder(run, keep=False, replace=replace)
    assert names(run) == before


def test_a_file_is_no_folder(run: Path) -> None:
    with pytest.raises(NotADirectoryError, match=r"notes\.txt: not a folder"):
        run_folder.prepare_folder(run / "notes.txt", keep=False, replace=True)
    with pytest.raises(OSError, match=r"notes\.txt"):
        run_folder.prepare_folder(run / "notes.txt" / "below", keep=False, replace=True)


# --- progress without a terminal ---


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """[seconds]: tqdm's clock, to be set."""
    now = [1000.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    return now


def passing(items: range, clock: list[float], seconds: float) -> Iterator[int]:
    """Items of which each takes so many seconds."""
    for item in items:
        clock[0] += seconds
        yield item


def test_without_a_terminal_long_work_says_a_line_a_minute(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    """47 batches of 20 seconds: 16 minutes; 7 of them had come before."""
    bar = console.bar(passing(range(40), clock, 20), "features", total=47, done=7)
    assert list(bar) == list(range(40))
    shown = capsys.readouterr()
    assert shown.out == "" and "\r" not in shown.err
    words = [(":  21%|", " 10/47 [01:00<12:20, "), (":  28%|", " 13/47 [02:00<11:20, ")]  # passed<left
    for line, (share, times) in zip(shown.err.splitlines(), words, strict=False):
        assert line.startswith("features" + share) and times in line
    assert len(shown.err.splitlines()) == 13


def test_it_says_what_a_loop_adds_and_how_far_it_is_without_an_end(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    bar = console.bar(passing(range(2), clock, 61), "images")
    for _ in bar:
        bar.set_postfix({"L": "3.21"}, refresh=False)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" [")[0] for line in lines] == ["images: 1it", "images: 2it"]
    assert all(line.endswith("L=3.21]") for line in lines)


@pytest.mark.parametrize(("seconds", "is_main"), [(1.4, True), (20, False)])
def test_short_work_and_other_processes_are_silent(
    clock: list[float], capsys: pytest.CaptureFixture[str], monkeypatch: Any, seconds: float, is_main: bool
) -> None:
    monkeypatch.setattr(distributed, "is_main", lambda: is_main)
    assert list(console.bar(passing(range(40), clock, seconds), "features", total=40)) == list(range(40))
    assert capsys.readouterr() == ("", "")


# --- errors and devices ---


@pytest.mark.parametrize("error", [ValueError, FileNotFoundError, PermissionError])
def test_bad_input_is_one_line_and_exit_code_2(error: type[Exception], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught, console.clear_errors():
        raise error("a.csv: bad")
    assert caught.value.code == 2
    assert capsys.readouterr() == ("", "error: a.csv: bad\n")


@pytest.mark.parametrize("error", [TypeError, KeyError, RuntimeError, AssertionError, KeyboardInterrupt])
def test_no_other_error_is_hidden(error: type[BaseException]) -> None:
    with pytest.raises(error), console.clear_errors():
        raise error


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Four cores and no accelerator; gathers what torch's threads are set to."""
    gathered: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", gathered.append)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(4), raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return gathered


@pytest.mark.parametrize(("name", "workers", "left"), [("cpu", 0, 4), ("auto", 1, 3), ("cpu", 9, 1)])
def test_the_cpu_gets_the_cores_that_the_workers_leave(threads: list[int], name: str, workers: int, left: int) -> None:
    assert use_device(name, workers) == torch.device("cpu") and threads == [left]


@pytest.mark.parametrize(("asked", "left"), [("1", 1), ("2", 2), ("3", 3), ("8", 3), ("0", 1), ("2,1", 3), ("", 3)])
def test_no_more_threads_than_asked_for(
    threads: list[int], monkeypatch: pytest.MonkeyPatch, asked: str, left: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    use_device("cpu", 1)
    assert threads == [left]


def test_what_torchrun_asks_for_is_not_asked_for(threads: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(distributed, "on_this_machine", lambda: (0, 2))
    use_device("cpu", 0)
    assert threads == [2]


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_an_error(threads: list[int], name: str) -> None:
    with pytest.raises(ValueError, match=f"--device must be cpu or auto where there is no {name}, got {name}"):
        use_device(name, 0)


def test_auto_is_the_accelerator_where_there_is_one(threads: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert use_device("auto", 0) == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert use_device("auto", 0) == torch.device("cuda") and threads == []


@pytest.mark.parametrize(
    ("amp", "supported", "message"),
    [("fp16", True, "fp16"), ("bf16", False, "bf16"), ("bf16", True, None), ("off", False, None)],
)
def test_arithmetic_that_a_cpu_has_not_is_an_error(
    threads: list[int], monkeypatch: pytest.MonkeyPatch, amp: str, supported: bool, message: str | None
) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    if message is None:
        assert use_device("cpu", 0, amp) == torch.device("cpu")
    else:
        with pytest.raises(ValueError, match=f"--amp must be off on this CPU, got {message}"):
            use_device("cpu", 0, amp)


def test_processes_of_a_machine_share_its_cores_and_have_a_gpu_each(
    threads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": 3, "WORLD_SIZE": 4, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    use_device("cpu", workers=1)
    assert threads == [1]  # four cores, two processes of one worker each
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert use_device("auto", 0) == torch.device("cuda", 1) and chosen == [1]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="--nproc_per_node must be at most 1, the GPUs, got 2"):
        use_device("cuda", 0)


def test_only_the_first_process_of_a_machine_names_bad_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"RANK": 3, "WORLD_SIZE": 4, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(SystemExit) as caught, console.clear_errors():
        raise ValueError("a.csv: bad")
    assert caught.value.code == 2 and capsys.readouterr().err == ""


def test_a_folder_is_known_by_the_torchrun_that_began_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not run_folder.is_of_this_launch(tmp_path)
    (tmp_path / run_folder.LAUNCH).write_text("")
    assert not run_folder.is_of_this_launch(tmp_path)  # a single process is started by none
    environment = {"RANK": 0, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 2, "TORCHELASTIC_RUN_ID": "one"}
    for name, value in environment.items():
        monkeypatch.setenv(name, str(value))
    assert distributed.launch() == f"one {os.getppid()}"
    (tmp_path / run_folder.LAUNCH).write_text(f"one {os.getppid()}")
    assert run_folder.is_of_this_launch(tmp_path)
    for other in (f"two {os.getppid()}", f"one {os.getppid() + 1}"):
        (tmp_path / run_folder.LAUNCH).write_text(other)
        assert not run_folder.is_of_this_launch(tmp_path)


@pytest.mark.parametrize("is_there", [True, False])
def test_a_symbolic_link_stays_one_and_its_file_is_written(tmp_path: Path, is_there: bool) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "here").mkdir()
    file, link = tmp_path / "elsewhere" / "model.pt", tmp_path / "here" / "model.pt"
    link.symlink_to("../elsewhere/model.pt")
    if is_there:
        file.write_bytes(b"before")
    run_folder.write_atomic(link, lambda out: out.write(b"now"))
    assert link.is_symlink() and not file.is_symlink() and file.read_bytes() == b"now"
    assert [*link.parent.iterdir()] == [link] and [*file.parent.iterdir()] == [file]


def test_what_is_no_file_stays_that(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    run_folder.write_atomic(pipe, lambda out: out.write(b"now"))
    assert os.read(end, 9) == b"now" and pipe.is_fifo() and [*tmp_path.iterdir()] == [pipe]
    os.close(end)


def test_a_write_through_a_link_that_fails_leaves_both(tmp_path: Path) -> None:
    file, link = tmp_path / "model.pt", tmp_path / "link.pt"
    file.write_bytes(b"before")
    link.symlink_to(file)

    def full(out: object) -> None:
        raise OSError("No space left on device")

    with pytest.raises(run_folder.NotWritten, match="link.pt: could not be written"):
        run_folder.write_atomic(link, full)
    assert link.is_symlink() and file.read_bytes() == b"before" and len([*tmp_path.iterdir()]) == 2
    link.unlink()
    link.symlink_to(tmp_path / "no-such-folder" / "model.pt")
    with pytest.raises(run_folder.NotWritten, match="link.pt: could not be written"):
        run_folder.write_atomic(link, lambda out: out.write(b"now"))
    assert link.is_symlink()


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="takes a second file system")
def test_a_link_to_another_disk(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        link = tmp_path / "model.pt"
        link.symlink_to(Path(other, "model.pt"))
        run_folder.write_atomic(link, lambda out: out.write(b"now"))
        assert link.is_symlink() and Path(other, "model.pt").read_bytes() == b"now"


@pytest.mark.parametrize(
    ("settings", "long_side"),
    [
        ({"unlabeled": "demo", "labeled": "demo"}, 192),
        ({"unlabeled": "demo", "labeled": ""}, 192),
        ({"unlabeled": "photos", "labeled": "csv:own.csv"}, 0),
        ({"unlabeled": "photos", "labeled": "demo"}, None),
        ({"data": "demo"}, 192),
        ({"data": "csv:own.csv"}, 0),
        ({"data": ["demo", "csv:own.csv"]}, None),
        ({"data": "demo", "long_side": 100}, 100),
    ],
)
def test_files_of_before_there_was_a_long_side_mean_192_of_the_demo(
    settings: dict[str, Any], long_side: int | None
) -> None:
    assert run_folder.saved_long_side(settings) == long_side
