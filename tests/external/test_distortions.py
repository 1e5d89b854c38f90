"""The distortions against SciPy, scikit-image and Pillow, and against formulas written out here in float64."""

from io import BytesIO
from itertools import combinations
from math import ceil, pi
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from scipy.interpolate import make_interp_spline
from torch import Tensor

from ssl_iqa import distortions
from ssl_iqa.distortions import DISTORTIONS, distort
from ssl_iqa.distortions.blur import disk_kernel
from ssl_iqa.distortions.color import edge_mask, minimum_variance_palette
from ssl_iqa.distortions.colorspace import lab_to_rgb, rgb_to_lab, rgb_to_ycbcr, ycbcr_to_rgb
from ssl_iqa.distortions.spatial import otsu_thresholds, sample

color = pytest.importorskip("skimage.color")
filters = pytest.importorskip("skimage.filters")
transform = pytest.importorskip("skimage.transform")

PHOTOGRAPHS = ("chelsea", "coffee", "colorfulcups_1")
EACH_LEVEL = range(1, 6)
each_photograph = pytest.mark.parametrize("name", PHOTOGRAPHS)
each_level = pytest.mark.parametrize("level", EACH_LEVEL)


def photograph(name: str, height: int = 120, width: int = 136) -> np.ndarray:
    """The middle of a demo photograph: uint8 [height, width, 3]."""
    pixels = np.array(Image.open(Path(distortions.__file__).parents[1] / "demo_photos" / f"{name}.jpg"))
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


# Blurs


@each_level
def test_gaussian_blur_is_scipys(level: int) -> None:
    pixels = photograph("coffee") / 255
    sigma = DISTORTIONS["gaussian_blur"][level - 1]
    expected = ndimage.gaussian_filter(pixels, (sigma, sigma, 0), mode="nearest", truncate=ceil(2 * sigma) / sigma)
    assert_close(distorted(pixels, "gaussian_blur", level), expected, 1e-12)


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


@each_level
def test_lens_blur_is_scipys_convolution_with_the_disk(level: int) -> None:
    pixels = photograph("coffee") / 255
    kernel = disk_kernel(DISTORTIONS["lens_blur"][level - 1]).numpy()
    expected = ndimage.convolve(pixels, kernel[:, :, None], mode="nearest")
    assert_close(distorted(pixels, "lens_blur", level), expected, 1e-12)


# Color


def lab_to_rgb_unclipped(lab: np.ndarray) -> np.ndarray:
    """CIE Lab (D65) -> sRGB by the formulas of CIE 15 and IEC 61966-2-1, with scikit-image's constants."""
    y = (lab[..., 0] + 16) / 116
    f = np.stack((y + lab[..., 1] / 500, y, y - lab[..., 2] / 200), axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * color.xyz_tristimulus_values(
        illuminant="D65", observer="2"
    )
    linear = xyz @ np.linalg.inv(color.colorconv.xyz_from_rgb).T
    with np.errstate(invalid="ignore"):
        return np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)


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
def test_color_diffusion_blurs_and_multiplies_a_and_b(name: str, level: int) -> None:
    pixels = photograph(name)
    factor = DISTORTIONS["color_diffusion"][level - 1]
    sigma = 1.5 * factor + 2
    lab = color.rgb2lab(pixels)
    lab[..., 1:] = factor * ndimage.gaussian_filter(
        lab[..., 1:], (sigma, sigma, 0), mode="nearest", truncate=ceil(2 * sigma) / sigma
    )
    assert_close(distorted(pixels, "color_diffusion", level), lab_to_rgb_unclipped(lab).clip(0, 1), 1e-4)


