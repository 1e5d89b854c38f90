"""DIIVINE, one of the conventional methods of Table 3: 88 numbers of a steerable pyramid for `regressor` to learn from.

Moorthy, Bovik, "Blind Image Quality Assessment: From Natural Scene Statistics to Perceptual Quality", IEEE Transactions
on Image Processing, 2011. There a classifier first names the distortion, of five, and a regressor for each of them
gives the score; here, as in the comparison that the paper quotes (DeepFL-IQA's), one regressor serves all. The features
are those of its authors' MATLAB code, but for what docs/decisions.md names. The pyramid is written out because
pyrtools, which has it, is wrong for odd sides.
"""

from collections.abc import Iterable
from functools import partial
from itertools import combinations
from math import ceil, comb, pi

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_iqa.baselines import usable
from ssl_iqa.baselines.brisque import fit_gaussian, to_gray

SCALES, ORIENTATIONS = 2, 6
GUARD = 16  # coefficients left out at each border of a finest subband, besides the outermost; of a coarse one half
SMALLEST = 60  # pixels a side: of the coefficients that are left two are 25 apart, the largest of DISTANCES
DISTANCES = torch.arange(1, 26, 4, dtype=torch.float64)  # of coefficients, for their correlation
POWERS = torch.vander(DISTANCES, 4)  # [7, 4], the highest power first
BINS = 100
C2 = (0.03 * 255) ** 2  # SSIM's
WINDOW = torch.exp(-(torch.arange(-5.0, 6, dtype=torch.float64) ** 2) / (2 * 1.5**2))
WINDOW /= WINDOW.sum()
TINY = torch.finfo(torch.float64).tiny  # in place of a denominator of 0


