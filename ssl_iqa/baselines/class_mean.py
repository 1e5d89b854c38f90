"""A baseline that never looks at an image: the mean score of each distortion class."""

import numpy as np

from ssl_iqa.baselines import Parts
from ssl_iqa.data.labeled import LabeledSet


def class_mean_predictions(labeled: LabeledSet, parts: Parts) -> np.ndarray:
    """Scores of the test part's images [len(test)]: the mean of the training scores of their distortion and level.

    An upper mark rather than a rival: it is told the class, and never looks at an image. Where the training part lacks
    a class it is the mean of the distortion's other levels, and without any of these that of all training images.

    Takes sets that state both, see `check`.
    """
    classes = list(zip(labeled.distortions, labeled.levels, strict=True))
    scores_of: dict[tuple, list[float]] = {}  # by (distortion, level), by (distortion,) and by ()
    for i in parts["train"]:
        for group in (classes[i], classes[i][:1], ()):
            scores_of.setdefault(group, []).append(labeled.scores[i])
    means = {group: np.mean(scores) for group, scores in scores_of.items()}
    groups = [(classes[i], classes[i][:1], ()) for i in parts["test"]]
    return np.array([next(means[group] for group in each if group in means) for each in groups])
