"""The learning curve: SROCC against the number of labels, which shows whether more of them would help."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ssl_iqa.data.splits import part_indices
from ssl_iqa.engine import console
from ssl_iqa.evaluation import protocol, tables
from ssl_iqa.evaluation.cells import Cell, check_parts, parts_of
from ssl_iqa.evaluation.task import Task

SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)  # of the training part's references
SPLITS = 10
SURE, LIKELY = 9, 7  # splits; by chance as many are better in 1 of 93 cases (11 / 1024), in 1 of 6 (176 / 1024)

CurveSplit = tuple[dict[str, list[int]], list[list[int]]]  # its parts, and the training images at each of SHARES


def curve_parts(cells: list[Cell]) -> list[CurveSplit]:
    """For each of the splits, of the seeds from the cell's on: its parts, and the training images at each share.

    A smaller share is part of a larger one; no reference is divided. References that joint training has seen keep their
    part in all ten splits.

    Raises ValueError for several cells, for ridge regression, and where a part has too few images.
    """
    cell = cells[0]
    if not cell.is_single:
        raise ValueError(f"--learning-curve must have one encoder, set, split and mode, got {len(cells)} cells")
    if cell.settings.mode == tables.RIDGE:
        raise ValueError("--mode must be lp, ft or lp-ft with --learning-curve, which is of LP, got ridge")
    settings, labeled, splits = cell.settings, cell.labeled, []
    for seed in range(settings.seed, settings.seed + SPLITS):
        split = protocol.split_of(labeled, cell.known, seed, settings.split)
        parts = parts_of(labeled, split)
        check_parts(labeled, parts)
        order = np.random.default_rng(seed).permutation(split["train"])
        shares = [order[: max(1, round(share * len(order)))].tolist() for share in SHARES]
        splits.append((parts, [part_indices(labeled.references, names) for names in shares]))
    return splits


def learning_curve(
    splits: Sequence[CurveSplit], task: Task, probe: Callable[[list[int], Task], float]
) -> list[dict[str, Any]]:
    """For each of `SHARES` the mean number of labels and the SROCC of each split, in as many steps as with all labels.

    `probe` trains LP with some of a task's training images and returns the SROCC on its test part.
    """
    rows: list[dict[str, Any]] = [{"labels": 0.0, "srocc": []} for _ in SHARES]
    for number, (parts, shares) in enumerate(console.bar(splits, "learning curve")):
        settings = replace(task.settings, seed=task.settings.seed + number)
        split_task = replace(task, parts=parts, settings=settings, verbose=False, last=None, saved={})
        for row, train in zip(rows, shares, strict=True):
            row["labels"] += len(train) / SPLITS
            row["srocc"].append(probe(train, split_task))
    return rows


def curve_text(rows: Sequence[dict[str, Any]], has_seen: bool) -> str:
    """The curve of rows {"labels": mean number, "srocc": [a split each]}, from few labels to all, and what it says.

    `has_seen`: the encoder's joint training had these labels, or some of them.
    """
    title = f"Learning curve: LP with a part of the labels, mean +- standard deviation of {SPLITS} splits"
    lines = [title, "  labels   SROCC"]
    curve = [np.array(row["srocc"], dtype=float) for row in rows]  # null, JSON's nan, is nan again
    for row, sroccs in zip(rows, curve, strict=True):
        lines.append(f"  {row['labels']:6.0f}   {np.nanmean(sroccs):.3f} +- {np.nanstd(sroccs, ddof=1):.3f}")
    half, full = curve[-2:]
    gain, better = np.nanmean(full - half), int(np.sum(full > half))
    lines.append(f"The second half of the labels brings {gain:+.3f}; SROCC rises in {better} of {SPLITS} splits.")
    if has_seen:
        verdict = "But joint training had these labels, or some: where alpha < 1, the curve is too flat."
    elif better >= LIKELY:
        verdict = f"More labels {'would very likely' if better >= SURE else 'may well'} help."
    else:
        verdict = "More labels would hardly help, as far as these images can tell."
    return "\n".join([*lines, verdict])
