"""What the file of a model holds, as model.pt and as .safetensors: what older versions wrote, what is refused."""

import hashlib
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
from ssl_iqa.data import views
from ssl_iqa.engine import model_file as modelfile
from ssl_iqa.engine.weights import encoder_state
from ssl_iqa.model import Encoder, Regressor
from ssl_iqa.scoring import explain, quality, score
from tests.conftest import error_of, same
from tests.models import RESULTS, SETTINGS, save_model

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
        score.main([str(path), str(photographs), "--json"])
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


def test_the_checksum_is_sha256_of_names_types_shapes_and_bytes(file: Path) -> None:
    known = hashlib.sha256()
    with safe_open(file, framework="numpy") as opened:
        metadata = opened.metadata()
        given = metadata.pop("sha256")
        for name in sorted(metadata):
            known.update(json.dumps([name, metadata[name]]).encode())
        for name in sorted(opened.keys()):
            array = opened.get_tensor(name)
            known.update(json.dumps([name, f"torch.{array.dtype}", list(array.shape)]).encode() + array.tobytes())
    assert given == known.hexdigest()
    assert (metadata["format"], metadata["version"], metadata["arch"]) == ("ssl_iqa.model", "1", '"dct-mlp"')
    assert json.loads(metadata["settings"]) == SETTINGS and json.loads(metadata["results"]) == RESULTS


def at(whole: bytes, place: int) -> bytes:
    """A file with one bit of it turned."""
    return whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]


