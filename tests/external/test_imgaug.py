"""The `imgaug` preset: types by imgaug, the paper's library, and how far they are the same as ours."""

import random
import sys
from io import BytesIO
from math import ceil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from ssl_iqa.data.demo import DEMO_FOLDER
from ssl_iqa.distortions import (
    KADIS,
    DistortionClass,
    distort,
    distort_as,
    distort_batch,
    load_distortions,
    unchanged,
)
from ssl_iqa.distortions.apply import _distort_group
from ssl_iqa.distortions.imgaug_types import AUGMENTERS

imgaug = pytest.importorskip("imgaug")
pytest.importorskip("imgaug.augmenters")
color = pytest.importorskip("skimage.color")

PHOTOGRAPHS = ("chelsea", "coffee", "colorfulcups_1")
EACH_LEVEL = range(1, 6)
# imgaug draws the noises, the angle, and the color space in which brightness is changed
RANDOM = (
    *("motion_blur", "white_noise", "white_noise_color_component", "impulse_noise", "multiplicative_noise"),
    *("brighten", "darken"),
)
each_photograph = pytest.mark.parametrize("photo", PHOTOGRAPHS)
each_level = pytest.mark.parametrize("level", EACH_LEVEL)
each_name = pytest.mark.parametrize("name", AUGMENTERS)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def by_imgaug(name: str, level: int) -> DistortionClass:
    (found,) = (one for one in load_distortions("imgaug") if (one.name, one.level) == (name, level))
    return found


def augmented(image: Tensor, name: str, level: int, seed: int = 0) -> Tensor:
    return distort_as(image, by_imgaug(name, level), seeded(seed), stretch=False)


def photograph(name: str, height: int = 121, width: int = 135) -> Tensor:
    """The middle of a demo photograph: float64 [3, height, width], in steps of 1/255."""
    pixels = np.array(Image.open(DEMO_FOLDER / f"{name}.jpg")) / 255
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return torch.from_numpy(pixels[top : top + height, left : left + width]).permute(2, 0, 1).contiguous()


def levels_of(image: Tensor) -> np.ndarray:
    """0..255, [H, W, 3]."""
    return (255 * image).round().byte().permute(1, 2, 0).numpy()


def flat(value: float, side: int = 256) -> Tensor:
    return torch.full((3, side, side), value, dtype=torch.float64)


def ramp() -> Tensor:
    """All 256 grays, one a column."""
    return (torch.arange(256, dtype=torch.float64) / 255).expand(3, 16, 256).contiguous()


# The preset


def test_the_preset_is_kadis_with_imgaug_where_it_has_the_type() -> None:
    preset = load_distortions("imgaug")
    assert len(preset) == 125 and len(AUGMENTERS) == 15
    assert [one[:4] for one in preset] == [one[:4] for one in KADIS]
    assert [one.library for one in preset] == ["imgaug" if one.name in AUGMENTERS else "ssl_iqa" for one in KADIS]


def test_two_classes_of_the_preset_leave_the_image_as_it_was() -> None:
    # a line of three pixels is the shortest of imgaug's, and its HSV rounds hues
    same = [(one.name, one.level) for one in unchanged(load_distortions("imgaug"))]
    assert same == [("gaussian_blur", 1), ("mean_shift", 3)]


@pytest.mark.parametrize("module", ["imgaug", "imgaug.augmenters"])
def test_without_imgaug_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # an import of None raises ImportError
    if module == "imgaug":
        monkeypatch.delitem(sys.modules, "imgaug.augmenters")
    file = tmp_path / "own.toml"
    file.write_text('[jpeg]\nlibrary = "imgaug"\n')
    for spec, source in (("imgaug", "--distortions imgaug"), (str(file), str(file))):
        with pytest.raises(ValueError) as error:
            load_distortions(spec)
        assert str(error.value).startswith(f"{source}: imgaug is required: pip install 'ssl_iqa[imgaug]' (")
    assert load_distortions("kadis") == KADIS
    file.write_text("[jpeg]\n")
    assert len(load_distortions(str(file))) == 5


# Every type and level


