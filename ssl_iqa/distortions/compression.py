"""Types 9 and 10: compression. Each takes pictures [B, 3, H, W], RGB in [0, 1], the level's value and a generator."""

from io import BytesIO
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_bytes(image: Tensor) -> Tensor:
    """The 8-bit picture round(255*x), on the CPU, as codecs see it: uint8 [B, 3, H, W]."""
    return (image * 255).round().to(torch.uint8).cpu()


def from_bytes(picture: Tensor, like: Tensor) -> Tensor:
    """uint8 0..255 -> [0, 1] with the dtype and device of `like`."""
    return picture.to(like) / 255


def recode(image: Tensor, **options: Any) -> Tensor:
    """Each picture written with Pillow's options for `save`, and read again."""
    decoded = []
    for picture in to_bytes(image):
        file = BytesIO()
        Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(file, **options)
        decoded.append(torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1))
    return from_bytes(torch.stack(decoded), image)


def jpeg2000(image: Tensor, ratio: float, generator: torch.Generator | None) -> Tensor:
    """9, JPEG 2000: irreversible 9/7 wavelet, one quality layer, compressed `ratio` times (OpenJPEG).

    The file's headers take about 260 bytes: under about 130 pixels a side the strong levels come out alike.
    """
    # five halvings, as usual, but not below one pixel
    resolutions = min(6, min(image.shape[2:]).bit_length())
    rates = {"quality_mode": "rates", "quality_layers": [ratio]}
    return recode(image, format="JPEG2000", irreversible=True, num_resolutions=resolutions, **rates)


def jpeg(image: Tensor, quality: int, generator: torch.Generator | None) -> Tensor:
    """10, JPEG of libjpeg `quality` with chroma at half size (4:2:0)."""
    return recode(image, format="JPEG", quality=quality, subsampling="4:2:0")
