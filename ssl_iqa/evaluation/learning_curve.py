"""The learning curve: SROCC against the number of labels, so that one sees whether more of them would help."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ssl_iqa.data.splits import part_indices
from ssl_iqa.evaluation import protocol
from ssl_iqa.evaluation.cells import Cell, check_parts, parts_of

SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)  # of the training part's references
SPLITS = 10
SURE, LIKELY = 9, 7  # of the splits; by chance so many are better in 1 of 93 cases (11 / 1024), in 1 of 6 (176 / 1024)

CurveSplit = tuple[dict[str, list[int]], list[list[int]]]  # its parts, and what is trained with at each of SHARES


def curve_parts(cell: Cell) -> list[CurveSplit]:
    """For each of the splits, of the seeds from the cell's on: its parts, and what is trained with at each of `SHARES`.

    A smaller share is part of a larger one; no reference is divided. What joint training has seen keeps its part in
    all ten, so that there only what a share holds differs.

    Raises ValueError where a part has too few pictures.
    """
    settings, labeled, found = cell.settings, cell.labeled, []
    for seed in range(settings.seed, settings.seed + SPLITS):
        split = protocol.split_of(labeled, cell.known, seed, settings.split)
        parts = parts_of(labeled, split)
        check_parts(labeled, parts)
        order = np.random.default_rng(seed).permutation(split["train"])
        some = [order[: max(1, round(share * len(order)))].tolist() for share in SHARES]
        found.append((parts, [part_indices(labeled.references, names) for names in some]))
    return found


def curve_text(rows: Sequence[dict[str, Any]], has_seen: bool) -> str:
    """The curve of rows {"labels": mean number, "srocc": [a split each]}, from few labels to all, and what it says.

    `has_seen`: the encoder's joint training had these labels, or some of them.
    """
    lines = [f"Learning curve: LP with a part of the labels, mean +- standard deviation of {SPLITS} splits"]
    lines.append("  labels   SROCC")
    curve = [np.array(row["srocc"], dtype=float) for row in rows]  # null, JSON's nan, is nan again
    for row, found in zip(rows, curve, strict=True):
        lines.append(f"  {row['labels']:6.0f}   {np.nanmean(found):.3f} +- {np.nanstd(found, ddof=1):.3f}")
    half, full = curve[-2:]
    gain, better = np.nanmean(full - half), int(np.sum(full > half))
    lines.append(f"The second half of the labels brings {gain:+.3f}; SROCC rises in {better} of {SPLITS} splits.")
    if has_seen:
        lines.append(
            "But joint training had these labels, or some; if it learned from them (alpha < 1), this is too flat."
        )
    elif better >= SURE:
        lines.append("More labels would very likely help.")
    elif better >= LIKELY:
        lines.append("More labels may well help.")
    else:
        lines.append("More labels would hardly help, as far as these pictures can tell.")
    return "\n".join(lines)
