"""Types 19 to 23: space. Each takes pictures [B, 3, H, W], RGB in [0, 1], the level's value and a generator."""

from math import ceil

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .filters import rand, randint, randn


def jitter(image: Tensor, level: float, generator: torch.Generator | None) -> Tensor:
    """19, pixels shaken: five times over, each pixel is fetched from N(0, level) pixels away in x and in y.

    Bicubic, replicate border.
    """
    b, _, h, w = image.shape
    still = torch.stack(torch.meshgrid(torch.arange(h).to(image), torch.arange(w).to(image), indexing="ij"))
    for _ in range(5):
        places = still + level * randn((b, 2, h, w), image, generator)
        image = torch.stack([sample(picture, y, x) for picture, (y, x) in zip(image, places, strict=True)])
    return image.clamp(0, 1)


def sample(picture: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Bicubic values of a picture [C, H, W] at places y, x [H, W] in pixels: [C, H, W].

    Cubic convolution with a = -1/2 (Keys 1981), as MATLAB's interp2. PyTorch's bicubic has a = -3/4, under which a move
    by a small part of a pixel has 1.5 times its effect.
    """
    c, h, w = picture.shape
    pixels = picture.flatten(1)  # [C, H*W]
    (rows, weights_y), (columns, weights_x) = cubic_taps(y, h), cubic_taps(x, w)
    out = torch.zeros_like(pixels)
    for row, weight_y in zip(rows, weights_y, strict=True):
        for column, weight_x in zip(columns, weights_x, strict=True):
            out.addcmul_(pixels.index_select(1, (row * w + column).flatten()), (weight_y * weight_x).flatten())
    return out.view(c, h, w)


def cubic_taps(place: Tensor, size: int) -> tuple[list[Tensor], list[Tensor]]:
    """The four pixels nearest to each place along an axis of `size` pixels, and their weights."""
    first = place.floor()
    t = place - first
    weights = [
        ((-0.5 * t + 1) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1,
        ((-1.5 * t + 2) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    ]
    return [(first.long() + i).clamp(0, size - 1) for i in (-1, 0, 1, 2)], weights


def non_eccentricity_patch(image: Tensor, patches: int, generator: torch.Generator | None) -> Tensor:
    """20, small parts out of place: `patches` 16x16 patches copied up to 8 pixels away, one after another.

    In a picture with a side under 32 a patch is half as long as that side, and its move at most half of the patch.
    """
    b, _, h, w = image.shape
    size = min(16, h // 2, w // 2)
    reach = size // 2
    out = image.clone()
    starts = [randint(side - size + 1, (b, patches), generator).tolist() for side in (h, w)]
    moves = [randint(2 * reach + 1, (b, patches), generator).tolist() for _ in (h, w)]
    for i in range(b):
        for top, left, down, right in zip(starts[0][i], starts[1][i], moves[0][i], moves[1][i], strict=True):
            new_top = min(max(top + down - reach, 0), h - size)
            new_left = min(max(left + right - reach, 0), w - size)
            patch = out[i, :, top : top + size, left : left + size].clone()  # the two may overlap
            out[i, :, new_top : new_top + size, new_left : new_left + size] = patch
    return out


def pixelate(image: Tensor, level: float, generator: torch.Generator | None) -> Tensor:
    """21, large pixels: nearest resize by z = 0.95 - level^0.6, and back."""
    z = 0.95 - level**0.6
    h, w = image.shape[2:]
    small = F.interpolate(image, size=(ceil(z * h), ceil(z * w)), mode="nearest-exact")
    return F.interpolate(small, size=(h, w), mode="nearest-exact")


def quantization(image: Tensor, thresholds: int, generator: torch.Generator | None) -> Tensor:
    """22, few intensities: `thresholds` multi-level Otsu thresholds t1..tn over all samples of each picture.

    Below t1 -> 0, between tk and tk+1 -> tk+1, above tn -> 1 (MATLAB's multithresh and imquantize).
    """
    out = torch.empty_like(image)
    for i, picture in enumerate(image.contiguous()):
        histogram = torch.bincount((picture * 255).round().long().flatten(), minlength=256)
        t = torch.from_numpy(otsu_thresholds(histogram.cpu().numpy(), thresholds)).to(image) / 255  # [n]
        values = torch.cat((t.new_zeros(1), t[1:], t.new_ones(1)))  # [n + 1]
        out[i] = values[torch.bucketize(picture, t)]  # t1 itself counts as below, as in imquantize
    return out


def otsu_thresholds(histogram: np.ndarray, thresholds: int) -> np.ndarray:
    """Exact multi-level Otsu: the cuts of a 256-bin histogram that leave the least variance inside the classes.

    Returns the last bin of each class but the topmost, rising: int64 [thresholds]. Dynamic programming over bins that
    are filled; with no more of them than classes, each is a class of its own.
    """
    bins = np.flatnonzero(histogram)
    if len(bins) <= thresholds + 1:
        spare = np.setdiff1d(np.arange(255), bins[:-1])[: thresholds - len(bins[:-1])]
        return np.sort(np.concatenate([bins[:-1], spare]))
    counts = histogram[bins].astype(np.float64)
    count = np.concatenate([[0], counts.cumsum()])
    total = np.concatenate([[0], (counts * bins).cumsum()])
    # gain[i, j]: what a class of the bins i..j-1 adds to the variance between classes
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = (total[None, :] - total[:, None]) ** 2 / (count[None, :] - count[:, None])
    gain[np.tril_indices(len(gain))] = -np.inf
    best, cuts = gain[0], []  # best[j]: the first j bins in one class
    for _ in range(thresholds):
        candidates = best[:, None] + gain  # [last cut, j]
        cuts.append(candidates.argmax(axis=0))
        best = candidates.max(axis=0)
    j, found = len(bins), []
    for cut in reversed(cuts):
        j = cut[j]
        found.append(bins[j - 1])
    return np.array(found[::-1])


def color_block(image: Tensor, blocks: int, generator: torch.Generator | None) -> Tensor:
    """23, lost blocks: that many 32x32 squares, anywhere inside the picture, each of one random color.

    In a picture with a side under 64 a square is half as long as that side, so that something stays to be seen.
    """
    b, c, h, w = image.shape
    size = min(32, h // 2, w // 2)
    tops = randint(h - size + 1, (b, blocks), generator).tolist()
    lefts = randint(w - size + 1, (b, blocks), generator).tolist()
    colors = rand((b, blocks, c, 1, 1), image, generator)
    out = image.clone()
    for i in range(b):
        for k in range(blocks):
            top, left = tops[i][k], lefts[i][k]
            out[i, :, top : top + size, left : left + size] = colors[i, k]
    return out