@pytest.mark.parametrize(
    ("damage", "wanted"),
    [
        (lambda whole: at(whole, len(whole) - 1), ": damaged or changed: its checksum"),
        (lambda whole: at(whole, len(whole) // 2), ": damaged or changed: its checksum"),
        (lambda whole: whole.replace(b"csv:own.csv", b"csv:owm.csv"), ": damaged or changed: its checksum"),
        (lambda whole: whole.replace(b"0.81", b"0.91"), ": damaged or changed: its checksum"),
        (lambda whole: whole.replace(b'"sha256"', b'"sha255"'), ": damaged or changed: its checksum"),
        (lambda whole: whole.replace(b"layer1.0.weight", b"layer1.9.weight"), ": damaged or changed: its checksum"),
        (lambda whole: whole.replace(b"ssl_iqa.model", b"ssl_iqa.other"), ": no model of finetune.py"),
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
    assert refused(path).startswith(": no model of finetune.py; its model.pt is wanted")


def test_a_model_pt_under_the_other_name_is_refused(tmp_path: Path) -> None:
    path = save_model(tmp_path / "model.safetensors")
    assert refused(path).startswith(": damaged, or no .safetensors file")


def with_checksum(tensors: dict[str, torch.Tensor], metadata: dict[str, str], path: Path) -> Path:
    save_file(tensors, path, metadata | {"sha256": modelfile.checksum(tensors, metadata)})
    return path


def test_a_safetensors_file_with_a_right_checksum_is_checked_as_any_other(file: Path, tmp_path: Path) -> None:
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  (no mapping)
    changed = tmp_path / "changed.safetensors"
    for name, text, wanted in (
        ("settings", "{}", ": its settings is not"),
        ("settings", "no JSON", ": its settings is no JSON"),
        ("version", "2", ": made by a newer version of ssl_iqa (file version 2): update ssl_iqa"),
        ("encoder_version", "7", ": encoder version 7"),
        ("arch", '"vgg"', ": arch 'vgg'"),
        ("arch", '"resnet18"', " as resnet18: "),
    ):
        assert refused(with_checksum(tensors, metadata | {name: text}, changed)).startswith(wanted)
    del tensors["regressor.0.bias"]
    assert "the first '0.bias' is missing" in refused(with_checksum(tensors, metadata, changed))


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


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_a_file_for_other_programs_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"anything")
    assert refused(path).startswith(": exported for other programs; the model.pt")


SPARSE = {name: tensor.to_sparse() for name, tensor in Regressor(256).state_dict().items()}
ODD = [None, -1, 5, float("nan"), "text", "", [], [1, 2], {}, {"a": 1}, torch.zeros(2, 2), torch.tensor(1)]


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({"format": "other"}, "no model of finetune.py"),
        ({"version": 2}, "newer version of ssl_iqa (file version 2): update ssl_iqa"),
        ({"regressor": None}, "no model of finetune.py"),
        ({"regressor": 1}, "its regressor"),
        ({"regressor": {"0.weight": 1}}, "the first '0.weight' is ['no tensor']"),
        ({"regressor": Regressor(100).state_dict()}, "the regressor of a dct-mlp encoder: "),
        ({"regressor": SPARSE}, "the regressor of a dct-mlp encoder: the weights cannot be copied"),
        ({"score_range": [1.0]}, "its score_range is not what finetune.py writes: two numbers"),
        ({"score_range": [1.0, float("inf")]}, "its score_range"),
        ({"residuals": [0.1]}, "its residuals"),
        ({"residuals": torch.tensor([-0.1])}, "its residuals"),
        ({"residuals": torch.zeros(2, 2)}, "its residuals"),
        ({"residuals": torch.zeros(2, dtype=torch.complex64)}, "its residuals"),
        ({"residuals": torch.ones(2).to_sparse()}, "its residuals"),
        ({"settings": {name: SETTINGS[name] for name in SETTINGS if name != "crop"}}, "its settings"),
        ({"settings": {name: SETTINGS[name] for name in SETTINGS if name != "crops"}}, "its settings"),
        ({"settings": {name: SETTINGS[name] for name in SETTINGS if name != "data"}}, "its settings"),
        ({"settings": SETTINGS | {"crop": 31}}, "its settings"),
        ({"settings": SETTINGS | {"crops": "ten"}}, "its settings"),
        ({"results": {"srocc": 0.9}}, "its results"),
        ({"results": {name: RESULTS[name] for name in RESULTS if name != "coverage"}}, "its results"),
        ({"encoder": 3}, "not an encoder of ssl_iqa"),
        ({"naming": {}}, "its naming is not what finetune.py writes: none, or weight, bias"),
        ({"naming": NAMING | {"weight": torch.zeros(3, 100)}}, "its naming is not for a dct-mlp encoder"),
        ({"naming": NAMING | {"weight": torch.zeros(3)}}, "its naming"),
        ({"naming": NAMING | {"weight": torch.zeros(3, 256).double()}}, "its naming"),
        ({"naming": NAMING | {"weight": torch.zeros(3, 256).to_sparse()}}, "its naming"),
        ({"naming": NAMING | {"bias": torch.zeros(4)}}, "its naming"),
        ({"naming": NAMING | {"classes": [["pristine", 0]] * 2}}, "its naming"),
        ({"naming": NAMING | {"classes": [["pristine", "0"]] * 3}}, "its naming"),
        ({"naming": NAMING | {"right": {"type": 0.5, "level": 0.4}}}, "its naming"),
        (
            {"naming": NAMING | {"weight": torch.zeros(0, 256), "bias": torch.zeros(0), "classes": []}},
            "its naming",
        ),
    ],
)
def test_a_model_pt_with_something_wrong_in_it_is_refused(tmp_path: Path, changed: dict[str, Any], wanted: str) -> None:
    assert wanted in refused(save_model(tmp_path / "model.pt", changed))


def places(content: Any, above: tuple = ()) -> list[tuple]:
    """The keys that lead to everything in a file, but only to the first two weights of a network."""
    found = [above] if above else []
    if isinstance(content, dict):
        keys = [*content][:2] if above[-1:] in (("weights",), ("regressor",)) else content
        found += [place for key in keys for place in places(content[key], (*above, key))]
    return found


def replaced(content: Any, place: tuple, value: Any) -> Any:
    return {**content, place[0]: replaced(content[place[0]], place[1:], value)} if place else value


def test_whatever_stands_in_the_file_is_taken_whole_or_refused_in_a_line(tmp_path: Path) -> None:
    content = content_of(tmp_path)
    taken = set()
    for place in places(content):
        for value in ODD:
            try:
                changed = modelfile.checked(replaced(content, place, value), "x.pt")
                model = quality.from_content(changed, "x.pt")
            except ValueError as error:
                assert str(error).startswith("x.pt") and "\n" not in str(error), (place, value)
            else:
                taken.add(place[-1])
                assert model.card() and model.margin() >= 0, (place, value)
                assert model.naming is None or explain.name_distortion(model.naming, torch.ones(5, 256))
    harmless = {"version", "data", "mode", "encoder", "seen"}  # of settings; and what the card shows of results
    assert taken <= harmless | {
        *RESULTS,
        "score_range",
        "results",
        "residuals",
        "train",
        "val",
        "test",
        *NAMING["right"],
        "naming",
    }


def test_it_knows_the_crops_that_there_are() -> None:
    """By numbers of its own: a file's format does not stand on how images are read."""
    assert (*views.PLACES, "full") == modelfile.CROPS and views.LEAST == modelfile.LEAST
