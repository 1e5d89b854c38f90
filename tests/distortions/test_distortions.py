"""The 25 distortions: what `distort` promises, and the random types' statistics on images where they are known."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ssl_iqa.data.demo import DEMO_FOLDER
from ssl_iqa.distortions import (
    DISTORTIONS,
    KADIS,
    NAMES,
    NUM_CLASSES,
    NUM_LEVELS,
    distort,
    distort_batch,
    distortion_class,
)
from ssl_iqa.distortions.blur import line_kernel
from ssl_iqa.distortions.spatial import non_eccentricity_patch

# The published values of KADIS-700k and KADID-10k, in the order of the paper's Appendix A.
LEVELS = {
    "gaussian_blur": (0.1, 0.5, 1, 2, 5),
    "lens_blur": (1, 2, 4, 6, 8),
    "motion_blur": (1, 2, 4, 6, 10),
    "color_diffusion": (1, 3, 6, 8, 12),
    "color_shift": (1, 3, 6, 8, 12),
    "color_quantization": (64, 48, 32, 16, 8),
    "color_saturation_1": (0.4, 0.2, 0.1, 0, -0.4),
    "color_saturation_2": (1, 2, 3, 6, 9),
    "jpeg2000": (16, 32, 45, 120, 400),
    "jpeg": (43, 36, 24, 7, 4),
    "white_noise": (0.001, 0.002, 0.003, 0.005, 0.01),
    "white_noise_color_component": (0.0001, 0.0005, 0.001, 0.002, 0.003),
    "impulse_noise": (0.001, 0.005, 0.01, 0.02, 0.03),
    "multiplicative_noise": (0.001, 0.005, 0.01, 0.02, 0.05),
    "denoise": (0.01, 0.03, 0.05, 0.1, 0.15),
    "brighten": (0.1, 0.2, 0.4, 0.7, 1.1),
    "darken": (0.05, 0.1, 0.2, 0.4, 0.8),
    "mean_shift": (0.15, 0.08, 0, -0.08, -0.15),
    "jitter": (0.05, 0.1, 0.2, 0.5, 1),
    "non_eccentricity_patch": (20, 40, 60, 80, 100),
    "pixelate": (0.01, 0.05, 0.1, 0.2, 0.5),
    "quantization": (20, 16, 13, 10, 7),
    "color_block": (2, 4, 6, 8, 10),
    "high_sharpen": (1, 2, 3, 6, 12),
    "contrast_change": (0.3, 0.15, 0, -0.4, -0.6),
}
NOISES = ("white_noise", "white_noise_color_component", "impulse_noise", "multiplicative_noise", "denoise")
RANDOM = (*NOISES, "motion_blur", "color_shift", "jitter", "non_eccentricity_patch", "color_block")
DETERMINISTIC = tuple(name for name in LEVELS if name not in RANDOM)
UNCHANGED = (("gaussian_blur", 1), ("motion_blur", 1), ("mean_shift", 3))  # but for the stretch
EACH_LEVEL = range(1, 6)

each_name = pytest.mark.parametrize("name", LEVELS)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def synthetic(height: int, width: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Colored blobs and some grain, in 0.1 .. 0.8: [3, height, width]."""
    generator = seeded(seed)
    blobs = F.interpolate(torch.rand(1, 3, 3, 4, generator=generator), (height, width), mode="bilinear")[0]
    return (0.1 + 0.6 * blobs + 0.1 * torch.rand(3, height, width, generator=generator)).to(dtype)


