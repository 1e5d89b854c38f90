"""What the file of a model holds, as model.pt and as .safetensors: what older versions wrote, what is refused."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import ssl_iqa
from ssl_iqa.__main__ import main
from ssl_iqa.engine import model_file as modelfile
from ssl_iqa.engine.weights import encoder_state
from ssl_iqa.model import Encoder, Regressor
from tests.conftest import error_of, same
from tests.models import RESULTS, SETTINGS, save_model

NOT_A_MODEL = f": {modelfile.NOT_A_MODEL}"
NAMING = {
    "weight": torch.randn(3, 256, generator=torch.Generator().manual_seed(0)),
    "bias": torch.arange(3.0),
    "classes": [["white_noise", 1], ["white_noise", 4], ["pristine", 0]],
    "right": {"type": 0.5, "level": 0.4, "photographs": 9},
}


def content_of(tmp_path: Path) -> dict[str, Any]:
    return modelfile.read(save_model(tmp_path / "plain.pt", {"naming": NAMING}))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The tests' model as .safetensors."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(modelfile.to_safetensors(content_of(tmp_path)))
    return path


def refused(path: Path) -> str:
    """Why a file is refused: one line that begins with its name."""
    error = error_of(ValueError, ssl_iqa.load, path)
    assert error.startswith(f"{path}")
    return error.removeprefix(f"{path}")


# --- .safetensors ---


def test_a_safetensors_file_is_the_same_model(file: Path, tmp_path: Path, photographs: Path) -> None:
    a, b = ssl_iqa.load(tmp_path / "plain.pt"), ssl_iqa.load(file)
    for name in ("encoder", "regressor"):
        assert same(dict(getattr(a, name).state_dict()), dict(getattr(b, name).state_dict()))
    assert torch.equal(a.residuals, b.residuals) and a.residuals.dtype == b.residuals.dtype
    assert (a.score_range, a.settings, a.results) == (b.score_range, b.settings, b.results)
    assert same(b.naming, NAMING) and "distortions" in b.card()
    assert not b.encoder.training and not b.regressor.training
    assert a.card() == b.card() and a.score(photographs / "0.png") == b.score(photographs / "0.png")


def test_scores_are_printed_of_a_safetensors_file(
    file: Path, tmp_path: Path, photographs: Path, capsys: pytest.CaptureFixture[str], one_thread: None
) -> None:
    shown = []
    for path in (tmp_path / "plain.pt", file):
        main(["score", str(path), str(photographs), "--json"])
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1] and shown[0].count("\n") == 10


def test_weights_in_another_memory_format_and_no_residuals_are_saved(tmp_path: Path) -> None:
    encoder = Encoder("resnet18").to(memory_format=torch.channels_last)  # as finetune.py's are
    content = content_of(tmp_path) | {"encoder": encoder_state(encoder), "regressor": Regressor(512).state_dict()}
    content |= {"residuals": torch.empty(0), "results": {}, "naming": None}
    path = tmp_path / "model.safetensors"
    path.write_bytes(modelfile.to_safetensors(content))
    loaded = ssl_iqa.load(path)
    assert same(dict(loaded.encoder.state_dict()), dict(encoder.state_dict()))
    assert loaded.residuals.shape == (0,) and loaded.results == {} and loaded.naming is None


def test_the_file_says_in_json_what_it_holds(file: Path) -> None:
    with safe_open(file, framework="numpy") as opened:
        metadata, names = opened.metadata(), {*opened.keys()}
    assert (metadata["format"], metadata["version"], metadata["arch"]) == ("ssl_iqa.model", "1", '"dct-mlp"')
    assert json.loads(metadata["settings"]) == SETTINGS and json.loads(metadata["results"]) == RESULTS
    assert {name.partition(".")[0] for name in names} == {"encoder", "regressor", "naming", "residuals"}


def changed_metadata(file: Path, path: Path, **metadata: str) -> Path:
    with safe_open(file, framework="pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  (no mapping)
        save_file(tensors, path, opened.metadata() | metadata)
    return path


def test_a_file_of_an_earlier_version_with_its_checksum_loads(file: Path, tmp_path: Path) -> None:
    old = changed_metadata(file, tmp_path / "old.safetensors", sha256="0" * 64)
    assert same(modelfile.read(old), modelfile.read(file)) and ssl_iqa.load(old).card() == ssl_iqa.load(file).card()


def at(whole: bytes, place: int) -> bytes:
    """A file with one bit of it turned."""
    return whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]


@pytest.mark.parametrize(
    ("damage", "wanted"),
    [
        (lambda whole: whole.replace(b"layer1.0.weight", b"layer1.9.weight"), " as dct-mlp: "),
        (lambda whole: whole.replace(b"ssl_iqa.model", b"ssl_iqa.other"), NOT_A_MODEL),
        (lambda whole: whole[:-1], ": damaged, or no .safetensors file"),
        (lambda whole: whole[: len(whole) // 2], ": damaged, or no .safetensors file"),
        (lambda whole: whole[:100], ": damaged, or no .safetensors file"),
        (lambda whole: whole + b"x", ": damaged, or no .safetensors file"),
        (lambda whole: at(whole, 0), ": damaged, or no .safetensors file"),
        (lambda whole: b"", ": damaged, or no .safetensors file"),
        (lambda whole: b"text", ": damaged, or no .safetensors file"),
    ],
)
def test_a_safetensors_file_that_is_damaged_is_refused(
    file: Path, damage: Callable[[bytes], bytes], wanted: str
) -> None:
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert file.read_bytes() != whole and refused(file).startswith(wanted)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, "null"])
def test_another_safetensors_file_is_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "other.safetensors"
    if metadata == "null":
        path.write_bytes((21).to_bytes(8, "little") + b'{"__metadata__":null}')
    else:
        save_file({"weight": torch.zeros(2)}, path, metadata)
    assert refused(path).startswith(NOT_A_MODEL)


def test_a_model_pt_under_the_other_name_is_refused(tmp_path: Path) -> None:
    path = save_model(tmp_path / "model.safetensors")
    assert refused(path).startswith(": damaged, or no .safetensors file")


def test_a_safetensors_file_is_checked_as_any_other(file: Path, tmp_path: Path) -> None:
    for name, text, wanted in (
        ("settings", "{}", NOT_A_MODEL),
        ("settings", "no JSON", ": damaged, or no .safetensors file"),
        ("version", "2", ": made by a newer version of ssl_iqa (file version 2): update ssl_iqa"),
        ("encoder_version", "7", ": the encoder's version must be 1, got 7"),
        ("arch", '"vgg"', ": arch must be one of "),
        ("arch", '"resnet18"', " as resnet18: "),
    ):
        changed = changed_metadata(file, tmp_path / "changed.safetensors", **{name: text})
        assert refused(changed).startswith(wanted)


def test_without_the_library_the_extra_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("safetensors", "safetensors.torch"):
        monkeypatch.setitem(sys.modules, name, None)
    assert "pip install 'ssl_iqa[export]'" in error_of(ValueError, ssl_iqa.load, file)


def test_what_is_written_can_be_read_again(file: Path, tmp_path: Path) -> None:
    old = modelfile.read(save_model(tmp_path / "old.pt", {"format": None, "version": None}))
    wanted = {**old, "format": "ssl_iqa.model", "version": 1, "score_range": [1.0, 2.0]}
    for path in (tmp_path / "again.pt", file):
        modelfile.write(old | {"score_range": [1.0, 2.0]}, path)
        assert same(modelfile.read(path), wanted)


# --- model.pt ---


def test_a_file_from_before_versions_loads(tmp_path: Path) -> None:
    new = ssl_iqa.load(save_model(tmp_path / "new.pt"))
    old = ssl_iqa.load(save_model(tmp_path / "old.pt", {"format": None, "version": None}))
    assert old.card() == new.card() and torch.equal(old.residuals, new.residuals)


def test_a_file_for_other_programs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"anything")
    assert refused(path).startswith(": damaged, or no checkpoint")


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({"format": "other"}, NOT_A_MODEL),
        ({"version": 2}, "newer version of ssl_iqa (file version 2): update ssl_iqa"),
        ({"version": "2"}, NOT_A_MODEL),
        ({"regressor": None}, NOT_A_MODEL),
        ({"regressor": 1}, "the weights do not fit: "),
        ({"regressor": {"0.weight": 1}}, "the weights do not fit: Error(s) in loading state_dict for Regressor"),
        ({"regressor": Regressor(100).state_dict()}, "the regressor of a dct-mlp encoder: "),
        ({"score_range": None}, NOT_A_MODEL),
        ({"residuals": [0.1]}, NOT_A_MODEL),
        ({"settings": {name: SETTINGS[name] for name in SETTINGS if name != "crop"}}, NOT_A_MODEL),
        ({"settings": SETTINGS | {"crops": "ten"}}, NOT_A_MODEL),
        ({"results": {"srocc": 0.9}}, NOT_A_MODEL),
        ({"encoder": 3}, "not an encoder of ssl_iqa"),
        ({"naming": {"weight": 1}}, NOT_A_MODEL),
        ({"naming": NAMING | {"weight": torch.zeros(3, 100)}}, "its naming is not for a dct-mlp encoder"),
    ],
)
def test_a_model_pt_with_something_wrong_in_it_is_refused(tmp_path: Path, changed: dict[str, Any], wanted: str) -> None:
    message = refused(save_model(tmp_path / "model.pt", changed))
    assert wanted in message and "\n" not in message
