"""The batches of both streams side by side: what Section 4.2 takes PyTorch Lightning's CombinedLoader for."""

import os
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ssl_iqa import data, sets
from ssl_iqa.distortions import DistortionClass
from ssl_iqa.samplers import InParts, LabeledBatches, UnlabeledBatches
from ssl_iqa.sets import LabeledSet
from ssl_iqa.shards import ShardBatches, ShardViews, is_shards, list_shards, split_shards
from ssl_iqa.views import (
    LabeledCrops,
    UnlabeledViews,
    collate_crops,
    collate_views,
    finish_views,
    first_readable,
    name_skipped,
)
from ssl_iqa.workers import make_loader

PART = 64  # pictures that a worker makes at a time


class Pictures(NamedTuple):
    """What trains and what validates."""

    splits: dict[str, Any]  # the content of splits.json
    train: UnlabeledViews
    val: UnlabeledViews
    labeled: LabeledSet | None


def find_pictures(
    unlabeled: str,
    labeled: str,
    size: int,
    distortions: Sequence[DistortionClass],
    on_device: bool,
    seed: int,
    workers: int,
    left_out: Collection[str] = (),
) -> Pictures:
    """Section 4.1's parts of the pictures that `--unlabeled` and `--labeled` name; `labeled` may be empty.

    Of a folder of unlabeled pictures the paths in `left_out` are in no part (`duplicates.search_for_training`).

    Labeled pictures are split 60/20/20 by reference, unlabeled ones 80/20, shards as wholes. The demo's photographs
    serve both streams and are split by source, alike in both, so that none of the labeled test part is met in training.
    """
    scored = sets.load_labeled(labeled) if labeled else None
    if is_shards(unlabeled):
        shards = split_shards(list_shards(unlabeled, workers), seed)
        train, val = (ShardViews(part, size, distortions, on_device, part is shards[1]) for part in shards)
        names = [[[os.path.basename(shard.path), shard.pictures] for shard in part] for part in shards]  # as in JSON
        counts = [sum(shard.pictures for shard in part) for part in shards]
    else:
        if unlabeled == "demo":
            sources = sets.demo_sources()
            parts = data.split_references(list(sources.values()), seed)
            names = [[path for path in sources if sources[path] in parts[part]] for part in ("train", "val")]
        else:
            found = data.list_pictures(unlabeled)
            kept = [path for path in found if path not in left_out]
            if left_out and len(kept) < 2:
                raise ValueError(f"--near-duplicates remove: leaves {len(kept)} of the {len(found)} pictures there")
            names = list(data.split_pictures(kept, seed))
        reduce = sets.DEMO_REDUCE if unlabeled == "demo" else 1
        train, val = (UnlabeledViews(paths, size, reduce, distortions, on_device) for paths in names)
        names = [[*map(os.path.basename, paths)] for paths in names]
        counts = [*map(len, names)]
    splits = {"unlabeled": {"spec": unlabeled, "train": counts[0], "val": sorted(names[1]), "val_pictures": counts[1]}}
    splits["sha256"] = {"unlabeled": data.digest(names[0] + names[1])}
    if scored is not None:
        splits["labeled"] = {"spec": scored.name, **data.split_references(scored.references, seed)}
        splits["sha256"]["labeled"] = data.digest(zip(scored.references, scored.scores, strict=True))
    return Pictures(splits, train, val, scored)


class Streams:
    """Batches of the unlabeled and, beside them, of the labeled pictures.

    An epoch is as long as the unlabeled stream. Batch sizes are those of all processes, of which `process` makes its
    part. `skipped` gathers the paths of files that could not be read.
    """

    def __init__(
        self,
        unlabeled: UnlabeledViews | ShardViews,
        labeled: LabeledCrops | None,
        batch_size: int,
        labeled_batch_size: int,
        images_per_class: int,
        epoch_size: int,
        workers: int,
        seed: int,
        device: torch.device,
        process: int = 0,
        processes: int = 1,
        views: int = 2,
    ) -> None:
        self.dataset, self.views = unlabeled, views
        self.parts = -(-batch_size // processes // PART)  # of this process's part of a batch

        def loader(
            dataset: UnlabeledViews | ShardBatches | LabeledCrops, workers: int, persistent: bool = True, **settings
        ) -> DataLoader:
            return make_loader(
                dataset,
                workers,
                persistent_workers=persistent and workers > 0,
                pin_memory=device.type == "cuda",
                **settings,
            )

        # `some` and `first_readable`: where there is no usable picture, they raise now and not amid training
        if isinstance(unlabeled, ShardViews):
            unlabeled.some(1)
            order = ShardBatches(
                unlabeled, epoch_size, batch_size, images_per_class, seed, process, processes, part_size=PART
            )
            # workers have the epoch from their copy of the dataset, and so they are new ones each time
            self.unlabeled = loader(order, workers, persistent=False, batch_size=None, collate=collate_views)
        else:
            first_readable(unlabeled.read, unlabeled.paths, 0)
            order = UnlabeledBatches(
                len(unlabeled.paths),
                epoch_size or len(unlabeled.paths),
                batch_size,
                images_per_class,
                [distortion.weight for distortion in unlabeled.distortions],
                seed,
                process,
                processes,
            )
            self.unlabeled = loader(unlabeled, workers, batch_sampler=InParts(order, PART), collate=collate_views)
        self.samplers: list[UnlabeledBatches | ShardBatches | LabeledBatches] = [order]
        self.labeled = None
        if labeled is not None:
            first_readable(labeled.read, labeled.paths, 0)
            batches = LabeledBatches(len(labeled.paths), len(self), labeled_batch_size, seed, process, processes)
            self.samplers.append(batches)
            labeled_workers = 0 if labeled.made else workers  # cropping bytes is no work
            self.labeled = loader(labeled, labeled_workers, batch_sampler=batches, collate=collate_crops)
        self.device = device
        self.skipped: set[str] = set()

    def __len__(self) -> int:
        return len(self.samplers[0])

    def batches(
        self, epoch: int, start: int = 0
    ) -> Iterator[tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor] | None]]:
        """((views [N_U, 3, s, s], classes [N_U]), (x [N_L, 3, s, s], y [N_L]) or None), on the device, from `start`.

        The views are the first ones of all pictures, then the second ones, unless `views` is 1. N_U and N_L are this
        process's part.
        """
        for sampler in self.samplers:
            sampler.epoch, sampler.start = epoch, start
        unlabeled, labeled = iter(self.unlabeled), iter(self.labeled or ())
        for _ in range(start, len(self)):
            parts = []
            for part in islice(unlabeled, self.parts):
                name_skipped(part.skipped, self.skipped)
                parts.append(finish_views(part, self.dataset, self.device))
            views, classes = zip(*parts, strict=True)  # [2, b, 3, s, s] and [b] each
            x_d = torch.cat(views, dim=1)[: self.views].flatten(0, 1)
            pair = x_d, torch.cat(classes).repeat(self.views)
            if self.labeled is None:
                yield pair, None
            else:
                x, y, skipped = next(labeled)
                name_skipped(skipped, self.skipped)
                yield pair, (x.to(self.device, non_blocking=True), y.to(self.device, non_blocking=True))
