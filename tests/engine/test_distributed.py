"""Several processes: two of them, by gloo, against one, and torchrun's restart after one of them was killed."""

import copy
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import finetune
import train_joint
from ssl_iqa.engine import distributed
from ssl_iqa.engine.chunks import NetworksInChunks
from ssl_iqa.engine.signals import Stopped
from ssl_iqa.engine.weights import load_encoder
from ssl_iqa.model import Networks
from tests.conftest import flags, load, same, smallest_finetune, smallest_joint

ROOT = Path(__file__).parents[2]
SETTINGS = replace(train_joint.PRESETS["paper"], init="random", alpha=0.7, lr=0.5, regressor_lr=1e-2)


def torchrun(script: Path, *arguments: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, str(script), *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240
    )


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


STEPS = """
import sys
import torch
from ssl_iqa.engine import distributed
from tests.engine.test_distributed import CASES, IN_TRAINING, three_steps

torch.set_num_threads(1)
with distributed.processes(torch.device("cpu")):
    found = {case: three_steps(case, distributed.rank(), distributed.size()) for case in (*CASES, IN_TRAINING)}
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        found["in half precision"] = three_steps("both losses", distributed.rank(), distributed.size(), amp="bf16")
    assert distributed.every(distributed.rank()) == [0, 1]
    distributed.end_if_asked(False, torch.device("cpu"))
    for process in (0, 1):
        try:
            distributed.end_if_asked(distributed.rank() == process, torch.device("cpu"))
        except KeyboardInterrupt:  # Stopped
            continue
        raise AssertionError("one was asked to end, and not all do")
    torch.save(found, f"{sys.argv[1]}/{distributed.rank()}.pt")
"""


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes has after `three_steps` of every case."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "steps.py").write_text(STEPS)
    done = torchrun(folder / "steps.py", str(folder))
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

TRAIN = """
import os, signal, sys
import torch
from ssl_iqa.engine import distributed
from ssl_iqa.evaluation import probe
import train_joint

torch.set_num_threads(1)
torch.set_num_threads = lambda threads: None
probe.probe_types = lambda encoders, *others: dict.fromkeys(encoders, {"linear": 0.5, "neighbor": 0.5})
when, *arguments = sys.argv[1:]
joint_step, steps = train_joint.joint_step, 0

def killed_step(*args):
    global steps
    steps += 1
    if steps == 4 and distributed.rank() == 1 and distributed.restarts() == 0:  # the second one of the second epoch
        os.kill(os.getpid(), signal.SIGKILL if when == "killed" else signal.SIGTERM)
    return joint_step(*args)

if when != "whole":
    train_joint.joint_step = killed_step
train_joint.main(arguments)
"""


