"""ssl_iqa.data: reading pictures, the labeled sets' files and their errors, splits, the demo."""

import csv
import os
import struct
import zlib
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_iqa.data import (
    DEMO_FOLDER,
    UnreadableImage,
    demo_sources,
    list_pictures,
    load_labeled,
    part_indices,
    read_image,
    split_references,
)

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def pixels(path):
    """A picture as rows of (r, g, b), through read_image."""
    return [[tuple(pixel) for pixel in row] for row in read_image(path).permute(1, 2, 0).tolist()]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3)).save(path)


def png(path, width, height, bits, color_type, samples, extra=b""):
    """A PNG written by hand, for what PIL cannot save; `samples` are the bytes of each row."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in samples))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b""))


def error_of(error_type, call, *args):
    """The message of the error that a call raises: always one line."""
    with pytest.raises(error_type) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


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


# --- load_labeled: the spec ---


@pytest.mark.parametrize("spec", ["kadid", "", "kadid10k", "tid2013:x", "demo:", "demo:x", "Demo", "scores.csv"])
def test_unknown_spec_lists_the_four_forms(spec):
    message = error_of(ValueError, load_labeled, spec)
    assert all(form in message for form in (repr(spec), "demo", "kadid10k:DIR", "koniq10k:DIR", "csv:FILE"))


@pytest.mark.parametrize(("spec", "form"), [("kadid10k:", ":DIR"), ("koniq10k:", ":DIR"), ("csv:", ":FILE")])
def test_spec_without_a_path_is_an_error(spec, form):
    assert form in error_of(ValueError, load_labeled, spec)


def test_home_folder_in_a_spec_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    own(tmp_path, "image,score\na.png,1\nb.png,2\n")
    assert load_labeled("csv:~/scores.csv").paths == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]


# --- KADID-10k ---

KADID = (
    "dist_img,ref_img,dmos,var\nI01_01_01.png,I01.png,5,0.5\nI01_25_05.png,I01.png,1,0.1\nI81_10_03.png,I81.png,4,1\n"
)


def kadid(folder, text=KADID):
    write(folder / "dmos.csv", text)
    for name in ("I01_01_01", "I01_25_05", "I81_10_03"):
        picture(folder / "images" / f"{name}.png")
    return f"kadid10k:{folder}"


def test_kadid_is_read_with_higher_better(tmp_path):
    spec = kadid(tmp_path)
    labeled = load_labeled(spec)
    assert labeled.name == spec
    assert labeled.paths == [
        str(tmp_path / "images" / name) for name in ("I01_01_01.png", "I01_25_05.png", "I81_10_03.png")
    ]
    assert labeled.scores == [10, 1, 7.75]  # 1 + 9 * (4 - 1) / 4
    assert labeled.score_range == (1, 5)
    assert labeled.references == ["I01.png", "I01.png", "I81.png"]
    assert labeled.distortions == ["gaussian_blur", "contrast_change", "jpeg"]
    assert labeled.levels == [1, 5, 3]
    assert labeled.classes is None


def test_labeled_set_is_frozen(tmp_path):
    labeled = load_labeled(kadid(tmp_path))
    with pytest.raises(FrozenInstanceError):
        labeled.name = "other"


def test_kadid_folder_that_is_missing_is_named(tmp_path):
    assert str(tmp_path / "none") in error_of(FileNotFoundError, load_labeled, f"kadid10k:{tmp_path / 'none'}")


def test_kadid_without_its_scores_names_dmos_csv(tmp_path):
    picture(tmp_path / "images" / "I01_01_01.png")
    assert str(tmp_path / "dmos.csv") in error_of(FileNotFoundError, load_labeled, f"kadid10k:{tmp_path}")


def test_kadid_without_its_images_folder_names_it(tmp_path):
    write(tmp_path / "dmos.csv", KADID)
    message = error_of(FileNotFoundError, load_labeled, f"kadid10k:{tmp_path}")
    assert message.startswith(f"{tmp_path / 'images'}: no such folder")


def test_kadid_pictures_missing_are_counted_and_the_first_named(tmp_path):
    spec = kadid(tmp_path)
    (tmp_path / "images" / "I01_25_05.png").unlink()
    (tmp_path / "images" / "I81_10_03.png").unlink()
    message = error_of(FileNotFoundError, load_labeled, spec)
    assert str(tmp_path / "images" / "I01_25_05.png") in message and "line 3" in message and "2 of the 3" in message


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("I01_26_01.png,I01.png,3,0", "I01_26_01.png"),
        ("I01_00_01.png,I01.png,3,0", "I01_00_01.png"),
        ("I01_01_06.png,I01.png,3,0", "I01_01_06.png"),
        ("I01_01_00.png,I01.png,3,0", "I01_01_00.png"),
        ("photo.png,I01.png,3,0", "photo.png"),
        ("I01_01_01.bmp,I01.png,3,0", "I01_01_01.bmp"),
        ("I01_01_01.png,I01.png,5.01,0", "5.01"),
        ("I01_01_01.png,I01.png,0.99,0", "0.99"),
        ("I01_01_01.png,I01.png,,0", "''"),
        ("I01_01_01.png,I01.png", "2 cells"),
    ],
)
def test_kadid_row_that_is_wrong_is_named(tmp_path, row, said):
    header, first = KADID.splitlines()[:2]
    message = error_of(ValueError, load_labeled, kadid(tmp_path, f"{header}\n{first}\n{row}\n"))
    assert f"{tmp_path / 'dmos.csv'}, line 3" in message and said in message


def test_kadid_with_another_header_is_refused(tmp_path):
    message = error_of(ValueError, load_labeled, kadid(tmp_path, "dist,ref,mos\nI01_01_01.png,I01.png,3\n"))
    assert "dmos.csv, line 1" in message and "dist_img" in message and "dist,ref,mos" in message


# --- KonIQ-10k ---

KONIQ = "image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,MOS_zscore\n1.jpg,0,0,0,1,0,9,4,0,0\n2.jpg,0,0,0,1,0,9,3,0,77\n"


def koniq(folder, text=KONIQ, table="koniq10k_scores_and_distributions.csv", sizes=("512x384",)):
    write(folder / table, text)
    for size in sizes:
        picture(folder / size / "1.jpg")
        picture(folder / size / "2.jpg")
    return f"koniq10k:{folder}"


def test_koniq_takes_the_zscore_from_0_to_100(tmp_path):
    labeled = load_labeled(koniq(tmp_path))
    assert labeled.scores == pytest.approx([1, 7.93])  # 1 + 9 * 77 / 100
    assert labeled.score_range == (0, 100)
    assert labeled.references == ["1.jpg", "2.jpg"]
    assert labeled.distortions is None and labeled.levels is None and labeled.classes is None


@pytest.mark.parametrize(
    ("sizes", "taken"), [(["512x384", "1024x768"], "512x384"), (["1024x768"], "1024x768"), (["512x384"], "512x384")]
)
def test_koniq_prefers_the_small_pictures(tmp_path, sizes, taken):
    labeled = load_labeled(koniq(tmp_path, sizes=sizes))
    assert labeled.paths == [str(tmp_path / taken / name) for name in ("1.jpg", "2.jpg")]


def test_koniq_older_file_is_read_by_its_zscore(tmp_path):
    labeled = load_labeled(koniq(tmp_path, table="koniq10k_scores.csv"))
    assert labeled.scores == pytest.approx([1, 7.93]) and labeled.score_range == (0, 100)


def test_koniq_file_with_mos_only_is_read_from_1_to_5(tmp_path):
    labeled = load_labeled(koniq(tmp_path, "image_name,MOS\n1.jpg,1\n2.jpg,4\n", "koniq10k_scores.csv"))
    assert labeled.scores == [1, 7.75] and labeled.score_range == (1, 5)


def test_koniq_newer_file_wins_over_the_older(tmp_path):
    write(tmp_path / "koniq10k_scores.csv", "image_name,MOS\n1.jpg,1\n2.jpg,4\n")
    assert load_labeled(koniq(tmp_path)).score_range == (0, 100)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image_name,MOS\n1.jpg,3\n2.jpg,77.4\n", "MOS is 77.4, wanted is 1 to 5"),  # on the other scale
        ("image_name,MOS_zscore\n1.jpg,3\n2.jpg,100.5\n", "MOS_zscore is 100.5, wanted is 0 to 100"),
        ("image_name,MOS_zscore\n1.jpg,3\n2.jpg,nan\n", "'nan'"),
    ],
)
def test_koniq_score_off_its_scale_is_named(tmp_path, text, said):
    message = error_of(ValueError, load_labeled, koniq(tmp_path, text))
    assert "koniq10k_scores_and_distributions.csv, line 3" in message and said in message


def test_koniq_without_its_parts_says_which(tmp_path):
    message = error_of(FileNotFoundError, load_labeled, f"koniq10k:{tmp_path}")
    assert "koniq10k_scores_and_distributions.csv" in message and "koniq10k_scores.csv" in message

    spec = koniq(tmp_path, sizes=())
    message = error_of(FileNotFoundError, load_labeled, spec)
    assert f"{tmp_path}: " in message and "512x384" in message and "1024x768" in message

    koniq(tmp_path)
    (tmp_path / "512x384" / "2.jpg").unlink()
    message = error_of(FileNotFoundError, load_labeled, spec)
    assert "2.jpg" in message and "line 3" in message and "1 of the 2" in message

    write(tmp_path / "koniq10k_scores_and_distributions.csv", "image_name,score\n1.jpg,3\n")
    message = error_of(ValueError, load_labeled, spec)
    assert "line 1" in message and "MOS_zscore" in message and "image_name, score" in message


# --- an own CSV file ---


def own(folder, text):
    for name in ("a.png", "b.png", "sub/c.png"):
        picture(folder / name)
    return f"csv:{write(folder / 'scores.csv', text)}"


def test_own_scores_span_1_to_10_by_the_files_extremes(tmp_path):
    labeled = load_labeled(own(tmp_path, "image,score\na.png,-20\nb.png,40\nsub/c.png,0\n"))
    assert labeled.paths == [str(tmp_path / name) for name in ("a.png", "b.png", "sub/c.png")]
    assert labeled.scores == [1, 10, 4]  # 1 + 9 * 20 / 60
    assert labeled.score_range == (-20, 40)
    assert labeled.references == ["a.png", "b.png", "sub/c.png"]
    assert labeled.distortions is None and labeled.levels is None and labeled.classes is None


def test_own_file_may_name_references_and_distortions_in_any_order(tmp_path):
    text = "distortion,score,note,reference,image\nblur,1,x,r1,a.png\n,2,,,b.png\nnoise,3,,r1,sub/c.png\n"
    labeled = load_labeled(own(tmp_path, text))
    assert labeled.references == ["r1", "b.png", "r1"]
    assert labeled.distortions == ["blur", "", "noise"]


def test_own_file_with_bom_crlf_blanks_and_quotes_is_read(tmp_path):
    picture(tmp_path / "x, y.png")
    spec = own(tmp_path, '\ufeffimage, score\r\n\r\n"x, y.png", 1\r\na.png,2\r\n\r\n')
    assert load_labeled(spec).paths == [str(tmp_path / "x, y.png"), str(tmp_path / "a.png")]


def test_own_file_may_hold_absolute_paths(tmp_path):
    picture(tmp_path / "elsewhere" / "d.png")
    labeled = load_labeled(own(tmp_path, f"image,score\na.png,1\n{tmp_path / 'elsewhere' / 'd.png'},2\n"))
    assert labeled.paths[1] == str(tmp_path / "elsewhere" / "d.png")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image\na.png\n", ", line 1: 0 columns are called score"),
        ("name,score\na.png,1\n", ", line 1: 0 columns are called image"),
        ("image;score\na.png;1\n", ", line 1: 0 columns are called image"),
        ("image,score,score\na.png,1,2\n", ", line 1: 2 columns are called score"),
        ("", ", line 1: 0 columns are called image"),
        ("image,score\n", ": no rows"),
        ("image,score\na.png,1\nb.png,good\n", ", line 3: the score is 'good'"),
        ("image,score\na.png,1\n\nb.png,\n", ", line 4: the score is ''"),
        ("image,score\na.png,nan\nb.png,1\n", ", line 2: the score is 'nan'"),
        ("image,score\na.png,1\nb.png,inf\n", ", line 3: the score is 'inf'"),
        ("image,score\na.png,1\nb.png\n", ", line 3: 1 cells"),
        ("image,score\na.png,1\nb.png,2,3\n", ", line 3: 3 cells"),
        ("image,score\na.png,2\nb.png,2\n", ": every score is 2"),
    ],
)
def test_own_file_that_is_wrong_is_named_with_its_line(tmp_path, text, said):
    assert f"{tmp_path / 'scores.csv'}{said}" in error_of(ValueError, load_labeled, own(tmp_path, text))


def test_own_file_not_in_utf8_is_named(tmp_path):
    (tmp_path / "scores.csv").write_bytes("image,score\nä.png,1\n".encode("utf-16"))
    assert str(tmp_path / "scores.csv") in error_of(ValueError, load_labeled, f"csv:{tmp_path / 'scores.csv'}")


def test_own_file_missing_or_listing_missing_pictures_is_named(tmp_path):
    assert "none.csv" in error_of(FileNotFoundError, load_labeled, f"csv:{tmp_path / 'none.csv'}")
    message = error_of(FileNotFoundError, load_labeled, own(tmp_path, "image,score\na.png,1\ngone.png,2\n"))
    assert f"{tmp_path / 'scores.csv'}, line 3" in message and str(tmp_path / "gone.png") in message


# --- the demo ---


def csv_rows(name):
    with open(DEMO_FOLDER / name, newline="") as file:
        return list(csv.DictReader(file))


def test_credits_cover_every_photograph_and_no_other():
    credited = [row["image"] for row in csv_rows("CREDITS.csv")]
    assert sorted(credited) == sorted(path.name for path in DEMO_FOLDER.glob("*.jpg"))
    assert len(set(credited)) == len(credited) == 67
    assert all(row["author"] and row["licence"] and row["taken_from"] for row in csv_rows("CREDITS.csv"))


def test_demo_photographs_are_384x288_from_40_sources():
    sources = demo_sources()
    assert list(sources) == sorted(map(str, DEMO_FOLDER.glob("*.jpg")))
    assert len(sources) == 67 and len(set(sources.values())) == 40
    assert sources[str(DEMO_FOLDER / "bridge_1.jpg")] == sources[str(DEMO_FOLDER / "bridge_2.jpg")] == "bridge"
    assert all(read_image(path).shape == (3, 288, 384) for path in sources)


def test_demo_is_every_photograph_in_every_class():
    demo = load_labeled("demo")
    lists = (demo.paths, demo.scores, demo.references, demo.distortions, demo.levels, demo.classes)
    assert [len(values) for values in lists] == [8375] * 6
    assert len(set(zip(demo.paths, demo.classes, strict=True))) == 8375 and set(demo.classes) == set(range(125))
    assert len(set(demo.references)) == 40
    sources = demo_sources()
    assert demo.references == [sources[path] for path in demo.paths]
    assert demo.name == "demo" and demo.score_range == (1, 5)


@pytest.mark.parametrize(
    ("distortion_class", "name", "level", "score"),
    [
        (0, "gaussian_blur", 1, 9.127),  # 1 + 9 * (4.612 - 1) / 4
        (4, "gaussian_blur", 5, 1.68175),  # 1.303
        (5, "lens_blur", 1, 7.4395),  # 3.862
        (48, "jpeg", 4, 3.12625),  # 1.945
        (87, "mean_shift", 3, 9.10675),  # 4.603
        (124, "contrast_change", 5, 6.229),  # 3.324
    ],
)
def test_demo_scores_are_kadids_class_means(distortion_class, name, level, score):
    demo = load_labeled("demo")
    entries = [i for i, value in enumerate(demo.classes) if value == distortion_class]
    assert len(entries) == 67
    for i in entries:
        assert (demo.distortions[i], demo.levels[i]) == (name, level) and demo.scores[i] == pytest.approx(score)


def test_class_means_are_listed_in_the_order_of_the_classes():
    listed = [(int(row["type"]), int(row["level"])) for row in csv_rows("kadid_class_means.csv")]
    assert listed == [(kind, level) for kind in range(1, 26) for level in range(1, 6)]


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
