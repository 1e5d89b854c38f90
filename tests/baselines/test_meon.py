"""MEON: GDN by its formula and by finite differences, both losses by their definition, the network, its two steps."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import finetune
from ssl_iqa.baselines import meon
from ssl_iqa.baselines.finetuning import Finetuning, Fit
from ssl_iqa.distortions import KADIS
from ssl_iqa.engine import run_folder
from ssl_iqa.engine.weights import encoder_state
from ssl_iqa.evaluation import tables, tuning
from ssl_iqa.evaluation.predictions import read_measured
from tests.conftest import flags, load, same

TYPES = ["blur", "pixelate", "jpeg"]


def randomly(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gdn(channels: int) -> meon.GDN:
    """With weights away from the start."""
    layer = meon.GDN(channels).double()
    with torch.no_grad():
        layer.root_b += 0.3 * randomly(channels, seed=1)
        layer.root_g += 0.3 * randomly(channels, channels, seed=2)
    return layer


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 2, 4)])
def test_gdn_by_its_formula(shape: tuple[int, ...]) -> None:
    layer, x = gdn(3), randomly(*shape)
    b, g = (layer.root_b**2).tolist(), (layer.root_g**2).tolist()
    assert min(b) > 0 and min(map(min, g)) >= 0
    y = layer(x)
    for n, *place in np.ndindex(shape[0], *shape[2:]):
        at = x[(n, slice(None), *place)].tolist()
        for i in range(3):
            expected = at[i] / math.sqrt(b[i] + 1e-6 + sum(g[i][j] * at[j] ** 2 for j in range(3)))
            assert y[(n, i, *place)].item() == pytest.approx(expected, rel=1e-12)


def test_the_gradient_of_gdn_is_that_of_finite_differences() -> None:
    layer, x = gdn(3), randomly(2, 3, 2, 2).requires_grad_()

    def function(x: torch.Tensor, root_b: torch.Tensor, root_g: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, {"root_b": root_b, "root_g": root_g}, (x,))

    assert torch.autograd.gradcheck(function, (x, layer.root_b, layer.root_g))


def test_at_first_gdn_divides_by_almost_one() -> None:
    layer = meon.GDN(4)
    torch.testing.assert_close(layer.root_b**2, torch.ones(4))
    torch.testing.assert_close(layer.root_g**2, torch.full((4, 4), 0.001) + 0.099 * torch.eye(4))


def test_the_network_leaves_64_numbers_of_a_crop() -> None:
    """256, halved by each convolution's stride and each pooling, then 4 -> 2 without padding -> 1."""
    network, x = meon.Meon(TYPES), torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    sizes = []
    for layer in network.features:
        x = layer(x)
        sizes.append(tuple(x.shape[1:]))
    assert [sizes[i] for i in (0, 2, 3, 5, 6, 8, 9, 11)] == [
        *((8, 128, 128), (8, 64, 64), (16, 32, 32), (16, 16, 16)),
        *((32, 8, 8), (32, 4, 4), (64, 2, 2), (64, 1, 1)),
    ]
    logits = network.identify(x)
    assert sizes[-1] == (64,) and logits.shape == (1, 3)
    assert [p.numel() for name, p in network.identify.named_parameters() if name.endswith("weight")] == [64 * 128, 384]


def test_a_score_is_the_sum_of_probability_times_score() -> None:
    torch.manual_seed(0)
    network = meon.Scoring(meon.Meon(TYPES), mean_score=5.5).double()
    x = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    outputs = network(x)
    h = network.encoder.features(x)
    for i in range(2):
        logits, scores = network.encoder.identify(h)[i].tolist(), network.score(h)[i].tolist()
        total = sum(map(math.exp, logits))
        expected = sum(math.exp(logit) / total * score for logit, score in zip(logits, scores, strict=True))
        assert outputs[i].tolist() == pytest.approx([expected, *logits], rel=1e-12)
        assert abs(expected - 5.5) < 1


def cross_entropy(logits: list[float], target: int) -> float:
    return math.log(sum(map(math.exp, logits))) - logits[target]


