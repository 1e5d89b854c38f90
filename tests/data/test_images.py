"""Reading images and listing folders of them; splits."""

import os
import socket
import struct
import threading
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from ssl_iqa.data import images
from ssl_iqa.data.images import (
    HEIF_SUFFIXES,
    IMAGE_SUFFIXES,
    UnreadableImage,
    from_pil,
    list_images,
    passed_over,
    read_image,
    reduced,
)
from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.data.seen import divide
from ssl_iqa.data.sets import load_labeled
from ssl_iqa.data.splits import part_indices
from tests.conftest import error_of, write

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def pixels(path):
    """An image as rows of (r, g, b), through read_image."""
    return [[tuple(pixel) for pixel in row] for row in read_image(path).permute(1, 2, 0).tolist()]


def chunk(kind, body):
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(path, width, height, bits, color_type, samples, extra=b"", after=b""):
    """A PNG written by hand, for what PIL cannot save; `samples` are the bytes of each row."""
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    rows = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in samples)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + rows + after + chunk(b"IEND", b""))


def tiff(path, width, height, bits, photometric, strip, sample_format=1):
    """A little-endian TIFF written by hand: `bits` is a list with one number a sample, `strip` all pixels' bytes."""
    n = len(bits)
    tags = {256: (4, width), 257: (4, height), 259: (3, 1), 262: (3, photometric), 277: (3, n), 278: (4, height)}
    tags |= {279: (4, len(strip)), 339: (3, sample_format), 258: (3, bits[0])}
    tags[273] = (4, 8 + 2 + 12 * (len(tags) + 1) + 4 + 4 * n)
    more = 8 + 2 + 12 * len(tags) + 4
    entries = b""
    for tag, (kind, value) in sorted(tags.items()):
        count = n if tag in (258, 339) else 1
        # one or two shorts are in the entry itself, more of them after the entries
        place = more + 2 * n * (tag == 339) if count > 2 else value
        entries += struct.pack("<HHII", tag, kind, count, place)
    arrays = struct.pack(f"<{2 * n}H", *bits, *[sample_format] * n)
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + arrays + strip)


def xmp(orientation, fill=0, compressed=False):
    """An iTXt chunk with Adobe's XMP, of `fill` more bytes."""
    text = f'<x:xmpmeta tiff:Orientation="{orientation}">'.encode() + b" " * fill
    text = zlib.compress(text) if compressed else text
    return chunk(b"iTXt", b"XML:com.adobe.xmp\0" + bytes([compressed, 0]) + b"\0\0" + text)


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


@pytest.mark.parametrize("suffix", ["avif", "heic"])
@pytest.mark.parametrize(
    ("orientation", "is_low", "is_right"), [(2, False, True), (3, True, True), (6, False, True), (8, True, False)]
)
def test_orientation_of_what_phones_write_is_applied_once(tmp_path, orientation, is_low, is_right, suffix):
    """The container itself says how to turn the image (irot, imir), and EXIF may say so again."""
    if f".{suffix}" not in IMAGE_SUFFIXES:
        pytest.skip(f"no {suffix} in this installation")
    image = Image.new("RGB", (64, 32), "white")
    image.paste("black", (0, 0, 32, 16))  # the stored top left
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    if suffix == "heic":
        heif = images.pillow_heif.from_pillow(image)
        heif.info["exif"] = exif.tobytes()
        heif.save(path)
    else:
        image.save(path, exif=exif)
    upright = read_image(path)
    assert upright.shape == ((3, 64, 32) if orientation > 4 else (3, 32, 64))
    middle = (upright.float().mean(0) < 128).nonzero().float().mean(0)
    assert (middle > torch.tensor(upright.shape[1:]) / 2).tolist() == [is_low, is_right]


def test_image_with_broken_exif_is_read_as_stored(tmp_path):
    Image.new("RGB", (16, 8), RED).save(tmp_path / "a.png", exif=b"Exif\0\0no TIFF header")
    assert pixels(tmp_path / "a.png") == [[RED] * 16] * 8


