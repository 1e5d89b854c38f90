"""DIIVINE's features: the pyramid on gratings, the rest coefficient by coefficient, and images where they are known."""

from itertools import combinations, product
from math import comb, lgamma, log, pi

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate
from scipy.special import gamma

from ssl_iqa.baselines import diivine
from ssl_iqa.baselines.diivine import diivine_features, usable_features

LOOKED_UP = np.arange(200, 10_001) / 1000


def rho(shape: float | np.ndarray) -> float | np.ndarray:
    return gamma(2 / shape) ** 2 / (gamma(1 / shape) * gamma(3 / shape))


def image_of(gray: np.ndarray) -> torch.Tensor:
    """Gray levels [H, W] as RGB [3, H, W] in [0, 1]."""
    return torch.from_numpy(gray.round().clip(0, 255) / 255).float().expand(3, -1, -1)


def textured(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth patches under noise whose strength changes from place to place."""
    rng = np.random.default_rng(seed)
    smooth = correlate(rng.normal(0, 200, (height, width)), np.full((9, 9), 1 / 81), mode="wrap")
    return (128 + smooth + rng.normal(0, 1, (height, width)) * np.linspace(2, 25, width)).round().clip(0, 255)


def grating(y: int, x: int, side: int, amplitude: float = 1) -> torch.Tensor:
    """A wave of `y` periods down and `x` to the right."""
    down, right = np.mgrid[:side, :side] / side
    return torch.from_numpy(amplitude * np.cos(2 * pi * (y * down + x * right) + 1))


@pytest.mark.parametrize(("y", "x"), [(0, 40), (40, 0), (24, 32), (-24, 32), (32, 24), (-32, 24)])
def test_orientations_answer_a_grating_with_the_fifth_power_of_a_cosine(y: int, x: int) -> None:
    gain = (2**10 / (6 * comb(10, 5))) ** 0.5
    cosines = np.abs(np.cos(np.arctan2(y, x) - np.arange(6) * pi / 6)) ** 5
    _, finest, coarse = diivine.steerable_pyramid(grating(y, x, side=160, amplitude=3))  # in the middle of the finest
    np.testing.assert_allclose(finest.std(dim=(1, 2), correction=0), 3 / 2**0.5 * gain * cosines, atol=1e-9)
    assert coarse.abs().max() < 1e-9
    high_pass, finest, coarse = diivine.steerable_pyramid(grating(y, x, side=320, amplitude=3))
    np.testing.assert_allclose(coarse.std(dim=(1, 2), correction=0), 12 / 2**0.5 * gain * cosines, atol=1e-9)
    assert max(finest.abs().max(), high_pass.abs().max()) < 1e-9


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_a_frequency_between_two_scales_is_in_both_by_a_raised_cosine(share: float) -> None:
    x = round(64 * 2**share)  # of 128, Nyquist's frequency, between its half and itself
    high_pass, finest, _ = diivine.steerable_pyramid(grating(0, x, side=256))
    high = np.cos(pi / 2 * -np.log2(x / 128)) ** 2
    assert high_pass.square().mean().item() == pytest.approx(high / 2, rel=1e-9)
    assert finest.square().sum(dim=0).mean().item() == pytest.approx((1 - high) / 2, rel=1e-9)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (66, 70), (65, 64), (61, 75)])
def test_no_energy_is_lost(height: int, width: int) -> None:
    """So that the pyramid can be inverted. Of a coarse scale squares are 4 times 4 as large, and there are a fourth."""
    rng = np.random.default_rng(0)
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)) * 2
    gray = np.fft.ifft2(np.fft.fft2(rng.normal(size=(height, width))) * (radius >= 0.25)).real  # the rest is left over
    energies = [(bands.square().sum() * bands[0].numel() / gray.size) for bands in steerable(gray)]
    assert sum(energies).item() == pytest.approx((gray**2).sum(), rel=1e-9)


def steerable(gray: np.ndarray) -> list[torch.Tensor]:
    high_pass, finest, coarse = diivine.steerable_pyramid(torch.from_numpy(gray))
    return [high_pass[None], finest, coarse]


def normalized_by_hand(bands: np.ndarray, guard: int, parents: np.ndarray | None) -> np.ndarray:
    """One coefficient after the other."""
    _, height, width = bands.shape
    places = [*product(range(1, height - 1), range(1, width - 1))]
    normalized = []
    for i, band in enumerate(bands):
        vectors = []
        for row, column in places:
            vector = [*band[row - 1 : row + 2, column - 1 : column + 2].ravel()]
            vector += [bands[k][row, column] for k in range(6) if k != i]
            vector += [] if parents is None else [parents[i][row, column]]
            vectors.append(vector)
        inverse = np.linalg.inv(np.mean([np.outer(vector, vector) for vector in vectors], axis=0))
        z = [np.sqrt(np.dot(vector, inverse @ vector) / len(vector)) for vector in vectors]
        mean = np.mean([band[place] for place in places])
        g = np.reshape([(band[place] - mean) / z for place, z in zip(places, z, strict=True)], (height - 2, width - 2))
        g = g[guard : height - 2 - guard, guard : width - 2 - guard]
        normalized.append(g - g.mean())
    return np.array(normalized)


def structure_by_hand(x: np.ndarray, y: np.ndarray) -> float:
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / 4.5)

    def mean(image: np.ndarray) -> np.ndarray:
        return correlate(image, window / window.sum())[5:-5, 5:-5]

    covariance = mean(x * y) - mean(x) * mean(y)
    variances = mean(x * x) - mean(x) ** 2 + mean(y * y) - mean(y) ** 2
    return np.mean((2 * covariance + 58.5225) / (variances + 58.5225))


def spatial_by_hand(band: np.ndarray) -> list[float]:
    """From the joint histograms of coefficients and neighbors."""
    height, width = band.shape
    edges = np.linspace(band.min(), band.max(), 101)
    centers = (edges[1:] + edges[:-1]) / 2
    correlations = []
    for distance in range(1, 26, 4):
        joint = np.zeros((100, 100))
        for down, right in product((-distance, 0, distance), repeat=2):
            if (down, right) != (0, 0):
                one = band[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]
                other = band[max(0, -down) : height + min(0, -down), max(0, -right) : width + min(0, -right)]
                joint += np.histogram2d(one.ravel(), other.ravel(), bins=(edges, edges))[0]
        p = joint / joint.sum()
        mean, other_mean = (p.sum(1) * centers).sum(), (p.sum(0) * centers).sum()
        deviation = np.sqrt((p.sum(1) * (centers - mean) ** 2).sum() * (p.sum(0) * (centers - other_mean) ** 2).sum())
        correlations.append((centers @ p @ centers - mean * other_mean) / deviation)
    polynomial, (error,), *_ = np.polyfit(range(1, 26, 4), correlations, 3, full=True)
    return [*polynomial, error]


def enlarged_by_hand(band: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Bicubic, by Keys' kernel."""

    def weights(n: int, to: int) -> np.ndarray:
        x = np.abs((np.arange(to)[:, None] + 0.5) * n / to - 0.5 - np.arange(n))
        cubic = np.where(x <= 1, 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2) * (x < 2)
        return cubic / cubic.sum(axis=1, keepdims=True)

    return weights(len(band), shape[0]) @ band @ weights(band.shape[1], shape[1]).T


def shape_by_hand(x: np.ndarray) -> float:
    return LOOKED_UP[np.argmin(np.abs(rho(LOOKED_UP) - np.mean(np.abs(x)) ** 2 / np.mean(x**2)))]


@pytest.mark.parametrize(("height", "width"), [(60, 72), (75, 63)])
def test_features_are_those_of_coefficient_after_coefficient(height: int, width: int) -> None:
    gray = textured(height, width)
    high_pass, finest, coarse = (bands.numpy() for bands in diivine.steerable_pyramid(torch.from_numpy(gray)))
    parents = np.array([enlarged_by_hand(band, high_pass.shape) for band in coarse])
    structure = [structure_by_hand(band, high_pass) for band in (*finest, *parents)]
    g1, g2 = normalized_by_hand(finest, 16, parents), normalized_by_hand(coarse, 8, None)
    features = diivine_features(image_of(gray)).numpy()
    assert features.shape == (88,)
    each = [band.ravel() for band in (*g1, *g2)]
    np.testing.assert_allclose(features[:12], [np.var(band) for band in each], rtol=1e-6)
    np.testing.assert_allclose(features[12:24], [shape_by_hand(band) for band in each], atol=1e-9)
    joint = [np.concatenate((each[i], each[i + 6])) for i in range(6)]
    np.testing.assert_allclose(features[24:31], [shape_by_hand(x) for x in (*joint, np.concatenate(joint))], atol=1e-9)
    np.testing.assert_allclose(features[31:43], structure, atol=1e-6)
    np.testing.assert_allclose(features[43:73], np.ravel([spatial_by_hand(band) for band in g1]), atol=1e-6)
    np.testing.assert_allclose(features[73:], [structure_by_hand(x, y) for x, y in combinations(g1, 2)], atol=1e-6)


@pytest.mark.parametrize("contrast", [1, np.exp(np.sin(np.arange(300) / 40))], ids=["even", "changing"])
def test_normalized_noise_is_as_even_as_a_direction_drawn_uniformly(contrast: float | np.ndarray) -> None:
    """Of a Gaussian vector of N numbers each number over z is N^1/2 times one of a vector of length 1, whatever the
    contrast: as E|x| of these is Gamma(N / 2) / Gamma((N + 1) / 2) / pi^1/2, the shape is known, and the variance."""
    noise = 128 + 15 * np.random.default_rng(0).normal(size=(300, 300)) * contrast
    features = diivine_features(image_of(noise))
    for n, part in ((15, slice(0, 6)), (14, slice(6, 12))):
        share = np.exp(2 * (lgamma(n / 2) - lgamma((n + 1) / 2)) - log(pi)) * n  # (E|x|)^2 / E x^2
        shape = LOOKED_UP[np.argmin(np.abs(rho(LOOKED_UP) - share))]
        np.testing.assert_allclose(features[12:24][part], shape, rtol=0.03)
        _, *bands = diivine.steerable_pyramid(torch.from_numpy(noise.round()))
        if np.isscalar(contrast):
            variances = bands[part.start // 6].var(dim=(1, 2))
            np.testing.assert_allclose(features[part], variances, rtol=0.05)


def test_independent_subbands_do_not_correlate() -> None:
    x, y = torch.from_numpy(np.random.default_rng(0).normal(0, 100, (2, 200, 200)))
    correlations = diivine.structural_correlations([x, y, -x], [(0, 1), (0, 0), (0, 2)])
    np.testing.assert_allclose(correlations, [0, 1, -1], atol=0.02)
    *polynomial, error = diivine.spatial_correlation(x).tolist()
    np.testing.assert_allclose(np.polyval(polynomial, range(1, 26, 4)), 0, atol=0.02)
    assert error < 1e-3


def test_correlation_falls_as_noise_is_smoothed() -> None:
    """Of a mean over 9 pixels in a row the correlation is 1 - distance / 9 along the row, and 0 else: of the eight
    neighbors two have it."""
    noise = np.random.default_rng(0).normal(size=(600, 600))
    band = torch.from_numpy(correlate(noise, np.full((1, 9), 1 / 9), mode="wrap"))
    expected = np.maximum(0, 1 - np.arange(1, 26, 4) / 9) / 4
    polynomial, (error,), *_ = np.polyfit(np.arange(1, 26, 4), expected, 3, full=True)
    found = diivine.spatial_correlation(band).numpy()
    np.testing.assert_allclose(
        np.polyval(found[:4], range(1, 26, 4)), np.polyval(polynomial, range(1, 26, 4)), atol=0.01
    )
    assert found[4] == pytest.approx(error, abs=5e-4)


def test_features_of_a_flat_image() -> None:
    expected = [0.0] * 12 + [0.2] * 19 + [1.0] * 12 + [0.0] * 30 + [1.0] * 15
    assert diivine_features(torch.full((3, 64, 77), 0.3)).tolist() == pytest.approx(expected, abs=1e-12)


def test_of_a_subband_that_is_empty_rounding_is_no_coefficient() -> None:
    stripes = 128 + 60 * np.sign(np.sin(np.arange(96) * pi / 5 + 0.5))[:, None] * np.ones(80)  # down alone
    features = diivine_features(image_of(stripes))
    assert features.isfinite().all() and features[[1, 7]].min() > 1
    assert features[[0, 6]].tolist() == [0, 0] and features[[12, 18]].tolist() == [0.2, 0.2]


def test_what_cannot_be_used_is_nan() -> None:
    assert usable_features(None).isnan().all() and usable_features(None).shape == (88,)
    image = torch.randint(256, (3, 60, 61), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for small in (image[:, :59], image[:, :, :59], image[:, :16, :16]):
        assert usable_features(small).isnan().all()
    assert torch.equal(usable_features(image), diivine_features(image / 255))
    assert usable_features(image).isfinite().all()
