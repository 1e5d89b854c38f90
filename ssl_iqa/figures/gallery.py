"""Appendix A's Figure 5: a photograph in every type and level of distortion, or with --type in one type, large.

It shows pixels as the distortion left them, since to resize them would hide noise, JPEG's blocks and small blurs: a
cell holds the central part of the photograph, which is distorted as a whole. A large photograph is reduced first: the
published levels are in pixels, for images of 512 x 384, and would hardly be seen on one of many megapixels.
"""

import argparse
from collections.abc import Sequence
from difflib import get_close_matches
from math import ceil
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import interpolate

from ssl_iqa.data.images import read_image
from ssl_iqa.data.views import to_float
from ssl_iqa.distortions import DistortionClass, distort_as, load_distortions
from ssl_iqa.distortions.compression import to_bytes, to_pil
from ssl_iqa.distortions.table import TYPES
from ssl_iqa.engine.settings import whole
from ssl_iqa.scoring import pages
from ssl_iqa.scoring.pages import DARK, HEAD, MARGIN, new_page, put_cell

SMALLEST = 16  # pixels a side, what `distort` takes
WIDTH = 1900  # of a page: a screen's
CELL, CELL_GAP, BLOCK_GAP = (112, 84), 6, 28  # of a gallery: its cells, the gaps between these and between columns
NAME_SIZE, CAPTION_SIZE, ROW_GAP, ROW = 15, 13, 10, 84 + 17 + 10 + 19  # a row: cell, caption, gap, the next one's name
LARGE_CELL, LARGE_GAP, LARGE_COLUMNS, LARGE_ROW = (384, 288), 18, 3, 288 + 34  # of one type's page


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photo", type=Path, metavar="PHOTO", help="a photograph, at best pristine")
    parser.add_argument("--type", help="one type's levels, large; without it all types")
    parser.add_argument(
        "--distortions", metavar="SPEC", default="kadis", help="kadis, distinct, imgaug, a file (kadis)"
    )
    text = "reduce a photograph whose longer side is over it (768)"
    parser.add_argument("--side", type=whole(SMALLEST, 10_000), default=768, help=text)
    parser.add_argument("--quality", type=whole(1, 100), default=90, help="of a .jpg or .webp, 1 to 100 (90)")
    parser.add_argument("--seed", type=whole(0, 2**63 - 1), default=0, help="of the distortions (0)")


def run(args: argparse.Namespace) -> tuple[bytes, str]:
    if args.out.exists() and args.photo.exists() and args.out.samefile(args.photo):
        raise ValueError(f"--out must be another file than the photograph, got {args.out}")
    distortions = load_distortions(args.distortions)
    names = list(dict.fromkeys(distortion.name for distortion in distortions))
    if args.type is not None and args.type not in names:
        nearest = get_close_matches(args.type, names, n=1, cutoff=0)[0]
        raise ValueError(f"--type must be one of {args.distortions}, got {args.type!r}; the nearest is {nearest}")
    image, size = read_photograph(args.photo, args.side)
    source = f"({Path(args.distortions).name}): {args.photo.name}, {size}"
    if args.type is None:
        title = f"{len(names)} types of distortion, {len(distortions)} classes {source}"
        page = gallery(image, distortions, args.seed, title)
    else:
        levels = [distortion for distortion in distortions if distortion.name == args.type]
        page = type_page(image, levels, args.seed, f"{args.type} {source}")
    return pages.encode(page, args.out.suffix.lower(), args.quality)


