"""Several processes: two of them, by gloo, against one, and torchrun's restart after one of them was killed."""

import copy
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

import finetune
import train_joint
from ssl_iqa.engine import checkpoint, distributed, run_folder
from ssl_iqa.engine.chunks import NetworksInChunks
from ssl_iqa.engine.signals import Stopped
from ssl_iqa.engine.weights import load_encoder
from ssl_iqa.evaluation import probe
from ssl_iqa.model import Networks
from tests.conftest import flags, load, same, smallest_finetune, smallest_joint
from tests.processes import run_process, run_processes

ROOT = Path(__file__).parents[2]
SETTINGS = replace(train_joint.PRESETS["paper"], init="random", alpha=0.7, lr=0.5, regressor_lr=1e-2)


# --- steps ---

CASES = {  # arch, is batch normalization training, what differs from SETTINGS, are there labels
    "both losses": ("dct-mlp", True, {}, True),
    "a mean over classes": ("dct-mlp", True, {"average": "classes"}, True),
    "two-dimensional normalization": ("resnet18", True, {}, True),
    "no labels": ("dct-mlp", True, {"alpha": 1.0}, False),
    "in chunks": ("dct-mlp", False, {"accumulate": 3}, True),
    "in chunks without labels": ("dct-mlp", False, {"accumulate": 2, "alpha": 1.0}, False),
}

IN_TRAINING = "in chunks with their own statistics"  # which are not those of one process's chunks


def three_steps(case: str, process: int, processes: int, amp: str = "off") -> dict[str, Any]:
    """What three steps, in float64 without `amp`, leave, with this process's part of each batch."""
    arch, is_training, changes, has_labels = (CASES | {IN_TRAINING: ("dct-mlp", True, {"accumulate": 2}, True)})[case]
    settings = replace(SETTINGS, arch=arch, amp=amp, **changes)
    dtype = torch.float64 if amp == "off" else torch.float32
    device = torch.device("cpu")
    torch.manual_seed(0)
    encoder = load_encoder("random", arch)
    if arch == "resnet18":  # its first half normalizes as the whole does, in a tenth of the time
        encoder.network.layer3 = encoder.network.layer4 = nn.Identity()
        encoder.dim = 128
    nets = NetworksInChunks(encoder, 5.5, settings.accumulate) if settings.accumulate > 1 else Networks(encoder, 5.5)
    nets = nets.to(dtype)
    nets.regressor.requires_grad_(has_labels)
    for module in nets.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):  # so that eval mode differs from training mode
            nn.init.uniform_(module.running_mean), nn.init.uniform_(module.running_var, 0.5, 2)
    nets = distributed.synchronize(nets, device)
    parallel = distributed.parallel(nets, device).train(is_training)
    optimizer = train_joint.make_optimizer(nets, settings)
    generator = torch.Generator().manual_seed(1)
    losses, gradients = [], []
    for _ in range(3):
        x_d, x = (torch.rand(n, 3, 32, 32, generator=generator, dtype=torch.float64).to(dtype) for n in (12, 8))
        classes, y = torch.tensor([7, 9, 99, 7, 8, 9] * 2), torch.rand(8, generator=generator, dtype=torch.float64)
        y = y.to(dtype)

        def part(tensor: Tensor) -> Tensor:
            return tensor.tensor_split(processes)[process]

        labeled = (part(x), part(y)) if has_labels else None
        optimizer.zero_grad()
        losses.append(train_joint.joint_step(parallel, (part(x_d), part(classes)), labeled, settings))
        gradients.append({name: w.grad.clone() for name, w in nets.named_parameters() if w.grad is not None})
        optimizer.step()
    return {"losses": losses, "gradients": gradients, "weights": copy.deepcopy(nets.state_dict())}


