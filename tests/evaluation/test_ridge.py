"""Ridge regression on features of two sizes, against Pillow's and scikit-learn's, and as cells of finetune.py."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge
from torch import Tensor, nn

import finetune
from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.data.sets import load_labeled
from ssl_iqa.data.splits import part_indices
from ssl_iqa.engine import run_folder
from ssl_iqa.engine.weights import encoder_state, load_encoder
from ssl_iqa.evaluation import resampling
from ssl_iqa.evaluation.features import Features
from ssl_iqa.evaluation.ridge import PENALTIES, TwoSizes, choose_ridge, fit_ridge, halved
from ssl_iqa.evaluation.task import Task
from ssl_iqa.model import Encoder

Arguments = Callable[..., list[str]]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("images", "features"), [(30, 8), (8, 30)])
def test_it_is_scikit_learns(images: int, features: int) -> None:
    z, y = random(images, features), 5 + random(images, seed=1)
    others = random(4, features, seed=2)
    for penalty, regressor in zip(PENALTIES, fit_ridge(z, y, PENALTIES), strict=True):
        wanted = Ridge(alpha=penalty, solver="svd").fit(z.numpy(), y.numpy()).predict(others.numpy())
        assert regressor(others)[:, 0].numpy() == pytest.approx(wanted, abs=1e-9)


NOISE = (random(87, 131, 3) * 120 + 70).byte()
STRIPES = ((random(44, 3) > 0.5) * 255).byte().repeat_interleave(3, dim=0)[:131].expand(87, 131, 3)  # black and white


@pytest.mark.parametrize("pixels", [NOISE, STRIPES], ids=["noise", "stripes"])
def test_half_size_is_pillows(pixels: Tensor) -> None:
    """But for rounding: Pillow rounds, and clips, between rows and columns as well."""
    wanted = np.array(Image.fromarray(pixels.numpy()).resize((65, 43))).astype(int)
    got = (halved(pixels.permute(2, 0, 1)[None] / 255)[0] * 255).permute(1, 2, 0).numpy()
    assert got.shape == wanted.shape and np.abs(got - got.round()).max() < 1e-4  # whole 255ths
    assert np.abs(got - wanted).max() < 1.5 and np.abs(got - wanted).mean() < 0.3


def test_a_small_image_is_reflected_at_half_size() -> None:
    small = halved(random(2, 3, 80, 40).float())
    assert small.shape == (2, 3, 40, 32) and torch.equal(small[..., 20:32], small[..., 7:19].flip(-1))


class Means(nn.Module):
    """An encoder whose features are an image's mean and its mean square, which half size lowers."""

    arch, dim = "means", 2

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack((x.mean(dim=(1, 2, 3)), x.square().mean(dim=(1, 2, 3))), dim=1)


def test_features_of_both_sizes_have_length_1_each() -> None:
    x = random(3, 3, 70, 90).float()
    z = TwoSizes(Means())(x)
    for part, images in ((z[:, :2], x), (z[:, 2:], halved(x))):
        wanted = Means()(images).numpy()
        assert part.numpy() == pytest.approx(wanted / np.linalg.norm(wanted, axis=1, keepdims=True), abs=1e-6)
    assert not torch.allclose(z[:, :2], z[:, 2:], atol=1e-3)


def task_of(scores: Tensor, parts: dict[str, list[int]]) -> Task:
    names = [str(i) for i in range(len(scores))]
    return Task(LabeledSet("csv:own.csv", names, scores.tolist(), (1, 10), names), parts, torch.device("cpu"), None)


def test_the_penalty_with_the_best_validation_srocc_is_taken() -> None:
    """Of scores that are noise beside one feature: neither the least penalty nor the greatest."""
    z = random(90, 1, 20).float()
    scores = 5 + z[:, 0, 0].double() + 0.8 * random(90, seed=1)
    readable = torch.ones(90, dtype=torch.bool)
    readable[[0, 41, 61]] = False
    parts = {"train": [*range(40)], "val": [*range(40, 60)], "test": [*range(60, 90)]}
    best, regressor, test, predicted = choose_ridge(Features(z, readable), task_of(scores, parts))
    assert test == [60, *range(62, 90)]
    train, val = [*range(1, 40)], [40, *range(42, 60)]
    x, y = z[:, 0].double().numpy(), scores.numpy()
    fitted = [Ridge(alpha=penalty, solver="svd").fit(x[train], y[train]) for penalty in PENALTIES]
    sroccs = [spearmanr(ridge.predict(x[val]), y[val]).statistic for ridge in fitted]
    chosen = int(np.argmax(sroccs))  # the first of equal ones
    assert 0 < chosen < len(PENALTIES) - 1 and len({*sroccs}) > 3
    assert (best.srocc, best.epoch) == (pytest.approx(sroccs[chosen]), f"penalty {PENALTIES[chosen]:g}")
    assert predicted == pytest.approx(fitted[chosen].predict(x[test]), abs=1e-6)
    assert best.residuals.numpy() == pytest.approx(np.abs(fitted[chosen].predict(x[val]) - y[val]), abs=1e-6)
    assert regressor(z[test, 0])[:, 0].numpy() == pytest.approx(predicted) and best.weights == {}


