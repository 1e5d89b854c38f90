"""Section 4.1's parts: train, val and test, by reference image."""

import hashlib
import math
from collections.abc import Iterable, Sequence
from itertools import count

import numpy as np


def split_references(
    references: Sequence[str], seed: int, fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)
) -> dict[str, list[str]]:
    """Divides a set's reference images into train, val and test (Section 4.1: 60 %, 20 % and 20 %).

    `references` is a LabeledSet's, one a picture; its distinct names are shuffled by `seed` and divided: val and test
    get their fraction, rounded, and train the rest (49/16/16 of KADID-10k's 81). Each part comes back sorted.

    Raises ValueError for fractions that are not three positive numbers with sum 1, and for too few references.
    """
    if len(fractions) != 3 or min(fractions) <= 0 or not math.isclose(sum(fractions), 1):
        raise ValueError(f"fractions is {fractions}, wanted are three positive numbers with sum 1")

    names = sorted(set(references))
    train, val, test = part_sizes(len(names), fractions)
    if min(train, val, test) < 1:
        needed = next(n for n in count(len(names) + 1) if min(part_sizes(n, fractions)) >= 1)
        raise ValueError(
            f"{len(names)} distinct reference images cannot be split into train, val and test; at least {needed} are"
            " needed"
        )
    order = shuffled(names, seed)
    return {
        "train": sorted(order[:train]),
        "val": sorted(order[train : train + val]),
        "test": sorted(order[train + val :]),
    }


def part_sizes(n: int, fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)) -> tuple[int, int, int]:
    """How many of n reference images go to train, val and test: val and test are rounded, train gets the rest."""
    val, test = round(n * fractions[1]), round(n * fractions[2])
    return n - val - test, val, test


def shuffled(names: Sequence[str], seed: int) -> list[str]:
    return [names[i] for i in np.random.default_rng(seed).permutation(len(names))]


def split_pictures(paths: Sequence[str], seed: int) -> tuple[list[str], list[str]]:
    """Divides unlabeled pictures by `seed` into train and val (Section 4.1: 80 % and 20 %), at least one each.

    Raises ValueError for fewer than two.
    """
    if len(paths) < 2:
        raise ValueError(f"{paths[0]}: the only picture here; two or more are wanted, to train and to validate")
    order = shuffled(paths, seed)
    n_val = max(1, round(0.2 * len(paths)))
    return sorted(order[n_val:]), sorted(order[:n_val])


def digest(items: Iterable[object]) -> str:
    """SHA-256 of some names, or of tuples of plain values, in their order: tells two sets of pictures apart."""
    return hashlib.sha256("\n".join(map(repr, items)).encode()).hexdigest()


def part_indices(references: Sequence[str], names: Sequence[str]) -> list[int]:
    """The indices of the pictures whose reference image is among `names` (a part of `split_references`)."""
    wanted = set(names)
    return [i for i, reference in enumerate(references) if reference in wanted]
