"""ssl_iqa.data: reading pictures, listing folders of them, splits."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_iqa.data import (
    UnreadableImage,
    list_pictures,
    part_indices,
    read_image,
    split_references,
)
from ssl_iqa.sets import load_labeled
from tests.conftest import error_of, write

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def pixels(path):
    """A picture as rows of (r, g, b), through read_image."""
    return [[tuple(pixel) for pixel in row] for row in read_image(path).permute(1, 2, 0).tolist()]


def png(path, width, height, bits, color_type, samples, extra=b""):
    """A PNG written by hand, for what PIL cannot save; `samples` are the bytes of each row."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in samples))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b""))


# --- read_image ---


def test_rgb_is_uint8_channels_first(tmp_path):
    image = Image.new("RGB", (3, 2))
    image.putpixel((2, 1), (10, 20, 30))
    image.save(tmp_path / "a.png")
    tensor = read_image(tmp_path / "a.png")
    assert tensor.dtype == torch.uint8 and tensor.shape == (3, 2, 3) and tensor.is_contiguous()
    assert tensor[:, 1, 2].tolist() == [10, 20, 30] and tensor.sum() == 60


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("L", 77, (77, 77, 77)),
        ("1", 1, WHITE),
        ("LA", (100, 0), WHITE),
        ("LA", (100, 255), (100, 100, 100)),
        ("RGBA", (255, 0, 0, 0), WHITE),
        ("RGBA", (255, 0, 0, 255), RED),
        ("RGBA", (0, 0, 0, 51), (204, 204, 204)),  # a fifth black, four fifths white
        ("CMYK", (0, 255, 255, 0), RED),
    ],
)
def test_every_mode_becomes_rgb_over_white(tmp_path, mode, value, expected):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new(mode, (2, 2), value).save(path)
    assert pixels(path) == [[expected] * 2] * 2


def test_cmyk_jpeg_becomes_rgb(tmp_path):
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(tmp_path / "a.jpg", quality=100)
    assert np.allclose(pixels(tmp_path / "a.jpg"), (0, 255, 255), atol=3)


def test_palette_becomes_rgb_and_its_transparent_color_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([*BLUE, *GREEN])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "opaque.png")
    image.save(tmp_path / "clear.png", transparency=1)
    assert pixels(tmp_path / "opaque.png") == [[BLUE, GREEN]]
    assert pixels(tmp_path / "clear.png") == [[BLUE, WHITE]]