def diivine_features(image: Tensor) -> Tensor:
    """The statistics of an image, RGB [3, H, W] in [0, 1], 60 pixels a side or more, on the CPU: float64 [88].

    Of the subbands, the finest scale first: f1 to f24, variance of each, then shape of its generalized Gaussian, both
    normalized; f25 to f31, shape over both scales, of each orientation and of all; f32 to f43, structural correlation
    of each, not normalized, with the high-pass residual. Of the finest scale's, normalized: f44 to f73, spatial
    correlation of each; f74 to f88, structural correlation of every two.
    """
    high_pass, *bands = steerable_pyramid(to_gray(image[None])[0])
    parents = F.interpolate(bands[1][None], high_pass.shape, mode="bicubic", antialias=True)[0]  # MATLAB's imresize
    finest, coarse = divisively_normalized(bands[0], GUARD, parents), divisively_normalized(bands[1], GUARD // 2)

    shapes, variances = zip(*(fit_gaussian(band[None]) for band in (*finest, *coarse)), strict=True)
    both = torch.cat((finest.flatten(1), coarse.flatten(1)), dim=1)  # [6, n]
    shapes += tuple(fit_gaussian(x.view(1, 1, -1))[0] for x in (*both, both))
    across_scales = structural_correlations([*bands[0], *parents, high_pass], ((i, -1) for i in range(12)))
    spatial = [spatial_correlation(band) for band in finest]
    across_orientations = structural_correlations(finest, combinations(range(ORIENTATIONS), 2))
    return torch.cat((*variances, *shapes, across_scales, *spatial, across_orientations))


usable_features = partial(usable, diivine_features, 88, smallest=SMALLEST)


def steerable_pyramid(gray: Tensor) -> list[Tensor]:
    """Gray levels [H, W] -> the high-pass residual [H, W], and each scale's subbands, [6, H, W] and [6, H / 2, W / 2].

    Simoncelli, Freeman, ICIP 1995, made in the frequency domain, where the squares of all filters sum to 1. Halves are
    rounded up. As in the authors' library a subsampled scale is not divided by 4, which its inverse transform lacks.
    """
    spectrum = torch.fft.fft2(gray)
    y, x = (2 * torch.fft.fftfreq(n, dtype=torch.float64) for n in gray.shape)  # Nyquist's frequency is 1
    radius, angle = torch.hypot(y[:, None], x), torch.atan2(y[:, None], x)  # [H, W]
    directions = torch.arange(ORIENTATIONS, dtype=torch.float64)[:, None, None] * pi / ORIENTATIONS
    order = ORIENTATIONS - 1
    gain = 2**order / (ORIENTATIONS * comb(2 * order, order)) ** 0.5  # squares over orientations sum to 1

    high, low = high_and_low(radius)
    pyramid = [torch.fft.ifft2(spectrum * high).real]
    spectrum = spectrum * low
    for scale in range(1, SCALES + 1):
        high, low = high_and_low(radius * 2**scale)
        oriented = gain * torch.cos(angle - directions) ** order  # [6, h, w]
        pyramid.append(torch.fft.ifft2((-1j) ** order * spectrum * high * oriented).real)
        halves = (ceil(n / 2) for n in radius.shape)
        rows, columns = ((torch.arange(n) + n // 2) % n - n // 2 for n in halves)  # frequencies 0, 1, .. -2, -1
        spectrum, radius, angle = (each[rows][:, columns] for each in (spectrum * low, radius, angle))
    return [F.hardshrink(bands, 1e-9) for bands in pyramid]  # what rounding leaves is 0


def high_and_low(radius: Tensor) -> tuple[Tensor, Tensor]:
    """The high-pass and the low-pass filter, which change over in the octave below 1."""
    octaves = torch.log2(radius).clamp(-1, 0)
    return torch.cos(pi / 2 * octaves), torch.sin(-pi / 2 * octaves)


def divisively_normalized(bands: Tensor, guard: int, parents: Tensor | None = None) -> Tensor:
    """A scale's subbands [6, h, w] over the z of a Gaussian scale mixture, without guard + 1 at each border.

    Of a coefficient's N neighbors Y the most likely z is (Y' C^-1 Y / N)^1/2: the 3 x 3 around it, those at its place
    in the scale's other subbands and in its parent, [6, h, w], where there is one. What is 0 stays 0.
    """
    centers, normalized = bands[:, 1:-1, 1:-1], []
    for i, band in enumerate(bands):
        around = band.unfold(0, 3, 1).unfold(1, 3, 1).flatten(2).movedim(2, 0)  # [9, h - 2, w - 2]
        parent = [] if parents is None else [parents[i : i + 1, 1:-1, 1:-1]]
        neighbors = torch.cat((around, centers[:i], centers[i + 1 :], *parent)).flatten(1)  # [N, n]
        covariance = neighbors @ neighbors.T / neighbors.shape[1]
        z = (neighbors * (torch.linalg.pinv(covariance, hermitian=True) @ neighbors)).mean(0).clamp_min(TINY).sqrt()
        g = (centers[i] - centers[i].mean()) / z.view_as(centers[i])
        normalized.append(g[guard:-guard, guard:-guard])
    return torch.stack([g - g.mean() for g in normalized])


def structural_correlations(bands: Iterable[Tensor], pairs: Iterable[tuple[int, int]]) -> Tensor:
    """SSIM's contrast and structure of pairs of subbands [h, w], by their indices, its mean over places: [pairs]."""
    bands = torch.stack([*bands])
    means = window_means(bands)
    variances = window_means(bands**2) - means**2
    correlations = []
    for i, j in pairs:
        covariance = window_means(bands[i, None] * bands[j])[0] - means[i] * means[j]
        correlations.append(((2 * covariance + C2) / (variances[i] + variances[j] + C2)).mean())
    return torch.stack(correlations)


def window_means(x: Tensor) -> Tensor:
    """[N, h, w] -> [N, h - 10, w - 10]."""
    first, *others = WINDOW.tolist()
    for _ in range(2):  # rows, then columns
        n = x.shape[1] - 10
        mean = first * x[:, :n]
        for k, weight in enumerate(others, 1):
            mean.add_(x[:, k : k + n], alpha=weight)  # a sum of products would take memory anew for each
        x = mean.transpose(1, 2)
    return x


def spatial_correlation(band: Tensor) -> Tensor:
    """Correlation of coefficients with the eight neighbors at each of DISTANCES: [h, w] -> [5].

    The cubic polynomial of the distance that fits it best, the highest power first, and the sum of squared errors.
    """
    low, high = band.aminmax()
    bins = ((band - low) / (high - low).clamp_min(TINY) * BINS).floor().clamp_max(BINS - 1)
    correlations = []
    for d in DISTANCES.int().tolist():
        pairs = [(bins[d:], bins[:-d]), (bins[:, d:], bins[:, :-d])]
        pairs += [(bins[d:, d:], bins[:-d, :-d]), (bins[d:, :-d], bins[:-d, d:])]
        sums = [(x.sum() + y.sum(), (x**2).sum() + (y**2).sum(), (x * y).sum()) for x, y in pairs]
        total, squares, products = (torch.stack(each).sum() for each in zip(*sums, strict=True))
        n = sum(x.numel() for x, _ in pairs)  # each is the other's neighbor: 2 n values
        mean = total / (2 * n)
        correlations.append((products / n - mean**2) / (squares / (2 * n) - mean**2).clamp_min(TINY))
    polynomial = torch.linalg.pinv(POWERS) @ torch.stack(correlations)
    error = ((POWERS @ polynomial - torch.stack(correlations)) ** 2).sum()
    return torch.cat((polynomial, error[None]))
