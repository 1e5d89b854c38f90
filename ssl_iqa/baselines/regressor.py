"""The support vector regressor of Table 3's conventional methods, and their features of a set's images."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_iqa.baselines import Parts
from ssl_iqa.data.in_order import LabeledImages
from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.engine import console
from ssl_iqa.engine.workers import make_loader
from ssl_iqa.evaluation.metrics import srocc

# The settings, tried in this order: the penalty C, in score points, of kernels that are 1 at most (a linear one is the
# mean of products x x'), and gamma of the Gaussian kernel exp(-gamma |x - x'|^2).
PENALTIES = (1, 4, 16, 64, 256)
GAMMAS = (1 / 256, 1 / 64, 1 / 16, 1 / 4)

Method = Callable[[Tensor | None], Tensor]
"""The features [F] of an image, bytes [3, H, W]; NaN for None, which could not be read, and for unusable images."""


def set_features(labeled: LabeledSet, method: Method, workers: int) -> dict[str, Tensor]:
    """{"features": a method's of all of a set's whole images, [M, F]}, made by as many processes as `workers` says."""
    images = LabeledImages(labeled, range(len(labeled.paths)))
    batches = make_loader(images, workers, partial(_features, method), batch_size=25)
    return {"features": torch.cat([*console.bar(batches, "features of images")])}


def _features(method: Method, batch: list[tuple[int, Tensor | None]]) -> Tensor:
    return torch.stack([method(image) for _, image in batch])


def svr_predictions(
    features: np.ndarray, scores: Sequence[float], parts: Parts, kernel: str = "gaussian"
) -> np.ndarray:
    """Scores of the test part's images [len(test)], by a support vector regressor fitted to the training part.

    `features` [M, F] are scaled so that the training part's lie in [-1, 1]. The kernel is "gaussian" or, for features
    by the thousands, "linear"; epsilon is 0.1 score points. Of PENALTIES, and of GAMMAS for a Gaussian, that with the
    best SROCC on the validation part is taken, the first of equal ones. Images with NaN among their features are left
    out of training and validation, and get NaN in the test. 6,000 training, 2,000 validation and 2,000 test images of
    36 features take some 100 seconds on one core.

    Raises ValueError where no training image, or fewer than two validation images, have features.
    """
    from sklearn.preprocessing import MinMaxScaler
    from sklearn.svm import SVR

    scores = np.asarray(scores, dtype=np.float64)
    usable = ~np.isnan(features).any(axis=1)
    train, val, test = ([i for i in parts[part] if usable[i]] for part in ("train", "val", "test"))
    if not train or len(val) < 2:
        got = f"{len(train)} and {len(val)}: the others are unreadable or too small"
        raise ValueError(f"training and validation part must have at least 1 and 2 images with features, got {got}")
    x = MinMaxScaler((-1, 1)).fit(features[train]).transform(features)  # [M, F]
    if kernel == "linear":
        x = x @ x[train].T / x.shape[1]  # [M, len(train)], once for all penalties
        svrs = [SVR(kernel="precomputed", C=penalty, cache_size=500) for penalty in PENALTIES]
    else:
        svrs = [SVR(C=penalty, gamma=gamma, cache_size=500) for penalty, gamma in product(PENALTIES, GAMMAS)]

    def val_srocc(svr: Any) -> float:
        predicted = svr.fit(x[train], scores[train]).predict(x[val])
        return np.nan_to_num(srocc(predicted, scores[val]), nan=-2)  # NaN: all equal

    best = max(console.bar(svrs, "regressors"), key=val_srocc)
    predicted = np.full(len(scores), np.nan)
    if test:
        predicted[test] = best.predict(x[test])
    return predicted[parts["test"]]
