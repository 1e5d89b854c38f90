"""CONTRIQUE's evaluation (Table 3): ridge regression on features of an image at full and half size.

As in the authors' code (pavancm/CONTRIQUE): the frozen encoder sees the whole image and the same at half size, bicubic;
both features, of length 1 each, stand side by side, 4096 numbers for ResNet-50, and are not standardized; the constant
is not penalized. The penalty is 0.1 in their code unless another is given; here the validation part chooses.

Otherwise here: images pass the encoder with ImageNet's normalization as everywhere in this project, theirs without.
"""

import sys
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_iqa.data import views
from ssl_iqa.evaluation.features import Features, predict
from ssl_iqa.evaluation.metrics import srocc
from ssl_iqa.evaluation.task import Best, Task
from ssl_iqa.model import Encoder

PENALTIES = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)  # tried in this order


class TwoSizes(nn.Module):
    """An encoder's features of whole images at full and half size, of length 1 each: [B, 3, H, W] to [B, 2d]."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.arch = f"{encoder.arch} at full and half size"  # names kept features: `Task.digest`

    def forward(self, images: Tensor) -> Tensor:
        z = [self.encoder(x).float() for x in (images, halved(images))]
        return torch.cat([F.normalize(part, dim=1) for part in z], dim=1)


def halved(images: Tensor) -> Tensor:
    """Images in [0, 1] at half size, rounded down, as a file holds them: [B, 3, H, W] to [B, 3, H // 2, W // 2].

    Those that would be too small for the encoder are continued by reflection.
    """
    small = F.interpolate(images, [side // 2 for side in images.shape[2:]], mode="bicubic", antialias=True)
    small = views.to_float(views.to_bytes(small.clamp(0, 1)))
    return views.pad_to(small.flatten(0, 1), views.LEAST).unflatten(0, images.shape[:2])


class Ridge(nn.Linear):
    """y_hat [N, 1] of features [N, F], in float64 and on the CPU, since some accelerators have no float64."""

    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z.cpu().double())


def fit_ridge(z: Tensor, y: Tensor, penalties: Sequence[float]) -> list[Ridge]:
    """For each penalty the regressor of features [N, F] with the least sum of squared errors + penalty |weight|^2.

    `z` and the scores `y` [N] are of float64.
    """
    mean_z, mean_y = z.mean(dim=0), y.mean()
    z, y = z - mean_z, (y - mean_y)[:, None]
    is_dual = len(z) < z.shape[1]  # the smaller system gives the same: (Z'Z + c)^-1 Z' = Z' (ZZ' + c)^-1
    gram = z @ z.T if is_dual else z.T @ z
    regressors = []
    for penalty in penalties:
        factor = torch.linalg.cholesky(gram + penalty * torch.eye(len(gram), dtype=gram.dtype))
        weight = z.T @ torch.cholesky_solve(y, factor) if is_dual else torch.cholesky_solve(z.T @ y, factor)  # [F, 1]
        regressor = Ridge(len(weight), 1, dtype=torch.float64).requires_grad_(False)
        regressor.weight.copy_(weight.T)
        regressor.bias.copy_(mean_y - mean_z @ weight)
        regressors.append(regressor)
    return regressors


def choose_ridge(features: Features, task: Task) -> tuple[Best, Ridge, list[int], np.ndarray]:
    """The penalty with the best validation SROCC, the first of equal ones, in place of an epoch; its regressor, fitted
    to the training part; the test part's images that can be read; and their y_hat [M].
    """
    scores = torch.tensor(task.labeled.scores, dtype=torch.float64)
    train, val, test = ([i for i in task.parts[part] if features.readable[i]] for part in ("train", "val", "test"))
    if not features.z.isfinite().all():
        sys.exit("error: a feature is not finite; the encoder's weights may be damaged")
    fitted = dict(zip(PENALTIES, fit_ridge(features.z[train, 0].cpu().double(), scores[train], PENALTIES), strict=True))
    predicted = {penalty: predict(regressor, features.z[val]) for penalty, regressor in fitted.items()}
    sroccs = {penalty: srocc(y_hat, scores[val]) for penalty, y_hat in predicted.items()}
    penalty = max(PENALTIES, key=sroccs.__getitem__)
    residuals = (predicted[penalty] - scores[val]).abs()
    best = Best(sroccs[penalty], f"penalty {penalty:g}", residuals=residuals)
    return best, fitted[penalty], test, predict(fitted[penalty], features.z[test]).numpy()
