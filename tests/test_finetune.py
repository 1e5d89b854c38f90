"""finetune.py: the three modes, the split, the one test at the end and its numbers."""

import copy
import csv
import json
import math
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.optimize import curve_fit
from scipy.special import expit
from scipy.stats import pearsonr, spearmanr
from torch import Tensor, nn

import finetune
import ssl_iqa
import train_joint
from ssl_iqa.baselines import cornia, hosa, patches
from ssl_iqa.data import sets, views
from ssl_iqa.data.datasets import LabeledCrops
from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.data.samplers import Draw
from ssl_iqa.data.seen import fingerprint, known_parts, records_of, with_record
from ssl_iqa.data.splits import part_indices
from ssl_iqa.engine import run_folder
from ssl_iqa.engine.weights import encoder_from_state, encoder_state, load_encoder
from ssl_iqa.evaluation import calibration, cells, features, metrics, predictions, resampling
from ssl_iqa.evaluation.protocol import split_of
from ssl_iqa.model import Encoder, Regressor
from tests.conftest import save_reduced
from tests.splits import split_references

ARCH = "dct-mlp"
Arguments = Callable[..., list[str]]


@pytest.fixture
def encoder_file(tmp_path: Path) -> Path:
    """An encoder that is not the random one of seed 0, its BatchNorm statistics away from the start."""
    encoder = load_encoder("random", ARCH, seed=77)
    encoder(torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    run_folder.save(encoder_state(encoder) | {"seen": None}, tmp_path / "own.pt")  # of an earlier version
    return tmp_path / "own.pt"


def load(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def results_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "results.json").read_text())


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Epochs:
    """What `finetune.train_epoch` was called with and what it left: phase, weights before and after."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.phases: list[str] = []
        self.before: list[dict[str, Tensor]] = []
        self.after: list[dict[str, Tensor]] = []
        self.rates: list[float] = []
        self.real, self.real_fit = finetune.train_epoch, finetune.fit
        monkeypatch.setattr(finetune, "train_epoch", self)
        monkeypatch.setattr(finetune, "fit", self.fit)

    def fit(self, encoder: Encoder, regressor: Regressor, phase: str, *rest: Any) -> None:
        self.both, self.phase = nn.ModuleDict({"encoder": encoder, "regressor": regressor}), phase
        self.real_fit(encoder, regressor, phase, *rest)

    def __call__(self, trained: nn.Module, optimizer: Any, *rest: Any) -> float:
        self.phases.append(self.phase)
        self.rates.append(optimizer.param_groups[0]["lr"])
        self.before.append(copy.deepcopy(self.both.state_dict()))
        loss = self.real(trained, optimizer, *rest)
        self.after.append(copy.deepcopy(self.both.state_dict()))
        return loss


@pytest.fixture
def epochs(monkeypatch: pytest.MonkeyPatch) -> Epochs:
    return Epochs(monkeypatch)


def part_of(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(name + "."): tensor for key, tensor in state.items() if key.startswith(name + ".")}


@pytest.fixture
def val_sroccs(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[float]], None]:
    """val_sroccs([..]): each epoch's validation SROCC; the test's is then the true one."""
    real = finetune.srocc

    def script(values: list[float]) -> None:
        left = iter(values)
        monkeypatch.setattr(finetune, "srocc", lambda *args: next(left, None) or real(*args))

    return script


# --- the three modes ---


def test_lp_trains_the_head_and_leaves_the_encoder_to_the_bit(
    finetune_arguments: Arguments, encoder_file: Path, tmp_path: Path, epochs: Epochs
) -> None:
    finetune.main(finetune_arguments(out=tmp_path / "run", mode="lp", encoder=encoder_file, epochs=3))
    saved = load(tmp_path / "run" / "model.pt")
    weights = load(encoder_file)["weights"]
    assert any("running_var" in name for name in weights) and same(saved["encoder"]["weights"], weights)
    assert epochs.phases == ["lp"] * 3
    for before, after in zip(epochs.before, epochs.after, strict=True):
        assert same(part_of(after, "encoder"), weights)
        assert not any(torch.equal(before[name], after[name]) for name in before if name.startswith("regressor"))


def test_an_encoder_that_changes_in_lp_is_noticed(
    finetune_arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = finetune.fit

    def careless(encoder: Encoder, *rest: Any) -> None:
        real(encoder, *rest)
        encoder.network.norm.running_mean += 1e-3

    monkeypatch.setattr(finetune, "fit", careless)
    with pytest.raises(AssertionError, match="linear probing has changed the encoder"):
        finetune.main(finetune_arguments(out=tmp_path, mode="lp"))


def test_ft_trains_all_of_the_encoder_too(finetune_arguments: Arguments, tmp_path: Path, epochs: Epochs) -> None:
    finetune.main(finetune_arguments(out=tmp_path, mode="ft", epochs=1))
    assert epochs.phases == ["ft"]
    before, after = epochs.before[0], epochs.after[0]
    assert not any(torch.equal(before[name], after[name]) for name in before)  # the BatchNorm buffers as well


def test_lp_ft_is_lp_and_then_ft_from_the_best_of_it(
    finetune_arguments: Arguments, tmp_path: Path, epochs: Epochs, val_sroccs: Callable
) -> None:
    val_sroccs([0.2, 0.5, 0.4, 0.1, 0.6, 0.3])
    finetune.main(finetune_arguments(out=tmp_path, mode="lp-ft", epochs=3))
    assert epochs.phases == ["lp"] * 3 + ["ft"] * 3 and epochs.rates == [1e-3] * 3 + [1e-4] * 3
    assert same(epochs.before[3], epochs.after[1])
    assert results_of(tmp_path)["best_epoch"] == "ft 2" and results_of(tmp_path)["val_srocc"] == 0.6
    saved = load(tmp_path / "model.pt")
    assert same(saved["encoder"]["weights"], part_of(epochs.after[4], "encoder"))
    assert same(saved["regressor"], part_of(epochs.after[4], "regressor"))


@pytest.mark.parametrize(
    ("sroccs", "best"),
    [
        ([0.4, 0.5, 0.3, 0.4], "lp 2"),  # where fine-tuning only harms, LP's best is tested
        ([0.5, 0.5, 0.5, 0.5], "lp 1"),
        ([math.nan, 0.3, 0.2, math.nan], "lp 2"),  # nan: equal predictions
        ([math.nan, math.nan, -0.9, math.nan], "ft 1"),
        ([math.nan] * 4, "lp 1"),
    ],
)
def test_the_epoch_with_the_best_validation_srocc_is_tested(
    finetune_arguments: Arguments, tmp_path: Path, epochs: Epochs, val_sroccs: Callable, sroccs: list[float], best: str
) -> None:
    val_sroccs(sroccs)
    finetune.main(finetune_arguments(out=tmp_path, mode="lp-ft", epochs=2))
    chosen = {"lp 1": 0, "lp 2": 1, "ft 1": 2}[best]
    assert results_of(tmp_path)["best_epoch"] == best
    assert same(load(tmp_path / "model.pt")["regressor"], part_of(epochs.after[chosen], "regressor"))


def test_adam_takes_the_learning_rate_and_mse_is_reported(
    finetune_arguments: Arguments, scored: Path, tmp_path: Path, epochs: Epochs, capsys: pytest.CaptureFixture[str]
) -> None:
    """Adam's first step is lr long in every weight that has a gradient, whatever its length."""
    finetune.main(finetune_arguments(out=tmp_path, mode="ft", epochs=1, batch_size=24, ft_lr=3e-4))
    moved = torch.cat(
        [
            (epochs.after[0][name] - epochs.before[0][name]).flatten()
            for name in epochs.before[0]
            if name.endswith("weight") and "bn" not in name and "downsample" not in name
        ]
    )
    assert moved.abs().max().item() == pytest.approx(3e-4, rel=1e-2) and moved.abs().median().item() > 2.9e-4
    # the fresh head predicts about the mean of the scores, so that MSE is about their variance
    labeled = sets.load_labeled(f"csv:{scored}")
    train = part_indices(labeled.references, split_references(labeled.references, 0)["train"])
    loss = float(capsys.readouterr().out.split("L_r ")[1].split()[0])
    assert loss == pytest.approx(np.var([labeled.scores[i] for i in train]), rel=0.2)


