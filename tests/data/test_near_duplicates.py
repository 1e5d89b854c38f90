"""The perceptual hash against SciPy's DCT, the search against loops, and copies of scored images in training."""

import csv
import json
import os
import re
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from scipy import fft

import train_joint
from ssl_iqa.__main__ import main
from ssl_iqa.data import near_duplicates as duplicates
from ssl_iqa.data import sets
from ssl_iqa.data.datasets import UnlabeledViews
from ssl_iqa.data.demo import demo_sources
from ssl_iqa.data.images import list_images, read_image
from ssl_iqa.data.near_duplicates import hash_images, near_duplicates, phash, within
from ssl_iqa.engine import distributed
from ssl_iqa.evaluation import probe
from tests.conftest import load, photograph

Arguments = Callable[..., list[str]]


def as_bytes(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


# --- the hash ---


@pytest.mark.parametrize("seed", range(4))
def test_bits_are_scipys_low_frequencies_about_their_median(seed: int) -> None:
    gray = np.random.default_rng(seed).integers(0, 256, (32, 32), dtype=np.uint8)  # as it is hashed: not resized
    expected = []
    for plane in (gray, gray[:, ::-1]):
        low = fft.dctn(plane.astype(np.float64), type=2)[:8, :8].flatten()
        middle = sorted(low)[31:33]
        expected.append(low > sum(middle) / 2)
    assert np.array_equal(phash(as_bytes(Image.fromarray(gray))), expected)
    assert np.sum(expected) == 64 and not np.array_equal(*expected)


def test_the_second_hash_is_that_of_the_mirror_image() -> None:
    for path in [*demo_sources()][:12]:
        with Image.open(path) as image:
            upright, mirrored = phash(as_bytes(image)), phash(as_bytes(ImageOps.mirror(image)))
        assert np.array_equal(upright, mirrored[::-1]) and not np.array_equal(*upright)


@pytest.mark.parametrize("gray", [0, 77, 255])
def test_a_flat_image_has_one_bit_its_mean(gray: int) -> None:
    expected = np.zeros((2, 64), dtype=bool)
    expected[:, 0] = gray > 0
    assert np.array_equal(phash(torch.full((3, 40, 50), gray, dtype=torch.uint8)), expected)


def test_colors_count_by_their_luma() -> None:
    colors = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for weights, is_ours in (((0.299, 0.587, 0.114), True), ((1 / 3, 1 / 3, 1 / 3), False)):  # BT.601's, and others
        low = fft.dctn((colors @ weights).round(), type=2)[:8, :8].flatten()
        assert np.array_equal(phash(as_bytes(Image.fromarray(colors)))[0], low > np.median(low)) == is_ours


# --- the search ---


@pytest.mark.parametrize("at_once", [1, 40, 2**22])
@pytest.mark.parametrize("threshold", [0, 25, 64])
def test_pairs_are_those_of_a_loop(monkeypatch: pytest.MonkeyPatch, at_once: int, threshold: int) -> None:
    monkeypatch.setattr(duplicates, "AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    unlabeled, labeled = rng.random((23, 2, 64)) < 0.5, rng.random((11, 64)) < 0.5
    unlabeled[5, 1], unlabeled[20, 0] = labeled[3], labeled[10]
    wanted = []
    for i, both in enumerate(unlabeled):
        for j, other in enumerate(labeled):
            distance = min(sum(a != b for a, b in zip(bits, other, strict=True)) for bits in both)
            if distance <= threshold:
                wanted.append((i, j, distance))
    found = list(zip(*(part.tolist() for part in within(unlabeled, labeled, threshold)), strict=True))
    assert found == wanted and {(5, 3, 0), (20, 10, 0)} <= {*found}
    assert len(found) == 2 if threshold == 0 else len(found) == 23 * 11 if threshold == 64 else 2 < len(found) < 253


def test_where_nothing_was_hashed_there_are_no_pairs() -> None:
    none, some = np.empty((0, 2, 64), dtype=bool), np.ones((3, 2, 64), dtype=bool)
    assert all(part.size == 0 for one, two in ((none, some), (some, none)) for part in within(one, two[:, 0], 64))


def test_each_process_hashes_its_part_and_has_all(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = UnlabeledViews(sorted(map(str, photographs.iterdir())), 0)
    made = []
    monkeypatch.setattr(distributed, "size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(distributed, "every", lambda value: made.append(value) or [value])
        hash_images(images, 0, "")
    assert [[index for index, _ in part] for part in made] == [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]
    monkeypatch.setattr(distributed, "every", lambda value: made)
    indices, bits, unreadable = hash_images(images, 0, "")
    assert sorted(indices) == [*range(10)] and unreadable == []
    for index, both in zip(indices, bits, strict=True):
        assert np.array_equal(both, phash(read_image(images.paths[index])))


# --- copies in a folder ---


@pytest.fixture
def copies(photographs: Path, tmp_path: Path) -> Path:
    """The ten photographs, which are none of the scored set's, and copies of the originals of three that are."""
    folder = tmp_path / "copies"
    shutil.copytree(photographs, folder)
    photograph(103).save(folder / "a re-encoded.jpg", quality=50)
    photograph(105).resize((96, 72), Image.Resampling.BICUBIC).save(folder / "b resized.png")
    ImageOps.mirror(photograph(107)).save(folder / "c mirrored.jpg", quality=80)
    return folder


NAMES = ["a re-encoded.jpg", "b resized.png", "c mirrored.jpg"]
REFERENCES = ["reference 3", "reference 5", "reference 7"]


@pytest.mark.parametrize("workers", [0, 2])
def test_copies_are_found_and_no_other_photograph(copies: Path, scored: Path, workers: int) -> None:
    labeled = sets.load_labeled(f"csv:{scored}")
    (copies / "note.png").write_text("no image")
    paths = [*list_images(copies), str(copies / "gone.png")]
    references = dict(zip(labeled.paths, labeled.references, strict=True))
    report, pairs = near_duplicates(UnlabeledViews(paths, 0), references, workers=workers)
    assert report["unlabeled"] == len(paths) == 15
    assert report["unreadable"] == [str(copies / "gone.png"), str(copies / "note.png")]
    assert pairs == sorted(pairs, key=lambda pair: pair.distance) and len({*pairs}) == len(pairs)
    found = {(Path(pair.unlabeled).name, references[pair.labeled]) for pair in pairs}
    assert found == {*zip(NAMES, REFERENCES, strict=True)}
    for pair in pairs:
        unlabeled, other = (phash(read_image(path)) for path in pair[:2])
        assert pair.distance == min((unlabeled != other[0]).sum(axis=1)) <= 10


def test_the_command_prints_and_writes_pairs_nearest_first(
    copies: Path, scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copies / "note.png").write_text("no image")
    arguments = ["--unlabeled", copies, "--labeled", f"csv:{scored}", "--labeled", "demo", "--workers", 0]
    (tmp_path / "pairs.csv").touch()  # as mktemp makes one: nothing is lost
    main(["near-duplicates", *map(str, arguments), "--csv", str(tmp_path / "pairs.csv")])
    shown = capsys.readouterr()
    *found, last = shown.out.splitlines()
    with open(tmp_path / "pairs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    distances = [int(row["distance"]) for row in rows]
    assert distances == sorted(distances)
    by_name = {name: [row for row in rows if Path(row["unlabeled"]).name == name] for name in NAMES}
    assert sum(map(len, by_name.values())) == len(rows) > len(found) == 3
    for told in found:
        name, of_it = next((name, of_it) for name, of_it in by_name.items() if name in told)
        more = f"; {len(of_it) - 1} more)" if len(of_it) > 1 else ")"
        assert told == (
            f"{of_it[0]['distance']:>3} bits: {copies / name} and {of_it[0]['labeled']}"
            f" (reference {REFERENCES[NAMES.index(name)]}{more}"
        )
    told_distances = [int(told.split()[0]) for told in found]
    assert told_distances == sorted(told_distances)
    assert last == (
        "near-duplicates: 3 of 14 unlabeled photographs are within 10 of 64 bits of one of 107 labeled images;"
        " 1 files could not be read"
    )
    assert shown.err == f"warning: {copies / 'note.png'}: cannot be read, skipped\n"
    os.rename(copies / NAMES[0], os.fsencode(copies) + b"/\xff.png")
    main(["near-duplicates", *map(str, arguments), "--csv", str(tmp_path / "pairs.csv")])  # its own, once more
    assert b"/\xff.png," in (tmp_path / "pairs.csv").read_bytes() and capsys.readouterr()
    main(["near-duplicates", *map(str, arguments), "--threshold", "64"])
    assert capsys.readouterr().out.splitlines()[-1].startswith("near-duplicates: 13 of 14 unlabeled photographs")


def test_tars_are_searched_by_the_command(
    copies: Path, scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copies / "note.png").write_text("no image")
    main(["near-duplicates", "--unlabeled", str(copies), "--labeled", f"csv:{scored}", "--workers", "2"])
    of_folder = capsys.readouterr()
    for start in range(2):
        with tarfile.open(tmp_path / f"photos-{start}.tar", "w") as archive:
            for path in sorted(copies.iterdir())[start::2]:
                archive.add(path, path.name)
    spec = f"{tmp_path}/photos-{{0,1}}.tar"
    main(["near-duplicates", "--unlabeled", spec, "--labeled", f"csv:{scored}", "--workers", "2"])
    of_tars = capsys.readouterr()
    for folder, tars in zip(of_folder, of_tars, strict=True):  # what is printed, warnings
        assert sorted(re.sub(r"photos-[01]\.tar", copies.name, tars).splitlines()) == sorted(folder.splitlines())
    assert "3 of 14 unlabeled photographs" in of_tars.out and "note.png" in of_tars.err


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({"--unlabeled": "nowhere"}, "nowhere: no such folder"),
        ({"--labeled": "tid2008:DIR"}, "got 'tid2008:DIR'"),
        ({"--csv": "nowhere/pairs.csv"}, "--csv nowhere/pairs.csv: no such folder"),
        ({"--csv": __file__}, "must be a new file, or one that this command has written"),
        ({"--workers": -1}, "--workers must be a whole number 0 to"),
    ],
)
def test_bad_input_of_the_command_is_one_line(
    photographs: Path,
    changed: dict[str, Any],
    wanted: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = {"--unlabeled": photographs, "--labeled": "demo", "--workers": 0} | changed
    monkeypatch.setattr(duplicates, "near_duplicates", lambda *others: pytest.fail("told after the work"))
    with pytest.raises(SystemExit) as caught:
        main(["near-duplicates", *(str(word) for pair in given.items() for word in pair)])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.startswith("error: ") and wanted in error and error.count("\n") == 1


# --- joint training ---


@pytest.fixture
def arguments(
    joint_arguments: Arguments, copies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[str]]:
    """train_joint's smallest run on the folder with copies, without the probe at its end."""
    monkeypatch.setattr(probe, "probe_types", lambda *others: {})
    return lambda **changes: joint_arguments(
        **{"unlabeled": copies, "out": tmp_path / "run", "alpha": 0.5, "epochs": 1, **changes}
    )


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def error_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        train_joint.main(arguments)
    assert caught.value.code == 2
    return capsys.readouterr().err


def test_a_run_reports_copies_and_uses_them(
    arguments: Arguments, copies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_joint.main(arguments())
    report = read(tmp_path / "run" / "near_duplicates.json")
    assert (report["threshold"], report["unlabeled"], report["labeled"], report["unreadable"]) == (10, 13, 40, [])
    assert sorted(Path(found["unlabeled"]).name for found in report["found"]) == NAMES
    assert sorted(found["reference"] for found in report["found"]) == REFERENCES
    assert all(found["distance"] <= 10 and 0 <= found["further"] < 4 for found in report["found"])
    parts = read(tmp_path / "run" / "splits.json")["unlabeled"]
    assert parts["train"] + parts["val_pictures"] == 13
    shown = capsys.readouterr().out
    assert all(f"bits: {copies / name} and " in shown for name in NAMES)
    assert "3 of 13 unlabeled photographs" in shown and "--near-duplicates remove" in shown


def test_removed_copies_are_in_no_part_nor_after_the_run_goes_on(
    arguments: Arguments,
    photographs: Path,
    copies: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    train_joint.main(arguments(near_duplicates="remove"))
    train_joint.main(arguments(unlabeled=photographs, out=tmp_path / "without", near_duplicates="ignore"))
    splits, without = (read(tmp_path / run / "splits.json") for run in ("run", "without"))
    assert splits.pop("unlabeled") | {"spec": ""} == without.pop("unlabeled") | {"spec": ""}
    assert splits == without  # with the digest of the names
    weights = [load(tmp_path / run / "last.pt")["encoder"]["weights"] for run in ("run", "without")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])
    assert not (tmp_path / "without" / "near_duplicates.json").exists()

    def not_again(*others: Any) -> None:
        raise AssertionError("hashed anew")

    before = read(tmp_path / "run" / "near_duplicates.json")
    assert "left out" in capsys.readouterr().out
    monkeypatch.setattr(duplicates, "hash_images", not_again)
    train_joint.main(arguments(near_duplicates="remove", epochs=1, resume=True))
    assert read(tmp_path / "run" / "near_duplicates.json") == before
    assert "3 of 13 unlabeled photographs" in capsys.readouterr().out
    for other in ("report", "ignore"):
        told = error_of(arguments(near_duplicates=other, resume=True), capsys)
        assert f"--near-duplicates was 'remove', is '{other}'" in told and told.count("\n") == 1


def test_a_restarted_run_reads_its_report(
    arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_joint.main(arguments(near_duplicates="remove"))
    (tmp_path / "run" / "last.pt").unlink()  # lost a process in its first epoch
    monkeypatch.setattr(train_joint.run_folder, "is_of_this_launch", lambda out: True)
    monkeypatch.setattr(duplicates, "hash_images", None)
    train_joint.main(arguments(near_duplicates="remove"))
    assert read(tmp_path / "run" / "splits.json")["unlabeled"]["train"] == 8


def test_whether_copies_are_reported_may_change(
    arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_joint.main(arguments(near_duplicates="ignore"))
    train_joint.main(arguments(near_duplicates="report", resume=True))
    assert len(read(tmp_path / "run" / "near_duplicates.json")["found"]) == 3
    state = load(tmp_path / "run" / "last.pt")
    del state["settings"]["near_duplicates"]  # as before there was this setting
    torch.save(state, tmp_path / "run" / "last.pt")
    assert "was 'ignore', is 'remove'" in error_of(arguments(near_duplicates="remove", resume=True), capsys)
    train_joint.main(arguments(near_duplicates="report", resume=True))


def test_nothing_is_looked_for_without_labels_or_in_the_demo(
    arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "hash_images", None)
    train_joint.main(arguments(labeled=None, alpha=1))
    assert not (tmp_path / "run" / "near_duplicates.json").exists()
    settings = replace(train_joint.PRESETS["demo"], near_duplicates="report")
    for unlabeled, labeled in (("demo", "demo"), ("demo", "csv:none.csv"), ("a-{0..3}.tar", "demo"), ("none", "")):
        assert duplicates.search_for_training(replace(settings, unlabeled=unlabeled, labeled=labeled), None) is None
    assert duplicates.search_for_training(replace(settings, unlabeled="none", near_duplicates="ignore"), None) is None


@pytest.mark.parametrize("unlabeled", ["demo", "a-{0..3}.tar"])
def test_only_a_folders_images_can_be_removed(
    arguments: Arguments, unlabeled: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = error_of(arguments(unlabeled=unlabeled, near_duplicates="remove"), capsys)
    assert told == f"error: --unlabeled must be a folder for --near-duplicates remove, got {unlabeled}\n"


def test_removing_all_is_an_error(
    arguments: Arguments, scored: Path, copies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in sorted(copies.iterdir())[:-4]:
        path.unlink()
    told = error_of(arguments(near_duplicates="remove"), capsys)
    assert "--unlabeled must have 2 or more images or tars, without those removed, got only " in told
    assert told.count(str(copies)) == told.count("\n") == 1
    assert not (tmp_path / "run").exists()
    assert "near-duplicates" in error_of(arguments(near_duplicates="some"), capsys)


def test_a_run_in_place_of_another_has_its_own_report(arguments: Arguments, tmp_path: Path) -> None:
    train_joint.main(arguments())
    train_joint.main(arguments(near_duplicates="ignore", overwrite=True))
    assert not (tmp_path / "run" / "near_duplicates.json").exists()
