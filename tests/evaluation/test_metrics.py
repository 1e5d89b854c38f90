"""SROCC and PLCC by hand, and the logistic mapping against curves that it must find."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares, minimize

from ssl_iqa.evaluation import metrics
from ssl_iqa.evaluation.metrics import fit_logistic, plcc, plcc_logistic, plcc_logistic5, srocc, srocc_by_type

RNG = np.random.default_rng(0)
X = RNG.uniform(1, 10, 60)
NOISE = RNG.normal(size=60)


def test_srocc_without_ties_by_hand() -> None:
    # 1 - 6 sum(d^2) / (n (n^2 - 1)) with rank differences (1, -1, 0, 0).
    assert srocc([20.0, 10.0, 30.0, 400.0], [1, 2, 3, 4]) == pytest.approx(1 - 6 * 2 / (4 * 15), abs=1e-15)


def test_srocc_with_ties_by_hand() -> None:
    # Ranks (1.5, 1.5, 3, 4) and (1, 2, 3, 4): deviations (-1, -1, 0.5, 1.5) and (-1.5, -0.5, 0.5, 1.5).
    assert srocc([7, 7, 9, 11], [1, 2, 3, 4]) == pytest.approx(4.5 / math.sqrt(4.5 * 5), abs=1e-15)


def test_plcc_by_hand() -> None:
    # Deviations (-1, 0, 1) and (-1, -1, 2): 3 / sqrt(2 * 6).
    assert plcc([1, 2, 3], [0, 0, 3]) == pytest.approx(3 / math.sqrt(12), abs=1e-15)


def test_srocc_sees_order_only_and_plcc_scale_and_shift_too() -> None:
    assert srocc(np.exp(X), X) == 1 and srocc(-(X**3), X) == -1
    assert plcc(0.01 * X + 5, X) == pytest.approx(1, abs=1e-14) and plcc(-X, X) == pytest.approx(-1, abs=1e-14)
    assert plcc(np.exp(X), X) < 0.9


def test_perfect_correlation_never_exceeds_one() -> None:
    for n in range(2, 200):
        x = np.random.default_rng(n).normal(size=n)
        assert plcc(3 * x + 1, x) <= 1 and plcc(-3 * x + 1, x) >= -1


@pytest.mark.parametrize("metric", [srocc, plcc, plcc_logistic, plcc_logistic5])
def test_arrays_sequences_and_tensors_are_alike(metric: Any) -> None:
    x = X.astype(np.float32)
    y = (x + NOISE).astype(np.float32)
    expected = metric(x, y)
    assert type(expected) is float
    for convert in (list, tuple, torch.tensor, lambda v: torch.tensor(v, requires_grad=True)):
        assert metric(convert(x), convert(y)) == expected
    half = torch.tensor(x).bfloat16()
    assert metric(half, torch.tensor(y)) == metric(half.double().numpy(), y)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("metric", [srocc, plcc, plcc_logistic, plcc_logistic5])
@pytest.mark.parametrize("level", [0.1, 0.5])  # the mean of sixty 0.1 is not 0.1 in floating point
def test_constant_scores_have_no_correlation(metric: Any, level: float) -> None:
    constant = [level] * 60
    assert (
        math.isnan(metric(constant, X)) and math.isnan(metric(X, constant)) and math.isnan(metric(constant, constant))
    )


@pytest.mark.parametrize("metric", [srocc, plcc, plcc_logistic, plcc_logistic5])
@pytest.mark.parametrize(
    ("predicted", "true", "message"),
    [
        ([1.0], [2.0], r"M >= 2, got shapes \[1\] and \[1\]"),
        ([], [], "M >= 2"),
        ([1.0, 2.0], [1.0, 2.0, 3.0], r"shapes \[2\] and \[3\]"),
        (np.ones((2, 1)), np.ones((2, 1)), r"\[2, 1\]"),
        ([1.0, float("nan")], [1.0, 2.0], "predicted holds 1 of 2 scores that are not finite"),
        ([1.0, 2.0], [float("inf"), 2.0], "true holds 1 of 2"),
    ],
)
def test_scores_that_cannot_be_compared_are_refused(metric: Any, predicted: Any, true: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metric(predicted, true)


def logistic(x: np.ndarray, b1: float, b2: float, b3: float, b4: float) -> np.ndarray:
    return (b1 - b2) / (1 + np.exp(-(x - b3) / abs(b4))) + b2


@pytest.mark.parametrize("b", [(9.0, 2.0, 5.0, 0.7), (1.0, 8.0, 4.0, 2.0), (100.0, 0.0, 2.0, -3.0)])
def test_logistic_mapping_is_found_exactly(b: tuple[float, ...]) -> None:
    y = logistic(X, *b)
    assert plcc_logistic(X, y) == pytest.approx(1, abs=1e-9)
    assert abs(plcc(X, y)) < 0.99


@pytest.mark.parametrize("b", [(9.0, 2.0, 5.0, 0.7), (1.0, 8.0, 4.0, 2.0), (100.0, 0.0, 2.0, 3.0)])
def test_the_fits_parameters_are_on_the_scales_of_the_scores(b: tuple[float, ...]) -> None:
    assert fit_logistic(X, logistic(X, *b)) == pytest.approx(b, rel=1e-5, abs=1e-5)
    x = np.linspace(-3, 12, 7)
    np.testing.assert_allclose(metrics.logistic(x, *b), logistic(x, *b))


def test_without_a_fit_there_are_no_parameters() -> None:
    assert fit_logistic(X[:4], NOISE[:4]) is None and fit_logistic(X, 0 * X) is None and fit_logistic(0 * X, X) is None


def test_logistic_mapping_is_the_least_squares_one() -> None:
    y = logistic(X, 9.0, 2.0, 5.0, 0.7) + NOISE
    start = (y.max(), y.min(), X.mean(), X.std())
    best = minimize(
        lambda b: np.sum((logistic(X, *b) - y) ** 2),
        start,
        method="Nelder-Mead",
        options={"maxiter": 9999, "xatol": 1e-9},
    )
    assert plcc_logistic(X, y) == pytest.approx(np.corrcoef(logistic(X, *best.x), y)[0, 1], abs=1e-6)


def test_logistic_mapping_does_not_depend_on_the_scale_of_predictions() -> None:
    y = logistic(X, 9.0, 2.0, 5.0, 0.7) + NOISE
    assert plcc_logistic(1e-4 * X - 30, y) == pytest.approx(plcc_logistic(X, y), abs=1e-7)


@pytest.mark.filterwarnings("error")
def test_logistic_fit_reaches_predictions_that_are_linear_in_the_scores() -> None:
    # The usual case, and the hard one: the best curve is a line, which a logistic only has in the limit.
    for seed in range(10):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=100)
        y = x + 0.3 * rng.normal(size=100)
        assert plcc(x, y) - 1e-4 < plcc_logistic(x, y) < plcc(x, y) + 0.02


@pytest.mark.filterwarnings("error")
def test_logistic_fit_reaches_a_step() -> None:
    assert plcc_logistic(X, X > 5) == pytest.approx(1, abs=1e-9)  # b4 to 0: scipy warns that b3 is not determined


def test_logistic_fit_that_does_not_converge_gives_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    def curve_fit(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("Optimal parameters not found")  # scipy's documented error

    monkeypatch.setattr(metrics, "curve_fit", curve_fit)
    assert math.isnan(plcc_logistic(X, X + NOISE))


def test_logistic_fit_of_four_scores_gives_nan() -> None:
    assert math.isnan(plcc_logistic(X[:4], NOISE[:4])) and not math.isnan(plcc_logistic(X[:5], X[:5] + NOISE[:5]))


def test_srocc_by_type_compares_within_each_type() -> None:
    predicted = [1, 2, 3, 30, 20, 10, 5]
    true = [1, 2, 3, 1, 2, 3, 9]
    types = ["jpeg", "jpeg", "jpeg", "blur", "blur", "blur", "noise"]
    by_type = srocc_by_type(predicted, true, types)
    assert list(by_type) == ["blur", "jpeg", "noise"]
    assert by_type["jpeg"] == 1 and by_type["blur"] == -1 and math.isnan(by_type["noise"])


@pytest.mark.parametrize("convert", [list, np.array, torch.tensor])
def test_types_may_be_numbers(convert: Any) -> None:
    by_type = srocc_by_type([1, 2, 2, 1], [1, 2, 1, 2], convert([10, 10, 9, 9]))
    assert by_type == {9: -1.0, 10: 1.0} and all(type(kind) is int for kind in by_type)


def test_types_must_be_as_many_as_scores() -> None:
    with pytest.raises(ValueError, match=r"each of 3 scores, got shape \[2\]"):
        srocc_by_type([1, 2, 3], [1, 2, 3], ["blur", "jpeg"])


def logistic5(x: np.ndarray, b1: float, b2: float, b3: float, b4: float, b5: float) -> np.ndarray:
    return b1 * (0.5 - 1 / (1 + np.exp(b2 * (x - b3)))) + b4 * x + b5


@pytest.mark.parametrize("b", [(3.0, 2.0, 5.0, 0.3, 1.0), (-4.0, 1.0, 3.0, 1.0, 0.0), (0.0, 1.0, 5.0, -2.0, 3.0)])
def test_5_parameter_logistic_is_found_exactly(b: tuple[float, ...]) -> None:
    assert plcc_logistic5(X, logistic5(X, *b)) == pytest.approx(1, abs=1e-6)


def test_5_parameter_logistic_is_the_best_of_many_fits_of_all_five() -> None:
    y = logistic5(X, 4.0, 3.0, 4.0, 0.4, 2.0) + NOISE
    rng = np.random.default_rng(0)
    starts = rng.uniform((-8, 0, 2, -1, 0), (8, 5, 8, 1, 5), (20, 5))
    fits = [least_squares(lambda b: logistic5(X, *b) - y, start, max_nfev=2000) for start in starts]
    best = min(fits, key=lambda fit: fit.cost)
    assert plcc_logistic5(X, y) == pytest.approx(np.corrcoef(logistic5(X, *best.x), y)[0, 1], abs=1e-5)


def test_5_parameter_logistic_holds_the_line_and_does_not_depend_on_scales() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(30)
    y = rng.uniform(-1, 1) * x + rng.standard_normal(30)
    value = plcc_logistic5(x, y)
    assert abs(plcc(x, y)) - 1e-9 <= value <= 1
    assert plcc_logistic5(1e-4 * x - 30, 7 * y + 3) == pytest.approx(value, abs=1e-5)
    assert plcc_logistic5(-x, y) == pytest.approx(value, abs=1e-4)


def test_5_parameter_logistic_is_nan_without_a_fit() -> None:
    assert math.isnan(plcc_logistic5(X[:5], NOISE[:5])) and not math.isnan(plcc_logistic5(X[:6], NOISE[:6]))
    assert math.isnan(plcc_logistic5(X, 0 * X)) and math.isnan(plcc_logistic5(0 * X, X))