def take_steps(folder: Path) -> None:
    torch.set_num_threads(1)
    with distributed.processes(torch.device("cpu")):
        rank = distributed.rank()
        results = {case: three_steps(case, rank, distributed.size()) for case in (*CASES, IN_TRAINING)}
        if torch.ops.mkldnn._is_mkldnn_bf16_supported():
            results["in half precision"] = three_steps("both losses", rank, distributed.size(), amp="bf16")
        assert distributed.every(rank) == [0, 1]
        distributed.end_if_asked(False, torch.device("cpu"))
        for process in (0, 1):
            with pytest.raises(Stopped):
                distributed.end_if_asked(rank == process, torch.device("cpu"))
        torch.save(results, folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes has after `three_steps` of every case."""
    folder = tmp_path_factory.mktemp("two")
    for done in run_processes(2, take_steps, folder):
        assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{process}.pt", weights_only=True) for process in (0, 1)]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_take_the_steps_of_one(of_two: list[dict[str, Any]], case: str) -> None:
    expected = three_steps(case, 0, 1)
    assert any(gradient.abs().max() > 1e-3 for gradient in expected["gradients"][2].values())
    for process in of_two:
        found = process[case]
        for ours, theirs in zip(found["losses"], expected["losses"], strict=True):
            assert ours == pytest.approx(theirs, rel=1e-10)
        for ours, theirs in zip(found["gradients"], expected["gradients"], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(found["weights"], expected["weights"], rtol=1e-10, atol=1e-10)
    first, second = (process[case]["weights"] for process in of_two)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_running_statistics_count_each_chunk_once(of_two: list[dict[str, Any]]) -> None:
    first, second = (process[IN_TRAINING]["weights"] for process in of_two)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first["encoder.network.norm.num_batches_tracked"] == 3 * (2 + 1)  # steps of two chunks and a labeled batch


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU has no bfloat16 arithmetic")
def test_two_processes_in_half_precision_are_near_one_in_float32(of_two: list[dict[str, Any]]) -> None:
    expected = three_steps("both losses", 0, 1)
    for process in of_two:
        for ours, theirs in zip(process["in half precision"]["losses"], expected["losses"], strict=True):
            assert ours == pytest.approx(theirs, rel=0.05)


def test_a_single_process_runs_nothing_distributed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("init_process_group", "all_reduce", "all_gather", "all_gather_object"):
        monkeypatch.setattr(torch.distributed, name, lambda *_: pytest.fail("something distributed was run"))
    device, net = torch.device("cpu"), nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    p, classes = torch.rand(4, 2), torch.arange(4)
    with distributed.processes(device):
        assert distributed.gather(p, classes) == (p, classes, (0, 4))
        assert distributed.synchronize(net, device) is net is distributed.parallel(net, device)
        assert type(net[1]) is nn.BatchNorm1d
        assert distributed.mean(p) is p and distributed.every(3) == [3]
        distributed.end_if_asked(False, device)
        with pytest.raises(Stopped):
            distributed.end_if_asked(True, device)
        assert (distributed.rank(), distributed.size(), distributed.is_main()) == (0, 1, True)


# --- whole runs ---


def no_probe(encoders: dict[str, Any], *_: Any) -> dict[str, dict[str, float]]:
    return dict.fromkeys(encoders, {"linear": 0.5, "neighbor": 0.5})


def train(when: str, arguments: list[str]) -> None:
    """A run whose second process is killed in the second step of epoch 2 if that is `when`, then told to end."""
    torch.set_num_threads(1)
    torch.set_num_threads = lambda threads: None
    probe.probe_types = no_probe
    joint_step, steps = train_joint.joint_step, 0
    step, number = {"0": (4, signal.SIGKILL), "1": (2, signal.SIGTERM)}.get(
        os.environ.get("TORCHELASTIC_RESTART_COUNT"), (0, 0)
    )

    def ended_step(*args: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == step and distributed.rank() == 1:
            os.kill(os.getpid(), number)
        return joint_step(*args)

    if when == "ended":
        train_joint.joint_step = ended_step
    train_joint.main(arguments)


@pytest.fixture(scope="module")
def arguments(photographs: Path, scored: Path) -> dict[str, Any]:
    return smallest_joint(photographs, scored) | {"workers": 1, "save_every": 1, "epochs": 3}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, arguments: dict[str, Any]) -> tuple[Path, str]:
    """The folder of a run of two processes, and what it printed."""
    folder = tmp_path_factory.mktemp("whole")
    both = run_processes(2, train, "whole", flags(arguments | {"out": folder}))
    assert [done.returncode for done in both] == [0, 0], both[0].stderr
    return folder, both[0].stdout + both[1].stdout


def test_a_run_of_two_processes_is_that_of_one(
    whole: tuple[Path, str],
    arguments: dict[str, Any],
    tmp_path: Path,
    one_thread: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, printed = whole
    monkeypatch.setattr(probe, "probe_types", no_probe)
    train_joint.main(flags(arguments | {"out": tmp_path}))
    ours, theirs = load(folder / "last.pt"), load(tmp_path / "last.pt")
    torch.testing.assert_close(ours["encoder"]["weights"], theirs["encoder"]["weights"], rtol=1e-2, atol=1e-4)
    records = [[json.loads(line) for line in (run / "log.jsonl").open()] for run in (folder, tmp_path)]
    for one, two in zip(*records, strict=True):
        for name in ("L_cont", "L_r", "L", "grad_norm", "val_L", "val_SROCC"):
            assert one[name] == pytest.approx(two[name], rel=1e-3), name
    reports = [(run / "near_duplicates.json").read_text() for run in (folder, tmp_path)]
    assert reports[0] == reports[1]
    for line in ("cpu, 2 processes", "epoch   1/3", "epoch   2/3", "Which of the 25 types"):
        assert printed.count(line) == 1  # of two that could have printed


def test_finetuning_by_two_processes_is_that_by_one(scored: Path, tmp_path: Path, one_thread: None) -> None:
    settings = smallest_finetune(scored) | {"mode": "lp-ft", "crops": "five"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "finetune.py"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command += flags(settings | {"out": tmp_path / "two"})
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("LP epoch 1/2") == done.stdout.count("LP-FT from random") == 1
    finetune.main(flags(settings | {"out": tmp_path / "one"}))
    one, two = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("one", "two"))
    for name in ("srocc", "plcc", "val_srocc"):
        assert two[name] == pytest.approx(one[name], abs=1e-3)
    assert two["images"] == one["images"] == 8 and two["best_epoch"] == one["best_epoch"]
    weights = [load(tmp_path / name / "model.pt")["encoder"]["weights"] for name in ("one", "two")]
    torch.testing.assert_close(*weights, rtol=1e-2, atol=2e-3)  # Adam makes much of small gradients


def train_with_restarts(arguments: list[str]) -> None:
    """What torchrun --standalone --nproc_per_node 2 --max-restarts 2 does, but for its processes' imports."""
    store = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "run_id": "restarts"}
    settings = LaunchConfig(1, 1, 2, **store, max_restarts=2, monitor_interval=0.1, start_method="fork")
    elastic_launch(settings, train)("ended", arguments)


