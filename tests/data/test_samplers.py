"""What a step takes: the order of the images, and the class and seed of each."""

from collections import Counter

import numpy as np
import pytest

from ssl_iqa.data.samplers import Draw, EachOnce, InParts, LabeledBatches, UnlabeledBatches, draw_classes
from ssl_iqa.distortions import NUM_CLASSES
from tests.conftest import as_process

EQUAL = np.ones(NUM_CLASSES)  # weights of the classes


def test_classes_at_random_are_each_as_likely() -> None:
    counts = np.bincount(draw_classes(125_000, 0, EQUAL, np.random.default_rng(0)), minlength=NUM_CLASSES)
    assert len(counts) == 125 and abs(counts - 1000).max() < 150  # 1000 +- 32


@pytest.mark.parametrize(("batch_size", "images_per_class"), [(64, 2), (1000, 8), (12, 12), (30, 1)])
def test_each_drawn_class_comes_images_per_class_times(batch_size: int, images_per_class: int) -> None:
    drawn = [draw_classes(batch_size, images_per_class, EQUAL, np.random.default_rng(seed)) for seed in range(40)]
    for classes in drawn:
        counts = Counter(classes.tolist())
        assert set(counts.values()) == {images_per_class} and len(counts) == batch_size // images_per_class
    if batch_size // images_per_class > 10:
        assert set(np.concatenate(drawn)) == set(range(125))


def test_heavier_classes_are_drawn_more_often() -> None:
    weights, rng = np.array([1.0, 2.0, 5.0]), np.random.default_rng(0)
    counts = np.bincount(draw_classes(8000, 0, weights, rng))
    assert abs(counts - [1000, 2000, 5000]).max() < 150  # standard errors 30, 39, 43
    # two of three classes, without replacement: the first is 0, 1 or 2 at 1/8, 2/8, 5/8, the second by what is left
    pairs = Counter(tuple(draw_classes(4, 2, weights, rng)[::2]) for _ in range(8000))
    expected = {(a, b): weights[a] / 8 * weights[b] / (8 - weights[a]) for a in range(3) for b in range(3) if a != b}
    assert all(abs(pairs[pair] - 8000 * share) < 5 * (8000 * share) ** 0.5 for pair, share in expected.items())


def test_more_classes_than_there_are_come_round() -> None:
    counts = Counter(draw_classes(300, 2, EQUAL, np.random.default_rng(0)).tolist())  # 150 classes, 25 of them again
    assert Counter(counts.values()) == {2: 100, 4: 25}


def drawn(batches: UnlabeledBatches | LabeledBatches, epoch: int) -> list[Draw]:
    batches.epoch = epoch
    return [draw for batch in batches for draw in batch]


def test_every_unlabeled_image_comes_once_an_epoch() -> None:
    batches = UnlabeledBatches(12, EQUAL, epoch_size=12, batch_size=4, images_per_class=2, seed=0)
    orders = []
    for epoch in range(3):
        draws = drawn(batches, epoch)
        assert sorted(draw.index for draw in draws) == list(range(12)) and len(batches) == 3
        assert all(0 <= draw.distortion_class < 125 for draw in draws)
        orders.append([draw.index for draw in draws])
    assert orders[0] != orders[1] != orders[2]


@pytest.mark.parametrize(("epoch_size", "batch_size", "steps", "times"), [(10, 4, 2, {0, 1}), (25, 5, 5, {2, 3})])
def test_an_epoch_is_whole_batches_of_images_in_turn(
    epoch_size: int, batch_size: int, steps: int, times: set[int]
) -> None:
    batches = UnlabeledBatches(10, EQUAL, epoch_size, batch_size, images_per_class=0, seed=0)
    counts = Counter(draw.index for draw in drawn(batches, 0))
    assert len(batches) == steps and counts.total() == steps * batch_size
    assert {counts[index] for index in range(10)} == times


def test_fewer_images_than_a_batch_make_one_step() -> None:
    batches = UnlabeledBatches(3, EQUAL, epoch_size=3, batch_size=8, images_per_class=0, seed=0)
    assert Counter(draw.index for draw in drawn(batches, 0)).total() == 8 and len(batches) == 1


