"""Types 4 to 8: color. Each takes pictures [B, 3, H, W], RGB in [0, 1], the level's value and a generator."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .colorspace import lab_to_rgb, rgb_to_gray, rgb_to_lab
from .compression import from_bytes, to_bytes
from .filters import convolve, gaussian, rand, stretch


def color_diffusion(image: Tensor, level: float, generator: torch.Generator | None) -> Tensor:
    """4, color bleeding: Lab's a and b blurred with a Gaussian of sigma 1.5*level + 2, then multiplied by `level`."""
    lab = rgb_to_lab(image)
    lab[:, 1:] = gaussian(lab[:, 1:], 1.5 * level + 2) * level
    return lab_to_rgb(lab).clamp(0, 1)


def color_shift(image: Tensor, level: float, generator: torch.Generator | None) -> Tensor:
    """5, misregistered channels: green moved by about `level` pixels right and down, shown where there are edges.

    The shift is round(level * unit vector), the vector's two parts uniform in 0..1 before it is normalized; border
    replicated. Edge mask: gradient magnitude (Sobel) of gray, blurred with sigma 4, stretched, clipped to 0.1..1, its
    lowest and highest 1 % clipped, stretched again. Green becomes mask * moved + (1 - mask) * green.
    """
    direction = rand((image.shape[0], 2), image, generator)
    shift = (level * direction / direction.norm(dim=1, keepdim=True).clamp_min(1e-12)).round().long()  # [B, 2]: y, x
    _, _, h, w = image.shape
    rows = (torch.arange(h, device=image.device) - shift[:, :1]).clamp_min(0)  # [B, H]: where each row comes from
    columns = (torch.arange(w, device=image.device) - shift[:, 1:]).clamp_min(0)  # [B, W]
    batch = torch.arange(image.shape[0], device=image.device)[:, None, None]
    green = image[:, 1]  # [B, H, W]
    moved = green[batch, rows[:, :, None], columns[:, None, :]]
    mask = edge_mask(image)[:, 0]
    out = image.clone()
    out[:, 1] = mask * moved + (1 - mask) * green
    return out


def edge_mask(image: Tensor) -> Tensor:
    """Where `color_shift` shows: [B, 3, H, W] -> [B, 1, H, W] in [0, 1], high at edges."""
    gray = rgb_to_gray(image)
    sobel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]).to(image)
    gradient = torch.hypot(convolve(gray, sobel), convolve(gray, sobel.T))
    mask = stretch(gaussian(gradient, 4.0)).clamp(0.1, 1)
    values = mask.flatten(1)  # [B, H*W]
    rank = max(1, round(0.01 * values.shape[1]))
    low = values.kthvalue(rank, dim=1).values
    high = values.kthvalue(values.shape[1] + 1 - rank, dim=1).values
    return stretch(mask.clamp(low[:, None, None, None], high[:, None, None, None]))


def color_quantization(image: Tensor, colors: int, generator: torch.Generator | None) -> Tensor:
    """6, a small palette: `colors` colors chosen from each picture by minimum variance, then Floyd-Steinberg dithering.

    As MATLAB's rgb2ind. Works on the 8-bit picture; the dithering is Pillow's.
    """
    quantized = []
    for picture in to_bytes(image):
        pixels = picture.permute(1, 2, 0).contiguous().numpy()  # [H, W, 3] uint8
        palette = minimum_variance_palette(pixels.reshape(-1, 3), colors)  # [n, 3] uint8
        # Pillow takes unused palette places for black: fill them with a color that is there
        filled = np.concatenate([palette, np.repeat(palette[:1], 256 - len(palette), axis=0)])
        holder = Image.new("P", (1, 1))
        holder.putpalette(filled.tobytes())
        indexed = Image.fromarray(pixels).quantize(palette=holder, dither=Image.Dither.FLOYDSTEINBERG)
        quantized.append(torch.from_numpy(filled[np.asarray(indexed)]).permute(2, 0, 1))
    return from_bytes(torch.stack(quantized), image)


