"""Bad input ends each command with exit code 2 and one line that names what came; never with a traceback."""

import csv
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

import finetune
import train_joint
from ssl_iqa import __main__
from ssl_iqa.engine import run_folder
from ssl_iqa.engine.weights import encoder_state, load_encoder
from tests.splits import split_references

Arguments = Callable[..., list[str]]
MAINS = {"train_joint": train_joint.main, "finetune": finetune.main, "probe": partial(__main__.run, "probe")}


@pytest.fixture
def error_of(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """error_of(script, arguments): what the command prints on stderr, one line."""

    def run(script: str, arguments: list[str]) -> str:
        with pytest.raises(SystemExit) as caught:
            MAINS[script](arguments)
        error = capsys.readouterr().err
        assert caught.value.code == 2
        assert error.count("\n") == 1 and "error: " in error and "Traceback" not in error
        return error

    return run


@pytest.fixture(params=["train_joint", "finetune"])
def script(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def arguments(script: str, joint_arguments: Arguments, finetune_arguments: Arguments, tmp_path: Path) -> Arguments:
    """arguments(name=value ..) of the script; `labeled` is what finetune.py calls `data`."""

    def make(**changes: object) -> list[str]:
        if script == "finetune" and "labeled" in changes:
            changes["data"] = changes.pop("labeled")
        smallest = joint_arguments if script == "train_joint" else finetune_arguments
        return smallest(**{"out": tmp_path / "run", **changes})

    return make


def names(error: str, *wanted: object) -> bool:
    return all(str(part) in error for part in wanted)


# --- flags ---


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"arch": "vgg19"}, ("--arch", "vgg16", "resnet50")),
        ({"device": "tpu"}, ("--device", "tpu")),
        ({"preset": "tiny"}, ("--preset", "tiny", "demo", "paper")),
        ({"epochs": "many"}, ("--epochs", "many")),
        ({"epochs": 0}, ("--epochs", "at least 1", "got 0")),
        ({"crop": 8}, ("--crop", "at least 32", "got 8")),
        ({"batch_size": 1}, ("--batch-size", "at least 2", "got 1")),
        ({"lr": "nan"}, ("--lr", "more than 0", "got nan")),
        ({"lr": -1}, ("--lr", "more than 0", "got -1")),
        ({"seed": -3}, ("--seed", "at least 0", "got -3")),
        ({"seed": 2**64}, ("--seed", "at most 9223372036854775807", "got 18446744073709551616")),
        ({"color": "red"}, ("--color",)),
        ({"labeled": "tid2008:DIR"}, ("'tid2008:DIR'", "kadid10k:DIR")),
        ({"labeled": "kadid10k:"}, ("'kadid10k:'", "DIR")),
    ],
)
def test_a_flag_with_a_wrong_value(
    script: str, arguments: Arguments, error_of: Callable, changes: dict, wanted: tuple
) -> None:
    assert names(error_of(script, arguments(**changes)), *wanted)


@pytest.mark.parametrize(
    ("script", "changes", "wanted"),
    [
        ("train_joint", {"alpha": 2}, ("--alpha", "at most 1", "got 2.0")),
        ("train_joint", {"average": "sum"}, ("--average", "sum", "anchors")),
        ("train_joint", {"schedule": "cosine"}, ("--schedule", "cosine")),
        ("train_joint", {"labeled": None}, ("--labeled", "--alpha 1")),
        ("train_joint", {"unlabeled": None}, ("--unlabeled", "folder")),
        ("train_joint", {"images_per_class": 3}, ("--images-per-class", "--batch-size", "got 3")),
        ("finetune", {"mode": "both"}, ("--mode", "both", "lp-ft")),
        ("finetune", {"crops": "ten"}, ("--crops", "ten", "five")),
        ("finetune", {"data": None}, ("--data", "csv:FILE")),
    ],
)
def test_a_flag_of_one_script_with_a_wrong_value(
    script: str, arguments: Arguments, error_of: Callable, changes: dict, wanted: tuple
) -> None:
    assert names(error_of(script, arguments(**changes)), *wanted)


