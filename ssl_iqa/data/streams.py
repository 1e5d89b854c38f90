"""The batches of both streams side by side: what Section 4.2 takes PyTorch Lightning's CombinedLoader for."""

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, repeat
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ssl_iqa.data.datasets import (
    LabeledCrops,
    UnlabeledViews,
    collate_crops,
    collate_views,
    finish_views,
    first_readable,
    name_skipped,
)
from ssl_iqa.data.samplers import PART, Draw, EachOnce, InParts, LabeledBatches, UnlabeledBatches
from ssl_iqa.engine import distributed
from ssl_iqa.engine.workers import make_loader

Batch = tuple[Tensor, Tensor]  # x_d [N_U, 3, s, s] and classes [N_U], or x [N_L, 3, s, s] and y [N_L]


class Streams:
    """Batches of the unlabeled and, beside them, of the labeled images; `settings` are train_joint.py's.

    An epoch is as long as the unlabeled stream, and the labeled images go round in it; in validation they come once,
    in order. Batch sizes are those of all processes, of which this one makes its part. For files that cannot be read,
    whose paths `skipped` gathers, the next one that can stands in. `order` makes the unlabeled batch sampler.
    """

    def __init__(
        self,
        unlabeled: UnlabeledViews,
        labeled: LabeledCrops | None,
        settings: Any,
        device: torch.device,
        is_validation: bool = False,
        order: Callable[..., UnlabeledBatches] = UnlabeledViews.order,
    ) -> None:
        self.dataset, self.device, self.views = unlabeled, device, settings.views
        self.parts = math.ceil(settings.batch_size // distributed.size() / PART)  # of this process's part of a batch
        epoch_size = settings.validation_size if is_validation else settings.epoch_size
        seed, workers = settings.seed + 1 if is_validation else settings.seed, settings.workers
        draws = order(unlabeled, epoch_size, settings.batch_size, settings.images_per_class, seed)
        self.unlabeled = loader(unlabeled, collate_views, workers, device, InParts(draws, PART))
        self.samplers, self.labeled, self.skipped = [draws], None, set()  # of paths
        if labeled is not None:
            first_readable(labeled.read, labeled.paths, 0)  # without a usable image it raises now, not amid training
            if is_validation:
                batches = EachOnce(len(labeled.paths), settings.labeled_batch_size, seed)
            else:
                batches = LabeledBatches(len(labeled.paths), len(self), settings.labeled_batch_size, seed)
            self.samplers.append(batches)
            workers = 0 if labeled.labeled.kept else workers  # cropping bytes is no work
            self.labeled = loader(labeled, collate_crops, workers, device, batches)

    def __len__(self) -> int:
        return len(self.samplers[0])

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Batch, Batch | None]]:
        """A training epoch from step `start` on: batches of `unlabeled_batches`, and of `labeled_batches` or None."""
        for sampler in self.samplers:
            sampler.epoch, sampler.start = epoch, start
        labeled = repeat(None) if self.labeled is None else self.labeled_batches()
        return zip(self.unlabeled_batches(), labeled, strict=False)  # the shorter one ends both

    def unlabeled_batches(self) -> Iterator[Batch]:
        """Views [N_U, 3, s, s] and classes [N_U] on the device; N_U is this process's part.

        The views are the first ones of all images, then the second ones, unless `views` is 1.
        """
        unlabeled = iter(self.unlabeled)
        for _ in range(self.samplers[0].start, len(self)):
            parts = []
            for part in islice(unlabeled, self.parts):
                name_skipped(part.skipped, self.skipped)
                parts.append(finish_views(part, self.dataset, self.device))
            views, classes = zip(*parts, strict=True)  # [2, b, 3, s, s] and [b] each
            yield torch.cat(views, dim=1)[: self.views].flatten(0, 1), torch.cat(classes).repeat(self.views)

    def labeled_batches(self) -> Iterator[Batch]:
        """x [N_L, 3, s, s] and y [N_L] on the device; N_L is this process's part."""
        for x, y, skipped in self.labeled or ():
            name_skipped(skipped, self.skipped)
            yield x.to(self.device, non_blocking=True), y.to(self.device, non_blocking=True)


def loader(
    dataset: Dataset, collate: Callable[[list], Any], workers: int, device: torch.device, batches: Iterable[list[Draw]]
) -> DataLoader:
    settings = {"persistent_workers": workers > 0, "pin_memory": device.type == "cuda"}
    return make_loader(dataset, workers, collate, batch_sampler=batches, **settings)
