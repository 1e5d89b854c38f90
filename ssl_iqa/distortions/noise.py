"""Types 11 to 15: noise. Each takes images [B, 3, H, W], RGB in [0, 1], the level's value and a generator.

Levels are VARIANCES for intensities in [0, 1] (a density for impulse noise), not standard deviations.
"""

from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor

from .colorspace import rgb_to_ycbcr, ycbcr_to_rgb
from .filters import Draws, dct_basis, is_above, rand, randn


def white_noise(image: Tensor, variance: float, generator: Draws) -> Tensor:
    """11, sensor noise: I + n, n Gaussian of mean 0 and that variance, drawn for each sample; truncated.

    Source: KADIS-700k; as MATLAB's imnoise(I, 'gaussian', 0, variance).
    """
    return randn(image.shape, image, generator).mul_(variance**0.5).add_(image).clamp_(0, 1)


def white_noise_color_component(image: Tensor, variance: float, generator: Draws) -> Tensor:
    """12, chromatic noise: as `white_noise`, on Y, Cb and Cr (BT.601, studio range) in place of R, G and B.

    The variance is that of Y, Cb and Cr as fractions of 255. Truncated twice: as YCbCr, before the way back, and as
    RGB. Source: KADIS-700k; as imnoise on MATLAB's rgb2ycbcr.
    """
    return ycbcr_to_rgb(white_noise(rgb_to_ycbcr(image), variance, generator)).clamp_(0, 1)


def impulse_noise(image: Tensor, density: float, generator: Draws) -> Tensor:
    """13, dead samples: each sample of each channel turns 0 or 1 with probability `density`, half of them each.

    A draw u in [0, 1) for each sample: under density/2 pepper, from there to under density salt. Source: KADIS-700k;
    as MATLAB's imnoise(I, 'salt & pepper', density).
    """
    draw = rand(image.shape, image, generator)
    kept = is_above(draw, density)
    return torch.lerp(draw.ge_(density / 2), image, kept)  # 0 is pepper, 1 is salt


def multiplicative_noise(image: Tensor, variance: float, generator: Draws) -> Tensor:
    """14, speckle: I + n*I with n uniform, of mean 0 and that variance, drawn for each sample; truncated.

    Source: KADIS-700k; as MATLAB's imnoise(I, 'speckle', variance), whose n is uniform.
    """
    half_width = (3 * variance) ** 0.5
    gain = rand(image.shape, image, generator).mul_(2 * half_width).add_(1 - half_width)  # 1 + n
    return gain.mul_(image).clamp_(0, 1)


def denoise(image: Tensor, variance: float, generator: Draws) -> Tensor:
    """15, what a denoiser leaves: Gaussian noise of that variance, then a denoiser, channel by channel.

    KADIS denoises with DnCNN, whose weights cannot be shipped. A stand-in: `shrink_dct`. It leaves the same kinds of
    trace, lost texture and soft edges, but not DnCNN's own; and it is told the noise's variance, where DnCNN is not and
    leaves more of the strong levels' noise. The noise is truncated, what the denoiser leaves is not: the stretch brings
    it back, as in KADIS-700k.
    """
    return shrink_dct(white_noise(image, variance, generator), variance**0.5)


def shrink_dct(image: Tensor, sigma: float) -> Tensor:
    """Overlapping 8x8 DCT blocks (step 4), coefficients up to 3*sigma set to zero, estimates averaged.

    The threshold is Yu and Sapiro's, "DCT image denoising", IPOL 2011. [B, C, H, W] -> the same.
    """
    b, c, h, w = image.shape
    dct = dct_basis().to(image)
    two = torch.block_diag(dct, dct)  # two blocks side by side: matrices of 16 are multiplied much faster than of 8
    rows, columns = 8 * ceil((h + 4) / 8), 16 * ceil((w + 4) / 16)
    padded = F.pad(image, (4, columns - w, 4, rows - h), mode="replicate")  # [B, C, 4 + rows, 4 + columns]
    total = torch.zeros_like(padded)
    for top, left in ((0, 0), (0, 4), (4, 0), (4, 4)):  # every pixel lies in one block of each of these grids
        grid = (..., slice(top, top + rows), slice(left, left + columns))
        strips = padded[grid].reshape(-1, 8, columns)  # [B*C*rows/8, 8, columns]
        coefficients = ((dct @ strips).view(-1, 16) @ two.T).view_as(strips)
        shrunk = F.hardshrink(coefficients, 3 * sigma)
        shrunk[:, 0, ::8] = coefficients[:, 0, ::8]  # the blocks' means stay whatever they are
        total[grid] += (dct.T @ (shrunk.view(-1, 16) @ two).view_as(strips)).view(b, c, rows, columns)
    return total[..., 4 : 4 + h, 4 : 4 + w] / 4
