"""The distortions against SciPy, scikit-image and Pillow, and against formulas written out here in float64."""

from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from io import BytesIO
from itertools import combinations
from math import ceil, cos, pi, sin

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage, stats
from scipy.fft import dctn, idctn
from scipy.interpolate import make_interp_spline
from torch import Tensor

from ssl_iqa.data.demo import DEMO_FOLDER
from ssl_iqa.distortions import DISTORTIONS, distort
from ssl_iqa.distortions.blur import disk_kernel
from ssl_iqa.distortions.color import edge_mask, minimum_variance_palette
from ssl_iqa.distortions.colorspace import lab_to_rgb, rgb_to_lab, rgb_to_ycbcr, ycbcr_to_rgb
from ssl_iqa.distortions.spatial import otsu_thresholds, sample

color = pytest.importorskip("skimage.color")
colorconv = pytest.importorskip("skimage.color.colorconv")
filters = pytest.importorskip("skimage.filters")
transform = pytest.importorskip("skimage.transform")

PHOTOGRAPHS = ("chelsea", "coffee", "colorfulcups_1")
EACH_LEVEL = range(1, 6)
each_photograph = pytest.mark.parametrize("name", PHOTOGRAPHS)
each_level = pytest.mark.parametrize("level", EACH_LEVEL)


def photograph(name: str, height: int = 121, width: int = 135) -> np.ndarray:
    """The middle of a demo photograph: uint8 [height, width, 3]."""
    pixels = np.array(Image.open(DEMO_FOLDER / f"{name}.jpg"))
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width].copy()


def tensor(pixels: np.ndarray) -> Tensor:
    """uint8 or [0, 1] [H, W, 3] -> float64 [3, H, W]."""
    return torch.from_numpy(pixels / 255 if pixels.dtype == np.uint8 else pixels).permute(2, 0, 1).contiguous()


def array(image: Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).numpy()


def distorted(pixels: np.ndarray, name: str, level: int) -> np.ndarray:
    """[H, W, 3] in float64, without the stretch."""
    return array(distort(tensor(pixels), name, level, stretch=False))


def assert_close(out: np.ndarray, expected: np.ndarray, atol: float) -> None:
    np.testing.assert_allclose(out, expected, rtol=0, atol=atol)


# Every type that draws nothing, on photographs. Pixels are float64 [H, W, 3] in [0, 1].


def gaussian(pixels: np.ndarray, sigma: float) -> np.ndarray:
    """SciPy's Gaussian, 2*ceil(2*sigma)+1 wide, of every channel; replicate border."""
    return ndimage.gaussian_filter(pixels, (sigma, sigma, 0), mode="nearest", truncate=ceil(2 * sigma) / sigma)


