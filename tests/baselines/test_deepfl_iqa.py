"""DeepFL-IQA: its targets by independent formulas and by piq called by hand, its loss, its heads, its errors."""

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import piq
import pytest
import torch
from scipy.ndimage import convolve1d
from scipy.signal import convolve2d
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ssl_iqa.baselines import deepfl_iqa
from ssl_iqa.data.images import read_image
from ssl_iqa.data.views import to_float
from ssl_iqa.engine.weights import load_encoder
from tests.baselines.test_pretrain import differences

METRICS = [*deepfl_iqa.DECILES]
SIDE = 162


@pytest.fixture(scope="module")
def views() -> Tensor:
    """[6, 3, 162, 162]: an image as it is, with noise, as it is; then the pristine ones, of which the last is flat."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 14, 14, generator=generator)
    image = interpolate(coarse, (SIDE, SIDE), mode="bilinear") * 0.8 + 0.1 * torch.rand(
        1, 3, SIDE, SIDE, generator=generator
    )
    noisy = (image + 0.1 * torch.randn(image.shape, generator=generator)).clamp(0, 1)
    return torch.cat([image, noisy, image, image, image, torch.full_like(image, 0.5)])


@pytest.fixture(scope="module")
def scores(views: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):  # of --amp, which must not reach them
        return deepfl_iqa.full_reference(*views.chunk(2))  # [3, 8]


def ssim_of(a: np.ndarray, b: np.ndarray) -> float:
    """Wang et al. 2004, of images [3, H, W]: windows of 11 x 11 that lie within the image, the mean of the channels."""
    window = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window /= window.sum()

    def mean(x: np.ndarray) -> np.ndarray:
        return convolve1d(convolve1d(x, window, axis=1), window, axis=2)[:, 5:-5, 5:-5]

    mu_a, mu_b = mean(a), mean(b)
    var_a, var_b, cov = mean(a * a) - mu_a**2, mean(b * b) - mu_b**2, mean(a * b) - mu_a * mu_b
    luminance = (2 * mu_a * mu_b + 0.01**2) / (mu_a**2 + mu_b**2 + 0.01**2)
    return float((luminance * (2 * cov + 0.03**2) / (var_a + var_b + 0.03**2)).mean())


def gmsd_of(a: np.ndarray, b: np.ndarray) -> float:
    """Xue et al. 2014, of images [3, H, W] in [0, 1]: of gray levels at half size, the deviation of the similarity of
    Prewitt's gradient magnitudes.
    """
    prewitt = np.outer([1, 1, 1], [1, 0, -1]) / 3
    magnitudes = []
    for image in (a, b):
        gray = np.tensordot((0.299, 0.587, 0.114), image, axes=1)
        half = gray.reshape(SIDE // 2, 2, SIDE // 2, 2).mean(axis=(1, 3))
        magnitudes.append(np.hypot(*(convolve2d(half, kernel, mode="same") for kernel in (prewitt, prewitt.T))))
    first, second = magnitudes
    return float(((2 * first * second + 170 / 255**2) / (first**2 + second**2 + 170 / 255**2)).std())


@pytest.mark.parametrize(("name", "formula", "sign"), [("SSIM", ssim_of, 1), ("GMSD", gmsd_of, -1)])
def test_scores_by_independent_formulas(
    views: Tensor, scores: Tensor, name: str, formula: Callable[..., float], sign: int
) -> None:
    expected = sign * formula(*views.double().numpy()[[1, 4]])
    assert scores[1, METRICS.index(name)].item() == pytest.approx(expected, abs=2e-5)
    assert 0.05 < abs(expected) < 0.95


def test_scores_are_piqs_of_each_image_alone(views: Tensor, scores: Tensor) -> None:
    pair = views[1:2], views[4:5]  # the distorted image, the pristine one
    expected = {
        "SSIM": piq.ssim(*pair),
        "MS-SSIM": piq.multi_scale_ssim(*pair),
        "IW-SSIM": piq.information_weighted_ssim(*pair),
        "MDSI": -piq.mdsi(*pair),
        "VSI": piq.vsi(*pair),
        "FSIMc": piq.fsim(*pair, chromatic=True),
        "GMSD": -piq.gmsd(*pair),
        "SR-SIM": piq.srsim(*pair),
    }
    assert [*expected] == METRICS
    torch.testing.assert_close(scores[1], torch.stack([*expected.values()]), rtol=1e-5, atol=1e-6)
    assert (piq.information_weighted_ssim(*reversed(pair)) - scores[1, 2]).abs() > 1e-3  # the order matters


def test_an_image_without_distortion_has_the_highest_targets(scores: Tensor) -> None:
    same, noisy = deepfl_iqa.equalized(scores)[:2]
    assert (same > 0.95).all() and (same <= 1).all()
    assert (noisy >= 0).all() and (noisy < same - 0.05).all()


def test_only_iw_ssim_of_a_flat_pristine_image_is_unknown(scores: Tensor) -> None:
    unknown = deepfl_iqa.equalized(scores).isnan()
    assert unknown.nonzero().tolist() == [[2, METRICS.index("IW-SSIM")]]


def test_targets_are_deciles() -> None:
    """A decile is a tenth, halfway between two is halfway, beyond the last is the last."""
    deciles = torch.tensor([*deepfl_iqa.DECILES.values()], dtype=torch.float64)  # [8, 11]
    assert deciles.shape == (8, 11) and (deciles.diff(dim=1) > 0).all()
    torch.testing.assert_close(
        deepfl_iqa.equalized(deciles.T), torch.linspace(0, 1, 11).double()[:, None].expand(11, 8)
    )
    halfway = (deciles[:, 3] + deciles[:, 4]) / 2
    torch.testing.assert_close(deepfl_iqa.equalized(halfway[None]), torch.full((1, 8), 0.35).double())
    assert deepfl_iqa.equalized(deciles.T[[0]] - 1).tolist() == [[0.0] * 8]
    assert deepfl_iqa.equalized(deciles.T[[10]] + 1).tolist() == [[1.0] * 8]


def test_the_loss_is_the_mse_of_known_targets_and_right_is_the_order_of_neighbors() -> None:
    outputs = torch.randn(5, 2, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    outputs[2, 1, 4] = math.nan
    predicted, targets = outputs.unbind(1)
    errors, right = [], []
    for i in range(5):
        for j in range(8):
            if (i, j) != (2, 4):
                errors.append((predicted[i, j].item() - targets[i, j].item()) ** 2)
            if j != 4 or i not in (2, 3):
                apart = [(x[i, j] - x[i - 1, j]).item() for x in (predicted, targets)]
                right.append(apart[0] * apart[1] > 0)
    loss, share = deepfl_iqa.measure(outputs, torch.zeros(10), [])
    assert loss.item() == pytest.approx(sum(errors) / 39, rel=1e-12) and len(errors) == 39
    assert share.item() == pytest.approx(np.mean(right)) and 0 < np.mean(right) < 1


def test_heads_see_the_last_stage_of_the_distorted_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deepfl_iqa, "full_reference", differences)
    torch.manual_seed(0)
    network = deepfl_iqa.Predictor(load_encoder("random", "resnet18-stages")).eval().double()
    x_d, x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64).chunk(2)
    with torch.no_grad():
        outputs, z = network(torch.cat((x_d, x))), network.encoder(x_d)
    assert z.shape == (2, 64 + 128 + 256 + 512)
    targets = deepfl_iqa.equalized(differences(x_d, x))
    torch.testing.assert_close(outputs[:, 1], targets, check_dtype=False, rtol=1e-6, atol=1e-6)
    for number, head in enumerate(network.heads):
        layers = [layer for layer in head if isinstance(layer, nn.Linear)]
        assert [layer.out_features for layer in layers] == [512, 256, 1]
        assert [layer.p for layer in head if isinstance(layer, nn.Dropout)] == [0.25, 0.5]
        h = z[:, -512:]
        for layer in layers[:2]:
            h = (h @ layer.weight.T + layer.bias).clamp(min=0)
        expected = (h @ layers[2].weight.T + layers[2].bias)[:, 0]
        torch.testing.assert_close(outputs[:, 0, number], expected, check_dtype=False, rtol=1e-5, atol=1e-6)
    assert len(network.heads) == 8
    assert not torch.equal(network.train()(torch.cat((x_d, x))), outputs)  # dropout


def test_a_run_compares_with_pristine_images(
    command: Callable[..., tuple[str, str, int]], photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs: list[tuple[Tensor, Tensor]] = []
    monkeypatch.setattr(deepfl_iqa, "full_reference", lambda *pair: pairs.append(pair) or differences(*pair))
    words = ["--unlabeled", photographs, "--crop", 161, "--batch-size", 2, "--epochs", 1, "--workers", 0]
    command("pretrain", "deepfl-iqa", *words, "--epoch-size", 2, "--validation-size", 2, "--out", tmp_path)
    known = {extremes(to_float(read_image(path))) for path in photographs.iterdir()}
    assert [len(x) for _, x in pairs] == [2, 2]  # of a step, of the validation
    for x_d, x in pairs:
        # reflected to 161 pixels, a photograph is seen as a whole; a distorted one is stretched
        assert {*map(extremes, x)} <= known and not {*map(extremes, x_d)} & known


def extremes(image: Tensor) -> tuple[float, ...]:
    return *image.amin(dim=(1, 2)).tolist(), *image.amax(dim=(1, 2)).tolist()


def test_small_crops_and_a_missing_library_are_one_line(
    command: Callable[..., tuple[str, str, int]], photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [
        "pretrain",
        "deepfl-iqa",
        "--unlabeled",
        photographs,
        "--epoch-size",
        2,
        "--validation-size",
        2,
        "--batch-size",
        2,
        "--epochs",
        1,
        "--out",
        tmp_path / "run",
    ]
    _, error, code = command(*words, "--crop", 160)
    assert code == 2 and error == "error: --crop must be at least 161, got 160\n"
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "piq" else find_spec(name))
    _, error, code = command(*words)
    assert code == 2 and error == "error: deepfl-iqa: needs the library piq: pip install 'ssl_iqa[baselines]'\n"
    assert not (tmp_path / "run").exists()
