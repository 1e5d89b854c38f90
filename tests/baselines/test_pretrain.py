"""`ssl-iqa pretrain`: what a run leaves, that it goes on bit for bit, and what becomes of its encoder."""

import copy
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import finetune
import train_joint
from ssl_iqa.baselines import deepfl_iqa, module_of, rankiqa
from ssl_iqa.engine.signals import STOPPED
from ssl_iqa.engine.weights import load_encoder
from ssl_iqa.evaluation import tables
from tests.conftest import flags, load, log, same, timeless, write

Command = Callable[..., tuple[str, str, int]]

SMALLEST = {"preset": "paper", "crop": 32, "arch": "dct-mlp", "init": "random", "batch_size": 10, "epochs": 2}
SMALLEST |= {"epoch_size": 6, "validation_size": 4, "lr": 1e-3, "workers": 0, "device": "cpu"}


@pytest.fixture
def arguments(photographs: Path, one_thread: None) -> Callable[..., list[str]]:
    """arguments(out=.., name=value ..): those of two epochs of three steps but for what is named."""
    return lambda **changes: flags({"unlabeled": photographs} | SMALLEST | changes)


def test_a_run_leaves_what_joint_training_leaves(command: Command, arguments: Callable, tmp_path: Path) -> None:
    out, _, code = command("pretrain", "rankiqa", *arguments(out=tmp_path / "run"))
    assert code == 0 and f"--encoders rankiqa={tmp_path / 'run'} --data SPEC --crop 32" in out
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        *("config.json", "splits.json", "log.jsonl", "last.pt", "encoder.pt")
    }
    records, state = log(tmp_path / "run"), load(tmp_path / "run" / "last.pt")
    assert [record["epoch"] for record in records] == [1, 2]
    assert all(0 <= record[name] <= 1 for record in records for name in ("accuracy", "val_accuracy"))
    assert state["settings"]["method"] == "rankiqa" and len(state["distortions"]) == 115
    best = min(records, key=lambda record: record["val_loss"])["epoch"]
    assert same(load(tmp_path / "run" / "encoder.pt")["weights"], state["encoder"]["weights"]) == (best == 2)


def test_training_lowers_the_loss(command: Command, arguments: Callable, tmp_path: Path) -> None:
    few = write(tmp_path / "few.toml", "[gaussian_blur]\n[white_noise]")
    words = arguments(out=tmp_path / "run", distortions=few, epochs=6, epoch_size=12, lr=1e-2)
    command("pretrain", "rankiqa", *words)
    losses = [record["val_loss"] for record in log(tmp_path / "run")]
    assert losses[-1] < 10 < 20 < losses[0]  # 20 where all scores are equal


def test_a_step_is_sgd_on_the_loss(
    command: Command, arguments: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights after the first step: w - lr (gradient + decay w), the gradient that of the batch in one graph."""
    batches: list[torch.Tensor] = []
    real = rankiqa.Ranker.forward

    def forward(self: rankiqa.Ranker, x_d: torch.Tensor) -> torch.Tensor:
        if not batches:
            nets.append(copy.deepcopy(self))
        batches.append(x_d)
        return real(self, x_d)

    nets: list[rankiqa.Ranker] = []
    monkeypatch.setattr(rankiqa.Ranker, "forward", forward)
    command("pretrain", "rankiqa", *arguments(out=tmp_path, epochs=1, epoch_size=2, weight_decay=0.1, lr=0.02))
    before = nets[0].train()
    scores = real(before, batches[0]).view(2, 5)
    loss = sum((10 - scores[:, i] + scores[:, j]).clamp(min=0).sum() for i in range(5) for j in range(i + 1, 5)) / 10
    loss.backward()
    after = load(tmp_path / "last.pt")
    weights = after["encoder"]["weights"] | {f"output.{name}": w for name, w in after["output"].items()}
    for name, w in before.named_parameters():
        expected = w - 0.02 * (w.grad + 0.1 * w)
        torch.testing.assert_close(weights[name.removeprefix("encoder.")], expected, rtol=1e-4, atol=1e-5)


def ended_at(step: int, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM comes amid the training step of this number, counted from 1."""
    steps, module = 0, module_of(method)
    real = module.measure

    def measure(*args: Any) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal steps
        steps += torch.is_grad_enabled()
        if steps == step and torch.is_grad_enabled():
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*args)

    monkeypatch.setattr(module, "measure", measure)


