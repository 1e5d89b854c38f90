"""What every distortion holds for images of any size and content, alone and in batches; sets of distortions."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from ssl_iqa.data.demo import DEMO_FOLDER
from ssl_iqa.distortions import (
    DISTORTIONS,
    KADIS,
    NAMES,
    DistortionClass,
    distort,
    distort_as,
    distort_batch,
    load_distortions,
    unchanged,
)
from ssl_iqa.distortions.apply import _distort_group
from ssl_iqa.distortions.chosen import classes_from_table
from ssl_iqa.distortions.table import TYPES

EACH_LEVEL = range(1, 6)
RANDOM = (
    *("motion_blur", "color_shift", "white_noise", "white_noise_color_component", "impulse_noise"),
    *("multiplicative_noise", "denoise", "jitter", "non_eccentricity_patch", "color_block"),
)
each_name = pytest.mark.parametrize("name", NAMES)


def few(examples: int) -> settings:
    """The same few examples in every run."""
    return settings(
        max_examples=examples, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Images

CONTENTS = {
    "random colors": lambda h, w, draw: torch.rand(3, h, w, generator=draw, dtype=torch.float64),
    "flat gray": lambda h, w, draw: torch.rand(1, 1, 1, generator=draw, dtype=torch.float64).expand(3, h, w),
    "one color": lambda h, w, draw: torch.rand(3, 1, 1, generator=draw, dtype=torch.float64).expand(3, h, w),
    "black": lambda h, w, draw: torch.zeros(3, h, w, dtype=torch.float64),
    "white": lambda h, w, draw: torch.ones(3, h, w, dtype=torch.float64),
    "0 and 1": lambda h, w, draw: torch.randint(2, (3, h, w), generator=draw).double(),
    "one other pixel": lambda h, w, draw: one_other_pixel(h, w, draw),
    "gradient": lambda h, w, draw: torch.linspace(0, 1, 3 * h * w, dtype=torch.float64).view(h, w, 3).permute(2, 0, 1),
    # about the range, half a step of 8 bits, under which the stretch leaves an image alone
    "nearly equal": lambda h, w, draw: 0.4 + 0.004 * torch.rand(3, h, w, generator=draw, dtype=torch.float64),
    "equal but for rounding": lambda h, w, draw: 0.4 + 1e-7 * torch.rand(3, h, w, generator=draw, dtype=torch.float64),
}


def one_other_pixel(height: int, width: int, draw: torch.Generator) -> Tensor:
    image = torch.full((3, height, width), 0.25, dtype=torch.float64)
    place = torch.randint(height, (1,), generator=draw), torch.randint(width, (1,), generator=draw)
    image[:, place[0], place[1]] = torch.rand(3, 1, generator=draw, dtype=torch.float64)
    return image


sizes = st.one_of(st.sampled_from([(16, 16), (16, 200), (17, 31), (64, 64)]), st.tuples(*[st.integers(16, 90)] * 2))
dtypes = st.sampled_from([torch.float32, torch.float64])
seeds = st.integers(0, 2**31)
contents = st.sampled_from(list(CONTENTS))


def make(content: str, size: tuple[int, int], seed: int, dtype: torch.dtype) -> Tensor:
    return CONTENTS[content](*size, seeded(seed)).to(dtype)


any_image = st.builds(make, contents, sizes, seeds, dtypes)


@st.composite
def batches(draw: st.DrawFn) -> Tensor:
    """Two to four images of one size and dtype, of any contents: [B, 3, H, W]."""
    size, dtype = draw(sizes), draw(dtypes)
    chosen = draw(st.lists(st.tuples(contents, seeds), min_size=2, max_size=4))
    return torch.stack([make(content, size, seed, dtype) for content, seed in chosen])


# One image


@each_name
@few(4)
@given(size=sizes, dtype=dtypes, turn=st.integers(0, 1), seed=seeds)
def test_any_image_gives_a_new_image_of_the_same_kind(
    name: str, size: tuple[int, int], dtype: torch.dtype, turn: int, seed: int
) -> None:
    for i, content in enumerate(CONTENTS):
        image = make(content, size, seed, dtype)
        before = image.clone()
        for level in EACH_LEVEL:
            stretch = (i + level + turn) % 2 == 0
            out = distort(image, name, level, seeded(seed), stretch)
            assert out.shape == image.shape and out.dtype == image.dtype and out.device == image.device
            assert out.isfinite().all() and out.min() >= 0 and out.max() <= 1, content
            assert out.untyped_storage().data_ptr() != image.untyped_storage().data_ptr()
            assert torch.equal(image, before), "the input was changed"


@each_name
@few(6)
@given(image=any_image, level=st.sampled_from(EACH_LEVEL), seed=seeds)
def test_the_same_state_gives_it_again_whatever_was_written_to_it(
    name: str, image: Tensor, level: int, seed: int
) -> None:
    # a result that shared memory with a cache, or with itself, would show it
    first = distort(image, name, level, seeded(seed))
    kept = first.clone()
    first.fill_(0.5)
    assert torch.equal(distort(image, name, level, seeded(seed)), kept)


# Batches


@each_name
@few(8)
@given(batch=batches(), stretch=st.booleans(), seed=seeds)
def test_a_batch_is_each_image_alone(name: str, batch: Tensor, stretch: bool, seed: int) -> None:
    for level in EACH_LEVEL:
        out = distort(batch, name, level, [seeded(seed + i) for i in range(len(batch))], stretch)
        for i, image in enumerate(batch):
            assert torch.equal(out[i], distort(image, name, level, seeded(seed + i), stretch)), (level, i)


@few(40)
@given(data=st.data(), stretch=st.booleans(), seed=seeds, as_list=st.booleans())
def test_a_batch_of_mixed_classes_is_each_image_by_its_own(
    data: st.DataObject, stretch: bool, seed: int, as_list: bool
) -> None:
    images = data.draw(st.lists(any_image, min_size=1, max_size=6) if as_list else batches())  # in a list sizes differ
    before = [image.clone() for image in images]
    classes = data.draw(st.lists(st.integers(0, 124), min_size=len(images), max_size=len(images)))
    out = distort_batch(images, classes, [seeded(seed + i) for i in range(len(images))], stretch=stretch)
    assert type(out) is type(images) and len(out) == len(images)
    for i, (image, one) in enumerate(zip(images, classes, strict=True)):
        assert torch.equal(out[i], distort_as(image, KADIS[one], seeded(seed + i), stretch)), (i, KADIS[one])
        assert torch.equal(image, before[i]), "the input was changed"


@few(10)
@given(data=st.data(), seed=seeds)
def test_a_batch_in_another_order_comes_out_in_that_order(data: st.DataObject, seed: int) -> None:
    images = data.draw(st.lists(any_image, min_size=5, max_size=5))
    classes = data.draw(st.lists(st.integers(0, 124), min_size=5, max_size=5))
    order = data.draw(st.permutations(range(5)))
    straight = distort_batch(images, classes, [seeded(seed + i) for i in range(5)])
    mixed = distort_batch([images[i] for i in order], [classes[i] for i in order], [seeded(seed + i) for i in order])
    for place, i in enumerate(order):
        assert torch.equal(mixed[place], straight[i])


@few(10)
@given(batch=batches(), one=st.integers(0, 124), seed=seeds)
def test_a_whole_number_seeds_all_draws_of_a_batch(batch: Tensor, one: int, seed: int) -> None:
    classes = torch.tensor([(one + 7 * i) % 125 for i in range(len(batch))])
    state = torch.get_rng_state()
    out = distort_batch(batch, classes, seed)
    assert torch.equal(distort_batch(batch, classes, seed), out)
    assert all(map(torch.equal, distort_batch(list(batch), classes.tolist(), seed), out))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", RANDOM)
def test_with_a_whole_number_seeds_differ_and_images_too(name: str) -> None:
    batch = make("random colors", (40, 48), 0, torch.float32).expand(6, -1, -1, -1)
    classes = [5 * NAMES.index(name) + 4] * 6
    out = [*distort_batch(batch, classes, 1), *distort_batch(batch, classes, 2)]
    assert len({one.numpy().tobytes() for one in out}) > 6  # shifts of whole pixels may come twice


def test_a_set_of_ones_own_counts_its_classes() -> None:
    own = (DistortionClass("jpeg", 1, 10), DistortionClass("mean_shift", 1, 0.3), DistortionClass("jpeg", 2, 5))
    batch = make("random colors", (2 * 16, 24), 0, torch.float64).expand(3, -1, -1, -1)
    out = distort_batch(batch, [1, 2, 0], 5, own, stretch=False)
    torch.testing.assert_close(out[0], (batch[0] + 0.3).clamp(0, 1), rtol=0, atol=1e-15)
    errors = ((out - batch) ** 2).mean(dim=(1, 2, 3))
    assert errors[1] > errors[2]  # quality 5, quality 10
    with pytest.raises(ValueError, match=r"^classes must be 0 .. 2, got 3$"):
        distort_batch(batch, [0, 3, 1], 5, own)
    with pytest.raises(ValueError, match=r"^classes must be 0 .. 2, got -1$"):
        distort_batch(batch, [0, -1, 1], 5, own)


@pytest.mark.parametrize(("classes", "generators"), [(2, 3), (4, 3), (3, 2), (3, 4)])
def test_a_batch_wants_a_class_and_a_generator_for_each_image(classes: int, generators: int) -> None:
    batch = torch.zeros(3, 3, 16, 16)
    message = f"^images, classes and generators must be equally many, got 3, {classes} and {generators}$"
    with pytest.raises(ValueError, match=message):
        distort_batch(batch, [0] * classes, [seeded()] * generators)
    if generators != 3:
        with pytest.raises(ValueError, match=f"^generator must be .* 3 images, got {generators}$"):
            distort(batch, "jpeg", 1, [seeded()] * generators)


# Types whose results jump: what they see, the image after the stretch, is the same to the last bit either way.
JUMPS = ("jpeg", "jpeg2000", "color_quantization", "quantization", "pixelate", "impulse_noise")


@each_name
@few(8)
@given(batch=batches(), stretch=st.booleans(), seed=seeds)
def test_all_at_once_as_on_an_accelerator_is_one_by_one(name: str, batch: Tensor, stretch: bool, seed: int) -> None:
    # Fourier transforms of several images round otherwise, and the second stretch enlarges that, 510 times at most
    atol = {torch.float64: 1e-12, torch.float32: 1e-4 if stretch else 1e-6}[batch.dtype]
    for distortion in KADIS[5 * NAMES.index(name) :][:5]:
        before = batch.clone()
        at_once = _distort_group(batch, distortion, [seeded(seed + i) for i in range(len(batch))], stretch)
        assert torch.equal(batch, before), "the input was changed"
        for i, image in enumerate(batch):
            alone = distort_as(image, distortion, seeded(seed + i), stretch)
            torch.testing.assert_close(at_once[i], alone, rtol=0, atol=0 if name in JUMPS else atol)


@few(25)
@given(data=st.data(), stretch=st.booleans(), seed=seeds, as_list=st.booleans())
def test_groups_of_one_class_and_size_are_each_image_by_itself(
    data: st.DataObject, stretch: bool, seed: int, as_list: bool
) -> None:
    if as_list:  # of two sizes and three classes, so that groups have several images
        shapes = data.draw(st.lists(sizes, min_size=2, max_size=2))
        kinds = data.draw(st.lists(st.tuples(st.sampled_from(shapes), contents, seeds), min_size=5, max_size=7))
        dtype = data.draw(dtypes)
        images = [make(content, size, one, dtype) for size, content, one in kinds]
    else:
        images = data.draw(batches())
    three = data.draw(st.lists(st.integers(0, 124), min_size=3, max_size=3))
    classes = data.draw(st.lists(st.sampled_from(three), min_size=len(images), max_size=len(images)))
    draws = [seeded(seed + i) for i in range(len(images))]
    for i, out in enumerate(distort_batch(images, classes, draws, stretch=stretch)):
        assert torch.equal(out, distort_as(images[i], KADIS[classes[i]], seeded(seed + i), stretch))


# Sets of classes

SAME = [("gaussian_blur", 1), ("motion_blur", 1), ("color_saturation_2", 1), ("mean_shift", 3)]


def photograph(name: str) -> Tensor:
    """The middle of a demo photograph, stretched to its full range: float64 [3, 128, 128]."""
    pixels = np.array(Image.open(DEMO_FOLDER / f"{name}.jpg")) / 255
    top, left = (side // 2 - 64 for side in pixels.shape[:2])
    pixels = pixels[top : top + 128, left : left + 128]
    return torch.from_numpy((pixels - pixels.min()) / (pixels.max() - pixels.min())).permute(2, 0, 1)


def test_unchanged_are_four_classes() -> None:
    assert [(one.name, one.level) for one in unchanged()] == SAME
    own = (DistortionClass("mean_shift", 1, 0.001), DistortionClass("mean_shift", 2, 0.1))
    assert unchanged(own) == [own[0]]


def test_distinct_are_the_other_121_and_all_of_them_show() -> None:
    distinct = load_distortions("distinct")
    assert len(distinct) == 121 and set(distinct) < set(KADIS)
    assert [one for one in KADIS if one not in distinct] == unchanged()
    assert list(distinct) == sorted(distinct, key=KADIS.index)
    images = [photograph(name) for name in ("chelsea", "coffee", "colorfulcups_1")]
    for one in KADIS:
        moved = max((distort_as(image, one, seeded()) - image).abs().max().item() for image in images)
        assert (moved >= 1 / 255) == (one in distinct), one


def test_kadis_is_all_125() -> None:
    assert load_distortions("kadis") == KADIS and len(KADIS) == 125
    expected = [(name, level, value) for name, levels in DISTORTIONS.items() for level, value in enumerate(levels, 1)]
    assert [one[:3] for one in KADIS] == expected
    assert {one.weight for one in KADIS} == {1.0} and {one.library for one in KADIS} == {"ssl_iqa"}


def test_a_file_gives_its_classes_in_the_papers_order(tmp_path: Path) -> None:
    file = tmp_path / "few.toml"
    file.write_text("[pixelate]\nlevels = [0.05, 0.3]\nweight = 0.5\n[jpeg]\nlevels = [30]\n[lens_blur]\nweight = 2\n")
    expected = [
        *(("lens_blur", level, value, 2.0, "ssl_iqa") for level, value in enumerate((1, 2, 4, 6, 8), 1)),
        ("jpeg", 1, 30, 1.0, "ssl_iqa"),
        ("pixelate", 1, 0.05, 0.5, "ssl_iqa"),
        ("pixelate", 2, 0.3, 0.5, "ssl_iqa"),
    ]
    assert [tuple(one) for one in load_distortions(str(file))] == expected


def test_a_file_of_all_types_is_kadis(tmp_path: Path) -> None:
    file = tmp_path / "all.toml"
    file.write_text("".join(f"[{name}]\n" for name in reversed(NAMES)), encoding="utf-8-sig")  # as Windows may save it
    assert load_distortions(str(file)) == KADIS


def test_levels_of_a_file_are_those_of_the_image(tmp_path: Path) -> None:
    file = tmp_path / "shift.toml"
    file.write_text("[mean_shift]\nlevels = [0.25, -0.5]\n")
    image = make("random colors", (20, 30), 0, torch.float64)
    for one, value in zip(load_distortions(str(file)), (0.25, -0.5), strict=True):
        out = distort_as(image, one, stretch=False)
        torch.testing.assert_close(out, (image + value).clamp(0, 1), rtol=0, atol=1e-15)


def test_whole_numbers_may_be_written_with_a_point(tmp_path: Path) -> None:
    file = tmp_path / "points.toml"
    whole = ("color_quantization", "jpeg", "non_eccentricity_patch", "quantization", "color_block")
    file.write_text("".join(f"[{name}]\nlevels = [7.0, 9.0]\n" for name in whole))
    image = make("random colors", (20, 30), 0, torch.float32)
    for one in load_distortions(str(file)):
        assert isinstance(one.value, int)
        distort_as(image, one, seeded())


@each_name
def test_the_least_and_the_largest_level_make_an_image(name: str) -> None:
    low, high = TYPES[name].low, TYPES[name].high
    image = make("random colors", (20, 30), 0, torch.float32)
    for one in classes_from_table({name: {"levels": [low, high]}}, "ends"):
        out = distort_as(image, one, seeded())
        assert out.isfinite().all() and out.min() >= 0 and out.max() <= 1
    with pytest.raises(ValueError, match=f"^ends: {name}: levels must be .*numbers from {low:g} to {high:g}, got"):
        classes_from_table({name: {"levels": [low, high + 1]}}, "ends")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"jpge": {}}, "'jpge' is no distortion type; the nearest name is 'jpeg'"),
        ({"white_nose": {}}, "'white_nose' is no distortion type; the nearest name is 'white_noise'"),
        ({"JPEG2000": {}}, "'JPEG2000' is no distortion type; the nearest name is 'jpeg2000'"),
        ({"": {}, "jpeg": {}}, "'' is no distortion type; the nearest name is "),
        ({"jpeg": {"levels": ["strong", 10]}}, "jpeg: levels must be whole numbers from 1 to 100, got 'strong'"),
        ({"jpeg": {"levels": [True, 10]}}, "jpeg: levels must be whole numbers from 1 to 100, got True"),
        ({"jpeg": {"levels": [None, 10]}}, "jpeg: levels must be whole numbers from 1 to 100, got None"),
        ({"jpeg": {"levels": [[10], 20]}}, "jpeg: levels must be whole numbers from 1 to 100, got [10]"),
        ({"white_noise": {"levels": [math.nan, 0.1]}}, "white_noise: levels must be numbers from 0 to 1, got nan"),
        ({"white_noise": {"levels": [0.1, math.inf]}}, "white_noise: levels must be numbers from 0 to 1, got inf"),
        ({"jpeg": {"levels": [0, 10]}}, "jpeg: levels must be whole numbers from 1 to 100, got 0"),
        ({"jpeg": {"levels": [10, 101]}}, "jpeg: levels must be whole numbers from 1 to 100, got 101"),
        ({"jpeg": {"levels": [10, 20.5]}}, "jpeg: levels must be whole numbers from 1 to 100, got 20.5"),
        ({"white_noise": {"levels": [0.1, -0.1]}}, "white_noise: levels must be numbers from 0 to 1, got -0.1"),
        ({"gaussian_blur": {"levels": [0]}}, "gaussian_blur: levels must be numbers from 0.01 to 100, got 0"),
        ({"jpeg": {"levels": []}}, "jpeg: levels must be a list of whole numbers from 1 to 100, got []"),
        ({"jpeg": {"levels": 10}}, "jpeg: levels must be a list of whole numbers from 1 to 100, got 10"),
        ({"jpeg": {"levels": "10"}}, "jpeg: levels must be a list of whole numbers from 1 to 100, got '10'"),
        (
            {"jpeg": {"levels": [10, 20, 10]}},
            "jpeg: levels must be different, or two classes are the same, got [10, 20, 10]",
        ),
        ({"jpeg": {"weight": 0}}, "jpeg: weight must be a number above 0, got 0"),
        ({"jpeg": {"weight": -1.5}}, "jpeg: weight must be a number above 0, got -1.5"),
        ({"jpeg": {"weight": True}}, "jpeg: weight must be a number above 0, got True"),
        ({"jpeg": {"weight": "often"}}, "jpeg: weight must be a number above 0, got 'often'"),
        ({"jpeg": {"weight": math.nan}}, "jpeg: weight must be a number above 0, got nan"),
        ({"jpeg": {"weight": math.inf}}, "jpeg: weight must be a number above 0, got inf"),
        ({"jpeg": {"level": [10]}}, "jpeg must be a table of levels, weight, library, got {'level': [10]}"),
        ({"jpeg": {"library": "opencv"}}, "jpeg: library must be ssl_iqa or imgaug, got 'opencv'"),
        ({"jpeg": {"library": ["imgaug"]}}, "jpeg: library must be ssl_iqa or imgaug, got ['imgaug']"),
        ({"lens_blur": {"library": "imgaug"}}, "lens_blur must be one of gaussian_blur, "),
        ({"jpeg": [10, 20]}, "jpeg must be a table of levels, weight, library, got [10, 20]"),
        ({"jpeg": None}, "jpeg must be a table of levels, weight, library, got None"),
        ({"jpeg": {"levels": [10]}}, "classes must be two or more, since Eq. 5 tells them apart, got 1"),
        ({}, "classes must be two or more, since Eq. 5 tells them apart, got 0"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        classes_from_table(table, "few.toml")
    assert str(error.value).startswith(f"few.toml: {message}")


def test_the_error_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text("[jpeg]\nlevels = [0, 10]\n")
    with pytest.raises(ValueError) as error:
        load_distortions(str(file))
    assert str(error.value) == f"{file}: jpeg: levels must be whole numbers from 1 to 100, got 0"


@pytest.mark.parametrize(
    "content", [b"[jpeg", b"{jpeg: 1}", b"\xff\xfe\x00", b'{"jpeg": {}', b"[jpeg]\n[jpeg]", b"jpeg"]
)
def test_what_is_no_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "bad.toml"
    file.write_bytes(content)
    with pytest.raises(ValueError) as error:
        load_distortions(str(file))
    assert str(error.value).startswith(f"{file}: not a TOML file (")


@pytest.mark.parametrize("name", ["missing.toml", "kadid", "", "."])
def test_a_file_that_is_not_there_is_named_with_what_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as error:
        load_distortions(name)
    assert str(error.value) == (
        f"{Path(name)}: no such file; distortions must be kadis, distinct, imgaug or a TOML file"
    )
