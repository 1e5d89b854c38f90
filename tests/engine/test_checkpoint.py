"""What ends a joint run early, what it leaves, and that it goes on bit for bit."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import tarfile
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import train_joint
from ssl_iqa.engine import checkpoint, run_folder
from ssl_iqa.engine.signals import STOPPED
from ssl_iqa.engine.weights import load_encoder
from ssl_iqa.evaluation import probe
from ssl_iqa.model import Networks
from ssl_iqa.schedule import Progress
from tests.conftest import flags, load, log, same, smallest_joint, timeless
from tests.processes import run_process

Arguments = Callable[..., list[str]]
PARTS = ("last.pt", "encoder.pt")
FALLING = {"epochs": 4, "patience": 1, "warmup": 3}  # of two steps each, in which the learning rate falls


@pytest.fixture(autouse=True)
def no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = {"linear": 0.5, "neighbor": 0.5}
    monkeypatch.setattr(probe, "probe_types", lambda encoders, *others: dict.fromkeys(encoders, shares))


def end_run(what: str, when: str, arguments: list[str]) -> None:
    """A run that sends the signal or signals `what` to itself, or to its group, at some point."""
    torch.set_num_threads(1)
    torch.set_num_threads = lambda threads: None
    probe.probe_types = lambda encoders, *others: dict.fromkeys(encoders, {"linear": 0.5, "neighbor": 0.5})
    joint_step, save, validate, steps = train_joint.joint_step, torch.save, train_joint.validate, 0

    def ended_step(*args: Any) -> Any:
        nonlocal steps
        steps += 1
        if when == f"step {steps}":
            for name in what.split("+"):
                os.kill(0 if "group" in what else os.getpid(), getattr(signal, name.removeprefix("group ")))
        return joint_step(*args)

    def ended_save(state: dict[str, Any], file: Any) -> None:
        if when == "save" and "last.pt" in file.name and state["progress"]["epochs"] == 3:
            file.write(b"half")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        save(state, file)

    def ended_validation(*args: Any) -> Any:
        if when == "validation" and steps == 4:
            os.kill(os.getpid(), getattr(signal, what))
        return validate(*args)

    train_joint.joint_step, torch.save, train_joint.validate = ended_step, ended_save, ended_validation
    train_joint.main(arguments)


def ended(what: str, when: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return run_process(end_run, what, when, arguments)


@pytest.fixture(scope="module")
def whole(photographs: Path, scored: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing has ended."""
    out = tmp_path_factory.mktemp("whole")
    done = ended("", "never", flags(smallest_joint(photographs, scored) | FALLING | {"out": out}))
    assert done.returncode == 0, done.stderr
    return out


def goes_on(arguments: list[str], out: Path, whole: Path) -> None:
    """Resumes a run, in a process with other random states, and compares all that it leaves."""
    torch.rand(5), np.random.rand(5)
    train_joint.main([*arguments, "--resume"])
    for name in PARTS:
        ours, theirs = load(out / name), load(whole / name)
        for state in (ours, theirs):
            state.pop("settings", None)  # of workers and of saving, which change nothing else
            state.pop("minutes", None)
        assert same(ours, theirs), name
    assert timeless(out) == timeless(whole)


@pytest.mark.parametrize(
    ("when", "save_every", "workers", "epochs", "step"),
    [("step 5", 0, 0, 2, 0), ("step 6", 0, 0, 2, 0), ("step 6", 1, 1, 2, 1), ("save", 0, 0, 2, 0)],
)
def test_after_kill_9_a_run_goes_on_bit_for_bit(
    joint_arguments: Arguments,
    whole: Path,
    tmp_path: Path,
    when: str,
    save_every: int,
    workers: int,
    epochs: int,
    step: int,
) -> None:
    """2 epochs, a kill between epochs, within one, or in a save, and 2 more are 4 epochs."""
    out = tmp_path / "part"
    arguments = joint_arguments(out=out, save_every=save_every, workers=workers, **FALLING)
    killed = ended("SIGKILL", when, arguments)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    progress = load(out / "last.pt")["progress"]
    assert (progress["epochs"], progress["step"]) == (epochs, step)
    assert (out / "last.pt.part").exists() == (when == "save")
    assert load_encoder(out / "encoder.pt").arch == "dct-mlp"
    goes_on(arguments, out, whole)