@pytest.fixture(scope="module")
def arguments(photographs: Path, scored: Path) -> dict[str, Any]:
    return smallest_joint(photographs, scored) | {"workers": 1, "save_every": 1}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, arguments: dict[str, Any]) -> tuple[Path, str]:
    """The folder of a run of two processes, and what it printed."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "train.py").write_text(TRAIN)
    done = torchrun(folder / "train.py", "whole", *flags(arguments | {"out": folder / "run"}))
    assert done.returncode == 0, done.stderr
    return folder / "run", done.stdout


def test_a_run_of_two_processes_is_that_of_one(
    whole: tuple[Path, str], arguments: dict[str, Any], tmp_path: Path, one_thread: None
) -> None:
    folder, printed = whole
    train_joint.main(flags(arguments | {"out": tmp_path}))
    ours, theirs = load(folder / "last.pt"), load(tmp_path / "last.pt")
    torch.testing.assert_close(ours["encoder"]["weights"], theirs["encoder"]["weights"], rtol=1e-2, atol=1e-4)
    records = [[json.loads(line) for line in (run / "log.jsonl").open()] for run in (folder, tmp_path)]
    for one, two in zip(*records, strict=True):
        for name in ("L_cont", "L_r", "L", "grad_norm", "val_L", "val_SROCC"):
            assert one[name] == pytest.approx(two[name], rel=1e-3), name
    reports = [(run / "near_duplicates.json").read_text() for run in (folder, tmp_path)]
    assert reports[0] == reports[1]
    for line in ("cpu, 2 processes", "epoch   1/2", "epoch   2/2", "Which of the 25 types"):
        assert printed.count(line) == 1  # of two that could have printed


def test_finetuning_by_two_processes_is_that_by_one(scored: Path, tmp_path: Path, one_thread: None) -> None:
    settings = smallest_finetune(scored) | {"mode": "lp-ft", "crops": "five"}
    done = torchrun(ROOT / "finetune.py", *flags(settings | {"out": tmp_path / "two"}))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("LP epoch 1/2") == done.stdout.count("LP-FT from random") == 1
    finetune.main(flags(settings | {"out": tmp_path / "one"}))
    one, two = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("one", "two"))
    for name in ("srocc", "plcc", "val_srocc"):
        assert two[name] == pytest.approx(one[name], abs=1e-3)
    assert two["images"] == one["images"] == 8 and two["best_epoch"] == one["best_epoch"]
    weights = [load(tmp_path / name / "model.pt")["encoder"]["weights"] for name in ("one", "two")]
    torch.testing.assert_close(*weights, rtol=1e-2, atol=2e-3)  # Adam makes much of small gradients


@pytest.mark.parametrize("when", ["killed", "told to end"])
def test_torchrun_restarts_a_run_that_lost_a_process(
    whole: tuple[Path, str], arguments: dict[str, Any], tmp_path: Path, when: str
) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    out = tmp_path / "run"
    done = torchrun(tmp_path / "train.py", when, *flags(arguments | {"out": out}), options=("--max-restarts", "1"))
    assert done.returncode == 0, done.stderr
    reached = 1 if when == "killed" else 2  # told to end, it ends the step and saves
    assert f"going on after epoch 2, step {reached}" in done.stdout
    ours, theirs = load(out / "last.pt"), load(whole[0] / "last.pt")
    for part in ("encoder", "projector", "regressor"):
        ours_part, theirs_part = (state[part].get("weights", state[part]) for state in (ours, theirs))
        assert all(torch.equal(ours_part[key], theirs_part[key]) for key in theirs_part), part
    assert ours["progress"] == theirs["progress"]
    assert same(load(out / "encoder.pt"), load(whole[0] / "encoder.pt"))


def test_a_restart_does_not_go_on_with_a_run_that_was_there_before(
    whole: tuple[Path, str], arguments: dict[str, Any]
) -> None:
    folder, _ = whole
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    given = flags(arguments | {"out": folder})
    done = torchrun(folder.parent / "train.py", "whole", *given, options=("--max-restarts", "1"))
    assert done.returncode != 0 and done.stdout == ""
    assert done.stderr.count(f"error: --out {folder}: holds a run") == 2 and "Gloo" not in done.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


ERRORS = """
import sys
from pathlib import Path
import torch
from ssl_iqa.engine import checkpoint
from ssl_iqa.engine import distributed
from ssl_iqa.engine import run_folder

def full(run, *others):
    raise run_folder.NotWritten("last.pt: could not be written")

def told(act):
    try:
        act()
    except (ValueError, OSError) as error:
        return f"{type(error).__name__}: {error}"

def read():
    with distributed.together():
        if distributed.rank() == 1:
            raise FileNotFoundError("a.csv: no such file")

with distributed.processes(torch.device("cpu")):
    checkpoint._write = full
    run = checkpoint.Run(Path(), {}, [], None, None, None)
    Path(sys.argv[1], str(distributed.rank())).write_text(f"{told(read)}; {told(lambda: checkpoint.save_run(run))}")
"""


def test_an_error_of_one_process_is_raised_by_all(tmp_path: Path) -> None:
    (tmp_path / "errors.py").write_text(ERRORS)
    done = torchrun(tmp_path / "errors.py", str(tmp_path))
    assert done.returncode == 0, done.stderr
    full = "NotWritten: last.pt: could not be written"
    assert (tmp_path / "0").read_text() == f"ValueError: a.csv: no such file; {full}"
    assert (tmp_path / "1").read_text() == f"FileNotFoundError: a.csv: no such file; {full}"
