"""BLIINDS-II, one of the conventional methods of Table 3: 24 numbers of DCT blocks, for `regressor` to learn from.

Saad, Bovik, Charrier, "Blind Image Quality Assessment: A Natural Scene Statistics Approach in the DCT Domain", IEEE
Transactions on Image Processing, 2012. What it leaves open is as in its authors' MATLAB code: 0 beyond the border,
which coefficients are of a band and of an orientation, what keeps quotients finite.
"""

from functools import partial
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_iqa.baselines import usable
from ssl_iqa.baselines.brisque import rho, to_gray

SCALES, EPSILON = 3, 1e-8
# Of a 5 x 5 block, row by row: three radial bands (some coefficients are of none), then three orientations.
BANDS = ("01100 11000 10000 00000 00000", "00011 00111 01110 11100 11000", "00000 00000 00001 00011 00111")
ORIENTATIONS = ("01111 00111 00001 00000 00000", "00000 01000 00110 00111 00011", "00000 10000 11000 11000 11100")
SHAPES = torch.arange(30, 10_001, dtype=torch.float64) / 1000
BEYOND = 11.0  # the shape of coefficients that are more even than any of SHAPES, such as those of a flat block

_n = torch.arange(5, dtype=torch.float64)
DCT = torch.cos(torch.pi / 10 * (2 * _n + 1) * _n[:, None]) * (2 / 5) ** 0.5  # [frequency, pixel], orthonormal
DCT[0] /= 2**0.5
_x = torch.exp(-2 * torch.arange(-1.0, 2, dtype=torch.float64) ** 2)  # standard deviation 1/2
GAUSSIAN = torch.outer(_x, _x) / torch.outer(_x, _x).sum()  # [3, 3]


def bliinds_features(image: Tensor) -> Tensor:
    """The statistics of an image, RGB [3, H, W] in [0, 1], on the CPU: float64 [24], 8 a scale.

    A scale's are, each as the mean over all blocks and over the worst tenth: the coefficient of frequency variation
    (worst: the largest), the shape of a generalized Gaussian (the smallest), the ratio of the bands' energies and the
    variance of the variation over orientations (the largest). A scale is the one before, smoothed, every second pixel.
    """
    gray = to_gray(image[None])[0]  # [H, W]
    features = []
    for _ in range(SCALES):
        features.append(scale_features(gray))
        gray = F.conv2d(gray[None, None], GAUSSIAN[None, None], padding=1)[0, 0, 1::2, 1::2]
    return torch.cat(features)


def scale_features(gray: Tensor) -> Tensor:
    """Gray levels [H, W] -> [8], of blocks of 5 x 5 pixels, 3 apart."""
    height, width = gray.shape
    padded = F.pad(gray, (1, 1 + -width % 3, 1, 1 + -height % 3))
    blocks = padded.unfold(0, 5, 3).unfold(1, 5, 3).flatten(0, 1)  # [N, 5, 5]
    c = (DCT @ blocks @ DCT.T).flatten(1)  # [N, 25]
    by_orientation = torch.stack([variation(c[:, places(mask)]) for mask in ORIENTATIONS], dim=1)  # [N, 3]
    largest = [variation(c[:, 1:]), energy_ratio(c), by_orientation.var(dim=1)]
    tenth = ceil(len(c) / 10)
    means = [torch.stack((x.mean(), x.topk(tenth).values.mean())) for x in largest]
    shapes = shape(c[:, 1:])
    means.insert(1, torch.stack((shapes.mean(), shapes.topk(tenth, largest=False).values.mean())))
    return torch.cat(means)


def places(mask: str) -> list[int]:
    return [i for i, digit in enumerate(mask.replace(" ", "")) if digit == "1"]


def variation(c: Tensor) -> Tensor:
    """Standard deviation over mean of the magnitudes of coefficients: [N, n] -> [N]."""
    return c.abs().std(dim=1) / (c.abs().mean(dim=1) + EPSILON)


def energy_ratio(c: Tensor) -> Tensor:
    """How far a band's variance is from that of the bands below it, the mean for two bands: [N, 25] -> [N]."""
    low, middle, high = (c[:, places(mask)].var(dim=1) for mask in BANDS)
    below = (low + middle) / 2
    return ((high - below).abs() / (high + below + EPSILON) + (middle - low).abs() / (high + low + EPSILON)) / 2


def shape(c: Tensor) -> Tensor:
    """Of the generalized Gaussian with the variance and mean magnitude of coefficients: [N, n] -> [N]."""
    deviation = (c - c.mean(dim=1, keepdim=True)).abs().mean(dim=1)
    quotient = c.var(dim=1) / (deviation**2 + EPSILON)
    index = torch.searchsorted(rho(SHAPES), 1 / quotient, right=True) - 1  # the last with E x^2 / (E|x|)^2 not below
    return torch.where(index < len(SHAPES) - 1, SHAPES[index.clamp_min(0)], BEYOND)


usable_features = partial(usable, bliinds_features, 8 * SCALES)
