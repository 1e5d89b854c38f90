"""Types 9 and 10: compression. Each takes images [B, 3, H, W], RGB in [0, 1], the level's value and a generator,
which neither uses."""

from io import BytesIO
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .colorspace import FULL_YCBCR_TO_RGB, RGB_TO_FULL_YCBCR, mix_channels
from .filters import Draws, dct_basis


def to_bytes(image: Tensor) -> Tensor:
    """The 8-bit image round(255*x), on the CPU, as codecs see it: uint8 [B, 3, H, W]."""
    return (image * 255).round_().to(torch.uint8).cpu()


def from_bytes(pixels: Tensor, like: Tensor) -> Tensor:
    """uint8 0..255 -> [0, 1] with the dtype and device of `like`."""
    return pixels.to(like).div_(255)


def to_pil(pixels: Tensor) -> Image.Image:
    """uint8 [3, H, W] -> an image of Pillow's."""
    return Image.merge("RGB", [Image.fromarray(plane) for plane in pixels.numpy()])


def from_pil(image: Image.Image) -> Tensor:
    """An image of Pillow's, RGB -> uint8 [3, H, W]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def recode(image: Tensor, **options: Any) -> Tensor:
    """Each image written with Pillow's options for `save`, and read again."""
    decoded = []
    for pixels in to_bytes(image):
        file = BytesIO()
        to_pil(pixels).save(file, **options)
        decoded.append(from_pil(Image.open(file)))
    return from_bytes(torch.stack(decoded), image)


def jpeg2000(image: Tensor, ratio: float, generator: Draws) -> Tensor:
    """9, JPEG 2000: irreversible 9/7 wavelet, one quality layer, compressed `ratio` times (OpenJPEG).

    The file's headers take about 260 bytes, and small images do not have many more: at 192x144 level 5 leaves hardly
    a shape, and under about 130 pixels a side the strong levels come out alike. The codec runs on the CPU wherever the
    image is. Source: KADIS-700k; as MATLAB's imwrite with CompressionRatio.
    """
    # five halvings, as usual, but not below one pixel
    resolutions = min(6, min(image.shape[2:]).bit_length())
    rates = {"quality_mode": "rates", "quality_layers": [ratio]}
    return recode(image, format="JPEG2000", irreversible=True, num_resolutions=resolutions, **rates)


def jpeg(image: Tensor, quality: int, generator: Draws) -> Tensor:
    """10, JPEG of libjpeg `quality`, 1 .. 100, with chroma at half size (4:2:0).

    On the CPU the codec itself (libjpeg, by Pillow); elsewhere `jpeg_losses`, since torchvision's codec for CUDA
    keeps chroma at full size. Source: KADIS-700k; as MATLAB's imwrite.
    """
    if image.device.type == "cpu":
        return recode(image, format="JPEG", quality=quality, subsampling="4:2:0")
    return from_bytes(jpeg_losses((image * 255).round_(), quality), image)


# ITU-T T.81, Annex K: the quantization tables of luma and chroma that libjpeg scales by its quality.
LUMA_TABLE = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA_TABLE = (
    *(17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99),
    *(47, 66, 99, 99, 99, 99, 99, 99, *(99,) * 32),
)


def jpeg_losses(levels: Tensor, quality: int) -> Tensor:
    """What JPEG leaves of images, without the file: whole numbers 0..255 in a float tensor [B, 3, H, W] -> the same.

    libjpeg's steps: YCbCr, chroma averaged over 2x2 pixels, DCT of 8x8 blocks, division by the tables, rounding, and
    back, chroma by libjpeg's triangle filter. Only that libjpeg's DCT is in integers, so that a coefficient in a few
    hundred is rounded to the other side: on photographs the two differ by 0.0 to 0.6 in the mean, by 1.4 at most in
    the root mean square and by up to 69 in a sample (docs/distortions.md).
    """
    _, _, h, w = levels.shape
    padded = F.pad(levels, (0, -w % 16, 0, -h % 16), mode="replicate")
    ycbcr = mix_channels(padded, RGB_TO_FULL_YCBCR).round_()
    y = quantize_dct(ycbcr[:, :1] - 128, LUMA_TABLE, quality) + 128
    half = F.avg_pool2d(ycbcr[:, 1:], 2)
    half[..., 1::2] += 0.25  # halves are rounded down in even columns and up in odd ones
    chroma = quantize_dct((half - 0.125).round_(), CHROMA_TABLE, quality)
    # The triangle filter: 3/4 of the nearer and 1/4 of the farther one, in y and in x.
    chroma = F.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False)
    full = torch.cat((y.round_().clamp_(0, 255), chroma.round_().clamp_(-128, 127)), dim=1)
    return mix_channels(full, FULL_YCBCR_TO_RGB).round_().clamp_(0, 255)[..., :h, :w]


def quantize_dct(planes: Tensor, table: tuple[int, ...], quality: int) -> Tensor:
    """DCT of 8x8 blocks, each coefficient rounded to a multiple of its scaled table entry, and back. [B, C, H, W]."""
    b, c, h, w = planes.shape
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality  # libjpeg's jpeg_quality_scaling
    steps = torch.tensor([min(max((entry * scale + 50) // 100, 1), 255) for entry in table]).view(8, 1, 8).to(planes)
    dct = dct_basis().to(planes)
    blocks = planes.reshape(b, c, h // 8, 8, w // 8, 8)
    coefficients = torch.einsum("ui,bcminj,vj->bcmunv", dct, blocks, dct)
    scaled = coefficients.div_(steps)
    kept = (scaled + 0.5001 * scaled.sign()).trunc_().mul_(steps)  # halves away from 0, as libjpeg; rounding errors too
    return torch.einsum("ui,bcmunv,vj->bcminj", dct, kept, dct).reshape(b, c, h, w)