def test_rgb_png_with_a_transparent_color_gets_white_there(tmp_path):
    image = Image.new("RGB", (2, 1), RED)
    image.putpixel((1, 0), GREEN)
    image.save(tmp_path / "a.png", transparency=GREEN)
    assert pixels(tmp_path / "a.png") == [[RED, WHITE]]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_gray_is_scaled_not_clipped(tmp_path, suffix):
    values = np.array([[0, 257, 300, 25700, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    assert pixels(tmp_path / f"a.{suffix}") == [[(v, v, v) for v in (0, 1, 1, 100, 255)]]


def test_32_bit_gray_beyond_16_bits_is_refused(tmp_path):
    Image.fromarray(np.array([[0, 65535]], dtype=np.int32)).save(tmp_path / "a.tif")
    Image.fromarray(np.array([[0, 65536]], dtype=np.int32)).save(tmp_path / "b.tif")
    assert pixels(tmp_path / "a.tif") == [[(0, 0, 0), WHITE]]
    assert "b.tif" in error_of(UnreadableImage, read_image, tmp_path / "b.tif")


def test_floating_point_samples_are_refused(tmp_path):
    Image.new("F", (2, 2), 0.5).save(tmp_path / "a.tif")
    message = error_of(UnreadableImage, read_image, tmp_path / "a.tif")
    assert "a.tif" in message and "floating-point" in message


def test_16_bit_rgb_png_becomes_8_bit(tmp_path):
    png(tmp_path / "a.png", 1, 1, 16, 2, [struct.pack(">HHH", 0, 32896, 65535)])
    assert pixels(tmp_path / "a.png") == [[(0, 128, 255)]]


@pytest.mark.parametrize(("suffix", "lossless"), [("png", {}), ("tif", {}), ("webp", {"lossless": True})])
@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, [[RED, GREEN, BLUE], [WHITE, WHITE, WHITE]]),
        (2, [[BLUE, GREEN, RED], [WHITE, WHITE, WHITE]]),
        (3, [[WHITE, WHITE, WHITE], [BLUE, GREEN, RED]]),
        (4, [[WHITE, WHITE, WHITE], [RED, GREEN, BLUE]]),
        (5, [[RED, WHITE], [GREEN, WHITE], [BLUE, WHITE]]),
        (6, [[WHITE, RED], [WHITE, GREEN], [WHITE, BLUE]]),
        (7, [[WHITE, BLUE], [WHITE, GREEN], [WHITE, RED]]),
        (8, [[BLUE, WHITE], [GREEN, WHITE], [RED, WHITE]]),
    ],
)
def test_exif_orientation_is_applied_once(tmp_path, orientation, upright, suffix, lossless):
    """EXIF names where the stored first row and column are: 3 bottom right, 6 right top, 8 left bottom."""
    image = Image.fromarray(np.array([[RED, GREEN, BLUE], [WHITE] * 3], dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / f"a.{suffix}", exif=exif, **lossless)
    assert pixels(tmp_path / f"a.{suffix}") == upright


@pytest.mark.parametrize(("orientation", "corner"), [(3, (15, 15)), (6, (0, 15)), (8, (15, 0))])
def test_jpeg_with_exif_orientation_is_upright(tmp_path, orientation, corner):
    image = Image.new("RGB", (16, 16), "white")
    image.paste("black", (0, 0, 8, 8))  # the stored top left
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.jpg", exif=exif, quality=100)
    dark = (read_image(tmp_path / "a.jpg").float().mean(0) < 128).nonzero()
    assert tuple(corner) in {tuple(place) for place in dark.tolist()} and len(dark) == 64


def test_picture_with_broken_exif_is_read_as_stored(tmp_path):
    Image.new("RGB", (16, 8), RED).save(tmp_path / "a.png", exif=b"Exif\0\0no TIFF header")
    assert pixels(tmp_path / "a.png") == [[RED] * 16] * 8


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_first_frame_of_several_is_read(tmp_path, suffix):
    frames = [Image.new("RGB", (4, 4), color) for color in (RED, BLUE)]
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **options)
    assert pixels(tmp_path / f"a.{suffix}") == [[RED] * 4] * 4


def test_missing_file_is_an_os_error_naming_it(tmp_path):
    assert "none.png" in error_of(FileNotFoundError, read_image, tmp_path / "none.png")


def test_folder_is_an_os_error_naming_it(tmp_path):
    assert str(tmp_path) in error_of(IsADirectoryError, read_image, tmp_path)


