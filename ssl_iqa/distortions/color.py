"""Types 4 to 8: color. Each takes images [B, 3, H, W], RGB in [0, 1], the level's value and a generator."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .colorspace import lab_to_rgb, rgb_to_gray, rgb_to_lab
from .compression import from_bytes, from_pil, to_bytes, to_pil
from .filters import Draws, gaussian, rand, stretch


def color_diffusion(image: Tensor, level: float, generator: Draws) -> Tensor:
    """4, color bleeding: Lab's a and b blurred with a Gaussian of sigma 1.5*level + 2, then multiplied by `level`.

    Replicate border; truncated; nothing is drawn. `level` is a factor, sigma is in pixels. Source: KADIS-700k.
    """
    lab = rgb_to_lab(image)
    lab[:, 1:] = gaussian(lab[:, 1:], 1.5 * level + 2).mul_(level)
    return lab_to_rgb(lab).clamp_(0, 1)


def color_shift(image: Tensor, level: float, generator: Draws) -> Tensor:
    """5, misregistered channels: green moved by about `level` pixels right and down, shown where there are edges.

    The shift is round(level * unit vector), the vector's two parts uniform in 0..1 before it is normalized; border
    replicated. Green becomes mask * moved + (1 - mask) * green, with `edge_mask`. Source: KADIS-700k.
    """
    direction = rand((image.shape[0], 2), image, generator)
    shift = (level * direction / direction.norm(dim=1, keepdim=True).clamp_min(1e-12)).round().long()  # [B, 2]: y, x
    b, _, h, w = image.shape
    rows = (torch.arange(h, device=image.device) - shift[:, :1]).clamp_min_(0)  # [B, H]: where each row comes from
    columns = (torch.arange(w, device=image.device) - shift[:, 1:]).clamp_min_(0)  # [B, W]
    places = rows[:, :, None].mul(w).add(columns[:, None, :])  # [B, H, W]
    moved = image[:, 1].flatten(1).gather(1, places.flatten(1)).view(b, h, w)
    out = image.clone()
    out[:, 1] = torch.lerp(image[:, 1], moved, edge_mask(image)[:, 0])
    return out


def edge_mask(image: Tensor) -> Tensor:
    """Where `color_shift` shows: [B, 3, H, W] -> [B, 1, H, W] in [0, 1], high at edges.

    Gradient magnitude of gray (MATLAB's `gradient`: central differences, one-sided at the border), blurred with sigma
    4, stretched, clipped to 0.1..1, its lowest and highest 1 % clipped, stretched again.
    """
    gradient = torch.hypot(*torch.gradient(rgb_to_gray(image), dim=(2, 3)))
    mask = stretch(gaussian(gradient, 4.0)).clamp_(0.1, 1)
    values = mask.flatten(1)  # [B, H*W]
    rank = max(1, round(0.01 * values.shape[1]))
    low = values.topk(rank, largest=False, sorted=False).values.amax(dim=1)[:, None, None, None]
    high = values.topk(rank, sorted=False).values.amin(dim=1)[:, None, None, None]
    return stretch(mask.clamp_(low, high))


def color_quantization(image: Tensor, colors: int, generator: Draws) -> Tensor:
    """6, a small palette: `colors` colors chosen from each image by minimum variance, then Floyd-Steinberg dithering.

    As MATLAB's rgb2ind, which KADIS-700k uses. Works on the 8-bit image; the dithering is Pillow's. No draws.
    """
    quantized = []
    for pixels in to_bytes(image):
        palette = minimum_variance_palette(pixels.flatten(1).numpy(), colors)  # [n, 3] uint8
        holder = Image.new("P", (1, 1))
        holder.putpalette(palette.tobytes())
        indexed = to_pil(pixels).quantize(palette=holder, dither=Image.Dither.FLOYDSTEINBERG)
        quantized.append(from_pil(indexed.convert("RGB")))
    return from_bytes(torch.stack(quantized), image)


def minimum_variance_palette(planes: np.ndarray, colors: int) -> np.ndarray:
    """At most `colors` colors for 8-bit R, G and B [3, N] -> [n, 3] uint8; fewer where the image has fewer.

    Greedy bisection (Wan, Wong and Prusinkiewicz, ACM TOMS 14, 1988): the box with the largest squared error is cut
    across one axis where the error of the two halves is least; each color is the mean of its box. On a histogram of
    5 bits a channel.
    """
    r, g, b = (planes >> 3).astype(np.int64)
    index = (r << 10) | (g << 5) | b
    values = planes.astype(np.float64)
    moments = (None, *values, np.einsum("cn,cn->n", values, values))  # count; sums of R, G and B; sum of squares
    cells = np.stack([np.bincount(index, moment, 32**3) for moment in moments]).reshape(5, 32, 32, 32)

    boxes, cuts = [cells], [best_cut(cells)]
    while len(boxes) < colors and any(cuts):
        worst = max((i for i, cut in enumerate(cuts) if cut), key=lambda i: cuts[i][0])
        _, axis, place = cuts.pop(worst)
        halves = np.split(boxes.pop(worst), [place], axis)
        boxes += halves
        cuts += [best_cut(half) for half in halves]
    sums = np.stack([box.sum(axis=(1, 2, 3)) for box in boxes])  # [n, 5]
    return (sums[:, 1:4] / sums[:, :1]).round().astype(np.uint8)


def best_cut(box: np.ndarray) -> tuple[float, int, int] | None:
    """A box's squared error; the axis and place of the cut that leaves the least of it. None where no cut divides it.

    `box` has the moments of its cells, [5, r, g, b]: whole numbers, whose sums are exact in any order.
    """
    best, least = None, np.inf
    for axis, channel in enumerate("rgb", start=1):
        below = np.einsum(f"crgb->c{channel}", box).cumsum(axis=1)  # [5, n], up to each cell
        halves = np.stack([below[:, :-1], below[:, -1:] - below[:, :-1]], axis=1)  # [5, 2, n - 1 cuts]
        error = squared_error(halves).sum(axis=0)
        error[(halves[0] == 0).any(axis=0)] = np.inf  # one half has no pixel
        if error.min(initial=np.inf) < least:
            least = error.min()
            best = squared_error(below[:, -1]).item(), axis, int(error.argmin()) + 1
    return best


def squared_error(moments: np.ndarray) -> np.ndarray:
    """Sum of squared distances to the mean color: [5, ...] -> [...]."""
    count, r, g, b, squares = moments
    return squares - (r * r + g * g + b * b) / np.maximum(count, 1)


def color_saturation_1(image: Tensor, level: float, generator: Draws) -> Tensor:
    """7, pale colors: HSV's S times `level`, a factor; a negative one turns hues to their opposite. No draws.

    In HSV a channel is V * (1 - S * w), w given by the hue, and V is the largest channel; so S * level moves each
    channel's distance to the largest one by that factor. Not truncated: the stretch brings values over 1 back. Source:
    KADIS-700k.
    """
    value = image.amax(dim=1, keepdim=True)  # [B, 1, H, W]
    return (image - value).mul_(level).add_(value)


def color_saturation_2(image: Tensor, level: float, generator: Draws) -> Tensor:
    """8, strong colors: Lab's a and b times `level`, a factor; truncated. No draws. Source: KADIS-700k.

    Level 1 (factor 1) leaves the image as it is.
    """
    lab = rgb_to_lab(image)
    lab[:, 1:] *= level
    return lab_to_rgb(lab).clamp_(0, 1)