MEGABYTES = bytes(3 * 2**20)
METADATA = {
    "zTXt": chunk(b"zTXt", b"workflow\0\0" + zlib.compress(MEGABYTES)),
    "iTXt": chunk(b"iTXt", b"prompt\0\1\0\0\0" + zlib.compress(MEGABYTES)),
    "iCCP": chunk(b"iCCP", b"profile\0\0" + zlib.compress(MEGABYTES)),
    "XMP": xmp(1, len(MEGABYTES), compressed=True),
    "EXIF as a text": chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(MEGABYTES)),
    "many texts": chunk(b"zTXt", b"a\0\0" + zlib.compress(MEGABYTES[: 2**20])) * 70,
}


@pytest.mark.parametrize("kind", METADATA)
def test_png_with_metadata_of_any_size_is_read(tmp_path, kind):
    png(tmp_path / "a.png", 2, 1, 8, 2, [bytes((*RED, *GREEN))], extra=METADATA[kind])
    png(tmp_path / "b.png", 2, 1, 8, 2, [bytes((*RED, *GREEN))], after=METADATA[kind])
    assert pixels(tmp_path / "a.png") == pixels(tmp_path / "b.png") == [[RED, GREEN]]


def test_png_metadata_cut_short_is_refused(tmp_path):
    png(tmp_path / "a.png", 2, 1, 8, 2, [bytes((*RED, *GREEN))], after=METADATA["zTXt"])
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:-40])
    assert "a.png" in error_of(UnreadableImage, read_image, tmp_path / "a.png")


@pytest.mark.parametrize("compressed", [False, True])
def test_png_orientation_in_a_text_is_applied(tmp_path, compressed):
    png(tmp_path / "xmp.png", 2, 1, 8, 2, [bytes((*RED, *GREEN))], extra=xmp(3, compressed=compressed))
    block = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHHI", 0x0112, 3, 1, 3, 0, 0)  # one entry, orientation 3
    profile = b"\nexif\n" + str(len(block) + 6).encode() + b"\n" + (b"Exif\0\0" + block).hex().encode() + b"\n"
    text = b"Raw profile type exif\0" + (b"\0" + zlib.compress(profile) if compressed else profile)
    kind = b"zTXt" if compressed else b"tEXt"
    png(tmp_path / "exif.png", 2, 1, 8, 2, [bytes((*RED, *GREEN))], extra=chunk(kind, text))
    assert pixels(tmp_path / "xmp.png") == pixels(tmp_path / "exif.png") == [[GREEN, RED]]


def test_png_with_bytes_after_its_end_is_read(tmp_path):
    png(tmp_path / "a.png", 2, 1, 8, 2, [bytes((*RED, *GREEN))])
    with open(tmp_path / "a.png", "ab") as file:
        file.write(b"PK\x03\x04 a zip file")
    assert pixels(tmp_path / "a.png") == [[RED, GREEN]]


def test_animated_png_whose_default_image_is_no_frame_gives_that(tmp_path):
    images = [Image.new("RGB", (2, 2), color) for color in (GREEN, RED, BLUE)]
    images[0].save(tmp_path / "a.png", save_all=True, append_images=images[1:], default_image=True)
    assert pixels(tmp_path / "a.png") == [[GREEN] * 2] * 2


@pytest.mark.parametrize("photometric", [0, 1])  # WhiteIsZero, BlackIsZero
@pytest.mark.parametrize(
    ("bits", "strip", "black_is_zero"),
    [
        (1, bytes([0b01000000]), [0, 255, 0, 0]),
        (8, bytes([0, 255, 77, 178]), [0, 255, 77, 178]),
        (16, struct.pack("<4H", 0, 65535, 257 * 77, 257 * 178 + 100), [0, 255, 77, 178]),
    ],
)
def test_gray_tiff_is_no_negative(tmp_path, bits, strip, black_is_zero, photometric):
    tiff(tmp_path / "a.tif", 4, 1, [bits], photometric, strip)
    gray = [value if photometric else 255 - value for value in black_is_zero]
    assert pixels(tmp_path / "a.tif") == [[(value,) * 3 for value in gray]]