@pytest.mark.parametrize(("schedule", "parts"), [("constant", (1, 1, 1, 1)), ("linear", (1, 0.75, 0.5, 0.25))])
def test_learning_rates_of_both_phases_fall_by_epochs_where_asked(
    schedule: str, parts: tuple[float, ...], finetune_arguments: Arguments, tmp_path: Path, epochs: Epochs
) -> None:
    settings = {"epochs": 4, "lr": 8e-3, "ft_lr": 8e-4, "schedule": schedule}
    finetune.main(finetune_arguments(out=tmp_path, mode="lp-ft", **settings))
    assert epochs.rates == pytest.approx([lr * part for lr in (8e-3, 8e-4) for part in parts])


def test_an_epoch_of_mse_on_given_batches() -> None:
    """At learning rate 0: the mean over batches of the mean of (y_hat - y)^2."""
    regressor, generator = Regressor(256), torch.Generator().manual_seed(0)
    features, scores = torch.rand(2, 4, 256, generator=generator), 10 * torch.rand(2, 4, generator=generator)
    batches = [(z, y, []) for z, y in zip(features, scores, strict=True)]
    optimizer = torch.optim.Adam(regressor.parameters(), lr=0.0)
    loss = finetune.train_epoch(regressor, optimizer, batches, "off", set())
    with torch.no_grad():
        expected = [((regressor(z) - y) ** 2).mean().item() for z, y, _ in batches]
    assert loss == pytest.approx(np.mean(expected), rel=1e-5)


def test_a_loss_that_is_not_finite_ends_the_run(
    finetune_arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetune, "train_epoch", lambda *_: math.nan)
    with pytest.raises(SystemExit) as caught:
        finetune.main(finetune_arguments(out=tmp_path))
    assert "not finite in LP epoch 1" in str(caught.value.code) and not (tmp_path / "results.json").exists()


def test_a_prediction_that_is_not_finite_ends_the_run(
    finetune_arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetune, "predict", lambda regressor, z: torch.full((len(z),), math.inf))
    with pytest.raises(SystemExit) as caught:
        finetune.main(finetune_arguments(out=tmp_path))
    assert "not finite in LP epoch 1" in str(caught.value.code) and not (tmp_path / "results.json").exists()


# --- what is read, and when ---


