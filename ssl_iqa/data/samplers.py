"""The order of both streams (Section 4.2): the images of each step, and the class and seed of each image.

All draws of an epoch come from the seed and the epoch, for the whole batch of all processes, of which each takes its
part. So the images of a step do not depend on the number of processes and workers (training with them does, by
rounding), and a run resumes at any step by skipping the draws before it.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ssl_iqa.engine import distributed

PART = 64  # images that a worker makes at a time


class Draw(NamedTuple):
    """What a sampler asks a dataset for."""

    index: int  # of the image
    seed: int
    distortion_class: int = -1  # 0 .. 124; labeled images have none to be drawn


def draw_classes(batch_size: int, images_per_class: int, weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Distortion classes of a batch, [batch_size], drawn from classes with `weights`, [classes].

    The paper draws type and level at random for each image (images_per_class 0). In a small batch most classes then
    come once, and Eq. 5 has no positives but an image's own second view. With images_per_class M, batch_size / M
    classes are drawn, M images of each; no class comes again before every other one has come.
    """
    classes, equal = len(weights), (weights == weights[0]).all()
    if images_per_class == 0 and equal:
        return rng.integers(classes, size=batch_size)
    if images_per_class == 0:
        return rng.choice(classes, batch_size, p=weights / weights.sum())
    different = batch_size // images_per_class
    rounds = range(math.ceil(different / classes))
    # exponential draws over weights, sorted, are the order of drawing by weight without replacement
    orders = [
        rng.permutation(classes) if equal else np.argsort(rng.exponential(size=classes) / weights) for _ in rounds
    ]
    return np.repeat(np.concatenate(orders)[:different], images_per_class)


def own_part(batch_size: int) -> slice:
    """This process's places in a batch of all processes, whose number divides `batch_size`."""
    size = batch_size // distributed.size()
    return slice(distributed.rank() * size, (distributed.rank() + 1) * size)


class UnlabeledBatches:
    """Batch sampler: every image once in a random order, again until `epoch_size` images, a class drawn for each.

    Set `epoch`, and `start`, the step to begin with, before iterating; the same seed and epoch give the same draws.
    `weights` are the classes'. `batch_size` is that of all processes, of which this one takes its part.
    """

    def __init__(
        self, images: int, weights: Sequence[float], epoch_size: int, batch_size: int, images_per_class: int, seed: int
    ) -> None:
        self.images, self.weights, self.seed = images, np.array(weights), seed
        self.batch_size, self.images_per_class = batch_size, images_per_class
        self.part, self.steps = own_part(batch_size), max(1, epoch_size // batch_size)
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[Draw]]:
        rng = np.random.default_rng((self.seed, 0, self.epoch))  # 0: the unlabeled stream
        rounds = math.ceil(self.steps * self.batch_size / self.images)
        order = np.concatenate([rng.permutation(self.images) for _ in range(rounds)])
        for step in range(self.steps):
            indices = order[step * self.batch_size : (step + 1) * self.batch_size]
            classes = draw_classes(self.batch_size, self.images_per_class, self.weights, rng)
            seeds = rng.integers(2**62, size=self.batch_size)
            if step >= self.start:
                yield list(map(Draw, *(values[self.part].tolist() for values in (indices, seeds, classes))))


class LabeledBatches:
    """Batch sampler of `steps` batches an epoch that goes round the images, in a new random order each time round.

    `epoch`, `start` and `batch_size` as in `UnlabeledBatches`.
    """

    def __init__(self, images: int, steps: int, batch_size: int, seed: int) -> None:
        self.images, self.steps, self.batch_size, self.seed = images, steps, batch_size, seed
        self.part = own_part(batch_size)
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[Draw]]:
        rng = np.random.default_rng((self.seed, 1, self.epoch))  # 1: the labeled stream
        first = self.epoch * self.steps * self.batch_size  # images that earlier epochs have taken
        last = first + self.steps * self.batch_size
        rounds = range(first // self.images, math.ceil(last / self.images))
        order = np.concatenate([np.random.default_rng((self.seed, 2, r)).permutation(self.images) for r in rounds])
        order = order[first - rounds.start * self.images :]
        for step in range(self.steps):
            indices = order[step * self.batch_size : (step + 1) * self.batch_size]
            seeds = rng.integers(2**62, size=self.batch_size)
            if step >= self.start:
                yield list(map(Draw, *(values[self.part].tolist() for values in (indices, seeds))))


class EachOnce:
    """Batch sampler of the labeled validation: every image once, in order, each with a seed that never changes.

    Of n processes this one takes every n-th image of a batch. The last batch may be smaller: its shares differ by one
    image at most, and a process without any has one batch fewer than `len` says.
    """

    def __init__(self, images: int, batch_size: int, seed: int) -> None:
        self.images, self.batch_size, self.seed = images, batch_size, seed
        self.process, self.processes = distributed.rank(), distributed.size()

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

    A worker that made a whole batch of the paper's 1000 images would take it, and memory for 1.2 GB, alone.
    """

    def __init__(self, batches: UnlabeledBatches, size: int) -> None:
        self.batches, self.size = batches, size

    def __iter__(self) -> Iterator[list[Draw]]:
        for batch in self.batches:
            yield from (batch[start : start + self.size] for start in range(0, len(batch), self.size))
