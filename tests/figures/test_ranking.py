"""Figure 4: images in their order, each with its score."""

import csv
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from ssl_iqa.__main__ import main
from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.engine import run_folder
from ssl_iqa.figures import ranking
from ssl_iqa.model import Regressor
from ssl_iqa.scoring import quality
from tests.models import RESULTS, by_hand, save_model


@pytest.fixture
def model_file(tmp_path: Path, one_thread: None) -> Path:
    return save_model(tmp_path / "run" / "model.pt")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All texts that are drawn, in their order."""
    texts: list[str] = []
    text = ImageDraw.ImageDraw.text

    def note(self: ImageDraw.ImageDraw, place: tuple, words: str, *others: object, **named: object) -> None:
        texts.append(words)
        text(self, place, words, *others, **named)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", note)
    return texts


def test_a_folder_is_shown_from_best_to_worst(
    model_file: Path, photographs: Path, tmp_path: Path, drawn: list[str]
) -> None:
    out = tmp_path / "figure4.png"
    main(["figure", "ranking", str(model_file), str(photographs), "-o", str(out), "--columns", "3"])
    model = quality.load(model_file)
    scores = {path: by_hand(model, path) for path in photographs.iterdir()}
    order = sorted(scores, key=lambda path: -scores[path])
    assert [text for text in drawn if re.fullmatch(r"-?\d+\.\d\d", text)] == [f"{scores[path]:.2f}" for path in order]
    assert "all 10" in drawn[1] and "true" not in drawn[1]
    page = np.asarray(Image.open(out))
    places = [find(page, np.asarray(Image.open(path))) for path in order]
    assert places == sorted(places) and len(places) == 10
    assert [sum(top == row for top, _ in places) for row in sorted({top for top, _ in places})] == [3, 3, 3, 1]


def find(page: np.ndarray, image: np.ndarray) -> tuple[int, int]:
    """Where (top, left) a page shows a image as it is, by its first row."""
    height, width = image.shape[:2]
    rows, columns = np.nonzero((page[: -height + 1, : -width + 1] == image[0, 0]).all(axis=2))
    (place,) = [
        (int(y), int(x))
        for y, x in zip(rows, columns, strict=True)
        if (page[y : y + height, x : x + width] == image).all()
    ]
    return place


def rank(model: quality.QualityModel, folder: Path, count: int) -> tuple[list[ranking.Scored], int]:
    paths = [str(path) for path in sorted(folder.iterdir())]
    images = LabeledSet(str(folder), paths, [5.0] * len(paths), (1, 10), references=paths)
    return ranking.rank(model, images, range(len(paths)), count)


def test_of_many_some_are_shown_evenly_spaced(model_file: Path, photographs: Path) -> None:
    model = quality.load(model_file)
    scores = sorted((by_hand(model, path) for path in photographs.iterdir()), reverse=True)
    shown, ranked = rank(model, photographs, 4)
    assert ranked == 10
    assert [predicted for _, predicted, _ in shown] == pytest.approx([scores[i] for i in (0, 3, 6, 9)], abs=1e-4)
    shown, _ = rank(model, photographs, 1)
    assert [predicted for _, predicted, _ in shown] == pytest.approx(scores[:1], abs=1e-4)


def test_a_labeled_sets_test_part_has_its_true_scores(
    model_file: Path, scored: Path, tmp_path: Path, drawn: list[str]
) -> None:
    references = [f"reference {i}" for i in range(10)]
    split = {"train": references[3:], "val": references[2:3], "test": references[:2]}
    save_model(model_file, {"results": RESULTS | {"split": split}})
    out = tmp_path / "figure4.webp"
    main(["figure", "ranking", str(model_file), "--data", f"csv:{scored}", "-o", str(out), "--count", "5"])
    model = quality.load(model_file)
    with open(scored) as file:
        rows = [row for row in csv.DictReader(file) if row["reference"] in split["test"]]
    pairs = sorted(((by_hand(model, scored.parent / row["image"]), float(row["score"])) for row in rows), reverse=True)
    low, high = 80 - 10 * 4, 80 - 10 + 0.9  # of the whole file, see `scored`
    wanted = [(f"{y_hat:.2f}", f"({1 + 9 * (y - low) / (high - low):.2f})") for y_hat, y in pairs]
    places = [0, 2, 4, 5, 7]  # of 8: 0, 1.75, 3.5, 5.25 and 7, rounded, a half to the even one
    found = [text for text in drawn if re.fullmatch(r"\(?-?\d+\.\d\d\)?", text)]
    assert found == [text for place in places for text in wanted[place]]
    assert "5 of 8, evenly spaced" in drawn[1] and "(true)" in drawn[1]


def test_files_that_cannot_be_read_are_named(
    model_file: Path, damaged: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    shown, ranked = rank(quality.load(model_file), Path(damaged[0]).parent, 12)
    assert ranked == len(shown) == 3  # the one of 10 x 10 pixels is a image
    assert re.findall(r"(\d)\.png: cannot be read", capsys.readouterr().err) == ["0", "1"]


def test_large_images_are_reduced_to_their_cells(model_file: Path) -> None:
    shown = [(torch.zeros(3, *size, dtype=torch.uint8), 5.0, math.nan) for size in ((300, 900), (50, 40))]
    page = ranking.draw(shown, 2, columns=1, title="")
    assert page.height < 2 * (ranking.CELL[1] + ranking.CAPTION) + 150 and page.width < 1000


def test_an_image_is_not_overwritten(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "photographs" / "photo.png"
    path.parent.mkdir()
    Image.new("RGB", (40, 40)).save(path)
    before = path.read_bytes()
    monkeypatch.chdir(path.parent)
    with pytest.raises(SystemExit) as caught:
        main(["figure", "ranking", str(model_file), str(path.parent), "--out", "photo.png"])
    assert caught.value.code == 2 and path.read_bytes() == before
    assert capsys.readouterr().err == "error: --out must be another file than the images, got photo.png\n"


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["none.pt", "."], ("none.pt: no such file", "model.pt")),
        (["text.pt", "."], ("text.pt", "damaged")),
        (["encoder.pt", "."], ("encoder.pt: must be the model.pt of a finetune.py run",)),
        (["other.pt", "."], ("other.pt", "regressor")),
        (["run/model.pt"], ("either FOLDER or --data is required",)),
        (["run/model.pt", ".", "--data", "demo"], ("either FOLDER or --data is required",)),
        (["run/model.pt", "none"], ("none: no such folder",)),
        (["run/model.pt", "texts"], ("texts: none of its 1 images",)),
        (["run/model.pt", "--data", "csv:none"], ("none: no such file",)),
        (["run/model.pt", ".", "--count", "0"], ("--count must be a whole number 1 to", "got '0'")),
        (["run/model.pt", ".", "--columns", "0"], ("--columns must be a whole number 1 to", "got '0'")),
    ],
)
def test_bad_input_is_one_line(
    model_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    wanted: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    content = run_folder.load(model_file)
    torch.save({"encoder": content["encoder"]}, "encoder.pt")
    torch.save(content | {"regressor": Regressor(100).state_dict()}, "other.pt")
    Path("text.pt").write_text("no model")
    Path("texts").mkdir()
    Path("texts/0.png").write_text("no image")
    with pytest.raises(SystemExit) as caught:
        main(["figure", "ranking", *arguments, "-o", "page.png"])
    error = capsys.readouterr().err.splitlines()
    assert caught.value.code == 2 and error[-1].startswith("error: ")
    assert all(part in error[-1] for part in wanted), error
    assert not Path("page.png").exists()
