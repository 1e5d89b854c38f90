"""Types 11 to 15: noise. Each takes pictures [B, 3, H, W], RGB in [0, 1], the level's value and a generator.

Levels are VARIANCES for intensities in [0, 1] (a density for impulse noise), not standard deviations.
"""

from functools import lru_cache
from math import pi

import torch
import torch.nn.functional as F
from torch import Tensor

from .colorspace import rgb_to_ycbcr, ycbcr_to_rgb
from .filters import rand, randn


def white_noise(image: Tensor, variance: float, generator: torch.Generator | None) -> Tensor:
    """11, sensor noise: Gaussian of that variance, independent for each sample; truncated."""
    return (image + variance**0.5 * randn(image.shape, image, generator)).clamp(0, 1)


def white_noise_color_component(image: Tensor, variance: float, generator: torch.Generator | None) -> Tensor:
    """12, chromatic noise: Gaussian of that variance on each of Y, Cb and Cr (BT.601, studio range); truncated."""
    ycbcr = rgb_to_ycbcr(image)
    return ycbcr_to_rgb(ycbcr + variance**0.5 * randn(image.shape, image, generator)).clamp(0, 1)


def impulse_noise(image: Tensor, density: float, generator: torch.Generator | None) -> Tensor:
    """13, dead samples: each sample of each channel turns 0 or 1 with probability `density`, half of them each."""
    draw = rand(image.shape, image, generator)
    return image.masked_fill(draw < density, 1).masked_fill(draw < density / 2, 0)


def multiplicative_noise(image: Tensor, variance: float, generator: torch.Generator | None) -> Tensor:
    """14, speckle: I + n*I with n uniform, mean 0 and that variance (as MATLAB's speckle); truncated."""
    half_width = (3 * variance) ** 0.5
    n = half_width * (2 * rand(image.shape, image, generator) - 1)
    return (image + n * image).clamp(0, 1)


def denoise(image: Tensor, variance: float, generator: torch.Generator | None) -> Tensor:
    """15, what a denoiser leaves: Gaussian noise of that variance, then a denoiser, channel by channel.

    KADIS denoises with DnCNN, whose weights cannot be shipped. A stand-in: `shrink_dct`, told the noise's variance.
    """
    return shrink_dct(white_noise(image, variance, generator), variance**0.5).clamp(0, 1)


def shrink_dct(image: Tensor, sigma: float) -> Tensor:
    """Overlapping 8x8 DCT blocks (step 4), coefficients under 3*sigma set to zero, estimates averaged.

    The threshold is Yu and Sapiro's, "DCT image denoising", IPOL 2011. [B, C, H, W] -> the same.
    """
    b, c, h, w = image.shape
    basis = dct_basis().to(image).view(64, 64)  # [coefficient, position], orthonormal
    right, bottom = 8 + -w % 4, 8 + -h % 4  # so that every pixel lies in four blocks
    padded = F.pad(image.flatten(0, 1)[:, None], (8, right, 8, bottom), mode="replicate")  # [B*C, 1, H', W']
    coefficients = basis @ F.unfold(padded, kernel_size=8, stride=4)  # [B*C, 64, blocks]
    keep = coefficients.abs() >= 3 * sigma
    keep[:, 0] = True  # the block's mean
    blocks = basis.T @ (coefficients * keep)
    averaged = F.fold(blocks, padded.shape[-2:], kernel_size=8, stride=4) / 4
    return averaged[..., 8 : 8 + h, 8 : 8 + w].reshape(b, c, h, w)


@lru_cache(maxsize=1)
def dct_basis() -> Tensor:
    """The 64 orthonormal 8x8 DCT-II patterns, the constant one first: float64 [64, 8, 8]."""
    k = torch.arange(8, dtype=torch.float64)
    waves = torch.cos(pi * (2 * k[None, :] + 1) * k[:, None] / 16) / 2  # [frequency, position]
    waves[0] /= 2**0.5
    return torch.einsum("ui,vj->uvij", waves, waves).reshape(64, 8, 8)
