"""Section 4.1's parts: train, val and test, by reference image."""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np


def part_sizes(n: int) -> tuple[int, int, int]:
    """How many of n reference images go to train, val and test (Section 4.1: 60 %, 20 % and 20 %).

    Val and test are rounded, train gets the rest: 49, 16 and 16 of KADID-10k's 81.
    """
    fifth = round(n * 0.2)
    return n - 2 * fifth, fifth, fifth


def shuffled(names: Sequence[str], seed: int) -> list[str]:
    return [names[i] for i in np.random.default_rng(seed).permutation(len(names))]


def split_unlabeled(paths: Sequence[str], seed: int) -> tuple[list[str], list[str]]:
    """Divides unlabeled images, or shards of them, into train and val (Section 4.1: 80 % and 20 %), at least one each.

    Raises ValueError for fewer than two.
    """
    if len(paths) < 2:
        got = " ".join(paths) or "none"
        raise ValueError(f"--unlabeled must have 2 or more images or tars, without those removed, got only {got}")
    order = shuffled(paths, seed)
    n_val = max(1, round(0.2 * len(paths)))
    return sorted(order[n_val:]), sorted(order[:n_val])


def digest(items: Iterable[object]) -> str:
    """SHA-256 of names, or of tuples of plain values, in their order: tells two sets of images apart."""
    return hashlib.sha256("\n".join(map(repr, items)).encode()).hexdigest()


def part_indices(references: Sequence[str], names: Sequence[str]) -> list[int]:
    """The indices of the images whose reference image is among `names` (a part of `seen.divide`)."""
    part = set(names)
    return [i for i, reference in enumerate(references) if reference in part]
