"""CORNIA's features: patch by patch and codeword by codeword."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_iqa.baselines import cornia
from ssl_iqa.baselines.cornia import cornia_features, usable_features
from ssl_iqa.data.images import read_image


@pytest.fixture
def codebook() -> dict[str, torch.Tensor]:
    """Six codewords of several lengths."""
    generator = torch.Generator().manual_seed(0)
    mean, whitening, codewords = (torch.randn(*shape, generator=generator) for shape in ((49,), (49, 49), (6, 49)))
    return {"mean": mean, "whitening": whitening, "codewords": codewords * torch.arange(1, 7)[:, None]}


def by_hand(codebook: dict[str, torch.Tensor], gray: np.ndarray) -> list[float]:
    mean, whitening, codewords = (codebook[name].double().numpy() for name in ("mean", "whitening", "codewords"))
    above, below = [0.0] * len(codewords), [0.0] * len(codewords)
    for top in range(gray.shape[0] - 6):
        for left in range(gray.shape[1] - 6):
            patch = gray[top : top + 7, left : left + 7].ravel()
            patch = (patch - patch.mean()) / np.sqrt(patch.var(ddof=1) + 10)
            x = (patch - mean) @ whitening
            for k, d in enumerate(codewords):
                product = d @ x / np.sqrt(sum(d**2))
                above[k], below[k] = max(above[k], product), max(below[k], -product)
    return above + below


@pytest.mark.parametrize("at_once", [1000, 7])
def test_features_are_those_of_patch_after_patch(
    codebook: dict[str, torch.Tensor], photographs: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(cornia, "AT_ONCE", at_once)
    image = read_image(photographs / "0.png")[:, :20, :23]  # 14 x 17 patches: all are taken
    gray = np.floor(np.tensordot([0.299, 0.587, 0.114], image.numpy().astype(float), 1).round(6) + 0.5)
    features = cornia_features(codebook, image / 255)
    assert features.dtype == torch.float32 and {*(features > 0).tolist()} == {True, False}
    np.testing.assert_allclose(features.numpy(), by_hand(codebook, gray), rtol=1e-5)


def test_of_a_large_image_as_many_patches_as_published(
    codebook: dict[str, torch.Tensor], photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    image = read_image(photographs / "0.png").repeat(1, 4, 3) / 255
    real = cornia.whitened
    monkeypatch.setattr(cornia, "whitened", lambda x, codebook: (counts.append(len(x)), real(x, codebook))[1])
    features = cornia_features(codebook, image)
    assert counts == [10_000] and torch.equal(features, cornia_features(codebook, image))


def test_a_codeword_that_no_patch_is_on_the_side_of_has_zero(codebook: dict[str, torch.Tensor]) -> None:
    """A flat image's patches are all -mean @ whitening: each codeword sees them on one side."""
    features = cornia_features(codebook, torch.full((3, 40, 40), 0.5))
    x = -(codebook["mean"] @ codebook["whitening"]).double()
    products = (codebook["codewords"].double() @ x / codebook["codewords"].double().norm(dim=1)).tolist()
    expected = [max(0, product) for product in products] + [max(0, -product) for product in products]
    assert features.tolist() == pytest.approx(expected, rel=1e-5) and (features == 0).sum() == 6


def test_what_cannot_be_used_is_nan(codebook: dict[str, torch.Tensor], photographs: Path) -> None:
    assert usable_features(codebook, None).isnan().all() and usable_features(codebook, None).shape == (12,)
    assert usable_features(codebook, torch.zeros(3, 15, 40, dtype=torch.uint8)).isnan().all()
    image = read_image(photographs / "0.png")
    assert torch.equal(usable_features(codebook, image), cornia_features(codebook, image / 255))
