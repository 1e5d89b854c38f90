"""The gallery of distortions: every cell shows what `distort` makes, pixel for pixel, in its place."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_iqa.__main__ import main
from ssl_iqa.data.images import read_image, reduced
from ssl_iqa.data.views import to_float
from ssl_iqa.distortions import DISTORTIONS, NAMES, DistortionClass, distort, distort_as
from ssl_iqa.distortions.table import TYPES

CELL, LARGE = (112, 84), (360, 270)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """133 x 103, odd and larger than a gallery's cell: noise over smooth colors, so that no two places are alike.

    It has neither black nor white, so that what is distorted by nothing is yet stretched, and not the pristine image.
    """
    rng = np.random.default_rng(0)
    colors = Image.fromarray(rng.integers(30, 226, (5, 7, 3), dtype=np.uint8)).resize(
        (133, 103), Image.Resampling.BICUBIC
    )
    pixels = (np.asarray(colors) + rng.integers(-20, 21, (103, 133, 3))).clip(20, 235).astype(np.uint8)
    path = tmp_path_factory.mktemp("photo") / "colors.png"
    Image.fromarray(pixels).save(path)
    return path


def run(photo: Path, out: Path, *flags: object) -> np.ndarray:
    """The page [H, W, 3] that the command writes."""
    main(["figure", "distortions", str(photo), "--out", str(out), *map(str, flags)])
    with Image.open(out) as page:
        assert page.mode == "RGB"
        return np.asarray(page)


def expected(photo: Path, name: str, level: int, cell: tuple[int, int] = CELL, seed: int = 0) -> np.ndarray:
    """`distort` on the whole photograph, in bytes, and its center."""
    image = to_float(read_image(photo))
    return center(distort(image, name, level, torch.Generator().manual_seed(seed)), cell)


def distort_own(photo: Path, name: str, level: int, value: float) -> torch.Tensor:
    """A class with a value of our own."""
    image = to_float(read_image(photo))
    return distort_as(image, DistortionClass(name, level, value), torch.Generator().manual_seed(0))


def center(image: torch.Tensor, cell: tuple[int, int]) -> np.ndarray:
    pixels = np.rint(image.permute(1, 2, 0).numpy() * np.float32(255)).astype(np.uint8)
    height, width = pixels.shape[:2]
    top, left = max(0, height - cell[1]) // 2, max(0, width - cell[0]) // 2
    return pixels[top : top + cell[1], left : left + cell[0]]


def places(page: np.ndarray, cell: np.ndarray) -> list[tuple[int, int]]:
    """Everywhere (left, top) that a page shows exactly this cell, found by five of its pixels, not by the layout."""
    height, width = cell.shape[:2]
    top, left = (page[: 1 - height or None, : 1 - width or None, 0] == cell[0, 0, 0]).nonzero()
    for x, y in ((0, 0), (width - 1, 0), (width // 2, height // 2), (0, height - 1), (width - 1, height - 1)):
        match = (page[top + y, left + x] == cell[y, x]).all(axis=1)
        top, left = top[match], left[match]
    found = zip(left.tolist(), top.tolist(), strict=True)
    return [(x, y) for x, y in found if (page[y : y + height, x : x + width] == cell).all()]


def ink(part: np.ndarray) -> bool:
    return bool((part < 128).any())


@pytest.fixture(scope="module")
def gallery(photo: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, bytes]:
    out = tmp_path_factory.mktemp("page") / "figure5.png"
    return run(photo, out), out.read_bytes()


def test_the_gallery_shows_all_125_classes_in_order(photo: Path, gallery: tuple[np.ndarray, bytes]) -> None:
    page, _ = gallery
    height, width = page.shape[:2]
    assert width <= 1900 and height <= 1300
    rows = places(page, center(to_float(read_image(photo)), CELL))  # the pristine cell, once
    for name in NAMES:
        cells = [expected(photo, name, level) for level in range(1, 6)]
        found = [places(page, cell) for cell in cells]
        # levels from left to right, a gap of 6 pixels; a class that changes nothing is found in other rows too
        rows += [(x, y) for x, y in found[0] if all((x + 118 * i, y) in each for i, each in enumerate(found))]
    assert len(rows) == 26 and rows == sorted(set(rows))  # down each column, then the next one
    assert [sum(left == column for left, _ in rows) for column in sorted({left for left, _ in rows})] == [9, 9, 8]

    for left, top in rows[1:]:
        assert ink(page[top - 18 : top - 2, left : left + 60])  # the name
        for level in range(5):
            around = page[top - 1 : top + 85, left + 118 * level - 1 : left + 118 * level + 113]
            assert (around[[0, -1]] == 208).all() and (around[:, [0, -1]] == 208).all()  # a line that shows white's end
            caption = page[top + 86 : top + 103, left + 118 * level : left + 118 * level + 118]
            assert ink(caption[:, :10]) and ink(caption[:, 12:]) and (caption[:, 112:] == 255).all()  # level and value
    margins = (page[:24], page[-24:], page[:, :23], page[:, -23:])
    assert all((margin == 255).all() for margin in margins)  # nothing is cut off


def test_the_same_seed_gives_the_same_bytes_and_another_other_ones(
    photo: Path, gallery: tuple[np.ndarray, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, written = gallery
    out = tmp_path / "again.png"
    run(photo, out)
    assert out.read_bytes() == written
    assert capsys.readouterr().out == f"{out}: {len(written)} bytes\n"
    pages = [run(photo, out, "--type", "white_noise", "--seed", seed) for seed in (0, 1)]
    assert (pages[0] != pages[1]).any()
    assert len(places(pages[1], expected(photo, "white_noise", 5, LARGE, seed=1))) == 1


def test_a_page_of_one_type_shows_the_photograph_and_its_levels(photo: Path, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    with Image.open(photo) as image:
        image.resize((500, 300)).save(large)
    page = run(large, tmp_path / "jpeg.png", "--type", "jpeg")
    cells = [center(to_float(read_image(large)), LARGE)]
    cells += [expected(large, "jpeg", level, LARGE) for level in range(1, 6)]
    assert all(cell.shape == (270, 360, 3) for cell in cells)
    found = [places(page, cell) for cell in cells]
    assert all(len(each) == 1 for each in found)
    (left, top), (right, bottom) = found[0][0], found[-1][0]
    step = (right - left) // 4
    assert step > 360 and bottom > top + 270
    assert [each[0] for each in found] == [(left, top)] + [(left + i * step, bottom) for i in range(5)]
    assert page.shape[1] == right + 360 + left < 1900
    assert all(ink(page[y + 272 : y + 290, x : x + 60]) for [(x, y)] in found[1:])


def test_every_type_has_words_for_its_values() -> None:
    texts = [TYPES[name].caption.format(value) for name, values in DISTORTIONS.items() for value in values]
    assert texts[0] == "sigma 0.1 px" and texts[49] == "quality 4" and len(texts) == 125
    assert all(text.isascii() for text in texts)  # the font has no more


def test_a_set_from_a_file(photo: Path, tmp_path: Path) -> None:
    """Seven levels of one type, the published five of another and one of a third, whatever the file's order."""
    chosen = "[color_block]\nlevels = [3]\n[lens_blur]\nlevels = [1, 2, 4, 6, 8, 10, 12]\n[darken]\n"
    (tmp_path / "own.toml").write_text(chosen)
    page = run(photo, tmp_path / "own.png", "--distortions", tmp_path / "own.toml")
    tops = []
    for name, level in (("lens_blur", 1), ("lens_blur", 2), ("lens_blur", 5), ("darken", 1), ("darken", 5)):
        (place,) = places(page, expected(photo, name, level))
        tops.append(place)
    assert tops[0][1] == tops[1][1] == tops[2][1] and tops[3][1] == tops[4][1]
    assert tops[1][0] - tops[0][0] == 118 and tops[2][0] - tops[0][0] == 4 * 118
    block = distort_own(photo, "color_block", 1, 3)
    assert len(places(page, center(block, CELL))) == 1
    page = run(photo, tmp_path / "own.png", "--distortions", tmp_path / "own.toml", "--type", "color_block")
    assert len(places(page, center(block, LARGE))) == 1


