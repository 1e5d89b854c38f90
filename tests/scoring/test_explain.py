"""Explanations: the named distortion against softmax by hand, the map against crops one by one, what is drawn."""

import csv
import io
import json
import shutil
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import softmax

from ssl_iqa.engine import run_folder
from ssl_iqa.scoring import explain, quality, score
from tests.models import by_hand, reduced, save_model

CLASSES = [["jpeg", 1], ["jpeg", 4], ["lens_blur", 2], ["pristine", 0]]


def classifier_of(*rows: list[float]) -> dict:
    """A classifier whose logits for features [1, 0] and [0, 1] are the rows."""
    return {"weight": torch.tensor(rows).T.contiguous(), "bias": torch.zeros(4), "classes": CLASSES}


def test_a_types_probability_is_the_sum_of_its_levels_and_the_mean_over_crops() -> None:
    logits = [[1.0, 1.2, 1.9, 0.0], [0.3, 1.0, 0.9, 0.1]]
    by_hand = softmax(np.array(logits), axis=1).mean(axis=0)
    assert by_hand.argmax() == 2  # the likeliest class is a blur, the likeliest type JPEG
    found = explain.name_distortion(classifier_of(*logits), torch.eye(2))
    assert found == ("jpeg", 4, pytest.approx(by_hand[0] + by_hand[1], abs=1e-6))
    assert found.words() == f"jpeg, level 4 ({by_hand[:2].sum():.0%})"
    found = explain.name_distortion(classifier_of([0.0, 0.0, 9.0, 0.0], [0.0] * 4), torch.eye(2)[:1])
    assert found == ("lens_blur", 2, pytest.approx(softmax([0, 0, 9, 0])[2], abs=1e-6))
    assert explain.Named("pristine", 0, 0.5).words() == "pristine (50%)"
    assert explain.Named("lens_blur", 2, 0.996).words() == "lens blur, level 2 (100%)"