@pytest.mark.parametrize(
    ("what", "when", "workers", "reached"),
    [
        ("SIGTERM", "step 3", 0, "epoch 2, step 1"),
        ("SIGINT", "step 4", 1, "epoch 2, step 2"),
        ("group SIGTERM", "step 3", 1, "epoch 2, step 1"),
        ("SIGTERM", "validation", 1, "epoch 2, step 2"),
    ],
)
def test_told_to_end_a_run_ends_the_step_saves_and_goes_on_bit_for_bit(
    joint_arguments: Arguments,
    whole: Path,
    tmp_path: Path,
    what: str,
    when: str,
    workers: int,
    reached: str,
) -> None:
    out = tmp_path / "part"
    arguments = joint_arguments(out=out, workers=workers, **FALLING)
    done = ended(what, when, arguments)
    assert done.returncode == STOPPED == 75, done.stderr
    assert f"ended after {reached}" in done.stdout and "--resume goes on" in done.stdout
    assert f"{what.removeprefix('group ')}: ending after this step" in done.stderr and "Traceback" not in done.stderr
    assert str(Progress(**load(out / "last.pt")["progress"])) == reached
    goes_on(arguments, out, whole)


@pytest.mark.parametrize(("first", "second"), [("SIGINT", "SIGINT"), ("SIGTERM", "SIGINT"), ("SIGINT", "SIGTERM")])
def test_a_second_signal_ends_a_run_at_once(
    joint_arguments: Arguments, tmp_path: Path, first: str, second: str
) -> None:
    done = ended(f"{first}+{second}", "step 4", joint_arguments(out=tmp_path, save_every=1))
    assert done.returncode == -getattr(signal, second)
    assert load(tmp_path / "last.pt")["progress"]["step"] == 1  # the fourth step was not ended


@pytest.mark.parametrize("workers", [0, 1])
def test_further_sigterms_are_ignored(joint_arguments: Arguments, tmp_path: Path, workers: int) -> None:
    """A scheduler's to all processes, and the one that torchrun hands on."""
    done = ended("SIGTERM+SIGTERM+SIGTERM", "step 3", joint_arguments(out=tmp_path, workers=workers))
    assert done.returncode == STOPPED, done.stderr
    assert str(Progress(**load(tmp_path / "last.pt")["progress"])) == "epoch 2, step 1"


def test_signals_mean_again_what_they_did_before(joint_arguments: Arguments, tmp_path: Path) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    train_joint.main(joint_arguments(out=tmp_path, epochs=1))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


# --- a disk that is full ---


@pytest.mark.parametrize("failing", ["last.pt", "encoder.pt", "log.jsonl"])
def test_a_full_disk_leaves_the_last_checkpoint_and_says_so(
    joint_arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """The second epoch finds a disk that takes 1000 more bytes of a file, or none of the log."""
    arguments, real = joint_arguments(out=tmp_path, epochs=3), checkpoint.save_run
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def save_run(run: checkpoint.Run, record: dict, is_best: bool) -> None:
        if record["epoch"] == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 if failing == "log.jsonl" else 1000, limits[1]))
        try:
            real(run, record, failing == "encoder.pt")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as caught:
        patch.setattr(checkpoint, "save_run", save_run)
        train_joint.main(arguments)
    message = str(caught.value.code)  # printed by Python, with exit code 1
    assert message.startswith(f"error: {tmp_path / failing}: could not be written")
    assert os.strerror(errno.EFBIG) in message
    assert message.endswith(f"{tmp_path / 'last.pt'} holds epoch 1") and "\n" not in message
    assert load(tmp_path / "last.pt")["progress"]["epochs"] == 1
    assert not list(tmp_path.glob("*.part"))
    train_joint.main([*arguments, "--resume"])
    assert [record["epoch"] for record in log(tmp_path)] == [1, 2, 3]


# --- what earlier versions kept ---


def test_a_run_that_kept_numbered_checkpoints_resumes_and_is_replaced(
    joint_arguments: Arguments, tmp_path: Path
) -> None:
    train_joint.main(joint_arguments(out=tmp_path, epochs=1))
    state = load(tmp_path / "last.pt")
    torch.save(state | {"settings": state["settings"] | {"keep": 2}}, tmp_path / "last.pt")
    for name in ("epoch-00001.pt", "best.pt.part"):  # the second as a kill amid a write leaves it
        (tmp_path / name).touch()
    (tmp_path / "tensorboard").mkdir()
    train_joint.main(joint_arguments(out=tmp_path, epochs=1, resume=True))
    assert (tmp_path / "epoch-00001.pt").exists()
    train_joint.main(joint_arguments(out=tmp_path, epochs=1, overwrite=True))
    assert not [*tmp_path.glob("epoch-*"), *tmp_path.glob("*.part"), *tmp_path.glob("tensorboard")]


