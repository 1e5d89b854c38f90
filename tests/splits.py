"""Section 4.1's split as it is where nothing is known of a set's references, written by itself."""

from collections.abc import Sequence

import numpy as np


def split_references(references: Sequence[str], seed: int) -> dict[str, list[str]]:
    """The distinct references, shuffled by the seed: a rounded fifth each to val and test, the rest to train."""
    names = sorted(set(references))
    order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    fifth = round(len(names) / 5)
    train = len(names) - 2 * fifth
    parts = {"train": order[:train], "val": order[train : train + fifth], "test": order[train + fifth :]}
    return {part: sorted(names) for part, names in parts.items()}