def test_no_two_samples_share_a_seed() -> None:
    unlabeled = UnlabeledBatches(50, EQUAL, 50, 10, images_per_class=0, seed=0)
    labeled = LabeledBatches(50, steps=5, batch_size=10, seed=0)
    seeds = [draw.seed for batches in (unlabeled, labeled) for epoch in range(3) for draw in drawn(batches, epoch)]
    assert len(set(seeds)) == 300


@pytest.mark.parametrize("kind", ["unlabeled", "labeled"])
def test_draws_depend_on_seed_and_epoch_alone(kind: str) -> None:
    def batches(seed: int) -> UnlabeledBatches | LabeledBatches:
        return LabeledBatches(9, 3, 4, seed) if kind == "labeled" else UnlabeledBatches(12, EQUAL, 12, 4, 2, seed)

    one, two = batches(3), batches(3)
    drawn(one, 0), drawn(one, 1)  # whatever came before
    assert drawn(one, 2) == drawn(two, 2) != drawn(batches(4), 2)
    assert drawn(one, 2) != drawn(one, 1)


def test_labeled_batches_go_round_over_epochs() -> None:
    batches = LabeledBatches(7, steps=3, batch_size=4, seed=0)
    indices = [draw.index for epoch in range(7) for draw in drawn(batches, epoch)]  # 84: twelve rounds
    rounds = [tuple(indices[start : start + 7]) for start in range(0, 84, 7)]
    assert all(sorted(order) == list(range(7)) for order in rounds)
    assert len(set(rounds)) == 12


@pytest.mark.parametrize("kind", ["unlabeled", "labeled"])
def test_processes_divide_every_batch_and_a_start_passes_over_steps(kind: str) -> None:
    def batches(process: int = 0, processes: int = 1) -> UnlabeledBatches | LabeledBatches:
        with as_process(process, processes):
            return LabeledBatches(9, 4, 6, 0) if kind == "labeled" else UnlabeledBatches(25, EQUAL, 25, 6, 2, 0)

    whole = batches()
    whole.epoch = 1
    steps = list(whole)
    assert len(steps) == 4
    for processes in (2, 3):
        parts = [batches(process, processes) for process in range(processes)]
        for part in parts:
            part.epoch = 1
        assert [sum(own, []) for own in zip(*parts, strict=True)] == steps
    for start in range(5):
        whole.start = start
        assert list(whole) == steps[start:]


@pytest.mark.parametrize("images", [1, 6, 7, 20])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_validation_takes_every_labeled_image_once(images: int, processes: int) -> None:
    whole = list(EachOnce(images, 6, 5))
    assert [len(batch) for batch in whole] == [6] * (images // 6) + [images % 6] * (images % 6 > 0)
    assert [draw.index for batch in whole for draw in batch] == list(range(images))
    assert len({draw.seed for batch in whole for draw in batch}) == images
    assert list(EachOnce(images, 6, 5)) == whole and whole[0][0].seed != next(iter(EachOnce(images, 6, 4)))[0].seed
    samplers = []
    for process in range(processes):
        with as_process(process, processes):
            samplers.append(EachOnce(images, 6, 5))
    shares = [list(sampler) for sampler in samplers]
    assert all(len(sampler) == len(whole) for sampler in samplers)
    assert sorted(draw for own in shares for batch in own for draw in batch) == sum(whole, [])
    for step, batch in enumerate(whole):  # a process without an image of the last batch has no batch there
        sizes = [len(own[step]) if step < len(own) else 0 for own in shares]
        assert sum(sizes) == len(batch) and max(sizes) - min(sizes) <= 1


def test_parts_are_a_batch_in_order() -> None:
    batches = UnlabeledBatches(20, EQUAL, 20, 10, 0, seed=0)
    parts = list(InParts(batches, 4))
    assert [len(part) for part in parts] == [4, 4, 2] * 2
    assert sum(parts, []) == sum(batches, [])
