"""Types 9 and 10: compression. Each takes images [B, 3, H, W], RGB in [0, 1], the level's value and a generator,
which neither uses."""

from io import BytesIO
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .filters import Draws


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
    """10, JPEG of libjpeg `quality`, 1 .. 100, with chroma at half size (4:2:0); on the CPU, as `jpeg2000`.

    Source: KADIS-700k; as MATLAB's imwrite.
    """
    return recode(image, format="JPEG", quality=quality, subsampling="4:2:0")
