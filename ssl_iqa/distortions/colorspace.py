"""RGB to CIE Lab, YCbCr and gray, and back. Pictures are [B, 3, H, W], RGB in [0, 1]."""

import torch
from torch import Tensor

# sRGB primaries with the D65 white point, IEC 61966-2-1 (the values that scikit-image uses too).
RGB_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
WHITE_D65 = (0.95047, 1.0, 1.08883)
# ITU-R BT.601, studio range on [0, 1]: Y in 16/255 .. 235/255, as MATLAB's rgb2ycbcr.
RGB_TO_YCBCR = ((65.481, 128.553, 24.966), (-37.797, -74.203, 112.0), (112.0, -93.786, -18.214))
YCBCR_OFFSET = (16 / 255, 128 / 255, 128 / 255)


def mix_channels(image: Tensor, matrix: Tensor) -> Tensor:
    """A 3x3 matrix applied to the three channels of every pixel."""
    return (matrix.to(image) @ image.flatten(2)).view_as(image)


def rgb_to_lab(image: Tensor) -> Tensor:
    """sRGB -> CIE Lab (D65): L in [0, 100], a and b about -100 .. 100."""
    linear = torch.where(image > 0.04045, ((image.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4, image / 12.92)
    to_xyz = torch.tensor(RGB_TO_XYZ, dtype=torch.float64) / torch.tensor(WHITE_D65, dtype=torch.float64)[:, None]
    xyz = mix_channels(linear, to_xyz)
    # CIE's cube root, continued by a straight line below (6/29)^3
    f = torch.where(xyz > 0.008856, xyz.clamp_min(0.008856) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = f.unbind(1)
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), dim=1)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """CIE Lab (D65) -> sRGB. Nothing is clipped: a color outside sRGB comes out below 0 or above 1."""
    lightness, a, b = lab.unbind(1)
    y = (lightness + 16) / 116
    f = torch.stack((y + a / 500, y, y - b / 200), dim=1)
    xyz = torch.where(f > 0.2068966, f**3, (f - 16 / 116) / 7.787)
    white = torch.tensor(WHITE_D65, dtype=torch.float64)
    linear = mix_channels(xyz, torch.linalg.inv(torch.tensor(RGB_TO_XYZ, dtype=torch.float64)) * white)
    gamma = 1.055 * linear.clamp_min(0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear > 0.0031308, gamma, linear * 12.92)


def rgb_to_ycbcr(image: Tensor) -> Tensor:
    """RGB -> YCbCr of BT.601 in studio range, as fractions of 255."""
    matrix = torch.tensor(RGB_TO_YCBCR, dtype=torch.float64) / 255
    return mix_channels(image, matrix) + image.new_tensor(YCBCR_OFFSET)[:, None, None]


def ycbcr_to_rgb(ycbcr: Tensor) -> Tensor:
    """The inverse of `rgb_to_ycbcr`; nothing is clipped."""
    matrix = torch.linalg.inv(torch.tensor(RGB_TO_YCBCR, dtype=torch.float64) / 255)
    return mix_channels(ycbcr - ycbcr.new_tensor(YCBCR_OFFSET)[:, None, None], matrix)


def rgb_to_gray(image: Tensor) -> Tensor:
    """Luma of BT.601, as MATLAB's rgb2gray: [B, 3, H, W] -> [B, 1, H, W]."""
    weights = image.new_tensor((0.2989, 0.5870, 0.1140))
    return (image * weights[:, None, None]).sum(dim=1, keepdim=True)
