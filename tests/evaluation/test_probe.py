"""The probe of distortion types: its images, its two classifiers, its features."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import spearmanr

from ssl_iqa.__main__ import main
from ssl_iqa.data.datasets import UnlabeledViews
from ssl_iqa.data.demo import demo_sources
from ssl_iqa.data.images import read_image
from ssl_iqa.distortions import distort, distortion_class, load_distortions
from ssl_iqa.engine import run_folder
from ssl_iqa.engine.weights import encoder_state, load_encoder
from ssl_iqa.evaluation import probe
from tests.splits import split_references


@pytest.fixture
def paths(photographs: Path) -> list[str]:
    return sorted(map(str, photographs.iterdir()))[:3]


def test_each_class_comes_as_often_and_is_what_it_is_called(paths: list[str]) -> None:
    crops, types = probe.distorted_crops(UnlabeledViews(paths, size=32), per_class=2, seed=4)
    assert crops.shape == (250, 3, 32, 32) and crops.dtype == torch.uint8
    assert torch.equal(types, torch.arange(25).repeat_interleave(10))  # two of each level, one after the other
    images = [read_image(path).float() / 255 for path in paths]
    for name, level in (("mean_shift", 5), ("color_saturation_1", 3), ("pixelate", 4)):  # without chance in them
        found = 2 * distortion_class(name, level)
        distorted = [(distort(image, name, level) * 255).round().to(torch.uint8) for image in images]
        turned = [image.flip(dims) for image in distorted for dims in ((), (1,), (2,), (1, 2))]
        windows = [image.unfold(1, 32, 1).unfold(2, 32, 1).permute(1, 2, 0, 3, 4) for image in turned]
        assert any((window == crops[found]).all(dim=(2, 3, 4)).any() for window in windows), name


def test_types_are_those_of_the_chosen_distortions(paths: list[str], tmp_path: Path) -> None:
    (tmp_path / "few.toml").write_text("[jpeg]\nlevels = [50]\n[darken]\n[lens_blur]\nlevels = [3, 9]\n")
    dataset = UnlabeledViews(paths, 32, distortions=load_distortions(str(tmp_path / "few.toml")))
    _, types = probe.distorted_crops(dataset, per_class=1, seed=0)
    assert types.tolist() == [0, 0, 1, 2, 2, 2, 2, 2]  # in the paper's order: lens_blur, jpeg, darken


def test_the_same_seed_gives_the_same_crops(paths: list[str]) -> None:
    first, again, other = (probe.distorted_crops(UnlabeledViews(paths, 32), 1, seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_features_are_the_encoders_in_their_order() -> None:
    encoder = load_encoder("random", "dct-mlp")
    crops = torch.randint(256, (7, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    z = probe.features(encoder, crops, batch_size=3)
    assert not encoder.training and z.dtype == torch.float64
    with torch.no_grad():
        torch.testing.assert_close(z, encoder(crops / 255).double(), rtol=1e-4, atol=1e-5)


def test_both_probes_are_ridge_regression_and_the_nearest_by_cosine() -> None:
    rng = np.random.default_rng(0)
    classes = rng.permutation(np.repeat(np.arange(125), 4))
    centers = rng.normal(size=(25, 6))
    z_train, z_test = (centers[classes // 5] + rng.normal(size=(500, 6)) + 3 for _ in range(2))
    found = probe.type_accuracy(*(torch.from_numpy(x) for x in (z_train, classes // 5, z_test, classes // 5)))

    mean, std = z_train.mean(axis=0), z_train.std(axis=0, ddof=1)
    train, test = (z_train - mean) / std, (z_test - mean) / std
    # ridge regression as least squares: a row sqrt(10) for each weight asks it to be 0
    with_one = np.hstack([train, np.ones((500, 1))])
    rows = np.vstack([with_one, np.sqrt(10) * np.eye(7)])
    wanted = np.vstack([np.eye(25)[classes // 5], np.zeros((7, 25))])
    weights = np.linalg.lstsq(rows, wanted, rcond=None)[0]
    linear = np.mean((np.hstack([test, np.ones((500, 1))]) @ weights).argmax(axis=1) == classes // 5)
    neighbor = np.mean(classes[cdist(test, train, "cosine").argmin(axis=1)] // 5 == classes // 5)
    assert found == {"linear": pytest.approx(linear), "neighbor": pytest.approx(neighbor)}
    assert 0.2 < linear < 0.9 and 0.2 < neighbor < 0.9  # a case in which it matters how


def by_rows(z_train: np.ndarray, targets: np.ndarray, z_test: np.ndarray, penalty: float) -> np.ndarray:
    """Ridge regression as least squares: a row sqrt(penalty) for each weight asks it to be 0."""
    mean, std = z_train.mean(axis=0), z_train.std(axis=0, ddof=1)
    train, test = (np.hstack([(z - mean) / std, np.ones((len(z), 1))]) for z in (z_train, z_test))
    rows = np.vstack([train, np.sqrt(penalty) * np.eye(train.shape[1])])
    return (
        test @ np.linalg.lstsq(rows, np.vstack([targets, np.zeros((train.shape[1], targets.shape[1]))]), rcond=None)[0]
    )


@pytest.mark.parametrize("dim", [5, 39, 40, 90])
def test_ridge_is_the_same_with_more_features_than_images(dim: int) -> None:
    rng = np.random.default_rng(dim)
    z_train, targets, z_test = rng.normal(size=(40, dim)) + 2, rng.normal(size=(40, 3)), rng.normal(size=(9, dim))
    found = probe.ridge(*(torch.from_numpy(x) for x in (z_train, targets, z_test)), penalty=7)
    np.testing.assert_allclose(found, by_rows(z_train, targets, z_test, 7), rtol=1e-8, atol=1e-10)


def test_images_of_a_group_are_in_one_fold() -> None:
    groups = torch.randint(12, (300,), generator=torch.Generator().manual_seed(0)) * 7
    folds = probe.make_folds(groups)
    by_group = {int(group): {*folds[groups == group].tolist()} for group in groups.unique()}
    assert all(len(found) == 1 for found in by_group.values())
    sizes = np.bincount([min(found) for found in by_group.values()])
    assert len(sizes) == 5 and sorted(sizes) == [2, 2, 2, 3, 3]
    assert {*probe.make_folds(torch.tensor([4, 4, 5, 6])).tolist()} == {0, 1, 2}
    assert not torch.equal(folds, probe.make_folds(groups, seed=1))
    with pytest.raises(ValueError, match="photographs or references must be at least 3 to be probed, got 2"):
        probe.make_folds(torch.tensor([4, 4, 5, 5]))


def test_draws_say_of_which_photograph_they_are(tmp_path: Path, paths: list[str]) -> None:
    (tmp_path / "0.png").write_text("no image")
    own = [str(tmp_path / "0.png"), *paths]
    crops, classes, found = probe.draw_crops(UnlabeledViews(own, size=32), per_class=2, seed=4)
    assert torch.equal(classes, torch.arange(125).repeat_interleave(2)) and {*found.tolist()} == {1, 2, 3}
    image = {i: read_image(own[i]).float() / 255 for i in (1, 2, 3)}
    for place in np.flatnonzero(classes == distortion_class("mean_shift", 5)):  # without chance in it
        distorted = (distort(image[found[place].item()], "mean_shift", 5) * 255).round().to(torch.uint8)
        windows = [
            distorted.flip(dims).unfold(1, 32, 1).unfold(2, 32, 1).permute(1, 2, 0, 3, 4)
            for dims in ((), (1,), (2,), (1, 2))
        ]
        assert any((window == crops[place]).all(dim=(2, 3, 4)).any() for window in windows)


def test_levels_are_named_given_the_type() -> None:
    """Types lie along axes of their own and are all named; levels in three types of four, along one axis for all four,
    which the types turn round: no probe of all types together could name them. The fourth's are not to be seen.
    """
    generator = torch.Generator().manual_seed(0)
    types, levels = torch.arange(4).repeat_interleave(100), torch.arange(5).repeat(80)
    folds = torch.arange(400) // 5 % 5
    z = torch.zeros(400, 12, dtype=torch.float64)
    z[torch.arange(400), types] = 5
    direction = torch.tensor([1, -1, 1, 0])[types]
    z[torch.arange(400), 4 + (direction * levels) % 5] = 3
    z += 0.01 * torch.randn(400, 12, generator=generator, dtype=torch.float64)
    found = probe.type_and_level(z, types, levels, folds)
    assert found["type"] == 1 and found["level"] == pytest.approx(0.75 + 0.25 * 0.2, abs=0.04)


def test_probes_never_learn_from_the_photograph_that_they_are_tested_on() -> None:
    """Features that only say which photograph it is, of whose images all have one type, one level and one score."""
    generator = torch.Generator().manual_seed(0)
    photographs = torch.arange(40).repeat_interleave(10)
    z = torch.randn(40, 60, generator=generator, dtype=torch.float64)[photographs]
    types, levels = (torch.randint(high, (40,), generator=generator)[photographs] for high in (4, 5))
    scores = torch.rand(40, generator=generator, dtype=torch.float64)[photographs]
    by_photograph, leaking = probe.make_folds(photographs), torch.arange(400) % 5
    told = probe.type_and_level(z, types, levels, by_photograph)
    assert told["type"] < 0.5 and told["level"] < 0.5 and abs(probe.score_direction(z, scores, by_photograph)) < 0.4
    leaked = probe.type_and_level(z, types, levels, leaking)
    assert leaked["type"] == 1 and leaked["level"] == 1 and probe.score_direction(z, scores, leaking) > 0.95


def test_the_best_direction_is_ridge_with_the_penalty_that_the_next_fold_chooses() -> None:
    rng = np.random.default_rng(0)
    folds, z = np.arange(150) % 5, rng.normal(size=(150, 60))
    scores = z[:, :5].sum(axis=1) + rng.normal(0, 2.5, 150) + 5
    targets, found, chosen = (scores - scores.mean())[:, None], [], []

    def error(penalty: float, fold: int) -> float:
        following = folds == (fold + 1) % 5
        learns = (folds != fold) & ~following
        return float(((by_rows(z[learns], targets[learns], z[following], penalty) - targets[following]) ** 2).sum())

    for fold in range(5):
        test = folds == fold
        chosen.append(min((10, 100, 1000, 10_000), key=lambda penalty: error(penalty, fold)))  # noqa: B023
        places = by_rows(z[~test], targets[~test], z[test], chosen[-1])[:, 0]
        found.append(spearmanr(places, scores[test]).statistic)
    assert probe.score_direction(*map(torch.from_numpy, (z, scores, folds))) == pytest.approx(np.mean(found))
    assert 0.2 < np.mean(found) < 0.8 and len({*chosen}) > 1  # a case in which it matters


def test_folds_without_a_rank_are_left_out() -> None:
    rng = np.random.default_rng(0)
    z = torch.from_numpy(rng.normal(size=(41, 2)))
    scores, folds = z[:, 0].clone(), torch.arange(41) % 4
    folds[-1], scores[folds == 1] = 4, 0.0  # a fold of one image, one of equal scores
    assert probe.score_direction(z, scores, folds) > 0.95
    assert np.isnan(probe.score_direction(z, 0 * scores, folds))


def test_the_command_names_types_on_the_part_that_the_run_kept_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = demo_sources()
    splits = split_references(list(sources.values()), 3)
    torch.save(encoder_state(load_encoder("random", "dct-mlp", seed=1)), tmp_path / run_folder.ENCODER)
    (tmp_path / run_folder.CONFIG).write_text(json.dumps({"crop": 40, "seed": 1, "unlabeled": "demo"}))
    (tmp_path / run_folder.SPLITS).write_text(json.dumps({"labeled": {"spec": "demo", **splits}}))
    asked: list[Any] = []

    def probe_types(encoders: dict, *others: Any) -> dict:
        asked.append(others)
        return {name: {"linear": 0.5, "neighbor": 0.25} for name in encoders}

    monkeypatch.setattr(probe, "probe_types", probe_types)
    for part in ("test", "val"):
        main(["probe", str(tmp_path / run_folder.ENCODER), "--part", part, "--seed", "9"])
        train, test, seed = asked.pop()
        assert {sources[path] for path in train.paths} == set(splits["train"])
        assert {sources[path] for path in test.paths} == set(splits[part])
        assert (train.size, train.long_side, seed) == (test.size, test.long_side, seed) == (40, 192, 9)
    assert "linear 0.500, nearest neighbor 0.250" in capsys.readouterr().out