def test_training_reads_training_images_and_the_test_part_is_encoded_once_at_the_end(
    finetune_arguments: Arguments, scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: set[int] = set()
    encoded: list[list[int]] = []
    real_getitem, real_encode = LabeledCrops.__getitem__, features.encode

    def getitem(self: LabeledCrops, draw: Draw) -> Any:
        drawn.add(self.indices[draw.index])
        return real_getitem(self, draw)

    def encode(*args: Any) -> tuple[list[int], Tensor]:
        encoded.append(real_encode(*args)[0])
        return real_encode(*args)

    monkeypatch.setattr(LabeledCrops, "__getitem__", getitem)
    monkeypatch.setattr(features, "encode", encode)
    finetune.main(finetune_arguments(out=tmp_path, mode="lp-ft", epochs=2))

    labeled = sets.load_labeled(f"csv:{scored}")
    split = results_of(tmp_path)["split"]
    assert split == split_references(labeled.references, 0)
    train, val, test = (part_indices(labeled.references, split[part]) for part in ("train", "val", "test"))
    assert drawn == set(train) and (len(train), len(val), len(test)) == (24, 8, 8)
    # the frozen encoder passes every image once; in FT the validation part each epoch, and at last the test part
    assert encoded == [list(range(40)), val, val, test]


def test_every_training_image_comes_in_every_round(
    finetune_arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: dict[int, int] = {}
    real = LabeledCrops.__getitem__

    def getitem(self: LabeledCrops, draw: Draw) -> Any:
        counts[draw.index] = counts.get(draw.index, 0) + 1
        return real(self, draw)

    monkeypatch.setattr(LabeledCrops, "__getitem__", getitem)
    finetune.main(finetune_arguments(out=tmp_path, mode="ft", epochs=3, batch_size=8))  # 24 images: three steps
    assert counts == dict.fromkeys(range(24), 3)


def test_linear_probing_draws_images_and_their_crops(scored: Path) -> None:
    """z[i, c] is (i, c): every training image comes once a round, in any of its crops, beside its own score."""
    labeled, train = sets.load_labeled(f"csv:{scored}"), [3, 8, 20, 31]
    z = torch.stack(torch.meshgrid(torch.arange(40.0), torch.arange(5.0), indexing="ij"), dim=2)  # [40, 5, 2]
    features = finetune.Features(z, torch.ones(40, dtype=torch.bool))
    settings = replace(finetune.PRESETS["demo"], batch_size=4)
    task = finetune.Task(labeled, {"train": train}, torch.device("cpu"), settings)
    drawn = [batch for epoch in range(20) for batch in finetune.probing_batches(features, train, task, epoch)]
    for x, y, _ in drawn:
        assert sorted(x[:, 0].tolist()) == train
        assert y.tolist() == pytest.approx([labeled.scores[int(i)] for i in x[:, 0]])
    counts = torch.cat([x[:, 1] for x, *_ in drawn]).long().bincount(minlength=5)
    assert len(counts) == 5 and counts.min() >= 6  # of 80


def test_a_image_is_scored_by_the_mean_over_its_crops() -> None:
    regressor = Regressor(6)
    z = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(0))
    expected = [sum(regressor(z[i, k][None]).item() for k in range(5)) / 5 for i in range(3)]
    assert finetune.predict(regressor, z).tolist() == pytest.approx(expected, rel=1e-5)


def test_images_of_several_sizes_are_encoded_each_as_it_is() -> None:
    encoder = load_encoder("random", ARCH)
    generator = torch.Generator().manual_seed(0)
    sizes = [(40, 50), (40, 50), (60, 40), (40, 50)]
    images = [torch.randint(256, (3, *size), generator=generator, dtype=torch.uint8) for size in sizes]
    batch = [(7, images[0]), (3, images[1]), (9, None), (5, images[2]), (1, images[3])]
    indices, z = features.encode(encoder, [batch], lambda image: views.test_crops(image, "full", 32), "off")
    with torch.no_grad():
        expected = torch.stack([encoder.eval()(image[None] / 255) for image in images])
    assert indices == [7, 3, 5, 1]
    torch.testing.assert_close(z, expected, rtol=1e-4, atol=1e-5)


# --- the split ---


def test_the_split_of_the_encoders_run_is_used(
    finetune_arguments: Arguments, encoder_file: Path, scored: Path, tmp_path: Path
) -> None:
    spec = f"csv:{scored}"
    split = split_references(sets.load_labeled(spec).references, seed=9)
    run_folder.write_json({"labeled": {"spec": spec, **split}}, tmp_path / "splits.json")
    finetune.main(finetune_arguments(out=tmp_path / "run", encoder=encoder_file, seed=0))
    assert results_of(tmp_path / "run")["split"] == split


OTHER_SPLIT = {"labeled": {"spec": "demo", "train": ["a"], "val": ["b"], "test": ["c"]}}


def split_with(file: str, labeled: LabeledSet, seed: int) -> dict[str, list[str]]:
    records = records_of(file, load_encoder(file, ARCH))
    return split_of(labeled, known_parts(labeled, records), seed)


@pytest.mark.parametrize("splits", [None, {}, OTHER_SPLIT])
def test_without_one_of_the_same_set_the_split_is_the_seeds(
    encoder_file: Path, scored: Path, splits: dict | None
) -> None:
    labeled = sets.load_labeled(f"csv:{scored}")
    if splits is not None:
        run_folder.write_json(splits, encoder_file.parent / "splits.json")
    assert split_with(str(encoder_file), labeled, 5) == split_references(labeled.references, 5)


def test_the_same_images_under_another_name_keep_the_split(encoder_file: Path, scored: Path) -> None:
    """A path written in another way would otherwise bring images of the joint run's training to the test part."""
    labeled = sets.load_labeled(f"csv:{scored}")
    split = split_references(labeled.references, 9)
    run_folder.write_json(
        {"labeled": {"spec": "csv:../scored/scores.csv", **split}}, encoder_file.parent / "splits.json"
    )
    assert split_with(str(encoder_file), labeled, 0) == split


def test_named_encoders_take_no_split_from_the_folder(
    scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    labeled = sets.load_labeled(f"csv:{scored}")
    split = split_references(labeled.references, 9)
    run_folder.write_json({"labeled": {"spec": labeled.name, **split}}, tmp_path / "splits.json")
    assert split_with("random", labeled, 0) == split_references(labeled.references, 0) != split


# --- results ---


@pytest.mark.filterwarnings("ignore:Covariance")
def test_the_numbers_are_those_of_scipy_on_the_saved_networks_predictions(
    finetune_arguments: Arguments, scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "plcc_logistic5", metrics.plcc_logistic5)  # the real one
    finetune.main(finetune_arguments(out=tmp_path, mode="lp-ft", crops="five", seed=4, epochs=3))
    results, model = results_of(tmp_path), load(tmp_path / "model.pt")
    encoder = encoder_from_state(model["encoder"], "model.pt").eval()
    regressor = Regressor(encoder.dim)
    regressor.load_state_dict(model["regressor"])

    labeled = sets.load_labeled(f"csv:{scored}")
    indices = part_indices(labeled.references, split_references(labeled.references, 4)["test"])
    predicted = []
    for i in indices:
        pixels = np.asarray(Image.open(labeled.paths[i])).transpose(2, 0, 1) / np.float32(255)  # [3, 48, 64]
        crops = [pixels[:, y : y + 32, x : x + 32] for y, x in ((8, 16), (0, 0), (0, 32), (16, 0), (16, 32))]
        with torch.no_grad():
            predicted.append(regressor(encoder(torch.from_numpy(np.stack(crops)))).mean().item())
    true = np.array([labeled.scores[i] for i in indices])
    predicted = np.array(predicted)

    assert results["srocc"] == pytest.approx(spearmanr(predicted, true).statistic, abs=1e-6)
    assert results["plcc"] == pytest.approx(pearsonr(predicted, true).statistic, abs=1e-3)

    def logistic(x: np.ndarray, b1: float, b2: float, b3: float, b4: float) -> np.ndarray:
        return (b1 - b2) * expit((x - b3) / abs(b4)) + b2

    start = (true.max(), true.min(), predicted.mean(), predicted.std())
    fitted, _ = curve_fit(logistic, predicted, true, p0=start, maxfev=100_000)
    assert results["plcc_logistic"] == pytest.approx(pearsonr(logistic(predicted, *fitted), true).statistic, abs=0.02)

    assert results["plcc_logistic5"] == pytest.approx(metrics.plcc_logistic5(predicted, true), abs=0.02)
    assert results["plcc_logistic5"] > results["plcc"]

    kinds = np.array([labeled.distortions[i] for i in indices])
    assert results["srocc_by_type"] == {
        kind: pytest.approx(spearmanr(predicted[kinds == kind], true[kinds == kind]).statistic, abs=1e-6)
        for kind in ("blur", "pixelate")
    }
    assert (results["images"], results["unreadable"], results["seed"]) == (8, 0, 4)
    assert results["settings"]["seed"] == 4 and model["settings"] == results["settings"]
    assert model["score_range"] == list(labeled.score_range)
    images = [fingerprint(labeled)]
    assert json.loads((tmp_path / "config.json").read_text()) == results["settings"] | {"images": images}


@pytest.mark.parametrize("mode", ["lp", "ft", "lp-ft"])
def test_the_model_scores_images_as_it_was_tested_with_intervals_from_the_validation_part(
    finetune_arguments: Arguments, scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    margin = calibration.margin
    monkeypatch.setattr(calibration, "margin", lambda residuals, _=0: margin(residuals, 0.5))  # 8 tell of no 90 %
    finetune.main(finetune_arguments(out=tmp_path, mode=mode, crops="five", epochs=2))
    results, model = results_of(tmp_path), ssl_iqa.load(tmp_path / "model.pt")
    assert (load(tmp_path / "model.pt")["format"], load(tmp_path / "model.pt")["version"]) == ("ssl_iqa.model", 1)
    labeled = sets.load_labeled(f"csv:{scored}")
    off = {}
    for part in ("val", "test"):
        indices = part_indices(labeled.references, results["split"][part])
        predicted = np.array(model.score([labeled.paths[i] for i in indices]))
        off[part] = sorted(abs(predicted - [labeled.scores[i] for i in indices]))
    assert model.residuals.tolist() == pytest.approx(off["val"], abs=1e-4)
    assert results["margin"] == pytest.approx(off["val"][4], abs=1e-4)  # the ceil(9 / 2)th of 8
    assert results["coverage"] == np.mean(np.array(off["test"]) <= off["val"][4])
    tested = results_of(tmp_path)["srocc"]
    assert f"SROCC       {tested:.3f} (no interval" in model.card() and "tested on   8 images of 2" in model.card()


def test_too_few_validation_images_for_an_interval_say_nothing(
    finetune_arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finetune.main(finetune_arguments(out=tmp_path))
    assert (results_of(tmp_path)["margin"], results_of(tmp_path)["coverage"]) == (None, 1)
    assert "90 % interval" not in capsys.readouterr().out
    assert "interval    none" in ssl_iqa.load(tmp_path / "model.pt").card()


def test_a_set_without_types_has_no_srocc_by_type(finetune_arguments: Arguments, scored: Path, tmp_path: Path) -> None:
    rows = [line.rsplit(",", 1)[0] for line in scored.read_text().splitlines()]  # without the last column
    (scored.parent / "untyped.csv").write_text("\n".join(rows))
    finetune.main(finetune_arguments(out=tmp_path, data=f"csv:{scored.parent / 'untyped.csv'}"))
    assert results_of(tmp_path)["srocc_by_type"] is None


def test_images_without_a_type_are_in_no_types_srocc(
    finetune_arguments: Arguments, scored: Path, tmp_path: Path
) -> None:
    some = scored.with_name("some.csv")  # the types of the first five references are not known
    lines = scored.read_text().splitlines()
    some.write_text("\n".join(lines[:1] + [line.rsplit(",", 1)[0] + "," for line in lines[1:21]] + lines[21:]))
    finetune.main(finetune_arguments(out=tmp_path, data=f"csv:{some}", epochs=1))
    assert set(results_of(tmp_path)["srocc_by_type"]) <= {"blur", "pixelate"}


def test_results_are_json_that_any_reader_takes(
    finetune_arguments: Arguments, scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number that is not there, such as the SROCC of equal predictions, is null: JSON has no NaN."""
    monkeypatch.setattr(finetune, "predict", lambda regressor, z: torch.full((len(z),), 5.0))
    finetune.main(finetune_arguments(out=tmp_path))

    def no_constant(name: str) -> None:
        raise AssertionError(name)

    results = json.loads((tmp_path / "results.json").read_text(), parse_constant=no_constant)
    assert results["srocc"] is None and results["srocc_by_type"] == {"blur": None, "pixelate": None}
    assert results["images"] == 8


def test_the_same_seed_gives_the_same_results_with_any_workers(finetune_arguments: Arguments, tmp_path: Path) -> None:
    for name, changes in {"0": {}, "1": {"workers": 1}, "2": {"seed": 1}}.items():
        torch.rand(5), np.random.rand(5)
        finetune.main(finetune_arguments(out=tmp_path / name, mode="ft", **changes))
    first, workers, seed = (load(tmp_path / name / "model.pt") for name in "012")
    assert same(first["regressor"], workers["regressor"]) and not same(first["regressor"], seed["regressor"])
    assert same(first["encoder"]["weights"], workers["encoder"]["weights"])
    first, workers, seed = (results_of(tmp_path / name) for name in "012")
    assert all(first[name] == workers[name] for name in ("srocc", "plcc", "val_srocc", "split"))
    assert first["split"] != seed["split"]


@pytest.mark.parametrize("encoder", ["random", "file", "imagenet"])
def test_the_encoder_is_random_a_file_or_imagenets(
    finetune_arguments: Arguments, encoder_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: str
) -> None:
    asked: list[tuple] = []

    def recording(spec: str, *others: Any) -> Encoder:
        asked.append((spec, *others))
        return load_encoder("random" if spec == "imagenet" else spec, *others)

    for module in (cells, finetune):  # looked at, then used
        monkeypatch.setattr(module, "load_encoder", recording)
    spec, arch = (str(encoder_file), None) if encoder == "file" else (encoder, ARCH)
    finetune.main(finetune_arguments(out=tmp_path / "run", encoder=spec, arch=arch, seed=6))
    assert asked == [(spec, arch, 6), (spec, ARCH, 6)]
    wanted = load(encoder_file)["weights"] if encoder == "file" else load_encoder("random", ARCH, 6).state_dict()
    assert same(load(tmp_path / "run" / "model.pt")["encoder"]["weights"], wanted)
    assert results_of(tmp_path / "run")["settings"]["arch"] == ARCH and results_of(tmp_path / "run")["encoder"] == spec


def test_a_run_is_not_overwritten_unasked(
    finetune_arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finetune.main(finetune_arguments(out=tmp_path, epochs=1))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(before) == ["config.json", "model.pt", "predictions.csv", "results.json"]
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        finetune.main(finetune_arguments(out=tmp_path, epochs=1, seed=4))
    error = capsys.readouterr().err
    assert caught.value.code == 2 and str(tmp_path) in error and "--overwrite" in error
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    finetune.main(finetune_arguments(out=tmp_path, epochs=1, seed=4, overwrite=True))
    assert results_of(tmp_path)["seed"] == 4


# --- from photographs to scores ---


def test_joint_training_and_finetuning_end_to_end(
    small_probe: None,
    joint_arguments: Arguments,
    finetune_arguments: Arguments,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    train_joint.main(joint_arguments(seed=5, epochs=3))  # its probe as well
    shown = capsys.readouterr().out
    assert "a linear probe names" in shown and "finetune.py --mode lp-ft --preset paper --encoder " in shown
    finetune.main(
        finetune_arguments(mode="lp-ft", encoder=None, arch=None, epochs=6, lr=3e-3, ft_lr=1e-3, crops="five")
    )
    shown = capsys.readouterr().out
    assert shown.endswith("\nNext: ssl-iqa score runs/finetune/model.pt PATH ..\n")
    joint, results = json.loads(Path("runs/joint/splits.json").read_text()), results_of(Path("runs/finetune"))
    assert results["encoder"] == "runs/joint/encoder.pt"
    assert {"spec": results["data"], **results["split"]} == joint["labeled"]
    assert results["srocc"] > 0.5  # blurred against coarse, little against much
    assert f"SROCC {results['srocc']:.3f}" in shown


# --- ended early ---


class Ended(Exception):
    """What ends a run in a test at an epoch's beginning."""


def ends_at(monkeypatch: pytest.MonkeyPatch, epoch: int, how: Callable[[], None]) -> None:
    """`how` is called where the so-manieth epoch of a run begins; every epoch is saved."""
    real, begun = finetune.train_epoch, []

    def train_epoch(*args: Any) -> float:
        begun.append(args)
        if len(begun) == epoch:
            how()
        return real(*args)

    monkeypatch.setattr(finetune, "train_epoch", train_epoch)
    monkeypatch.setattr("ssl_iqa.evaluation.task.SAVE_AFTER", 0.0)


def is_ended(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as caught:
        finetune.main(arguments)
    return caught.value.code


@pytest.mark.parametrize(
    ("number", "epoch", "holds"), [(signal.SIGTERM, 3, ("lp", 2)), (signal.SIGINT, 4, ("lp", 3)), (0, 6, ("ft", 2))]
)
def test_ended_by_a_signal_a_run_goes_on_bit_for_bit(
    finetune_arguments: Arguments,
    tmp_path: Path,
    val_sroccs: Callable,
    capsys: Any,
    number: int,
    epoch: int,
    holds: tuple[str, int],
) -> None:
    """0: an error, which leaves the same as a kill. The last epoch is the best one, and so depends on all before."""
    settings = {"mode": "lp-ft", "epochs": 3, "ft_lr": 1e-3, "batch_size": 4}
    val_sroccs([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    finetune.main(finetune_arguments(out=tmp_path / "whole", **settings))
    val_sroccs([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    arguments = finetune_arguments(out=tmp_path / "part", **settings)

    def end() -> None:
        if not number:
            raise Ended
        os.kill(os.getpid(), number)

    with pytest.MonkeyPatch.context() as patch:
        ends_at(patch, epoch, end)
        if number:
            assert is_ended(arguments) == 75
            last = tmp_path / "part" / "last.pt"
            said = f"ended: 0 of 1 results, and {last}: an epoch of the next; --resume goes on from there"
            assert capsys.readouterr().out.splitlines()[-1] == said
        else:
            with pytest.raises(Ended):
                finetune.main(arguments)
    state = load(tmp_path / "part" / "last.pt")
    assert (state["phase"], state["epochs"]) == holds
    torch.save(state | {"minutes": 7.0}, tmp_path / "part" / "last.pt")
    torch.rand(5)
    with pytest.MonkeyPatch.context() as patch:
        epochs = Epochs(patch)
        finetune.main([*arguments, "--resume"])
    assert len(epochs.phases) == 6 - epoch + 1
    ours, theirs = (load(tmp_path / name / "model.pt") for name in ("part", "whole"))
    assert same(ours["encoder"]["weights"], theirs["encoder"]["weights"])
    assert same(ours["regressor"], theirs["regressor"]) and torch.equal(ours["residuals"], theirs["residuals"])
    ours, theirs = (results_of(tmp_path / name) for name in ("part", "whole"))
    assert ours.pop("minutes") >= 7 and theirs.pop("minutes") < 7 and ours == theirs
    names = ["config.json", "model.pt", "predictions.csv", "results.json"]
    assert sorted(path.name for path in (tmp_path / "part").iterdir()) == names


def test_ended_before_an_epoch_is_saved_a_run_says_so(
    finetune_arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    ends_at(monkeypatch, 1, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert is_ended(finetune_arguments(out=tmp_path)) == 75
    assert capsys.readouterr().out.splitlines()[-1] == "ended: 0 of 1 results; nothing to resume"
    monkeypatch.setattr(cells, "plan", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    assert is_ended(finetune_arguments(out=tmp_path, resume=True)) == 75
    assert capsys.readouterr().out == "ended before training; nothing was saved\n"


def test_a_run_is_not_gone_on_with_from_another_encoder(
    finetune_arguments: Arguments, encoder_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    arguments = finetune_arguments(out=tmp_path / "run", encoder=encoder_file, mode="ft")
    ends_at(monkeypatch, 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert is_ended(arguments) == 75
    run_folder.save(encoder_state(load_encoder("random", ARCH, seed=78)), encoder_file)
    capsys.readouterr()
    assert is_ended([*arguments, "--resume"]) == 2
    assert "last.pt: the encoder, the images or their split have changed since" in capsys.readouterr().err


# --- tables ---


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "RESAMPLES", 50)


def joint_run(folder: Path, spec: str, seed: int) -> Path:
    """What finetune.py reads of a joint run: an encoder, and the split by which it was trained."""
    folder.mkdir()
    encoder = load_encoder("random", ARCH, seed + 50)
    labeled = sets.load_labeled(spec)
    encoder.seen = with_record([], labeled, split_references(labeled.references, seed), seed, "joint training")
    run_folder.save(encoder_state(encoder), folder / "encoder.pt")
    return folder


@pytest.mark.usefixtures("few_resamples")
def test_tables_have_every_encoder_mode_and_split(
    finetune_arguments: Arguments, scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each cell is what a run of its own gives, LP from features that are kept among them."""
    spec = f"csv:{scored}"
    for seed in (3, 4):
        joint_run(tmp_path / f"ssl-{seed}", spec, seed)
    encoders = f"random,ssl={tmp_path}/ssl-{{seed}},brisque"
    table = {"encoder": None, "encoders": encoders, "mode": "all", "splits": 2, "seed": 3, "epochs": 1}
    finetune.main(finetune_arguments(out=tmp_path / "table", **table))
    cells = sorted(str(path.parent.relative_to(tmp_path / "table")) for path in tmp_path.glob("table/**/results.json"))
    named = [f"{name}/{mode}" for name in ("random", "ssl") for mode in ("ft", "lp", "lp-ft")]
    assert cells == sorted(f"cells/csv/{cell}/split-{seed}" for cell in ["brisque/-", *named] for seed in (3, 4))

    for mode, encoder in (("lp", f"{tmp_path}/ssl-4"), ("ft", "random"), ("lp-ft", f"{tmp_path}/ssl-4/encoder.pt")):
        one = {"mode": mode, "encoder": encoder, "arch": None if "ssl" in encoder else ARCH, "seed": 4, "epochs": 1}
        finetune.main(finetune_arguments(out=tmp_path / mode, **one))
        name = "ssl" if "ssl" in encoder else "random"
        cell = tmp_path / "table" / "cells" / "csv" / name / mode / "split-4"
        assert (cell / "predictions.csv").read_bytes() == (tmp_path / mode / "predictions.csv").read_bytes()

    shown = capsys.readouterr().out
    lines = (tmp_path / "table" / "tables.csv").read_text().splitlines()
    assert len(lines) == 1 + 14 and f"{(tmp_path / 'table' / 'tables.md').read_text()}" in shown
    content = json.loads((tmp_path / "table" / "tables.json").read_text())
    lp = [results_of(tmp_path / "table" / "cells" / "csv" / "ssl" / "lp" / f"split-{seed}")["srocc"] for seed in (3, 4)]
    row = next(row for row in content["rows"] if (row["encoder"], row["mode"]) == ("ssl", "lp"))
    assert row["srocc"]["mean"] == pytest.approx(np.mean(lp)) and row["splits"] == 2
    assert len(content["differences"]) == 3 * 3


@pytest.mark.usefixtures("few_resamples")
def test_a_codebook_is_learned_once_and_its_method_has_its_row(
    finetune_arguments: Arguments, scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Any
) -> None:
    monkeypatch.setattr(patches, "IMAGES", 4)
    monkeypatch.setattr(cornia, "CODEWORDS", 50)
    real, learned = patches.learning_patches, []
    monkeypatch.setattr(patches, "learning_patches", lambda: (learned.append(1), real())[1])
    finetune.main(finetune_arguments(out=tmp_path / "run", encoder=None, encoders="hosa,cornia", splits=2))
    assert len(learned) == 2
    labeled, folder = sets.load_labeled(f"csv:{scored}"), tmp_path / "run" / "features"
    for module, name, dim in ((hosa, "hosa", 3 * 49 * 100), (cornia, "cornia", 2 * 50)):
        kept = load(next(folder.glob(f"{name}-csv-*.pt")))["features"]
        assert kept.shape == (40, dim) and kept.dtype == torch.float32
        assert torch.equal(kept[7], module.usable_features(load(folder / f"{name}.pt"), labeled.read(7)))

    shown, _, _ = command("tables", tmp_path / "run")
    table_3 = shown.partition("Table 3")[2].partition("\n\nDiff")[0]
    for name in ("hosa", "cornia"):
        results = [results_of(tmp_path / f"run/cells/csv/{name}/-/split-{seed}") for seed in (0, 1)]
        srocc, plcc = (np.mean([each[number] for each in results]) for number in ("srocc", "plcc"))
        row = next(line for line in table_3.splitlines() if line.startswith(f"| {name} |"))
        assert row.endswith(f" not run | {srocc:.3f} / {plcc:.3f} |") and srocc > 0.5


@pytest.mark.usefixtures("few_resamples")
def test_tables_that_were_interrupted_go_on_where_they_were(
    finetune_arguments: Arguments, scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    table = {"encoder": None, "encoders": "random", "mode": "all", "epochs": 1, "splits": 2}
    finetune.main(finetune_arguments(out=tmp_path / "whole", **table))
    real, done = finetune.run_cell, []

    def interrupted(cell: cells.Cell, *rest: Any) -> dict[str, Any]:
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append((cell.settings.mode, cell.settings.seed))
        return real(cell, *rest)

    monkeypatch.setattr(finetune, "run_cell", interrupted)
    with pytest.raises(SystemExit) as caught:  # Ctrl-C
        finetune.main(finetune_arguments(out=tmp_path / "run", **table))
    assert caught.value.code == 75 and "4 of 6 results; --resume goes on" in capsys.readouterr().out
    first = list(done)
    done.clear()
    with pytest.raises(SystemExit) as caught:  # neither taken over nor replaced unasked
        finetune.main(finetune_arguments(out=tmp_path / "run", **table))
    assert caught.value.code == 2 and not done
    with pytest.raises(SystemExit) as caught:
        finetune.main(finetune_arguments(out=tmp_path / "run", resume=True, **table | {"epochs": 2}))
    assert caught.value.code == 2 and "--epochs was 1, is 2" in capsys.readouterr().err and not done
    finetune.main(finetune_arguments(out=tmp_path / "run", resume=True, **table))
    assert sorted(first + done) == sorted((mode, seed) for mode in ("lp", "ft", "lp-ft") for seed in (0, 1))
    numbers = [
        [line.rsplit(",", 1)[0] for line in (tmp_path / name / "tables.csv").open()] for name in ("whole", "run")
    ]
    assert numbers[0] == numbers[1]  # all but the minutes


@pytest.mark.usefixtures("few_resamples")
def test_tables_go_on_where_their_images_have_moved(
    finetune_arguments: Arguments, scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(scored.parent, tmp_path / "scored")
    table = {"encoder": None, "encoders": "random", "mode": "lp", "epochs": 1, "splits": 2, "out": tmp_path / "run"}
    finetune.main(finetune_arguments(data=f"csv:{tmp_path / 'scored' / 'scores.csv'}", **table))
    before = (tmp_path / "run" / "tables.csv").read_text()
    (tmp_path / "run" / "cells" / "csv" / "random" / "lp" / "split-1" / "results.json").unlink()
    shutil.move(tmp_path / "scored", tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    finetune.main(finetune_arguments(data="csv:moved/scores.csv", resume=True, **table))
    rows = [
        {name: value for name, value in row.items() if name not in ("data", "minutes")}
        for text in (before, (tmp_path / "run" / "tables.csv").read_text())
        for row in csv.DictReader(text.splitlines())
    ]
    assert rows[:2] == rows[2:] and len(rows) == 4
    (row,) = json.loads((tmp_path / "run" / "tables.json").read_text())["rows"]  # the old cell's place is the new one
    assert row["splits"] == 2 and row["data"] == "csv:moved/scores.csv"


@pytest.mark.usefixtures("few_resamples")
def test_a_cell_of_tables_tells_of_its_epochs_where_there_is_no_terminal(
    finetune_arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """They may each take less than the minute after which a line comes, and yet hours together."""
    seconds, real = [0.0], finetune.train_epoch

    def train_epoch(*args: Any) -> float:
        seconds[0] += 50
        return real(*args)

    monkeypatch.setattr("tqdm.std.time", lambda: seconds[0])
    monkeypatch.setattr(finetune, "train_epoch", train_epoch)
    table = {"encoder": None, "encoders": "random", "mode": "lp", "epochs": 4}
    finetune.main(finetune_arguments(out=tmp_path, **table))
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("|")[0] for line in lines] == ["LP epochs:  50%", "LP epochs: 100%"]
    assert "| 2/4 [01:40<01:40, " in lines[0]


@pytest.mark.usefixtures("few_resamples")
def test_features_of_a_frozen_encoder_are_computed_once(
    finetune_arguments: Arguments, scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder_file: Path
) -> None:
    counts: list[int] = []
    real = features.encode

    def encode(*args: Any) -> tuple[list[int], Tensor]:
        indices, z = real(*args)
        counts.append(len(indices))
        return indices, z

    monkeypatch.setattr(features, "encode", encode)
    table = {"encoder": None, "encoders": f"own={encoder_file}", "arch": None, "mode": "lp", "splits": 3, "epochs": 1}
    finetune.main(finetune_arguments(out=tmp_path / "run", **table))
    assert counts == [40]  # all images, for three splits
    (kept,) = (tmp_path / "run" / "features").iterdir()
    before = kept.read_bytes()
    # another image under the same name is another image
    image = Path(sets.load_labeled(f"csv:{scored}").paths[0])
    copy_of = image.read_bytes()
    try:
        image.write_bytes((scored.parent / "9_blur_1.png").read_bytes())
        shutil.rmtree(tmp_path / "run" / "cells")
        with pytest.raises(SystemExit):
            finetune.main(finetune_arguments(out=tmp_path / "run", resume=True, **table))
        (tmp_path / "run" / "config.json").unlink()  # which says what the images were
        finetune.main(finetune_arguments(out=tmp_path / "run", resume=True, **table))
    finally:
        image.write_bytes(copy_of)
    assert counts == [40, 40] and kept.read_bytes() == before
    assert len(list((tmp_path / "run" / "features").iterdir())) == 2


@pytest.mark.usefixtures("few_resamples")
def test_another_set_is_tested_by_rank(finetune_arguments: Arguments, scored: Path, tmp_path: Path) -> None:
    """All of it, but for what joint training has seen: of the same images the test part."""
    other = scored.with_name("other.csv")
    other.write_text(scored.read_text().replace("reference", "other"))
    other.write_text("\n".join(["image,score,reference,distortion"] + other.read_text().splitlines()[1:]))
    seen = joint_run(tmp_path / "ssl", f"csv:{other}", 2)
    tests = f"csv:{other}"
    finetune.main(finetune_arguments(out=tmp_path / "a", test=tests, epochs=1))
    finetune.main(finetune_arguments(out=tmp_path / "b", test=tests, encoder=seen, arch=None, epochs=1))
    found = results_of(tmp_path / "a")["tests"][tests]
    assert (found["images"], found["left_out"]) == (8, 32)  # of which finetuning itself has trained with, or chosen by
    found = results_of(tmp_path / "b")["tests"][tests]
    assert (found["images"], found["left_out"]) == (8, 32)
    assert set(found) == {"srocc", "srocc_interval", "images", "left_out"}

    model = load(tmp_path / "b" / "model.pt")
    encoder = encoder_from_state(model["encoder"], "model.pt").eval()
    regressor = Regressor(encoder.dim)
    regressor.load_state_dict(model["regressor"])
    labeled = sets.load_labeled(tests)
    test = part_indices(labeled.references, split_references(labeled.references, 2)["test"])
    with torch.no_grad():
        images = torch.stack([views.test_crops(views.to_float(labeled.read(i)), "center", 32)[0] for i in test])
        predicted = regressor(encoder(images))
    true = [labeled.scores[i] for i in test]
    assert found["srocc"] == pytest.approx(spearmanr(predicted, true).statistic, abs=1e-6)


def test_the_interval_is_of_the_references_of_the_test_part(
    finetune_arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two references: the interval is one of the values that one or both of them give, were they enough for one."""
    finetune.main(finetune_arguments(out=tmp_path / "few", epochs=1))
    assert results_of(tmp_path / "few")["srocc_interval"] == [None, None]
    assert "SROCC over references: none, fewer than 8 test references\n" in capsys.readouterr().out
    assert "(no interval: fewer than 8 test references)" in ssl_iqa.load(tmp_path / "few" / "model.pt").card()
    monkeypatch.setattr("ssl_iqa.evaluation.resampling.LEAST_REFERENCES", 2)
    finetune.main(finetune_arguments(out=tmp_path, epochs=1))
    with open(tmp_path / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["reference"] for row in rows} == set(results_of(tmp_path)["split"]["test"]) and len(rows) == 8
    possible = []
    for names in [{row["reference"]} for row in rows] + [{row["reference"] for row in rows}]:
        some = [row for row in rows if row["reference"] in names]
        possible.append(
            spearmanr([float(row["predicted"]) for row in some], [float(row["score"]) for row in some]).statistic
        )
    for end in results_of(tmp_path)["srocc_interval"]:
        assert min(abs(end - value) for value in possible) < 1e-6


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"encoders": "random", "encoder": "random"}, "--encoder random: not beside --encoders"),
        ({"encoders": "resnet", "encoder": None}, "or NAME=RUN, got 'resnet'"),
        ({"encoders": "a=missing", "encoder": None}, "missing: no such file"),
        ({"encoders": "class-mean", "encoder": None}, "class means need both"),
        ({"split": "official"}, "--split official"),
        ({"splits": 0}, "--splits must be at least 1, got 0"),
        ({"mode": "ridge", "learning_curve": True}, "--mode must be lp, ft or lp-ft with --learning-curve, which is"),
        ({"test": "csv:missing.csv"}, "missing.csv: no such file"),
    ],
)
def test_tables_that_cannot_be_are_refused_in_one_line(
    finetune_arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict, said: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        finetune.main(finetune_arguments(out=tmp_path / "run", **changes))
    error = capsys.readouterr().err
    assert caught.value.code == 2 and said in error and error.count("\n") == 1 and not (tmp_path / "run").exists()


def test_an_official_split_is_taken_where_a_set_has_one(
    finetune_arguments: Arguments, scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = scored.with_name("published.csv")
    other.write_text(scored.read_text())
    names = sorted(set(sets.load_labeled(f"csv:{scored}").references))
    official = {"train": names[:4], "val": names[4:6], "test": names[6:]}

    def load_labeled(spec: str, long_side: int) -> LabeledSet:
        return replace(sets.load_labeled(spec, long_side), official_split=official if "published" in spec else None)

    monkeypatch.setattr(cells, "load_labeled", load_labeled)
    arguments = finetune_arguments(data=f"csv:{other}", split="official", out=tmp_path)
    settings, args = finetune.parse_arguments([*arguments, "--data", f"csv:{scored}"])
    found = cells.plan(settings, ("lp",), args.arch, tmp_path)
    assert [cell.split for cell in found] == [official, split_references(names, 0)]
    assert [cell.folder for cell in found] == [
        tmp_path / "cells" / f"{name}/encoder/lp/split-0" for name in ("csv", "csv-2")
    ]


# --- the long side ---


def test_images_reduced_to_a_long_side_are_learned_from_as_files_of_that_size(
    finetune_arguments: Arguments, scored: Path, tmp_path: Path
) -> None:
    small = save_reduced(scored.parent, tmp_path / "small", 46)
    common = {"mode": "lp-ft", "epochs": 1, "crops": "five"}
    finetune.main(finetune_arguments(out=tmp_path / "a", long_side=46, **common))
    finetune.main(finetune_arguments(out=tmp_path / "b", data=f"csv:{small / scored.name}", **common))
    a, b = (load(tmp_path / name / "model.pt") for name in "ab")
    assert same(a["regressor"], b["regressor"]) and same(a["encoder"]["weights"], b["encoder"]["weights"])
    assert torch.equal(a["residuals"], b["residuals"])
    models = [ssl_iqa.load(tmp_path / name / "model.pt") for name in "ab"]
    name = "0_blur_1.png"
    assert models[0].score(scored.parent / name) == models[1].score(small / name)
    assert models[1].score(scored.parent / name) != models[1].score(small / name)


def test_own_images_are_not_reduced_unasked() -> None:
    def long_side(*words: str) -> int:
        return finetune.parse_arguments([*words])[0].long_side

    assert long_side() == long_side("--data", "demo") == 192
    assert long_side("--data", "csv:own.csv") == long_side("--data", "demo", "--data", "csv:own.csv") == 0


def test_features_of_another_long_side_are_others(scored: Path) -> None:
    encoder, settings = load_encoder("random", ARCH), finetune.PRESETS["demo"]
    names = {
        finetune.Task(labeled, {}, torch.device("cpu"), settings).digest(encoder)
        for labeled in (sets.load_labeled(f"csv:{scored}", side) for side in (0, 40, 50))
    }
    assert len(names) == 3