def test_16_bit_white_is_zero_of_pil_is_no_negative_either(tmp_path):
    """An image that a caller opened, turned upright: what the file said of it must not be lost before it is used."""
    tiff(tmp_path / "a.tif", 2, 1, [16], 0, struct.pack("<2H", 0, 65535))
    with Image.open(tmp_path / "a.tif") as image:
        assert from_pil(image)[0].tolist() == [[255, 0]]


def test_12_bit_gray_tiff_spans_all_of_8_bits(tmp_path):
    samples = [0, 4095, 2048, 16]
    strip = bytes.fromhex("".join(f"{sample:03x}" for sample in samples))
    tiff(tmp_path / "a.tif", 4, 1, [12], 1, strip)
    assert [row[0] for row in pixels(tmp_path / "a.tif")[0]] == [0, 255, 128, 1]  # 4095 is white


@pytest.mark.parametrize("kind", ["a FIFO", "a socket", "a device"])
def test_special_file_is_refused_unopened(tmp_path, monkeypatch, kind):
    path = Path("/dev/null") if kind == "a device" else tmp_path / "a.png"
    if kind == "a FIFO":
        os.mkfifo(path)
    if kind == "a socket":
        monkeypatch.chdir(tmp_path)
        socket.socket(socket.AF_UNIX).bind(path.name)  # such a path has 107 bytes at most
    said = []
    # in a thread that does not keep the tests, since opening a FIFO waits for one who writes
    reader = threading.Thread(target=lambda: said.append(error_of(UnreadableImage, read_image, path)), daemon=True)
    reader.start()
    reader.join(10)
    assert said == [f"{path}: must be a regular file, got a pipe, a socket or a device"]


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "gif", "jp2", "j2k", "tga", "ppm", "pnm", "avif", "heic", "heif"])
def test_kinds_that_people_have_are_listed_and_read(tmp_path, suffix):
    if f".{suffix}" not in IMAGE_SUFFIXES and suffix in ("jp2", "j2k", "avif", "heic", "heif"):
        pytest.skip(f"no {suffix} in this installation")
    color = (200, 60, 60)
    Image.new("RGB", (32, 32), color).save(tmp_path / f"a.{suffix.upper()}")
    (path,) = list_images(tmp_path)
    difference = (read_image(path).movedim(0, 2).int() - torch.tensor(color)).abs().max()
    assert difference <= (6 if suffix in ("jfif", "jpe", "avif", "heic", "heif") else 0)


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


@pytest.mark.parametrize("content", [b"", b"no image\n", b"\x89PNG\r\n\x1a\n"])
def test_file_that_is_no_image_is_named(tmp_path, content):
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


def test_image_without_pixels_is_refused(tmp_path):
    (tmp_path / "a.ppm").write_bytes(b"P6 0 4 255\n")
    png(tmp_path / "b.png", 0, 4, 8, 2, [b""] * 4)
    for name in ("a.ppm", "b.png"):
        assert name in error_of(UnreadableImage, read_image, tmp_path / name)


# --- list_images ---


def test_images_are_listed_sorted_recursive_any_case_without_hidden(tmp_path):
    names = ["b.PNG", "a.jpg", "sub/c.JpEg", "sub/deep/d.tiff", "e.webp", "f.bmp", "g.TIF"]
    for name in [*names, ".hidden.png", "._b.PNG", ".cache/x.png", "notes.txt", "jpg", "x.png.part"]:
        write(tmp_path / name, "")
    assert list_images(tmp_path) == sorted(str(tmp_path / name) for name in names)


@pytest.mark.parametrize("folder", ["ref_imgs", "Ref_Imgs"])
def test_kadis_layout_gives_its_references_only(tmp_path, folder):
    write(tmp_path / "kadis700k_ref_imgs.csv", "ref_im,dist_type\n")
    for name in [f"{folder}/b.png", f"{folder}/a.png", "dist_imgs/a_01_01.png", "c.png"]:
        write(tmp_path / name, "")
    passed = Counter()
    assert list_images(str(tmp_path), passed) == [str(tmp_path / folder / name) for name in ("a.png", "b.png")]
    assert not passed


