"""HOSA's features: patch by patch and codeword by codeword, and the statistics of a codebook."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import skew

from ssl_iqa.baselines import hosa
from ssl_iqa.baselines.hosa import hosa_features, usable_features
from ssl_iqa.data.images import read_image

Codebook = dict[str, torch.Tensor]
STATISTICS = ("codewords", "variance", "skewness")


@pytest.fixture
def codebook() -> Codebook:
    """Nine codewords and their statistics, at random; none of nine is beyond all patches' five nearest."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"mean": (49,), "whitening": (49, 49), **dict.fromkeys(STATISTICS, (9, 49))}
    return {name: torch.randn(*shape, generator=generator) / 3 for name, shape in shapes.items()}


def patches_of(codebook: Codebook, gray: np.ndarray, step: int) -> list[np.ndarray]:
    mean, whitening = (codebook[name].double().numpy() for name in ("mean", "whitening"))
    patches = []
    for top in range(0, gray.shape[0] - 6, step):
        for left in range(0, gray.shape[1] - 6, step):
            patch = gray[top : top + 7, left : left + 7].ravel()
            patches.append(((patch - patch.mean()) / np.sqrt(patch.var(ddof=1) + 10) - mean) @ whitening)
    return patches


def by_hand(codebook: Codebook, gray: np.ndarray, step: int) -> np.ndarray:
    codewords, variances, skewnesses = (codebook[name].double().numpy() for name in STATISTICS)
    belonging = [[] for _ in codewords]
    for x in patches_of(codebook, gray, step):
        distances = ((codewords - x) ** 2).sum(axis=1)
        nearest = sorted(range(len(codewords)), key=lambda k: distances[k])[:5]
        total = sum(np.exp(-0.05 * distances[k]) for k in nearest)
        for k in nearest:
            belonging[k].append((np.exp(-0.05 * distances[k]) / total, x))
    differences = np.zeros((3, len(codewords), 49))
    for k, pairs in enumerate(belonging):
        total = sum(w for w, _ in pairs)
        mean = sum(w / total * x for w, x in pairs)
        variance = sum(w / total * (x - mean) ** 2 for w, x in pairs)
        third = sum(w / total * (x - mean) ** 3 for w, x in pairs)
        if pairs:
            differences[0, k] = mean - codewords[k]
        if len(pairs) > 1:
            differences[1, k] = variance - variances[k]
            differences[2, k] = third / (variance**1.5 + 1e-4) - skewnesses[k]
    powered = np.sign(differences) * np.abs(differences) ** 0.2
    return (powered / np.sqrt((powered**2).sum())).ravel()


def gray_of(image: torch.Tensor) -> np.ndarray:
    return np.floor(np.tensordot([0.299, 0.587, 0.114], image.numpy().astype(float), 1).round(6) + 0.5)


@pytest.mark.parametrize(("about", "step"), [(100_000, 1), (800, 1), (200, 2), (180, 2), (88, 3)])
def test_features_are_those_of_patch_after_patch(
    codebook: Codebook, photographs: Path, monkeypatch: pytest.MonkeyPatch, about: int, step: int
) -> None:
    monkeypatch.setattr(hosa, "PATCHES", about)
    image = read_image(photographs / "0.png")[:, :25, :32]
    features = hosa_features(codebook, image / 255)
    assert features.dtype == torch.float32 and features.norm().item() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(features.numpy(), by_hand(codebook, gray_of(image), step), rtol=1e-4, atol=1e-6)


def test_of_an_image_some_10_000_patches(codebook: Codebook, monkeypatch: pytest.MonkeyPatch) -> None:
    counts, real = [], hosa.whitened
    monkeypatch.setattr(hosa, "whitened", lambda x, codebook: (counts.append(len(x)), real(x, codebook))[1])
    for width in (400, 399):
        hosa_features(codebook, torch.rand(3, 400, width))
    assert counts == [99 * 99, 132 * 131]  # every fourth place, and every third


def test_a_codeword_without_patches_differs_in_nothing(codebook: Codebook, photographs: Path) -> None:
    codebook["codewords"][4] += 1000
    image = read_image(photographs / "1.png")
    features = hosa_features(codebook, image / 255).view(3, 9, 49)
    assert (features[:, 4] == 0).all() and (features[:, [*range(4), *range(5, 9)]] != 0).all()
    np.testing.assert_allclose(features.flatten(), by_hand(codebook, gray_of(image), 1), rtol=1e-4, atol=1e-6)


def test_of_codewords_with_one_patch_the_means_alone_differ(codebook: Codebook, photographs: Path) -> None:
    image = read_image(photographs / "1.png")[:, :7, :7]
    features = hosa_features(codebook, image / 255)
    assert (features.view(3, 9, 49) != 0).any(dim=2).sum(dim=1).tolist() == [5, 0, 0]
    np.testing.assert_allclose(features.numpy(), by_hand(codebook, gray_of(image), 1), rtol=1e-4, atol=1e-6)


def test_of_a_flat_image_the_means_alone_differ(codebook: Codebook) -> None:
    features = hosa_features(codebook, torch.full((3, 30, 30), 0.5)).view(3, 9, 49)
    x = -codebook["mean"] @ codebook["whitening"]
    nearest = (x - codebook["codewords"]).square().sum(dim=1).topk(5, largest=False).indices
    assert (features[1:] == 0).all() and {*features[0].any(dim=1).nonzero().flatten().tolist()} == {*nearest.tolist()}
    assert (features[0, nearest].sign() == (x - codebook["codewords"][nearest]).sign()).all()


def test_a_codebook_has_the_statistics_of_the_patches_nearest_to_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    codewords = 5 * rng.normal(size=(3, 49))
    x = codewords[rng.integers(0, 2, 400)] + rng.gamma(1.0, size=(400, 49))  # none is near the third
    given = {"codewords": torch.from_numpy(codewords).float()}
    monkeypatch.setattr(hosa, "CODEWORDS", 3)
    monkeypatch.setattr(hosa, "BATCH", 150)
    monkeypatch.setattr(hosa, "learn_codebook", lambda size: (given, torch.from_numpy(x).float()))
    learned = hosa.learn()
    assert learned["codewords"] is given["codewords"] and {*learned} == {*STATISTICS}
    nearest = np.array([np.argmin([sum((patch - c) ** 2) for c in codewords]) for patch in x])
    assert {*nearest} == {0, 1}
    for k in (0, 1):
        members = x[nearest == k]
        np.testing.assert_allclose(learned["variance"][k], members.var(axis=0), rtol=1e-4)
        np.testing.assert_allclose(learned["skewness"][k], skew(members), rtol=5e-3)  # the constant in its quotient
    assert (learned["variance"][2] == 0).all() and (learned["skewness"][2] == 0).all()


def test_what_cannot_be_used_is_nan(codebook: Codebook, photographs: Path) -> None:
    assert usable_features(codebook, None).isnan().all() and usable_features(codebook, None).shape == (3 * 9 * 49,)
    assert usable_features(codebook, torch.zeros(3, 15, 40, dtype=torch.uint8)).isnan().all()
    image = read_image(photographs / "0.png")
    assert torch.equal(usable_features(codebook, image), hosa_features(codebook, image / 255))
