"""The batches of both streams side by side: what Section 4.2 takes PyTorch Lightning's CombinedLoader for."""

import os
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import islice, repeat
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ssl_iqa.data import sets
from ssl_iqa.data.datasets import (
    LabeledCrops,
    UnlabeledViews,
    collate_crops,
    collate_views,
    finish_views,
    first_readable,
    make_all,
    name_skipped,
)
from ssl_iqa.data.demo import demo_sources
from ssl_iqa.data.images import list_images, passed_over
from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.data.samplers import EachOnce, InParts, LabeledBatches, UnlabeledBatches
from ssl_iqa.data.seen import Record, divide, known_parts, with_record
from ssl_iqa.data.splits import digest, part_indices, split_unlabeled
from ssl_iqa.distortions import DistortionClass
from ssl_iqa.engine import distributed
from ssl_iqa.engine.device import cpu_cores
from ssl_iqa.engine.workers import make_loader

if TYPE_CHECKING:  # imported where shards are read
    from ssl_iqa.data.shards import ShardViews

JOINT = "joint training"  # in the record of what an encoder has seen
PART = 64  # pictures that a worker makes at a time


class Pictures(NamedTuple):
    """What trains and what validates."""

    splits: dict[str, Any]  # the content of splits.json
    train: UnlabeledViews
    val: UnlabeledViews
    labeled: LabeledSet | None
    seen: list[Record]  # what the encoder will have seen: of its start and of this run
    known: dict[str, str]  # the part of each labeled reference that its start had seen


def find_pictures(
    unlabeled: str,
    labeled: str,
    size: int,
    distortions: Sequence[DistortionClass],
    on_device: bool,
    seed: int,
    workers: int,
    left_out: Collection[str] = (),
    seen: Sequence[Record] = (),
    long_side: int = 0,
) -> Pictures:
    """Section 4.1's parts of the pictures that `--unlabeled` and `--labeled` name; `labeled` may be empty.

    Of a folder of unlabeled pictures the paths in `left_out` are in no part (`near_duplicates.search_for_training`).

    Labeled pictures are split 60/20/20 by reference, unlabeled ones 80/20, shards as wholes. The demo's photographs
    serve both streams and are split by source, alike in both, so that none of the labeled test part is met in training.
    What the encoder has `seen` before keeps its part. Images are reduced to a long side when they are read.
    """
    scored = sets.load_labeled(labeled, long_side) if labeled else None
    known = known_parts(scored, seen) if scored else {}
    split = divide(scored, known, seed) if scored else {}
    records = list(seen)
    if is_shards(unlabeled):
        from ssl_iqa.data.shards import ShardViews, list_shards, split_shards

        shards = split_shards(list_shards(unlabeled, workers), seed)
        train, val = (ShardViews(part, size, distortions, on_device, part is shards[1], long_side) for part in shards)
        names = [[[os.path.basename(shard.path), shard.images] for shard in part] for part in shards]  # as in JSON
        counts = [sum(shard.images for shard in part) for part in shards]
        sizes = [shard.size for part in shards for shard in part]
    else:
        if unlabeled == "demo":
            sources, demo = demo_sources(), sets.load_labeled("demo")
            parts = split if labeled == "demo" else divide(demo, known_parts(demo, seen), seed)
            names = [[path for path in sources if sources[path] in parts[part]] for part in ("train", "val")]
            if labeled != "demo":  # its photographs are seen all the same
                records = with_record(records, demo, parts, seed, JOINT)
        else:
            passed: Counter[str] = Counter()
            found = list_images(unlabeled, passed)
            kept = [path for path in found if path not in left_out]
            if left_out and len(kept) < 2:
                raise ValueError(f"--near-duplicates remove: leaves {len(kept)} of the {len(found)} pictures there")
            names = list(split_unlabeled(kept, seed))
            if passed and distributed.is_main():
                print(passed_over(passed), file=sys.stderr)
        sizes = [os.path.getsize(path) for part in names for path in part]
        train, val = (UnlabeledViews(paths, size, distortions, on_device, long_side) for paths in names)
        names = [[*map(os.path.basename, paths)] for paths in names]
        counts = [*map(len, names)]
    splits = {"unlabeled": {"spec": unlabeled, "train": counts[0], "val": sorted(names[1]), "val_pictures": counts[1]}}
    splits["sha256"] = {"unlabeled": digest(names[0] + names[1]), "unlabeled sizes": digest(sizes)}
    if scored is not None:
        splits["labeled"] = {"spec": scored.name, **split}
        splits["sha256"]["labeled"] = digest(zip(scored.references, scored.scores, strict=True))
        records = with_record(records, scored, split, seed, JOINT)
        splits["sha256"]["labeled images"] = digest(records[-1]["images"].items())
    return Pictures(splits, train, val, scored, records, known)