def test_of_two_kadis_folders_the_one_named_exactly_is_taken(tmp_path):
    for name in ["REF_IMGS/a.png", "ref_imgs/b.png"]:
        write(tmp_path / name, "")
    if len(os.listdir(tmp_path)) == 1:
        pytest.skip("one folder, since the disk knows no case")
    assert list_images(tmp_path) == [str(tmp_path / "ref_imgs" / "b.png")]


def test_what_is_passed_over_is_counted_by_suffix(tmp_path, monkeypatch):
    names = ["a.png", "a.HEIC", "b.heic", "sub/c.heic", "notes.txt", "d.cr2", "e.CR2", "README", ".hidden.txt"]
    for name in names:
        write(tmp_path / name, "")
    without = tuple(suffix for suffix in IMAGE_SUFFIXES if suffix not in HEIF_SUFFIXES)
    monkeypatch.setattr(images, "IMAGE_SUFFIXES", without)
    monkeypatch.setattr(images, "HAS_HEIF", False)
    passed = Counter()
    assert list_images(tmp_path, passed) == [str(tmp_path / "a.png")]
    said = "passed over: 3 .heic (pip install 'ssl_iqa[heif]'), 2 .cr2, 1 .txt, 1 other"
    assert passed_over(passed) == said
    (tmp_path / "a.png").unlink()
    assert error_of(ValueError, list_images, tmp_path).endswith(said)
    assert "pip install 'ssl_iqa[heif]'" in error_of(UnreadableImage, read_image, tmp_path / "a.HEIC")


def test_of_many_suffixes_the_most_frequent_are_named():
    passed = Counter({f".s{i}": i for i in range(1, 20)})
    named = ", ".join(f"{i} .s{i}" for i in range(19, 11, -1))
    assert passed_over(passed) == f"passed over: {named}, {sum(range(12))} other"


def test_folder_that_cannot_be_used_is_named(tmp_path):
    message = error_of(FileNotFoundError, list_images, tmp_path / "nowhere")
    assert message.startswith(f"{tmp_path / 'nowhere'}: no such folder")
    message = error_of(FileNotFoundError, list_images, write(tmp_path / "a.png", ""))
    assert message.startswith(f"{tmp_path / 'a.png'}: no such folder")
    (tmp_path / "empty").mkdir()
    message = error_of(ValueError, list_images, tmp_path / "empty")
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
    assert "closed" in error_of(PermissionError, list_images, tmp_path)


# --- splits ---


def names_of(n):
    return [f"I{i:02d}.png" for i in range(1, n + 1)]


def split(names, seed):
    return divide(LabeledSet("csv:own", names, [5.0] * len(names), (1, 10), names), {}, seed)


@pytest.mark.parametrize(
    ("n", "expected"), [(81, [49, 16, 16]), (40, [24, 8, 8]), (10073, [6043, 2015, 2015]), (3, [1, 1, 1])]
)
def test_split_has_the_sizes_of_the_paper(n, expected):
    assert [len(part) for part in split(names_of(n), seed=0).values()] == expected


def test_split_is_disjoint_complete_and_sorted():
    parts = split(names_of(81) * 125, seed=3)
    assert list(parts) == ["train", "val", "test"]
    assert sorted(parts["train"] + parts["val"] + parts["test"]) == names_of(81)
    assert all(part == sorted(part) for part in parts.values())


def test_split_follows_the_seed_and_not_the_order_of_images():
    names = names_of(81)
    assert split(names, seed=1) == split(names[::-1] * 2, seed=1)
    assert split(names, seed=1) != split(names, seed=2)
    drawn = {name for seed in range(30) for name in split(names, seed)["test"]}
    assert len(drawn) > 75  # each of 81 is left out of 30 tests with probability 0.0014


def test_too_few_references_say_how_many_are_there():
    message = error_of(ValueError, split, ["a", "b", "a"], 0)
    assert message.startswith("csv:own: each part must have a reference image") and "of 2 distinct ones" in message


