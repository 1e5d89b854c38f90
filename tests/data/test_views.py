"""Views, and what happens to files that cannot be read."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ssl_iqa.data import datasets, views
from ssl_iqa.data import labeled as labeled_module
from ssl_iqa.data.datasets import (
    LabeledCrops,
    UnlabeledViews,
    collate_crops,
    collate_views,
    distorted_views,
    finish_views,
    first_readable,
    labeled_image,
)
from ssl_iqa.data.demo import LONG_SIDE
from ssl_iqa.data.images import read_image, reduced
from ssl_iqa.data.in_order import image_batches, make_all
from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.data.samplers import Draw
from ssl_iqa.data.sets import load_labeled
from ssl_iqa.data.views import pad_to, random_view
from ssl_iqa.distortions import KADIS, NUM_CLASSES, DistortionClass, distort, distort_as


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(height: int, width: int) -> Tensor:
    """[1, H, W], every pixel another number."""
    return torch.arange(height * width, dtype=torch.float32).view(1, height, width)


def places(view: Tensor, image: Tensor) -> int:
    """How many crops of `image` are the same as `view`, pixel by pixel."""
    size = view.shape[-1]
    crops = image.unfold(1, size, 1).unfold(2, size, 1)  # [C, rows, columns, size, size]
    return int((crops == view[:, None, None]).all(dim=4).all(dim=3).all(dim=0).sum())


def sorted_paths(folder: Path) -> list[str]:
    return sorted(map(str, folder.iterdir()))


# --- one image ---


def test_random_view_is_each_crop_and_flip_equally_often() -> None:
    image, generator, draws = numbered(4, 5), seeded(), 4800
    crops = {
        tuple(crop.flip(dims).flatten().tolist())
        for top in range(2)
        for left in range(3)
        for crop in [image[:, top : top + 3, left : left + 3]]
        for dims in ([], [1], [2], [1, 2])
    }
    counts = Counter(tuple(random_view(image, 3, generator).flatten().tolist()) for _ in range(draws))
    assert counts.keys() == crops and len(crops) == 24
    assert all(130 < count < 280 for count in counts.values())  # 200 +- 14


@pytest.mark.parametrize(("height", "width", "size"), [(3, 4, 8), (5, 20, 7), (2, 1, 9), (4, 4, 3), (1, 1, 2)])
def test_pad_to_reflects_as_numpy_does(height: int, width: int, size: int) -> None:
    image = numbered(height, width)
    below, right = max(size - height, 0), max(size - width, 0)
    expected = np.pad(image.numpy(), ((0, 0), (0, below), (0, right)), mode="reflect")
    np.testing.assert_array_equal(pad_to(image, size).numpy(), expected)


def test_a_view_of_a_small_image_is_of_its_reflection() -> None:
    assert random_view(numbered(3, 3), 5, seeded()).shape == (1, 5, 5)


def test_five_crops_are_corners_and_center() -> None:
    image = numbered(7, 10)
    crops = views.test_crops(image, "five", 4)
    at = [(1, 3), (0, 0), (0, 6), (3, 0), (3, 6)]
    assert [crop[0, 0, 0].item() for crop in crops] == [10 * top + left for top, left in at]
    for crop, (top, left) in zip(crops, at, strict=True):
        assert torch.equal(crop, image[:, top : top + 4, left : left + 4])


def test_center_is_the_first_of_five_and_full_the_whole_image() -> None:
    image = numbered(40, 50)
    torch.testing.assert_close(views.test_crops(image, "center", 32), views.test_crops(image, "five", 32)[:1])
    torch.testing.assert_close(views.test_crops(image, "full", 4), image[None])
    assert views.test_crops(numbered(20, 50), "full", 4).shape == (1, 1, 32, 50)  # what the encoder takes


def test_bytes_and_floats_become_each_other() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    np.testing.assert_allclose(views.to_float(levels), np.arange(256) / 255, atol=1e-7)
    assert torch.equal(views.to_bytes(views.to_float(levels)), levels)
    floats = torch.rand(5)
    assert views.to_float(floats) is floats


@pytest.mark.parametrize("long_side", [0, 32])
def test_what_is_trained_on_is_rounded_to_8_bits_before_it_is_cropped(photographs: Path, long_side: int) -> None:
    path = sorted_paths(photographs)[3]
    for one in (3, 52, 78, 92):  # blur, noise, a curve, jitter: floats all of them
        draw = Draw(0, 7, one)
        image = reduced(read_image(path), long_side)
        x_d = distort_as(views.to_float(image), KADIS[one], seeded(7)).numpy()
        assert np.abs(255 * x_d - (255 * x_d).round()).max() > 0.3
        dataset = UnlabeledViews([path], 24, long_side=long_side)
        on_device = distorted_views(image[None], [draw], dataset)[:, 0]
        rounded = torch.from_numpy((255 * x_d).round()).to(torch.uint8)
        for view in (*dataset[draw][0], *on_device):
            assert any(places(view.flip(dims), rounded) for dims in ((), (1,), (2,), (1, 2)))


def test_beside_a_distorted_view_stands_the_pristine_one_of_its_place(photographs: Path) -> None:
    path = sorted_paths(photographs)[3]
    dataset, image = UnlabeledViews([path], 24, with_pristine=True), read_image(path)

    def found(view: Tensor, image: Tensor) -> list[tuple]:
        crops = image.unfold(1, 24, 1).unfold(2, 24, 1)
        equal = [(crops == view.flip(dims)[:, None, None]).all(4).all(3).all(0) for dims in ((), (1,), (2,), (1, 2))]
        return torch.stack(equal).nonzero().tolist()

    for seed in range(3):
        draw = Draw(0, seed, 52)  # white noise
        x_d = views.to_bytes(distort_as(views.to_float(image), KADIS[52], seeded(seed)))
        for first, second in (dataset[draw][0], distorted_views(image[None], [draw], dataset)[:, 0]):
            (place,) = found(first, x_d)
            assert found(second, image) == [place]


def test_an_image_of_the_demo_is_its_photograph_in_its_class_and_always_the_same() -> None:
    demo = load_labeled("demo", LONG_SIDE)
    index = 125 * 3 + 52  # white noise, level 3: the random one
    name, level = KADIS[52][:2]
    photograph = read_image(demo.paths[index]).double() / 255
    small = ((photograph * 255).view(3, 144, 2, 192, 2).mean(dim=(2, 4)).round() / 255).float()
    assert name == "white_noise"
    expected = (distort(small, name, level, seeded(index)) * 255).round()
    assert torch.equal(demo.read(index).float(), expected)
    assert torch.equal(demo.read(index), demo.read(index))
    assert not torch.equal(demo.read(index), demo.read(index + 1))


def test_the_demos_labeled_images_are_made_once_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    demo = load_labeled("demo", LONG_SIDE)
    make_all(demo, [50, 7], workers=0)
    assert list(demo.kept) == [50, 7] and load_labeled("demo").kept == {}
    expected = [load_labeled("demo", LONG_SIDE).read(index) for index in (50, 7)]
    monkeypatch.setattr(labeled_module, "read_image", None)
    assert all(torch.equal(labeled_image(demo, index), image) for index, image in zip((50, 7), expected, strict=True))
    (batch,) = image_batches(demo, [7, 50], workers=2)
    assert [index for index, _ in batch] == [7, 50] and torch.equal(batch[0][1], expected[1])


def test_images_of_other_sets_are_not_kept_but_read_in_order(scored: Path) -> None:
    labeled = load_labeled(f"csv:{scored}")
    indices = list(range(39, 5, -1))
    make_all(labeled, indices, workers=0)
    assert labeled.kept == {}
    batches = list(image_batches(labeled, indices, workers=0))
    assert [index for batch in batches for index, _ in batch] == indices
    assert all(torch.equal(image, read_image(labeled.paths[index])) for batch in batches for index, image in batch)


# --- two views of one distorted image ---


@pytest.fixture
def distorted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, DistortionClass, Tensor]]:
    """Gathers every call of `distort_as`: (image, class, distorted image)."""
    calls = []

    def record(image: Tensor, distortion: DistortionClass, generator: torch.Generator) -> Tensor:
        calls.append((image, distortion, distort_as(image, distortion, generator)))
        return calls[-1][-1]

    monkeypatch.setattr(datasets, "distort_as", record)
    return calls


@pytest.mark.parametrize("distortion_class", [3, 52, 93])  # blur; noise, which is another for every call; jitter
def test_both_views_are_crops_and_flips_of_one_distorted_image(
    photographs: Path, distorted: list[tuple[Tensor, DistortionClass, Tensor]], distortion_class: int
) -> None:
    paths = sorted_paths(photographs)
    dataset = UnlabeledViews(paths, size=32)
    found = set()
    for seed in range(12):
        distorted.clear()
        draw = Draw(4, seed, distortion_class)
        pair, same_draw, skipped = dataset[draw]
        ((x_u, distortion, x_d),) = distorted  # one call
        assert torch.equal(x_u, views.to_float(read_image(paths[4])))  # of the whole image, before it is cropped
        assert distortion is KADIS[distortion_class]
        x_d = (x_d * 255).round().to(torch.uint8)
        assert pair.shape == (2, 3, 32, 32) and same_draw is draw and skipped == []
        for view in pair:
            flips = [dims for dims in ((), (1,), (2,), (1, 2)) if places(view.flip(dims), x_d)]
            assert len(flips) == 1
            found.add(flips[0])
        assert not torch.equal(*pair)
    assert len(found) == 4  # no flip, upside down, mirrored, both


def test_a_draw_is_the_same_views_every_time_and_another_seed_others(photographs: Path) -> None:
    dataset = UnlabeledViews(sorted_paths(photographs), size=32)
    first, again, other = (dataset[Draw(0, seed, 52)][0] for seed in (5, 5, 6))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_all_125_classes_can_be_drawn(photographs: Path) -> None:
    dataset = UnlabeledViews(sorted_paths(photographs), size=32)
    for distortion_class in range(NUM_CLASSES):
        pair, *_ = dataset[Draw(distortion_class % 10, distortion_class, distortion_class)]
        assert pair.shape == (2, 3, 32, 32) and pair.dtype == torch.uint8


# --- files that cannot be read ---


@pytest.mark.parametrize(("start", "wanted", "skipped"), [(4, 4, []), (5, 5, []), (2, 4, [2, 3]), (0, 4, [0, 1, 2, 3])])
def test_the_next_readable_image_takes_the_place(
    damaged: list[str], start: int, wanted: int, skipped: list[int]
) -> None:
    index, image, paths = first_readable(UnlabeledViews(damaged, 32).read, damaged, start)
    assert index == wanted and torch.equal(image, read_image(damaged[wanted]))
    assert paths == [damaged[i] for i in skipped]


def test_after_the_last_image_comes_the_first(damaged: list[str]) -> None:
    paths = damaged[3:] + damaged[:3]  # small, good, good, bad, bad, bad
    index, _, skipped = first_readable(UnlabeledViews(paths, 32).read, paths, 3)
    assert index == 1 and skipped == [*paths[3:], paths[0]]


def test_no_readable_image_is_an_error(damaged: list[str]) -> None:
    with pytest.raises(ValueError, match=r"2\.png: not a usable image, nor is any of the other 3$"):
        first_readable(UnlabeledViews(damaged, 32).read, damaged[:4], 2)


def test_the_score_is_that_of_the_image_in_the_place(damaged: list[str]) -> None:
    labeled = LabeledSet("own", damaged, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], (1, 6), damaged)
    crops = LabeledCrops(labeled, [5, 0, 4], size=32)
    assert [crops[Draw(place, 0)][1] for place in range(3)] == [6.0, 5.0, 5.0]
    view, _, skipped = crops[Draw(1, 0)]
    assert places(view, views.to_float(read_image(damaged[4]))) or any(
        places(view.flip(dims), views.to_float(read_image(damaged[4]))) for dims in ((1,), (2,), (1, 2))
    )
    assert skipped == [damaged[0]]


def test_small_labeled_images_are_learned_from_as_they_are_tested(damaged: list[str]) -> None:
    labeled = LabeledSet("own", damaged, [1.0] * 6, (1, 6), damaged)
    view, _, skipped = LabeledCrops(labeled, [3], size=32)[Draw(0, 0)]  # 10 x 10 pixels, reflected
    assert view.shape == (3, 32, 32) and skipped == []


def test_kept_images_are_cropped_without_reading() -> None:
    labeled = LabeledSet("own", ["none", "none"], [1.0, 10.0], (0, 1), ["a", "b"])
    image = torch.arange(3 * 40 * 40).view(3, 40, 40).remainder(256).to(torch.uint8)
    labeled.kept[1] = image
    view, score, _ = LabeledCrops(labeled, [1], 32)[Draw(0, 3)]
    assert score == 10.0
    assert sum(places(view.flip(dims), image / 255) > 0 for dims in ((), (1,), (2,), (1, 2))) == 1


def test_images_to_test_are_none_where_they_cannot_be_read(damaged: list[str]) -> None:
    labeled = LabeledSet("own", damaged, [1.0] * 6, (1, 6), damaged)
    ((*first, last),) = image_batches(labeled, [0, 1, 2, 5], workers=0)
    assert first == [(0, None), (1, None), (2, None)]
    assert last[0] == 5 and torch.equal(last[1], read_image(damaged[5]))


# --- batches on their way from a worker ---


def test_a_batch_holds_first_views_then_second_ones() -> None:
    samples = [
        (torch.stack([torch.full((3, 2, 2), 10.0 * i + j) for j in (1, 2)]), Draw(0, 0, 7 + i), [f"{i}"])
        for i in range(3)
    ]
    batch = collate_views(samples)
    x_d, classes = finish_views(batch, UnlabeledViews([], 2), torch.device("cpu"))
    assert x_d[:, :, 0, 0, 0].tolist() == [[1, 11, 21], [2, 12, 22]] and x_d.shape == (2, 3, 3, 2, 2)
    assert classes.tolist() == [7, 8, 9] and batch.skipped == ["0", "1", "2"]


def test_a_labeled_batch_holds_float32_scores() -> None:
    x, y, skipped = collate_crops([(torch.zeros(3, 2, 2), 1.5, []), (torch.ones(3, 2, 2), 10.0, ["a"])])
    assert x[:, 0, 0, 0].tolist() == [0, 1] and y.tolist() == [1.5, 10] and y.dtype == torch.float32
    assert skipped == ["a"]


def test_distorted_on_the_device_the_views_are_the_same(photographs: Path, tmp_path: Path) -> None:
    """On the CPU bit for bit, with images of several sizes, reduced ones and classes for the CPU only."""
    paths = sorted_paths(photographs)[:5]
    for i, (width, height) in enumerate(((51, 70), (90, 40), (51, 70))):
        Image.open(paths[i]).resize((width, height)).save(tmp_path / f"{i}.png")
        paths.append(str(tmp_path / f"{i}.png"))
    classes = [9, 29, 44, 50, 61, 93, 97, 107]  # lens blur, quantization, JPEG 2000, noises, jitter, patches, Otsu
    draws = [Draw(i, 100 + i, one) for i, one in enumerate(classes)]
    for long_side in (0, 32):
        found = []
        for on_device in (False, True):
            dataset = UnlabeledViews(paths, 32, on_device=on_device, long_side=long_side)
            samples = [dataset[draw] for draw in draws]
            assert [part.ndim == 3 for part, *_ in samples] == [on_device and i not in (1, 2) for i in range(8)]
            found.append(finish_views(collate_views(samples), dataset, torch.device("cpu")))
        (x_worker, classes_worker), (x_device, classes_device) = found
        assert torch.equal(x_worker, x_device) and classes_worker.tolist() == classes_device.tolist() == classes