def photograph(name: str = "chelsea") -> Tensor:
    """The middle of a demo photograph: float64 [3, 128, 128]."""
    pixels = np.array(Image.open(DEMO_FOLDER / f"{name}.jpg"))
    top, left = (side // 2 - 64 for side in pixels.shape[:2])
    return torch.from_numpy(pixels[top : top + 128, left : left + 128] / 255.0).permute(2, 0, 1)


def by_hand_stretched(image: Tensor) -> Tensor:
    return (image - image.min()) / (image.max() - image.min())


def span(image: Tensor) -> float:
    return (image.max() - image.min()).item()


def mse(a: Tensor, b: Tensor) -> float:
    return ((a - b) ** 2).mean().item()


# Types, levels, classes


def test_the_25_types_have_the_published_levels_in_the_papers_order() -> None:
    assert list(DISTORTIONS.items()) == list(LEVELS.items())
    assert tuple(LEVELS) == NAMES and len(NAMES) == 25 and NUM_LEVELS == 5 and NUM_CLASSES == 125


def test_classes_count_five_levels_of_each_type() -> None:
    pairs = [(name, level) for name in LEVELS for level in EACH_LEVEL]
    assert [distortion_class(*pair) for pair in pairs] == list(range(125))
    assert [distortion[:2] for distortion in KADIS] == pairs
    assert distortion_class("lens_blur", np.int64(3)) == 7


@pytest.mark.parametrize("level", [0, 6, -1, 2.5, 2.0, True, "3", None, [1], math.nan])
def test_no_level_but_1_to_5(level: Any) -> None:
    for call in (lambda: distort(synthetic(16, 16), "jpeg", level), lambda: distortion_class("jpeg", level)):
        with pytest.raises(ValueError) as error:
            call()
        assert str(error.value) == f"level must be a whole number 1 .. 5, got {level!r}"


@pytest.mark.parametrize("name", ["blur", "JPEG", "", 3, None, ["jpeg"]])
def test_no_name_but_the_25(name: Any) -> None:
    for call in (lambda: distort(synthetic(16, 16), name, 1), lambda: distortion_class(name, 1)):
        with pytest.raises(ValueError) as error:
            call()
        assert str(error.value) == f"name must be one of {', '.join(LEVELS)}, got {name!r}"


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(16, 16), r"shape \[3, H, W\] or \[B, 3, H, W\] with H and W >= 16, got \[16, 16\]"),
        (torch.zeros(1, 16, 16), r"got \[1, 16, 16\]$"),
        (torch.zeros(16, 16, 3), r"got \[16, 16, 3\]$"),
        (torch.zeros(4, 4, 16, 16), r"got \[4, 4, 16, 16\]$"),
        (torch.zeros(3, 15, 16), r"got \[3, 15, 16\]$"),
        (torch.zeros(3, 16, 15), r"got \[3, 16, 15\]$"),
        (torch.zeros(0, 3, 16, 16), r"got \[0, 3, 16, 16\]$"),
        (torch.zeros(1, 1, 3, 16, 16), r"got \[1, 1, 3, 16, 16\]$"),
        (
            torch.zeros(3, 16, 16, dtype=torch.uint8),
            r"be a float32 or float64 tensor in \[0, 1\], got torch.uint8",
        ),
        (torch.zeros(3, 16, 16, dtype=torch.float16), "got torch.float16"),
        (np.zeros((3, 16, 16)), "got ndarray"),
        (synthetic(16, 16) * 255, r"be in \[0, 1\], got \d.*"),
        (synthetic(16, 16) - 0.5, r"be in \[0, 1\], got -0\.\d+ .. 0\.\d+"),
        (torch.full((3, 16, 16), math.nan), r"be in \[0, 1\], got nan .. nan"),
        (torch.zeros(3, 16, 16).index_fill(1, torch.tensor(3), math.inf), r"got 0 .. inf"),
    ],
)
def test_images_that_are_no_rgb_in_0_to_1_are_refused(image: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^image must .*{message}$"):
        distort(image, "jpeg", 1)


# Every type and level


@each_name
def test_every_level_and_size_gives_an_image_of_the_same_kind(name: str) -> None:
    for dtype in (torch.float32, torch.float64):
        images = [synthetic(*size, dtype=dtype) for size in ((32, 32), (16, 16), (17, 33), (64, 48))]
        images += [torch.zeros(3, 17, 33, dtype=dtype), torch.ones(3, 17, 33, dtype=dtype)]
        for i, image in enumerate(images):
            before = image.clone()
            for level in EACH_LEVEL:
                out = distort(image, name, level, seeded(), stretch=(i + level) % 2 == 0)  # in turns
                assert out.shape == image.shape and out.dtype == dtype
                assert out.isfinite().all() and out.min() >= 0 and out.max() <= 1
                assert torch.equal(image, before), "the input was changed"
                assert out.data_ptr() != image.data_ptr()


def test_images_of_full_size_work() -> None:
    image = synthetic(384, 512)
    for name in LEVELS:
        out = distort(image, name, 4, seeded())
        assert out.shape == image.shape and out.isfinite().all() and span(out) == 1
        assert mse(out, by_hand_stretched(image)) > 1e-5


def test_three_classes_leave_the_image_as_it_was_and_one_nearly() -> None:
    image = synthetic(32, 48)
    for name, level in UNCHANGED:
        torch.testing.assert_close(distort(image, name, level), by_hand_stretched(image), rtol=0, atol=1e-6)
        assert torch.equal(distort(image, name, level, stretch=False), image)
    changed = distort(image, "color_saturation_2", 1, stretch=False)
    torch.testing.assert_close(changed, image, rtol=0, atol=2e-6)


def test_every_other_class_changes_the_image() -> None:
    image = photograph()
    for name in LEVELS:
        for level in EACH_LEVEL:
            if (name, level) not in (*UNCHANGED, ("color_saturation_2", 1)):
                assert mse(distort(image, name, level, seeded()), by_hand_stretched(image)) > 1e-6, (name, level)


# imresize by a scale also moves an image by a part of a pixel, which outweighs a level of pixelate in its squared error
@pytest.mark.parametrize("name", [name for name in LEVELS if name not in ("mean_shift", "contrast_change", "pixelate")])
def test_severity_grows_with_the_level(name: str) -> None:
    image = photograph()
    draws = range(6 if name in RANDOM else 1)
    errors = [
        sum(mse(distort(image, name, level, seeded(s), stretch=False), image) for s in draws) for level in EACH_LEVEL
    ]
    assert errors == sorted(errors)


def test_float32_and_float64_agree() -> None:
    image = synthetic(24, 40, dtype=torch.float64)
    for name in DETERMINISTIC:
        if name not in ("jpeg", "jpeg2000", "color_quantization", "quantization"):  # these jump at thresholds
            for level in EACH_LEVEL:
                out = distort(image.float(), name, level).double()
                torch.testing.assert_close(out, distort(image, name, level), rtol=0, atol=5e-5)


@pytest.mark.parametrize("value", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_flat_gray_stays_flat_and_gray(value: float, dtype: torch.dtype) -> None:
    # rounding errors in the last bit must not be stretched to an image
    image = torch.full((3, 20, 33), value, dtype=dtype)
    other_gray = ("brighten", "darken", "mean_shift", "contrast_change", "quantization", "jpeg", "jpeg2000")
    for name in LEVELS:
        if name not in (*NOISES, "color_block"):
            for level in EACH_LEVEL:
                out = distort(image, name, level, seeded())
                assert span(out) < 1e-3, name
                assert name in other_gray or abs(out.mean().item() - value) < 0.5 / 255 + 1e-6, name


# Stretch


def test_stretch_by_hand() -> None:
    image = synthetic(16, 20, dtype=torch.float64)
    inside = by_hand_stretched(image)
    torch.testing.assert_close(distort(image, "mean_shift", 1), by_hand_stretched((inside + 0.15).clamp(0, 1)))
    torch.testing.assert_close(distort(image, "mean_shift", 1, stretch=False), (image + 0.15).clamp(0, 1))


def test_faint_images_are_stretched_but_not_what_8_bits_do_not_show() -> None:
    image = 0.5 + 0.01 * by_hand_stretched(synthetic(16, 20, dtype=torch.float64))
    torch.testing.assert_close(distort(image, "mean_shift", 3), by_hand_stretched(image))
    flat = 0.5 + (image - 0.5) / 10  # under half a step of 1/255
    assert torch.equal(distort(flat, "mean_shift", 3), flat)


def test_saturation_over_1_is_brought_back_by_the_stretch_and_cut_without() -> None:
    image = synthetic(16, 20, dtype=torch.float64)
    image[:, 0, 0] = torch.tensor([0.9, 0.2, 0.3])
    opposite = image.amax(0) + 0.4 * (image.amax(0) - image)  # S * -0.4
    assert opposite.max() > 1
    torch.testing.assert_close(
        distort(image, "color_saturation_1", 5, stretch=False), opposite.clamp(0, 1), rtol=0, atol=1e-12
    )
    inside = by_hand_stretched(image)
    opposite = inside.amax(0) + 0.4 * (inside.amax(0) - inside)
    torch.testing.assert_close(distort(image, "color_saturation_1", 5), by_hand_stretched(opposite), rtol=0, atol=1e-12)


# Batches, generators, memory layouts


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_a_batch_is_each_image_alone(name: str) -> None:
    batch = torch.stack([synthetic(33, 40, 1), 0.3 + 0.2 * synthetic(33, 40, 2), torch.full((3, 33, 40), 0.25)])
    for level in (1, 3, 5):
        for stretch in (True, False):
            out = distort(batch, name, level, stretch=stretch)
            alone = torch.stack([distort(image, name, level, stretch=stretch) for image in batch])
            assert torch.equal(out, alone)


@pytest.mark.parametrize("as_list", [False, True])
def test_a_batch_of_mixed_classes_comes_out_in_its_order(as_list: bool) -> None:
    classes = [*range(0, 125, 6), 60, 60, 54]
    batch = torch.stack([synthetic(33, 40, i) for i in range(len(classes))])
    images = [image if i % 3 else image[:, :20] for i, image in enumerate(batch)] if as_list else batch
    before = [image.clone() for image in images]
    generators = [seeded(i) for i in range(len(classes))]
    out = distort_batch(images, classes, generators)
    assert isinstance(out, list) == as_list and len(out) == len(classes)
    for i, image in enumerate(images):
        assert torch.equal(out[i], distort(image, *KADIS[classes[i]][:2], seeded(i)))
        assert torch.equal(image, before[i])


def test_a_seed_stands_for_a_generator_an_image() -> None:
    batch, noise = synthetic(20, 20).expand(3, 3, 20, 20), [54, 54, 54]
    first, again, other = (distort_batch(batch, noise, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other) and not torch.equal(first[0], first[1])


@pytest.mark.parametrize(
    ("images", "classes", "generators", "message"),
    [
        (torch.zeros(2, 3, 20, 20), [0], 0, "must be equally many, got 2, 1 and 2"),
        (torch.zeros(1, 3, 20, 20), [0], [seeded(), seeded()], "got 1, 1 and 2"),
        (torch.zeros(2, 3, 20, 20), [0, 125], 0, "classes must be 0 .. 124, got 125"),
        (torch.zeros(1, 3, 20, 20), [-1], 0, "got -1"),
        ([torch.zeros(3, 20, 20), torch.full((3, 15, 20), 0.5)], [0, 0], 0, "H and W >= 16, got"),
        ([torch.full((3, 20, 20), math.nan)], [0], 0, "got nan .. nan"),
    ],
)
def test_batches_that_make_no_sense_are_refused(images: Any, classes: Any, generators: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        distort_batch(images, classes, generators)


def test_generators_are_one_or_one_an_image() -> None:
    with pytest.raises(ValueError, match="generator must be one, or one for each of 3 images, got 2"):
        distort(torch.zeros(3, 3, 20, 20), "jitter", 1, [seeded(), seeded()])


@pytest.mark.parametrize("name", RANDOM)
def test_every_image_of_a_batch_has_its_own_draws(name: str) -> None:
    image = synthetic(32, 40)
    out = distort(image.expand(8, 3, 32, 40), name, 5, seeded())
    assert len({x_d.numpy().tobytes() for x_d in out}) > 4  # shifts of whole pixels may come twice


@each_name
def test_the_same_state_gives_the_same_image(name: str) -> None:
    image = synthetic(32, 40)
    for level in EACH_LEVEL:
        assert torch.equal(distort(image, name, level, seeded(3)), distort(image, name, level, seeded(3)))
    assert torch.equal(distort(image, name, 5, seeded(3)), distort(image, name, 5, seeded(4))) == (name not in RANDOM)


@each_name
def test_a_generator_is_the_only_source_of_draws(name: str) -> None:
    before = torch.get_rng_state()
    distort(synthetic(32, 40), name, 5, seeded())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", RANDOM)
def test_without_a_generator_torchs_seed_rules(name: str) -> None:
    def drawn(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return distort(synthetic(32, 40), name, 5)

    with torch.random.fork_rng():
        assert torch.equal(drawn(1), drawn(1)) and not torch.equal(drawn(1), drawn(2))


@pytest.mark.parametrize(
    "strided",
    [
        lambda x: x.transpose(2, 3),
        lambda x: x.flip(1).contiguous(memory_format=torch.channels_last),
        lambda x: x[:, :, ::2, 1::2],
        lambda x: x[:1].expand(2, -1, -1, -1),
        lambda x: x.permute(1, 0, 2, 3)[0, :, :, :].expand(3, -1, -1, -1).transpose(0, 1),
    ],
)
def test_memory_layout_does_not_matter(strided: Callable[[Tensor], Tensor]) -> None:
    image = strided(torch.stack([synthetic(48, 64, 1), synthetic(48, 64, 2)]))
    packed = image.clone(memory_format=torch.contiguous_format)
    for name in LEVELS:
        for stretch in (True, False):
            out = distort(image, name, 4, seeded(), stretch)
            torch.testing.assert_close(out, distort(packed, name, 4, seeded(), stretch), rtol=0, atol=1e-5)
    assert torch.equal(image, packed)


# Noises. Tolerances are standard errors of the estimators: that of a variance v from n normal draws is v * sqrt(2 / n).


@pytest.mark.parametrize("level", EACH_LEVEL)
def test_white_noise_has_its_variance_in_every_channel(level: int) -> None:
    variance, n = LEVELS["white_noise"][level - 1], 256 * 256
    noise = (distort(torch.full((3, 256, 256), 0.5), "white_noise", level, seeded(), stretch=False) - 0.5).flatten(1)
    assert (noise.var(dim=1) - variance).abs().max() < 3 * variance * math.sqrt(2 / n)
    assert noise.mean(dim=1).abs().max() < 3 * math.sqrt(variance / n)
    assert (torch.corrcoef(noise) - torch.eye(3)).abs().max() < 4 / math.sqrt(n)
    assert abs((noise.abs() < math.sqrt(variance)).double().mean().item() - 0.6827) < 0.005  # normal


def test_white_noise_is_truncated() -> None:
    black = distort(torch.zeros(3, 64, 64), "white_noise", 5, seeded(), stretch=False)
    assert (black == 0).double().mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("level", EACH_LEVEL)
def test_color_component_noise_has_its_variance_in_studio_range_ycbcr(level: int) -> None:
    variance, n = LEVELS["white_noise_color_component"][level - 1], 256 * 256
    out = distort(torch.full((3, 256, 256), 0.5), "white_noise_color_component", level, seeded(1), stretch=False)
    r, g, b = out.double().flatten(1)
    y = (16 + 65.481 * r + 128.553 * g + 24.966 * b) / 255  # BT.601
    cb = (128 - 37.797 * r - 74.203 * g + 112 * b) / 255
    cr = (128 + 112 * r - 93.786 * g - 18.214 * b) / 255
    noise = torch.stack((y, cb, cr)) - torch.tensor([[(16 + 219 / 2) / 255], [128 / 255], [128 / 255]])
    assert (noise.var(dim=1) - variance).abs().max() < 3 * variance * math.sqrt(2 / n)
    assert noise.mean(dim=1).abs().max() < 3 * math.sqrt(variance / n)
    assert (torch.corrcoef(noise) - torch.eye(3)).abs().max() < 4 / math.sqrt(n)


@pytest.mark.parametrize("level", EACH_LEVEL)
def test_impulses_have_their_density_half_salt_half_pepper_sample_by_sample(level: int) -> None:
    density, n = LEVELS["impulse_noise"][level - 1], 3 * 256 * 256
    image = 0.2 + 0.6 * synthetic(256, 256)
    out = distort(image, "impulse_noise", level, seeded(), stretch=False)
    for value in (0, 1):
        share = (out == value).double().mean().item()
        assert abs(share - density / 2) < 3 * math.sqrt(density / 2 / n)
    hit = out != image
    assert ((out == 0) | (out == 1))[hit].all()
    # channels are hit apart from one another: a pixel is hit twice about as often as density^2 has it
    assert (hit.sum(dim=0) >= 2).double().mean() < 5 * density**2 + 1e-4


@pytest.mark.parametrize("level", EACH_LEVEL)
def test_speckle_is_uniform_with_its_variance_and_grows_with_the_intensity(level: int) -> None:
    variance, n = LEVELS["multiplicative_noise"][level - 1], 256 * 256
    image = torch.tensor([0.0, 0.25, 0.5], dtype=torch.float64)[:, None, None].expand(3, 256, 256)
    out = distort(image, "multiplicative_noise", level, seeded(), stretch=False)
    assert (out[0] == 0).all()
    speckle = (out[1:] / image[1:] - 1).flatten(1)
    # of a uniform the fourth moment is 9/5 v^2, so that the variance's standard error is v * sqrt(0.8 / n)
    assert (speckle.var(dim=1) - variance).abs().max() < 3 * variance * math.sqrt(0.8 / n)
    assert speckle.mean(dim=1).abs().max() < 3 * math.sqrt(variance / n)
    assert 0.999 * math.sqrt(3 * variance) < speckle.abs().max() <= math.sqrt(3 * variance) * (1 + 1e-12)


@pytest.mark.parametrize(("name", "least_gain"), [("astronaut", 4.5), ("chelsea", 7), ("colorfulcups_1", 8)])
def test_denoising_takes_most_of_the_noise_and_keeps_the_mean(name: str, least_gain: float) -> None:
    image = photograph(name)
    for level in EACH_LEVEL:
        noise = np.random.default_rng(level).normal(size=image.shape) * math.sqrt(LEVELS["denoise"][level - 1])
        noisy = (image + torch.from_numpy(noise)).clamp(0, 1)
        out = distort(image, "denoise", level, seeded(), stretch=False)
        assert 10 * math.log10(mse(noisy, image) / mse(out, image)) > least_gain  # dB
        # the truncation of the noise moves the mean, the denoiser must not
        assert (out.mean(dim=(1, 2)) - noisy.mean(dim=(1, 2))).abs().max() < 0.01


# Motion blur


def matlab_line(length: float, angle: float) -> Tensor:
    """fspecial('motion') as its code has it, pixel by pixel."""
    half = (length - 1) / 2
    reach = math.ceil(half)
    kernel = torch.zeros(2 * reach + 1, 2 * reach + 1, dtype=torch.float64)
    for row in range(-reach, reach + 1):
        for x in range(-reach, reach + 1):
            y = -row
            to_line = y * math.cos(angle) - x * math.sin(angle)
            beyond = half - abs(x * math.cos(angle) + y * math.sin(angle)) if math.hypot(x, y) >= half else 0
            kernel[row + reach, x + reach] = max(0, 1 - math.hypot(to_line, beyond))
    return kernel / kernel.sum()


def test_motion_kernel_of_matlabs_documentation() -> None:
    # fspecial('motion', 3, 45), as printed in MATLAB Answers 307822
    expected = [[0, 0.0754, 0.1883], [0.0754, 0.3215, 0.0754], [0.1883, 0.0754, 0]]
    kernel = line_kernel(3, torch.tensor([math.pi / 4], dtype=torch.float64))
    torch.testing.assert_close(kernel[0], torch.tensor(expected, dtype=torch.float64), rtol=0, atol=5e-5)


@pytest.mark.parametrize("length", LEVELS["motion_blur"])
def test_motion_kernel_is_matlabs(length: float) -> None:
    angles = torch.linspace(0, math.pi, 37, dtype=torch.float64)
    kernels = line_kernel(length, angles)
    for kernel, angle in zip(kernels, angles.tolist(), strict=True):
        torch.testing.assert_close(kernel, matlab_line(length, angle), rtol=0, atol=1e-12)


def test_motion_kernel_lies_along_its_angle() -> None:
    kernels = line_kernel(6, torch.tensor([0, 90, 45], dtype=torch.float64).deg2rad())
    # a line of 6 pixels: five whole ones and half of one at each end
    line = torch.tensor([0.5, 1, 1, 1, 1, 1, 0.5], dtype=torch.float64) / 6
    torch.testing.assert_close(kernels[0, 3], line, rtol=0, atol=1e-12)
    torch.testing.assert_close(kernels[1, :, 3], line, rtol=0, atol=1e-12)
    assert kernels[0, :3].max() < 1e-12 and kernels[1, :, :3].max() < 1e-12
    assert kernels[2, 5, 1] > 0.1 and kernels[2, 1, 5] > 0.1 and kernels[2, 1, 1] == 0  # anti-clockwise
    assert torch.equal(line_kernel(1, torch.tensor([1.0])), torch.ones(1, 1, 1))


def test_motion_blur_spreads_a_point_along_a_line_at_an_angle_uniform_in_0_to_180_degrees() -> None:
    count = 1500
    points = torch.zeros(count, 3, 17, 17, dtype=torch.float64)
    points[:, :, 8, 8] = 1
    out = distort(points, "motion_blur", 5, seeded(), stretch=False)
    assert torch.equal(out[:, 0], out[:, 1]) and torch.equal(out[:, 0], out[:, 2])
    torch.testing.assert_close(out.sum(dim=(2, 3)), torch.ones(count, 3, dtype=torch.float64))
    offset = torch.arange(-8, 9, dtype=torch.float64)
    xx, yy = (out[:, 0] * offset**2).sum((1, 2)), (out[:, 0] * offset[:, None] ** 2).sum((1, 2))
    xy = -(out[:, 0] * offset[:, None] * offset).sum((1, 2))  # y upwards
    angle = torch.atan2(2 * xy, xx - yy) / 2  # of the line, -90 .. 90 degrees
    # in twelve sectors of 15 degrees: standard deviation sqrt(n p (1-p))
    counts = torch.histc(angle, 12, -math.pi / 2, math.pi / 2)
    assert (counts - count / 12).abs().max() < 3.5 * math.sqrt(count / 12 * 11 / 12)
    torch.testing.assert_close(out[0, 0, 3:14, 3:14], matlab_line(10, angle[0].item()), rtol=0, atol=5e-3)


# Color shift


@pytest.mark.parametrize("level", EACH_LEVEL)
def test_color_shift_moves_green_right_and_down_under_one_mask(level: int) -> None:
    distance, (h, w) = LEVELS["color_shift"][level - 1], (40, 52)
    image = torch.rand(3, h, w, generator=seeded(), dtype=torch.float64)
    green = image[1].numpy()
    angles = np.linspace(0, np.pi / 2, 2001)
    expected = {(round(distance * np.sin(a)), round(distance * np.cos(a))) for a in angles}
    found, masks = set(), []
    for seed in range(12):
        out = distort(image, "color_shift", level, seeded(seed), stretch=False)
        assert torch.equal(out[[0, 2]], image[[0, 2]])
        fitting = []
        for down in range(distance + 1):
            for right in range(distance + 1):
                moved = np.pad(green, ((down, 0), (right, 0)), mode="edge")[:h, :w]  # nothing wraps around
                differs = np.abs(moved - green) > 0.01
                mask = np.full((h, w), np.nan)
                mask[differs] = (out[1].numpy() - green)[differs] / (moved - green)[differs]
                if differs.any() and np.nanmin(mask) > -1e-9 and np.nanmax(mask) < 1 + 1e-9:
                    fitting.append((down, right))
                    masks.append(mask)
        assert len(fitting) == 1
        found.update(fitting)
    assert found <= expected and len(found) > 1
    assert any(down > 0 for down, _ in found) and any(right > 0 for _, right in found)
    together = np.stack(masks)  # the blend is the same whatever the shift
    together = together[:, ~np.isnan(together).all(axis=0)]
    assert (np.nanmax(together, axis=0) - np.nanmin(together, axis=0)).max() < 1e-9
    assert np.nanmin(together) < 0.05 and np.nanmax(together) > 0.95


# Jitter, patches, blocks


def test_jitter_moves_pixels_five_times_by_its_level_in_x_and_y() -> None:
    size, level = 256, 0.05
    ramp = torch.linspace(0, 1, size, dtype=torch.float64).expand(size, size)
    out = distort(torch.stack((ramp, ramp.T, ramp)), "jitter", 1, seeded(), stretch=False)
    moved = ((out - torch.stack((ramp, ramp.T, ramp)))[:, 8:-8, 8:-8] * (size - 1)).flatten(1)  # in pixels
    torch.testing.assert_close(out[0], out[2])  # channels move together
    # five independent moves; interpolating between moved pixels takes a little (4.5 level^2 of each, in x and in y)
    variance = moved[:2].var(dim=1)
    assert (variance > 4.7 * level**2).all() and (variance < 5 * level**2).all()
    assert moved.mean(dim=1).abs().max() < 0.002 and abs(torch.corrcoef(moved[:2])[0, 1]) < 0.02


@pytest.mark.parametrize("level", EACH_LEVEL)
def test_jitter_grows_with_its_level(level: int) -> None:
    size, sigma = 256, LEVELS["jitter"][level - 1]
    ramp = torch.linspace(0, 1, size, dtype=torch.float64).expand(3, size, size)
    moved = (distort(ramp, "jitter", level, seeded(), stretch=False) - ramp)[:, 8:-8, 8:-8] * (size - 1)
    # the last move counts in full, those before it are smoothed by interpolation, at whole pixels most
    assert 2.5 < moved.var().item() / sigma**2 < 5


def coordinates(size: int) -> Tensor:
    """An image that tells where each of its pixels is: column, row, 0; in steps of 1/255."""
    steps = torch.arange(size, dtype=torch.float64).expand(size, size) / 255
    return torch.stack((steps, steps.T, torch.zeros_like(steps)))


def moves_of(out: Tensor) -> Tensor:
    """How far each pixel of a distorted `coordinates` came: [2, size, size], x and y."""
    return ((out - coordinates(out.shape[1]))[:2] * 255).round().long()


def test_one_patch_of_16_moves_up_to_8_pixels_each_way() -> None:
    image = coordinates(64)
    steps = []
    for seed in range(400):
        move = moves_of(non_eccentricity_patch(image[None], 1, seeded(seed))[0])
        changed = (move != 0).any(dim=0)
        if changed.any():
            rows, columns = changed.nonzero().unbind(1)
            top, left = rows.min(), columns.min()
            patch = move[:, top : top + 16, left : left + 16]
            assert (patch == patch[:, :1, :1]).all() and changed.sum() == 256
            steps.append(patch[:, 0, 0])
    steps = torch.stack(steps)  # x, y
    assert steps.min(dim=0).values.tolist() == [-8, -8] and steps.max(dim=0).values.tolist() == [8, 8]
    assert abs(torch.corrcoef(steps.T.double())[0, 1]) < 0.2  # x and y are drawn apart


def test_moves_of_8_pixels_are_half_as_likely_as_the_others() -> None:
    steps, count = [], 300
    for seed in range(count):
        moves = moves_of(non_eccentricity_patch(coordinates(128)[None], 1, seeded(seed))[0])
        where = (moves != 0).any(dim=0).nonzero().tolist()
        steps += moves[:, where[0][0], where[0][1]].tolist() if where else [0, 0]
    shares = np.bincount(np.array(steps) + 8, minlength=17) / (2 * count)
    expected = np.array([1 / 32, *[1 / 16] * 15, 1 / 32])
    assert (np.abs(shares - expected) < 4 * np.sqrt(expected / (2 * count))).all()
    assert shares[[0, 16]].mean() < 0.045


@pytest.mark.parametrize(("side", "size"), [(16, 4), (21, 5), (32, 8), (48, 12), (63, 15)])
def test_patches_shrink_with_the_image(side: int, size: int) -> None:
    places = set()
    for seed in range(100):
        moves = moves_of(non_eccentricity_patch(coordinates(side)[None], 1, seeded(seed))[0])
        changed = (moves != 0).any(dim=0)
        if changed.any():
            top, left = changed.nonzero().min(dim=0).values.tolist()
            assert changed.sum() == size**2 and changed[top : top + size, left : left + size].all()
            assert (moves.flatten(1).abs().amax(dim=1) <= (size + 1) // 2).all()
            places.add((top, left))
    assert len(places) > 40  # not all in one place


@pytest.mark.parametrize("level", EACH_LEVEL)
def test_patches_are_as_many_as_the_level_says(level: int) -> None:
    patches, inside = LEVELS["non_eccentricity_patch"][level - 1], 224**2  # where patches may end, nearly
    changed = moves_of(distort(coordinates(256), "non_eccentricity_patch", level, seeded(), stretch=False)).any(dim=0)
    # each covers 256 pixels; about 1 in 256 does not move, some overlap
    assert 0.9 * (1 - (1 - 256 / inside) ** patches) < changed.sum().item() / inside <= patches * 256 / inside


def test_patches_are_copied_one_after_another() -> None:
    moves = moves_of(distort(coordinates(48), "non_eccentricity_patch", 5, seeded(), stretch=False))
    assert moves.abs().max() > 8


@pytest.mark.parametrize("level", EACH_LEVEL)
def test_color_blocks_are_squares_of_32_in_one_color_each(level: int) -> None:
    blocks, size = LEVELS["color_block"][level - 1], 400
    image = torch.full((3, size, size), 0.5, dtype=torch.float64)
    out = distort(image, "color_block", level, seeded(level), stretch=False)
    colors, counts = out.flatten(1).unique(dim=1, return_counts=True)
    is_block = (colors != 0.5).any(dim=0)
    assert is_block.sum() == blocks and counts[is_block].max() == 32 * 32
    for color in colors[:, is_block].T:
        rows, columns = (out == color[:, None, None]).all(dim=0).nonzero().unbind(1)
        assert rows.max() - rows.min() <= 31 and columns.max() - columns.min() <= 31
        assert len(color.unique()) == 3  # not a gray


def test_color_blocks_lie_anywhere_in_any_color() -> None:
    image = torch.full((200, 3, 64, 96), 0.5, dtype=torch.float64)
    out = distort(image, "color_block", 5, seeded(), stretch=False)
    hit = (out != 0.5).any(dim=1).any(dim=0)
    assert hit.any(dim=0).all() and hit.any(dim=1).all()
    assert (out == 0.5).all(dim=1).flatten(1).any(dim=1).all()  # never all of an image
    colors = out[:, :, ::8, ::8].transpose(0, 1).flatten(1).unique(dim=1)
    assert colors.min() < 0.01 and colors.max() > 0.99
    assert (colors.mean(dim=1) - 0.5).abs().max() < 0.03


@pytest.mark.parametrize(("height", "width", "side"), [(16, 16, 8), (17, 33, 8), (48, 200, 24), (64, 64, 32)])
def test_color_blocks_shrink_with_the_image(height: int, width: int, side: int) -> None:
    out = distort(torch.full((50, 3, height, width), 0.5), "color_block", 1, seeded(), stretch=False)
    for one in out:
        assert (one != 0.5).any(dim=0).any(dim=1).sum() <= 2 * side
        assert side * side in one.flatten(1).unique(dim=1, return_counts=True)[1]  # the last one is whole
