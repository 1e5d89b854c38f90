"""BLIINDS-II's features: block by block with scipy, and on blocks and coefficients that are known."""

from math import ceil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from scipy.ndimage import correlate
from scipy.special import gamma
from scipy.stats import gennorm

from ssl_iqa.baselines import bliinds_ii
from ssl_iqa.baselines.bliinds_ii import bliinds_features, usable_features
from ssl_iqa.data.images import read_image

BANDS = [
    [(0, 1), (0, 2), (1, 0), (1, 1), (2, 0)],
    [(0, 3), (0, 4), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (2, 3), (3, 0), (3, 1), (3, 2), (4, 0), (4, 1)],
    [(2, 4), (3, 3), (3, 4), (4, 2), (4, 3), (4, 4)],
]
FIRST = [(0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4), (2, 4)]
MIDDLE = [(1, 1), (2, 2), (2, 3), (3, 2), (3, 3), (3, 4), (4, 3), (4, 4)]


def by_hand(gray: np.ndarray) -> list[float]:
    """A scale's eight numbers, one block after the other."""
    height, width = gray.shape
    padded = np.zeros((height + 7, width + 7))
    padded[1 : height + 1, 1 : width + 1] = gray
    rows = []
    for top in range(0, height, 3):
        for left in range(0, width, 3):
            c = dctn(padded[top : top + 5, left : left + 5], norm="ortho")
            ac = c.ravel()[1:]

            def variation(values: list[float]) -> float:
                return np.std(np.abs(values), ddof=1) / (np.mean(np.abs(values)) + 1e-8)

            quotient = np.var(ac, ddof=1) / (np.mean(np.abs(ac - ac.mean())) ** 2 + 1e-8)
            g = np.arange(30, 10_001) / 1000
            r = gamma(1 / g) * gamma(3 / g) / gamma(2 / g) ** 2
            shape = next((g[x] for x in range(len(g) - 1) if r[x] >= quotient > r[x + 1]), 11.0)
            v1, v2, v3 = (np.var([c[place] for place in band], ddof=1) for band in BANDS)
            m = (v1 + v2) / 2
            ratio = (abs(v3 - m) / (v3 + m + 1e-8) + abs(v2 - v1) / (v3 + v1 + 1e-8)) / 2
            turned = [(j, i) for i, j in FIRST]
            along = [variation([c[place] for place in part]) for part in (FIRST, MIDDLE, turned)]
            rows.append((variation(ac), -shape, ratio, np.var(along, ddof=1)))
    columns = np.sort(np.array(rows), axis=0)[::-1]
    worst = columns[: ceil(len(columns) / 10)].mean(axis=0)
    pairs = np.stack([columns.mean(axis=0), worst], axis=1) * np.array([[1], [-1], [1], [1]])
    return pairs.ravel().tolist()


@pytest.mark.parametrize("name", ["0.png", "7.png"])
def test_features_are_those_of_block_after_block(photographs: Path, name: str) -> None:
    image = read_image(photographs / name)[:, :40, :47]  # of no multiple of three
    gray = np.floor(np.tensordot([0.299, 0.587, 0.114], image.numpy().astype(float), 1).round(6) + 0.5)
    x = np.exp(-2 * np.arange(-1.0, 2) ** 2)
    expected = by_hand(gray)
    for _ in range(2):
        gray = correlate(gray, np.outer(x, x) / np.outer(x, x).sum(), mode="constant")[1::2, 1::2]
        expected += by_hand(gray)
    np.testing.assert_allclose(bliinds_features(image / 255).numpy(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [0.5, 1.0, 2.0, 4.0])
def test_the_shape_of_known_coefficients_is_found(shape: float) -> None:
    c = torch.from_numpy(gennorm.rvs(shape, size=(1, 200_000), random_state=np.random.default_rng(0)))
    assert bliinds_ii.shape(c).item() == pytest.approx(shape, rel=0.05)


def test_a_flat_image_is_finite_and_inside_as_even_as_can_be() -> None:
    features = bliinds_features(torch.full((3, 64, 48), 0.5))
    assert features.isfinite().all() and usable_features(torch.zeros(3, 20, 20, dtype=torch.uint8)).isfinite().all()
    inside = bliinds_ii.shape(torch.zeros(1, 24, dtype=torch.float64))
    assert inside.item() == 11


def test_what_cannot_be_used_is_nan(photographs: Path) -> None:
    assert usable_features(None).isnan().all() and usable_features(None).shape == (24,)
    assert usable_features(torch.zeros(3, 15, 40, dtype=torch.uint8)).isnan().all()
    image = read_image(photographs / "0.png")
    assert torch.equal(usable_features(image), bliinds_features(image / 255))
