"""The baselines: what may influence a prediction and what may not, and class means by hand."""

import csv
import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import spearmanr
from sklearn.svm import SVR

from ssl_iqa import baselines
from ssl_iqa.baselines import regressor
from ssl_iqa.baselines.brisque import brisque_features, usable_features
from ssl_iqa.baselines.class_mean import class_mean_predictions
from ssl_iqa.baselines.regressor import set_features, svr_predictions
from ssl_iqa.data import sets
from ssl_iqa.data.images import read_image
from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.data.splits import part_indices
from tests.conftest import error_of
from tests.splits import split_references

PARTS = {"train": [*range(0, 60)], "val": [*range(60, 80)], "test": [99, *range(80, 99)]}


def set_of(features: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """100 images' features and scores that depend on them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, features))
    return x, 5 + np.tanh(x[:, 0]) + 0.3 * rng.normal(size=100)


def fitted(features: np.ndarray, scores: np.ndarray, penalty: float, gamma: float) -> np.ndarray:
    """What the training part alone makes of the test part, scaled by hand."""
    low, high = features[PARTS["train"]].min(0), features[PARTS["train"]].max(0)
    x = 2 * (features - low) / (high - low) - 1
    svr = SVR(C=penalty, gamma=gamma, epsilon=0.1).fit(x[PARTS["train"]], scores[PARTS["train"]])
    return svr.predict(x[PARTS["test"]])


def one_pair(monkeypatch: pytest.MonkeyPatch, penalty: float = 4, gamma: float = 0.25) -> None:
    monkeypatch.setattr(regressor, "PENALTIES", (penalty,))
    monkeypatch.setattr(regressor, "GAMMAS", (gamma,))


def test_training_images_alone_scale_the_features_and_fit_the_regressor(monkeypatch: pytest.MonkeyPatch) -> None:
    one_pair(monkeypatch)
    features, scores = set_of()
    features[60:] *= 3  # validation and test reach further
    predicted = svr_predictions(features, scores, PARTS)
    np.testing.assert_allclose(predicted, fitted(features, scores, 4, 0.25), rtol=1e-9)
    assert len(np.unique(predicted)) == 20


def test_no_test_score_and_no_other_test_image_changes_a_prediction() -> None:
    features, scores = set_of()
    before = svr_predictions(features, scores, PARTS)
    scores[PARTS["test"]] = np.random.default_rng(1).uniform(1, 10, 20)
    assert np.array_equal(svr_predictions(features, scores, PARTS), before)
    scores[PARTS["test"]] = np.nan
    features[PARTS["test"][1:]] *= -100
    assert svr_predictions(features, scores, PARTS)[0] == pytest.approx(before[0], rel=1e-12)


def test_a_linear_regressor_has_the_mean_of_products_as_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """For features by the thousands; here more than images, some of which have none."""
    monkeypatch.setattr(regressor, "PENALTIES", (64, 4, 0.1))
    features, scores = set_of(features=300)
    features[[0, 60, 99]] = np.nan
    predicted = svr_predictions(features.astype(np.float32), scores, PARTS, kernel="linear")
    train, test = PARTS["train"][1:], PARTS["test"][1:]
    low, high = features[train].min(0), features[train].max(0)
    x = 2 * (features - low) / (high - low) - 1
    by_penalty = {}
    for penalty in (64, 4, 0.1):
        svr = SVR(kernel="linear", C=penalty / 300, epsilon=0.1, tol=1e-5).fit(x[train], scores[train])
        by_penalty[spearmanr(svr.predict(x[PARTS["val"][1:]]), scores[PARTS["val"][1:]])[0]] = svr.predict(x[test])
    assert np.isnan(predicted[0])
    np.testing.assert_allclose(predicted[1:], by_penalty[max(by_penalty)], atol=2e-3)
    others = [other for val_srocc, other in by_penalty.items() if val_srocc < max(by_penalty)]
    assert len(others) == 2 and all(np.abs(predicted[1:] - other).max() > 0.01 for other in others)


@pytest.mark.parametrize(("wanted", "gamma"), [("waves", 100.0), ("slope", 0.01)])
def test_the_validation_part_chooses(monkeypatch: pytest.MonkeyPatch, wanted: str, gamma: float) -> None:
    """Training scores are waves on a slope: a narrow kernel follows the waves, a wide one the slope."""
    monkeypatch.setattr(regressor, "PENALTIES", (10, 0.001))  # with 0.001 all predictions are near one another
    monkeypatch.setattr(regressor, "GAMMAS", (0.01, 100.0))
    x = np.random.default_rng(0).permutation(np.linspace(0, 7, 100))
    slope, waves = x, np.sin(8 * x)
    scores = 5 + slope / 3 + waves
    scores[60:80] = {"slope": slope, "waves": waves}[wanted][60:80]
    predicted = svr_predictions(x[:, None], scores, PARTS)
    np.testing.assert_allclose(predicted, fitted(x[:, None], scores, 10, gamma), rtol=1e-9)


def test_of_the_validation_part_the_order_counts() -> None:
    features, scores = set_of()
    before = svr_predictions(features, scores, PARTS)
    scores[60:80] = scores[60:80] ** 9
    assert np.array_equal(svr_predictions(features, scores, PARTS), before)


def test_the_first_of_equally_good_pairs_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regressor, "PENALTIES", (3, 5))
    monkeypatch.setattr(regressor, "GAMMAS", (0.01, 0.02))
    features, _ = set_of(features=1)
    scores = 5 + features[:, 0]  # every pair gets an SROCC of 1
    np.testing.assert_allclose(svr_predictions(features, scores, PARTS), fitted(features, scores, 3, 0.01), rtol=1e-9)


def test_a_pair_that_predicts_one_score_for_all_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regressor, "PENALTIES", (4,))
    monkeypatch.setattr(regressor, "GAMMAS", (1e9, 0.25))  # so narrow a kernel reaches no other image
    features, scores = set_of()
    scores[60:80] *= -1  # so that the other pair's SROCC is below 0
    np.testing.assert_allclose(svr_predictions(features, scores, PARTS), fitted(features, scores, 4, 0.25), rtol=1e-9)


def test_images_without_features_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    one_pair(monkeypatch)
    features, scores = set_of()
    without = {"train": [*range(1, 60)], "val": [*range(61, 80)], "test": PARTS["test"]}
    expected = svr_predictions(features, scores, without)
    features[[0, 60, 99]] = np.nan
    predicted = svr_predictions(features, scores, PARTS)
    assert np.isnan(predicted[0]) and np.array_equal(predicted[1:], expected[1:])
    features[80:] = np.nan
    assert np.isnan(svr_predictions(features, scores, PARTS)).all()
    for part, few, said in (("train", 0, "got 0 and 20: "), ("val", 1, "got 60 and 1: ")):
        features, scores = set_of()
        features[PARTS[part][few:]] = np.nan
        with pytest.raises(ValueError, match=said):
            svr_predictions(features, scores, PARTS)


@pytest.mark.filterwarnings("error")
def test_features_that_never_differ_are_no_obstacle() -> None:
    features, scores = set_of()
    features[:, 1:] = 7
    predicted = svr_predictions(features, scores, PARTS)
    assert np.isfinite(predicted).all() and np.ptp(predicted) > 0.1
    features[:, 0] = 7  # nothing is left to choose by
    assert np.ptp(svr_predictions(features, scores, PARTS)) == 0


@pytest.mark.parametrize("name", ["brisque", "cornia", "hosa"])
def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    baselines.check(name, labeled_set())
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "sklearn" else find_spec(name))
    message = error_of(ValueError, baselines.check, name, labeled_set())
    assert message == f"{name}: needs the library sklearn: pip install 'ssl_iqa[baselines]'"
    baselines.check("class-mean", labeled_set())


def labeled_set() -> LabeledSet:
    classes = [("blur", 1), ("blur", 1), ("blur", 2), ("noise", 1), ("blur", 1), ("blur", 2), ("noise", 1)]
    classes += [("blur", 3), ("noise", 5), ("jpeg", 1), ("blur", 1)]
    return LabeledSet(
        name="some",
        paths=[f"{i}.png" for i in range(11)],
        scores=[2.0, 4, 9, 1, 10, 10, 10, 10, 10, 10, 10],
        score_range=(1, 10),
        references=["r"] * 11,
        distortions=[name for name, _ in classes],
        levels=[level for _, level in classes],
    )


def test_class_means_by_hand() -> None:
    parts = {"train": [0, 1, 2, 3], "val": [10], "test": [5, 4, 6, 7, 8, 9]}
    # Seen: blur 2, blur 1, noise 1; of the type alone: blur (2 + 4 + 9) / 3, noise; of none: (2 + 4 + 9 + 1) / 4.
    assert class_mean_predictions(labeled_set(), parts).tolist() == [9, 3, 1, 5, 1, 4]


@pytest.mark.parametrize("unknown", ["distortions", "levels"])
def test_class_means_need_classes(unknown: str) -> None:
    unclassed = replace(labeled_set(), **{unknown: None})
    with pytest.raises(ValueError, match="^some: distortions and levels must be known"):
        baselines.check("class-mean", unclassed)
    baselines.check("brisque", unclassed)


def test_class_means_of_the_demo_are_its_scores() -> None:
    labeled = sets.load_labeled("demo")
    split = split_references(labeled.references, seed=0)
    parts = {part: part_indices(labeled.references, names) for part, names in split.items()}
    np.testing.assert_allclose(class_mean_predictions(labeled, parts), [labeled.scores[i] for i in parts["test"]])


@pytest.mark.parametrize("workers", [0, 1])
def test_features_of_a_set_are_its_images_in_order(damaged: list[str], tmp_path: Path, workers: int) -> None:
    narrow = str(tmp_path / "6.png")
    Image.new("RGB", (15, 40)).save(narrow)
    paths = [damaged[5], *damaged[:3], damaged[3], damaged[4], narrow]
    Path(damaged[2]).write_bytes(b"")  # a set's file that is gone is refused when the set is loaded
    with open(tmp_path / "scores.csv", "w", newline="") as file:
        csv.writer(file).writerows([("image", "score"), *((path, i) for i, path in enumerate(paths))])
    labeled = sets.load_labeled(f"csv:{tmp_path / 'scores.csv'}")
    features = set_features(labeled, usable_features, workers)["features"].numpy()
    assert features.shape == (7, 36) and features.dtype == np.float64
    assert np.isnan(features).all(axis=1).tolist() == [False, True, True, True, True, False, True]
    for row, path in ((features[0], damaged[5]), (features[5], damaged[4])):
        np.testing.assert_allclose(row, brisque_features(read_image(path) / 255), rtol=1e-12)


def test_features_of_the_demo_are_of_its_distorted_images() -> None:
    demo = sets.load_labeled("demo")
    few = {
        name: getattr(demo, name)[:3] for name in ("paths", "scores", "references", "distortions", "levels", "classes")
    }
    features = set_features(replace(demo, **few), usable_features, workers=0)["features"].numpy()
    for index, level in enumerate((1, 2, 3)):  # the first class is gaussian_blur
        assert (demo.distortions[index], demo.levels[index]) == ("gaussian_blur", level)
    assert (np.diff(features[:, 1]) < 0).all()  # the more blur, the smaller the coefficients
