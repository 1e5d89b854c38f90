"""The probe of distortion types: its pictures, its two classifiers, its features."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from ssl_iqa import data, probe, runs, sets
from ssl_iqa.distortions import distort, distortion_class, load_distortions
from ssl_iqa.model import encoder_state, load_encoder
from ssl_iqa.views import UnlabeledViews


@pytest.fixture
def paths(photographs: Path) -> list[str]:
    return sorted(map(str, photographs.iterdir()))[:3]


def test_each_class_comes_as_often_and_is_what_it_is_called(paths: list[str]) -> None:
    crops, types = probe.distorted_crops(UnlabeledViews(paths, size=32), per_class=2, seed=4)
    assert crops.shape == (250, 3, 32, 32) and crops.dtype == torch.uint8
    assert torch.equal(types, torch.arange(25).repeat_interleave(10))  # two of each level, one after the other
    pictures = [data.read_image(path).float() / 255 for path in paths]
    for name, level in (("mean_shift", 5), ("color_saturation_1", 3), ("pixelate", 4)):  # without chance in them
        found = 2 * distortion_class(name, level)
        distorted = [(distort(picture, name, level) * 255).round().to(torch.uint8) for picture in pictures]
        turned = [picture.flip(dims) for picture in distorted for dims in ((), (1,), (2,), (1, 2))]
        windows = [picture.unfold(1, 32, 1).unfold(2, 32, 1).permute(1, 2, 0, 3, 4) for picture in turned]
        assert any((window == crops[found]).all(dim=(2, 3, 4)).any() for window in windows), name


def test_types_are_those_of_the_chosen_distortions(paths: list[str], tmp_path: Path) -> None:
    (tmp_path / "few.json").write_text('{"jpeg": {"levels": [50]}, "darken": {}, "lens_blur": {"levels": [3, 9]}}')
    dataset = UnlabeledViews(paths, 32, distortions=load_distortions(str(tmp_path / "few.json")))
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


def test_the_command_names_types_on_the_part_that_the_run_kept_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = sets.demo_sources()
    splits = data.split_references(list(sources.values()), 3)
    torch.save(encoder_state(load_encoder("random", "dct-mlp", seed=1)), tmp_path / runs.ENCODER)
    (tmp_path / runs.CONFIG).write_text(json.dumps({"crop": 40, "seed": 1}))
    (tmp_path / runs.SPLITS).write_text(json.dumps({"labeled": {"spec": "demo", **splits}}))
    asked: list[Any] = []

    def probe_types(encoders: dict, *others: Any) -> dict:
        asked.append(others)
        return {name: {"linear": 0.5, "neighbor": 0.25} for name in encoders}

    monkeypatch.setattr(probe, "probe_types", probe_types)
    for part in ("test", "val"):
        probe.main([str(tmp_path / runs.ENCODER), "--part", part, "--seed", "9"])
        train, test, seed = asked.pop()
        assert {sources[path] for path in train.paths} == set(splits["train"])
        assert {sources[path] for path in test.paths} == set(splits[part])
        assert (train.size, train.reduce, seed) == (test.size, test.reduce, seed) == (40, sets.DEMO_REDUCE, 9)
    assert "linear 0.500, nearest neighbor 0.250" in capsys.readouterr().out