def test_identification_is_cross_entropy_of_types() -> None:
    logits, classes = randomly(6, 25), torch.tensor([0, 4, 5, 124, 60, 3])
    targets = [0, 0, 1, 24, 12, 0]  # five levels a type
    logits[0, 0] = logits[3, 24] = 9.0
    named = [row.argmax().item() for row in logits]
    loss, share = meon.measure(logits, classes, [list(distortion) for distortion in KADIS])
    assert loss.item() == pytest.approx(np.mean([*map(cross_entropy, logits.tolist(), targets)]), rel=1e-12)
    assert share.item() == pytest.approx(np.mean([a == b for a, b in zip(named, targets, strict=True)])) and share > 0.3


def test_the_joint_loss_leaves_unknown_types_out_of_the_cross_entropy_alone() -> None:
    outputs, y = randomly(4, 4), randomly(4, seed=5)
    types = torch.tensor([2.0, meon.UNKNOWN, meon.UNKNOWN, 1], dtype=y.dtype)
    error = sum(abs(outputs[i, 0].item() - y[i].item()) for i in range(4)) / 4
    entropies = [cross_entropy(outputs[i, 1:].tolist(), target) for i, target in ((0, 2), (3, 1))]
    loss = meon.joint_loss(outputs, torch.stack((y, types), dim=1), 0.3)
    assert loss.item() == pytest.approx(0.3 * error + sum(entropies) / 2, rel=1e-12)
    unknown = meon.joint_loss(outputs, torch.stack((y, torch.full_like(y, meon.UNKNOWN)), dim=1), 0.3)
    assert unknown.item() == pytest.approx(0.3 * error, rel=1e-12)


@pytest.mark.parametrize(("distortions", "types"), [(["pixelate", "fog", "blur"], [1, -1, 0]), (None, [-1, -1, -1])])
def test_the_targets_are_scores_and_the_types_that_are_known(distortions: list[str] | None, types: list[int]) -> None:
    labeled = SimpleNamespace(scores=[7.0, 2.0, 3.5], distortions=distortions)
    targets = meon.targets_of(labeled, meon.Meon(TYPES))
    assert targets.tolist() == [[7, types[0]], [2, types[1]], [3.5, types[2]]] and meon.UNKNOWN == -1


