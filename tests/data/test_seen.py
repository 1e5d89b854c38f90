"""What an encoder has seen is not tested: each case on the images that finetuning really tests.

The truth is what joint training has really decoded, noted while it ran, compared by the bytes of the files.
"""

import csv
import json
import shutil
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
from torch import Tensor

import finetune
import train_joint
from ssl_iqa.data import images, seen, sets
from ssl_iqa.data.images import decode_image
from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.engine.weights import load_encoder
from ssl_iqa.evaluation import cells, probe
from ssl_iqa.evaluation.learning_curve import curve_parts
from tests.conftest import flags, load, photograph, smallest_finetune, smallest_joint
from tests.splits import split_references

IMAGES = 30


def write_csv(table: Path, names: list[str], columns: dict[str, list[str]] | None = None) -> Path:
    """Scores that rise with the number in a name, whose image is made where it is not there."""
    table.parent.mkdir(exist_ok=True, parents=True)
    for name in names:
        if not (table.parent / name).exists():
            photograph(number(name)).save(table.parent / name)
    with open(table, "w", newline="") as file:
        header, more = ["image", "score", *(columns or {})], list((columns or {}).values())
        rows = [[name, number(name), *(column[i] for column in more)] for i, name in enumerate(names)]
        csv.writer(file).writerows([header, *rows])
    return table


def number(name: str) -> int:
    return int("".join(filter(str.isdigit, name)))


NAMES = [f"image {700 + i}.png" for i in range(IMAGES)]


def note_decoded(patch: pytest.MonkeyPatch) -> set[bytes]:
    """Gathers the contents of all files that are decoded from now on."""
    found: set[bytes] = set()

    def decode_and_note(file: BinaryIO, name: str, least_side: int) -> Tensor:
        found.add(Path(name).read_bytes())
        return decode_image(file, name, least_side)

    patch.setattr(images, "decode_image", decode_and_note)
    return found


@pytest.fixture(scope="module")
def joint(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[bytes]]:
    """The folder of a joint run on thirty scored images, and the contents of those that it has decoded."""
    folder = tmp_path_factory.mktemp("joint")
    table = write_csv(folder / "data" / "scores.csv", NAMES)
    with pytest.MonkeyPatch.context() as patch:
        decoded = note_decoded(patch)
        patch.setattr(probe, "probe_types", lambda encoders, *_: {})
        patch.setattr(torch, "set_num_threads", lambda threads: None)
        settings = {"near_duplicates": "ignore", "epochs": 8, "labeled_batch_size": 6, "out": folder / "run"}
        train_joint.main(flags(smallest_joint(photographs, table) | settings))
    decoded &= {path.read_bytes() for path in table.parent.glob("*.png")}
    assert len(decoded) == 24  # 18 to train with and 6 to validate
    return folder, decoded


def images_tested(table: Path, encoder: Path, out: Path, **changes: object) -> set[bytes]:
    """The contents of the images that finetuning tests."""
    settings = smallest_finetune(table) | {"encoder": encoder, "arch": None, "epochs": 1, "seed": 5, "out": out}
    finetune.main(flags(settings | changes))
    with open(out / "predictions.csv") as file:
        return {Path(row["image"]).read_bytes() for row in csv.DictReader(file)}


def copy_of(joint: tuple[Path, set[bytes]], place: Path) -> Path:
    shutil.copytree(joint[0] / "data", place)
    return place / "scores.csv"