@pytest.mark.parametrize("reduce", [1, 2])
@pytest.mark.parametrize(("height", "width"), [(40, 50), (32, 32), (20, 70)])
def test_a_pixels_quality_is_the_mean_of_the_crops_that_hold_it(
    tmp_path: Path, reduce: int, height: int, width: int
) -> None:
    """Crops of 32 pixels, 8 or a little less apart."""
    long_side = max(height, width) if reduce > 1 else 0
    model = quality.load(save_model(tmp_path / "model.pt", long_side=long_side))
    image = torch.randint(256, (3, height * reduce, width * reduce), generator=torch.Generator().manual_seed(3))
    image[:, :, : width * reduce // 2] //= 4
    x = image.double().numpy() / 255
    if reduce > 1:
        x = reduced(x.transpose(1, 2, 0), reduce).transpose(2, 0, 1)
    x = np.concatenate([x, x[:, -2::-1]], axis=1)[:, : max(height, 32)]  # reflected where it is smaller than a crop
    tops = {40: [0, 8], 32: [0], 20: [0]}[height]
    lefts = {50: [0, 6, 12, 18], 32: [0], 70: [0, 8, 15, 23, 30, 38]}[width]
    total, count = np.zeros(x.shape[1:]), np.zeros(x.shape[1:])
    for top, left in product(tops, lefts):
        crop = torch.from_numpy(x[None, :, top : top + 32, left : left + 32]).float()
        with torch.no_grad():
            total[top : top + 32, left : left + 32] += model.regressor(model.encoder(crop)).item()
        count[top : top + 32, left : left + 32] += 1
    found = explain.local_scores(model, image.byte())
    assert found.shape == (height, width)
    np.testing.assert_allclose(found.numpy(), (total / count)[:height], atol=1e-3)


@pytest.mark.parametrize("side", [32, 33, 40, 100, 216, 217, 500, 768, 769, 1000, 20001])
def test_a_large_image_has_few_crops_that_hold_all_of_it(side: int) -> None:
    places = explain._places(side, 32)
    assert places[0] == 0 and places[-1] == side - 32 and max(np.diff(places), default=0) <= 32
    assert len(places) <= max(24, np.ceil(side / 32))
    assert len(places) >= 24 or max(np.diff(places), default=0) <= 8


def test_the_map_of_a_large_image_has_no_hole(tmp_path: Path) -> None:
    model = quality.load(save_model(tmp_path / "model.pt"))
    image = torch.randint(256, (3, 40, 900), generator=torch.Generator().manual_seed(0)).byte()
    found = explain.local_scores(model, image)
    assert found.shape == (40, 900) and found.isfinite().all()


def test_the_worst_place_is_red_and_the_best_blue() -> None:
    image = torch.zeros(3, 100, 120, dtype=torch.uint8)
    image[0] = 200  # its gray is 60
    scores = torch.full((50, 60), 3.0)
    scores[:, :20], scores[:, 40:] = 2.0, 4.0
    page = np.asarray(explain.draw(image, scores, "title", "note")).astype(int)
    left, top = (24, 104)
    assert (page[top : top + 100, left : left + 120] == (200, 0, 0)).all()
    right = left + 120 + 16
    for column, color in ((5, (178, 24, 43)), (60, (247, 247, 247)), (115, (33, 102, 172))):
        assert np.abs(page[top + 50, right + column] - (np.array(color) + 60) / 2).max() <= 1


def test_little_difference_has_little_color() -> None:
    scores = torch.tensor([[5.0, 5.1]])
    page = np.asarray(explain.draw(torch.zeros(3, 20, 40, dtype=torch.uint8), scores, "t", "n")).astype(int)
    worst, best = page[104 + 10, 24 + 40 + 16], page[104 + 10, 24 + 40 + 16 + 39]
    wanted = [  # 0.45 and 0.55 of the way from red by white to blue, over black
        0.5 * (np.array((178, 24, 43)) * 0.1 + 0.9 * 247),
        0.5 * (np.array((33, 102, 172)) * 0.1 + 0.9 * 247),
    ]
    assert np.abs(np.array([worst, best]) - wanted).max() <= 1


def test_a_large_image_is_drawn_smaller_and_whole() -> None:
    page = explain.draw(torch.zeros(3, 500, 1500, dtype=torch.uint8), torch.rand(50, 150), "title", "note")
    assert page.width == 2 * 480 + 16 + 2 * 24
    tiny = explain.draw(torch.zeros(3, 1, 1, dtype=torch.uint8), torch.ones(1, 1), "title", "note")
    assert isinstance(tiny, Image.Image) and tiny.height > 104


# --- the command ---


NAMING = {
    "weight": torch.zeros(3, 256),
    "bias": torch.tensor([0.0, 1.0, 0.5]),
    "classes": [["jpeg", 1], ["jpeg", 4], ["lens_blur", 2]],
    "right": {"type": 0.5, "level": 0.4, "photographs": 8},
}
JPEG = (1 + np.e) / (1 + np.e + np.exp(0.5))


@pytest.fixture
def printed(command: Callable[..., tuple[str, str, int]]) -> Callable[..., tuple[str, str, int]]:
    return partial(command, "explain")


Printed = Callable[..., tuple[str, str, int]]


@pytest.fixture
def naming_file(tmp_path: Path, one_thread: None) -> str:
    return str(save_model(tmp_path / "names" / "model.pt", {"naming": NAMING}))


def test_explanations_are_columns_and_maps(
    naming_file: str, photographs: Path, printed: Printed, tmp_path: Path
) -> None:
    model = quality.load(naming_file)
    wanted = {str(path): by_hand(model, path) for path in sorted(photographs.iterdir())}
    out, err, code = printed(naming_file, photographs, "--csv", "-o", tmp_path / "new" / "why")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["picture"] for row in rows] == [*wanted] and (err, code) == ("", 0)
    for i, row in enumerate(rows):
        assert float(row["score"]) == pytest.approx(wanted[row["picture"]], abs=1e-3)
        assert (row["distortion"], row["level"]) == ("jpeg", "4")
        assert float(row["probability"]) == pytest.approx(JPEG, abs=1e-4)
        assert row["map"] == str(tmp_path / "new" / "why" / f"{i}.jpg")
        page = np.asarray(Image.open(row["map"]).convert("RGB")).astype(int)
        image = np.asarray(Image.open(row["picture"]).convert("RGB")).astype(int)
        assert np.abs(page[104 : 104 + 48, 24 : 24 + 64] - image).mean() < 8  # JPEG's own error
    (tmp_path / "empty").mkdir()
    head, *lines = printed(naming_file, photographs, "-o", tmp_path / "empty")[0].splitlines()
    assert head.split() == ["score", "low", "high", "distortion", "image"] and len(lines) == 10
    assert all(f"  {JPEG:.0%} jpeg 4  " in line for line in lines)
    assert {line.index(str(photographs)) for line in lines} == {head.index("image")}