@pytest.mark.parametrize("content", [b"", b"no picture\n", b"\x89PNG\r\n\x1a\n"])
def test_file_that_is_no_picture_is_named(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    assert str(tmp_path / "a.png") in error_of(UnreadableImage, read_image, tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp", "tif"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_truncated_file_is_not_half_decoded(tmp_path, suffix, kept):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = tmp_path / f"whole.{suffix}"
    Image.fromarray(noise).save(whole)
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(whole.read_bytes()[: int(kept * whole.stat().st_size)])
    assert read_image(whole).shape == (3, 64, 64)
    assert str(cut) in error_of(UnreadableImage, read_image, cut)


def test_decompression_bomb_is_refused(tmp_path):
    png(tmp_path / "a.png", 60000, 60000, 8, 0, [b"\0"])
    assert "a.png" in error_of(UnreadableImage, read_image, tmp_path / "a.png")


def test_picture_without_pixels_is_refused(tmp_path):
    (tmp_path / "a.ppm").write_bytes(b"P6 0 4 255\n")
    png(tmp_path / "b.png", 0, 4, 8, 2, [b""] * 4)
    for name in ("a.ppm", "b.png"):
        assert name in error_of(UnreadableImage, read_image, tmp_path / name)


# --- list_pictures ---


def test_pictures_are_listed_sorted_recursive_any_case_without_hidden(tmp_path):
    names = ["b.PNG", "a.jpg", "sub/c.JpEg", "sub/deep/d.tiff", "e.webp", "f.bmp", "g.TIF"]
    for name in [*names, ".hidden.png", "._b.PNG", ".cache/x.png", "notes.txt", "jpg", "x.png.part"]:
        write(tmp_path / name, "")
    assert list_pictures(tmp_path) == sorted(str(tmp_path / name) for name in names)


def test_kadis_layout_gives_its_references_only(tmp_path):
    write(tmp_path / "kadis700k_ref_imgs.csv", "ref_im,dist_type\n")
    for name in ["ref_imgs/b.png", "ref_imgs/a.png", "dist_imgs/a_01_01.png", "c.png"]:
        write(tmp_path / name, "")
    assert list_pictures(str(tmp_path)) == [str(tmp_path / "ref_imgs" / name) for name in ("a.png", "b.png")]


def test_folder_that_cannot_be_used_is_named(tmp_path):
    message = error_of(FileNotFoundError, list_pictures, tmp_path / "nowhere")
    assert message.startswith(f"{tmp_path / 'nowhere'}: no such folder")
    message = error_of(NotADirectoryError, list_pictures, write(tmp_path / "a.png", ""))
    assert message.startswith(f"{tmp_path / 'a.png'}: not a folder")
    (tmp_path / "empty").mkdir()
    message = error_of(ValueError, list_pictures, tmp_path / "empty")
    assert str(tmp_path / "empty") in message and ".tiff" in message


def test_folder_below_that_cannot_be_listed_is_an_error(tmp_path, monkeypatch):
    write(tmp_path / "a.png", "")
    write(tmp_path / "closed/b.png", "")
    scandir = os.scandir

    def closed(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    assert "closed" in error_of(PermissionError, list_pictures, tmp_path)


# --- splits ---


def names_of(n):
    return [f"I{i:02d}.png" for i in range(1, n + 1)]


@pytest.mark.parametrize(
    ("n", "expected"), [(81, [49, 16, 16]), (40, [24, 8, 8]), (10073, [6043, 2015, 2015]), (3, [1, 1, 1])]
)
def test_split_has_the_sizes_of_the_paper(n, expected):
    assert [len(part) for part in split_references(names_of(n), seed=0).values()] == expected


def test_split_is_disjoint_complete_and_sorted():
    parts = split_references(names_of(81) * 125, seed=3)
    assert list(parts) == ["train", "val", "test"]
    assert sorted(parts["train"] + parts["val"] + parts["test"]) == names_of(81)
    assert all(part == sorted(part) for part in parts.values())


def test_split_follows_the_seed_and_not_the_order_of_pictures():
    names = names_of(81)
    assert split_references(names, seed=1) == split_references(names[::-1] * 2, seed=1)
    assert split_references(names, seed=1) != split_references(names, seed=2)
    drawn = {name for seed in range(30) for name in split_references(names, seed)["test"]}
    assert len(drawn) > 75  # each of 81 is left out of 30 tests with probability 0.0014


def test_split_takes_other_fractions():
    parts = split_references(names_of(20), seed=0, fractions=(0.5, 0.1, 0.4))
    assert [len(part) for part in parts.values()] == [10, 2, 8]


def test_too_few_references_say_how_many_are_there_and_needed():
    message = error_of(ValueError, split_references, ["a", "b", "a"], 0)
    assert message.startswith("2 distinct") and "at least 3" in message
    message = error_of(ValueError, split_references, names_of(10), 0, (0.9, 0.05, 0.05))
    assert message.startswith("10 distinct") and "at least 11" in message  # round(0.05 * 11) is 1


@pytest.mark.parametrize("fractions", [(0.6, 0.2, 0.3), (0.8, 0.2, 0.0), (1.2, -0.1, -0.1), (0.8, 0.2)])
def test_fractions_that_are_none_are_refused(fractions):
    assert str(fractions) in error_of(ValueError, split_references, names_of(81), 0, fractions)


def test_part_indices_are_those_of_the_named_references():
    assert part_indices(["a", "b", "a", "c"], ["a", "c"]) == [0, 2, 3]
    demo = load_labeled("demo")
    parts = split_references(demo.references, seed=0)
    indices = [part_indices(demo.references, parts[name]) for name in parts]
    assert sorted(sum(indices, [])) == list(range(8375))
    photographs = [{Path(demo.paths[i]).name.split("_")[0] for i in part} for part in indices]
    assert not (photographs[0] & photographs[1] or photographs[0] & photographs[2] or photographs[1] & photographs[2])
