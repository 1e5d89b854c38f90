"""Types 1 to 3: blurs. Each takes images [B, 3, H, W], RGB in [0, 1], the level's value and a generator."""

from functools import lru_cache
from math import ceil

import torch
from torch import Tensor

from .filters import Draws, convolve, gaussian, rand


def gaussian_blur(image: Tensor, sigma: float, generator: Draws) -> Tensor:
    """1, out of focus or smoothed: convolution with exp(-(x^2 + y^2) / (2*sigma^2)), `sigma` in pixels.

    Kernel 2*ceil(2*sigma)+1 wide, sum 1, replicate border; nothing is drawn. Level 1 (sigma 0.1) leaves the image as
    it is: the neighbors' weight is exp(-50). Source: KADIS-700k; as MATLAB's imgaussfilt.
    """
    return gaussian(image, sigma)


def lens_blur(image: Tensor, radius: float, generator: Draws) -> Tensor:
    """2, a lens out of focus: mean over a disk of `radius` pixels, each pixel weighted by its area inside the disk.

    Replicate border; nothing is drawn. Source: KADIS-700k; as MATLAB's fspecial('disk').
    """
    return convolve(image, disk_kernel(radius))


def motion_blur(image: Tensor, length: float, generator: Draws) -> Tensor:
    """3, camera shake: mean along a line of `length` pixels, anti-aliased; replicate border.

    Its angle is drawn for each image, a whole number of degrees, uniform in 0..180. Level 1 (length 1) leaves the
    image as it is. Source: KADIS-700k; as MATLAB's fspecial('motion').
    """
    degrees = rand((image.shape[0],), image, generator).mul_(181).floor_()
    return convolve(image, line_kernel(length, degrees.deg2rad_()))


@lru_cache(maxsize=16)
def disk_kernel(radius: float) -> Tensor:
    """Area of each pixel inside a disk about the middle one, sum 1 (MATLAB's fspecial('disk')): float64 [k, k].

    The area of the pixel at (x, y) is the integral over x of the height that circle and pixel share, by the midpoint
    rule on 1000 columns a pixel.
    """
    half = ceil(radius - 0.5)
    columns, n = 1000, 2 * half + 1
    x = (torch.arange(n * columns, dtype=torch.float64) + 0.5) / columns - (half + 0.5)  # [n*columns]
    rim = (radius**2 - x**2).clamp_min(0).sqrt()  # half the circle's height at x
    y = torch.arange(-half, half + 1, dtype=torch.float64)[:, None]  # [n, 1], the pixels' middles
    height = (torch.minimum(y + 0.5, rim) - torch.maximum(y - 0.5, -rim)).clamp_min(0)  # [n, n*columns]
    area = height.view(n, n, columns).mean(dim=2)  # [n, n]
    return area / area.sum()


def line_kernel(length: float, angle: Tensor) -> Tensor:
    """Anti-aliased line through the middle pixel, sum 1 (MATLAB's fspecial('motion')): angle [B], radians -> [B, k, k].

    A pixel's weight is 1 minus its distance to the line from -(length-1)/2 to (length-1)/2, and 0 beyond distance 1. As
    in fspecial's code, pixels at least (length-1)/2 from the middle count their distance to the line's end.
    """
    half_length = (length - 1) / 2
    half = ceil(half_length)
    offset = torch.arange(-half, half + 1).to(angle)
    x, y = offset[None, None, :], -offset[None, :, None]  # rows run downwards, angles anti-clockwise
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    along = (x * cos + y * sin).abs()
    across = y * cos - x * sin
    to_end = torch.hypot(along - half_length, across)
    distance = torch.where(torch.hypot(x, y) < half_length, across.abs(), to_end)  # [B, k, k]
    weight = (1 - distance).clamp_min(0)
    return weight / weight.sum(dim=(1, 2), keepdim=True)
