"""Intervals and tests over references, against cases worked out by hand and SciPy's bootstrap."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import bootstrap, norm, spearmanr

from ssl_iqa.evaluation import resampling
from ssl_iqa.evaluation.metrics import plcc, srocc
from ssl_iqa.evaluation.resampling import Predictions, interval, p_value, resampled


@pytest.fixture
def any_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of references: few make cases that can be worked out by hand."""
    monkeypatch.setattr(resampling, "LEAST_REFERENCES", 1)


def draws(splits: list[Predictions], statistic: Callable[..., float], resamples: int) -> np.ndarray:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resampling, "RESAMPLES", resamples)
        return resampled(splits, statistic)


def sample(noise: float, references: int, images: int, seed: int) -> Predictions:
    rng = np.random.default_rng(seed)
    true = rng.uniform(1, 10, references * images)
    names = [f"r{i // images}" for i in range(len(true))]
    return Predictions(true + noise * rng.standard_normal(len(true)), true, names)


def test_references_are_drawn_and_not_images(any_number: None) -> None:
    """Two references, one ordered and one reversed: of four equally probable draws one has the first only, one the
    second only, and two have both."""
    one = Predictions(np.array([1.0, 2, 3, 9, 8, 7]), np.array([1.0, 2, 3, 7, 8, 9]), ["a"] * 3 + ["b"] * 3)
    both = spearmanr(one.predicted, one.scores).statistic
    found, counts = np.unique(draws([one], srocc, 2000).round(9), return_counts=True)
    assert found.tolist() == pytest.approx(sorted([-1, both, 1]))
    assert (counts / 2000).tolist() == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


def test_a_image_of_a_reference_drawn_twice_comes_twice(any_number: None) -> None:
    one = Predictions(np.array([1.0, 4, 2, 8]), np.array([1.0, 2, 3, 4]), ["a", "a", "b", "b"])
    seen: set[int] = set()

    def count(predicted: np.ndarray, true: np.ndarray) -> float:
        seen.add(len(true))
        assert sorted(true) in ([1, 2, 3, 4], [1, 1, 2, 2], [3, 3, 4, 4])
        return 0.0

    draws([one], count, 50)
    assert seen == {4}


def test_one_reference_a_image_is_scipys_percentile_bootstrap() -> None:
    one = sample(noise=2.0, references=60, images=1, seed=1)
    reference = bootstrap(
        (one.predicted, one.scores), plcc, paired=True, vectorized=False, n_resamples=2000, method="percentile", rng=0
    ).confidence_interval
    low, high = interval(draws([one], plcc, 2000))
    assert (low, high) == (pytest.approx(reference.low, abs=0.015), pytest.approx(reference.high, abs=0.015))


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """Of 60 samples of 40 images with a correlation of 0.6; 95 % of percentile intervals of that size cover
    somewhat less."""
    rng, covered = np.random.default_rng(0), 0
    for _ in range(60):
        x = rng.standard_normal(40)
        y = 0.6 * x + 0.8 * rng.standard_normal(40)
        low, high = interval(draws([Predictions(x, y, [str(i) for i in range(40)])], plcc, 100))
        covered += low <= 0.6 <= high
    assert 0.83 <= covered / 60 <= 0.99


def test_splits_share_the_draws_of_their_references() -> None:
    """The same test part twice is the test part once: the draws are of references, not of splits' images."""
    one = sample(noise=3.0, references=8, images=4, seed=2)
    np.testing.assert_allclose(draws([one, one], srocc, 100), draws([one], srocc, 100))


def test_a_split_that_a_draw_leaves_nothing_of_is_no_number(any_number: None) -> None:
    first, second = (Predictions(np.array([1.0, 2]), np.array([1.0, 2]), [name] * 2) for name in "ab")
    values = draws([first, second], srocc, 300)
    assert np.isnan(values).mean() == pytest.approx(0.5, abs=0.08)  # both drawn: two of four draws
    assert interval(values) == [1.0, 1.0] and np.isnan(interval(np.full(3, np.nan))).all()


@pytest.mark.parametrize(("references", "has_interval"), [(2, False), (7, False), (8, True)])
def test_few_references_have_no_interval(references: int, has_interval: bool) -> None:
    """However many images they have: two references in the right order would say 1.000 to 1.000."""
    one = sample(noise=2.0, references=references, images=20, seed=3)
    values = draws([one], srocc, 50)
    assert np.isfinite(interval(values)).all() == has_interval and np.isfinite(p_value(values)) == has_interval


def test_an_interval_leaves_a_fortieth_out_at_either_end() -> None:
    assert interval(np.random.default_rng(0).permutation(1001).astype(float)) == pytest.approx([25, 975])


def test_p_is_twice_the_share_beyond_zero() -> None:
    assert p_value(np.array([1.0] * 95 + [-1.0] * 5)) == pytest.approx(2 * 6 / 101)
    assert p_value(-np.array([1.0] * 95 + [-1.0] * 5)) == pytest.approx(2 * 6 / 101)
    assert p_value(np.ones(999)) == pytest.approx(2 / 1000) and p_value(np.array([1.0, -1.0])) == 1
    assert p_value(np.array([1.0] * 99 + [np.nan])) == pytest.approx(2 / 100)


def test_p_of_many_resamples_is_the_normal_tests() -> None:
    """The difference of two noisy predictions of the same images, against its own mean and standard error."""
    rng = np.random.default_rng(5)
    true, names = rng.uniform(1, 10, 400), [str(i) for i in range(400)]
    first, second = (Predictions(true + noise * rng.standard_normal(400), true, names) for noise in (3.0, 3.35))
    apart = draws([first], plcc, 1500) - draws([second], plcc, 1500)
    z = (plcc(first.predicted, true) - plcc(second.predicted, true)) / apart.std()
    assert 0.01 < p_value(apart) < 0.9 and p_value(apart) == pytest.approx(2 * norm.sf(abs(z)), abs=0.05)
