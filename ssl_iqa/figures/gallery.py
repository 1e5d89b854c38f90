"""Appendix A's Figure 5: a photograph in every type and level of distortion, or with --type in one type, large.

It shows pixels as the distortion left them, since to resize them would hide noise, JPEG's blocks and small blurs: a
cell holds the central part of the photograph, which is distorted as a whole. A large photograph is reduced first: the
published levels are in pixels, for images of 512 x 384, and would hardly be seen on one of many megapixels.
"""

import argparse
from collections.abc import Sequence
from math import ceil
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ssl_iqa.data.images import read_image, reduced
from ssl_iqa.data.views import to_float
from ssl_iqa.distortions import DistortionClass, distort_as, load_distortions
from ssl_iqa.distortions.compression import to_bytes, to_pil
from ssl_iqa.distortions.table import TYPES
from ssl_iqa.engine import run_folder
from ssl_iqa.engine.settings import whole
from ssl_iqa.scoring import pages
from ssl_iqa.scoring.pages import DARK, HEAD, MARGIN, put_cell

SMALLEST = 16  # pixels a side, what `distort` takes
WIDTH = 1900  # of a page: a screen's
CELL, LARGE_CELL = (112, 84), (360, 270)  # of all types, and of one: five side by side in a page
CELL_GAP, BLOCK_GAP = 6, 28  # between cells, and between columns of rows
NAME_SIZE, CAPTION_SIZE, CAPTION, ROW_GAP, NAME = 15, 13, 17, 10, 19  # a row: cell, caption, gap, the next one's name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photo", type=Path, metavar="PHOTO", help="a photograph, at best pristine")
    parser.add_argument("--type", help="one type's levels, large; without it all types")
    text = "kadis, distinct, imgaug, a file (kadis)"
    parser.add_argument("--distortions", metavar="SPEC", default="kadis", help=text)
    text = "reduce a photograph whose longer side is over it (768)"
    parser.add_argument("--side", type=whole(SMALLEST, 10_000), default=768, help=text)
    parser.add_argument("--seed", type=whole(0, 2**63 - 1), default=0, help="of the distortions (0)")


def run(args: argparse.Namespace) -> Image.Image:
    run_folder.refuse_input(args.out, [args.photo])
    known = load_distortions(args.distortions)
    distortions = [distortion for distortion in known if args.type in (None, distortion.name)]
    if not distortions:
        names = ", ".join(dict.fromkeys(distortion.name for distortion in known))
        raise ValueError(f"--type must be one of {names}, got {args.type!r}")
    image = to_float(reduced(read_image(args.photo), args.side))
    height, width = image.shape[1:]
    if min(height, width) < SMALLEST:
        raise ValueError(f"{args.photo} must have {SMALLEST} pixels a side or more, got {width} x {height}")
    what = args.type or f"{len(distortions)} classes of distortion"
    title = f"{what} ({Path(args.distortions).name}): {args.photo.name}, {width} x {height} pixels"
    return gallery(image, distortions, args.seed, title, LARGE_CELL if args.type else CELL)


def to_cell(image: Tensor, cell: tuple[int, int]) -> Image.Image:
    """The central width x height pixels of [3, H, W] in [0, 1], in 8 bits; all of a side that has not so many."""
    width, height = min(cell[0], image.shape[2]), min(cell[1], image.shape[1])
    top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
    return to_pil(to_bytes(image[:, top : top + height, left : left + width]))


def gallery(
    image: Tensor, distortions: Sequence[DistortionClass], seed: int, title: str, cell: tuple[int, int]
) -> Image.Image:
    """All these classes: a row of cells for each type, a cell's place in it its level, rows below one another.

    As many columns of rows as fit a screen's width. The photograph itself comes first, as it is; the other cells are
    stretched to the full range, as `distort` does. All have the same seed, so that two levels differ by their level
    only. Without a level's cell, as in `distinct`, its place stays empty.
    """
    names = ["pristine", *dict.fromkeys(distortion.name for distortion in distortions)]
    name_font, font = ImageFont.load_default(NAME_SIZE), ImageFont.load_default(CAPTION_SIZE)
    captions = [(str(level), TYPES[name].caption.format(value)) for name, level, value, *_ in distortions]
    pristine = to_cell(image, cell)
    step = max(pristine.width, *(ceil(font.getlength("  ".join(caption))) for caption in captions)) + CELL_GAP
    row_width = max(distortion.level for distortion in distortions) * step - CELL_GAP
    block = max(row_width, *(ceil(name_font.getlength(name)) for name in names)) + BLOCK_GAP
    row = pristine.height + CAPTION + ROW_GAP + NAME

    columns = max(1, (WIDTH - 2 * MARGIN + BLOCK_GAP) // block)
    lines = ceil(len(names) / columns)
    columns = ceil(len(names) / lines)
    size = f"{pristine.width} x {pristine.height} pixels"
    note = f"Below each cell: the level and its value. Cells are the middle {size}, none of them resized."
    page = pages.new_page(columns * block - BLOCK_GAP, lines * row - ROW_GAP, title, note)
    places = {name: (MARGIN + i // lines * block, HEAD + i % lines * row) for i, name in enumerate(names)}
    for name, (left, top) in places.items():
        ImageDraw.Draw(page).text((left, top - 6), name, DARK, name_font, anchor="ls")
    put_cell(page, *places["pristine"], pristine, "", "", CAPTION_SIZE)
    for distortion, caption in zip(distortions, captions, strict=True):
        left, top = places[distortion.name]
        left += (distortion.level - 1) * step
        distorted = to_cell(distort_as(image, distortion, torch.Generator().manual_seed(seed)), cell)
        put_cell(page, left, top, distorted, *caption, CAPTION_SIZE)
    return page
