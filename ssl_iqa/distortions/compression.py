"""Types 9 and 10: compression. Each takes pictures [B, 3, H, W], RGB in [0, 1], the level's value and a generator."""

from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg, encode_jpeg


def to_bytes(image: Tensor) -> Tensor:
    """The 8-bit picture round(255*x), on the CPU, as codecs see it: uint8 [B, 3, H, W]."""
    return (image * 255).round().to(torch.uint8).cpu()


def from_bytes(picture: Tensor, like: Tensor) -> Tensor:
    """uint8 0..255 -> [0, 1] with the dtype and device of `like`."""
    return picture.to(like) / 255


def jpeg2000(image: Tensor, ratio: float, generator: torch.Generator | None) -> Tensor:
    """9, JPEG 2000: irreversible 9/7 wavelet, one quality layer, compressed `ratio` times (OpenJPEG through Pillow)."""
    decoded = []
    for picture in to_bytes(image):
        file = BytesIO()
        pixels = Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())
        # five halvings, as usual, but not below one pixel
        resolutions = min(6, min(pixels.size).bit_length())
        pixels.save(
            file,
            "JPEG2000",
            quality_mode="rates",
            quality_layers=[ratio],
            irreversible=True,
            num_resolutions=resolutions,
        )
        decoded.append(torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1))
    return from_bytes(torch.stack(decoded), image)


def jpeg(image: Tensor, quality: int, generator: torch.Generator | None) -> Tensor:
    """10, JPEG of libjpeg `quality` with chroma at half size (4:2:0)."""
    encoded = encode_jpeg(list(to_bytes(image)), quality=quality)
    return from_bytes(torch.stack([decode_jpeg(file, mode=ImageReadMode.RGB) for file in encoded]), image)
