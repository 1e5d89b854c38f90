"""ONNX files by onnxruntime against the scores of PyTorch, of any number of images of any size."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import ssl_iqa
from ssl_iqa.__main__ import main
from ssl_iqa.engine.weights import encoder_state
from ssl_iqa.model import Encoder, Regressor
from tests.models import by_hand, save_model
from tests.scoring.test_export import SIZES, images

Exported = tuple[ssl_iqa.QualityModel, onnxruntime.InferenceSession, Path]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Exported]:
    """exported(save_model's arguments): the model, its ONNX file in a session, and its place."""

    def make(*content: dict, **settings: object) -> Exported:
        folder = tmp_path_factory.mktemp("onnx")
        path = save_model(folder / "model.pt", *content, **settings)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "set_num_threads", lambda threads: None)
            main(["export", str(path), str(folder / "model.onnx")])
        assert sorted(one.name for one in folder.iterdir()) == ["model.onnx", "model.pt"]  # no file of weights beside
        session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
        return ssl_iqa.load(path), session, folder / "model.onnx"

    return make


@pytest.fixture(scope="module")
def five(exported: Callable[..., Exported]) -> Exported:
    """Five crops."""
    return exported(long_side=300, encoder="caf\udce9.pt")


def test_scores_of_any_size_are_pytorchs(five: Exported) -> None:
    model, session, _ = five
    for size in SIZES:
        x = images(*size)
        (found,) = session.run(["scores"], {"pictures": x.numpy()})
        assert found.shape == (len(x),) and found.dtype == np.float32
        assert found.tolist() == pytest.approx(model.score([*x]), abs=1e-4)
    x = images(3, 79, 101)
    (found,) = session.run(["scores"], {"pictures": x.numpy()})
    wanted = [by_hand(model, one.permute(1, 2, 0).double().numpy()) for one in x]
    assert found.tolist() == pytest.approx(wanted, abs=1e-4) and np.ptp(found) > 1e-3


def test_the_file_says_what_goes_in_and_what_comes_out(five: Exported) -> None:
    model, session, path = five
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape[1]) == ("pictures", "tensor(float)", 3)
    assert (made.name, made.type) == ("scores", "tensor(float)")
    free = [given.shape[0], *given.shape[2:]]
    assert all(isinstance(side, str) for side in free) and len({*free}) == 3 and made.shape == [given.shape[0]]
    found = session.get_modelmeta().custom_metadata_map
    assert found == {"card": model.card(), "long_side": "300", "least_side": "1"} and "caf\\udce9.pt" in found["card"]
    onnx.checker.check_model(path, full_check=True)


def test_a_resnet_on_whole_images(exported: Callable[..., Exported]) -> None:
    torch.manual_seed(0)
    networks = {"encoder": encoder_state(Encoder("resnet18")), "regressor": Regressor(512).state_dict()}
    model, session, _ = exported(networks, crops="full")
    for count, height, width in SIZES:
        x = images(count, max(height, 33), max(width, 33))
        (found,) = session.run(["scores"], {"pictures": x.numpy()})
        assert found.tolist() == pytest.approx(model.score([*x]), abs=1e-4)