def test_a_device_that_is_not_there(
    script: str, arguments: Arguments, error_of: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert names(error_of(script, arguments(device="cuda")), "--device must be cpu or auto", "got cuda")


# --- images ---


@pytest.mark.parametrize("kind", ["missing", "file", "empty", "one"])
def test_a_folder_of_images_that_is_none(
    joint_arguments: Arguments, error_of: Callable, photographs: Path, tmp_path: Path, kind: str
) -> None:
    folder = tmp_path / "images"
    if kind == "file":
        folder.touch()
    elif kind != "missing":
        folder.mkdir()
        (folder / "note.txt").touch()
    if kind == "one":
        (folder / "only.png").write_bytes((photographs / "0.png").read_bytes())
    error = error_of("train_joint", joint_arguments(unlabeled=folder, out=tmp_path / "run"))
    says = {"missing": "no such folder", "file": "no such folder", "empty": "no images", "one": "2 or more"}
    assert names(error, folder, says[kind]) and not (tmp_path / "run").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_images_none_of_which_can_be_read(
    joint_arguments: Arguments, error_of: Callable, photographs: Path, tmp_path: Path, workers: int
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(5):
        (folder / f"{i}.png").write_bytes((photographs / f"{i}.png").read_bytes()[:300])
    error = error_of("train_joint", joint_arguments(unlabeled=folder, workers=workers, out=tmp_path / "run"))
    assert names(error, folder, "usable")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def own_set(scored: Path, tmp_path: Path) -> Path:
    """The scored set, copied to be damaged."""
    folder = tmp_path / "set"
    folder.mkdir()
    for path in scored.parent.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder / "scores.csv"


def damage(table: Path, wanted: Callable[[str], bool]) -> list[str]:
    """Truncates the set's images whose reference is wanted: their names."""
    rows = list(csv.DictReader(table.open()))
    named = [row["image"] for row in rows if wanted(row["reference"])]
    for name in named:
        (table.parent / name).write_bytes((table.parent / name).read_bytes()[:300])
    return named


def test_scored_images_none_of_which_can_be_read(
    script: str, arguments: Arguments, error_of: Callable, own_set: Path
) -> None:
    damage(own_set, lambda reference: True)
    assert names(error_of(script, arguments(labeled=f"csv:{own_set}")), own_set.parent, "usable")


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_a_part_none_of_whose_images_can_be_read(
    finetune_arguments: Arguments, error_of: Callable, own_set: Path, tmp_path: Path, part: str
) -> None:
    references = {row["reference"] for row in csv.DictReader(own_set.open())}
    split = split_references(sorted(references), 0)
    damage(own_set, lambda reference: reference in split[part])
    error = error_of("finetune", finetune_arguments(data=f"csv:{own_set}", out=tmp_path / "run"))
    assert names(error, own_set.parent, "usable") and not (tmp_path / "run").exists()


def test_images_too_small_for_a_baseline(
    finetune_arguments: Arguments, error_of: Callable, scored: Path, tmp_path: Path
) -> None:
    diivine = finetune_arguments(data=f"csv:{scored}", encoder=None, encoders="diivine", out=tmp_path / "run")
    error = error_of("finetune", diivine)
    assert names(error, "got 0 and 0", "too small")


def test_a_part_of_one_image_has_no_srocc(
    finetune_arguments: Arguments, error_of: Callable, own_set: Path, tmp_path: Path
) -> None:
    rows = own_set.read_text().splitlines()
    own_set.write_text("\n".join([rows[0], rows[1], rows[5], rows[9], rows[14]]))  # one image of each of four
    error = error_of("finetune", finetune_arguments(data=f"csv:{own_set}", out=tmp_path / "run"))
    assert names(error, f"csv:{own_set}", "val", "two")


def test_some_unreadable_scored_images_are_named_counted_and_left_out(
    finetune_arguments: Arguments, own_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split = split_references([f"reference {i}" for i in range(10)], 0)
    firsts = {split[part][0] for part in split}  # one of each part
    rows = list(csv.DictReader(own_set.open()))
    named = [next(row["image"] for row in rows if row["reference"] == reference) for reference in sorted(firsts)]
    for name in named:
        (own_set.parent / name).write_text(f"no image: {name}")  # the same content would be one image
    finetune.main(finetune_arguments(data=f"csv:{own_set}", out=tmp_path / "run", epochs=3))
    shown = capsys.readouterr()
    warnings = sorted(line for line in shown.err.splitlines() if line.startswith("warning"))
    assert warnings == [f"warning: {own_set.parent / name}: cannot be read, skipped" for name in sorted(named)]
    results = run_folder.read_json(tmp_path / "run" / "results.json")
    assert (results["images"], results["unreadable"]) == (7, 1) and "(1 could not be read)" in shown.out


# --- tables ---


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("photo,score\n0_blur_1.png,3\n", ("line 1", "image")),
        ("image,mos\n0_blur_1.png,3\n", ("line 1", "score")),
        ("image,score\n0_blur_1.png,3\n1_blur_1.png,good\n", ("line 3", "'good'", "number")),
        ("image,score\n0_blur_1.png,3\n1_blur_1.png,\n", ("line 3", "number")),
        ("image,score\n0_blur_1.png,nan\n", ("line 2", "nan")),
        ("image,score\n0_blur_1.png,3\nnone.png,4\n", ("line 3", "none.png", "no such file")),
        ("image,score\n0_blur_1.png\n", ("line 2", "2 cells, got 1")),
        ("image,score\n0_blur_1.png,3\n1_blur_1.png,3\n", ("scores must differ, got 3",)),
        ("image,score\n0_blur_1.png,3\n1_blur_1.png,4\n", ("reference image", "none for val and test", "of 2")),
        ("image,score\n", ("must have a row",)),
        ("", ("line 1", "got nothing")),
    ],
)
def test_a_table_that_is_wrong(
    script: str, arguments: Arguments, error_of: Callable, own_set: Path, content: str, wanted: tuple
) -> None:
    own_set.write_text(content)
    error = error_of(script, arguments(labeled=f"csv:{own_set}"))
    assert names(error, *wanted) and (names(error, own_set) or "distinct" in error)


@pytest.mark.parametrize("spec", ["csv:{}/none.csv", "kadid10k:{}/none", "koniq10k:{}/none"])
def test_a_set_that_is_not_there(
    script: str, arguments: Arguments, error_of: Callable, tmp_path: Path, spec: str
) -> None:
    assert names(error_of(script, arguments(labeled=spec.format(tmp_path))), tmp_path / "none", "no such file")


# --- checkpoints ---


def save(content: object, path: Path) -> Path:
    torch.save(content, path)
    return path


def initial(script: str, path: Path) -> dict[str, Path]:
    """The flag that a script takes its encoder from."""
    return {"init" if script == "train_joint" else "encoder": path}


def test_a_checkpoint_of_another_architecture(
    script: str, arguments: Arguments, error_of: Callable, tmp_path: Path
) -> None:
    path = save(encoder_state(load_encoder("random", "dct-mlp")), tmp_path / "e.pt")
    error = error_of(script, arguments(**initial(script, path), arch="resnet50"))
    assert names(error, path, "dct-mlp", "resnet50")
    assert not (tmp_path / "run").exists()


def test_weights_of_another_architecture(script: str, arguments: Arguments, error_of: Callable, tmp_path: Path) -> None:
    path = save(load_encoder("random", "resnet34").network.state_dict(), tmp_path / "e.pth")
    assert names(error_of(script, arguments(**initial(script, path), arch="resnet18")), path, "resnet18", "do not fit")


@pytest.mark.parametrize("kind", ["missing", "truncated", "text", "other"])
def test_a_checkpoint_that_is_none(
    script: str, arguments: Arguments, error_of: Callable, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "e.pt"
    if kind == "truncated":
        save(encoder_state(load_encoder("random", "dct-mlp")), path)
        path.write_bytes(path.read_bytes()[:9000])
    elif kind == "text":
        path.write_text("no checkpoint")
    elif kind == "other":
        save({"weights": torch.zeros(3)}, path)
    says = {"missing": "no such file", "truncated": "damaged", "text": "damaged", "other": "not an encoder"}
    assert names(error_of(script, arguments(**initial(script, path))), path, says[kind])


def test_a_small_encoder_has_no_imagenet_weights(script: str, arguments: Arguments, error_of: Callable) -> None:
    assert names(error_of(script, arguments(**initial(script, Path("imagenet")))), "ImageNet", "dct-mlp", "random")


@pytest.mark.parametrize("content", [b"half", b""])
def test_a_run_whose_checkpoint_is_damaged_cannot_be_resumed(
    joint_arguments: Arguments, error_of: Callable, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "last.pt").write_bytes(content)
    assert names(error_of("train_joint", joint_arguments(out=tmp_path, resume=True)), tmp_path / "last.pt", "damaged")


# --- output ---


@pytest.mark.parametrize("kind", ["a file", "below a file", "read-only"])
def test_an_output_folder_that_cannot_be_written(
    script: str, arguments: Arguments, error_of: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    out = {
        "a file": tmp_path / "file",
        "below a file": tmp_path / "file" / "run",
        "read-only": tmp_path / "folder",
    }[kind]
    if kind == "read-only":
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != out)  # root may write everywhere
    assert names(error_of(script, arguments(out=out)), out)


# --- the probe ---


def test_the_probe_wants_an_encoder_of_the_demo(error_of: Callable, tmp_path: Path) -> None:
    path = tmp_path / "encoder.pt"
    assert names(error_of("probe", [str(path)]), path, "no such file")
    assert names(error_of("probe", ["random"]), "random: no such file; encoder.pt of a joint run is required")
    assert names(error_of("probe", [str(path), "--seed", "-1"]), "--seed must be a whole number 0 to", "got '-1'")
    save(encoder_state(load_encoder("random", "dct-mlp")), path)
    assert names(error_of("probe", [str(path)]), tmp_path / "config.json")
    run_folder.write_json({"seed": 0, "crop": 32}, tmp_path / "config.json")
    run_folder.write_json({"labeled": {"spec": "csv:own.csv"}}, tmp_path / "splits.json")
    assert names(error_of("probe", [str(path)]), path, "demo")
    (tmp_path / "splits.json").write_text("{")
    assert names(error_of("probe", [str(path)]), tmp_path / "splits.json", "not a JSON file")
    assert names(error_of("probe", [str(path), "--part", "train"]), "--part", "train")