@each_photograph
@each_level
def test_color_saturation_2_multiplies_a_and_b(name: str, level: int) -> None:
    pixels = photograph(name)
    factor = DISTORTIONS["color_saturation_2"][level - 1]
    lab = color.rgb2lab(pixels) * (1, factor, factor)
    out, expected = distorted(pixels, "color_saturation_2", level), lab_to_rgb_unclipped(lab)
    assert_close(out, expected.clip(0, 1), 1e-4)
    inside = ((expected >= 0) & (expected <= 1)).all(axis=-1)  # where scikit-image clips nothing
    assert inside.any()
    assert_close(out[inside], color.lab2rgb(lab[inside]), 1e-4)


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
    pixels = photograph(name)
    gray = pixels @ (0.2989, 0.5870, 0.1140) / 255
    gradient = np.hypot(*(ndimage.sobel(gray, axis, mode="nearest") for axis in (0, 1)))
    mask = ndimage.gaussian_filter(gradient, 4, mode="nearest", truncate=2)
    mask = ((mask - mask.min()) / (mask.max() - mask.min())).clip(0.1, 1)
    mask = mask.clip(*np.percentile(mask, (1, 99)))
    mask = (mask - mask.min()) / (mask.max() - mask.min())
    # percentiles of 16320 samples may be read off one sample further
    assert_close(edge_mask(tensor(pixels)[None])[0, 0].numpy(), mask, 2e-3)


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
    nearest = palette[((pixels[:, :, None].astype(float) - palette) ** 2).sum(axis=3).argmin(axis=2)]
    assert local_error(out, pixels) < 0.98 * local_error(nearest, pixels)  # colors beyond the palette cannot be mixed
    assert np.abs((out.astype(float) - pixels).mean(axis=(0, 1))).max() < 2.5


def test_dithering_shows_a_ramp_in_eight_colors() -> None:
    ramp = np.linspace(20, 235, 128)[None, :, None] * np.ones((96, 1, 3))
    out = distorted(ramp.round().astype(np.uint8), "color_quantization", 5) * 255
    assert len(np.unique(out)) == 8 and local_error(out, ramp) < 3  # eight steps alone: 8


def test_a_picture_of_few_colors_keeps_them() -> None:
    colors = np.array([[0, 0, 0], [255, 255, 255], [200, 30, 60], [20, 180, 90], [40, 60, 250]], np.uint8)
    pixels = colors[np.random.default_rng(0).integers(5, size=(20, 30))]
    for level in EACH_LEVEL:
        assert_close(distorted(pixels, "color_quantization", level) * 255, pixels, 1e-9)


# Codecs


def by_pillow(pixels: np.ndarray, **options: object) -> tuple[np.ndarray, int]:
    """What Pillow makes of it, and the file's length."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, **options)
    return np.array(Image.open(file)), len(file.getvalue())


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


@each_photograph
@each_level
def test_brighten_mixes_two_parts_of_rgb_and_one_of_lab(name: str, level: int) -> None:
    pixels = photograph(name)
    brighter = make_interp_spline((0, 0.5, 1), (0, 0.5 + DISTORTIONS["brighten"][level - 1] / 2, 1), k=2)
    lab = color.rgb2lab(pixels)
    lab[..., 0] = 100 * brighter(lab[..., 0] / 100).clip(0, 1)
    expected = (2 * brighter(pixels / 255).clip(0, 1) + lab_to_rgb_unclipped(lab).clip(0, 1)) / 3
    assert_close(distorted(pixels, "brighten", level), expected, 1e-4)


@each_photograph
@each_level
def test_high_sharpen_is_an_unsharp_mask_on_lightness(name: str, level: int) -> None:
    pixels = photograph(name)
    lab = color.rgb2lab(pixels)
    blurred = ndimage.gaussian_filter(lab[..., 0], 3, mode="nearest", truncate=2)  # kernel 13
    lab[..., 0] += DISTORTIONS["high_sharpen"][level - 1] * (lab[..., 0] - blurred)
    assert_close(distorted(pixels, "high_sharpen", level), lab_to_rgb_unclipped(lab).clip(0, 1), 1e-4)


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
@pytest.mark.parametrize("size", [(121, 135), (17, 33), (101, 65)])
def test_pixelate_is_nearest_resize_and_back(level: int, size: tuple[int, int]) -> None:
    pixels = photograph("coffee", *size)
    z = 0.95 - DISTORTIONS["pixelate"][level - 1] ** 0.6

    def nearest(old: int, new: int) -> np.ndarray:  # the pixel that holds the middle of each new one
        return (2 * np.arange(new) + 1) * old // (2 * new)

    rows, columns = (nearest(n, ceil(z * n))[nearest(ceil(z * n), n)] for n in size)
    assert len(np.unique(rows)) == ceil(z * size[0])
    assert_close(distorted(pixels, "pixelate", level) * 255, pixels[rows][:, columns], 1e-9)


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
