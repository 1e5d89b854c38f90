"""The plain module: its scores, its gradient against finite differences, as a loss that improves an image."""

from pathlib import Path

import pytest
import torch

import ssl_iqa
from ssl_iqa.data.images import read_image, reduced
from ssl_iqa.data.views import area_means, to_float
from ssl_iqa.distortions import distort
from ssl_iqa.engine.weights import encoder_state
from ssl_iqa.model import Encoder, Regressor
from tests.models import save_model
from tests.scoring.test_export import images


@pytest.mark.parametrize("crops", ["five", "center", "full"])
@pytest.mark.parametrize("size", [(3, 64, 64), (2, 79, 101), (1, 40, 33)])
def test_it_gives_the_models_scores(tmp_path: Path, crops: str, size: tuple[int, int, int]) -> None:
    model = ssl_iqa.load(save_model(tmp_path / "model.pt", crops=crops))
    x = images(*size)
    with torch.no_grad():
        y_hat = model.module(x)
    assert y_hat.shape == (size[0],) and y_hat.tolist() == pytest.approx(model.score([*x]), abs=1e-5)


@pytest.mark.parametrize(("height", "width", "long_side"), [(64, 48, 32), (79, 101, 40), (50, 33, 49), (30, 20, 64)])
def test_larger_images_are_averaged_as_files_are(tmp_path: Path, height: int, width: int, long_side: int) -> None:
    image = (images(1, height, width)[0] * 255).round().to(torch.uint8)
    means = area_means(image.double(), long_side)
    assert torch.equal(means.round().to(torch.uint8), reduced(image, long_side))
    model = ssl_iqa.load(save_model(tmp_path / "model.pt", long_side=long_side))
    with torch.no_grad():
        y_hat = model.module(to_float(image)[None]).item()
    assert y_hat == pytest.approx(model.score(image), abs=0.05)  # which rounds to whole levels again


def test_its_gradient_is_that_of_finite_differences(tmp_path: Path) -> None:
    module = ssl_iqa.load(save_model(tmp_path / "model.pt", long_side=40)).module.double()
    x = images(2, 40, 52).double().requires_grad_()
    module(x).sum().backward()
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        step = 1e-6 * direction
        difference = (module(x + step).sum() - module(x - step).sum()) / 2e-6
    assert (x.grad * direction).sum().item() == pytest.approx(difference.item(), rel=1e-4)


def test_in_a_network_that_trains_it_stays_as_scoring_has_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path, encoder = tmp_path / "model.pt", Encoder("resnet18")
    save_model(path, {"encoder": encoder_state(encoder), "regressor": Regressor(encoder.dim).state_dict()})
    model, x = ssl_iqa.load(path), images(2, 64, 64)
    before = model.score([*x])
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(3), model.module).train()
    y_hat = network[1](x)
    assert network.training and network[0].training and y_hat.tolist() == pytest.approx(before, abs=1e-4)
    assert network.eval() and model.score([*x]) == before


def test_it_takes_images_of_any_floating_point(tmp_path: Path) -> None:
    module, x = ssl_iqa.load(save_model(tmp_path / "model.pt")).module, images(2, 64, 64)
    assert module(x.double()).tolist() == module(x).tolist()
    assert module(x.half()).tolist() == pytest.approx(module(x).tolist(), abs=0.01)


def test_not_clipped_it_has_a_gradient_beyond_the_ends(tmp_path: Path) -> None:
    model = ssl_iqa.load(save_model(tmp_path / "model.pt"))
    torch.nn.init.constant_(model.regressor[-1].bias, 50.0)
    x = images(1, 40, 40).requires_grad_()
    y_hat = model.module(x)
    y_hat.sum().backward()
    assert y_hat.item() > 40 and model.score(x[0]) == 10 and x.grad.abs().max() > 0


def test_as_a_loss_it_improves_a_blurred_image(photographs: Path, tmp_path: Path) -> None:
    module = ssl_iqa.load(save_model(tmp_path / "model.pt")).module.requires_grad_(False)
    blurred = distort(to_float(read_image(photographs / "0.png")), "gaussian_blur", 4)[None]
    x = blurred.clone().requires_grad_()
    optimizer = torch.optim.Adam([x], lr=1e-3)
    for _ in range(10):
        optimizer.zero_grad()
        (-module(x.clamp(0, 1)).sum()).backward()
        optimizer.step()
    with torch.no_grad():
        assert module(x.clamp(0, 1)).item() > module(blurred).item() + 0.01
