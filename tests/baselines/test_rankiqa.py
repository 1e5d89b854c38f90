"""RankIQA: its loss by its definition, its batches, and the levels that can be ranked."""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import pytest
import torch

from ssl_iqa.baselines import rankiqa
from ssl_iqa.data.datasets import UnlabeledViews
from ssl_iqa.data.samplers import Draw
from ssl_iqa.distortions import KADIS, DistortionClass, load_distortions
from tests.conftest import as_process, write

CLASSES = rankiqa.ordered(KADIS)


def test_the_loss_is_the_hinge_over_all_pairs_of_levels_of_a_group() -> None:
    scores = 12 * torch.randn(20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected, right = 0.0, 0
    for group in scores.view(4, 5).tolist():
        for better, worse in combinations(group, 2):  # from weak to strong
            expected += max(0.0, 10 - (better - worse))
            right += better > worse
    loss, share = rankiqa.measure(scores, torch.zeros(20), CLASSES)
    assert loss.item() == pytest.approx(expected / 20, rel=1e-12) and share.item() == pytest.approx(right / 40)
    assert 0 < right < 40


def test_levels_10_apart_cost_nothing_and_equal_ones_the_margin() -> None:
    levels = torch.tensor([40.0, 30, 20, 10, 0]).repeat(2)
    assert rankiqa.measure(levels, levels, CLASSES) == (0.0, 1.0)
    assert rankiqa.measure(torch.zeros(10), levels, CLASSES) == (10 * 10 / 5, 0.0)  # ten pairs of five images


def dataset(photographs: Path, distortions: Sequence[DistortionClass] = CLASSES) -> UnlabeledViews:
    return UnlabeledViews(sorted(map(str, photographs.iterdir())), 32, distortions)


def batches(photographs: Path, seed: int = 0, epoch: int = 0, start: int = 0) -> list[list[Draw]]:
    sampler = rankiqa.order(dataset(photographs), 40, 10, 0, seed)
    sampler.epoch, sampler.start = epoch, start
    assert len(sampler) == 20
    return list(sampler)


def test_a_batch_holds_all_levels_of_a_type_of_an_image(photographs: Path) -> None:
    draws = sum(batches(photographs), [])
    groups = [draws[start : start + 5] for start in range(0, len(draws), 5)]
    for group in groups:
        classes = [CLASSES[draw.distortion_class] for draw in group]
        assert len({draw.index for draw in group}) == len({name for name, *_ in classes}) == 1
        assert [level for _, level, *_ in classes] == [1, 2, 3, 4, 5]
    assert Counter(group[0].index for group in groups) == dict.fromkeys(range(10), 4)  # 40 images an epoch, of ten
    assert len({draw.seed for draw in draws} | {draw.seed + 1 for draw in draws}) == 2 * len(draws)  # of the crops too


def test_batches_depend_on_seed_and_epoch_alone_and_start_anywhere(photographs: Path) -> None:
    whole = batches(photographs, seed=3, epoch=1)
    assert batches(photographs, seed=3, epoch=1, start=7) == whole[7:]
    assert len({str(batches(photographs, seed, epoch)) for seed, epoch in ((3, 1), (3, 2), (4, 1))}) == 3


def test_processes_share_a_batch_by_groups(photographs: Path) -> None:
    whole = batches(photographs)
    parts = []
    for process in range(2):
        with as_process(process, 2):
            parts.append(list(rankiqa.order(dataset(photographs), 40, 10, 0, 0)))
            with pytest.raises(
                ValueError, match="--batch-size must be a multiple of 10, levels times processes, got 5"
            ):
                rankiqa.order(dataset(photographs), 40, 5, 0, 0)
    assert [first + second for first, second in zip(*parts, strict=True)] == whole
    with pytest.raises(ValueError, match="--batch-size must be a multiple of 5, .*, got 12"):
        rankiqa.order(dataset(photographs), 40, 12, 0, 0)


def test_types_whose_levels_do_not_grow_in_severity_are_left_out() -> None:
    assert len(CLASSES) == 115
    assert {name for name, *_ in KADIS} - {name for name, *_ in CLASSES} == {"mean_shift", "contrast_change"}
    assert rankiqa.levels_of(CLASSES) == 5


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            "[jpeg]\nlevels = [10, 40]",
            r"^jpeg: levels must fall, from weak to strong, to be ranked, got \[10, 40\]$",
        ),
        ("[jitter]\nlevels = [1, 3, 2]", r"^jitter: levels must rise, .*, got \[1, 3, 2\]$"),
        ("[jpeg]\n[jitter]\nlevels = [1, 2]", "as many, to be ranked, got 5 of jpeg and 2 of jitter$"),
        ("[jpeg]\nlevels = [9]\n[jitter]\nlevels = [1]", "must have two levels or more, .*, got 1 of jitter$"),
        ("[mean_shift]\n[contrast_change]", "to be ranked, got none$"),
    ],
)
def test_levels_that_cannot_be_ranked_are_one_line(tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        rankiqa.ordered(load_distortions(str(write(tmp_path / "own.toml", table))))
    assert "\n" not in str(error.value)


def test_own_levels_are_ranked(photographs: Path, tmp_path: Path) -> None:
    table = "[jpeg]\nlevels = [40, 10, 5]\n[jitter]\nlevels = [0.1, 1, 2]\n[mean_shift]"
    own = rankiqa.ordered(load_distortions(str(write(tmp_path / "own.toml", table))))
    sampler = rankiqa.order(dataset(photographs, own), 10, 6, 0, seed=0)
    starts = {tuple(draw.distortion_class for draw in batch[:3]) for batch in sampler}
    assert starts == {(0, 1, 2), (3, 4, 5)}
