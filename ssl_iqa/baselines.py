"""Baselines without deep pretraining: BRISQUE with a support vector regressor (Table 3), and the mean of each class."""

import importlib.util
from collections.abc import Sequence
from itertools import product

import numpy as np
from torch import Tensor

from ssl_iqa import runs
from ssl_iqa.brisque import SMALLEST, brisque_features
from ssl_iqa.metrics import srocc
from ssl_iqa.sets import LabeledSet
from ssl_iqa.views import LabeledPictures
from ssl_iqa.workers import make_loader

Parts = dict[str, list[int]]
"""The indices of the pictures in a set's `train`, `val` and `test` part."""

# What is tried for the regressor, in this order: the penalty C, in score points, and its kernel exp(-gamma |x - x'|^2).
PENALTIES = (1, 4, 16, 64, 256)
GAMMAS = (1 / 256, 1 / 64, 1 / 16, 1 / 4)

BRISQUE, CLASS_MEAN = NAMES = ("brisque", "class-mean")


def check(name: str, labeled: LabeledSet) -> None:
    """Raises ValueError where a baseline of NAMES cannot be had for a set: told before the work, not amid it."""
    if name == CLASS_MEAN and not (labeled.distortions and labeled.levels):
        raise ValueError(f"{labeled.name}: its pictures' distortions and levels are not known; class means need both")
    if name == BRISQUE and importlib.util.find_spec("sklearn") is None:
        wanted = "pip install 'ssl_iqa[baselines]'"
        raise ValueError(f"brisque: its support vector regressor is scikit-learn's: {wanted}")


class BrisqueFeatures(LabeledPictures):
    """The same pictures' features: (index, float64 [36] or None where a picture cannot be used)."""

    def __getitem__(self, place: int) -> tuple[int, Tensor | None]:
        index, picture = super().__getitem__(place)
        if picture is None or min(picture.shape[1:]) < SMALLEST:
            return index, None
        return index, brisque_features(picture / 255)


def brisque_of(labeled: LabeledSet, workers: int) -> np.ndarray:
    """BRISQUE's features of a set's whole pictures, float64 [M, 36].

    A picture that cannot be read, or has fewer than 16 pixels a side, has a row of NaN. `workers` processes share the
    pictures; with 0 this one makes all.
    """
    features = np.full((len(labeled.paths), 36), np.nan)
    pictures = BrisqueFeatures(labeled, range(len(labeled.paths)))
    batches = make_loader(pictures, workers, list, batch_size=25)
    for batch in runs.bar(batches, "BRISQUE's features"):
        for index, row in batch:
            if row is not None:
                features[index] = row.numpy()
    return features


def svr_predictions(features: np.ndarray, scores: Sequence[float], parts: Parts) -> np.ndarray:
    """Scores of the test part's pictures [len(test)], by a support vector regressor fitted to the training part.

    `features` [M, F] are scaled so that the training part's lie in [-1, 1]. The regressor's kernel is Gaussian, its
    epsilon 0.1 score points; of PENALTIES and GAMMAS the pair with the best SROCC on the validation part is taken, the
    first of equal ones. Pictures with NaN among their features are left out of training and validation, and get NaN in
    the test. 6,000 training, 2,000 validation and 2,000 test pictures of 36 features take some 100 seconds on one core.

    Raises ValueError for a training or validation part with fewer than two pictures that have features.
    """
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler
    from sklearn.svm import SVR

    scores = np.asarray(scores, dtype=np.float64)
    usable = {part: [i for i in indices if not np.isnan(features[i]).any()] for part, indices in parts.items()}
    for part in ("train", "val"):
        if len(usable[part]) < 2:
            raise ValueError(f"{len(usable[part])} pictures of the {part} part have features; two or more are wanted")
    train, val, test = (usable[part] for part in ("train", "val", "test"))

    best, best_srocc = None, -np.inf
    for penalty, gamma in runs.bar([*product(PENALTIES, GAMMAS)], "regressors"):
        regressor = make_pipeline(MinMaxScaler((-1, 1)), SVR(kernel="rbf", C=penalty, gamma=gamma, cache_size=500))
        regressor.fit(features[train], scores[train])
        val_srocc = np.nan_to_num(srocc(regressor.predict(features[val]), scores[val]), nan=-2)  # NaN: all equal
        if val_srocc > best_srocc:
            best, best_srocc = regressor, val_srocc

    predicted = np.full(len(scores), np.nan)
    if test:
        predicted[test] = best.predict(features[test])
    return predicted[parts["test"]]


def class_mean_predictions(labeled: LabeledSet, parts: Parts) -> np.ndarray:
    """Scores of the test part's pictures [len(test)]: the mean of the training scores of their distortion and level.

    An upper mark rather than a rival: it is told the class, and never looks at a picture. Where the training part lacks
    a class it is the mean of the distortion's other levels, and without any of these that of all training pictures.

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
