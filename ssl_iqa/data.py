"""What is on disk: reading pictures, listing folders of them, and Section 4.1's splits, of scored sets by reference."""

import hashlib
import math
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from typing import BinaryIO, NoReturn

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")

# What brings a picture with this EXIF orientation upright (EXIF 2.32, tag 0x0112; 1 is upright).
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadableImage(ValueError):
    """A file that is no picture, or a damaged one; the message is one line that names it."""


def read_image(path: str | os.PathLike[str]) -> torch.Tensor:
    """The picture in a file as 8-bit RGB, `uint8 [3, H, W]`, upright and with its first frame only.

    Gray, palette, CMYK and 1-bit pictures become RGB, alpha is composited over white, 16-bit gray is divided by 257.
    Color profiles are not applied. EXIF that cannot be parsed is taken to state no orientation.
    A truncated file is never decoded in part.

    Raises OSError for a file that cannot be opened, UnreadableImage for one that holds no readable picture.
    """
    with open(path, "rb") as file:
        return decode_image(file, path)


def decode_image(file: BinaryIO, name: str | os.PathLike[str]) -> torch.Tensor:
    """The picture in an open file, as `read_image` gives it; an UnreadableImage is called by `name`."""
    try:
        with Image.open(file) as image:
            image.load()
            return from_pil(image)
    except UnidentifiedImageError as error:
        raise UnreadableImage(f"{name}: not a picture of a known format") from error
    except Image.DecompressionBombError as error:
        limit = f"{2 * Image.MAX_IMAGE_PIXELS / 1e6:.4g} megapixels"  # what PIL raises at
        where = "PIL.Image.MAX_IMAGE_PIXELS sets the limit, --max-megapixels that of ssl_iqa.score"
        raise UnreadableImage(f"{name}: over {limit}; {where}") from error
    except Exception as error:  # on damaged files PIL's decoders raise nearly every type there is
        raise UnreadableImage(f"{name}: not a readable picture ({error!r})") from error


def from_pil(image: Image.Image) -> torch.Tensor:
    """A PIL image as `read_image` gives it. Raises ValueError for samples without a fixed range."""
    rgb = _to_rgb(_upright(image))
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1).contiguous()  # [H, W, 3] -> [3, H, W]


def _upright(image: Image.Image) -> Image.Image:
    # Not ImageOps.exif_transpose: it writes the EXIF block anew, which fails on many that can be read.
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except (SyntaxError, struct.error, KeyError, TypeError, ValueError):  # those PIL itself expects of a broken block
        return image
    return image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point samples have no fixed range")
    if image.mode.startswith("I"):  # 16-bit gray, or 32-bit that holds it; PIL's own conversion clips at 255
        gray = np.asarray(image)
        if gray.min() < 0 or gray.max() > 65535:
            raise ValueError(f"gray samples from {gray.min()} to {gray.max()}, wanted 0 to 65535")
        image = Image.fromarray(np.round(gray / 257).astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB")


def list_pictures(folder: str | os.PathLike[str]) -> list[str]:
    """Sorted paths of all pictures in a folder and those below it, told by their suffix (PICTURE_SUFFIXES, any case).

    Hidden files and folders are skipped, links to folders are not followed. A folder laid out as KADIS-700k
    (Section 4.1), with `ref_imgs/` in it, gives the pictures in `ref_imgs/` only: what its generator may have put
    beside it in `dist_imgs/` is distorted already.

    Raises FileNotFoundError or NotADirectoryError where there is no such folder, ValueError where it has no pictures.
    """
    if not os.path.exists(folder):
        raise FileNotFoundError(f"{folder}: no such folder; a folder of pictures is wanted")
    if not os.path.isdir(folder):
        raise NotADirectoryError(f"{folder}: not a folder; a folder of pictures is wanted")
    references = os.path.join(folder, "ref_imgs")
    root = references if os.path.isdir(references) else os.fspath(folder)

    pictures = sorted(walk_pictures(root, _stop))
    if not pictures:
        raise ValueError(f"{root}: no pictures in this folder; wanted are files ending in {' '.join(PICTURE_SUFFIXES)}")
    return pictures


def walk_pictures(folder: str | os.PathLike[str], unlistable: Callable[[OSError], object]) -> Iterator[str]:
    """Paths of all pictures in a folder and those below it, as in `list_pictures`, folder by folder, sorted in each.

    A folder that cannot be listed is passed over after a call of `unlistable`.
    """
    for parent, folders, names in os.walk(folder, onerror=unlistable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith(PICTURE_SUFFIXES) and not name.startswith("."):
                yield os.path.join(parent, name)


def _stop(error: OSError) -> NoReturn:
    raise error  # os.walk would pass over a folder that cannot be listed


def split_references(
    references: Sequence[str], seed: int, fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)
) -> dict[str, list[str]]:
    """Divides a set's reference images into train, val and test (Section 4.1: 60 %, 20 % and 20 %).

    `references` is a LabeledSet's, one a picture; its distinct names are shuffled by `seed` and divided: val and test
    get their fraction, rounded, and train the rest (49/16/16 of KADID-10k's 81). Each part comes back sorted.

    Raises ValueError for fractions that are not three positive numbers with sum 1, and for too few references.
    """
    if len(fractions) != 3 or min(fractions) <= 0 or not math.isclose(sum(fractions), 1):
        raise ValueError(f"fractions is {fractions}, wanted are three positive numbers with sum 1")

    names = sorted(set(references))
    train, val, test = part_sizes(len(names), fractions)
    if min(train, val, test) < 1:
        needed = next(n for n in count(len(names) + 1) if min(part_sizes(n, fractions)) >= 1)
        raise ValueError(
            f"{len(names)} distinct reference images cannot be split into train, val and test; at least {needed} are"
            " needed"
        )
    order = shuffled(names, seed)
    return {
        "train": sorted(order[:train]),
        "val": sorted(order[train : train + val]),
        "test": sorted(order[train + val :]),
    }


def part_sizes(n: int, fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)) -> tuple[int, int, int]:
    """How many of n reference images go to train, val and test: val and test are rounded, train gets the rest."""
    val, test = round(n * fractions[1]), round(n * fractions[2])
    return n - val - test, val, test


def shuffled(names: Sequence[str], seed: int) -> list[str]:
    return [names[i] for i in np.random.default_rng(seed).permutation(len(names))]


def split_pictures(paths: Sequence[str], seed: int) -> tuple[list[str], list[str]]:
    """Divides unlabeled pictures by `seed` into train and val (Section 4.1: 80 % and 20 %), at least one each.

    Raises ValueError for fewer than two.
    """
    if len(paths) < 2:
        raise ValueError(f"{paths[0]}: the only picture here; two or more are wanted, to train and to validate")
    order = shuffled(paths, seed)
    n_val = max(1, round(0.2 * len(paths)))
    return sorted(order[n_val:]), sorted(order[:n_val])


def digest(items: Iterable[object]) -> str:
    """SHA-256 of some names, or of tuples of plain values, in their order: tells two sets of pictures apart."""
    return hashlib.sha256("\n".join(map(repr, items)).encode()).hexdigest()


def part_indices(references: Sequence[str], names: Sequence[str]) -> list[int]:
    """The indices of the pictures whose reference image is among `names` (a part of `split_references`)."""
    wanted = set(names)
    return [i for i, reference in enumerate(references) if reference in wanted]