def differences(x_d: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """In place of full-reference scores, which take a quarter of a second an image: [B, 8]."""
    return 1 - (x_d - x).abs().mean(dim=(1, 2, 3))[:, None] * torch.arange(1, 9)


@pytest.mark.parametrize(
    ("method", "workers", "step", "progress"),
    [
        ("rankiqa", 0, 2, "epoch 1, step 2"),
        ("rankiqa", 1, 4, "epoch 2, step 1"),
        ("contrique-syn", 0, 2, "epoch 1, step 2"),  # which draws color spaces in a step
        ("deepfl-iqa", 1, 2, "epoch 1, step 2"),  # which drops units
    ],
)
def test_ended_amid_an_epoch_a_run_goes_on_bit_for_bit(
    command: Command,
    arguments: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    workers: int,
    step: int,
    progress: str,
) -> None:
    changes = {"crop": 64, "epoch_size": 12, "batch_size": 4} if method == "contrique-syn" else {}
    if method == "deepfl-iqa":
        changes = {"crop": 161, "batch_size": 2, "epochs": 1}
        monkeypatch.setattr(deepfl_iqa, "full_reference", differences)
    command("pretrain", method, *arguments(out=tmp_path / "whole", **changes))
    part = arguments(out=tmp_path / "part", workers=workers, **changes)
    with pytest.MonkeyPatch.context() as patch:
        ended_at(step, method, patch)
        out, _, code = command("pretrain", method, *part)
    last = tmp_path / "part" / "last.pt"
    assert code == STOPPED
    assert out.endswith(f"ended after {progress}, which {last} holds; --resume goes on from there\n")
    torch.rand(5)
    assert command("pretrain", method, *part, "--resume")[2] == 0
    for name in ("last.pt", "encoder.pt"):
        ours, theirs = load(tmp_path / "part" / name), load(tmp_path / "whole" / name)
        for state in (ours, theirs):
            state.pop("settings", None), state.pop("minutes", None)
        assert same(ours, theirs), name
    assert timeless(tmp_path / "part") == timeless(tmp_path / "whole")


def test_a_loss_that_is_not_finite_ends_the_run_in_one_line(
    command: Command, arguments: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = rankiqa.measure
    monkeypatch.setattr(rankiqa, "measure", lambda *args: (real(*args)[0] * math.nan, real(*args)[1]))
    _, _, error = command("pretrain", "rankiqa", *arguments(out=tmp_path / "run"))  # what sys.exit prints, for code 1
    assert error.startswith("error: the loss or its gradient is not finite at step 1, epoch 1: {'loss': nan, ")
    assert error.endswith("; nothing was saved before") and "\n" not in error


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unlabeled": None}, "--unlabeled is required"),
        ({"unlabeled": "nowhere"}, "nowhere: no such"),
        ({"init": "none.pt"}, "none.pt: no such file (an encoder is 'imagenet', 'random' or a file)"),
        ({"batch_size": 12}, "--batch-size must be a multiple of 5, levels times processes, got 12"),
        ({"distortions": "distinct"}, "--distortions must have two levels or more, of each type as many"),
        ({"epochs": 0}, "--epochs must be at least 1, got 0"),
        ({"arch": "vgg19"}, "--arch: invalid choice: 'vgg19'"),
        ({"resume": True}, "last.pt: no such file; --resume needs the folder of a run"),
    ],
)
def test_bad_input_is_one_line(
    command: Command, arguments: Callable, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    _, error, code = command("pretrain", "rankiqa", *arguments(out=tmp_path / "run", **changes))
    assert code == 2 and error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_method_is_required(command: Command) -> None:
    assert command("pretrain")[1:] == ("error: the following arguments are required: METHOD; see --help\n", 2)


def test_a_run_of_another_kind_is_not_resumed(
    command: Command, arguments: Callable, joint_arguments: Callable, tmp_path: Path
) -> None:
    words = arguments(out=tmp_path / "run", epochs=1)
    assert command("pretrain", "rankiqa", *words)[2] == 0
    assert "holds a run (config.json)" in command("pretrain", "rankiqa", *words)[1]
    _, error, code = command("pretrain", "rankiqa", *words, "--resume", "--lr", "1")
    assert code == 2 and error.endswith("a run of other settings: --lr was 0.001, is 1.0\n")
    with pytest.raises(SystemExit) as caught:
        train_joint.main([*joint_arguments(out=tmp_path / "run"), "--resume"])
    assert caught.value.code == 2


def test_its_encoder_is_finetuned_and_has_its_row_in_table_3(
    command: Command, arguments: Callable, finetune_arguments: Callable, scored: Path, tmp_path: Path
) -> None:
    command("pretrain", "rankiqa", *arguments(out=tmp_path / "rank", epochs=1))
    encoders = f"random,rankiqa={tmp_path / 'rank'}"
    finetune.main(finetune_arguments(out=tmp_path / "tables", encoder=None, encoders=encoders, epochs=1))
    cells = tables.finished_cells(tmp_path / "tables")
    assert [cell.encoder for cell in cells] == ["random", "rankiqa"]
    assert cells[1].results["encoder"] == str(tmp_path / "rank" / "encoder.pt")
    assert not same(
        load_encoder(tmp_path / "rank" / "encoder.pt").state_dict(), load_encoder("random", "dct-mlp").state_dict()
    )
    (row,) = (line for line in tables.table_3(tables.summarize(cells)).splitlines() if line.startswith("| rankiqa "))
    numbers = [cells[1].results[name] for name in ("srocc", "plcc")]
    assert row.endswith("| {:.3f} / {:.3f} |".format(*numbers))


def test_the_demos_photographs_of_a_run_keep_their_part(command: Command, arguments: Callable, tmp_path: Path) -> None:
    """None that pretraining has seen is tested."""
    words = arguments(out=tmp_path, unlabeled="demo", epochs=1, epoch_size=2, validation_size=2, seed=3)
    assert command("pretrain", "rankiqa", *words)[2] == 0
    (record,) = load(tmp_path / "encoder.pt")["seen"]
    assert record["data"] == "demo" and all(record["references"].values())