def test_a_map_is_of_the_pixels_that_were_scored(printed: Printed, tmp_path: Path, one_thread: None) -> None:
    """A JPEG of 8 x 100 pixels a side is decoded at an eighth of it, and drawn so, by a model that knows 100."""
    model = save_model(tmp_path / "names" / "model.pt", {"naming": NAMING}, long_side=100)
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.jpg")
    assert printed(model, tmp_path / "large.jpg", "-o", tmp_path / "why")[2] == 0
    with Image.open(tmp_path / "why" / "large.jpg") as page:
        assert page.height == 104 + 75 + 24


def test_maps_of_equal_and_of_long_names_have_files_of_their_own(
    naming_file: str, photographs: Path, printed: Printed, tmp_path: Path
) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for name in ("x.png", "x.jpeg", "é" * 125 + ".png"):
            shutil.copy(photographs / "0.png", tmp_path / folder / name)
    out, _, code = printed(naming_file, tmp_path / "a", tmp_path / "b", "--json", "-o", tmp_path / "why")
    names = [Path(json.loads(line)["map"]).name for line in out.splitlines()]
    long = "é" * 100
    assert names == ["x.jpg", "x-2.jpg", f"{long}.jpg", "x-3.jpg", "x-4.jpg", f"{long}-2.jpg"] and code == 0
    assert {path.name for path in (tmp_path / "why").iterdir()} == {*names}


def test_a_map_that_cannot_be_written_ends_the_command(
    naming_file: str, photographs: Path, printed: Printed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, write: object) -> None:
        raise run_folder.NotWritten(f"{path}: could not be written (disk full)")

    monkeypatch.setattr(run_folder, "write_atomic", full)
    out, err, code = printed(naming_file, photographs, "--json", "-o", tmp_path / "why")
    assert (out, code) == ("", 2) and err == f"error: {tmp_path}/why/0.jpg: could not be written (disk full)\n"


def test_the_longest_name_of_a_distortion_has_room() -> None:
    row = {"picture": "p.png", "score": 5.0, "low": None, "high": None}
    row |= explain.Named("white_noise_color_component", 5, 1.0)._asdict()
    assert score.table_row(row).index("p.png") == score.table_head([*row]).index("image")


def test_what_cannot_be_explained_is_refused(
    naming_file: str, photographs: Path, printed: Printed, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    out, err, code = printed(naming_file, photographs, "-o", tmp_path / "full")
    assert (out, code) == ("", 2) and err == f"error: --out {tmp_path}/full: must be a new or an empty folder\n"
    out, err, code = printed(naming_file, photographs, "-o", tmp_path / "full" / "file")
    assert (out, code) == ("", 2) and err == f"error: --out {tmp_path}/full/file: must be a new or an empty folder\n"
    model_file = str(save_model(tmp_path / "my run" / "model.pt"))
    out, err, code = printed(model_file, photographs, "-o", tmp_path / "why")
    assert (out, code) == ("", 2) and not (tmp_path / "why").exists()
    assert err.startswith(f"error: {model_file}: names no distortions yet; `ssl-iqa learn-names '{model_file}'`")
