"""Split-conformal margins: by hand, and their coverage by simulation."""

import math

import numpy as np
import pytest

from ssl_iqa.evaluation.calibration import margin


@pytest.mark.parametrize(
    ("coverage", "wanted"), [(0.9, 9.0), (0.5, 5.0), (0.8, 8.0), (0.1, 1.0), (0.05, 1.0), (0.89, 9.0), (0.91, math.inf)]
)
def test_of_nine_residuals_the_ninth_is_the_margin_of_90_percent(coverage: float, wanted: float) -> None:
    assert margin([4, 7, 2, 9, 1, 3, 8, 6, 5], coverage) == wanted


def test_there_are_none_for_no_residuals() -> None:
    assert margin([]) == math.inf


@pytest.mark.parametrize("coverage", [0, 1, -0.5, 1.5, math.nan])
def test_a_coverage_is_between_0_and_1(coverage: float) -> None:
    with pytest.raises(ValueError, match="coverage"):
        margin([1.0], coverage)


@pytest.mark.parametrize(("n", "coverage"), [(9, 0.9), (20, 0.9), (15, 0.5), (19, 0.95)])
def test_it_covers_that_share_of_new_residuals(n: int, coverage: float) -> None:
    """Exactly k / (n + 1) of them, whatever the distribution, k = ceil((n + 1) coverage)."""
    rng = np.random.default_rng(0)
    trials = 20000
    residuals = rng.exponential(size=(trials, n + 1)) ** 3
    covered = np.mean([row[-1] <= margin(row[:-1], coverage) for row in residuals])
    share = math.ceil(round((n + 1) * coverage, 6)) / (n + 1)
    assert covered == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / trials))
    assert share >= coverage