@pytest.mark.parametrize(("added", "removed"), [(10, 0), (1, 0), (0, 1), (3, 4)])
def test_rows_that_come_or_go_bring_nothing_seen_into_the_test(
    joint: tuple[Path, set[bytes]],
    tmp_path: Path,
    one_thread: None,
    capsys: pytest.CaptureFixture[str],
    added: int,
    removed: int,
) -> None:
    table = copy_of(joint, tmp_path / "data")
    names = [f"a first {i}.png" for i in range(added)] + NAMES[removed:]
    write_csv(table, names)
    found = images_tested(table, joint[0] / "run" / "encoder.pt", tmp_path / "out")
    assert found and not found & joint[1]
    split = json.loads((joint[0] / "run" / "splits.json").read_text())["labeled"]
    kept = {part: [name for name in split[part] if name in names] for part in seen.PARTS}
    after = json.loads((tmp_path / "out" / "results.json").read_text())["split"]
    new = {part: len(after[part]) - len(kept[part]) for part in seen.PARTS}
    assert all(set(kept[part]) <= set(after[part]) for part in seen.PARTS) and sum(new.values()) == added
    if added == 10:
        assert new == {"train": 6, "val": 2, "test": 2}
    counts = [
        ", ".join(f"{n[part]} {part}" for part in seen.PARTS) for n in ({p: len(v) for p, v in kept.items()}, new)
    ]
    told = f"keep their part: {IMAGES - removed} ({counts[0]}); new ones are drawn: {added} ({counts[1]})"
    assert told in capsys.readouterr().out


def test_an_encoder_copied_away_from_its_run_keeps_its_split(
    joint: tuple[Path, set[bytes]], tmp_path: Path, one_thread: None
) -> None:
    shutil.copy(joint[0] / "run" / "encoder.pt", tmp_path / "mine.pt")
    found = images_tested(joint[0] / "data" / "scores.csv", tmp_path / "mine.pt", tmp_path / "out")
    assert len(found) == 6 and not found & joint[1]


def test_images_elsewhere_and_under_other_names_are_recognized(
    joint: tuple[Path, set[bytes]], tmp_path: Path, one_thread: None
) -> None:
    (tmp_path / "moved").mkdir()
    renamed = [f"{i:03}-{700 + i}.png" for i in reversed(range(IMAGES))]
    for name in renamed:
        shutil.copy(joint[0] / "data" / f"image {name[-7:]}", tmp_path / "moved" / name)
    names = ["a.png", "b.png"]  # as if a third set had them
    references = [names[i % 2] + str(i) for i in range(IMAGES)]
    table = write_csv(tmp_path / "moved" / "other.csv", renamed, {"reference": references})
    found = images_tested(table, joint[0] / "run" / "encoder.pt", tmp_path / "out")
    assert len(found) == 6 and not found & joint[1]


def test_images_saved_anew_under_their_names_are_recognized(
    joint: tuple[Path, set[bytes]], tmp_path: Path, one_thread: None
) -> None:
    for name in NAMES:
        (tmp_path / "small").mkdir(exist_ok=True)
        photograph(number(name)).resize((48, 36)).save(tmp_path / "small" / name)
    table = write_csv(tmp_path / "small" / "scores.csv", NAMES)
    images_tested(table, joint[0] / "run" / "encoder.pt", tmp_path / "out")
    split = json.loads((joint[0] / "run" / "splits.json").read_text())["labeled"]
    assert json.loads((tmp_path / "out" / "results.json").read_text())["split"]["test"] == split["test"]


