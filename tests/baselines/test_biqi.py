"""BIQI's features: on signals whose wavelet coefficients are known, and on coefficients of known distributions."""

from pathlib import Path

import numpy as np
import pytest
import pywt
import torch
from scipy.stats import gennorm

from ssl_iqa.baselines.biqi import biqi_features, usable_features
from ssl_iqa.data.images import read_image


def image_of(gray: np.ndarray) -> torch.Tensor:
    """A gray image, whole levels [H, W], as RGB [3, H, W] in [0, 1]."""
    return torch.from_numpy(gray / 255).float().expand(3, -1, -1)


def image_with(bands: list[list[np.ndarray]], side: int = 1024) -> torch.Tensor:
    """An image whose coefficients are those of the subbands, from the coarsest scale on, about a mean of 128."""
    lowest = np.full_like(bands[0][0], 128 * 2**3)
    gray = pywt.waverec2([lowest, *map(tuple, bands)], "db9", mode="symmetric")[:side, :side]
    return image_of(gray.round().clip(0, 255))


def subbands(shapes: list[float], deviations: list[float], side: int = 1024) -> list[list[np.ndarray]]:
    """Generalized Gaussian coefficients, three subbands a scale, by scipy."""
    rng = np.random.default_rng(0)
    _, *scales = pywt.wavedec2(np.zeros((side, side)), "db9", mode="symmetric", level=3)
    numbers = iter(zip(shapes, deviations, strict=True))
    return [
        [
            deviation * gennorm.rvs(shape, size=band.shape, random_state=rng) / gennorm.std(shape)
            for band, (shape, deviation) in zip(scale, numbers, strict=False)
        ]
        for scale in scales
    ]


def test_shapes_and_variances_of_known_coefficients_are_found() -> None:
    shapes, deviations = [2.0, 1.0, 0.7, 1.5, 3.0, 1.0, 0.8, 2.0, 1.2], [20.0, 25, 18, 16, 20, 15, 14, 18, 16]
    features = biqi_features(image_with(subbands(shapes, deviations))).view(9, 2)
    assert features[3:, 0].tolist() == pytest.approx(shapes[3:], rel=0.1)  # of the coarsest scale few coefficients
    assert features[:3, 0].tolist() == pytest.approx(shapes[:3], rel=0.3)
    assert features[:, 1].tolist() == pytest.approx(np.square(deviations).tolist(), rel=0.1)


def test_a_direction_is_in_its_own_subbands() -> None:
    stripes = np.tile(128 + 60 * np.sign(np.sin(np.arange(256) * np.pi / 2 + 0.5))[:, None], (1, 256))  # of 2 pixels
    for gray, band in ((stripes, 0), (stripes.T, 1)):  # horizontal ones, vertical ones
        variances = biqi_features(image_of(gray)).view(3, 3, 2)[..., 1].sum(dim=0)  # [bands]
        assert variances[band] > 100 * (variances.sum() - variances[band]).abs()


def test_a_flat_image_has_no_variance_and_the_most_peaked_shape() -> None:
    features = biqi_features(torch.full((3, 64, 48), 0.5)).view(9, 2)
    assert features[:, 1].abs().max() < 1e-18 and features.isfinite().all()


def test_what_cannot_be_used_is_nan(photographs: Path) -> None:
    assert usable_features(None).isnan().all() and usable_features(None).shape == (18,)
    assert usable_features(torch.zeros(3, 15, 40, dtype=torch.uint8)).isnan().all()
    image = read_image(photographs / "0.png")
    assert torch.equal(usable_features(image), biqi_features(image / 255))
