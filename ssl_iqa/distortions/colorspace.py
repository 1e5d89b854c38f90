"""RGB to CIE Lab, YCbCr and gray, and back. Images are [B, 3, H, W], RGB in [0, 1]."""

import torch
from torch import Tensor

from .filters import is_above

# sRGB primaries with the D65 white point, IEC 61966-2-1 (the values that scikit-image uses too).
RGB_TO_XYZ = torch.tensor(
    ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227)),
    dtype=torch.float64,
)
WHITE_D65 = torch.tensor((0.95047, 1.0, 1.08883), dtype=torch.float64)
# ITU-R BT.601, studio range on [0, 1]: Y in 16/255 .. 235/255, as MATLAB's rgb2ycbcr.
RGB_TO_YCBCR = (
    torch.tensor(((65.481, 128.553, 24.966), (-37.797, -74.203, 112.0), (112.0, -93.786, -18.214)), dtype=torch.float64)
    / 255
)
YCBCR_OFFSET = (16 / 255, 128 / 255, 128 / 255)

RGB_TO_XYZ_OVER_WHITE = RGB_TO_XYZ / WHITE_D65[:, None]
XYZ_OVER_WHITE_TO_RGB = torch.linalg.inv(RGB_TO_XYZ) * WHITE_D65
YCBCR_TO_RGB = torch.linalg.inv(RGB_TO_YCBCR)


def mix_channels(image: Tensor, matrix: Tensor) -> Tensor:
    """A 3x3 matrix applied to the three channels of every pixel."""
    return (matrix.to(image) @ image.flatten(2)).view_as(image)


def power(image: Tensor, exponent: float) -> Tensor:
    """image ** exponent for positive values, in place: faster than pow, and exact to a few units in the last place."""
    return image.log_().mul_(exponent).exp_()


def rgb_to_lab(image: Tensor) -> Tensor:
    """sRGB -> CIE Lab (D65): L in [0, 100], a and b about -100 .. 100."""
    curved = power(image.clamp_min(0.04045).add_(0.055).div_(1.055), 2.4)
    linear = (image / 12.92).lerp_(curved, is_above(image, 0.04045))
    xyz = mix_channels(linear, RGB_TO_XYZ_OVER_WHITE)
    # CIE's cube root, continued by a straight line below (6/29)^3
    root, above = power(xyz.clamp_min(0.008856), 1 / 3), is_above(xyz, 0.008856)
    lab = xyz.mul_(7.787).add_(16 / 116).lerp_(root, above)
    x, y, z = lab.unbind(1)
    a, b = (x - y).mul_(500), (y - z).mul_(200)
    lab[:, 0] = y.mul_(116).sub_(16)
    lab[:, 1], lab[:, 2] = a, b
    return lab


def lab_to_rgb(lab: Tensor) -> Tensor:
    """CIE Lab (D65) -> sRGB. Nothing is clipped: a color outside sRGB comes out below 0 or above 1."""
    lightness, a, b = lab.unbind(1)
    y = (lightness + 16) / 116
    f = torch.stack((y + a / 500, y, y - b / 200), dim=1)
    cube, above = (f * f).mul_(f), is_above(f, 0.2068966)
    xyz = f.sub_(16 / 116).div_(7.787).lerp_(cube, above)
    linear = mix_channels(xyz, XYZ_OVER_WHITE_TO_RGB)
    gamma = power(linear.clamp_min(0.0031308), 1 / 2.4).mul_(1.055).sub_(0.055)
    above = is_above(linear, 0.0031308)
    return linear.mul_(12.92).lerp_(gamma, above)


def rgb_to_ycbcr(image: Tensor) -> Tensor:
    """RGB -> YCbCr of BT.601 in studio range, as fractions of 255."""
    return mix_channels(image, RGB_TO_YCBCR).add_(image.new_tensor(YCBCR_OFFSET)[:, None, None])


def ycbcr_to_rgb(ycbcr: Tensor) -> Tensor:
    """The inverse of `rgb_to_ycbcr`; nothing is clipped."""
    return mix_channels(ycbcr - ycbcr.new_tensor(YCBCR_OFFSET)[:, None, None], YCBCR_TO_RGB)


def rgb_to_gray(image: Tensor) -> Tensor:
    """Luma of BT.601, as MATLAB's rgb2gray: [B, 3, H, W] -> [B, 1, H, W]."""
    r, g, b = image.split(1, dim=1)
    return (0.2989 * r).add_(g, alpha=0.5870).add_(b, alpha=0.1140)