def minimum_variance_palette(pixels: np.ndarray, colors: int) -> np.ndarray:
    """At most `colors` colors for 8-bit pixels [N, 3] -> [n, 3] uint8; fewer where the picture has fewer.

    Greedy bisection (Wan, Wong and Prusinkiewicz, ACM TOMS 14, 1988): the box with the largest squared error is cut
    across one axis where the error of the two halves is least; each color is the mean of its box. On a histogram of
    5 bits a channel with summed-area tables of its moments, so that a box costs a few look-ups (Wu, Graphics Gems II).
    """
    cells = (pixels >> 3).astype(np.int64)
    index = (cells[:, 0] << 10) | (cells[:, 1] << 5) | cells[:, 2]
    values = pixels.astype(np.float64)
    moments = (None, *values.T, (values**2).sum(axis=1))  # count; sums of R, G and B; sum of squares
    tables = np.zeros((33, 33, 33, 5))  # sums over all cells below
    tables[1:, 1:, 1:] = np.stack([np.bincount(index, m, 32**3) for m in moments], axis=-1).reshape(32, 32, 32, 5)
    for axis in range(3):
        np.cumsum(tables, axis=axis, out=tables)

    boxes = [((0, 32), (0, 32), (0, 32))]
    errors, cuts = [0.0], [best_cut(tables, boxes[0])]
    while len(boxes) < colors and any(cuts):
        worst = max((i for i, cut in enumerate(cuts) if cut), key=errors.__getitem__)
        box, (axis, position) = boxes.pop(worst), cuts.pop(worst)
        errors.pop(worst)
        for part in ((box[axis][0], position), (position, box[axis][1])):
            half = (*box[:axis], part, *box[axis + 1 :])
            boxes.append(half)
            errors.append(float(squared_error(box_moments(tables, half))))
            cuts.append(best_cut(tables, half))
    in_boxes = np.stack([box_moments(tables, box) for box in boxes])  # [n, 5]
    return (in_boxes[:, 1:4] / in_boxes[:, :1]).round().astype(np.uint8)


Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]  # first and last + 1 cell in R, G and B


def box_moments(tables: np.ndarray, box: Box) -> np.ndarray:
    """Count, sums of R, G and B, and sum of squares of the pixels in a box of cells: [5]."""
    return box_sums(tables[box[0][1]] - tables[box[0][0]], *box[1:])


def box_sums(t: np.ndarray, a: tuple[int, int], b: tuple[int, int]) -> np.ndarray:
    """Sums over a rectangle of a summed-area table whose last axes but one are its two: [..., A, B, 5] -> [..., 5]."""
    return t[..., a[1], b[1], :] - t[..., a[0], b[1], :] - t[..., a[1], b[0], :] + t[..., a[0], b[0], :]


def squared_error(moments: np.ndarray) -> np.ndarray:
    """Sum of squared distances to the mean color: [..., 5] -> [...]."""
    sums = moments[..., 1:4]
    return moments[..., 4] - np.einsum("...c,...c", sums, sums) / np.maximum(moments[..., 0], 1)


def best_cut(tables: np.ndarray, box: Box) -> tuple[int, int] | None:
    """(axis, position) of the cut that leaves the least squared error; None for a box that no cut divides."""
    best, least = None, np.inf
    for axis, (low, high) in enumerate(box):
        if high - low < 2:
            continue
        along_axis = tables.transpose((axis, *(other for other in range(3) if other != axis), 3))[low : high + 1]
        running = box_sums(along_axis, *box[:axis], *box[axis + 1 :])  # [n + 1, 5]
        below, above = running[1:-1] - running[0], running[-1] - running[1:-1]  # [n - 1, 5]
        divides = (below[:, 0] > 0) & (above[:, 0] > 0)
        error = np.where(divides, squared_error(below) + squared_error(above), np.inf)
        position = int(error.argmin())
        if error[position] < least:
            best, least = (axis, low + 1 + position), error[position]
    return best


def color_saturation_1(image: Tensor, level: float, generator: torch.Generator | None) -> Tensor:
    """7, pale colors: HSV's S times `level`; a negative level turns hues to their opposite.

    In HSV a channel is V * (1 - S * w), w given by the hue, and V is the largest channel; so S * level moves each
    channel's distance to the largest one by that factor. Not truncated: the stretch brings values over 1 back.
    """
    value = image.amax(dim=1, keepdim=True)  # [B, 1, H, W]
    return value + level * (image - value)


def color_saturation_2(image: Tensor, level: float, generator: torch.Generator | None) -> Tensor:
    """8, strong colors: Lab's a and b times `level` (level 1 leaves the picture as it is)."""
    lab = rgb_to_lab(image)
    lab[:, 1:] *= level
    return lab_to_rgb(lab).clamp(0, 1)
