"""Section 3.1's two views of a distorted image, and crops of labeled images.

All randomness comes from a seed that the sampler hands out with the sample: any number of workers makes the same views.
"""

import torch
from torch import Tensor

LEAST = 32  # pixels a side of a whole image that passes the encoder
PLACES = {  # of test crops: how far down and across, in halves of the room that a crop leaves
    "five": ((1, 1), (0, 0), (0, 2), (2, 0), (2, 2)),
    "center": ((1, 1),),
}


def view_places(height: int, width: int, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """V of Section 3.1: the rows [size] and columns [size] of an image that a random view takes.

    A random size x size crop, flipped left-right and upside down with probability 1/2 each. Nothing is resized, since
    that would change the quality. An image smaller than the crop is continued by reflection.
    """
    rows, columns = reflected(height, size), reflected(width, size)
    top, left = (int(torch.randint(len(side) - size + 1, (), generator=generator)) for side in (rows, columns))
    upside_down, mirrored = (torch.rand(2, generator=generator) < 0.5).tolist()
    rows, columns = rows[top : top + size], columns[left : left + size]
    return rows.flip(0) if upside_down else rows, columns.flip(0) if mirrored else columns


def random_view(image: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """One random view, see `view_places`: [C, H, W] -> [C, size, size]."""
    rows, columns = view_places(*image.shape[1:], size, generator)
    return image.index_select(1, rows).index_select(2, columns)


def test_crops(image: Tensor, mode: str, size: int) -> Tensor:
    """The test crops; a score is their mean: [C, H, W] -> [crops, C, h, w].

    `five`: size x size, the corners and the center; `center`; or `full`, the whole image.
    """
    if mode == "full":
        return pad_to(image, LEAST)[None]
    image = pad_to(image, size)
    bottom, right = (side - size for side in image.shape[-2:])
    places = [(bottom * down // 2, right * across // 2) for down, across in PLACES[mode]]
    return torch.stack([image[:, top : top + size, left : left + size] for top, left in places])


def pad_to(image: Tensor, size: int) -> Tensor:
    """Reflects an image at its right and lower border up to at least `size` a side: [C, H, W] -> [C, H', W']."""
    for dim in (1, 2):
        if image.shape[dim] < size:  # an image that is large enough is not copied
            image = image.index_select(dim, reflected(image.shape[dim], size))
    return image


def reflected(side: int, size: int) -> Tensor:
    """Places 0 .. side - 1 along a side, and on to at least `size`, back and forth: 0 1 2 3 2 1 0 1 .. for 4."""
    return turned_back(torch.arange(max(side, size)), side)


def turned_back(places: Tensor, side: int) -> Tensor:
    """Places along a side, those beyond its end reflected; in tensors, since `export` traces it for any side."""
    last = torch.scalar_tensor(side - 1, dtype=torch.int64)
    there_and_back = places % (2 * last).clamp_min(1)
    return torch.minimum(there_and_back, 2 * last - there_and_back)


def area_means(images: Tensor, long_side: int) -> Tensor:
    """`images.reduced` without its rounding, and differentiable: floating point [.., H, W] -> [.., h, w]."""
    if not long_side or max(images.shape[-2:]) <= long_side:
        return images
    rows, columns = (area_weights(side, side * long_side / max(images.shape[-2:])) for side in images.shape[-2:])
    return rows.to(images) @ images @ columns.to(images).T


def area_weights(side: int, new_side: float) -> Tensor:
    """What each pixel of a side adds to each of a smaller side's, whose areas are equal: float64 [n, side]."""
    n = max(1, round(new_side))
    ends, pixels = torch.arange(n + 1, dtype=torch.float64) * side / n, torch.arange(side)
    shared = torch.minimum(ends[1:, None], pixels + 1) - torch.maximum(ends[:-1, None], pixels)
    return shared.clamp_min(0) * n / side


def to_float(image: Tensor) -> Tensor:
    """Bytes [.., 3, H, W] as the encoder takes them: float32, RGB in [0, 1]. Floating point is that already."""
    return image if image.is_floating_point() else image.float() / 255


def to_bytes(image: Tensor) -> Tensor:
    """An image in [0, 1] as a file holds it, uint8.

    Training images are rounded so before they are cropped: a network can read an image's smoothness below one level,
    which no file that it will ever score has.
    """
    return (image * 255).round().to(torch.uint8)
