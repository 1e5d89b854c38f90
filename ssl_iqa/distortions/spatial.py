"""Types 19 to 23: space. Each takes images [B, 3, H, W], RGB in [0, 1], the level's value and a generator."""

from math import ceil

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .filters import Draws, rand, randint, randn


def jitter(image: Tensor, level: float, generator: Draws) -> Tensor:
    """19, pixels shaken: five times over, each pixel is fetched from N(0, level) pixels away in x and in y.

    `level` is a standard deviation in pixels; two draws for each pixel and time. Bicubic, replicate border. Not
    truncated: interpolation overshoots, -0.15 to 1.14, and the stretch turns that into 5 to 25 % less contrast. Source:
    KADIS-700k; as MATLAB's interp2, but for its outermost pixels at levels 1 to 3: KADIS continues the image by one
    pixel and interp2 by a parabola from there.
    """
    b, _, h, w = image.shape
    still = torch.stack(torch.meshgrid(torch.arange(h).to(image), torch.arange(w).to(image), indexing="ij"))
    for _ in range(5):
        y, x = randn((b, 2, h, w), image, generator).mul_(level).add_(still).unbind(1)
        image = sample(image, y, x)
    return image


def sample(image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Bicubic values of images [B, C, H, W] at places y, x [B, H, W] in pixels: [B, C, H, W]; replicate border.

    Cubic convolution with a = -1/2 (Keys 1981), as MATLAB's interp2. PyTorch's bicubic has a = -3/4, under which a move
    by a small part of a pixel has 1.5 times its effect.

    In a table whose rows hold four pixels side by side, a place needs four rows one below the other, and then a mean of
    four: `F.embedding_bag` does both, many times faster than indexing.
    """
    b, c, h, w = image.shape
    (top, weights_y), (left, weights_x) = cubic_taps(y, h), cubic_taps(x, w)
    pixels = F.pad(image, (3, 3, 3, 3), mode="replicate").permute(0, 2, 3, 1).contiguous()  # [B, H + 6, W + 6, C]
    table = pixels.unfold(2, 4, 1).transpose(3, 4).reshape(-1, 4 * c)  # [B * (H + 6) * (W + 3), 4*C]
    first = torch.arange(b, device=top.device, dtype=top.dtype)[:, None, None] * (h + 6)
    first = (first + top).mul_(w + 3).add_(left)  # [B, H, W]
    index = first.new_empty(first.numel(), 4)  # [B*H*W, 4], filled column by column as in cubic_taps
    for i in range(4):
        torch.add(first.view(-1), i * (w + 3), out=index[:, i])
    columns = F.embedding_bag(index, table, mode="sum", per_sample_weights=weights_y)  # [B*H*W, 4*C]
    each = torch.arange(index.numel(), device=top.device, dtype=top.dtype).view(-1, 4)
    out = F.embedding_bag(each, columns.view(-1, c), mode="sum", per_sample_weights=weights_x)  # [B*H*W, C]
    return out.view(b, h, w, c).permute(0, 3, 1, 2).contiguous()


def cubic_taps(place: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The four pixels nearest to each place [B, H, W] along an axis of `size` pixels, continued by three at both ends.

    Returns the first one's place in the continued axis, int32 [B, H, W] in 0 .. size + 2, and the weights [B*H*W, 4].
    """
    floor = place.floor()
    t = (place - floor).view(-1)
    weights = t.new_empty(len(t), 4)  # filled column by column: five times faster than torch.stack
    weights[:, 0] = (-0.5 * t).add_(1).mul_(t).sub_(0.5).mul_(t)
    weights[:, 1] = (1.5 * t).sub_(2.5).mul_(t).mul_(t).add_(1)
    weights[:, 2] = (-1.5 * t).add_(2).mul_(t).add_(0.5).mul_(t)
    weights[:, 3] = (0.5 * t).sub_(0.5).mul_(t).mul_(t)
    return floor.int().add_(2).clamp_(0, size + 2), weights


def non_eccentricity_patch(image: Tensor, patches: int, generator: Draws) -> Tensor:
    """20, small parts out of place: `patches` 16x16 patches copied up to 8 pixels away, one after another.

    Along a side, counted from 1, a patch starts at round(u * (side - 48)) + 16 and is copied to round(16 * (v - 0.5) +
    start), u and v uniform in [0, 1): no patch starts within 15 pixels of the border or ends within 16 of the far one,
    and moves of -8 and 8 are half as likely as the others. Source: KADIS-700k.

    The rule bends for an image with a side under 64, where it would leave all patches in much the same place: there a
    patch is a quarter as long as that side, and all of the rule's 16s shrink with it.
    """
    b, c, h, w = image.shape
    size = min(16, h // 4, w // 4)
    room = torch.tensor([h, w]).to(image) - 3 * size
    start, move = rand((b, 2, patches, 2), image, generator).unbind(1)  # [B, patches, 2]: y, x
    # + 0.5 and floor, since MATLAB rounds halves up and torch to even ones; counted from 0
    start = (start * room + 0.5).floor_().add_(size - 1)
    end = (move * size).add_(start).sub_((size - 1) / 2).floor_()
    source = np.tile(np.arange(h * w).reshape(h, w), (b, 1, 1))  # which pixel each pixel shows
    for i, moves in enumerate(torch.cat((start, end), dim=2).int().tolist()):
        for top, left, y, x in moves:
            patch = source[i, top : top + size, left : left + size].copy()  # the two may overlap
            source[i, y : y + size, x : x + size] = patch
    index = torch.from_numpy(source).to(image.device).view(b, 1, h * w).expand(b, c, h * w)
    return image.flatten(2).gather(2, index).view_as(image)


def pixelate(image: Tensor, level: float, generator: Draws) -> Tensor:
    """21, large pixels: nearest resize by z = 0.95 - level^0.6, and back; no draws.

    Source: KADIS-700k; as MATLAB's imresize by a scale, which takes z for the ratio of the sides, though the small one
    is ceil(z * side); the way back is to a size, by the ratio of the sides itself.
    """
    z = 0.95 - level**0.6
    shown = []  # rows, columns
    for side in image.shape[2:]:
        small = ceil(z * side)
        places = nearest(side, small, z)[nearest(small, side, side / small)]
        shown.append(torch.from_numpy(places).to(image.device))
    rows = image.index_select(2, shown[0])
    return rows.gather(3, shown[1].expand_as(rows))  # along the last axis five times faster than index_select


def nearest(side: int, new_side: int, scale: float) -> np.ndarray:
    """The pixel of a side, from 0, that each pixel of the resized one shows, as MATLAB's imresize: int64 [new_side]."""
    place = np.arange(1, new_side + 1) / scale + 0.5 * (1 - 1 / scale)  # its middle, counted from 1
    return np.floor(place + 0.5).clip(1, side).astype(np.int64) - 1


def quantization(image: Tensor, thresholds: int, generator: Draws) -> Tensor:
    """22, few intensities: `thresholds` multi-level Otsu thresholds t1..tn over all samples of each image.

    Up to t1 -> 0, over tk and up to tk+1 -> tk+1, over tn -> 1; no draws. Thresholds are found on a histogram of 256
    bins. Source: KADIS-700k; as MATLAB's multithresh and imquantize.
    """
    levels = image * 255
    # the smallest whole number that is not under the sample, within rounding: a threshold itself counts as below
    bins = (levels - 1e-3).ceil_().int()
    out = torch.empty_like(image)
    for i, pixels in enumerate(levels.round_().to(torch.uint8)):
        t = otsu_thresholds(torch.bincount(pixels.flatten(), minlength=256).cpu().numpy(), thresholds)
        values = np.concatenate(([0], t[1:], [255]))[np.searchsorted(t, np.arange(256))] / 255  # of each bin
        out[i] = torch.from_numpy(values).to(image).index_select(0, bins[i].flatten()).view_as(out[i])
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
    # gain[j, i]: what a class of the bins i..j-1 adds to the variance between classes
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = (total[:, None] - total) ** 2 / (count[:, None] - count)
    gain[np.triu_indices(len(gain))] = -np.inf
    best, cuts = gain[:, 0], []  # best[j]: the first j bins in one class
    every = np.arange(len(gain))
    for _ in range(thresholds):
        candidates = gain + best  # [j, last cut]
        cuts.append(candidates.argmax(axis=1))
        best = candidates[every, cuts[-1]]
    j, last_bins = len(bins), []
    for cut in reversed(cuts):
        j = cut[j]
        last_bins.append(bins[j - 1])
    return np.array(last_bins[::-1])


def color_block(image: Tensor, blocks: int, generator: Draws) -> Tensor:
    """23, lost blocks: that many 32x32 squares, anywhere inside the image, each of one random color.

    Places are uniform, and so is each color, in RGB. In an image with a side under 64 a square is half as long as that
    side, so that something stays to be seen. Source: KADIS-700k.
    """
    b, c, h, w = image.shape
    size = min(32, h // 2, w // 2)
    tops, lefts = (randint(side - size + 1, (b, blocks), generator) for side in (h, w))
    colors = rand((b, blocks, c, 1, 1), image, generator)
    out = image.clone()
    for i in range(b):
        for color, top, left in zip(colors[i], tops[i], lefts[i], strict=True):
            out[i, :, top : top + size, left : left + size] = color
    return out
