"""The perceptual hash, bit by bit, against the package imagehash."""

from pathlib import Path

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageOps

from ssl_iqa.data.demo import demo_sources
from ssl_iqa.data.images import read_image
from ssl_iqa.data.near_duplicates import phash

PHOTOGRAPHS = [*demo_sources()][::8]


def hashed(path: str | Path) -> np.ndarray:
    """[2, 64], of the upright RGB image and of its mirror image."""
    with Image.open(path) as image:
        image = ImageOps.exif_transpose(image).convert("RGB")
        return np.stack([imagehash.phash(one).hash.flatten() for one in (image, ImageOps.mirror(image))])


@pytest.mark.parametrize("scale", [1, 0.3])
def test_bits_are_imagehashs(tmp_path: Path, scale: float) -> None:
    """All of them: the gray image and its reduction are Pillow's in both, and no frequency is that near the median.

    Only of a flat image they differ, where imagehash compares rounding errors.
    """
    for path in PHOTOGRAPHS:
        with Image.open(path) as image:
            size = round(image.width * scale), round(image.height * scale * 1.1)
            image.resize(size, Image.Resampling.BICUBIC).save(tmp_path / "image.png")
        assert np.array_equal(phash(read_image(tmp_path / "image.png")), hashed(tmp_path / "image.png"))
