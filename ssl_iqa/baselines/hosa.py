"""HOSA, one of the conventional methods of Table 3: 14,700 numbers of a codebook, for `regressor` to learn from.

Xu, Ye, Li, Du, Liu, Doermann, "Blind Image Quality Assessment Based on High Order Statistics Aggregation", IEEE
Transactions on Image Processing, 2016; what it leaves open is as in its authors' MATLAB code. Otherwise here: the
codebook's images (see `patches`), C of the regressor, and a codeword that a single patch is assigned to, whose
difference that code takes times the patch's weight.
"""

from functools import partial
from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_iqa.baselines import usable
from ssl_iqa.baselines.brisque import to_gray
from ssl_iqa.baselines.patches import BATCH, SIDE, Codebook, learn_codebook, normalized, whitened

CODEWORDS, NEAREST = 100, 5
PATCHES = 10_000  # of each image, about
BETA = 0.05  # a codeword c has the weight exp(-BETA |x - c|^2) for patch x
POWER = 0.2


def learn() -> Codebook:
    """Beside the codewords the `variance` and the `skewness` of the patches nearest to each, [K, 49]."""
    codebook, x = learn_codebook(CODEWORDS)
    nearest = torch.cat([torch.cdist(part, codebook["codewords"]).argmin(dim=1) for part in x.split(BATCH)])
    members = (x[nearest == k].double() for k in range(CODEWORDS))
    statistics = [moments(each.new_full((len(each), 1), 1 / max(1, len(each))), each) for each in members]
    _, variance, skewness = (torch.cat(rows).float() for rows in zip(*statistics, strict=True))
    return codebook | {"variance": variance, "skewness": skewness}


def moments(weights: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, variance and skewness of patches [n, 49] with the weights [n, K], whose sums are 1: [K, 49] each."""
    mean, second, third = (weights.T @ x**n for n in (1, 2, 3))
    variance = (second - mean**2).clamp_min(0)
    return mean, variance, (third - 3 * mean * second + 2 * mean**3) / (variance**1.5 + 1e-4)


def hosa_features(codebook: Codebook, image: Tensor) -> Tensor:
    """Of an image, RGB [3, H, W] in [0, 1], on the CPU: float32 [3 x K x 49] for K codewords, of length 1.

    Patches of a regular grid belong to their five nearest codewords, by weights. How the mean, the variance and the
    skewness of a codeword's patches differ from the codebook's, to the power of 0.2 with its sign; 0 where no patch
    belongs to it, and 0 for variance and skewness where all are alike.
    """
    gray = to_gray(image[None])[0]
    step = max(1, isqrt(gray.numel() // PATCHES))
    windows = gray.unfold(0, SIDE, step).unfold(1, SIDE, step).flatten(0, 1)  # [n, 7, 7]
    x = whitened(normalized(windows), codebook)
    distances, nearest = torch.cdist(x, codebook["codewords"].to(x)).topk(NEAREST, largest=False)  # [n, 5]
    weights = torch.softmax(-BETA * distances**2, dim=1)
    weights = x.new_zeros(len(x), len(codebook["codewords"])).scatter(1, nearest, weights)  # [n, K]
    sums = weights.sum(dim=0)
    mean, variance, skewness = moments(weights / sums.where(sums > 0, 1), x)
    known = (codebook[name] for name in ("codewords", "variance", "skewness"))
    differences = torch.stack([here - there for here, there in zip((mean, variance, skewness), known, strict=True)])
    differences[:, sums == 0] = 0
    differences[1:, variance.sum(dim=1) <= 1e-8] = 0
    return F.normalize((differences.sign() * differences.abs() ** POWER).flatten(), dim=0).float()


def usable_features(codebook: Codebook, image: Tensor | None) -> Tensor:
    return usable(partial(hosa_features, codebook), 3 * codebook["codewords"].numel(), image)