# --- what may change ---


def test_a_run_is_not_resumed_with_other_images(
    joint_arguments: Arguments, photographs: Path, scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(photographs, tmp_path / "photographs")
    shutil.copytree(scored.parent, tmp_path / "scored")
    own = {"unlabeled": tmp_path / "photographs", "labeled": f"csv:{tmp_path / 'scored' / 'scores.csv'}"}
    arguments = joint_arguments(out=tmp_path / "run", epochs=1, **own)
    train_joint.main(arguments)

    def error() -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            train_joint.main([*arguments, "--resume"])
        assert caught.value.code == 2
        return capsys.readouterr().err

    table = tmp_path / "scored" / "scores.csv"
    before = table.read_text()
    table.write_text(before.replace("70.0,", "69.0,"))
    assert error().endswith("splits.json: the images have changed since: the labeled names or scores are others\n")
    table.write_text("\n".join(before.splitlines()[:-4]))
    assert "labeled val was 2, is 1" in error()
    table.write_text(before)
    (tmp_path / "photographs" / "new.png").write_bytes((photographs / "0.png").read_bytes())
    assert "unlabeled train was 8, is 9" in (told := error()) and "names or scores" not in told
    (tmp_path / "photographs" / "new.png").rename(tmp_path / "photographs" / "0.png")
    train_joint.main([*arguments, "--resume"])


@pytest.mark.parametrize("near_duplicates", ["report", "remove"])
def test_a_run_goes_on_where_its_images_have_moved(
    joint_arguments: Arguments,
    photographs: Path,
    scored: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    near_duplicates: str,
) -> None:
    """Under another spelling, then in another folder, with more epochs: bit for bit as in one go, records included."""
    shutil.copytree(photographs, tmp_path / "photographs")
    shutil.copytree(scored.parent, tmp_path / "scored")
    (tmp_path / "photographs" / "near.png").write_bytes((scored.parent / "3_blur_1.png").read_bytes())
    places = {"unlabeled": tmp_path / "photographs", "labeled": f"csv:{tmp_path / 'scored' / 'scores.csv'}"}
    how = {"near_duplicates": near_duplicates}
    train_joint.main(joint_arguments(out=tmp_path / "whole", epochs=3, **places, **how))
    train_joint.main(joint_arguments(out=tmp_path / "run", epochs=1, **places, **how))
    monkeypatch.chdir(tmp_path / "scored")
    spelled = {"unlabeled": "../photographs/", "labeled": "csv:scores.csv"}
    train_joint.main(joint_arguments(out=tmp_path / "run", epochs=2, resume=True, **spelled, **how))
    shutil.move(tmp_path / "photographs", tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    shutil.move(tmp_path / "scored", tmp_path / "elsewhere")
    moved = {"unlabeled": tmp_path / "moved", "labeled": f"csv:{tmp_path / 'elsewhere' / 'scores.csv'}"}
    train_joint.main(joint_arguments(out=tmp_path / "run", epochs=3, resume=True, **moved, **how))
    whole, run = (load(tmp_path / name / "last.pt") for name in ("whole", "run"))
    assert [record.pop("data") for record in run["encoder"]["seen"]] == [moved["labeled"]]
    assert whole["encoder"]["seen"][0].pop("data") == places["labeled"]
    for part in ("encoder", "projector", "regressor", "optimizer", "progress"):
        assert same(whole[part], run[part])


def test_other_images_under_the_names_of_a_run_are_refused(
    joint_arguments: Arguments, photographs: Path, scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(photographs, tmp_path / "photographs")
    shutil.copytree(scored.parent, tmp_path / "scored")
    train_joint.main(joint_arguments(out=tmp_path / "run", epochs=1))
    places = {"unlabeled": tmp_path / "photographs", "labeled": f"csv:{tmp_path / 'scored' / 'scores.csv'}"}
    image = tmp_path / "scored" / "3_blur_1.png"
    for place, told in ((image, "the labeled images are others"), (tmp_path / "photographs/0.png", "unlabeled sizes")):
        before = place.read_bytes()
        shutil.copy(photographs / "1.png", place)
        with pytest.raises(SystemExit) as caught:
            train_joint.main(joint_arguments(out=tmp_path / "run", epochs=1, resume=True, **places))
        assert caught.value.code == 2 and told in capsys.readouterr().err
        place.write_bytes(before)


def test_the_epochs_of_a_schedule_that_depends_on_them_stay(
    joint_arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_joint.main(joint_arguments(out=tmp_path, epochs=1, schedule="linear"))
    with pytest.raises(SystemExit) as caught:
        train_joint.main(joint_arguments(out=tmp_path, epochs=2, schedule="linear", resume=True))
    told = capsys.readouterr().err
    errors = [line for line in told.splitlines() if line.startswith("error: ")]
    assert caught.value.code == 2 and len(errors) == 1 and "--epochs was 1, is 2; with --schedule linear" in errors[0]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"crop": 40}, "--crop was 32, is 40"),
        ({"seed": 1}, "--seed was 0, is 1"),
        ({"accumulate": 2}, "--accumulate was 1, is 2"),
        ({"workers": 1, "save_every": 3, "distort_on": "device"}, None),
    ],
)
def test_what_changes_a_run_is_refused_and_the_rest_allowed(
    joint_arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: dict, message: str | None
) -> None:
    train_joint.main(joint_arguments(out=tmp_path, epochs=1))
    if message is None:
        train_joint.main(joint_arguments(out=tmp_path, epochs=1, resume=True, **changed))
        return
    with pytest.raises(SystemExit) as caught:
        train_joint.main(joint_arguments(out=tmp_path, epochs=1, resume=True, **changed))
    assert caught.value.code == 2 and message in capsys.readouterr().err


