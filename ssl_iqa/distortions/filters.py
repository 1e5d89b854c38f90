"""What several types share: the stretch, kernels, convolution with a replicated border, draws on any device."""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from math import ceil, pi

import torch
import torch.nn.functional as F
from scipy.fft import next_fast_len
from torch import Tensor

Draws = torch.Generator | Sequence[torch.Generator] | None
"""Where draws come from: one generator for a whole batch, one for each of its images, or torch's default one."""

# With more weights than this a Fourier transform is faster than one pass for each: measured, CPU, 512x384.
MOST_TAPS = 70


def stretch(image: Tensor, flat: float = 0.0) -> Tensor:
    """(x - min) / (max - min) over all pixels and channels of each image; a flat image stays as it is.

    The KADIS generator does it before and after every type, whatever the type. Where no image changes, `image` itself
    comes back.

    Args:
        image: [B, C, H, W], any range.
        flat: the largest max - min that counts as flat.
    """
    low = image.amin(dim=(1, 2, 3), keepdim=True)  # [B, 1, 1, 1]
    span = image.amax(dim=(1, 2, 3), keepdim=True) - low
    is_flat = span <= flat
    if bool((is_flat | ((low == 0) & (span == 1))).all()):
        return image
    return (image - low.masked_fill(is_flat, 0)).div_(span.masked_fill(is_flat, 1))


def is_above(image: Tensor, threshold: float) -> Tensor:
    """1 where image > threshold, else 0, in its dtype: with torch.lerp many times faster than bools and torch.where."""
    return image.clone().gt_(threshold)


@lru_cache(maxsize=64)
def gaussian_kernel(sigma: float) -> Tensor:
    """Gaussian of MATLAB's usual width, sum 1: float64 [2*ceil(2*sigma)+1]. Do not write to it."""
    radius = ceil(2 * sigma)
    x = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-(x**2) / (2 * sigma**2))
    return kernel / kernel.sum()


def gaussian(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of every channel; replicate border. [B, C, H, W] -> the same."""
    kernel = gaussian_kernel(sigma)
    if 2 * len(kernel) > MOST_TAPS:
        return convolve(image, kernel[:, None] * kernel)
    return convolve(convolve(image, kernel[:, None]), kernel[None, :])


def convolve(image: Tensor, kernel: Tensor) -> Tensor:
    """Correlate every channel with an odd-sized kernel that is symmetric about its middle; replicate border.

    Args:
        image: [B, C, H, W].
        kernel: [h, w] for all images, or [B, h, w] with one for each.
    """
    height, width = image.shape[2:]
    h, w = kernel.shape[-2:]
    padded = F.pad(image, (w // 2, w // 2, h // 2, h // 2), mode="replicate")  # [B, C, H + h - 1, W + w - 1]
    if kernel.dim() == 2 or len(kernel) == 1:
        rows = kernel.view(h, w).tolist()
        taps = [(y, x, weight) for y, row in enumerate(rows) for x, weight in enumerate(row) if weight]
        if len(taps) <= MOST_TAPS:
            out = torch.zeros_like(image)
            for y, x, weight in taps:
                out.add_(padded[..., y : y + height, x : x + width], alpha=weight)
            return out
    size = [next_fast_len(side, real=True) for side in padded.shape[2:]]
    kernels = kernel.to(image).expand(len(image), h, w)[:, None]  # [B, 1, h, w]
    product = torch.fft.rfft2(padded, size).mul_(torch.fft.rfft2(kernels, size))
    # the transform goes round: the first h - 1 rows and w - 1 columns are mixed with the other end, the rest is not
    return torch.fft.irfft2(product, size)[..., h - 1 : h - 1 + height, w - 1 : w - 1 + width]


@lru_cache(maxsize=1)
def dct_basis() -> Tensor:
    """The orthonormal DCT-II of 8 samples: float64 [frequency, position]."""
    k = torch.arange(8, dtype=torch.float64)
    waves = torch.cos(pi * (2 * k + 1) * k[:, None] / 16) / 2
    waves[0] /= 2**0.5
    return waves


def randn(shape: tuple[int, ...], like: Tensor, generator: Draws) -> Tensor:
    """Standard normal draws for B images, [B, ...], with the dtype and device of `like`."""
    return _draw(torch.randn, shape, like, generator)


def rand(shape: tuple[int, ...], like: Tensor, generator: Draws) -> Tensor:
    """Uniform draws in [0, 1), otherwise as `randn`."""
    return _draw(torch.rand, shape, like, generator)


def _draw(draw: Callable[..., Tensor], shape: tuple[int, ...], like: Tensor, generator: Draws) -> Tensor:
    if isinstance(generator, Sequence):
        return torch.cat([_draw(draw, (1, *shape[1:]), like, source) for source in generator])
    device = generator.device if generator is not None else like.device
    return draw(shape, generator=generator, device=device, dtype=like.dtype).to(like.device)


def randint(high: int, shape: tuple[int, ...], generator: Draws) -> list:
    """Whole numbers 0 .. high-1 for B images, [B, ...], as nested lists: they steer slicing."""
    return _draw(partial(torch.randint, high), shape, torch.empty(0, dtype=torch.int64), generator).tolist()
