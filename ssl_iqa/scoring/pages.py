"""Pages of images in cells with words below, drawn with Pillow: what the gallery and the ranking share."""

from math import ceil
from typing import IO

from PIL import Image, ImageDraw, ImageFont

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
QUALITY = 70  # of JPEG and WebP, 1 to 100
MARGIN, HEAD = 24, 104  # the white around a page, and where its cells begin
DARK, GRAY, OUTLINE = "#1a1a1a", "#6b6b6b", "#d0d0d0"


def put_cell(page: Image.Image, left: int, top: int, image: Image.Image, label: str, value: str, size: int) -> None:
    """An image with its upper left pixel there, a thin line around it, and below a dark label and a gray value."""
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=size)
    draw.rectangle((left - 1, top - 1, left + image.width, top + image.height), outline=OUTLINE)
    page.paste(image, (left, top))
    baseline = top + image.height + round(1.15 * size)
    draw.text((left, baseline), label, DARK, font, anchor="ls")
    draw.text((left + font.getlength(label + "  "), baseline), value, GRAY, font, anchor="ls")


def new_page(width: int, height: int, title: str, note: str) -> Image.Image:
    """A white page with a title and a gray note, and from HEAD on room for `width` x `height` pixels."""
    lines = ((title, DARK, ImageFont.load_default(22), 20), (note, GRAY, ImageFont.load_default(15), 46))
    width = max(width, *(ceil(font.getlength(text)) for text, _, font, _ in lines))
    page = Image.new("RGB", (width + 2 * MARGIN, HEAD + height + MARGIN), "white")
    for text, color, font, baseline in lines:
        ImageDraw.Draw(page).text((MARGIN, MARGIN + baseline), text, color, font, anchor="ls")
    return page


def save(page: Image.Image, suffix: str, file: IO[bytes]) -> None:
    """Writes a page in the format of FORMATS."""
    page.save(file, FORMATS[suffix], quality=QUALITY, method=6)  # of WebP: the smallest file
