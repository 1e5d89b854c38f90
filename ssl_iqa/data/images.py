"""Images on disk: reading one, listing those of a folder."""

import codecs
import os
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError, features

with suppress(ImportError):
    import pillow_heif

    pillow_heif.register_heif_opener()

HAS_HEIF = "HEIF" in Image.OPEN
HEIF_SUFFIXES = (".heic", ".heif", ".hif")
GET_HEIF = "pip install 'ssl_iqa[heif]'"
IMAGE_SUFFIXES = (  # of the still images that this installation of Pillow reads
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff"),
    *(".tga", ".ppm", ".pgm", ".pbm", ".pnm"),
    *((".jp2", ".j2k", ".jpf", ".jpx") if features.check("jpg_2000") else ()),
    *((".avif",) if "avif" in features.modules and features.check("avif") else ()),  # Pillow 11.3 is the first with it
    *(HEIF_SUFFIXES if HAS_HEIF else ()),
)

# What brings an image with this EXIF orientation upright (EXIF 2.32, tag 0x0112; 1 is upright).
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# PIL refuses a PNG for a text or a color profile over 1 MB, and nothing here uses them.
PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY = 2**26, 2**28


class UnreadableImage(ValueError):
    """A file that is no image, or a damaged one; the message is one line that names it."""


def read_image(path: str | os.PathLike[str], least_side: int = 0) -> torch.Tensor:
    """The image in a file as 8-bit RGB, uint8 [3, H, W], upright and with its first frame only.

    Gray, palette, CMYK and 1-bit images become RGB, alpha is composited over white, 16-bit gray is divided by 257.
    Color profiles are not applied. EXIF that cannot be parsed is taken to state no orientation.
    A truncated file is not decoded in part, unless ImageFile.LOAD_TRUNCATED_IMAGES tells PIL to do so. A pipe, socket
    or device is not opened: reading it might never end. With `least_side` a JPEG comes at a half, a quarter or an
    eighth of its size, which is decoded faster, where its long side still has as many pixels.

    Raises OSError for a file that cannot be opened, UnreadableImage for one that holds no readable image.
    """
    refuse_special_file(path)
    with open(path, "rb") as file:  # an error for a folder
        return decode_image(file, path, least_side)


def refuse_special_file(path: str | os.PathLike[str]) -> None:
    """Raises UnreadableImage for a pipe, a socket or a device."""
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        raise UnreadableImage(f"{path}: must be a regular file, got a pipe, a socket or a device")


