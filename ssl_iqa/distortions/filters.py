"""What several types share: the stretch, kernels, convolution with a replicated border, draws on any device."""

from functools import lru_cache
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor


def stretch(image: Tensor, flat: float = 0.0) -> Tensor:
    """(x - min) / (max - min) over all pixels and channels of each picture; a flat picture stays as it is.

    The KADIS generator does it before and after every type, whatever the type.

    Args:
        image: [B, C, H, W], any range.
        flat: the largest max - min that counts as flat.
    """
    low = image.amin(dim=(1, 2, 3), keepdim=True)  # [B, 1, 1, 1]
    span = image.amax(dim=(1, 2, 3), keepdim=True) - low
    return torch.where(span > flat, (image - low) / torch.where(span > flat, span, 1), image)


@lru_cache(maxsize=64)
def gaussian_kernel(sigma: float) -> Tensor:
    """Gaussian of MATLAB's usual width, sum 1: float64 [2*ceil(2*sigma)+1]. Do not write to it."""
    radius = ceil(2 * sigma)
    x = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-(x**2) / (2 * sigma**2))
    return kernel / kernel.sum()


def gaussian(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of every channel, as two one-dimensional passes; replicate border. [B, C, H, W] -> the same."""
    kernel = gaussian_kernel(sigma).to(image)
    return convolve(convolve(image, kernel[:, None]), kernel[None, :])


def convolve(image: Tensor, kernel: Tensor) -> Tensor:
    """Correlate every channel with one odd-sized kernel (all of ours are symmetric); replicate border.

    Args:
        image: [B, C, H, W].
        kernel: [h, w] for all pictures, or [B, h, w] with one for each.
    """
    b, c, _, _ = image.shape
    h, w = kernel.shape[-2:]
    padded = F.pad(image, (w // 2, w // 2, h // 2, h // 2), mode="replicate")
    kernels = kernel.expand(b, h, w).repeat_interleave(c, dim=0)[:, None]  # [B*C, 1, h, w]
    # every channel of every picture as a group of one convolution: half the time of channels as a batch, on CPUs
    return F.conv2d(padded.flatten(0, 1)[None], kernels, groups=b * c).view_as(image)


def randn(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal draws from `generator`, on whatever device that is, with the dtype and device of `like`."""
    device = generator.device if generator is not None else like.device
    return torch.randn(shape, generator=generator, device=device, dtype=like.dtype).to(like.device)


def rand(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Uniform draws in [0, 1), otherwise as `randn`."""
    device = generator.device if generator is not None else like.device
    return torch.rand(shape, generator=generator, device=device, dtype=like.dtype).to(like.device)


def randint(high: int, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    """Whole numbers 0 .. high-1 on the CPU, for positions that steer slicing."""
    device = generator.device if generator is not None else "cpu"
    return torch.randint(high, shape, generator=generator, device=device).cpu()