def test_sets_whose_cells_are_few_or_whose_words_are_long(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "few.toml").write_text("[white_noise_color_component]\nlevels = [0.00012345, 0.00054321]\n")
    page = run(photo, tmp_path / "few.png", "--distortions", tmp_path / "few.toml")
    found = []
    for level, value in enumerate((0.00012345, 0.00054321), start=1):
        found += places(page, center(distort_own(photo, "white_noise_color_component", level, value), CELL))
    (left, top), (right, same_top) = found
    assert top == same_top and right - left > 140  # the words have room
    assert (page[top + 86 : top + 103, right - 5 : right] == 255).all()
    assert all((margin == 255).all() for margin in (page[:24], page[-24:], page[:, :23], page[:, -23:]))
    page = run(photo, tmp_path / "distinct.png", "--distortions", "distinct")
    (second,) = places(page, expected(photo, "motion_blur", 2))
    (third,) = places(page, expected(photo, "motion_blur", 3))
    (above,) = places(page, expected(photo, "lens_blur", 2))
    assert third[0] - second[0] == 118 and above[0] == second[0]  # a level keeps its column where level 1 is left out


def test_a_large_photograph_is_reduced_first_and_a_small_one_shown_whole(photo: Path, tmp_path: Path) -> None:
    for side, shape in ((100, (3, 77, 100)), (133, (3, 103, 133))):
        image = to_float(reduced(read_image(photo), side))
        assert image.shape == shape
        page = run(photo, tmp_path / "page.png", "--side", side, "--type", "jitter")
        assert len(places(page, center(image, LARGE))) == 1
        assert len(places(page, center(distort(image, "jitter", 3, torch.Generator().manual_seed(0)), LARGE))) == 1


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "webp"])
def test_other_formats(photo: Path, tmp_path: Path, suffix: str) -> None:
    run(photo, tmp_path / f"page.{suffix}", "--type", "jpeg")
    with Image.open(tmp_path / f"page.{suffix}") as page:
        assert page.format == {"jpg": "JPEG", "JPEG": "JPEG", "webp": "WEBP"}[suffix]


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"photo": "none.png"}, ("none.png", "no such file")),
        ({"photo": "note.png"}, ("note.png", "not an image")),
        ({"photo": "small.png"}, ("small.png", "16 pixels a side", "got 40 x 15")),
        ({"photo": "."}, ("is a directory",)),
        ({"type": "gausian_blur"}, ("--type must be one of gaussian_blur, ", "got 'gausian_blur'")),
        ({"distortions": "own.toml"}, ("own.toml", "no such file")),
        ({"out": "none/page.png"}, ("--out", "no such folder", "none")),
        ({"out": "page.gif"}, ("--out", "page.gif", ".png", ".webp")),
        ({"out": "page"}, ("--out", ".png")),
        ({"out": "folder.png"}, ("--out must be a file", "folder.png")),
        ({"out": "small.png", "photo": "small.png"}, ("--out must be another file than the images", "small.png")),
        ({"side": 15}, ("--side must be a whole number 16 to 10000, got '15'",)),
        ({"side": 16}, ("16 pixels a side", "got 16 x 12")),
        ({"seed": -1}, ("--seed must be a whole number 0 to", "got '-1'")),
        ({"seed": 2**64}, ("--seed",)),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict, wanted: tuple[str, ...]
) -> None:
    (tmp_path / "note.png").write_text("no image")
    (tmp_path / "folder.png").mkdir()
    Image.new("RGB", (40, 15), "red").save(tmp_path / "small.png")
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    paths = {name: tmp_path / changes.pop(name) for name in ("photo", "out", "distortions") if name in changes}
    flags = {"out": tmp_path / "page.png", **changes, **paths}
    source = flags.pop("photo", photo)
    with pytest.raises(SystemExit) as caught:
        main(["figure", "distortions", str(source), *(f"--{name}={value}" for name, value in flags.items())])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1
    assert all(part in error for part in wanted), error
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_a_page_that_cannot_be_encoded_leaves_the_one_before(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """150 levels in a row are more than the 16383 pixels that WebP can be wide."""
    (tmp_path / "long.toml").write_text(f"[color_block]\nlevels = {list(range(150))}\n")
    (tmp_path / "page.webp").write_text("before")
    with pytest.raises(SystemExit) as caught:
        run(photo, tmp_path / "page.webp", "--distortions", tmp_path / "long.toml")
    assert caught.value.code == 2 and capsys.readouterr().err.startswith("error: ")
    assert (tmp_path / "page.webp").read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["long.toml", "page.webp"]


def test_a_page_that_cannot_be_put_in_place_leaves_the_one_before(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(source: Path, target: Path) -> None:
        raise PermissionError(f"{target}: not today")

    (tmp_path / "page.png").write_text("before")
    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(SystemExit) as caught:
        run(photo, tmp_path / "page.png", "--type", "darken")
    page = tmp_path / "page.png"
    assert caught.value.code == 2
    assert capsys.readouterr().err == f"error: {page}: could not be written ({page}: not today)\n"
    assert (tmp_path / "page.png").read_text() == "before"


def test_a_figure_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["figure"])
    assert caught.value.code == 2 and "FIGURE" in capsys.readouterr().err