def test_another_sets_images_are_not_tested_where_they_were_seen(
    joint: tuple[Path, set[bytes]], tmp_path: Path, one_thread: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """--test: of a part of the same images, those that neither joint training nor finetuning has met."""
    subset = write_csv(copy_of(joint, tmp_path / "data").with_name("subset.csv"), NAMES[::2] + ["new 1.png"])
    other = write_csv(tmp_path / "other" / "scores.csv", [f"{i}.png" for i in range(10)])
    decoded: list[set[bytes]] = []
    with pytest.MonkeyPatch.context() as patch:
        elsewhere = cells.measure_elsewhere

        def noting(*args: object) -> dict:
            decoded.append(note_decoded(patch))
            return elsewhere(*args)

        patch.setattr(cells, "measure_elsewhere", noting)
        images_tested(other, joint[0] / "run" / "encoder.pt", tmp_path / "out", test=f"csv:{subset}")
    assert decoded[0] and not decoded[0] & joint[1]
    found = json.loads((tmp_path / "out" / "results.json").read_text())["tests"][f"csv:{subset}"]
    assert found["images"] == len(decoded[0]) == 16 - found["left_out"]
    assert f"({found['left_out']} that were trained on are left out)" in capsys.readouterr().out


def test_where_all_images_were_trained_on_nothing_is_tested(
    joint: tuple[Path, set[bytes]], tmp_path: Path, one_thread: None, capsys: pytest.CaptureFixture[str]
) -> None:
    split = json.loads((joint[0] / "run" / "splits.json").read_text())["labeled"]
    table = write_csv(copy_of(joint, tmp_path / "data").with_name("subset.csv"), split["train"])
    for changes in ({}, {"data": f"csv:{write_csv(tmp_path / 'b' / 'b.csv', NAMES)}", "test": f"csv:{table}"}):
        with pytest.raises(SystemExit) as caught:
            images_tested(table, joint[0] / "run" / "encoder.pt", tmp_path / "out", **changes)
        error = capsys.readouterr().err.splitlines()
        assert caught.value.code == 2 and len(error) == 1 and not (tmp_path / "out").exists()
        assert ("were trained on" if changes else "none for val and test") in error[0]


def test_several_splits_of_one_joint_run_are_refused(
    joint: tuple[Path, set[bytes]], tmp_path: Path, one_thread: None, capsys: pytest.CaptureFixture[str]
) -> None:
    table = copy_of(joint, tmp_path / "data")
    write_csv(table, ["0.png", *NAMES[5:]])
    with pytest.raises(SystemExit):
        images_tested(table, joint[0] / "run" / "encoder.pt", tmp_path / "out", splits=2)
    assert "was trained by one split" in capsys.readouterr().err


def test_the_learning_curve_trains_and_tests_within_the_parts(joint: tuple[Path, set[bytes]], tmp_path: Path) -> None:
    table = copy_of(joint, tmp_path / "data")
    write_csv(table, [f"{i}.png" for i in range(8)] + NAMES)
    encoder = joint[0] / "run" / "encoder.pt"
    settings, _ = finetune.parse_arguments(flags(smallest_finetune(table) | {"encoder": encoder, "arch": None}))
    planned = cells.plan(settings, ("lp",), None, tmp_path / "out")
    paths = planned[0].labeled.paths
    for parts, _ in curve_parts(planned):
        assert not {Path(paths[i]).read_bytes() for i in parts["test"]} & joint[1]


def test_a_finetuned_model_as_encoder_and_as_start_keeps_both_splits(
    joint: tuple[Path, set[bytes]], photographs: Path, tmp_path: Path, one_thread: None
) -> None:
    """What it was trained with in joint training and in finetuning, then in another joint run from it."""
    other = write_csv(tmp_path / "other" / "scores.csv", [f"{i}.png" for i in range(10)])
    images_tested(other, joint[0] / "run" / "encoder.pt", tmp_path / "first")
    split = json.loads((tmp_path / "first" / "results.json").read_text())["split"]
    model = tmp_path / "first" / "model.pt"
    assert [record["by"] for record in load(model)["encoder"]["seen"]] == ["joint training", "finetuning"]
    found = images_tested(joint[0] / "data" / "scores.csv", model, tmp_path / "second")
    assert len(found) == 6 and not found & joint[1]
    start = smallest_joint(photographs, other) | {"arch": None, "init": model, "seed": 9, "epochs": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe, "probe_types", lambda encoders, *_: {})
        train_joint.main(flags(start | {"arch": "dct-mlp", "out": tmp_path / "joint"}))
    assert json.loads((tmp_path / "joint" / "splits.json").read_text())["labeled"] == {"spec": f"csv:{other}", **split}
    assert len(load_encoder(tmp_path / "joint" / "encoder.pt").seen) == 3


def test_a_start_of_an_earlier_version_has_its_splits_beside_it_or_a_warning(
    joint: tuple[Path, set[bytes]],
    photographs: Path,
    tmp_path: Path,
    one_thread: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(probe, "probe_types", lambda encoders, *_: {})
    table, split = (
        joint[0] / "data" / "scores.csv",
        json.loads((joint[0] / "run" / "splits.json").read_text())["labeled"],
    )
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
        torch.save(load(joint[0] / "run" / "encoder.pt") | {"seen": None}, tmp_path / name / "encoder.pt")
        if name == "with":
            shutil.copy(joint[0] / "run" / "splits.json", tmp_path / name)
        changes = {"init": tmp_path / name / "encoder.pt", "seed": 9, "epochs": 1, "out": tmp_path / name / "run"}
        train_joint.main(flags(smallest_joint(photographs, table) | {"near_duplicates": "ignore"} | changes))
        after = json.loads((tmp_path / name / "run" / "splits.json").read_text())["labeled"]
        warned = "does not say what it was trained on" in capsys.readouterr().err
        assert (after == split, warned) == (name == "with", name == "without")


# --- the parts, worked out ---


def records(**parts: list[str]) -> list[seen.Record]:
    return [{"data": "csv:x", "seed": 0, "by": "", "references": parts, "images": {}}]


def own(tmp_path: Path, names: list[str], references: list[str] | None = None) -> LabeledSet:
    columns = {"reference": references} if references else None
    return sets.load_labeled(f"csv:{write_csv(tmp_path / 'own.csv', names, columns)}")


def test_a_reference_in_several_parts_counts_to_the_one_that_was_seen_most(tmp_path: Path) -> None:
    labeled = own(tmp_path, [f"{i}.png" for i in range(5)])
    known = seen.known_parts(
        labeled, [*records(train=["0.png"], test=["1.png"]), *records(test=["0.png"], val=["1.png"])]
    )
    assert known == {"0.png": "train", "1.png": "val"}


def test_an_image_under_two_names_is_one_reference(tmp_path: Path) -> None:
    labeled = own(tmp_path, [f"{i}.png" for i in range(10)])
    for i in range(1, 10, 2):
        shutil.copy(tmp_path / f"{i - 1}.png", tmp_path / f"{i}.png")
    for seed in range(5):
        split = seen.divide(labeled, {}, seed)
        assert {part: len(names) for part, names in split.items()} == {"train": 6, "val": 2, "test": 2}
        for names in split.values():
            assert {int(name[0]) // 2 for name in names} == {int(names[i][0]) // 2 for i in range(0, len(names), 2)}
    assert seen.known_parts(labeled, records(train=["4.png"])) == {"4.png": "train", "5.png": "train"}


def test_references_that_share_images_by_way_of_another_are_one(tmp_path: Path) -> None:
    labeled = own(tmp_path, [f"{i}.png" for i in range(7)], ["a", "b", "b", "c", "d", "e", "f"])
    for one, other in ((0, 1), (2, 3)):
        shutil.copy(tmp_path / f"{one}.png", tmp_path / f"{other}.png")
    assert seen.known_parts(labeled, records(val=["c"])) == dict.fromkeys("abc", "val")
    for seed in range(5):
        assert any({*"abc"} <= {*names} for names in seen.divide(labeled, {}, seed).values())


def test_without_anything_known_or_alike_the_split_is_the_seeds(tmp_path: Path) -> None:
    labeled = own(tmp_path, [f"{i}.png" for i in range(12)])
    assert seen.divide(labeled, {}, 3) == split_references(labeled.references, 3)


@pytest.mark.parametrize(
    ("known", "new", "wanted"),
    [
        ((18, 6, 6), 10, (6, 2, 2)),  # of 40: 24, 8, 8
        ((18, 0, 0), 4, (0, 2, 2)),  # of 22 val and test should have 4 each
        ((18, 0, 0), 5, (0, 2, 3)),
        ((6, 2, 0), 1, (0, 0, 1)),
        ((6, 2, 2), 1, (1, 0, 0)),
    ],
)
def test_new_references_bring_the_parts_near_to_their_shares(
    tmp_path: Path, known: tuple[int, ...], new: int, wanted: tuple[int, ...]
) -> None:
    names = [f"{i:02}.png" for i in range(sum(known) + new)]
    labeled, parts = own(tmp_path, names), [part for part, n in zip(seen.PARTS, known, strict=True) for _ in range(n)]
    before = dict(zip(names[new:], parts, strict=True))
    split = seen.divide(labeled, before, seed=0)
    assert tuple(len({*split[part]} - {*before}) for part in seen.PARTS) == wanted
    assert all(name in split[part] for name, part in before.items())