def disk(radius: float) -> np.ndarray:
    """Each pixel's area inside a disk, sum 1, in closed form: no numeric integration."""

    def quarter(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Signed area that the disk shares with the rectangle from the middle to (x, y)."""

        def under_rim(t: np.ndarray) -> np.ndarray:  # the integral of sqrt(r^2 - t^2)
            return (t * np.sqrt(radius**2 - t**2) + radius**2 * np.arcsin(t / radius)) / 2

        a, b = np.minimum(np.abs(x), radius), np.minimum(np.abs(y), radius)
        meet = np.minimum(a, np.sqrt(radius**2 - b**2))  # where the rim comes down to b
        return np.sign(x) * np.sign(y) * (meet * b + under_rim(a) - under_rim(meet))

    edges = np.arange(ceil(radius - 0.5) + 1) + 0.5
    edges = np.concatenate([-edges[::-1], edges])
    area = np.diff(np.diff(quarter(edges[:, None], edges[None, :]), axis=0), axis=1)
    return area / area.sum()


def lab_to_rgb_unclipped(lab: np.ndarray) -> np.ndarray:
    """CIE Lab (D65) -> sRGB by the formulas of CIE 15 and IEC 61966-2-1, with scikit-image's constants."""
    y = (lab[..., 0] + 16) / 116
    f = np.stack((y + lab[..., 1] / 500, y, y - lab[..., 2] / 200), axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * color.xyz_tristimulus_values(
        illuminant="D65", observer="2"
    )
    linear = xyz @ np.linalg.inv(colorconv.xyz_from_rgb).T
    with np.errstate(invalid="ignore"):
        return np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)


def spline(values: np.ndarray, x: tuple[float, ...], y: tuple[float, ...]) -> np.ndarray:
    """SciPy's interpolating spline, its ends not-a-knot, clipped to [0, 1]."""
    return make_interp_spline(x, y, k=min(3, len(x) - 1))(values).clip(0, 1)


def eight_bits(pixels: np.ndarray) -> np.ndarray:
    return (255 * pixels).round().astype(np.uint8)


def by_pillow(pixels: np.ndarray, **options: object) -> tuple[np.ndarray, int]:
    """What Pillow makes of it, and the file's length."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, **options)
    return np.array(Image.open(file)), len(file.getvalue())


def by_color_diffusion(pixels: np.ndarray, factor: float) -> np.ndarray:
    lab = color.rgb2lab(pixels)
    lab[..., 1:] = factor * gaussian(lab[..., 1:], 1.5 * factor + 2)
    return lab_to_rgb_unclipped(lab)


def by_jpeg2000(pixels: np.ndarray, ratio: float) -> np.ndarray:
    rates = {"quality_mode": "rates", "quality_layers": [ratio], "irreversible": True}
    return by_pillow(eight_bits(pixels), format="JPEG2000", **rates)[0] / 255


def by_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    return by_pillow(eight_bits(pixels), format="JPEG", quality=quality, subsampling="4:2:0")[0] / 255


def by_brighten(pixels: np.ndarray, level: float) -> np.ndarray:
    knots = (0, 0.5, 1), (0, 0.5 + level / 2, 1)
    lab = color.rgb2lab(pixels)
    lab[..., 0] = 100 * spline(lab[..., 0] / 100, *knots)
    return (2 * spline(pixels, *knots) + lab_to_rgb_unclipped(lab).clip(0, 1)) / 3


def by_pixelate(pixels: np.ndarray, level: float) -> np.ndarray:
    z = 0.95 - level**0.6

    def resized(old: int, new: int, scale: float) -> list[int]:
        """imresize's way: of each new pixel the old one, both counted from 1, on which its box kernel is not 0."""
        chosen = []
        for x in range(1, new + 1):
            u = x / scale + 0.5 * (1 - 1 / scale)
            (near,) = (i for i in range(int(u) - 1, int(u) + 3) if -0.5 <= u - i < 0.5)
            chosen.append(min(max(near, 1), old) - 1)
        return chosen

    sides = ((n, ceil(z * n)) for n in pixels.shape[:2])
    rows, columns = (np.array(resized(n, m, z))[resized(m, n, n / m)] for n, m in sides)
    return pixels[rows][:, columns]


def by_quantization(pixels: np.ndarray, thresholds: int) -> np.ndarray:
    """The least sum of squares inside the classes, from all of them: best[k][j] is that of samples < j in k classes."""
    samples = eight_bits(pixels)
    count = np.bincount(samples.ravel(), minlength=256)
    squares = np.full((257, 257), np.inf)  # [first, last + 1]
    for first in range(256):
        n, x = count[first:].cumsum(), np.arange(256 - first)
        mean = (count[first:] * x).cumsum() / np.maximum(n, 1)
        squares[first, first + 1 :] = (count[first:] * x * x).cumsum() - n * mean**2
    best, cuts = squares[0], []
    for _ in range(thresholds):
        candidates = best[:, None] + squares
        cuts.append(candidates.argmin(axis=0))
        best = candidates.min(axis=0)
    ends = [256]
    for cut in reversed(cuts):
        ends.append(cut[ends[-1]])
    t = np.array(ends[:0:-1]) - 1  # the largest sample of each class but the topmost
    return np.append(np.append(0, t[1:]), 255)[np.digitize(samples, t, right=True)] / 255


def by_high_sharpen(pixels: np.ndarray, amount: float) -> np.ndarray:
    lab = color.rgb2lab(pixels)
    blurred = ndimage.gaussian_filter(lab[..., 0], 3, mode="nearest", truncate=2)  # kernel 13
    lab[..., 0] += amount * (lab[..., 0] - blurred)
    return lab_to_rgb_unclipped(lab)


REFERENCES: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "gaussian_blur": gaussian,
    "lens_blur": lambda x, radius: ndimage.convolve(x, disk(radius)[:, :, None], mode="nearest"),
    "color_diffusion": by_color_diffusion,
    "color_saturation_1": lambda x, factor: color.hsv2rgb(color.rgb2hsv(x) * (1, factor, 1)),
    "color_saturation_2": lambda x, factor: lab_to_rgb_unclipped(color.rgb2lab(x) * (1, factor, factor)),
    "jpeg2000": by_jpeg2000,
    "jpeg": by_jpeg,
    "brighten": by_brighten,
    "darken": lambda x, level: spline(x, (0, 0.5, 1), (0, 0.5 - level / 2, 1)),
    "mean_shift": lambda x, level: x + level,
    "pixelate": by_pixelate,
    "quantization": by_quantization,
    "high_sharpen": by_high_sharpen,
    "contrast_change": lambda x, level: spline(
        x, (0, 0.3, 0.5, 0.7, 1), (0, 0.25 - level / 4, 0.5, 0.75 + level / 4, 1)
    ),
}
TOLERANCES: dict[str, tuple[float, float]] = {
    # the largest difference in float64 and in float32; where nothing is said, it is rounding
    "gaussian_blur": (1e-14, 1e-6),
    "lens_blur": (3e-6, 3e-6),  # the disk's area is integrated on 1000 columns a pixel
    # scikit-image's constants of Lab's curves have seven digits, as ours; the formulas for the way back are exact here
    "color_diffusion": (3e-6, 5e-5),
    "color_saturation_1": (1e-14, 2e-7),
    "color_saturation_2": (1e-5, 2e-4),  # as color_diffusion, but up to 9 times on unblurred a and b
    "jpeg2000": (1e-14, 1e-7),
    "jpeg": (1e-14, 1e-7),
    "brighten": (2e-6, 2e-6),  # as color_diffusion
    "darken": (1e-14, 5e-7),
    "mean_shift": (1e-14, 2e-7),
    "pixelate": (0.0, 0.0),
    "quantization": (1e-14, 1e-7),
    "high_sharpen": (5e-6, 2e-5),  # as color_diffusion, but the difference from the blur up to 12 times
    "contrast_change": (1e-14, 5e-7),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("kind", REFERENCES)
@each_photograph
@each_level
def test_types_without_draws_are_their_definitions(kind: str, name: str, level: int, dtype: torch.dtype) -> None:
    # JPEG 2000's headers take 260 bytes: at 400 times smaller more than a small image's whole file
    image = tensor(photograph(name, 280, 280) if kind == "jpeg2000" else photograph(name)).to(dtype)
    expected = REFERENCES[kind](array(image).astype(np.float64), DISTORTIONS[kind][level - 1]).clip(0, 1)
    out = distort(image, kind, level, stretch=False)
    assert out.dtype == dtype
    assert_close(array(out), expected, TOLERANCES[kind][dtype == torch.float32])


# Random types, given their draws: the first draws of a generator in the same state


def line(length: float, angle: float) -> np.ndarray:
    """MATLAB's fspecial('motion'), half of the kernel, then the other by a turn; angle in 0..180 degrees."""
    eps = np.finfo(float).eps
    half, phi = (length - 1) / 2, angle / 180 * pi
    sign = 1 if cos(phi) >= 0 else -1
    width, height = int(half * cos(phi) + sign - length * eps), int(half * sin(phi) + 1 - length * eps)
    x, y = np.meshgrid(np.arange(0, width + sign, sign), np.arange(height + 1))
    distance = y * cos(phi) - x * sin(phi)
    last = (np.hypot(x, y) >= half) & (np.abs(distance) <= 1)
    beyond = half - np.abs((x + distance * sin(phi)) / cos(phi))
    distance = np.where(last, np.hypot(distance, beyond), distance)
    weight = (1 + eps - np.abs(distance)).clip(0)
    kernel = np.zeros((2 * len(weight) - 1, 2 * weight.shape[1] - 1))
    kernel[: len(weight), : weight.shape[1]] = np.rot90(weight, 2)
    kernel[len(weight) - 1 :, weight.shape[1] - 1 :] = weight
    return (np.flipud(kernel) if sign > 0 else kernel) / kernel.sum()


def by_motion_blur(pixels: np.ndarray, length: float, generator: torch.Generator, dtype: torch.dtype) -> np.ndarray:
    angle = int(181 * torch.rand(1, generator=generator, dtype=dtype).item())  # whole degrees, 0..180
    return ndimage.convolve(pixels, line(length, angle)[:, :, None], mode="nearest")


def mask_by_scipy(pixels: np.ndarray) -> np.ndarray:
    """Where color_shift shows: [H, W]."""
    gray = pixels @ (0.2989, 0.5870, 0.1140)
    gradient = np.hypot(*np.gradient(gray))
    mask = ndimage.gaussian_filter(gradient, 4, mode="nearest", truncate=2)
    mask = ((mask - mask.min()) / (mask.max() - mask.min())).clip(0.1, 1)
    mask = mask.clip(*np.percentile(mask, (1, 99)))
    return (mask - mask.min()) / (mask.max() - mask.min())


def by_color_shift(pixels: np.ndarray, level: float, generator: torch.Generator, dtype: torch.dtype) -> np.ndarray:
    direction = torch.rand(1, 2, generator=generator, dtype=dtype)[0].double().numpy()
    down, right = np.round(level * direction / np.hypot(*direction)).astype(int)
    height, width, _ = pixels.shape
    moved = np.pad(pixels[..., 1], ((down, 0), (right, 0)), mode="edge")[:height, :width]
    mask = mask_by_scipy(pixels)
    green = mask * moved + (1 - mask) * pixels[..., 1]
    return np.stack((pixels[..., 0], green, pixels[..., 2]), axis=-1)


def normal(pixels: np.ndarray, generator: torch.Generator, dtype: torch.dtype) -> np.ndarray:
    """Standard normal draws like pixels, drawn channel after channel."""
    shape = (1, 3, *pixels.shape[:2])
    return array(torch.randn(shape, generator=generator, dtype=dtype)[0].double())


def uniform(pixels: np.ndarray, generator: torch.Generator, dtype: torch.dtype) -> np.ndarray:
    shape = (1, 3, *pixels.shape[:2])
    return array(torch.rand(shape, generator=generator, dtype=dtype)[0].double())


def by_color_component_noise(
    pixels: np.ndarray, variance: float, generator: torch.Generator, dtype: torch.dtype
) -> np.ndarray:
    noise = 255 * variance**0.5 * normal(pixels, generator, dtype)
    return color.ycbcr2rgb((color.rgb2ycbcr(pixels) + noise).clip(0, 255))


def by_impulse_noise(pixels: np.ndarray, density: float, generator: torch.Generator, dtype: torch.dtype) -> np.ndarray:
    draw = uniform(pixels, generator, dtype)
    return np.select([draw < density / 2, draw < density], [0.0, 1.0], pixels)


def by_denoise(pixels: np.ndarray, variance: float, generator: torch.Generator, dtype: torch.dtype) -> np.ndarray:
    """SciPy's DCT of every 8x8 block of four grids, half a block apart, on a continued image."""
    noisy = (pixels + variance**0.5 * normal(pixels, generator, dtype)).clip(0, 1)
    height, width, _ = pixels.shape
    wide = np.pad(noisy, ((8, 16), (8, 16), (0, 0)), mode="edge")
    total = np.zeros_like(wide)
    for top in (0, 4):
        for left in (0, 4):
            rows, columns = (len(wide) - top) // 8, (wide.shape[1] - left) // 8
            place = slice(top, top + 8 * rows), slice(left, left + 8 * columns)
            blocks = dctn(wide[place].reshape(rows, 8, columns, 8, 3), axes=(1, 3), norm="ortho")
            kept = np.abs(blocks) > 3 * variance**0.5
            kept[:, 0, :, 0] = True  # each block's mean
            total[place] += idctn(blocks * kept, axes=(1, 3), norm="ortho").reshape(total[place].shape)
    return total[8 : 8 + height, 8 : 8 + width] / 4


def keys(distance: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel with a = -1/2 (1981)."""
    t = np.abs(distance)
    near, far = 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    return np.where(t <= 1, near, np.where(t < 2, far, 0))


def keys_sample(pixels: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Pixels at places y, x [H, W], tap by tap; replicate border."""
    out = np.zeros_like(pixels)
    for i in range(-1, 3):
        for j in range(-1, 3):
            row, column = np.floor(y) + i, np.floor(x) + j
            rows, columns = row.clip(0, len(pixels) - 1).astype(int), column.clip(0, pixels.shape[1] - 1).astype(int)
            out += (keys(y - row) * keys(x - column))[..., None] * pixels[rows, columns]
    return out


def by_jitter(pixels: np.ndarray, level: float, generator: torch.Generator, dtype: torch.dtype) -> np.ndarray:
    height, width, _ = pixels.shape
    for _ in range(5):
        down, right = torch.randn(1, 2, height, width, generator=generator, dtype=dtype)[0].double().numpy() * level
        pixels = keys_sample(pixels, np.arange(height)[:, None] + down, np.arange(width) + right)
    return pixels


def half_up(x: float) -> int:
    """MATLAB's round of a number that is not negative."""
    return int(Decimal(x).quantize(Decimal(1), ROUND_HALF_UP))


def patches_moved(pixels: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """non_eccentricity_patch, counted from 1 as in MATLAB: draws [n, 4] in 0..1, two for starts and two for moves."""
    height, width = pixels.shape[:2]
    out = pixels.copy()
    for down, right, *moves in draws.tolist():
        y, x = half_up(down * (height - 48)) + 16, half_up(right * (width - 48)) + 16
        new_y, new_x = (half_up(16 * (u - 0.5) + start) for u, start in zip(moves, (y, x), strict=True))
        patch = out[y - 1 : y + 15, x - 1 : x + 15].copy()
        out[new_y - 1 : new_y + 15, new_x - 1 : new_x + 15] = patch
    return out


def by_patches(pixels: np.ndarray, count: int, generator: torch.Generator, dtype: torch.dtype) -> np.ndarray:
    draws = torch.rand(1, 2, count, 2, generator=generator, dtype=dtype)[0].double().numpy()
    return patches_moved(pixels, np.concatenate(draws, axis=1))


def by_color_block(pixels: np.ndarray, count: int, generator: torch.Generator, dtype: torch.dtype) -> np.ndarray:
    tops, lefts = (torch.randint(n - 31, (1, count), generator=generator)[0].tolist() for n in pixels.shape[:2])
    colors = torch.rand(1, count, 3, generator=generator, dtype=dtype)[0].double().numpy()
    out = pixels.copy()
    for one, top, left in zip(colors, tops, lefts, strict=True):
        out[top : top + 32, left : left + 32] = one
    return out


RandomReference = Callable[[np.ndarray, float, torch.Generator, torch.dtype], np.ndarray]
RANDOM_REFERENCES: dict[str, RandomReference] = {
    "motion_blur": by_motion_blur,
    "color_shift": by_color_shift,
    "white_noise": lambda x, variance, *draws: x + variance**0.5 * normal(x, *draws),
    "white_noise_color_component": by_color_component_noise,
    "impulse_noise": by_impulse_noise,
    "multiplicative_noise": lambda x, variance, *draws: x * (1 + (12 * variance) ** 0.5 * (uniform(x, *draws) - 0.5)),
    "denoise": by_denoise,
    "jitter": by_jitter,
    "non_eccentricity_patch": by_patches,
    "color_block": by_color_block,
}
RANDOM_TOLERANCES: dict[str, tuple[float, float]] = {
    "motion_blur": (1e-14, 1e-6),
    "color_shift": (4e-3, 4e-3),  # percentiles of 16335 samples may be read off one sample further
    "white_noise": (1e-14, 2e-7),
    "white_noise_color_component": (1e-14, 1e-6),
    "impulse_noise": (0.0, 0.0),
    "multiplicative_noise": (1e-14, 5e-7),
    "denoise": (1e-14, 1e-6),  # no coefficient of these is so near the threshold that rounding decides
    "jitter": (1e-13, 4e-5),  # places are rounded to 1e-5 pixels in float32
    "non_eccentricity_patch": (0.0, 0.0),
    "color_block": (0.0, 0.0),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("kind", RANDOM_REFERENCES)
@each_photograph
@each_level
def test_random_types_are_their_definitions_given_the_draws(
    kind: str, name: str, level: int, dtype: torch.dtype
) -> None:
    image = tensor(photograph(name)).to(dtype)
    draws = torch.Generator().manual_seed(level), dtype
    expected = RANDOM_REFERENCES[kind](array(image).astype(np.float64), DISTORTIONS[kind][level - 1], *draws)
    out = distort(image, kind, level, torch.Generator().manual_seed(level), stretch=False)
    assert_close(array(out), expected.clip(0, 1), RANDOM_TOLERANCES[kind][dtype == torch.float32])


def stretched(pixels: np.ndarray) -> np.ndarray:
    return (pixels - pixels.min()) / (pixels.max() - pixels.min())


@pytest.mark.parametrize("kind", ["jitter", "denoise"])
@pytest.mark.parametrize("name", ["coffee", "colorfulcups_1"])
def test_what_overshoots_goes_into_the_stretch(kind: str, name: str) -> None:
    image = tensor(photograph(name))
    draws = torch.Generator().manual_seed(5), torch.float64
    expected = RANDOM_REFERENCES[kind](stretched(array(image)), DISTORTIONS[kind][1], *draws)
    assert expected.min() < -0.005 or expected.max() > 1.005
    assert_close(array(distort(image, kind, 2, torch.Generator().manual_seed(5))), stretched(expected), 1e-12)


@each_level
def test_patches_leave_the_border_as_the_generator_does(level: int) -> None:
    count, (height, width) = DISTORTIONS["non_eccentricity_patch"][level - 1], (144, 192)
    rng = np.random.default_rng(level)
    # an image on which every pixel differs from all others: row and column, in steps that floats hold exactly
    steps = np.moveaxis(np.indices((height, width)) / 256, 0, -1)
    pixels = np.concatenate((steps, np.zeros((height, width, 1))), axis=-1)
    shares, expected = [], []
    for seed in range(40):
        out = array(
            distort(tensor(pixels), "non_eccentricity_patch", level, torch.Generator().manual_seed(seed), False)
        )
        changed = (out != pixels).any(axis=-1)
        assert not changed[:7].any() and not changed[:, :7].any()  # from 15 pixels on, 8 of them back
        assert not changed[-8:].any() and not changed[:, -8:].any()
        shares.append(changed.mean())
        expected.append((patches_moved(pixels, rng.random((count, 4))) != pixels).any(axis=-1).mean())
    error = np.hypot(np.std(shares), np.std(expected)) / 40**0.5
    assert abs(np.mean(shares) - np.mean(expected)) < 4 * error
    if level == 5:
        assert np.mean(shares) == pytest.approx(0.47, abs=0.01)


# Random types by their statistics, where tests/test_distortions.py leaves something open


@each_level
def test_color_component_noise_has_the_hues_of_ycbcr(level: int) -> None:
    variance, n = DISTORTIONS["white_noise_color_component"][level - 1], 256 * 256
    gray = torch.full((3, 256, 256), 0.5, dtype=torch.float64)
    draws = torch.Generator().manual_seed(level)
    noise = distort(gray, "white_noise_color_component", level, draws, stretch=False).flatten(1).numpy() - 0.5
    to_rgb = np.linalg.inv(colorconv.ycbcr_from_rgb / 255)
    expected = variance * to_rgb @ to_rgb.T
    scale = np.sqrt(np.diag(expected))
    # the standard error of a covariance of n normal draws
    error = np.sqrt((np.outer(scale, scale) ** 2 + expected**2) / n)
    assert (np.abs(np.cov(noise) - expected) < 4 * error).all()


@each_level
def test_color_shifts_are_a_uniform_pair_normalized_to_the_level(level: int) -> None:
    distance, count, side = DISTORTIONS["color_shift"][level - 1], 1000, 30
    image = np.zeros((side, side, 3))
    image[20:, 20:, 0] = 1  # an edge: there the mask is 1, and the shift shows in full
    code = np.arange(side) + 16 * np.arange(side)[:, None]  # a shift up to 12 each way has a number of its own
    image[..., 1] = code / 1000
    assert (mask_by_scipy(image)[13:, 13:] == 1).any()
    batch = tensor(image).expand(count, 3, side, side)
    out = distort(batch, "color_shift", level, torch.Generator().manual_seed(level), stretch=False)
    moved = 1000 * (batch - out)[:, 1, 13:, 13:].flatten(1).amax(dim=1).numpy()  # down * 16 + right
    assert_close(moved, moved.round(), 1e-6)
    found, counts = np.unique(moved.round().astype(int), return_counts=True)
    # the share of each shift, from a fine grid over the square of uniform pairs
    pairs = (np.arange(500) + 0.5) / 500
    length = np.hypot(pairs[:, None], pairs)
    numbers = 16 * np.round(distance * pairs[:, None] / length) + np.round(distance * pairs / length)
    possible, shares = np.unique(numbers.astype(int), return_counts=True)
    assert set(found) <= set(possible)
    observed = np.array([counts[found == number].sum() for number in possible])
    assert stats.chisquare(observed, count * shares / shares.sum()).pvalue > 0.01


@each_level
def test_jitters_displacement_on_a_ramp_is_that_of_five_moves(level: int) -> None:
    sigma, size, rng = DISTORTIONS["jitter"][level - 1], 200, np.random.default_rng(level)
    steps = np.arange(size) / (size - 1) * np.ones((size, 1))
    ramps = np.stack((steps, steps.T, steps), axis=-1)
    simulated = ramps
    for _ in range(5):
        y, x = sigma * rng.normal(size=(2, size, size))
        simulated = keys_sample(simulated, np.arange(size)[:, None] + y, np.arange(size) + x)
    out = array(distort(tensor(ramps), "jitter", level, torch.Generator().manual_seed(level), stretch=False))
    ours, expected = (
        ((one - ramps)[16:-16, 16:-16, :2] * (size - 1)).reshape(-1, 2).std(axis=0) for one in (out, simulated)
    )  # of x and y, in pixels
    np.testing.assert_allclose(ours, expected, rtol=0.04)
    # sqrt(5) levels where moves are so small that interpolation mixes few of the pixels moved before
    assert (ours < 5**0.5 * sigma).all() and (ours > (2.18 if level == 1 else 1.6) * sigma).all()


# Blurs


@pytest.mark.parametrize("radius", DISTORTIONS["lens_blur"])
def test_disk_is_the_area_of_each_pixel_inside(radius: int) -> None:
    parts = 200  # points a pixel and axis
    half = radius  # ceil(radius - 1/2)
    points = (np.arange((2 * half + 1) * parts) + 0.5) / parts - half - 0.5
    inside = points[:, None] ** 2 + points**2 <= radius**2
    area = inside.reshape(2 * half + 1, parts, 2 * half + 1, parts).mean(axis=(1, 3))
    assert area.sum() == pytest.approx(pi * radius**2, rel=1e-4)
    assert_close(disk_kernel(radius).numpy() * pi * radius**2, area, 1e-3)


def test_smallest_disk_is_that_of_matlabs_documentation() -> None:
    expected = [[0.0251, 0.1453, 0.0251], [0.1453, 0.3183, 0.1453], [0.0251, 0.1453, 0.0251]]  # fspecial('disk', 1)
    assert_close(disk_kernel(1).numpy(), np.array(expected), 5e-5)


# Color


def some_colors() -> np.ndarray:
    """All corners of the RGB cube, near-black ones and random ones: [24, 25, 3]."""
    corners = np.stack(np.meshgrid(*[[0.0, 1.0]] * 3), axis=-1).reshape(-1, 3)
    colors = np.random.default_rng(0).uniform(size=(600 - 16, 3))
    return np.concatenate([corners, corners * 0.01, colors]).reshape(24, 25, 3)


def test_lab_is_scikit_images() -> None:
    colors = some_colors()
    lab = color.rgb2lab(colors)
    assert_close(array(rgb_to_lab(tensor(colors)[None])[0]), lab, 1e-9)
    assert_close(array(rgb_to_lab(tensor(colors)[None].float())[0]), lab, 1e-3)
    assert_close(array(lab_to_rgb(tensor(lab)[None])[0]), color.lab2rgb(lab), 1e-9)
    assert_close(array(lab_to_rgb(rgb_to_lab(tensor(colors)[None]))[0]), colors, 1e-6)


def test_lab_to_rgb_clips_nothing() -> None:
    lab = color.rgb2lab(some_colors()) * (1, 9, 9)
    expected = lab_to_rgb_unclipped(lab)
    assert expected.min() < -1 and expected.max() > 1.5
    scale = 1 + np.abs(expected)
    assert_close(array(lab_to_rgb(tensor(lab)[None])[0]) / scale, expected / scale, 2e-5)


@each_photograph
@each_level
def test_color_saturation_2_is_scikit_images_inside_srgb(name: str, level: int) -> None:
    pixels = photograph(name)
    factor = DISTORTIONS["color_saturation_2"][level - 1]
    lab = color.rgb2lab(pixels) * (1, factor, factor)
    expected = lab_to_rgb_unclipped(lab)
    inside = ((expected >= 0) & (expected <= 1)).all(axis=-1)  # where scikit-image clips nothing
    assert inside.any()
    assert_close(distorted(pixels, "color_saturation_2", level)[inside], color.lab2rgb(lab[inside]), 1e-5)


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_color_saturation_1_multiplies_s_of_hsv(level: int) -> None:
    colors = some_colors()
    factor = DISTORTIONS["color_saturation_1"][level - 1]
    expected = color.hsv2rgb(color.rgb2hsv(colors) * (1, factor, 1))
    assert_close(distorted(colors, "color_saturation_1", level), expected, 1e-9)


def test_color_saturation_1_takes_a_negative_s_as_the_formulas_have_it() -> None:
    colors = some_colors()
    h, s, v = np.moveaxis(color.rgb2hsv(colors) * (1, -0.4, 1), -1, 0)
    sector = np.floor(6 * h).astype(int) % 6
    f = 6 * h - np.floor(6 * h)
    p, q, t = v * (1 - s), v * (1 - s * f), v * (1 - s * (1 - f))  # as in colorsys.hsv_to_rgb
    rgb = np.array([[v, t, p], [q, v, p], [p, v, t], [p, q, v], [t, p, v], [v, p, q]])  # [sector, channel, 24, 25]
    expected = np.take_along_axis(rgb, sector[None, None], axis=0)[0]
    assert expected.max() > 1.3
    assert_close(distorted(colors, "color_saturation_1", 5), np.moveaxis(expected, 0, -1).clip(0, 1), 1e-9)


def test_ycbcr_is_scikit_images() -> None:
    colors = some_colors()
    ycbcr = color.rgb2ycbcr(colors)
    assert_close(255 * array(rgb_to_ycbcr(tensor(colors)[None])[0]), ycbcr, 1e-9)
    assert_close(array(ycbcr_to_rgb(tensor(ycbcr / 255)[None])[0]), color.ycbcr2rgb(ycbcr), 1e-9)


@each_photograph
def test_edge_mask_is_built_of_scipys_filters(name: str) -> None:
    pixels = photograph(name) / 255
    # percentiles of 16335 samples may be read off one sample further
    assert_close(edge_mask(tensor(pixels)[None])[0, 0].numpy(), mask_by_scipy(pixels), 4e-3)


def squared_error(pixels: np.ndarray, palette: np.ndarray) -> float:
    """Mean squared distance to the nearest color of a palette."""
    distances = ((pixels.reshape(-1, 1, 3).astype(float) - palette[None]) ** 2).sum(axis=2)
    return distances.min(axis=1).mean()


@each_photograph
@each_level
def test_palette_is_no_worse_than_median_cut(name: str, level: int) -> None:
    pixels, colors = photograph(name), DISTORTIONS["color_quantization"][level - 1]
    ours = minimum_variance_palette(pixels.reshape(-1, 3).T, colors)
    indexed = Image.fromarray(pixels).quantize(colors, method=Image.Quantize.MEDIANCUT)
    pillows = np.array(indexed.getpalette()).reshape(-1, 3)[np.unique(np.asarray(indexed))]
    assert ours.shape == (colors, 3) and len(pillows) <= colors
    assert squared_error(pixels, ours) <= squared_error(pixels, pillows)


def local_error(quantized: np.ndarray, pixels: np.ndarray) -> float:
    """Root mean square of the color difference, averaged over 9 x 9 pixels first."""
    difference = quantized.astype(float) - pixels
    return np.sqrt((ndimage.uniform_filter(difference, (9, 9, 0)) ** 2).mean())


@each_photograph
@each_level
def test_color_quantization_dithers_with_few_colors_and_keeps_the_mean_color(name: str, level: int) -> None:
    pixels, colors = photograph(name), DISTORTIONS["color_quantization"][level - 1]
    out = (distorted(pixels, "color_quantization", level) * 255).round().astype(np.uint8)
    palette = np.unique(out.reshape(-1, 3), axis=0)
    assert colors // 2 < len(palette) <= colors
    single = distort(tensor(pixels).float(), "color_quantization", level, stretch=False)
    assert np.array_equal(eight_bits(array(single)), out)
    nearest = palette[((pixels[:, :, None].astype(float) - palette) ** 2).sum(axis=3).argmin(axis=2)]
    assert local_error(out, pixels) < 0.98 * local_error(nearest, pixels)  # colors beyond the palette cannot be mixed
    assert np.abs((out.astype(float) - pixels).mean(axis=(0, 1))).max() < 2.5


def test_dithering_shows_a_ramp_in_eight_colors() -> None:
    ramp = np.linspace(20, 235, 128)[None, :, None] * np.ones((96, 1, 3))
    out = distorted(ramp.round().astype(np.uint8), "color_quantization", 5) * 255
    assert len(np.unique(out)) == 8 and local_error(out, ramp) < 3  # eight steps alone: 8


def test_an_image_of_few_colors_keeps_them() -> None:
    colors = np.array([[0, 0, 0], [255, 255, 255], [200, 30, 60], [20, 180, 90], [40, 60, 250]], np.uint8)
    pixels = colors[np.random.default_rng(0).integers(5, size=(20, 30))]
    palette = minimum_variance_palette(pixels.reshape(-1, 3).T, 64)
    assert sorted(map(tuple, palette.tolist())) == sorted(map(tuple, colors.tolist()))
    for level in EACH_LEVEL:
        assert_close(distorted(pixels, "color_quantization", level) * 255, pixels, 1e-9)


# Codecs


@each_photograph
@each_level
def test_jpeg_is_pillows_bit_for_bit(name: str, level: int) -> None:
    pixels = photograph(name, 125, 131)
    expected, _ = by_pillow(pixels, format="JPEG", quality=DISTORTIONS["jpeg"][level - 1], subsampling="4:2:0")
    assert np.array_equal((distorted(pixels, "jpeg", level) * 255).round().astype(np.uint8), expected)
    for off in (-0.49, 0.49):  # codecs see round(255 x)
        near = ((pixels + off) / 255).clip(0, 1)
        assert np.array_equal(distorted(near, "jpeg", level), distorted(pixels, "jpeg", level))


@each_photograph
def test_jpeg2000_is_pillows_and_of_the_wanted_size(name: str) -> None:
    pixels = photograph(name, 280, 280)
    errors = []
    for level in EACH_LEVEL:
        ratio = DISTORTIONS["jpeg2000"][level - 1]
        expected, size = by_pillow(
            pixels, format="JPEG2000", quality_mode="rates", quality_layers=[ratio], irreversible=True
        )
        out = (distorted(pixels, "jpeg2000", level) * 255).round()
        assert np.array_equal(out, expected)
        assert size == pytest.approx(pixels.size / ratio, rel=0.05)
        errors.append(((out - pixels) ** 2).mean())
    assert errors == sorted(errors) and errors[4] > 4 * errors[0]


# Curves


@each_level
def test_curves_are_scipys_splines(level: int) -> None:
    # make_interp_spline's default ends are not-a-knot
    values = np.linspace(0, 1, 16 * 16 * 3).reshape(16, 16, 3)
    a, b = DISTORTIONS["darken"][level - 1], DISTORTIONS["contrast_change"][level - 1]
    darker = make_interp_spline((0, 0.5, 1), (0, 0.5 - a / 2, 1), k=2)
    other = make_interp_spline((0, 0.3, 0.5, 0.7, 1), (0, 0.25 - b / 4, 0.5, 0.75 + b / 4, 1), k=3)
    assert_close(distorted(values, "darken", level), darker(values).clip(0, 1), 1e-12)
    assert_close(distorted(values, "contrast_change", level), other(values).clip(0, 1), 1e-12)


# Space


def test_bicubic_sampling_is_scikit_images() -> None:
    # whose order 3 is, for a translation, cubic convolution with a = -1/2
    pixels = photograph("coffee", 40, 50)[..., 0] / 255
    y, x = torch.meshgrid(torch.arange(40).double(), torch.arange(50).double(), indexing="ij")
    for down, right in ((0.3, 0.0), (-0.25, 1.6), (2.0, -0.9)):
        shift = transform.EuclideanTransform(translation=(right, down))
        expected = transform.warp(pixels, shift, order=3, mode="edge", clip=False)
        out = sample(torch.from_numpy(pixels)[None, None], y[None] + down, x[None] + right)[0, 0].numpy()
        assert_close(out, expected, 1e-9)


@each_level
@pytest.mark.parametrize("size", [(17, 33), (32, 32), (101, 65), (116, 120), (136, 144)])
def test_pixelate_is_imresize_and_back_at_any_size(level: int, size: tuple[int, int]) -> None:
    pixels = photograph("coffee", *size) / 255
    expected = by_pixelate(pixels, DISTORTIONS["pixelate"][level - 1])
    assert_close(distorted(pixels, "pixelate", level), expected, 1e-9)


def test_pixelate_shows_pixels_further_on_than_the_ratio_of_the_sides() -> None:
    # at level 5 16 pixels become 5, by z = 0.29 and not by 5/16, which would show 1, 4, 8, 11 and 14
    steps = np.arange(16)[:, None, None] / 255 * np.ones((1, 16, 3))
    shown = (255 * distorted(steps, "pixelate", 5)[:, 0, 0]).round().astype(int).tolist()
    assert shown == [1] * 3 + [5] * 3 + [8] * 4 + [12] * 3 + [15] * 3


def variance_inside(histogram: np.ndarray, cuts: tuple[int, ...]) -> float:
    """Sum of squared distances to the means of the classes that end at `cuts`."""
    edges = [0, *(cut + 1 for cut in cuts), 256]
    classes = [(np.arange(a, b), histogram[a:b]) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    return sum((n * (x - np.average(x, weights=n)) ** 2).sum() for x, n in classes)


@pytest.mark.parametrize("thresholds", [2, 3])
@each_photograph
def test_otsu_thresholds_are_scikit_images(name: str, thresholds: int) -> None:
    histogram = np.bincount(photograph(name).ravel(), minlength=256)
    expected = filters.threshold_multiotsu(classes=thresholds + 1, hist=(histogram, np.arange(256)))
    ours = otsu_thresholds(histogram, thresholds)
    assert np.abs(ours - expected).max() <= 1  # scikit-image's moments count bin 0 as bin 1, in float32
    assert variance_inside(histogram, ours) <= variance_inside(histogram, expected)


@pytest.mark.parametrize("thresholds", [2, 3, 4])
def test_otsu_thresholds_of_a_coarse_histogram_are_about_scikit_images(thresholds: int) -> None:
    for seed in range(5):
        coarse = np.arange(3, 256, 7)
        counts = np.random.default_rng(seed).integers(1, 1000, len(coarse))
        histogram = np.zeros(256, int)
        histogram[coarse] = counts
        expected = filters.threshold_multiotsu(classes=thresholds + 1, hist=(counts, coarse))
        ours = variance_inside(histogram, otsu_thresholds(histogram, thresholds))
        assert 0.98 * variance_inside(histogram, expected) < ours <= variance_inside(histogram, expected)


@pytest.mark.parametrize("thresholds", [1, 2, 3, 4, 5, 6, 7])
def test_otsu_thresholds_are_the_best_of_all(thresholds: int) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        bins = np.sort(rng.choice(256, 10, replace=False))
        histogram = np.zeros(256, int)
        histogram[bins] = rng.integers(1, 100, 10)
        tried = combinations(bins[:-1].tolist(), thresholds)
        best = min(tried, key=lambda cuts: variance_inside(histogram, cuts))
        assert otsu_thresholds(histogram, thresholds).tolist() == list(best)


@each_photograph
@each_level
def test_quantization_maps_each_class_to_its_upper_threshold(name: str, level: int) -> None:
    pixels, thresholds = photograph(name), DISTORTIONS["quantization"][level - 1]
    out = (distorted(pixels, "quantization", level) * 255).round().astype(int)
    near = ((pixels - 0.45) / 255).clip(0, 1)  # the same in 8 bits
    assert_close(distorted(near, "quantization", level) * 255, out, 1e-9)
    values = np.unique(out)
    largest = [int(pixels[out == value].max()) for value in values]  # of each class
    assert len(values) == thresholds + 1 and values[0] == 0 and values[-1] == 255
    assert values[1:-1].tolist() == largest[1:-1]
    assert np.array_equal(np.digitize(pixels, largest[:-1], right=True), np.searchsorted(values, out))
    # the classes are Otsu's and no uniform steps: no cut moved by a bin makes them better
    histogram = np.bincount(pixels.ravel(), minlength=256)
    least = variance_inside(histogram, largest[:-1])
    for i in range(thresholds):
        for step in (-1, 1):
            moved = np.array(largest[:-1])
            moved[i] += step
            assert (np.diff(moved) == 0).any() or variance_inside(histogram, moved) >= least