def test_equal_features_take_the_first_penalty_and_those_that_are_not_finite_end_the_run() -> None:
    task = task_of(random(9), {"train": [0, 1, 2], "val": [3, 4, 5], "test": [6, 7, 8]})
    readable = torch.ones(9, dtype=torch.bool)
    best, _, _, predicted = choose_ridge(Features(torch.ones(9, 1, 4), readable), task)
    assert best.epoch == "penalty 0.0001" and predicted == pytest.approx(np.mean(task.labeled.scores[:3]))
    with pytest.raises(SystemExit, match="a feature is not finite"):
        choose_ridge(Features(torch.full((9, 1, 4), torch.nan), readable), task)


@pytest.fixture
def of_two_sizes(scored: Path, tmp_path: Path) -> Path:
    """`scored`, its even references cut to 50 x 48 pixels."""
    with open(scored, newline="") as file:
        header, *rows = csv.reader(file)
    for name, _, reference, _ in rows:
        image = Image.open(scored.parent / name)
        image.crop((0, 0, 64 if int(reference[-1]) % 2 else 50, 48)).save(tmp_path / name)
    with open(tmp_path / "scores.csv", "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return tmp_path / "scores.csv"


def predictions_of(folder: Path) -> dict[str, float]:
    with open(folder / "predictions.csv", newline="") as file:
        return {row["image"]: float(row["predicted"]) for row in csv.DictReader(file)}


def by_hand(spec: str, encoder: Encoder, results: dict) -> dict[str, float]:
    """The test part's predictions, each image encoded by itself, scikit-learn's regression with the penalty chosen."""
    labeled, z = load_labeled(spec), []
    encoder.eval()
    with torch.no_grad():
        for index in range(len(labeled.paths)):
            x = labeled.read(index)[None] / 255
            z.append(torch.cat([F.normalize(encoder(size), dim=1) for size in (x, halved(x))], dim=1)[0])
    z = torch.stack(z).double().numpy()
    train, test = (part_indices(labeled.references, results["split"][part]) for part in ("train", "test"))
    penalty = float(results["best_epoch"].removeprefix("penalty "))
    ridge = Ridge(alpha=penalty, solver="svd").fit(z[train], np.array(labeled.scores)[train])
    return {labeled.paths[i]: predicted for i, predicted in zip(test, ridge.predict(z[test]), strict=True)}


def test_cells_of_ridge_regression(
    finetune_arguments: Arguments, of_two_sizes: Path, scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two splits of images of two sizes: predictions, features that are kept, another set, the tables."""
    monkeypatch.setattr(resampling, "RESAMPLES", 20)
    spec, out, encoder = f"csv:{of_two_sizes}", tmp_path / "run", load_encoder("random", "dct-mlp", 77)
    run_folder.save(encoder_state(encoder), tmp_path / "own.pt")
    changes = {"mode": "ridge", "crops": "five", "data": spec, "encoder": None, "encoders": f"own={tmp_path}/own.pt"}
    finetune.main(finetune_arguments(out=out, splits=2, test=f"csv:{scored}", **changes))
    for seed in (0, 1):
        cell = out / "cells" / "csv" / "own" / "ridge" / f"split-{seed}"
        results = json.loads((cell / "results.json").read_text())
        assert results["mode"] == "ridge" and results["settings"]["crops"] == "full"
        got, wanted = predictions_of(cell), by_hand(spec, encoder, results)
        assert got.keys() == wanted.keys() and [*got.values()] == pytest.approx([*wanted.values()], abs=1e-3)
        assert results["srocc"] == pytest.approx(
            spearmanr([*got.values()], [row[1] for row in scores_of(cell)]).statistic
        )
        assert -1 <= results["tests"][f"csv:{scored}"]["srocc"] <= 1 and not (cell / "model.pt").exists()
    (kept,) = (out / "features").iterdir()  # for both splits
    assert torch.load(kept, weights_only=True)["z"].shape == (40, 1, 512)
    assert "| RIDGE | own |" in (out / "tables.md").read_text()


def scores_of(folder: Path) -> list[tuple[str, float]]:
    with open(folder / "predictions.csv", newline="") as file:
        return [(row["image"], float(row["score"])) for row in csv.DictReader(file)]


def test_kept_features_are_named_by_their_sizes(scored: Path) -> None:
    labeled, encoder = load_labeled(f"csv:{scored}"), load_encoder("random", "dct-mlp")
    task = Task(labeled, {}, torch.device("cpu"), finetune.Settings(crops="full"))
    assert task.digest(TwoSizes(encoder)) == task.digest(TwoSizes(encoder)) != task.digest(encoder)


def test_a_single_run_says_its_penalty_and_has_no_model(
    finetune_arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finetune.main(finetune_arguments(out=tmp_path, mode="ridge", splits=1))
    results, shown = json.loads((tmp_path / "results.json").read_text()), capsys.readouterr().out
    assert f"RIDGE from random, {results['best_epoch']}, on 8 held-out images of 2 references:" in shown
    assert results["best_epoch"].startswith("penalty ") and "a model that scores images: --mode lp" in shown
    assert "ssl-iqa score" not in shown and not (tmp_path / "model.pt").exists()
    assert not (tmp_path / "features").exists()
