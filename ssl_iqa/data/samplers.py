"""Which pictures a step takes, and the class and seed of each: the order of both streams (Section 4.2).

All draws of an epoch come from the seed and the epoch, for the whole batch of all processes, of which each takes
its part. So the images of a step do not depend on how many processes and workers make them (what is trained with them
does, by rounding), and a run goes on at any step by passing over the draws before it.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np


class Draw(NamedTuple):
    """What a sampler asks a dataset for."""

    index: int  # of the picture
    seed: int
    distortion_class: int = -1  # 0 .. 124; labeled pictures have none to be drawn


def draw_classes(batch_size: int, images_per_class: int, weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Distortion classes of a batch, [batch_size], drawn from classes with `weights`, [classes].

    The paper draws type and level at random for each picture (images_per_class 0). In a small batch most classes then
    come once, and Eq. 5 has no positives but a picture's own second view. With images_per_class M, batch_size / M
    classes are drawn, M pictures of each; no class comes again before every other one has come.
    """
    classes, equal = len(weights), (weights == weights[0]).all()
    if images_per_class == 0:
        return (
            rng.integers(classes, size=batch_size)
            if equal
            else rng.choice(classes, batch_size, p=weights / weights.sum())
        )
    wanted = batch_size // images_per_class
    rounds = range(-(-wanted // classes))
    # the order in which classes of a weight are drawn without replacement is that of exponential draws over weights
    orders = [
        rng.permutation(classes) if equal else np.argsort(rng.exponential(size=classes) / weights) for _ in rounds
    ]
    return np.repeat(np.concatenate(orders)[:wanted], images_per_class)


def part_of(batch_size: int, process: int, processes: int) -> slice:
    """The places of a global batch that a process takes; `processes` divides `batch_size`."""
    size = batch_size // processes
    return slice(process * size, (process + 1) * size)


class UnlabeledBatches:
    """Batch sampler: every picture once in a random order, again until `epoch_size` pictures, a class drawn for each.

    Set `epoch`, and `start`, the step to begin with, before iterating; the same seed and epoch give the same draws.
    `weights` are the classes'. `batch_size` is the global one, of which `process` takes its part.
    """

    def __init__(
        self,
        pictures: int,
        epoch_size: int,
        batch_size: int,
        images_per_class: int,
        weights: Sequence[float],
        seed: int,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self.pictures, self.batch_size, self.images_per_class, self.seed = pictures, batch_size, images_per_class, seed
        self.weights = np.array(weights)
        self.part = part_of(batch_size, process, processes)
        self.steps = max(1, epoch_size // batch_size)
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[Draw]]:
        rng = np.random.default_rng((self.seed, 0, self.epoch))  # 0: the unlabeled stream
        rounds = -(-self.steps * self.batch_size // self.pictures)
        order = np.concatenate([rng.permutation(self.pictures) for _ in range(rounds)])
        for step in range(self.steps):
            indices = order[step * self.batch_size : (step + 1) * self.batch_size]
            classes = draw_classes(self.batch_size, self.images_per_class, self.weights, rng)
            seeds = rng.integers(2**62, size=self.batch_size)
            if step >= self.start:
                draws = (values[self.part].tolist() for values in (indices, seeds, classes))
                yield [Draw(*draw) for draw in zip(*draws, strict=True)]


class LabeledBatches:
    """Batch sampler of `steps` batches an epoch that goes round the pictures, in a new random order each time round.

    `epoch`, `start`, `batch_size` and `process` as in `UnlabeledBatches`.
    """

    def __init__(
        self, pictures: int, steps: int, batch_size: int, seed: int, process: int = 0, processes: int = 1
    ) -> None:
        self.pictures, self.steps, self.batch_size, self.seed = pictures, steps, batch_size, seed
        self.part = part_of(batch_size, process, processes)
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[Draw]]:
        rng = np.random.default_rng((self.seed, 1, self.epoch))  # 1: the labeled stream
        first = self.epoch * self.steps * self.batch_size  # pictures that earlier epochs have taken
        last = first + self.steps * self.batch_size
        rounds = range(first // self.pictures, -(-last // self.pictures))
        order = np.concatenate([np.random.default_rng((self.seed, 2, r)).permutation(self.pictures) for r in rounds])
        order = order[first - rounds.start * self.pictures :]
        for step in range(self.steps):
            indices = order[step * self.batch_size : (step + 1) * self.batch_size]
            seeds = rng.integers(2**62, size=self.batch_size)
            if step >= self.start:
                draws = (values[self.part].tolist() for values in (indices, seeds))
                yield [Draw(index, seed) for index, seed in zip(*draws, strict=True)]


class EachOnce:
    """Batch sampler of the labeled validation: every image once, in order, each with a seed that never changes.

    Of a batch of `batch_size`, the global one, `process` takes every `processes`-th image. The last batch may be
    smaller: its shares differ by one image at most, and a process without any has one batch fewer than `len` says.
    """

    def __init__(self, images: int, batch_size: int, seed: int, process: int = 0, processes: int = 1) -> None:
        self.images, self.batch_size, self.seed = images, batch_size, seed
        self.process, self.processes = process, processes

    def __len__(self) -> int:
        return math.ceil(self.images / self.batch_size)

    def __iter__(self) -> Iterator[list[Draw]]:
        rng = np.random.default_rng((self.seed, 4))  # 4: the labeled validation
        draws = [Draw(*draw) for draw in enumerate(rng.integers(2**62, size=self.images).tolist())]
        for first in range(0, self.images, self.batch_size):
            if share := draws[first : first + self.batch_size][self.process :: self.processes]:
                yield share


class InParts:
    """A batch sampler's batches in parts of at most `size` draws, so that all workers make one batch together.

    A worker that made a whole batch of the paper's 1000 pictures would take it, and memory for 1.2 GB, alone.
    """

    def __init__(self, batches: UnlabeledBatches, size: int) -> None:
        self.batches, self.size = batches, size

    def __iter__(self) -> Iterator[list[Draw]]:
        for batch in self.batches:
            yield from (batch[start : start + self.size] for start in range(0, len(batch), self.size))
