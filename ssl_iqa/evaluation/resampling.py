"""How sure a correlation is: bootstrap over reference images, for one encoder and for the difference of two.

Images of one reference are not independent, so that references are drawn and not images. The intervals cover the
choice of the test images; that of the training images, and chance in training, show in the spread over splits.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 1000
LEVEL = 0.95  # of the intervals
LEAST_REFERENCES = 8  # of fewer, most resamples are much alike: docs/log.md has how often intervals held the truth
TOO_FEW = f"fewer than {LEAST_REFERENCES} test references"


class Predictions(NamedTuple):
    """One split's test part, an entry for each image."""

    predicted: np.ndarray  # [M]
    scores: np.ndarray  # [M], true, in [1, 10]
    references: Sequence[str]
    distortions: Sequence[str] = ()  # "" where unknown


def resampled(splits: Sequence[Predictions], statistic: Callable[[np.ndarray, np.ndarray], float]) -> np.ndarray:
    """The mean over splits of `statistic(predicted, true)` for each of RESAMPLES resamples, [RESAMPLES].

    A resample draws as many references as the splits have together, with replacement; an image of a reference that was
    drawn c times comes c times, in every split whose test part has it. Two encoders on the same splits meet the same
    draws. nan where a split's resample has no correlation, and all of them for fewer than LEAST_REFERENCES.
    """
    names = sorted(set().union(*(split.references for split in splits)))
    values = np.full((RESAMPLES, len(splits)), np.nan)
    if len(names) < LEAST_REFERENCES:
        return values.mean(axis=1)
    number = {name: i for i, name in enumerate(names)}
    of_images = [np.array([number[name] for name in split.references]) for split in splits]
    rng = np.random.default_rng(0)
    for row in values:
        counts = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))  # [references]
        for i, (split, references) in enumerate(zip(splits, of_images, strict=True)):
            drawn = np.repeat(np.arange(len(references)), counts[references])
            if len(drawn) > 1:
                row[i] = statistic(split.predicted[drawn], split.scores[drawn])
    return values.mean(axis=1)


def interval(values: np.ndarray) -> list[float]:
    """[low, high] between which LEVEL of the resamples lie (the percentile interval); nan where none is a number."""
    values = values[np.isfinite(values)]
    if not len(values):
        return [float("nan")] * 2
    return np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()


def p_value(differences: np.ndarray) -> float:
    """Two-sided, of the hypothesis that two encoders are equal, from their resampled differences [resamples].

    Twice the share of resamples on the other side of 0, one resample added so that it is never 0; nan without any.
    """
    values = differences[np.isfinite(differences)]
    if not len(values):
        return float("nan")
    smaller = min((values <= 0).sum(), (values >= 0).sum())
    return min(1.0, 2 * (smaller + 1) / (len(values) + 1))
