"""The agreement of predicted and true scores: SROCC and PLCC (Section 4.2)."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import OptimizeWarning, curve_fit, least_squares
from scipy.special import expit

Scores = np.ndarray | torch.Tensor | Sequence[float]


def srocc(predicted: Scores, true: Scores) -> float:
    """Spearman Rank Order Correlation Coefficient in [-1, 1]: PLCC of the ranks, equal scores sharing their mean rank.

    Args: `predicted` and `true`, the scores of the same M >= 2 images, [M]: a sequence, an array or a tensor, on any
    device. Returns nan where either is constant. Raises ValueError for lengths that differ, fewer than two scores,
    or scores that are not finite. The same goes for `plcc` and the `plcc_logistic`s.
    """
    x, y = _checked(predicted, true)
    return plcc(_ranks(x), _ranks(y))


def plcc(predicted: Scores, true: Scores) -> float:
    """Pearson Linear Correlation Coefficient in [-1, 1], raw; arguments and errors as in `srocc`."""
    x, y = _checked(predicted, true)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    x, y = x - x.mean(), y - y.mean()
    r = x @ y / np.sqrt((x @ x) * (y @ y))
    return float(np.clip(r, -1, 1))  # rounding can exceed 1


def plcc_logistic(predicted: Scores, true: Scores) -> float:
    """PLCC after the predictions x were mapped to the scale of the true scores by the 4-parameter logistic

        (b1 - b2) / (1 + exp(-(x - b3) / |b4|)) + b2

    usual in the field since the VQEG's report on its Phase I (2000), fitted to these very scores by least squares, from
    b1 and b2 = highest and lowest true score, b3 = mean of x and b4 = standard deviation of x. The fitted curve may
    fall as well as rise, so that the sign of the correlation is lost: see `srocc`. Arguments and errors as in `srocc`;
    nan also where the fit does not converge, and for fewer than five scores, which four parameters would fit exactly.
    """
    x, y = _checked(predicted, true)
    parameters = fit_logistic(x, y)
    return float("nan") if parameters is None else plcc(logistic(x, *parameters), y)


def plcc_logistic5(predicted: Scores, true: Scores) -> float:
    """PLCC after the predictions x were mapped to the scale of the true scores by the 5-parameter logistic

        b1 (1/2 - 1 / (1 + exp(b2 (x - b3)))) + b4 x + b5

    of Sheikh, Sabir and Bovik (IEEE Transactions on Image Processing, 2006), fitted to these very scores by least
    squares. It holds all straight lines, so that the result is |`plcc`| or more. Its logistic part is a nonlinear
    function of b2 and b3 only; the other three follow by linear least squares (variable projection), so that the search
    is over these two, from several slopes and places of which the best end is taken. Arguments and errors as in
    `srocc`; nan also for fewer than six scores, which five parameters would fit exactly.
    """
    x, y = _checked(predicted, true)
    if len(x) < 6 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    x, y = _standard(x), _standard(y)

    def mapped(b: np.ndarray) -> np.ndarray:
        columns = np.stack([0.5 - expit(-b[0] * (x - b[1])), x, np.ones_like(x)], axis=1)  # [M, 3]
        return columns @ np.linalg.lstsq(columns, y, rcond=None)[0]

    # steeper than 50 or further than 5 standard deviations the logistic is a step or a line, which others hold as well
    starts = [(slope, place) for slope in (0.5, 2.0, 8.0) for place in (-1.0, 0.0, 1.0)]
    bounds = ((1e-2, -5.0), (50.0, 5.0))
    fits = [least_squares(lambda b: mapped(b) - y, start, bounds=bounds) for start in starts]
    best = min(fits, key=lambda fit: fit.cost)
    return plcc(mapped(best.x), y)


def fit_logistic(predicted: Scores, true: Scores) -> tuple[float, float, float, float] | None:
    """(b1, b2, b3, b4) of `plcc_logistic`'s fit, for `logistic`; None where that is nan. Arguments as in `srocc`.

    b1 and b2 are on the scale of the true scores, b3 and b4, which is positive, on that of the predictions.
    """
    x, y = _checked(predicted, true)
    if len(x) < 5 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    # b3 and b4, b1 and b2 take up any shift and scale, and the fit is better conditioned without.
    standard_y = _standard(y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OptimizeWarning)  # about the covariance of the parameters, which is not used
        try:
            # For predictions linear in the scores the best b1, b2, b4 are infinite: scipy's 1000 steps often end before
            # the improvement does.
            start = (standard_y.max(), standard_y.min(), 0.0, 1.0)
            (b1, b2, b3, b4), _ = curve_fit(logistic, _standard(x), standard_y, p0=start, maxfev=20_000)
        except RuntimeError:  # not converged
            return None
    shift, scale = y.mean(), y.std()
    b = shift + scale * b1, shift + scale * b2, x.mean() + x.std() * b3, x.std() * abs(b4)
    return tuple(map(float, b))


def logistic(x: np.ndarray, b1: float, b2: float, b3: float, b4: float) -> np.ndarray:
    """The 4-parameter logistic of `plcc_logistic`, [M] -> [M]."""
    return (b1 - b2) * expit((x - b3) / abs(b4)) + b2


def srocc_by_type(predicted: Scores, true: Scores, types: Sequence[str] | Sequence[int]) -> dict[str | int, float]:
    """SROCC within each distortion type (Table 2): {type: SROCC}, sorted by type.

    Args: as in `srocc`, with `types` the type of each image, [M], as names or as numbers. The SROCC of a type with a
    single image is nan. Raises ValueError as `srocc` does, and if there are not M types.
    """
    x, y = _checked(predicted, true)
    kinds = np.asarray(types)
    if kinds.shape != x.shape:
        raise ValueError(f"types must name one type for each of {len(x)} scores, got shape {list(kinds.shape)}")
    parts = {kind: kinds == kind for kind in np.unique(kinds).tolist()}
    return {kind: srocc(x[part], y[part]) if part.sum() > 1 else float("nan") for kind, part in parts.items()}


def _ranks(scores: np.ndarray) -> np.ndarray:
    """Ranks from 1, [M]; equal scores share the mean of their ranks."""
    _, which, counts = np.unique(scores, return_inverse=True, return_counts=True)
    highest = np.cumsum(counts)  # rank of the last among equals
    return (highest - (counts - 1) / 2)[which]


def _standard(x: np.ndarray) -> np.ndarray:
    return (x - x.mean()) / x.std()


def _checked(predicted: Scores, true: Scores) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 arrays, [M]."""
    both = (s.detach().cpu().double() if isinstance(s, torch.Tensor) else s for s in (predicted, true))
    x, y = (np.asarray(scores, dtype=np.float64) for scores in both)
    if x.ndim != 1 or x.shape != y.shape or len(x) < 2:
        shapes = f"{list(x.shape)} and {list(y.shape)}"
        raise ValueError(f"predicted and true must be [M] with one M >= 2, got shapes {shapes}")
    for name, scores in (("predicted", x), ("true", y)):
        if not np.isfinite(scores).all():
            raise ValueError(f"{name} holds {np.sum(~np.isfinite(scores))} of {len(scores)} scores that are not finite")
    return x, y