class Streams:
    """Batches of the unlabeled and, beside them, of the labeled pictures.

    An epoch is as long as the unlabeled stream, and the labeled images go round in it; with `labeled_once`, for
    validation, they come once, in order. Batch sizes are those of all processes, of which `process` makes its part.
    `skipped` gathers the paths of files that could not be read; the next image that can be stands in for each.
    """

    def __init__(
        self,
        unlabeled: "UnlabeledViews | ShardViews",
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
        labeled_once: bool = False,
    ) -> None:
        from ssl_iqa.data.shards import ShardBatches, ShardViews

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

        # `sample` and `first_readable`: where there is no usable picture, they raise now and not amid training
        if isinstance(unlabeled, ShardViews):
            unlabeled.sample(1)
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
        self.samplers: list[UnlabeledBatches | ShardBatches | LabeledBatches | EachOnce] = [order]
        self.labeled = None
        if labeled is not None:
            first_readable(labeled.read, labeled.paths, 0)
            images = len(labeled.paths)
            if labeled_once:
                batches = EachOnce(images, labeled_batch_size, seed, process, processes)
            else:
                batches = LabeledBatches(images, len(self), labeled_batch_size, seed, process, processes)
            self.samplers.append(batches)
            labeled_workers = 0 if labeled.labeled.kept else workers  # cropping bytes is no work
            self.labeled = loader(labeled, labeled_workers, batch_sampler=batches, collate=collate_crops)
        self.device = device
        self.skipped: set[str] = set()

    def __len__(self) -> int:
        return len(self.samplers[0])

    def batches(
        self, epoch: int, start: int = 0
    ) -> Iterator[tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor] | None]]:
        """A training epoch from step `start` on: batches of `unlabeled_batches`, and of `labeled_batches` or None."""
        for sampler in self.samplers:
            sampler.epoch, sampler.start = epoch, start
        labeled = repeat(None) if self.labeled is None else self.labeled_batches()
        return zip(self.unlabeled_batches(), labeled, strict=False)  # the shorter one ends both

    def unlabeled_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Views [N_U, 3, s, s] and classes [N_U] on the device; N_U is this process's part.

        The views are the first ones of all pictures, then the second ones, unless `views` is 1.
        """
        unlabeled = iter(self.unlabeled)
        for _ in range(self.samplers[0].start, len(self)):
            parts = []
            for part in islice(unlabeled, self.parts):
                name_skipped(part.skipped, self.skipped)
                parts.append(finish_views(part, self.dataset, self.device))
            views, classes = zip(*parts, strict=True)  # [2, b, 3, s, s] and [b] each
            x_d = torch.cat(views, dim=1)[: self.views].flatten(0, 1)
            yield x_d, torch.cat(classes).repeat(self.views)

    def labeled_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """x [N_L, 3, s, s] and y [N_L] on the device; N_L is this process's part."""
        for x, y, skipped in self.labeled or ():
            name_skipped(skipped, self.skipped)
            yield x.to(self.device, non_blocking=True), y.to(self.device, non_blocking=True)


def is_shards(spec: str) -> bool:
    """Whether `--unlabeled` names shards: photos-{0000..1399}.tar, a.tar,b.tar or photos-*.tar."""
    return spec.rstrip("}").endswith(".tar")


def make_streams(pictures: Pictures, device: torch.device, settings: Any) -> tuple[Streams, Streams]:
    """The batches to train and to validate with; `settings` are train_joint.py's."""
    streams = []
    for part, unlabeled in (("train", pictures.train), ("val", pictures.val)):
        crops, labeled = None, pictures.labeled
        if labeled is not None and settings.alpha < 1:
            indices = part_indices(labeled.references, pictures.splits["labeled"][part])
            make_all(labeled, indices, settings.workers and cpu_cores())
            crops = LabeledCrops(labeled, indices, settings.crop)
        streams.append(
            Streams(
                unlabeled=unlabeled,
                labeled=crops,
                batch_size=settings.batch_size,
                labeled_batch_size=settings.labeled_batch_size,
                images_per_class=settings.images_per_class,
                labeled_once=part == "val",
                views=settings.views,
                epoch_size=settings.epoch_size if part == "train" else settings.validation_size,
                workers=settings.workers,
                seed=settings.seed if part == "train" else settings.seed + 1,
                device=device,
                process=distributed.rank(),
                processes=distributed.size(),
            )
        )
    return streams[0], streams[1]
