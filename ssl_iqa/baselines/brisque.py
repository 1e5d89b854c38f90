"""BRISQUE, one of the conventional methods of Table 3: 36 features made by hand, and a regressor that learns from them.

A. Mittal, A. K. Moorthy, A. C. Bovik, "No-Reference Image Quality Assessment in the Spatial Domain", IEEE Transactions
on Image Processing 21(12), 2012: the equations and Table I named below are that paper's. What it leaves open is as in
its authors' code, which is in MATLAB:

- the image is 0.299 R + 0.587 G + 0.114 B on the scale 0 to 255, rounded to whole gray levels, and C of Eq. 1 is 1;
- beyond its border the image is 0 for the window, and the last pixel's neighbor is the first one;
- the image at half size is made by imresize: bicubic, the kernel widened against aliasing, mirrored at the border;
- the shape of a distribution is looked up, from 0.2 to 10 in steps of 0.001.

One thing is not: a gray level less than 1e-9 from its local mean is taken to be equal to it. In flat parts that code,
and piq's, count what rounding has left as samples below or above 0 (tests/external/test_brisque.py).
"""

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_iqa.baselines import Parts
from ssl_iqa.data.datasets import LabeledPictures
from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.engine import console
from ssl_iqa.engine.workers import make_loader
from ssl_iqa.evaluation.metrics import srocc

SMALLEST = 16  # pixels a side: at half size the 7 x 7 window still fits into the image
NEIGHBORS = ((0, 1), (1, 0), (1, 1), (-1, 1))  # H, V, D1, D2: how far down and to the right the image is shifted
ROUNDING = 1e-9  # gray levels; a difference below is 0 but for rounding

# The regressor's settings, tried in this order: the penalty C, in score points, and its kernel exp(-gamma |x - x'|^2).
PENALTIES = (1, 4, 16, 64, 256)
GAMMAS = (1 / 256, 1 / 64, 1 / 16, 1 / 4)

# w of Eqs. 2 and 3 is the outer product of this and itself: K = L = 3 pixels are 3 standard deviations, the sum is 1.
WINDOW = torch.exp(-(torch.arange(-3.0, 4, dtype=torch.float64) ** 2) / (2 * (7 / 6) ** 2))
WINDOW /= WINDOW.sum()

# Keys' cubic (a = -1/2) at 7/4, 5/4, 3/4 and 1/4, halved: how far, in pixels of half size, the pixels to a side are.
CUBIC = torch.tensor((-0.0234375, -0.0703125, 0.2265625, 0.8671875), dtype=torch.float64) / 2
HALVING = torch.cat((CUBIC, CUBIC.flip(0)))


def rho(shape: Tensor) -> Tensor:
    """(E|x|)^2 / E x^2 of a generalized Gaussian, which rises with its shape."""
    return torch.exp(2 * torch.lgamma(2 / shape) - torch.lgamma(1 / shape) - torch.lgamma(3 / shape))


SHAPES = torch.arange(200, 10_001, dtype=torch.float64) / 1000
RHOS = rho(SHAPES)


def brisque_features(image: Tensor) -> Tensor:
    """Table I: of an image, RGB [3, H, W] in [0, 1], float64 [36]; of several, [B, 3, H, W], float64 [B, 36].

    f1 to f18 are of the image, f19 to f36 of the image at half size: shape and variance (alpha, sigma^2) of the
    MSCN coefficients, then for each of four neighbors (H, V, D1, D2) shape, mean, left and right variance (nu, eta,
    sigma_l^2, sigma_r^2) of the products of a coefficient and its neighbor's. They are finite for every image: where
    all coefficients are 0, the variances are 0 and the shape is the most peaked one, 0.2.

    Raises ValueError for tensors of another shape and for images of fewer than 16 pixels a side.
    """
    if image.ndim not in (3, 4) or image.shape[-3] != 3 or min(image.shape[-2:]) < SMALLEST:
        size = f"at least {SMALLEST} pixels a side"
        raise ValueError(f"image must be [3, H, W] or [B, 3, H, W] with {size}, got {list(image.shape)}")
    gray = to_gray(image.reshape(-1, *image.shape[-3:]))  # [B, H, W]
    features = torch.cat((scene_statistics(gray), scene_statistics(half_size(gray))), dim=1)  # [B, 36]
    return features.view(*image.shape[:-3], 36)


def to_gray(image: Tensor) -> Tensor:
    """RGB in [0, 1] as whole gray levels, 0 to 255: [B, 3, H, W] -> float64 [B, H, W]."""
    r, g, b = (image.double() * 255).round().unbind(1)  # whole levels: every device rounds their exact sum alike
    return ((299 * r + 587 * g + 114 * b) / 1000 + 0.5).floor()


def half_size(gray: Tensor) -> Tensor:
    """MATLAB's imresize(gray, 0.5), bicubic: [B, H, W] -> [B, ceil(H / 2), ceil(W / 2)]."""
    for _ in range(2):  # columns, then rows
        gray = torch.cat((gray[..., :3].flip(2), gray, gray[..., -4:].flip(2)), dim=2)
        gray = (gray.unfold(2, 8, 2) @ HALVING.to(gray.device)).transpose(1, 2)
    return gray


def scene_statistics(gray: Tensor) -> Tensor:
    """A scale's half of Table I: gray levels [B, H, W] -> [B, 18]."""
    coefficients = mscn(gray)
    features = fit_gaussian(coefficients)
    for neighbor in NEIGHBORS:
        features += fit_asymmetric_gaussian(coefficients * coefficients.roll(neighbor, dims=(1, 2)))
    return torch.stack(features, dim=1)


