"""Appendix A's Figure 5: a photograph in every type and level of distortion."""

from collections.abc import Sequence
from math import ceil
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import interpolate

from ssl_iqa.data.images import read_image
from ssl_iqa.data.views import to_float
from ssl_iqa.distortions import DistortionClass, distort_as
from ssl_iqa.distortions.compression import to_bytes, to_pil
from ssl_iqa.scoring.pages import DARK, HEAD, MARGIN, new_page, put_cell

SMALLEST = 16  # pixels a side, what `distort` takes
WIDTH = 1900  # of a page: a screen's
CELL, CELL_GAP, BLOCK_GAP = (112, 84), 6, 28  # of a gallery: its cells, the gaps between these and between columns
NAME_SIZE, CAPTION_SIZE, ROW_GAP, ROW = 15, 13, 10, 84 + 17 + 10 + 19  # a row: cell, caption, gap, the next one's name
LARGE_CELL, LARGE_GAP, LARGE_COLUMNS = (384, 288), 18, 3  # of one type's page
VALUES = {
    "gaussian_blur": "sigma {:g} px",
    "lens_blur": "radius {:g} px",
    "motion_blur": "length {:g} px",
    "color_diffusion": "a and b x {:g}",
    "color_shift": "by {:g} px",
    "color_quantization": "{:g} colors",
    "color_saturation_1": "S x {:g}",
    "color_saturation_2": "a and b x {:g}",
    "jpeg2000": "ratio {:g}",
    "jpeg": "quality {:g}",
    "white_noise": "variance {:g}",
    "white_noise_color_component": "variance {:g}",
    "impulse_noise": "density {:g}",
    "multiplicative_noise": "variance {:g}",
    "denoise": "variance {:g}",
    "brighten": "amount {:g}",
    "darken": "amount {:g}",
    "mean_shift": "by {:g}",
    "jitter": "sigma {:g} px",
    "non_eccentricity_patch": "{:g} patches",
    "pixelate": "amount {:g}",
    "quantization": "{:g} thresholds",
    "color_block": "{:g} blocks",
    "high_sharpen": "amount {:g}",
    "contrast_change": "amount {:g}",
}
"""How a level's value is written; what it stands for is in the docstring of the type's function."""


def read_photograph(path: Path, side: int) -> tuple[Tensor, str]:
    """A photograph as `distort` takes it, [3, H, W] in [0, 1], and a few words about its size.

    One whose longer side is over `side` is reduced to that first. The published levels are in pixels and were chosen
    for pictures of 512 x 384: on one of many megapixels most of them would hardly be seen.

    Raises OSError or ValueError for what is no picture and for one that is too small.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; a photograph is wanted")
    image = to_float(read_image(path))  # [3, H, W]
    height, width = image.shape[1:]
    size = f"{width} x {height} pixels"
    ratio = min(1, side / max(height, width))
    if ratio < 1:
        before, height, width = f"{width} x {height}", round(ratio * height), round(ratio * width)
        size = f"{width} x {height} pixels (reduced from {before})"
    if min(height, width) < SMALLEST:
        raise ValueError(f"{path}: {size}; {SMALLEST} or more a side are wanted")
    if ratio < 1:
        image = interpolate(image[None], (height, width), mode="bicubic", antialias=True)[0].clamp_(0, 1)
    return image, size


def distorted(image: Tensor, distortion: DistortionClass, seed: int) -> Tensor:
    """`image` by one class. All cells have the same seed, so that two levels differ by their level only."""
    return distort_as(image, distortion, torch.Generator().manual_seed(seed))


def to_cell(image: Tensor, cell: tuple[int, int]) -> Image.Image:
    """The central width x height pixels of [3, H, W] in [0, 1], in 8 bits; all of a side that has not so many."""
    width, height = (min(pair) for pair in zip(cell, (image.shape[2], image.shape[1]), strict=True))
    top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
    (pixels,) = to_bytes(image[None, :, top : top + height, left : left + width])
    return to_pil(pixels)


def crop_note(cell: Image.Image) -> str:
    return f"Cells are the middle {cell.width} x {cell.height} pixels, none of them resized."


def gallery(image: Tensor, distortions: Sequence[DistortionClass], seed: int, title: str) -> Image.Image:
    """All classes of a set: a row of cells for each type, a cell's place in it its level, rows below one another.

    As many columns of rows as fit a screen's width. The photograph itself comes first, as it is; the other cells are
    stretched to the full range, as `distort` does. Without a level's cell, as in `distinct`, its place stays empty.
    """
    names = ["pristine", *dict.fromkeys(one.name for one in distortions)]
    values = [VALUES[one.name].format(one.value) for one in distortions]
    name_font, font = ImageFont.load_default(NAME_SIZE), ImageFont.load_default(CAPTION_SIZE)
    captions = [f"{one.level}  {value}" for one, value in zip(distortions, values, strict=True)]
    step = max(CELL[0], *(ceil(font.getlength(caption)) for caption in captions)) + CELL_GAP
    row_width = max(one.level for one in distortions) * step - CELL_GAP
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
    for one, value in zip(distortions, values, strict=True):
        left, top = places[one.name]
        cell = to_cell(distorted(image, one, seed), CELL)
        put_cell(page, left + (one.level - 1) * step, top, cell, str(one.level), value, CAPTION_SIZE)
    return page


def type_page(image: Tensor, distortions: Sequence[DistortionClass], seed: int, title: str) -> Image.Image:
    """The photograph itself and all levels of one type, large."""
    cells = [("pristine", "", to_cell(image, LARGE_CELL))]
    for one in distortions:
        cell = to_cell(distorted(image, one, seed), LARGE_CELL)
        cells.append((f"level {one.level}", VALUES[one.name].format(one.value), cell))
    step, row = LARGE_CELL[0] + LARGE_GAP, LARGE_CELL[1] + 34
    columns, lines = min(len(cells), LARGE_COLUMNS), ceil(len(cells) / LARGE_COLUMNS)
    page = new_page(columns * step - LARGE_GAP, lines * row, title, crop_note(cells[0][2]))
    for i, (label, value, cell) in enumerate(cells):
        put_cell(page, MARGIN + i % columns * step, HEAD + i // columns * row, cell, label, value, 17)
    return page
