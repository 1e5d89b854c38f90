"""SROCC and PLCC against scipy.stats."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from ssl_iqa.evaluation.metrics import plcc, srocc


@pytest.mark.parametrize("n", [3, 50, 2000])
@pytest.mark.parametrize("decimals", [0, 1, 12])  # many ties, some, none
def test_srocc_and_plcc_are_those_of_scipy(n: int, decimals: int) -> None:
    rng = np.random.default_rng(n)
    true = rng.uniform(1, 10, n).round(decimals)
    predicted = (true + 2 * rng.normal(size=n)).round(decimals)
    assert srocc(predicted, true) == pytest.approx(spearmanr(predicted, true).statistic, abs=1e-12)
    assert plcc(predicted, true) == pytest.approx(pearsonr(predicted, true).statistic, abs=1e-12)
