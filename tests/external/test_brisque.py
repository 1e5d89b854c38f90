"""BRISQUE's features against piq's, which follow the same MATLAB code.

piq's own function ends in a score, by a regressor that it downloads; its features are compared. What differs there:

- what rounding leaves in flat parts of an image (7 x 7 pixels or more of one gray level) is kept, and its products, of
  1e-12 or less, are counted as samples on one side of 0 or the other; here they are 0, of neither side. An image with a
  little noise has no flat parts, and black ones leave no rounding;
- where two gray levels are equally near, the even one is taken, or the one that rounding errors favor, not the upper;
- the image at half size is made in float32, and half an odd side is rounded down; here, as in MATLAB, it is up.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import hardshrink

from ssl_iqa.baselines.brisque import brisque_features, half_size, to_gray
from ssl_iqa.data.demo import DEMO_FOLDER
from ssl_iqa.data.images import read_image

piq = pytest.importorskip("piq.brisque")

PATHS = [DEMO_FOLDER / name for name in ("drop_1.jpg", "sunset_2.jpg", "chelsea.jpg", "kleiber_2.jpg")]


def statistics(gray: Tensor, half: Tensor) -> Tensor:
    """piq's 36 features of gray levels [1, H, W] and of their half size."""
    return torch.cat([piq._natural_scene_statistics(x[None])[0] for x in (gray, half)])


def piq_half(gray: Tensor) -> Tensor:
    return piq.imresize(gray[None], sizes=(gray.shape[1] // 2, gray.shape[2] // 2))[0]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_features_of_photographs(path: Path) -> None:
    photograph = read_image(path)
    noise = torch.randint(-5, 6, photograph.shape[1:], generator=torch.Generator().manual_seed(0))
    noisy = (photograph.int().clamp(5, 250) + noise) / 255
    features, gray = brisque_features(noisy), to_gray(noisy[None])
    torch.testing.assert_close(features, statistics(gray, half_size(gray)), rtol=0, atol=1e-11)
    torch.testing.assert_close(features, statistics(gray, piq_half(gray)), rtol=0, atol=1e-7)

    whole = photograph / 255  # all that piq does, with flat parts: the largest difference in the demo's 67 is 0.0014
    gray = torch.round(piq.rgb2yiq(whole[None].double() * 255)[:, 0])
    torch.testing.assert_close(brisque_features(whole), statistics(gray, piq_half(gray)), rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    ("level", "least", "most"), [(0, 0, 1e-11), (0.5, 0.03, 0.05), (1, 0.03, 0.05)], ids=["black", "gray", "white"]
)
def test_features_of_images_with_a_flat_border(
    level: float, least: float, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sixth of the image is one gray level: black is as above, others differ by some 0.04 of 0.2, for one reason."""
    photograph = read_image(PATHS[0])
    noise = torch.randint(-5, 6, photograph.shape[1:], generator=torch.Generator().manual_seed(0))
    image = (photograph.int().clamp(5, 250) + noise) / 255
    image[:, :24] = image[:, -24:] = level
    features, gray = brisque_features(image), to_gray(image[None])
    difference = (features - statistics(gray, half_size(gray))).abs()
    assert least <= difference.max() <= most
    assert difference.view(2, 18)[:, :2].max() < 1e-11  # alpha and sigma^2 know no sides

    real = piq._aggd_parameters
    monkeypatch.setattr(piq, "_aggd_parameters", lambda products: real(hardshrink(products, 1e-12)))
    torch.testing.assert_close(features, statistics(gray, half_size(gray)), rtol=0, atol=1e-11)


@pytest.mark.parametrize("size", [(64, 48), (33, 50), (45, 37)])
def test_half_size(size: tuple[int, int]) -> None:
    gray = torch.randint(256, (2, 1, *size), generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(half_size(gray[:, 0]), piq.imresize(gray, scale=0.5)[:, 0], rtol=0, atol=4e-5)


def test_gray_levels() -> None:
    image = torch.randint(256, (1, 3, 300, 300), generator=torch.Generator().manual_seed(0)) / 255
    differs = to_gray(image) != torch.round(piq.rgb2yiq(image.double() * 255)[:, 0])
    assert differs.double().mean() < 1e-3  # where two levels are equally near
