"""train_joint.py: Eq. 8 and the loop around it, what it writes, and what a kill leaves."""

import copy
import json
import math
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

import train_joint
from ssl_iqa.data import sets
from ssl_iqa.data.datasets import finish_views
from ssl_iqa.data.demo import demo_sources
from ssl_iqa.data.joint_run import Images, find_images, make_streams
from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.data.seen import known_parts
from ssl_iqa.data.streams import Streams
from ssl_iqa.data.views import to_float
from ssl_iqa.distortions import load_distortions
from ssl_iqa.engine import distributed
from ssl_iqa.engine.checkpoint import Run
from ssl_iqa.engine.chunks import NetworksInChunks
from ssl_iqa.engine.device import autocast
from ssl_iqa.engine.signals import Stop
from ssl_iqa.engine.weights import load_encoder
from ssl_iqa.evaluation import probe
from ssl_iqa.model import Networks
from ssl_iqa.schedule import Progress, lr_factor
from tests.conftest import load, log, same, save_reduced, timeless
from tests.splits import split_references
from train_joint import joint_step, make_optimizer

ARCH = "dct-mlp"
SETTINGS = replace(train_joint.PRESETS["paper"], arch=ARCH, init="random", batch_size=3, crop=32, alpha=0.7)

Arguments = Callable[..., list[str]]
Batch = tuple[Tensor, Tensor]


@pytest.fixture(autouse=True)
def no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe at a run's end distorts 1500 images; tests/test_finetune.py has a run with it."""
    shares = {"linear": 0.5, "neighbor": 0.5}
    monkeypatch.setattr(probe, "probe_types", lambda encoders, *others: dict.fromkeys(encoders, shares))


