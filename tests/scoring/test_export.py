"""Exported models: the graph against scores worked out crop by crop, .safetensors files, what goes wrong."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import resnet18
from torchvision.transforms.functional import normalize

import ssl_iqa
from ssl_iqa.__main__ import main
from ssl_iqa.engine.weights import encoder_state, load_encoder
from ssl_iqa.model import IMAGENET_MEAN, IMAGENET_STD
from ssl_iqa.scoring import export
from tests.conftest import same
from tests.models import by_hand, save_model

SIZES = [(1, 64, 64), (3, 65, 79), (2, 128, 33), (1, 20, 100), (3, 1, 1), (1, 1, 300), (2, 40, 2)]


def images(count: int, height: int, width: int) -> torch.Tensor:
    """Noise that gets stronger to the lower right, so that no two crops are alike: [B, 3, H, W]."""
    noise = torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(height * width))
    return 0.5 + (noise - 0.5) * torch.linspace(0.1, 1, height)[:, None] * torch.linspace(0.1, 1, width)


@pytest.fixture
def failed(capsys: pytest.CaptureFixture[str], one_thread: None) -> Callable[..., tuple[str, int]]:
    """failed(words) runs the command: its one line of an error, its exit code."""

    def run(*words: object) -> tuple[str, int]:
        with pytest.raises(SystemExit) as caught:
            main(["export", *map(str, words)])
        out, err = capsys.readouterr()
        if isinstance(caught.value.code, str):  # of sys.exit(text), which prints it and makes it 1
            return caught.value.code, 1
        assert out == "" and err.count("\n") == 1
        return err, caught.value.code

    return run


# --- the graph ---


@pytest.mark.parametrize("mode", ["five", "center", "full"])
def test_the_graph_gives_the_models_scores(tmp_path: Path, mode: str) -> None:
    model = ssl_iqa.load(save_model(tmp_path / "model.pt", crops=mode))
    least = {"five": 1, "center": 1, "full": 33}[mode]
    assert export.least_side(model) == least
    for count, height, width in SIZES:
        x = images(count, max(height, least), max(width, least))
        with torch.no_grad():
            found = export.graph_of(model)(x)
        assert found.shape == (count,)
        assert found.tolist() == pytest.approx(model.score([*x]), abs=1e-5)


@pytest.mark.parametrize(("bias", "end"), [(-50.0, 1.0), (50.0, 10.0)])
def test_the_graph_clips_scores_to_the_ends_of_the_scale(tmp_path: Path, bias: float, end: float) -> None:
    model = ssl_iqa.load(save_model(tmp_path / "model.pt"))
    torch.nn.init.constant_(model.regressor[-1].bias, bias)
    x = images(2, 40, 40)
    with torch.no_grad():
        assert export.graph_of(model)(x).tolist() == model.score([*x]) == [end, end]


def test_the_graph_takes_the_mean_over_five_crops(tmp_path: Path) -> None:
    model = ssl_iqa.load(save_model(tmp_path / "model.pt"))
    x = images(3, 79, 101)
    with torch.no_grad():
        found = export.graph_of(model)(x).tolist()
    assert found == pytest.approx([by_hand(model, one.permute(1, 2, 0).double().numpy()) for one in x], abs=1e-4)
    assert np.ptp(found) > 1e-3


# --- files ---


def test_safetensors_hold_the_model(tmp_path: Path, one_thread: None, capsys: pytest.CaptureFixture[str]) -> None:
    save_model(tmp_path / "model.pt")
    out = tmp_path / "a.safetensors"
    out.write_text("what was there")
    main(["export", str(tmp_path / "model.pt"), str(out)])
    a, b = ssl_iqa.load(tmp_path / "model.pt"), ssl_iqa.load(out)
    for name in ("encoder", "regressor"):
        assert same(dict(getattr(a, name).state_dict()), dict(getattr(b, name).state_dict()))
    assert a.card() == b.card() and torch.equal(a.residuals, b.residuals)
    assert capsys.readouterr().out == f"{out}: {out.stat().st_size / 1e6:.1f} MB\n"
    main(["export", str(out), str(tmp_path / "b.safetensors")])
    assert ssl_iqa.load(tmp_path / "b.safetensors").card() == a.card()
    assert not [*tmp_path.glob("*.part")]


@pytest.mark.parametrize("arch", ["resnet18", "resnet18-moments"])
def test_an_encoder_goes_to_torchvision(
    tmp_path: Path, failed: Callable, capsys: pytest.CaptureFixture[str], arch: str
) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file

    encoder = load_encoder("random", "resnet18", seed=5).eval()
    torch.save(encoder_state(load_encoder("random", arch, seed=5)), tmp_path / "encoder.pt")
    main(["export", str(tmp_path / "encoder.pt"), str(tmp_path / "backbone.safetensors")])
    network = resnet18().eval()
    left = network.load_state_dict(load_file(tmp_path / "backbone.safetensors"), strict=False)
    assert left.missing_keys == ["fc.weight", "fc.bias"] and left.unexpected_keys == []
    network.fc = torch.nn.Identity()
    x = images(2, 64, 64)
    with torch.no_grad():
        assert torch.equal(network(normalize(x, IMAGENET_MEAN, IMAGENET_STD)), encoder(x))
    with safe_open(tmp_path / "backbone.safetensors", "pt") as file:
        assert file.metadata()["arch"] == "resnet18"
    torch.save(encoder_state(load_encoder("random", "dct-mlp")), tmp_path / "encoder.pt")
    capsys.readouterr()
    message, code = failed(tmp_path / "encoder.pt", tmp_path / "no.safetensors")
    assert "the encoder must be a ResNet, which torchvision has, got dct-mlp" in message and code == 2
    assert not (tmp_path / "no.safetensors").exists()


# --- what goes wrong ---


@pytest.mark.parametrize("off", [2e-4, -2e-4, float("nan")])
def test_a_file_whose_scores_differ_is_not_written(
    tmp_path: Path, failed: Callable, monkeypatch: pytest.MonkeyPatch, off: float
) -> None:
    model = ssl_iqa.load(save_model(tmp_path / "model.pt"))
    one_is_off = iter([0.0, off, 0.0, 0.0])

    def run(x: torch.Tensor) -> torch.Tensor:
        return torch.tensor(model.score([*x])) + next(one_is_off)

    monkeypatch.setattr(export, "to_onnx", lambda _: (b"file", run))
    (tmp_path / "old.onnx").write_text("what was there")
    for name in ("old.onnx", "new.onnx"):
        one_is_off = iter([0.0, off, 0.0, 0.0])
        message, code = failed(tmp_path / "model.pt", tmp_path / name)
        assert message.startswith(f"error: {tmp_path / name}: not written, since its scores differ by") and code == 1
    assert (tmp_path / "old.onnx").read_text() == "what was there"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pt", "old.onnx"]


def test_images_of_the_check_are_of_several_sizes_and_no_two_alike(tmp_path: Path) -> None:
    for mode, least in (("five", 1), ("full", 33)):
        model = ssl_iqa.load(save_model(tmp_path / "model.pt", crops=mode, data="demo"))
        batches = [*export.check_images(model)]
        assert len({x.shape for x in batches}) >= 3
        sides = {side for x in batches for side in x.shape[2:]}
        assert {side % 2 for side in sides} == {0, 1} and max(sides) > 32
        assert min(sides) == 33 if least == 33 else min(sides) < 32  # smaller than a crop
        parts = [part.numpy().tobytes() for x in batches for part in x]
        assert len({*parts}) >= 9 and all(x.min() >= 0 and x.max() <= 1 for x in batches)


def test_images_of_the_check_are_no_larger_than_the_models_long_side(tmp_path: Path) -> None:
    model = ssl_iqa.load(save_model(tmp_path / "model.pt", long_side=60))
    assert max(side for x in export.check_images(model) for side in x.shape[2:]) == 60  # else 69


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["model.pt", "model.tflite"], "OUT must end in .onnx or .safetensors, got model.tflite"),
        (["model.pt", "model"], "OUT must end in"),
        (["model.pt", "none/model.onnx"], "OUT none/model.onnx: no such folder: none"),
        (["model.pt", "folder.onnx"], "OUT must be a file, got the folder folder.onnx"),
        (["none.pt", "model.onnx"], "none.pt: no such file"),
        (["text.pt", "model.onnx"], "text.pt: damaged"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, failed: Callable, monkeypatch: pytest.MonkeyPatch, words: list[str], wanted: str
) -> None:
    monkeypatch.chdir(tmp_path)
    save_model(Path("model.pt"))
    Path("text.pt").write_text("no model")
    Path("folder.onnx").mkdir()
    error, code = failed(*words)
    assert error.startswith(f"error: {wanted}") and code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.onnx", "model.pt", "text.pt"]


@pytest.mark.parametrize(
    ("suffix", "library"), [(".onnx", "onnx"), (".onnx", "onnxscript"), (".safetensors", "safetensors")]
)
def test_a_library_that_is_not_there_is_named_with_its_extra(
    tmp_path: Path, failed: Callable, monkeypatch: pytest.MonkeyPatch, suffix: str, library: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setitem(sys.modules, f"{library}.torch", None)
    error, code = failed(save_model(tmp_path / "model.pt"), tmp_path / f"model{suffix}")
    assert error.endswith(f"need the library {library}: pip install 'ssl_iqa[export]'\n") and code == 2
