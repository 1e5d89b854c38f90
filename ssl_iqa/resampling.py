"""How sure a correlation is: bootstrap over reference images, for one encoder and for the difference of two.

Pictures of one reference are not independent, so that references are drawn and not pictures. What it covers is the
choice of the test pictures; that of the training pictures, and what chance does in training, show in the spread over
splits.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 1000
LEVEL = 0.95  # of the intervals


class Evaluated(NamedTuple):
    """What one split's test part gave: predicted and true scores [M], and the pictures' references [M]."""

    predicted: np.ndarray
    true: np.ndarray
    references: Sequence[str]


def resampled(
    splits: Sequence[Evaluated],
    statistic: Callable[[np.ndarray, np.ndarray], float],
    seed: int,
    resamples: int | None = None,
) -> np.ndarray:
    """The mean over splits of `statistic(predicted, true)` for each resample, [resamples], by default RESAMPLES.

    A resample draws as many references as the splits have together, with replacement; a picture of a reference that was
    drawn c times comes c times, in every split whose test part has it. Two encoders on the same splits, with the same
    seed, meet the same draws. nan where a split's resample has no correlation.
    """
    names = sorted(set().union(*(split.references for split in splits)))
    number = {name: i for i, name in enumerate(names)}
    of_pictures = [np.array([number[name] for name in split.references]) for split in splits]
    rng = np.random.default_rng(seed)
    found = np.full((resamples or RESAMPLES, len(splits)), np.nan)
    for row in found:
        counts = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))  # [references]
        for i, (split, references) in enumerate(zip(splits, of_pictures, strict=True)):
            drawn = np.repeat(np.arange(len(references)), counts[references])
            if len(drawn) > 1:
                row[i] = statistic(split.predicted[drawn], split.true[drawn])
    return found.mean(axis=1)


def interval(values: np.ndarray) -> list[float]:
    """[low, high] between which LEVEL of the resamples lie (the percentile interval); nan where none is a number."""
    values = values[np.isfinite(values)]
    if not len(values):
        return [float("nan")] * 2
    return np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()


def p_value(differences: np.ndarray) -> float:
    """Two-sided, of the hypothesis that two encoders are equal, from their resampled differences [resamples].

    Twice the share of resamples on the other side of 0, one resample added so that it is never 0.
    """
    values = differences[np.isfinite(differences)]
    smaller = min((values <= 0).sum(), (values >= 0).sum())
    return min(1.0, 2 * (smaller + 1) / (len(values) + 1))