@each_name
@pytest.mark.parametrize("size", [(16, 16), (17, 200), (61, 48)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_every_class_gives_a_new_image_of_the_same_kind(name: str, size: tuple[int, int], dtype: torch.dtype) -> None:
    for image in (photograph("coffee", *size).to(dtype), torch.zeros(3, *size, dtype=dtype)):
        before = image.clone()
        for level in EACH_LEVEL:
            out = distort_as(image, by_imgaug(name, level), seeded(), stretch=level % 2 == 0)
            assert out.shape == image.shape and out.dtype == dtype
            assert out.isfinite().all() and out.min() >= 0 and out.max() <= 1
            assert torch.equal(image, before), "the input was changed"
            assert out.untyped_storage().data_ptr() != image.untyped_storage().data_ptr()


@each_name
def test_a_torch_generator_rules_all_of_imgaugs_draws(name: str) -> None:
    image = photograph("coffee", 40, 48)
    for level in EACH_LEVEL:
        outs = []
        for seed in (1, 2):  # whatever the state of others
            imgaug.seed(seed)
            np.random.seed(seed)
            random.seed(seed)
            torch.manual_seed(seed)
            outs.append(augmented(image, name, level, 7))
        assert torch.equal(*outs)
    state = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    augmented(image, name, 3, 7)
    assert torch.equal(torch.get_rng_state(), state[0]) and random.getstate() == state[2]
    assert np.array_equal(np.random.get_state()[1], state[1])
    drawn = {augmented(image, name, 3, seed).numpy().tobytes() for seed in range(12)}
    assert (len(drawn) > 1) == (name in RANDOM)


@each_name
def test_a_batch_is_each_image_alone(name: str) -> None:
    images = torch.stack([photograph(one, 33, 40) for one in PHOTOGRAPHS])
    preset = load_distortions("imgaug")
    for level in (1, 3, 5):
        one = preset.index(by_imgaug(name, level))
        together = distort_batch(images, [one] * 3, [seeded(i) for i in range(3)], preset)
        assert torch.equal(together, distort_as(images, preset[one], [seeded(i) for i in range(3)]))
        # and as images from an accelerator come
        assert torch.equal(together, _distort_group(images, preset[one], [seeded(i) for i in range(3)], stretch=True))
        for i, image in enumerate(images):
            assert torch.equal(together[i], distort_as(image, preset[one], seeded(i)))


@each_name
def test_the_images_of_a_batch_have_draws_of_their_own(name: str) -> None:
    out = distort_as(photograph("coffee", 33, 40).expand(12, -1, -1, -1), by_imgaug(name, 4), seeded())
    assert (len({one.numpy().tobytes() for one in out}) > 1) == (name in RANDOM)


# Where the two are to be the same


def by_pillow(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG", quality=quality, subsampling="4:2:0")
    return np.array(Image.open(file))


@each_photograph
@each_level
def test_jpeg_is_pillows_at_the_levels_quality_bit_for_bit(photo: str, level: int) -> None:
    image = photograph(photo)
    expected = by_pillow(levels_of(image), by_imgaug("jpeg", level).value)
    assert np.array_equal(levels_of(augmented(image, "jpeg", level)), expected)
    assert torch.equal(augmented(image, "jpeg", level), distort(image, "jpeg", level, stretch=False))


def test_jpeg_has_every_quality_from_2() -> None:
    image = photograph("coffee", 40, 48)
    for quality in range(2, 101):  # imgaug has no quality 1
        out = distort_as(image, DistortionClass("jpeg", 1, quality, library="imgaug"), seeded(), stretch=False)
        assert np.array_equal(levels_of(out), by_pillow(levels_of(image), quality)), quality


@each_level
def test_white_noise_has_the_levels_variance_sample_by_sample(level: int) -> None:
    variance, n = by_imgaug("white_noise", level).value, 256 * 256
    noise = (augmented(flat(128 / 255), "white_noise", level) - 128 / 255).flatten(1)
    # rounding to 8 bits adds a twelfth of a step squared
    assert (noise.var(dim=1) - variance - 1 / 12 / 255**2).abs().max() < 4 * variance * (2 / n) ** 0.5
    assert noise.mean(dim=1).abs().max() < 4 * (variance / n) ** 0.5
    assert (torch.corrcoef(noise) - torch.eye(3)).abs().max() < 4 / n**0.5


@each_level
def test_color_component_noise_has_the_levels_variance_in_full_range(level: int) -> None:
    # OpenCV's YCrCb is JFIF's; in ours, MATLAB's, Y spans 219 and Cb, Cr 224 of 255: the same noise is larger in RGB
    variance = by_imgaug("white_noise_color_component", level).value
    rgb = augmented(flat(128 / 255), "white_noise_color_component", level).flatten(1).numpy()
    y = np.array((0.299, 0.587, 0.114)) @ rgb
    ycbcr = np.stack((y, (rgb[2] - y) / 1.772, (rgb[0] - y) / 1.402))
    # rounding to 8 bits, twice, adds to 0.00002 about a fifth of its size at the weakest level
    np.testing.assert_allclose(ycbcr.var(axis=1), variance, rtol=0.03, atol=0.25 / 255**2)
    ours = distort(flat(128 / 255), "white_noise_color_component", level, seeded(), stretch=False).flatten(1).numpy()
    ratio = rgb.var(axis=1) / ours.var(axis=1)
    assert (ratio > 0.72).all() and (ratio < 0.81).all()


@each_level
def test_impulses_have_the_levels_density(level: int) -> None:
    density, n = by_imgaug("impulse_noise", level).value, 3 * 256 * 256
    out = augmented(flat(128 / 255), "impulse_noise", level)
    hit = out != 128 / 255
    assert abs(hit.double().mean().item() - density) < 4 * (density / n) ** 0.5
    assert (hit.sum(dim=0) >= 2).double().mean() < 5 * density**2 + 1e-4  # channel by channel
    # not 0 and 1, as ours: imgaug draws values between, from Beta(1/2, 1/2), whose variance is 1/8
    values = out[hit]
    assert values.mean().item() == pytest.approx(0.5, abs=4 * (1 / 8 / len(values)) ** 0.5 + 0.002)
    assert values.var().item() == pytest.approx(1 / 8, rel=0.2)


@each_level
def test_speckle_is_uniform_with_the_levels_variance(level: int) -> None:
    variance, n = by_imgaug("multiplicative_noise", level).value, 256 * 256
    speckle = (augmented(flat(128 / 255), "multiplicative_noise", level) * 255 / 128 - 1).flatten(1)
    # of a uniform the fourth moment is 9/5 v^2
    rounding = 1 / 12 / 128**2
    assert (speckle.var(dim=1) - variance - rounding).abs().max() < 4 * variance * (0.8 / n) ** 0.5 + rounding
    assert 0.97 * (3 * variance) ** 0.5 < speckle.abs().max() < (3 * variance) ** 0.5 + 1 / 128
    assert (torch.corrcoef(speckle) - torch.eye(3)).abs().max() < 4 / n**0.5


@each_photograph
@each_level
def test_mean_shift_is_ours_but_for_rounding(photo: str, level: int) -> None:
    image = photograph(photo)
    ours = distort(image, "mean_shift", level, stretch=False)
    assert (augmented(image, "mean_shift", level) - ours).abs().max() < 0.5 / 255
    own = DistortionClass("mean_shift", 1, 0.03 * (-1) ** level, library="imgaug")  # 7.65 steps
    assert (distort_as(image, own, stretch=False) - (image + own.value).clamp(0, 1)).abs().max() < 0.5 / 255


@each_photograph
@each_level
def test_gaussian_blur_is_ours_inside_up_to_sigma_1_and_narrower_above(photo: str, level: int) -> None:
    image = photograph(photo)
    ours, other = distort(image, "gaussian_blur", level, stretch=False), augmented(image, "gaussian_blur", level)
    inside = (..., slice(16, -16), slice(16, -16))  # the border is reflected there, replicated here
    assert (other - ours)[inside].abs().max() < {1: 1e-9, 2: 1, 3: 1}.get(level, 36) / 255
    # the width of an edge: OpenCV's kernel for sigma 2 has 7 pixels and for sigma 5 has 13, ours 9 and 21
    edge = torch.zeros(3, 64, 64, dtype=torch.float64)
    edge[..., 32:] = 1
    step, place = augmented(edge, "gaussian_blur", level)[0, 32].diff(), torch.arange(63)
    width = ((step * place**2).sum() - (step * place).sum() ** 2).sqrt().item()
    assert width == pytest.approx((0, 0.46, 0.96, 1.65, 3.35)[level - 1], abs=0.02)


@each_level
def test_contrast_change_has_our_slope_over_the_middle(level: int) -> None:
    # ours goes through (.3, .25 - level/4) and (.7, .75 + level/4): 1.25 * (1 + level) from one to the other
    value = by_imgaug("contrast_change", level).value
    dark, bright = 77, 178  # 0.302 and 0.698
    for out in (augmented(ramp(), "contrast_change", level), distort(ramp(), "contrast_change", level, stretch=False)):
        slope = (out[0, 0, bright] - out[0, 0, dark]).item() * 255 / (bright - dark)
        assert slope == pytest.approx(1.25 * (1 + value), abs=0.012)
    assert augmented(ramp(), "contrast_change", level)[0, 0, 127] == 127 / 255


@each_level
@pytest.mark.parametrize("name", ["brighten", "darken"])
def test_brightness_moves_middle_gray_as_ours(name: str, level: int) -> None:
    # to 0.5 * (1 +- level); not the whole curve: imgaug multiplies, ours is a parabola
    value = by_imgaug(name, level).value * (1 if name == "brighten" else -1)
    wanted = min(0.5 * (1 + value), 1)
    ours = distort(flat(0.5, 16), name, level, stretch=False).mean().item()
    assert ours == pytest.approx(wanted, abs=2 / 255)
    # in one of six color spaces; Lab's and Luv's L goes farthest
    atol = 14 / 255 if name == "brighten" else 4 / 255
    for seed in range(12):
        out = augmented(flat(128 / 255, 16), name, level, seed).mean().item()
        assert out == pytest.approx(ours, abs=atol)


@each_photograph
@each_level
def test_color_saturation_2_multiplies_s_of_hsv(photo: str, level: int) -> None:
    # ours multiplies Lab's a and b
    image = photograph(photo)
    hsv = color.rgb2hsv(levels_of(image))
    hsv[..., 1] = (hsv[..., 1] * by_imgaug("color_saturation_2", level).value).clip(0, 1)
    difference = np.abs(levels_of(augmented(image, "color_saturation_2", level)) - 255 * color.hsv2rgb(hsv))
    # OpenCV's hue has 180 steps, and S is cut to whole numbers
    assert difference.mean() < 2 and difference.max() < 16


@each_photograph
@each_level
def test_pixelate_has_as_many_pixels_as_ours(photo: str, level: int) -> None:
    z = 0.95 - by_imgaug("pixelate", level).value ** 0.6
    steps = torch.arange(121, dtype=torch.float64)[None, :, None] / 255
    rows = levels_of(augmented(steps.expand(3, 121, 135).contiguous(), "pixelate", level))[:, 0, 0].astype(int)
    assert abs(len(np.unique(rows)) - ceil(z * 121)) <= 1
    assert (np.diff(rows) >= 0).all() and np.abs(rows - np.arange(121)).max() <= ceil(1 / z)
    image = photograph(photo)
    columns = levels_of(augmented(image, "pixelate", level))
    assert {*map(bytes, columns.reshape(-1, 3))} <= {*map(bytes, levels_of(image).reshape(-1, 3))}  # nothing is mixed


@each_photograph
@each_level
def test_quantization_has_a_class_more_than_thresholds(photo: str, level: int) -> None:
    # in uniform steps, where ours are Otsu's
    values = int(by_imgaug("quantization", level).value) + 1
    out = levels_of(augmented(photograph(photo), "quantization", level))
    full = np.unique(levels_of(augmented(ramp(), "quantization", level)))
    assert len(full) == values and np.ptp(np.diff(full)) <= 1
    assert set(np.unique(out)) <= set(full)


@each_photograph
@each_level
def test_color_quantization_has_the_levels_number_of_colors(photo: str, level: int) -> None:
    colors, image = int(by_imgaug("color_quantization", level).value), photograph(photo, 150, 160)
    out = levels_of(augmented(image, "color_quantization", level))
    assert colors // 2 < len(np.unique(out.reshape(-1, 3), axis=0)) <= colors


def line_of(weight: np.ndarray) -> tuple[float, float, float]:
    """A blurred point [H, W]: its standard deviations across its line and along it, in pixels; the angle, degrees."""
    assert weight.sum() == pytest.approx(1, abs=0.05)  # imgaug's are rounded to 8 bits each
    assert np.abs(np.array(ndimage.center_of_mass(weight)) - 20).max() < 0.25  # it spreads to both sides alike
    places = np.indices(weight.shape).reshape(2, -1)
    variances, axes = np.linalg.eigh(np.cov(places, aweights=weight.flatten(), ddof=0))
    across, along = variances.clip(0) ** 0.5
    return across, along, np.degrees(np.arctan2(-axes[0, 1], axes[1, 1])) % 180


def test_motion_blur_is_a_line_somewhat_longer_than_ours_that_grows() -> None:
    # imgaug's kernels are 3, 5, 7, 9 and 13 wide
    point = torch.zeros(3, 41, 41, dtype=torch.float64)
    point[:, 20, 20] = 1
    before = 0.0
    for level in EACH_LEVEL:
        theirs = np.array([line_of(augmented(point, "motion_blur", level, seed)[0].numpy()) for seed in range(40)])
        ours = [
            line_of(distort(point, "motion_blur", level, seeded(s), stretch=False)[0].numpy())[1] for s in range(40)
        ]
        assert theirs[:, 0].max() < 0.6
        along = theirs[:, 1].mean()
        assert before + 0.3 < along and np.mean(ours) < along < np.mean(ours) + 0.95
        before = along
        if level > 1:  # any angle: each sector of 30 degrees comes, about seven times in 40
            assert np.histogram(theirs[:, 2], 6, (0, 180))[0].min() > 0