def error_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The line that a run with bad input ends with."""
    with pytest.raises(SystemExit) as caught:
        train_joint.main(arguments)
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1
    return error


# --- one step ---


@pytest.fixture
def nets() -> Networks:
    torch.manual_seed(0)
    return Networks(load_encoder("random", ARCH), mean_score=5.5)


def batches(dtype: torch.dtype = torch.float32) -> tuple[Batch, Batch]:
    """Six views of three images in two classes, and four scored images."""
    generator = torch.Generator().manual_seed(1)
    x_d, x = (torch.rand(n, 3, 32, 32, generator=generator, dtype=dtype) for n in (6, 4))
    y = torch.tensor([1.0, 9.0, 4.5, 3.0], dtype=dtype)
    return (x_d, torch.tensor([7, 7, 99, 7, 7, 99])), (x, y)


def eq_8(nets: Networks, unlabeled: Batch, labeled: Batch, alpha: float, tau: float) -> tuple[Tensor, Tensor, Tensor]:
    """L, L_cont and L_r in one graph, term by term as the paper writes them."""
    (x_d, classes), (x, y) = unlabeled, labeled
    p = nets.projector(nets.encoder(x_d))
    views_of_batch = range(len(p))
    sim = [[torch.cosine_similarity(p[i], p[k], dim=0) for k in views_of_batch] for i in views_of_batch]
    l_cont = []
    for i in views_of_batch:
        positives = [j for j in views_of_batch if j != i and classes[j] == classes[i]]
        denominator = sum((sim[i][k] / tau).exp() for k in views_of_batch if k != i)
        l_cont.append(-sum(((sim[i][j] / tau).exp() / denominator).log() for j in positives) / len(positives))
    loss_cont = torch.stack(l_cont).mean()
    loss_r = ((y - nets.regressor(nets.encoder(x))) ** 2).mean()
    return alpha * loss_cont + (1 - alpha) * loss_r, loss_cont, loss_r


def gradients(nets: Networks) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in nets.parameters()]


def test_the_gradient_is_that_of_eq_8_in_one_graph(nets: Networks) -> None:
    nets.double()
    unlabeled, labeled = batches(torch.float64)
    settings = replace(SETTINGS, alpha=0.7, temperature=0.4)
    expected = eq_8(copied := copy.deepcopy(nets), unlabeled, labeled, 0.7, 0.4)
    expected[0].backward()
    losses = joint_step(nets, unlabeled, labeled, settings)
    assert set(losses) == {"L_cont", "L_r", "L"}
    values = [losses["L"], losses["L_cont"], losses["L_r"]]
    assert values == pytest.approx([loss.item() for loss in expected], rel=1e-12)
    names = [name for name, _ in nets.named_parameters()]
    for name, ours, theirs in zip(names, gradients(nets), gradients(copied), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
        # all are reached but one: a shift of the statistics is taken out again by layer1's normalization
        assert (theirs.abs().max() > 1e-6) == (name != "encoder.network.norm.bias")


def test_at_alpha_1_there_is_no_regression(nets: Networks) -> None:
    unlabeled, labeled = batches()
    loss_cont = eq_8(copied := copy.deepcopy(nets), unlabeled, labeled, 1.0, 0.5)[1]
    loss_cont.backward()
    losses = joint_step(nets, unlabeled, None, replace(SETTINGS, alpha=1.0))
    assert losses == {"L_cont": pytest.approx(loss_cont.item()), "L": losses["L_cont"]}
    assert all(parameter.grad is None for parameter in nets.regressor.parameters())
    for ours, theirs in zip(nets.encoder.parameters(), copied.encoder.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5)


class Fixed(list):
    """Batches in place of Streams."""

    device = torch.device("cpu")
    labeled = True

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Batch, Batch | None]]:
        return iter(self[start:])


def train_epoch(
    nets: Networks,
    optimizer: torch.optim.Optimizer,
    streams: Fixed,
    epoch: int,
    settings: train_joint.Settings,
) -> dict[str, float]:
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    run = Run(Path(), {}, [], nets, optimizer, scaler, Progress(epochs=epoch))
    return train_joint.train_epoch(run, nets, streams, settings, Stop())


def test_both_batches_pass_one_encoder_before_one_optimizer_step(nets: Networks) -> None:
    events: list[Any] = []
    nets.encoder.register_forward_pre_hook(lambda module, images: events.append(len(images[0])))
    optimizer = make_optimizer(nets, SETTINGS)
    optimizer.register_step_post_hook(lambda *_: events.append("step"))
    train_epoch(nets, optimizer, Fixed([batches()] * 3), 0, SETTINGS)
    assert events == [6, 4, "step"] * 3


def test_a_step_uses_its_own_gradient_only(nets: Networks) -> None:
    """The same batch twice at learning rate 0: the gradient is the same, not twice as large."""
    gathered = []
    settings = replace(SETTINGS, warmup=10**9)
    optimizer = make_optimizer(nets, settings)
    optimizer.register_step_pre_hook(lambda *_: gathered.append(gradients(nets)))
    train_epoch(nets, optimizer, Fixed([batches()] * 2), 0, settings)
    for first, second in zip(*gathered, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(("name", "steps"), [("sgd", (1.0, 1.9)), ("adam", None)])
def test_what_lars_is_compared_with(nets: Networks, name: str, steps: tuple[float, float] | None) -> None:
    """Two steps on a gradient of 1 everywhere: SGD with momentum 0.9 goes lr and 1.9 lr, Adam about lr each time."""
    settings = replace(SETTINGS, optimizer=name, lr=0.2, regressor_lr=3e-4, weight_decay=0.0)
    optimizer = make_optimizer(nets, settings)
    for length in steps or (1.0, 1.0):
        before = copy.deepcopy(nets)
        for w in nets.parameters():
            w.grad = torch.ones_like(w)
        optimizer.step()
        for part, lr in (("encoder", 0.2), ("projector", 0.2), ("regressor", 3e-4)):
            for was, now in zip(getattr(before, part).parameters(), getattr(nets, part).parameters(), strict=True):
                torch.testing.assert_close(was - now, torch.full_like(was, length * lr), rtol=1e-2, atol=1e-6)


def test_a_run_with_one_view_and_another_optimizer(joint_arguments: Callable[..., list[str]], tmp_path: Path) -> None:
    train_joint.main(joint_arguments(out=tmp_path, epochs=1, views=1, optimizer="adam", lr=1e-3))
    state = load(tmp_path / "last.pt")
    assert (state["settings"]["views"], state["settings"]["optimizer"]) == (1, "adam")
    assert {"exp_avg", "exp_avg_sq"} <= set(state["optimizer"]["state"][0])


def test_lars_takes_section_4_2s_learning_rates(nets: Networks) -> None:
    settings = replace(SETTINGS, lr=0.2, regressor_lr=3e-4, weight_decay=0.0, trust_coefficient=0.01)
    before = copy.deepcopy(nets)
    train_epoch(nets, make_optimizer(nets, settings), Fixed([batches()]), 0, settings)
    for name, weight in before.named_parameters():
        moved = nets.get_parameter(name) - weight
        gradient = nets.get_parameter(name).grad
        if name.startswith("regressor"):
            torch.testing.assert_close(moved, -3e-4 * gradient, rtol=1e-3, atol=1e-6)  # float32 of a bias of 5.5
        elif weight.ndim > 1:
            assert moved.norm().item() == pytest.approx(0.2 * 0.01 * weight.norm().item(), rel=1e-3), name
        else:
            torch.testing.assert_close(moved, -0.2 * gradient, rtol=1e-3, atol=1e-6)


def test_both_losses_fall_on_a_batch_seen_often(nets: Networks) -> None:
    settings = replace(SETTINGS, lr=1.0, regressor_lr=1e-3)
    optimizer = make_optimizer(nets, settings)
    batch = Fixed([batches()] * 10)
    records = [train_epoch(nets, optimizer, batch, epoch, settings) for epoch in range(5)]
    # at best the four views of one class are at similarity 1, and at -1 to the two of the other
    floor = (4 * math.log(3 + 2 * math.exp(-4)) + 2 * math.log(1 + 4 * math.exp(-4))) / 6
    assert records[0]["L_cont"] > 1.1 and records[-1]["L_cont"] == pytest.approx(floor, abs=0.01)
    assert records[0]["L_r"] > 3 and records[-1]["L_r"] < 0.1


@pytest.mark.parametrize(
    ("step", "plateaus", "schedule", "warmup", "factor"),
    [
        (0, 0, "plateau", 0, 1),
        (99, 0, "plateau", 0, 1),
        (50, 2, "plateau", 0, 0.01),
        (0, 0, "linear", 0, 1),
        (25, 0, "linear", 0, 0.75),
        (99, 3, "linear", 0, 0.01),
        (0, 0, "plateau", 4, 0.25),
        (3, 0, "plateau", 4, 1),
        (1, 1, "plateau", 4, 0.05),
        (1, 0, "linear", 4, 0.5 * 0.99),
    ],
)
def test_learning_rates_at_a_step(step: int, plateaus: int, schedule: str, warmup: int, factor: float) -> None:
    assert lr_factor(step, 100, plateaus, warmup, schedule) == pytest.approx(factor)


def test_an_epoch_goes_on_where_the_last_one_ended(nets: Networks) -> None:
    """The second epoch of two steps, linear over four: both learning rates are at 1/2, then 1/4."""
    settings = replace(SETTINGS, schedule="linear", epochs=2, lr=0.8, regressor_lr=0.004)
    optimizer = make_optimizer(nets, settings)
    rates: list[list[float]] = []
    optimizer.register_step_pre_hook(lambda *_: rates.append([group["lr"] for group in optimizer.param_groups]))
    record = train_epoch(nets, optimizer, Fixed([batches()] * 2), 1, settings)
    assert rates == [pytest.approx([0.4, 0.002]), pytest.approx([0.2, 0.001])]
    assert record["lr"] == pytest.approx(0.2)


def test_an_epochs_losses_are_the_means_over_its_steps(nets: Networks, monkeypatch: pytest.MonkeyPatch) -> None:
    script = iter([{"L_cont": 3.0, "L": 1.0}, {"L_cont": 5.0, "L": 2.0}])
    monkeypatch.setattr(train_joint, "joint_step", lambda *args: joint_step(*args) | next(script))
    record = train_epoch(nets, make_optimizer(nets, SETTINGS), Fixed([batches()] * 2), 0, SETTINGS)
    assert (record["L_cont"], record["L"]) == (4.0, 1.5)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_before_the_weights_change(
    nets: Networks, monkeypatch: pytest.MonkeyPatch, loss: float
) -> None:
    monkeypatch.setattr(train_joint, "joint_step", lambda *args: joint_step(*args) | {"L_r": loss, "L": loss})
    optimizer = make_optimizer(nets, SETTINGS)
    optimizer.register_step_pre_hook(lambda *_: pytest.fail("the weights were changed"))
    with pytest.raises(FloatingPointError, match="not finite at step 13, epoch 5"):
        train_epoch(nets, optimizer, Fixed([batches()] * 3), 4, SETTINGS)


# --- plateaus and early stopping ---


def test_plateaus_and_the_best_epoch_are_counted() -> None:
    progress, best = Progress(), []
    losses = [3.0, 2.0, 2.0, 2.5, 2.1, 2.2, 1.0, 1.5, math.nan, 0.5]
    expected_since = [0, 0, 1, 2, 3, 4, 0, 1, 2, 0]
    expected_plateaus = [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]
    for epoch, (loss, since, plateaus) in enumerate(zip(losses, expected_since, expected_plateaus, strict=True)):
        best.append(progress.update(loss, patience=2))
        assert (progress.epochs, progress.since_best, progress.plateaus) == (epoch + 1, since, plateaus)
    assert best == [True, True] + 4 * [False] + [True, False, False, True]
    assert progress.best_loss == 0.5


@pytest.fixture
def val_losses(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[float]], list[dict]]:
    """val_losses([..]) makes each epoch's validation loss; returns where the encoder of every epoch is gathered."""

    def make(losses: list[float]) -> list[dict]:
        script, encoders = iter(losses), []

        def validate(nets: Networks, *_: Any) -> dict[str, float]:
            encoders.append(copy.deepcopy(nets.encoder.state_dict()))
            return {"val_L_cont": 0.0, "val_L_r": 0.0, "val_L": next(script), "val_SROCC": 0.0}

        monkeypatch.setattr(train_joint, "validate", validate)
        return encoders

    return make