def mscn(gray: Tensor) -> Tensor:
    """Eq. 1, mean subtracted contrast normalized coefficients: gray levels [B, H, W] -> [B, H, W]."""
    mu = local_mean(gray)
    sigma = (local_mean(gray**2) - mu**2).clamp_min(0).sqrt()  # Eq. 3
    # In flat parts only rounding is left of I - mu, and would decide on which side of 0 their products are counted.
    return F.hardshrink(gray - mu, ROUNDING) / (sigma + 1)


def local_mean(gray: Tensor) -> Tensor:
    """Eq. 2: [B, H, W] -> [B, H, W]."""
    window = WINDOW.to(gray.device)
    down = F.conv2d(gray[:, None], window.view(1, 1, 7, 1), padding=(3, 0))
    return F.conv2d(down, window.view(1, 1, 1, 7), padding=(0, 3))[:, 0]


def fit_gaussian(x: Tensor) -> list[Tensor]:
    """The generalized Gaussian with E|x| and E x^2 of samples [B, H, W]: its alpha and sigma^2, [B] each."""
    variance = (x**2).mean((1, 2))
    return [nearest_shape(x.abs().mean((1, 2)) ** 2, variance), variance]


def fit_asymmetric_gaussian(x: Tensor) -> list[Tensor]:
    """The asymmetric generalized Gaussian of samples [B, H, W]: its nu, eta, sigma_l^2 and sigma_r^2, [B] each.

    sigma_l^2 and sigma_r^2 are E x^2 of the samples below and above 0. With g = sigma_l / sigma_r the distribution has
    (E|x|)^2 / E x^2 = rho(nu) (g^2 + 1)^2 / ((g^3 + 1) (g + 1)) (Lasmar, Stitou, Berthoumieu, ICIP 2009).
    """
    squares = x**2
    left, right = ((squares * side).sum((1, 2)) / side.sum((1, 2)).clamp_min(1) for side in (x < 0, x > 0))
    sigma_l, sigma_r = left.sqrt(), right.sqrt()
    mean_square = x.abs().mean((1, 2)) ** 2
    nu = nearest_shape(
        mean_square * (sigma_l**3 + sigma_r**3) * (sigma_l + sigma_r), squares.mean((1, 2)) * (left + right) ** 2
    )
    # (beta_r - beta_l) Gamma(2 / nu) / Gamma(1 / nu) with beta = sigma (Gamma(1 / nu) / Gamma(3 / nu))^(1/2)
    eta = (sigma_r - sigma_l) * rho(nu).sqrt()
    return [nu, eta, left, right]


def nearest_shape(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The one of SHAPES with rho nearest to a quotient; 0 / 0 counts as 0. [B] -> [B]."""
    quotient = numerator / denominator.clamp_min(torch.finfo(torch.float64).tiny)
    nearest = (RHOS.to(quotient.device) - quotient[:, None]).abs().argmin(dim=1)
    return SHAPES.to(quotient.device)[nearest]


class BrisqueFeatures(LabeledPictures):
    """The same images' features: (index, float64 [36] or None where an image cannot be used)."""

    def __getitem__(self, place: int) -> tuple[int, Tensor | None]:
        index, image = super().__getitem__(place)
        if image is None or min(image.shape[1:]) < SMALLEST:
            return index, None
        return index, brisque_features(image / 255)


def brisque_of(labeled: LabeledSet, workers: int) -> np.ndarray:
    """BRISQUE's features of a set's whole images, float64 [M, 36].

    An image that cannot be read, or has fewer than 16 pixels a side, has a row of NaN. `workers` processes share the
    images; with 0 this one makes all.
    """
    features = np.full((len(labeled.paths), 36), np.nan)
    images = BrisqueFeatures(labeled, range(len(labeled.paths)))
    batches = make_loader(images, workers, list, batch_size=25)
    for batch in console.bar(batches, "BRISQUE's features"):
        for index, row in batch:
            if row is not None:
                features[index] = row.numpy()
    return features


def svr_predictions(features: np.ndarray, scores: Sequence[float], parts: Parts) -> np.ndarray:
    """Scores of the test part's images [len(test)], by a support vector regressor fitted to the training part.

    `features` [M, F] are scaled so that the training part's lie in [-1, 1]. The regressor's kernel is Gaussian, its
    epsilon 0.1 score points; of PENALTIES and GAMMAS the pair with the best SROCC on the validation part is taken, the
    first of equal ones. Images with NaN among their features are left out of training and validation, and get NaN in
    the test. 6,000 training, 2,000 validation and 2,000 test images of 36 features take some 100 seconds on one core.

    Raises ValueError for a training or validation part with fewer than two images that have features.
    """
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler
    from sklearn.svm import SVR

    scores = np.asarray(scores, dtype=np.float64)
    usable = {part: [i for i in indices if not np.isnan(features[i]).any()] for part, indices in parts.items()}
    for part in ("train", "val"):
        if len(usable[part]) < 2:
            raise ValueError(f"the {part} part must have at least 2 images with features, got {len(usable[part])}")
    train, val, test = (usable[part] for part in ("train", "val", "test"))

    best, best_srocc = None, -np.inf
    for penalty, gamma in console.bar([*product(PENALTIES, GAMMAS)], "regressors"):
        regressor = make_pipeline(MinMaxScaler((-1, 1)), SVR(kernel="rbf", C=penalty, gamma=gamma, cache_size=500))
        regressor.fit(features[train], scores[train])
        val_srocc = np.nan_to_num(srocc(regressor.predict(features[val]), scores[val]), nan=-2)  # NaN: all equal
        if val_srocc > best_srocc:
            best, best_srocc = regressor, val_srocc

    predicted = np.full(len(scores), np.nan)
    if test:
        predicted[test] = best.predict(features[test])
    return predicted[parts["test"]]