def test_part_indices_are_those_of_the_named_references():
    assert part_indices(["a", "b", "a", "c"], ["a", "c"]) == [0, 2, 3]
    demo = load_labeled("demo")
    parts = split(demo.references, seed=0)
    indices = [part_indices(demo.references, parts[name]) for name in parts]
    assert sorted(sum(indices, [])) == list(range(8375))
    photographs = [{Path(demo.paths[i]).name.split("_")[0] for i in part} for part in indices]
    assert not (photographs[0] & photographs[1] or photographs[0] & photographs[2] or photographs[1] & photographs[2])


# --- smaller images ---


def averaged(image: np.ndarray, h: int, w: int) -> np.ndarray:
    """Means over areas with fractional edges, pixel by pixel: [H, W] -> [h, w], not rounded."""
    height, width = image.shape
    means = np.zeros((h, w))
    for i, j in np.ndindex(h, w):
        top, bottom, left, right = i * height / h, (i + 1) * height / h, j * width / w, (j + 1) * width / w
        for y, x in np.ndindex(height, width):
            area = max(0, min(y + 1, bottom) - max(y, top)) * max(0, min(x + 1, right) - max(x, left))
            means[i, j] += area * image[y, x]
    return means * h * w / (height * width)


@pytest.mark.parametrize(
    ("height", "width", "long_side", "size"),
    [(13, 29, 11, (5, 11)), (31, 8, 30, (30, 8)), (1, 40, 7, (1, 7)), (40, 2, 3, (3, 1)), (17, 17, 1, (1, 1))],
)
def test_an_image_is_averaged_down_over_areas(height: int, width: int, long_side: int, size: tuple[int, int]) -> None:
    image = torch.randint(256, (3, height, width), generator=torch.Generator().manual_seed(height)).byte()
    found = reduced(image, long_side)
    assert found.dtype == torch.uint8 and found.shape == (3, *size)
    for channel, small in zip(image.double().numpy(), found.numpy(), strict=True):
        assert np.abs(averaged(channel, *size) - small).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("factor", [2, 3, 4, 6])
def test_by_a_whole_factor_it_is_the_mean_of_blocks(factor: int) -> None:
    image = torch.randint(256, (3, 12 * factor, 20 * factor), generator=torch.Generator().manual_seed(0)).byte()
    blocks = image.numpy().reshape(3, 12, factor, 20, factor).sum(axis=(2, 4)) / factor**2
    assert factor % 2 or (blocks % 1 == 0.5).any()  # halves, to even ones
    assert np.array_equal(reduced(image, 20).numpy(), blocks.round())


def test_an_image_that_is_no_larger_stays_as_it_is() -> None:
    image = torch.zeros(3, 20, 30, dtype=torch.uint8)
    assert reduced(image, 30) is image and reduced(image, 31) is image and reduced(image, 0) is image


@pytest.mark.parametrize(
    ("size", "least_side", "expected"),
    [
        ((1024, 600), 512, (512, 300)),
        ((600, 1100), 512, (300, 550)),  # a quarter would have 275
        ((1023, 600), 512, (1023, 600)),
        ((2000, 3), 200, (1000, 2)),  # an eighth would have no height
        ((1024, 600), 0, (1024, 600)),
    ],
)
def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size(
    tmp_path: Path, size: tuple[int, int], least_side: int, expected: tuple[int, int]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
    image.save(tmp_path / "a.jpg", quality=95)
    image.save(tmp_path / "a.png")
    found = read_image(tmp_path / "a.jpg", least_side)
    width, height = expected
    assert found.shape == (3, height, width)
    means = image.resize(expected, Image.Resampling.BOX)
    assert np.abs(np.asarray(means, dtype=int) - found.permute(1, 2, 0).numpy()).mean() < 3
    assert torch.equal(read_image(tmp_path / "a.png", least_side), read_image(tmp_path / "a.png"))


def test_a_fraction_of_a_jpeg_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(np.repeat([[[0], [255]]], 3, axis=2).astype(np.uint8)).resize((800, 400)).save(
        tmp_path / "a.jpg", exif=exif
    )
    found = read_image(tmp_path / "a.jpg", 200)
    assert found.shape == (3, 200, 100) and found[:, 0].max() < 20 and found[:, -1].min() > 235