SMALLEST = {"preset": "paper", "crop": 176, "batch_size": 4, "epochs": 1, "epoch_size": 8, "validation_size": 4}
SMALLEST |= {"workers": 0, "device": "cpu"}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small crops, and two fits of an epoch."""
    monkeypatch.setattr(meon, "CROP", 176)
    monkeypatch.setattr(meon, "RATES", (1e-3,))


def network(path: Path, types: list[str] = TYPES) -> Path:
    """encoder.pt of a run that has seen levels 1 and 2 of the types."""
    torch.manual_seed(1)
    distortions = [[name, level, 1.0, 1.0, "ssl_iqa"] for name in types for level in (1, 2)]
    path.parent.mkdir(exist_ok=True)
    torch.save(encoder_state(meon.Meon(types)) | {"distortions": distortions}, path)
    return path


def test_both_steps_and_the_row_in_table_3(
    command: Callable, finetune_arguments: Callable, photographs: Path, few: None, tmp_path: Path
) -> None:
    words = flags({"unlabeled": photographs, "out": tmp_path / "meon"} | SMALLEST)
    out, _, code = command("pretrain", "meon", *words)
    assert code == 0 and f"--encoders meon={tmp_path / 'meon'}" in out
    saved = load(tmp_path / "meon" / "encoder.pt")
    read = meon.read(tmp_path / "meon" / "encoder.pt")
    assert len(read.types) == 25 and same(dict(read.state_dict()), saved["weights"])
    assert same(dict(meon.read(tmp_path / "meon" / "last.pt").state_dict()), saved["weights"])
    arguments = finetune_arguments(
        out=tmp_path / "tables", encoder=None, encoders=f"meon={tmp_path / 'meon'}", mode="all", epochs=1
    )
    finetune.main(arguments)
    folder = tmp_path / "tables" / "cells" / "csv" / "meon" / "-" / "split-0"
    measured = read_measured(folder)
    results = run_folder.read_json(folder / "results.json")
    assert results["best_epoch"].startswith("1 at 0.001, lambda ") and results["images"] == len(measured.tested.scores)
    assert results["settings"]["crop"] == 176 and results["settings"]["arch"] == "meon"
    table = tables.table_3(tables.summarize([measured]))
    (row,) = (line for line in table.splitlines() if line.startswith("| meon "))
    assert row.endswith("| {:.3f} / {:.3f} |".format(results["srocc"], results["plcc"]))


def test_the_validation_part_chooses_rate_and_lambda(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The fits are offered to one `Best`, each of a network that starts alike."""
    starts, real = [], tuning.Best.offer

    def fit(network: meon.Scoring, stage: Fit, method: Finetuning, best: tuning.Best, task: Any) -> None:
        starts.append([w.clone() for w in network.parameters()])
        weight = stage.loss.keywords["weight"]
        with torch.no_grad():
            network.score[-1].bias += 100 * stage.rate + weight  # what tells the fits apart
        quality = {(1e-3, 0.1): 0.9}.get((stage.rate, weight), 0.5)
        real(best, quality, stage.name, (network.encoder, network.score), torch.zeros(1))

    monkeypatch.setattr(tuning, "fit", fit)
    monkeypatch.setattr(tuning, "read_epoch", lambda *_: None)
    monkeypatch.setattr(tuning, "encode_part", lambda network, task, part: (part, torch.zeros(len(part), 1, 4)))
    labeled = type("Set", (), {"scores": [1.0, 3.0, 100.0]})()
    settings = SimpleNamespace(seed=0, epochs=1, arch="meon", encoder=str(network(tmp_path / "encoder.pt")))
    task = tuning.Task(labeled, {"train": [0, 1], "test": [2]}, torch.device("cpu"), settings)
    best, chosen, test, predicted = tuning.tune("meon", task, tmp_path / "last.pt")
    assert best.epoch == "0.001, lambda 0.1" and test == [2] and predicted.tolist() == [0.0]
    torch.testing.assert_close(chosen.score[-1].bias, torch.full((3,), 2 + 0.1 + 0.1))  # the mean score is 2
    assert len(starts) == 4 and all(same(list(start), list(starts[0])) for start in starts)


@pytest.mark.parametrize(
    ("encoders", "changes", "message"),
    [
        ("meon", {}, "or NAME=RUN, got 'meon'"),
        ("meon=DIR/none", {}, "none: no such file"),
        ("meon=DIR/other.pt", {}, "other.pt: must be of a run of `ssl-iqa pretrain meon`"),
        ("meon=DIR/encoder.pt", {"crops": "full"}, "--crops must be five or center for meon, got full"),
    ],
)
def test_bad_input_is_one_line(
    finetune_arguments: Callable,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    encoders: str,
    changes: dict[str, str],
    message: str,
) -> None:
    torch.save({"arch": "resnet18"}, tmp_path / "other.pt")
    network(tmp_path / "encoder.pt")
    words = finetune_arguments(
        out=tmp_path / "out", encoder=None, encoders=encoders.replace("DIR", str(tmp_path)), **changes
    )
    with pytest.raises(SystemExit) as caught:
        finetune.main(words)
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.startswith("error: ") and message in error and error.count("\n") == 1


def test_the_first_step_starts_from_a_run_of_the_same_types(tmp_path: Path) -> None:
    path = network(tmp_path / "encoder.pt", ["jpeg", "jitter"])
    settings = replace(meon.Settings(), init=str(path))
    distortions = [distortion for distortion in KADIS if distortion.name in ("jpeg", "jitter")]
    assert same(dict(meon.load_encoder(path, settings, distortions).state_dict()), load(path)["weights"])
    with pytest.raises(ValueError, match="the types must be those of --distortions, got jpeg, jitter$"):
        meon.load_encoder(path, settings, KADIS)
    one, two, other = (meon.load_encoder("random", replace(settings, seed=seed), KADIS) for seed in (1, 1, 2))
    assert same(dict(one.state_dict()), dict(two.state_dict())) and not same(
        dict(one.state_dict()), dict(other.state_dict())
    )
