"""How far a score may be off: split-conformal intervals (Lei et al. 2018, Section 2.2) from the validation part."""

import math
from collections.abc import Sequence

import numpy as np

COVERAGE = 0.9  # of the interval that is given unasked


def margin(residuals: Sequence[float] | np.ndarray, coverage: float = COVERAGE) -> float:
    """Half width: score +- margin holds the true score of a share `coverage` of new images, at least.

    It is the k-th smallest of the n absolute `residuals` of images that were not trained with, k = ceil((n + 1)
    coverage); infinite where there are too few for that share. Exact for new images drawn as these were. Two
    things are less than exact here: the validation part has also chosen the epoch, and images of one reference image
    are not independent. So the share is measured on the test part, too (`coverage` in results.json).

    Raises ValueError for a coverage that is not between 0 and 1.
    """
    if not 0 < coverage < 1:
        raise ValueError(f"coverage must be more than 0 and less than 1, got {coverage}")
    k = math.ceil((len(residuals) + 1) * coverage - 1e-9)  # 0.9 * 10 is a little more than 9 in floating point
    return math.inf if k > len(residuals) else float(np.sort(np.asarray(residuals))[k - 1])