def test_torchrun_restarts_a_run_that_lost_a_process(
    whole: tuple[Path, str], arguments: dict[str, Any], tmp_path: Path
) -> None:
    """One that was killed, and after the restart one that was told to end: it ends the step and saves."""
    done = run_process(train_with_restarts, flags(arguments | {"out": tmp_path}))
    assert done.returncode == 0, done.stderr
    assert re.findall("going on after (.*)", done.stdout) == ["epoch 2, step 1", "epoch 3, step 1"]
    ours, theirs = load(tmp_path / "last.pt"), load(whole[0] / "last.pt")
    for part in ("encoder", "projector", "regressor"):
        ours_part, theirs_part = (state[part].get("weights", state[part]) for state in (ours, theirs))
        assert all(torch.equal(ours_part[key], theirs_part[key]) for key in theirs_part), part
    assert ours["progress"] == theirs["progress"]
    assert same(load(tmp_path / "encoder.pt"), load(whole[0] / "encoder.pt"))


def test_a_restart_does_not_go_on_with_a_run_that_was_there_before(
    whole: tuple[Path, str], arguments: dict[str, Any]
) -> None:
    folder, _ = whole
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for restarts in ("0", "1"):
        other = {"TORCHELASTIC_RUN_ID": "another", "TORCHELASTIC_RESTART_COUNT": restarts}
        both = run_processes(2, train, "whole", flags(arguments | {"out": folder}), environment=other)
        assert all(done.returncode != 0 and done.stdout == "" for done in both)
        told = both[0].stderr + both[1].stderr
        assert told.count(f"error: --out {folder}: holds a run") == 1 and "Gloo" not in told
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def raise_errors(folder: Path) -> None:
    def full(*_: Any) -> None:
        raise run_folder.NotWritten("last.pt: could not be written")

    def told(act: Callable[[], None]) -> str:
        try:
            act()
        except (ValueError, OSError) as error:
            return f"{type(error).__name__}: {error}"
        return ""

    def read() -> None:
        with distributed.together():
            if distributed.rank() == 1:
                raise FileNotFoundError("a.csv: no such file")

    with distributed.processes(torch.device("cpu")):
        checkpoint._write = full
        run = checkpoint.Run(Path(), {}, [], None, None, None)
        (folder / str(distributed.rank())).write_text(f"{told(read)}; {told(lambda: checkpoint.save_run(run))}")


def test_an_error_of_one_process_is_raised_by_all(tmp_path: Path) -> None:
    for done in run_processes(2, raise_errors, tmp_path):
        assert done.returncode == 0, done.stderr
    full = "NotWritten: last.pt: could not be written"
    for process in "01":
        assert (tmp_path / process).read_text() == f"FileNotFoundError: a.csv: no such file; {full}"