def read_photograph(path: Path, side: int) -> tuple[Tensor, str]:
    """A photograph as `distort` takes it, [3, H, W] in [0, 1], its longer side at most `side`, and its size in words.

    Raises OSError or ValueError for a file that is no image, and for one that is too small.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    image = to_float(read_image(path))  # [3, H, W]
    height, width = image.shape[1:]
    size = f"{width} x {height} pixels"
    ratio = min(1, side / max(height, width))
    if ratio < 1:
        before, height, width = f"{width} x {height}", round(ratio * height), round(ratio * width)
        size = f"{width} x {height} pixels (reduced from {before})"
    if min(height, width) < SMALLEST:
        raise ValueError(f"{path} must have {SMALLEST} pixels a side or more, got {size}")
    if ratio < 1:
        image = interpolate(image[None], (height, width), mode="bicubic", antialias=True)[0].clamp_(0, 1)
    return image, size


def to_cell(image: Tensor, cell: tuple[int, int]) -> Image.Image:
    """The central width x height pixels of [3, H, W] in [0, 1], in 8 bits; all of a side that has not so many."""
    width, height = (min(pair) for pair in zip(cell, (image.shape[2], image.shape[1]), strict=True))
    top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
    (pixels,) = to_bytes(image[None, :, top : top + height, left : left + width])
    return to_pil(pixels)


def distorted_cell(image: Tensor, distortion: DistortionClass, seed: int, cell: tuple[int, int]) -> Image.Image:
    """All cells have the same seed, so that two levels differ by their level only."""
    return to_cell(distort_as(image, distortion, torch.Generator().manual_seed(seed)), cell)


def value_of(distortion: DistortionClass) -> str:
    return TYPES[distortion.name].caption.format(distortion.value)


def crop_note(cell: Image.Image) -> str:
    return f"Cells are the middle {cell.width} x {cell.height} pixels, none of them resized."


def gallery(image: Tensor, distortions: Sequence[DistortionClass], seed: int, title: str) -> Image.Image:
    """All classes of a set: a row of cells for each type, a cell's place in it its level, rows below one another.

    As many columns of rows as fit a screen's width. The photograph itself comes first, as it is; the other cells are
    stretched to the full range, as `distort` does. Without a level's cell, as in `distinct`, its place stays empty.
    """
    names = ["pristine", *dict.fromkeys(distortion.name for distortion in distortions)]
    name_font, font = ImageFont.load_default(NAME_SIZE), ImageFont.load_default(CAPTION_SIZE)
    captions = [f"{distortion.level}  {value_of(distortion)}" for distortion in distortions]
    step = max(CELL[0], *(ceil(font.getlength(caption)) for caption in captions)) + CELL_GAP
    row_width = max(distortion.level for distortion in distortions) * step - CELL_GAP
    block = max(row_width, *(ceil(name_font.getlength(name)) for name in names))

    columns = max(1, (WIDTH - 2 * MARGIN + BLOCK_GAP) // (block + BLOCK_GAP))
    lines = ceil(len(names) / columns)
    columns = ceil(len(names) / lines)
    pristine = to_cell(image, CELL)
    note = f"Below each cell: the level and its value. {crop_note(pristine)}"
    page = new_page(columns * (block + BLOCK_GAP) - BLOCK_GAP, lines * ROW - ROW_GAP, title, note)
    places = {name: (MARGIN + i // lines * (block + BLOCK_GAP), HEAD + i % lines * ROW) for i, name in enumerate(names)}
    for name, (left, top) in places.items():
        ImageDraw.Draw(page).text((left, top - 6), name, DARK, name_font, anchor="ls")
    put_cell(page, *places["pristine"], pristine, "", "", CAPTION_SIZE)
    for distortion in distortions:
        left, top = places[distortion.name]
        left += (distortion.level - 1) * step
        cell = distorted_cell(image, distortion, seed, CELL)
        put_cell(page, left, top, cell, str(distortion.level), value_of(distortion), CAPTION_SIZE)
    return page


def type_page(image: Tensor, distortions: Sequence[DistortionClass], seed: int, title: str) -> Image.Image:
    """The photograph itself and all levels of one type, large."""
    cells = [("pristine", "", to_cell(image, LARGE_CELL))]
    for distortion in distortions:
        cell = distorted_cell(image, distortion, seed, LARGE_CELL)
        cells.append((f"level {distortion.level}", value_of(distortion), cell))
    step = LARGE_CELL[0] + LARGE_GAP
    columns, lines = min(len(cells), LARGE_COLUMNS), ceil(len(cells) / LARGE_COLUMNS)
    page = new_page(columns * step - LARGE_GAP, lines * LARGE_ROW, title, crop_note(cells[0][2]))
    for i, (label, value, cell) in enumerate(cells):
        put_cell(page, MARGIN + i % columns * step, HEAD + i // columns * LARGE_ROW, cell, label, value, 17)
    return page