def test_learning_rate_falls_and_training_stops_as_validation_stagnates(
    joint_arguments: Arguments, tmp_path: Path, val_losses: Callable
) -> None:
    val_losses([2.0, 1.0, 1.0, 1.5, 1.2, 0.0])
    train_joint.main(joint_arguments(out=tmp_path, epochs=50, lr=0.1, patience=2, stop_after=3, schedule="plateau"))
    records = log(tmp_path)
    assert [record["epoch"] for record in records] == [1, 2, 3, 4, 5]  # three without a better one than epoch 2's
    assert [record["lr"] for record in records] == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.01])


def test_the_encoder_is_that_of_the_best_epoch(
    joint_arguments: Arguments, tmp_path: Path, val_losses: Callable
) -> None:
    encoders = val_losses([3.0, 1.0, 2.0])
    train_joint.main(joint_arguments(out=tmp_path, epochs=3))
    assert same(load(tmp_path / "encoder.pt")["weights"], encoders[1])
    assert same(load(tmp_path / "last.pt")["encoder"]["weights"], encoders[2])
    assert not same(encoders[1], encoders[2])


def test_a_validation_loss_that_is_not_finite_stops_the_run(
    nets: Networks, joint_arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = train_joint.joint_loss

    def not_finite(*args: Any) -> Tensor:
        return real(*args) * (1 if torch.is_grad_enabled() else math.nan)

    monkeypatch.setattr(train_joint, "joint_loss", not_finite)
    with pytest.raises(SystemExit) as caught:
        train_joint.main(joint_arguments(out=tmp_path))
    assert "validation loss is not finite" in str(caught.value.code)


# --- validation ---


def images_of(settings: train_joint.Settings) -> Images:
    return find_images(replace(settings, workers=0), load_distortions(settings.distortions))


def streams_of(arguments: list[str]) -> tuple[train_joint.Settings, Streams, Streams, LabeledSet]:
    settings, _ = train_joint.parse_arguments(arguments)
    images = images_of(settings)
    both = make_streams(images, torch.device("cpu"), settings)
    return settings, *both, images.labeled


def test_validation_is_the_same_every_time_and_changes_nothing(joint_arguments: Arguments, nets: Networks) -> None:
    settings, streams, val_streams, _ = streams_of(joint_arguments(validation_size=8))
    before = copy.deepcopy(nets.state_dict())
    first = train_joint.validate(nets, val_streams, settings, Stop())
    list(streams.batches(0))
    torch.rand(3), np.random.rand(3)
    assert train_joint.validate(nets, val_streams, settings, Stop()) == first
    assert same(nets.state_dict(), before)
    assert first["val_L"] == pytest.approx(0.9 * first["val_L_cont"] + 0.1 * first["val_L_r"])


@torch.no_grad()
@pytest.mark.parametrize("workers", [0, 1])
def test_validation_is_eq_8_of_all_labeled_images_and_their_srocc(
    joint_arguments: Arguments, nets: Networks, workers: int
) -> None:
    """12 unlabeled images are three batches, and the 8 labeled ones, in other batches than there, come once each."""
    arguments = joint_arguments(validation_size=12, labeled_batch_size=3, workers=workers)
    settings, _, val_streams, labeled = streams_of(arguments)
    result = train_joint.validate(nets, val_streams, settings, Stop())
    nets.eval()
    indices = val_streams.labeled.dataset.indices
    x, y = (torch.cat(parts) for parts in zip(*val_streams.labeled_batches(), strict=True))
    assert len(indices) == 8 and y.tolist() == pytest.approx([labeled.scores[i] for i in indices])
    for crop, index in zip(x, indices, strict=True):  # each image's own: its colors are all there
        image = to_float(labeled.read(index)).flatten(1)
        assert (crop.flatten(1)[:, :, None] == image[:, None]).all(0).any(1).all()
    pairs = list(val_streams.unlabeled_batches())
    nets.double()
    losses = [eq_8(nets, (x_d.double(), classes), (x.double(), y), settings.alpha, 0.5) for x_d, classes in pairs]
    assert len(pairs) == 3
    for name, values in zip(("val_L", "val_L_cont", "val_L_r"), zip(*losses, strict=True), strict=True):
        assert result[name] == pytest.approx(torch.stack(values).mean().item(), rel=1e-5)
    assert result["val_SROCC"] == pytest.approx(spearmanr(nets.regressor(nets.encoder(x.double())), y).statistic)


@pytest.mark.parametrize("labeled_batch_size", [6, 9])  # of 13 images: last batches of 1 and of 4
def test_processes_with_unequal_shares_validate_as_one(
    joint_arguments: Arguments, nets: Networks, monkeypatch: pytest.MonkeyPatch, labeled_batch_size: int
) -> None:
    settings, _ = train_joint.parse_arguments(joint_arguments(labeled_batch_size=labeled_batch_size))
    images = images_of(settings)
    monkeypatch.setattr("ssl_iqa.data.joint_run.part_indices", lambda *_: range(13))

    def streams(process: int, processes: int) -> Streams:
        with monkeypatch.context() as patch:
            patch.setattr(distributed, "rank", lambda: process)
            patch.setattr(distributed, "size", lambda: processes)
            return make_streams(images, torch.device("cpu"), settings)[1]

    expected = train_joint.validate(nets, streams(0, 1), settings, Stop())
    asked, told = [], []  # by each process: for the end; and what it tells the others
    monkeypatch.setattr(distributed, "end_if_asked", lambda flag, device: asked.append(flag))
    monkeypatch.setattr(distributed, "every", lambda value: told.append(value) or [value])
    counts = []
    for process in range(3):
        train_joint.validate(nets, streams(process, 3), settings, Stop())
        counts.append(len(asked))
    assert [counts[1] - counts[0], counts[2] - counts[1]] == [counts[0]] * 2  # none waits for another in vain
    monkeypatch.setattr(distributed, "every", lambda value: told)
    result = train_joint.validate(nets, streams(0, 3), settings, Stop())
    for name in ("val_L_r", "val_SROCC"):
        assert result[name] == pytest.approx(expected[name], rel=1e-6)


def test_one_labeled_image_to_validate_with_has_no_srocc(
    joint_arguments: Arguments, nets: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssl_iqa.data.joint_run.part_indices", lambda *_: [5])
    settings, _, val_streams, _ = streams_of(joint_arguments())
    result = train_joint.validate(nets, val_streams, settings, Stop())
    assert math.isnan(result["val_SROCC"]) and result["val_L_r"] > 0


def test_validation_images_are_no_training_images(joint_arguments: Arguments) -> None:
    settings, streams, val_streams, labeled = streams_of(joint_arguments())
    train, val = (set(part.unlabeled.dataset.paths) for part in (streams, val_streams))
    assert (len(train), len(val)) == (8, 2) and not train & val
    references = [{labeled.references[i] for i in part.labeled.dataset.indices} for part in (streams, val_streams)]
    assert (len(references[0]), len(references[1])) == (6, 2) and not references[0] & references[1]


# --- a run ---


def test_a_run_leaves_its_files(joint_arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = joint_arguments(out=tmp_path, seed=3, epochs=2)
    train_joint.main(arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("config.json", "encoder.pt", "last.pt", "log.jsonl", "near_duplicates.json", "splits.json")
    ]
    settings, _ = train_joint.parse_arguments(arguments)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config == asdict(settings) == load(tmp_path / "last.pt")["settings"]

    splits = json.loads((tmp_path / "splits.json").read_text())
    labeled = sets.load_labeled(settings.labeled)
    assert splits["labeled"] == {"spec": settings.labeled, **split_references(labeled.references, 3)}
    assert splits["unlabeled"]["train"] == 8 and len(splits["unlabeled"]["val"]) == 2

    records = log(tmp_path)
    assert [record["epoch"] for record in records] == [1, 2]
    names = "L_cont L_r L grad_norm lr regressor_lr pictures_per_second data_wait"
    names += " val_L_cont val_L_r val_L val_SROCC epoch minutes skipped"
    assert all(record.keys() == set(names.split()) for record in records)
    assert records[0]["L"] == pytest.approx(0.9 * records[0]["L_cont"] + 0.1 * records[0]["L_r"])

    assert load_encoder(tmp_path / "encoder.pt").arch == ARCH
    shown = capsys.readouterr().out
    assert "L_cont is about 1.95" in shown  # log(2 * 4 - 1)
    assert "epoch   2/2" in shown and str(tmp_path / "encoder.pt") in shown


def test_a_checkpoint_is_saved_at_every_epoch(
    joint_arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved, real = [], train_joint.train_epoch

    def train_epoch(*args: Any) -> dict[str, float]:
        saved.append(load(tmp_path / "last.pt")["progress"]["epochs"] if (tmp_path / "last.pt").exists() else 0)
        return real(*args)

    monkeypatch.setattr(train_joint, "train_epoch", train_epoch)
    train_joint.main(joint_arguments(out=tmp_path, epochs=3))
    assert saved == [0, 1, 2]


def test_distorting_on_the_device_trains_the_same_weights(joint_arguments: Arguments, tmp_path: Path) -> None:
    for place in ("worker", "device"):
        train_joint.main(joint_arguments(out=tmp_path / place, epochs=1, distort_on=place))
    assert same(load(tmp_path / "worker/last.pt")["encoder"], load(tmp_path / "device/last.pt")["encoder"])


def test_the_same_seed_gives_the_same_weights_with_any_workers(joint_arguments: Arguments, tmp_path: Path) -> None:
    for out, changes in {"0": {}, "1": {"workers": 1}, "2": {"seed": 5}}.items():
        torch.rand(7), np.random.rand(7)  # whatever the process did before
        train_joint.main(joint_arguments(out=tmp_path / out, **changes))
    first, workers, seed = (load(tmp_path / out / "last.pt") for out in "012")
    for part in ("encoder", "projector", "regressor", "optimizer"):
        assert same(first[part], workers[part]) and not same(first[part], seed[part])


def test_alpha_1_needs_no_labels_and_leaves_the_regressor(
    joint_arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LabeledSet, "read", lambda *_: pytest.fail("a labeled image was read"))
    started: list[dict] = []
    real = train_joint.make_optimizer

    def recording(nets: Networks, settings: train_joint.Settings) -> torch.optim.Optimizer:
        started.append(copy.deepcopy(nets.state_dict()))
        return real(nets, settings)

    monkeypatch.setattr(train_joint, "make_optimizer", recording)
    train_joint.main(joint_arguments(out=tmp_path / "without", alpha=1, labeled=None))
    train_joint.main(joint_arguments(out=tmp_path / "with", alpha=1))
    for before, name in zip(started, ("without", "with"), strict=True):
        last = load(tmp_path / name / "last.pt")
        part = {key.removeprefix("regressor."): w for key, w in before.items() if key.startswith("regressor.")}
        assert same(last["regressor"], part)
        assert not any(torch.equal(w, before["encoder." + key]) for key, w in last["encoder"]["weights"].items())
        assert all("L_r" not in record and "val_SROCC" not in record for record in log(tmp_path / name))
    assert "labeled" not in json.loads((tmp_path / "without" / "splits.json").read_text())
    assert "labeled" in json.loads((tmp_path / "with" / "splits.json").read_text())  # finetune.py's test part


def test_no_image_of_a_test_reference_is_ever_read(
    joint_arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: set[int] = set()
    real = LabeledSet.read
    monkeypatch.setattr(LabeledSet, "read", lambda labeled, i: read.add(i) or real(labeled, i))
    train_joint.main(joint_arguments(out=tmp_path, epochs=8))
    split = json.loads((tmp_path / "splits.json").read_text())["labeled"]
    labeled = sets.load_labeled(split["spec"])
    assert {labeled.references[i] for i in read} == {*split["train"], *split["val"]}
    assert len(split["test"]) == 2


def test_no_photograph_of_a_test_source_is_in_the_demos_unlabeled_stream() -> None:
    settings = replace(SETTINGS, unlabeled="demo", labeled="demo", long_side=192)
    splits, train, val, labeled, seen, _ = images_of(settings)
    sources = demo_sources()
    parts = {name: set(splits["labeled"][name]) for name in ("train", "val", "test")}
    assert {sources[path] for path in train.paths} == parts["train"]
    assert {sources[path] for path in val.paths} == parts["val"]
    assert not parts["test"] & (parts["train"] | parts["val"])
    assert labeled.name == "demo" and train.long_side == val.long_side == labeled.long_side == 192
    assert [record["data"] for record in seen] == ["demo"] and seen[0]["references"]["test"] == sorted(parts["test"])


def test_the_demos_photographs_are_seen_without_their_labels_too(scored: Path) -> None:
    for labeled in ("", f"csv:{scored}"):
        images = images_of(replace(SETTINGS, unlabeled="demo", labeled=labeled, alpha=1.0))
        record = images.seen[0]
        known = known_parts(sets.load_labeled("demo"), images.seen)
        sources = demo_sources()
        assert record["data"] == "demo" and {known[sources[path]] for path in images.train.paths} == {"train"}
        assert len(images.seen) == 1 + bool(labeled)


def test_a_loss_that_is_not_finite_leaves_the_last_good_checkpoint(
    joint_arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_joint.main(joint_arguments(out=tmp_path / "good", epochs=2))
    steps, real = [], joint_step

    def broken(*args: Any) -> dict[str, float]:
        steps.append(1)
        return real(*args) | ({"L": math.nan} if len(steps) == 6 else {})

    monkeypatch.setattr(train_joint, "joint_step", broken)
    with pytest.raises(SystemExit) as caught:
        train_joint.main(joint_arguments(out=tmp_path / "bad", epochs=3))
    message = str(caught.value.code)  # printed by Python, with exit code 1
    assert "not finite at step 6, epoch 3" in message and str(tmp_path / "bad" / "last.pt") in message
    good, bad = (load(tmp_path / name / "last.pt") for name in ("good", "bad"))
    assert all(same(good[part], bad[part]) for part in ("encoder", "projector", "regressor", "progress"))


def test_unreadable_files_are_named_once_and_counted(
    joint_arguments: Arguments, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for path in photographs.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "note.jpg").write_text("no image")
    (folder / "half.png").write_bytes((photographs / "3.png").read_bytes()[:2000])
    train_joint.main(joint_arguments(out=tmp_path / "run", unlabeled=folder, epochs=6))
    shown = capsys.readouterr()
    warnings = [line for line in shown.err.splitlines() if "cannot be read" in line]
    bad = ("half.png", "note.jpg")
    assert sorted(warnings) == [f"warning: {folder / name}: cannot be read, skipped" for name in bad]
    assert "2 files could not be read and were skipped" in shown.out
    assert log(tmp_path / "run")[-1]["skipped"] <= 2


# --- resuming, replacing ---


def interrupted(arguments: list[str], monkeypatch: pytest.MonkeyPatch, epoch: int = 1) -> None:
    """A run that ends where the epoch with this index should begin."""
    real = train_joint.train_epoch

    def train_epoch(run: Run, *args: Any) -> dict[str, float]:
        if run.progress.epochs == epoch:
            raise KeyboardInterrupt
        return real(run, *args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train_joint, "train_epoch", train_epoch)
        train_joint.main(arguments)


def test_a_resumed_run_equals_one_that_was_not_interrupted(
    joint_arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"epochs": 3, "patience": 1, "warmup": 3}
    train_joint.main(joint_arguments(out=tmp_path / "whole", **settings))
    part = joint_arguments(out=tmp_path / "part", **settings)
    interrupted(part, monkeypatch)
    assert load(tmp_path / "part" / "last.pt")["progress"]["epochs"] == 1
    with (tmp_path / "part" / "log.jsonl").open("a") as file:
        file.write('{"epoch": 2}\n')  # logged, then killed before it was saved
    train_joint.main([*part, "--resume"])
    for name in ("last.pt", "encoder.pt"):
        ours, theirs = (load(tmp_path / run / name) for run in ("part", "whole"))
        ours.pop("minutes", None), theirs.pop("minutes", None)
        assert same(ours, theirs), name
    assert timeless(tmp_path / "whole") == timeless(tmp_path / "part")


def test_a_run_is_resumed_with_its_own_settings_only(
    joint_arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted(joint_arguments(out=tmp_path), monkeypatch)
    capsys.readouterr()
    error = error_of(joint_arguments(out=tmp_path, lr=0.3, arch="resnet18", resume=True), capsys)
    assert "--lr was 0.1, is 0.3" in error and f"--arch was '{ARCH}', is 'resnet18'" in error and "seed" not in error
    train_joint.main(joint_arguments(out=tmp_path, workers=1, resume=True))  # where it computes may differ
    assert load(tmp_path / "last.pt")["progress"]["epochs"] == 2


def test_a_run_is_resumed_with_its_own_classes_only(
    joint_arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few, out = tmp_path / "few.toml", tmp_path / "run"
    few.write_text("jpeg = {levels = [50, 10], weight = 2}\ndarken = {levels = [0.5]}\n")
    train_joint.main(joint_arguments(out=out, epochs=1, distortions=few, images_per_class=0))
    assert "2 distortion types, 3 classes" in capsys.readouterr().out
    stored = [["jpeg", 1, 50, 2.0, "ssl_iqa"], ["jpeg", 2, 10, 2.0, "ssl_iqa"], ["darken", 1, 0.5, 1.0, "ssl_iqa"]]
    assert load(out / "last.pt")["distortions"] == load(out / "encoder.pt")["distortions"] == stored
    changed = tmp_path / "changed.toml"
    changed.write_text(few.read_text().replace("10", "20"))
    error = error_of(joint_arguments(out=out, epochs=1, distortions=changed, images_per_class=0, resume=True), capsys)
    assert "--distortions had other classes" in error
    renamed = few.rename(tmp_path / "renamed.toml")  # the same classes
    train_joint.main(joint_arguments(out=out, epochs=1, distortions=renamed, images_per_class=0, resume=True))


def test_a_finished_run_that_is_resumed_stays_as_it_is(joint_arguments: Arguments, tmp_path: Path) -> None:
    train_joint.main(joint_arguments(out=tmp_path))
    before = load(tmp_path / "last.pt")
    train_joint.main(joint_arguments(out=tmp_path, resume=True))
    assert same(load(tmp_path / "last.pt"), before) and len(log(tmp_path)) == 2


def test_where_no_run_is_none_can_be_resumed(
    joint_arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "none"
    assert "last.pt: no such file; --resume needs" in error_of(joint_arguments(out=out, resume=True), capsys)
    assert not out.exists()


def test_a_file_of_something_else_cannot_be_resumed(
    joint_arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for content in ({"weights": torch.zeros(2)}, torch.zeros(2)):
        torch.save(content, tmp_path / "last.pt")
        assert "last.pt: not a checkpoint of a pretraining" in error_of(
            joint_arguments(out=tmp_path, resume=True), capsys
        )


def test_a_run_is_not_overwritten_unasked(
    joint_arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_joint.main(joint_arguments(out=tmp_path, epochs=1))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    capsys.readouterr()
    error = error_of(joint_arguments(out=tmp_path, epochs=1, seed=4), capsys)
    assert str(tmp_path) in error and "--overwrite" in error
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    train_joint.main(joint_arguments(out=tmp_path, epochs=1, seed=4, overwrite=True))
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 4 and len(log(tmp_path)) == 1


def test_the_demos_own_folder_is_replaced_and_says_so(
    joint_arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    demo = {"unlabeled": "demo", "labeled": None, "alpha": 1, "epochs": 1, "epoch_size": 4, "validation_size": 4}
    train_joint.main(joint_arguments(**demo))
    assert "replaced" not in capsys.readouterr().out
    train_joint.main(joint_arguments(**demo, seed=1))
    assert "runs/joint: the run that was here is replaced" in capsys.readouterr().out
    assert json.loads(Path("runs/joint/config.json").read_text())["seed"] == 1
    assert "runs/joint" in error_of(joint_arguments(alpha=1, labeled=None), capsys)  # own images' run: not unasked


# --- in chunks, in half precision, compiled ---


def in_chunks(nets: Networks, chunks: int) -> NetworksInChunks:
    """The same networks, with their weights, in chunks."""
    chunked = NetworksInChunks(nets.encoder, 5.5, chunks).to(nets.regressor[0].weight.dtype).train(nets.training)
    chunked.projector, chunked.regressor = nets.projector, nets.regressor
    return chunked


@pytest.mark.parametrize("accumulate", [2, 3, 6])
def test_in_chunks_the_gradient_is_the_same(nets: Networks, accumulate: int) -> None:
    """In float64, with batch normalization's running statistics, so that a chunk is normalized like the batch."""
    nets.double().eval()
    for module in nets.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    copied = copy.deepcopy(nets)
    unlabeled, labeled = batches(torch.float64)
    expected = joint_step(copied, unlabeled, labeled, SETTINGS)
    chunked = in_chunks(nets, accumulate)
    assert joint_step(chunked, unlabeled, labeled, SETTINGS) == pytest.approx(expected)
    for ours, theirs in zip(gradients(chunked), gradients(copied), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    assert max(gradient.abs().max() for gradient in gradients(chunked)) > 1e-2


def test_in_chunks_one_graph_of_a_chunk_is_in_memory_at_a_time(nets: Networks) -> None:
    passes: list[Any] = []

    def watch(encoder: torch.nn.Module, images: tuple[Tensor], z: Tensor) -> None:
        passes.append(len(images[0]))
        z.register_hook(lambda _: passes.append("backward"))

    nets.encoder.register_forward_hook(watch)
    joint_step(in_chunks(nets, 3), batches()[0], None, replace(SETTINGS, alpha=1.0))
    assert passes == 3 * [2] + 3 * [2, "backward"]


def test_in_chunks_running_statistics_count_each_view_once(nets: Networks) -> None:
    norm = nets.encoder.network.norm
    before = norm.running_mean.clone()
    unlabeled, _ = batches()
    joint_step(in_chunks(nets, 2), unlabeled, None, replace(SETTINGS, alpha=1.0))
    expected = before
    for chunk in unlabeled[0].chunk(2):  # of 3 views
        expected = 0.9 * expected + 0.1 * nets.encoder.network.statistics(chunk).mean(dim=0)
    torch.testing.assert_close(norm.running_mean, expected)
    assert norm.num_batches_tracked == 2 and norm.track_running_stats


def test_fp16s_scale_leaves_the_gradient(nets: Networks) -> None:
    unlabeled, labeled = batches()
    copied = copy.deepcopy(nets)
    for ours, theirs in ((nets, copied), (in_chunks(nets, 3), in_chunks(copied, 3))):
        ours.zero_grad(), theirs.zero_grad()
        joint_step(theirs, unlabeled, labeled, SETTINGS)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        joint_step(ours, unlabeled, labeled, SETTINGS, scaler.scale)
        for scaled, gradient in zip(gradients(ours), gradients(theirs), strict=True):
            torch.testing.assert_close(scaled / 1024, gradient, rtol=1e-3, atol=1e-5)


def test_a_step_whose_gradient_fp16_cannot_hold_is_left_out(nets: Networks, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    def overflowing(*args: Any) -> dict[str, float]:
        values = joint_step(*args)
        if not taken:
            nets.projector[0].weight.grad[0, 0] = math.inf
        taken.append(1)
        return values

    monkeypatch.setattr(train_joint, "joint_step", overflowing)
    optimizer, before = make_optimizer(nets, SETTINGS), copy.deepcopy(nets.state_dict())
    weights: list[bool] = []
    optimizer.register_step_post_hook(lambda *_: weights.append(True))
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    run = Run(Path(), {}, [], nets, optimizer, scaler)
    train_joint.train_epoch(run, nets, Fixed([batches()]), SETTINGS, Stop())
    assert weights == [] and torch.equal(nets.projector[0].weight, before["projector.0.weight"])
    assert scaler.get_scale() == 2.0 and run.progress.step == 1
    run.progress = Progress()
    train_joint.train_epoch(run, nets, Fixed([batches()]), SETTINGS, Stop())
    assert weights == [True]


@pytest.mark.parametrize("scale", [None, 1.0])
def test_a_gradient_that_is_not_finite_ends_the_run(
    nets: Networks, monkeypatch: pytest.MonkeyPatch, scale: float | None
) -> None:
    """In float32 at once, in fp16 when its scale has come down to 1."""

    def overflowing(*args: Any) -> dict[str, float]:
        values = joint_step(*args)
        nets.projector[0].weight.grad[0, 0] = math.inf
        return values

    monkeypatch.setattr(train_joint, "joint_step", overflowing)
    scaler = torch.amp.GradScaler("cpu", enabled=scale is not None, init_scale=scale or 1.0)
    run = Run(Path(), {}, [], nets, make_optimizer(nets, SETTINGS), scaler)
    with pytest.raises(FloatingPointError, match="the loss or its gradient is not finite at step 1"):
        train_joint.train_epoch(run, nets, Fixed([batches()]), SETTINGS, Stop())


def test_the_norm_in_the_log_is_without_fp16s_scale(nets: Networks) -> None:
    copied = copy.deepcopy(nets)
    norms = []
    for networks, scaler in ((nets, torch.amp.GradScaler("cpu", init_scale=256.0)), (copied, None)):
        scaler = scaler or torch.amp.GradScaler("cpu", enabled=False)
        run = Run(Path(), {}, [], networks, make_optimizer(networks, SETTINGS), scaler)
        norms.append(train_joint.train_epoch(run, networks, Fixed([batches()]), SETTINGS, Stop())["grad_norm"])
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)


needs_bf16 = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU has no bfloat16 arithmetic"
)


@needs_bf16
def test_in_half_precision_layers_are_bfloat16_and_losses_float32(nets: Networks) -> None:
    dtypes: dict[str, torch.dtype] = {}
    names = {"p": nets.projector, "y_hat": nets.regressor, "first": nets.encoder.network.layer1[0]}
    for name, module in names.items():
        module.register_forward_hook(lambda _, __, out, name=name: dtypes.update({name: out.dtype}))
    nets.encoder.network.norm.register_forward_pre_hook(lambda _, x: dtypes.update(statistics=x[0].dtype))
    unlabeled, labeled = batches()
    settings = replace(SETTINGS, amp="bf16")
    joint_step(nets, unlabeled, labeled, settings)
    half = {"p": torch.bfloat16, "y_hat": torch.bfloat16, "first": torch.bfloat16}
    assert dtypes == half | {"statistics": torch.float32}
    assert all(gradient.dtype == torch.float32 for gradient in gradients(nets))
    (x_d, views_classes), (x, y) = unlabeled, labeled
    with autocast(x.device, "bf16"):
        p, y_hat = nets(x_d, x)
    losses = train_joint.joint_loss(p, views_classes, y_hat, y, settings)
    assert all(loss.dtype == torch.float32 for loss in losses)
    expected = eq_8(nets, unlabeled, labeled, 0.7, 0.5)
    for loss, exact in zip(losses, expected, strict=True):
        assert loss.item() == pytest.approx(exact.item(), rel=0.05)


@needs_bf16
def test_a_run_in_half_precision_is_near_one_in_float32(joint_arguments: Arguments, tmp_path: Path) -> None:
    for amp in ("off", "bf16"):
        train_joint.main(joint_arguments(out=tmp_path / amp, amp=amp))
    off, bf16 = log(tmp_path / "off"), log(tmp_path / "bf16")
    assert bf16[-1]["L"] == pytest.approx(off[-1]["L"], rel=0.05) and bf16[-1]["L"] != off[-1]["L"]
    weights = load(tmp_path / "bf16" / "last.pt")["encoder"]["weights"]
    assert all(weight.dtype in (torch.float32, torch.int64) for weight in weights.values())
    train_joint.main(joint_arguments(out=tmp_path / "bf16", amp="off", resume=True))  # may be changed


def test_a_compiled_encoder_trains_and_is_saved_as_any_other(
    joint_arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled, real = [], torch.nn.Module.compile

    def compile_quickly(module: torch.nn.Module) -> None:
        compiled.append(type(module).__name__)
        real(module, backend="eager")  # the default backend takes half a minute

    monkeypatch.setattr(torch.nn.Module, "compile", compile_quickly)
    train_joint.main(joint_arguments(out=tmp_path / "eager"))
    assert compiled == []
    train_joint.main(joint_arguments(out=tmp_path / "compiled", compile=True))
    assert compiled == ["Encoder"]
    eager, other = (load(tmp_path / name / "last.pt")["encoder"]["weights"] for name in ("eager", "compiled"))
    torch.testing.assert_close(eager, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("processes", "changes", "message"),
    [
        (3, {}, "--batch-size must be a multiple of the number of processes, 3, got 4"),
        (2, {"labeled_batch_size": 5}, "--labeled-batch-size must be a multiple of the number of processes, 2, got 5"),
        (2, {"accumulate": 3}, "--accumulate must be at most 2 for this batch, got 3"),
    ],
)
def test_batches_that_do_not_divide_are_an_error(
    joint_arguments: Arguments,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    processes: int,
    changes: dict,
    message: str,
) -> None:
    for name, value in {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}.items():
        monkeypatch.setenv(name, str(value))
    assert message in error_of(joint_arguments(out=tmp_path, **changes), capsys)


def test_waiting_for_data_is_measured(
    joint_arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = finish_views

    def slow(*args: Any) -> tuple[Tensor, Tensor]:
        time.sleep(0.3)
        return real(*args)

    monkeypatch.setattr("ssl_iqa.data.streams.finish_views", slow)
    train_joint.main(joint_arguments(out=tmp_path))
    assert all(0.5 < record["data_wait"] < 1 for record in log(tmp_path))
    assert all(record["pictures_per_second"] < 16 / 0.6 for record in log(tmp_path))
    assert len(re.findall(r" images/s, [5-9]\d% waiting", capsys.readouterr().out)) == len(log(tmp_path))


def test_the_gradients_norm_is_that_of_all_parameters(nets: Networks) -> None:
    joint_step(nets, *batches(), SETTINGS)
    norm = sum(gradient.double().square().sum() for gradient in gradients(nets)).sqrt()
    assert train_joint.gradient_norm(nets) == pytest.approx(norm.item(), rel=1e-4)


# --- the long side ---


@pytest.mark.parametrize("distort_on", ["worker", "device"])
def test_images_reduced_to_a_long_side_train_as_files_of_that_size(
    joint_arguments: Arguments, photographs: Path, scored: Path, tmp_path: Path, distort_on: str
) -> None:
    small, small_scored = (
        save_reduced(folder, tmp_path / name, 46) for folder, name in ((photographs, "u"), (scored.parent, "l"))
    )
    train_joint.main(joint_arguments(out=tmp_path / "a", epochs=1, long_side=46, distort_on=distort_on))
    own = {"unlabeled": small, "labeled": f"csv:{small_scored / scored.name}"}
    train_joint.main(joint_arguments(out=tmp_path / "b", epochs=1, distort_on=distort_on, **own))
    a, b = (load(tmp_path / name / "last.pt") for name in "ab")
    assert all(same(a[part], b[part]) for part in ("projector", "regressor", "optimizer"))
    assert same(a["encoder"]["weights"], b["encoder"]["weights"]) and timeless(tmp_path / "a") == timeless(
        tmp_path / "b"
    )


def test_own_images_are_not_reduced_unasked(photographs: Path) -> None:
    def long_side(*words: str) -> int:
        return train_joint.parse_arguments([*words])[0].long_side

    assert long_side() == long_side("--unlabeled", "demo", "--alpha", "1") == 192
    assert long_side("--unlabeled", str(photographs), "--alpha", "1") == long_side("--labeled", "csv:own.csv") == 0
    assert long_side("--unlabeled", str(photographs), "--alpha", "1", "--long-side", "50") == 50


def test_a_run_of_before_there_was_a_long_side_goes_on(
    joint_arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_joint.main(joint_arguments(out=tmp_path, epochs=1))
    state = load(tmp_path / "last.pt")
    del state["settings"]["long_side"]
    torch.save(state, tmp_path / "last.pt")
    with pytest.raises(SystemExit):
        train_joint.main(joint_arguments(out=tmp_path, epochs=2, resume=True, long_side=60))
    assert "--long-side was 0, is 60" in capsys.readouterr().err
    train_joint.main(joint_arguments(out=tmp_path, epochs=2, resume=True))
    assert len(log(tmp_path)) == 2