def test_a_run_stopped_in_validation_says_nothing_of_its_rates(
    joint_arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its last epoch had no step after it went on."""
    arguments = joint_arguments(out=tmp_path, epochs=2)
    assert ended("SIGTERM", "validation", arguments).returncode == STOPPED
    first = load(tmp_path / "last.pt")
    torch.save(first | {"minutes": 2.0}, tmp_path / "last.pt")
    train_joint.main([*arguments, "--resume"])
    shown = capsys.readouterr()
    assert "going on after epoch 2, step 2" in shown.out and "waiting" not in shown.out + shown.err
    second = log(tmp_path)[1]
    assert "data_wait" not in second and second["minutes"] >= 2 and second["L_cont"] > 0


def test_files_that_were_skipped_stay_so_in_the_log(
    joint_arguments: Arguments, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(photographs, tmp_path / "pictures")
    (tmp_path / "pictures" / "5.png").write_text("no picture")
    own = {"out": tmp_path / "run", "unlabeled": tmp_path / "pictures", "epochs": 6}
    assert ended("SIGTERM", "step 11", joint_arguments(**own)).returncode == STOPPED
    assert log(tmp_path / "run")[-1]["skipped"] == 1
    train_joint.main(joint_arguments(**own, resume=True))
    assert log(tmp_path / "run")[-1]["skipped"] == 1 and "5.png: cannot be read" not in capsys.readouterr().err


def test_a_checkpoint_of_an_older_version_goes_on(joint_arguments: Arguments, tmp_path: Path) -> None:
    """Without what this version has added: steps, their sums, the scale of fp16, settings and digests."""
    arguments = joint_arguments(out=tmp_path / "run")
    train_joint.main(joint_arguments(out=tmp_path / "run", epochs=1))
    state = load(tmp_path / "run" / "last.pt")
    state["settings"]["epochs"] = 2
    for name in ("accumulate", "amp", "compile", "save_every", "near_duplicates"):
        del state["settings"][name]
    for name in ("step", "sums", "counts"):
        del state["progress"][name]
    for name in ("scaler", "skipped", "minutes"):
        del state[name]
    torch.save(state, tmp_path / "run" / "last.pt")
    splits = json.loads((tmp_path / "run" / "splits.json").read_text())
    del splits["sha256"]
    (tmp_path / "run" / "splits.json").write_text(json.dumps(splits))
    train_joint.main([*arguments, "--resume"])
    assert load(tmp_path / "run" / "last.pt")["progress"]["epochs"] == 2


def test_progress_says_how_far_a_run_is() -> None:
    progress = Progress(epochs=3)
    for value in (1.0, 2.0, 6.0):
        progress.add({"L": value, "grad_norm": 2 * value})
    assert progress.means() == {"L": 3.0, "grad_norm": 6.0} and str(progress) == "epoch 4, step 3"
    assert Progress(**json.loads(json.dumps(asdict(progress)))) == progress
    progress.update(0.5, patience=1)
    assert (progress.epochs, progress.step, progress.sums) == (4, 0, {}) and str(progress) == "epoch 4"


# --- shards ---


def test_from_shards_a_run_goes_on_amid_an_epoch(
    joint_arguments: Arguments, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(5):
        with tarfile.open(tmp_path / f"photos-{i}.tar", "w") as archive:
            for j in (2 * i, 2 * i + 1):
                archive.add(photographs / f"{j}.png", f"{j}.png")
    own = {"unlabeled": f"{tmp_path}/photos-{{0..4}}.tar", "epochs": 3, "workers": 2}
    whole, out = tmp_path / "whole", tmp_path / "part"
    train_joint.main(joint_arguments(out=whole, **own))
    splits = json.loads((whole / "splits.json").read_text())["unlabeled"]
    assert (splits["train"], splits["val_pictures"], len(splits["val"])) == (8, 2, 1)
    assert len(log(whole)) == 3 and "2 steps an epoch" in capsys.readouterr().out

    arguments = joint_arguments(out=out, **own)
    done = ended("SIGTERM", "step 3", arguments)
    assert done.returncode == STOPPED, done.stderr
    goes_on(arguments, out, whole)


def test_images_that_were_not_there_are_named(
    joint_arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_joint.main(joint_arguments(out=tmp_path, epochs=1, alpha=1, labeled=None))
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        train_joint.main(joint_arguments(out=tmp_path, epochs=1, alpha=1, resume=True))
    assert caught.value.code == 2 and "there were no labeled images" in capsys.readouterr().err


def test_the_scale_of_fp16_is_kept(tmp_path: Path) -> None:
    def run_with(scale: float) -> checkpoint.Run:
        nets = Networks(load_encoder("random", "dct-mlp"), 5.5)
        optimizer = train_joint.make_optimizer(nets, train_joint.PRESETS["demo"])
        return checkpoint.Run(tmp_path, {}, [], nets, optimizer, torch.amp.GradScaler("cpu", init_scale=scale))

    checkpoint.save_run(run_with(64.0))
    again = run_with(2.0)
    run_folder.write_json({}, tmp_path / "splits.json")  # of an earlier version
    checkpoint.restore(again, load(tmp_path / "last.pt"), {"sha256": {}})
    assert again.scaler.get_scale() == 64.0


# --- a signal where no step would end ---


def ends_the_run(monkeypatch: pytest.MonkeyPatch, arguments: list[str], where: str, number: int) -> int:
    """The exit code of a run in this process that gets a signal where a function of train_joint is called."""
    monkeypatch.setattr(train_joint, where, lambda *_, **__: os.kill(os.getpid(), number))
    with pytest.raises(SystemExit) as caught:
        train_joint.main(arguments)
    return caught.value.code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("resume", [False, True])
def test_ended_while_it_is_set_up_a_run_says_so(
    joint_arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, number: int, resume: bool
) -> None:
    (tmp_path / "last.pt").write_text("of before")
    arguments = joint_arguments(out=tmp_path, **{"resume" if resume else "overwrite": True})
    assert ends_the_run(monkeypatch, arguments, "set_up", number) == STOPPED
    left = f"{tmp_path / 'last.pt'} is as it was" if resume else "nothing to resume"
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-1] == f"ended before the first step; {left}" and shown.err == ""
    assert (tmp_path / "last.pt").read_text() == "of before"


def test_ended_after_the_last_epoch_a_run_is_complete(
    joint_arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(probe, "probe_types", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as caught:
        train_joint.main(joint_arguments(out=tmp_path, epochs=1))
    assert caught.value.code == STOPPED
    assert capsys.readouterr().out.splitlines()[-1] == f"ended after the last epoch; {tmp_path} is complete"


def test_a_run_outside_of_the_main_thread_takes_no_handlers(joint_arguments: Arguments, tmp_path: Path) -> None:
    """Python allows them in the main thread only."""
    handler = signal.getsignal(signal.SIGTERM)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            train_joint.main(joint_arguments(out=tmp_path, epochs=1))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert not errors and (tmp_path / "last.pt").is_file() and signal.getsignal(signal.SIGTERM) is handler
