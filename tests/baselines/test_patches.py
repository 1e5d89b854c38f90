"""The patches of CORNIA and HOSA, their whitening and their codebooks."""

from collections import Counter

import numpy as np
import pytest
import torch

from ssl_iqa.baselines import patches
from ssl_iqa.baselines.patches import k_means, learn_codebook, normalized, random_patches, zca


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A codebook's patches are 20 x 100."""
    monkeypatch.setattr(patches, "IMAGES", 20)
    monkeypatch.setattr(patches, "PATCHES", 100)


def test_patches_are_normalized_one_by_one() -> None:
    windows = torch.randint(0, 256, (5, 7, 7), generator=torch.Generator().manual_seed(0)).double()
    windows[4] = 200  # flat
    expected = []
    for window in windows.numpy():
        mean = sum(window.ravel()) / 49
        variance = sum((window.ravel() - mean) ** 2) / 48
        expected.append((window.ravel() - mean) / np.sqrt(variance + 10))
    np.testing.assert_allclose(normalized(windows).numpy(), expected, rtol=1e-12)
    assert (normalized(windows)[4] == 0).all()


def test_random_patches_are_of_places_all_over_the_image() -> None:
    image = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))
    r, g, b = np.round(image.double().numpy() * 255)
    gray = np.floor((299 * r + 587 * g + 114 * b) / 1000 + 0.5)
    windows = np.array([gray[i : i + 7, j : j + 7] for i in range(14) for j in range(24)])
    whole = {tuple(patch) for patch in normalized(torch.from_numpy(windows)).numpy().round(6)}

    def drawn(count: int, seed: int = 0) -> set[tuple[float, ...]]:
        return {tuple(patch) for patch in random_patches(image, count, seed).numpy().round(6)}

    assert len(whole) == 14 * 24 and drawn(10_000) == whole
    assert len(drawn(50)) == 50 and drawn(50) < whole
    assert drawn(50) == drawn(50) != drawn(50, seed=1)


def test_the_covariance_of_whitened_patches_is_the_identity() -> None:
    """But for the constant, which shrinks a variance v to v / (v + 0.1)."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.linalg.qr(torch.randn(49, 49, generator=generator).double())[0] * torch.logspace(3, 5, 49).double()
    x = torch.randn(5000, 49, generator=generator).double() @ mixing.T + 7
    mean, whitening = zca(x)
    whitened = ((x - mean.double()) @ whitening.double()).numpy()
    np.testing.assert_allclose(np.cov(whitened.T), np.eye(49), atol=1e-4)
    np.testing.assert_allclose(whitened.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(whitening, whitening.T, rtol=1e-4)  # of all such matrices ZCA's is symmetric

    x = torch.randn(5000, 49, generator=generator).double() * torch.linspace(0, 1, 49)  # the first never differs
    mean, whitening = zca(x)
    v, rotation = np.linalg.eigh(np.cov(x.numpy().T))
    shrunk = rotation * (v / (v + 0.1)) @ rotation.T
    np.testing.assert_allclose(np.cov(((x - mean) @ whitening.double()).T), shrunk, atol=1e-5)


def test_codewords_are_the_centers_of_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patches, "BATCH", 100)
    generator = torch.Generator().manual_seed(0)
    centers = 20 * torch.randn(6, 49, generator=generator)
    x = centers.repeat(200, 1) + torch.randn(1200, 49, generator=generator)
    nearest = torch.cdist(centers, k_means(x, 12)).min(dim=1).values
    assert (nearest < 1.5).all()  # of any one patch it is about 7, after a single batch 2 to 12


@pytest.mark.usefixtures("few")
def test_a_codebook_is_always_the_same_and_its_patches_are_whitened() -> None:
    codebook, x = learn_codebook(30)
    again, _ = learn_codebook(30)
    assert all(torch.equal(codebook[name], again[name]) for name in codebook)
    shapes = {name: tuple(value.shape) for name, value in codebook.items()}
    assert shapes == {"mean": (49,), "whitening": (49, 49), "codewords": (30, 49)} and x.shape == (2000, 49)
    assert all(value.dtype == torch.float32 for value in (*codebook.values(), x))
    v = np.linalg.eigvalsh(np.cov(patches.learning_patches().double().numpy().T))
    np.testing.assert_allclose(np.linalg.eigvalsh(np.cov(x.double().numpy().T)), v / (v + 0.1), atol=1e-4)
    inertia = torch.cdist(x, codebook["codewords"]).min(dim=1).values.square().mean()
    assert inertia < 0.95 * torch.cdist(x, x[:30]).min(dim=1).values.square().mean()


def test_all_photographs_and_classes_take_part(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(patches, "PATCHES", 1)
    monkeypatch.setattr(patches, "read_image", lambda path: torch.tensor(hash(path)))
    monkeypatch.setattr(patches, "distort_as", lambda x, *rest: drawn.append((x.item(), rest[0])))
    monkeypatch.setattr(patches, "random_patches", lambda image, count, seed: torch.zeros(count, 49))
    patches.learning_patches()
    assert len({*drawn}) == patches.IMAGES
    for nth, kinds in ((0, 67), (1, 125)):
        counts = Counter(pair[nth] for pair in drawn).values()
        assert len(counts) == kinds and max(counts) - min(counts) <= 1