def decode_image(file: BinaryIO, name: str | os.PathLike[str], least_side: int = 0) -> torch.Tensor:
    """The image in an open file, as `read_image` returns it; `name` is what an UnreadableImage calls it."""
    try:
        with Image.open(file) as image:
            if least_side:
                image.draft(None, [max(1, side * least_side // max(image.size)) for side in image.size])
            image.load()
            return from_pil(image)
    except UnidentifiedImageError as error:
        why = "not an image that Pillow reads"
        if os.fspath(name).lower().endswith(HEIF_SUFFIXES) and not HAS_HEIF:
            why = f"HEIC images need the pillow-heif library: {GET_HEIF}"
        raise UnreadableImage(f"{name}: {why}") from error
    except Image.DecompressionBombError as error:
        limit = f"{2 * Image.MAX_IMAGE_PIXELS / 1e6:.4g}"  # what PIL raises at
        where = "(PIL.Image.MAX_IMAGE_PIXELS, or --max-megapixels of ssl-iqa score)"
        raise UnreadableImage(f"{name}: must be at most {limit} megapixels {where}") from error
    except Exception as error:  # on damaged files PIL's decoders raise nearly every type there is
        raise UnreadableImage(f"{name}: not a readable image ({error!r})") from error


def from_pil(image: Image.Image) -> torch.Tensor:
    """A PIL image as `read_image` returns it. Raises ValueError for samples without a fixed range."""
    rgb = _to_rgb(image)
    try:  # not ImageOps.exif_transpose: it writes the EXIF block anew, which fails on many that can be read
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except (SyntaxError, struct.error, KeyError, TypeError, ValueError):  # those PIL itself expects of a broken block
        orientation = None
    if orientation in UPRIGHT:
        rgb = rgb.transpose(UPRIGHT[orientation])
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1).contiguous()  # [H, W, 3] -> [3, H, W]


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point samples have no fixed range")
    if image.mode.startswith("I"):  # 16-bit gray, or 32-bit that holds it; PIL's own conversion clips at 255
        gray = np.asarray(image)
        tags = getattr(image, "tag_v2", {})  # a TIFF's
        white = 2 ** tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0] - 1 if image.mode.startswith("I;16") else 65535
        if gray.min() < 0 or gray.max() > white:
            raise ValueError(f"gray samples must be 0 to {white}, got {gray.min()} to {gray.max()}")
        if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0:  # WhiteIsZero, which PIL turns up to 8 bits only
            gray = white - gray
        image = Image.fromarray(np.round(gray / (white / 255)).astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB")


def reduced(image: torch.Tensor, long_side: int) -> torch.Tensor:
    """An image averaged down to a long side, its aspect kept: uint8 [3, H, W] -> uint8 [3, h, w].

    A pixel is the mean over its area, of the border pixels by the fraction that lies in it, rounded half to even. An
    image that is no larger, and any for `long_side` 0, stays as it is.
    """
    height, width = image.shape[1:]
    if long_side == 0 or max(height, width) <= long_side:
        return image
    h, w = (max(1, round(side * long_side / max(height, width))) for side in (height, width))
    sums = _column_sums(_row_sums(image.numpy(), h), w)  # [3, h, w]
    return torch.from_numpy((sums / (height / h * (width / w))).round().astype(np.uint8))


def resized(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """An image at a height and width, whatever its aspect, by Lanczos's filter: bytes [3, H, W] -> bytes [3, h, w]."""
    height, width = size
    pixels = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1).contiguous()


def _edges(side: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The n + 1 edges of n equal parts of a side: whole pixels before each, and the fraction of one beyond them."""
    edges = np.arange(n + 1) * side / n
    whole = edges.astype(int)
    return whole, edges - whole


def _row_sums(x: np.ndarray, n: int) -> np.ndarray:
    """Sums over n equal parts of the rows, whose edges may lie within one: bytes [3, H, W] -> [3, n, W]."""
    whole, fraction = _edges(x.shape[1], n)
    within = fraction[:, None] * x[:, whole.clip(max=x.shape[1] - 1)]
    # adding whole rows is several times as fast as reduceat
    sums = [x[:, start:end].sum(axis=1, dtype=np.uint32) for start, end in pairwise(whole)]
    return np.stack(sums, axis=1) + np.diff(within, axis=1)


def _column_sums(x: np.ndarray, n: int) -> np.ndarray:
    """The same of columns: [3, h, W] -> [3, h, n]."""
    whole, fraction = _edges(x.shape[2], n)
    within = fraction * x[..., whole.clip(max=x.shape[2] - 1)]
    return np.add.reduceat(x, whole[:-1], axis=2) + np.diff(within)


def list_images(folder: str | os.PathLike[str], passed: Counter[str] | None = None) -> list[str]:
    """Sorted paths of all images in a folder and those below it, told by their suffix (IMAGE_SUFFIXES, any case).

    Hidden files and folders are skipped, links to folders are not followed; `passed` counts what is passed over, as in
    `walk_images`. A folder laid out as KADIS-700k (Section 4.1), with `ref_imgs/` in it, in any case, gives the images
    in that one only: what its generator may have put beside it in `dist_imgs/` is distorted already.

    Raises FileNotFoundError where there is no such folder, ValueError where it has no images.
    """
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{folder}: no such folder")
    references = in_any_case(Path(folder), "ref_imgs")
    root = os.path.join(folder, references.name) if references.is_dir() else os.fspath(folder)

    passed = Counter() if passed is None else passed
    unlistable: list[OSError] = []
    images = sorted(walk_images(root, unlistable.append, passed))
    if unlistable:
        raise unlistable[0]
    if not images:
        raise ValueError(f"{root}: {no_images(passed)}")
    return images


def is_shards(spec: str) -> bool:
    """Whether `--unlabeled` names shards: photos-{0000..1399}.tar, a.tar,b.tar or photos-*.tar."""
    return spec.rstrip("}").endswith(".tar")


def walk_images(
    folder: str | os.PathLike[str], unlistable: Callable[[OSError], object], passed: Counter[str]
) -> Iterator[str]:
    """Paths of all images in a folder and those below it, as in `list_images`, folder by folder, sorted in each.

    A folder that cannot be listed is passed over after a call of `unlistable`. `passed` counts the files that are no
    images by their suffix in lower case, hidden ones left out.
    """
    for parent, folders, names in os.walk(folder, onerror=unlistable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            if name.lower().endswith(IMAGE_SUFFIXES):
                yield os.path.join(parent, name)
            else:
                passed[os.path.splitext(name)[1].lower()] += 1


def passed_over(passed: Counter[str]) -> str:
    """What `walk_images` has counted, the most frequent suffixes: "passed over: 12 .heic, 3 .txt, 1 other"."""
    named = [suffix for suffix, _ in passed.most_common() if suffix[1:].isalnum() and len(suffix) < 10][:8]
    hints = {} if HAS_HEIF else dict.fromkeys(HEIF_SUFFIXES, f" ({GET_HEIF})")
    counts = [f"{passed[suffix]} {suffix}{hints.get(suffix, '')}" for suffix in named]
    others = passed.total() - sum(passed[suffix] for suffix in named)
    if others:
        counts.append(f"{others} other")
    return f"passed over: {', '.join(counts)}"


def no_images(passed: Counter[str]) -> str:
    """What an error says of a folder without images."""
    text = f"no images in this folder, which are files ending in {' '.join(IMAGE_SUFFIXES)}"
    return f"{text}; {passed_over(passed)}" if passed else text


def in_any_case(folder: Path, name: str) -> Path:
    """The path of a folder's file or folder of that name, or, where there is none, of that name in another case."""
    path = folder / name
    if path.exists() or not folder.is_dir():
        return path
    return next((other for other in sorted(folder.iterdir()) if other.name.lower() == name.lower()), path)


def in_utf8(text: bytes) -> bytes:
    """A text as Windows' programs write it, UTF-16 or with a byte-order mark, as UTF-8 without one.

    Raises UnicodeDecodeError, a ValueError, for damaged UTF-16.
    """
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return text.decode("utf-16").encode()
    return text.removeprefix(codecs.BOM_UTF8)
