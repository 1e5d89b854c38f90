"""Around the loop of a pretraining: the run that it starts from, new or as it was saved, and the next command."""

import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from ssl_iqa.data import sets
from ssl_iqa.data.datasets import LabeledCrops, UnlabeledViews, name_skipped
from ssl_iqa.data.demo import demo_sources
from ssl_iqa.data.images import is_shards, list_images, passed_over
from ssl_iqa.data.in_order import make_all
from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.data.samplers import UnlabeledBatches
from ssl_iqa.data.seen import Record, divide, known_parts, records_of, with_record
from ssl_iqa.data.splits import digest, part_indices, split_unlabeled
from ssl_iqa.data.streams import Streams
from ssl_iqa.distortions import DistortionClass, load_distortions
from ssl_iqa.engine import checkpoint, distributed, run_folder
from ssl_iqa.engine.chunks import NetworksInChunks
from ssl_iqa.engine.device import cpu_cores
from ssl_iqa.engine.weights import load_encoder
from ssl_iqa.model import Encoder, Networks

JOINT = "joint training"  # in the record of what an encoder has seen


class Images(NamedTuple):
    """The images to train and to validate with."""

    splits: dict[str, Any]  # the content of splits.json
    train: UnlabeledViews
    val: UnlabeledViews
    labeled: LabeledSet | None
    seen: list[Record]  # what the encoder will have seen: of its start and of this run
    known: dict[str, str]  # the part of each labeled reference that its start had seen


def find_images(
    settings: Any, distortions: Sequence[DistortionClass], left_out: Collection[str] = (), seen: Sequence[Record] = ()
) -> Images:
    """Section 4.1's parts of the images that train_joint.py's `settings` name; `labeled` may be empty.

    Labeled images are split 60/20/20 by reference, unlabeled ones 80/20, shards as wholes. The demo's photographs
    serve both streams and are split by source, alike in both, so that none of the labeled test part is met in training.
    What the encoder has `seen` before keeps its part. The paths in `left_out` are in no part of a folder.
    """
    spec, seed, records = settings.unlabeled, settings.seed, list(seen)
    labeled = sets.load_labeled(settings.labeled, settings.long_side) if settings.labeled else None
    known = known_parts(labeled, seen) if labeled else {}
    split = divide(labeled, known, seed) if labeled else {}
    views = (settings.crop, distortions, settings.distort_on == "device", settings.long_side)
    if is_shards(spec):
        from ssl_iqa.data.shards import Members, ShardViews, list_shards  # off a reader's path

        shards = {shard.path: shard for shard in list_shards(spec, settings.workers)}
        parts = split_unlabeled([*shards], seed)
        train, val = (ShardViews(Members([shards[path] for path in part]), *views) for part in parts)
    elif spec == "demo":
        sources, parts = demo_sources(), split
        if settings.labeled != "demo":  # its photographs are seen all the same
            demo = sets.load_labeled("demo")
            parts = divide(demo, known_parts(demo, seen), seed)
            records = with_record(records, demo, parts, seed, JOINT)
        train, val = (
            UnlabeledViews([path for path in sources if sources[path] in parts[part]], *views)
            for part in ("train", "val")
        )
    else:
        passed: Counter[str] = Counter()
        paths = [path for path in list_images(spec, passed) if path not in left_out]
        train, val = (UnlabeledViews(part, *views) for part in split_unlabeled(paths, seed))
        if passed and distributed.is_main():
            print(passed_over(passed), file=sys.stderr)
    (train_names, train_count, train_sizes), (val_names, val_count, val_sizes) = train.listing(), val.listing()
    splits = {"unlabeled": {"spec": spec, "train": train_count, "val": sorted(val_names), "val_pictures": val_count}}
    names, sizes = digest(train_names + val_names), digest(train_sizes + val_sizes)
    splits["sha256"] = {"unlabeled": names, "unlabeled sizes": sizes}
    if labeled:
        splits["labeled"] = {"spec": labeled.name, **split}
        splits["sha256"]["labeled"] = digest(zip(labeled.references, labeled.scores, strict=True))
        records = with_record(records, labeled, split, seed, JOINT)
        splits["sha256"]["labeled images"] = digest(records[-1]["images"].items())
    return Images(splits, train, val, labeled, records, known)


def initial_encoder(spec: str | Path, settings: Any, _: Sequence[DistortionClass]) -> Encoder:
    return load_encoder(spec, settings.arch, settings.seed)


def joint_networks(encoder: Encoder, images: Images, settings: Any) -> Networks:
    """Section 3's three networks for train_joint.py's `settings`."""
    mean_score = 5.5
    if images.labeled:  # of the training part: the test part must not have any influence
        train = part_indices(images.labeled.references, images.splits["labeled"]["train"])
        mean_score = sum(images.labeled.scores[i] for i in train) / len(train)
    nets = Networks(encoder, mean_score)
    if settings.accumulate > 1:
        nets = NetworksInChunks(encoder, mean_score, settings.accumulate)
    nets.regressor.requires_grad_(settings.alpha < 1)  # CL does not reach it
    return nets


class Method(NamedTuple):
    """What a pretraining has of its own, beside its loss; but for the optimizer the defaults are train_joint.py's.

    Of its networks one is `encoder`. The batch sampler is made as by `UnlabeledViews.order`. `with_pristine` is that of
    `UnlabeledViews`.
    """

    make_optimizer: Callable[[nn.Module, Any], torch.optim.Optimizer]
    make_networks: Callable[[Encoder, Images, Any], nn.Module] = joint_networks
    load_encoder: Callable[[str | Path, Any, Sequence[DistortionClass]], Encoder] = initial_encoder
    order: Callable[..., UnlabeledBatches] = UnlabeledViews.order
    choose: Callable[[Sequence[DistortionClass]], Sequence[DistortionClass]] = tuple  # classes, of --distortions
    with_pristine: bool = False


def make_streams(
    images: Images, device: torch.device, settings: Any, order: Callable[..., UnlabeledBatches] = UnlabeledViews.order
) -> tuple[Streams, Streams]:
    """The batches to train and to validate with; `settings` are train_joint.py's."""
    crops: list[LabeledCrops | None] = [None, None]
    labeled = images.labeled
    if labeled is not None and settings.alpha < 1:
        parts = [part_indices(labeled.references, images.splits["labeled"][part]) for part in ("train", "val")]
        make_all(labeled, [*parts[0], *parts[1]], settings.workers and cpu_cores())
        crops = [LabeledCrops(labeled, indices, settings.crop) for indices in parts]
    train = Streams(images.train, crops[0], settings, device, order=order)
    return train, Streams(images.val, crops[1], settings, device, is_validation=True, order=order)


def goes_on_from(args: Any) -> tuple[bool, str]:
    """Whether the run in the folder goes on, with --resume or because torchrun has restarted this launch, for which
    `args.resume` is then set; and what a stop before the first step leaves, in words.
    """
    last = args.out / run_folder.LAST
    goes_on = distributed.every(args.resume or run_folder.is_of_this_launch(args.out))[0]
    args.resume |= goes_on and last.exists()
    return goes_on, f"{last} is as it was" if goes_on else "nothing to resume"


def set_up(
    settings: Any, args: Any, device: torch.device, goes_on: bool, method: Method
) -> tuple[checkpoint.Run, Images, Streams, Streams]:
    """The run, new or as it was saved, its images, and the batches to train and to validate with.

    `settings` and `args` are as train_joint.py's, `goes_on` whether the run in the folder is continued. Near-duplicates
    are searched for, reported and, with `--near-duplicates remove`, left out.
    """
    from ssl_iqa.data import near_duplicates  # beside what a reader follows from train_joint.py to the loss

    # a folder is refused before the search, which may take minutes
    run_folder.run_in(args.out, keep=goes_on, replace=args.overwrite)
    action, report_file = settings.near_duplicates, args.out / run_folder.NEAR_DUPLICATES
    duplicates = near_duplicates.search_for_training(settings, report_file if goes_on else None)
    with distributed.together():
        distortions = method.choose(load_distortions(settings.distortions))
        plain = asdict(settings), [list(distortion) for distortion in distortions]
        saved = checkpoint.read_run(args.out, *plain) if args.resume else None
        encoder = method.load_encoder(args.out / run_folder.LAST if saved else settings.init, settings, distortions)
        left_out = {pair["unlabeled"] for pair in duplicates["found"]} if duplicates and action == "remove" else ()
        images = find_images(settings, distortions, left_out, seen=records_of(settings.init, encoder))
        encoder.seen = images.seen
        images.train.with_pristine = images.val.with_pristine = method.with_pristine
        streams, val_streams = make_streams(images, device, settings, method.order)

        torch.manual_seed(settings.seed)  # of the heads
        nets = method.make_networks(encoder, images, settings)
        distributed.synchronize(nets.to(device, memory_format=torch.channels_last), device)
        if settings.compile:
            nets.encoder.compile()
        scaler = torch.amp.GradScaler(device.type, enabled=settings.amp == "fp16")
        run = checkpoint.Run(args.out, *plain, nets, method.make_optimizer(nets, settings), scaler)
        if saved:
            checkpoint.restore(run, saved, images.splits)
        streams.skipped = val_streams.skipped = run.skipped
        if distributed.is_main():
            run_folder.prepare_folder(args.out, keep=goes_on, replace=args.overwrite)
            checkpoint.begin(run, images.splits)
            if duplicates:
                run_folder.write_json(duplicates, report_file)
    if duplicates:
        print(near_duplicates.describe(duplicates, limit=3))
    if duplicates and duplicates["found"]:
        outcome = "left out" if left_out else "used all the same; --near-duplicates remove leaves them out"
        print(f"they are {outcome}; {report_file} names all")
    return run, images, streams, val_streams


def end_epoch(run: checkpoint.Run, record: dict[str, Any], loss: float, patience: int) -> bool:
    """Saves the run with an epoch's record, which gets its number, minutes and files that could not be read.

    Returns whether `loss`, of its validation, is the best so far.
    """
    is_best = run.progress.update(loss, patience)
    skipped = set().union(*distributed.every(run.skipped))
    name_skipped(skipped, run.skipped)
    record |= {"epoch": run.progress.epochs, "minutes": round(run.minutes(), 2), "skipped": len(skipped)}
    checkpoint.save_run(run, record, is_best)
    return is_best


def finetune_command(settings: Any, args: Any, *encoder: object) -> str:
    """How to finetune the `encoder` of a run, to be pasted into a shell. The split comes with the encoder."""
    script = os.path.relpath(Path(__file__).parents[2] / "finetune.py")
    words = ["python", script, "--mode", "lp-ft", "--preset", args.preset, *encoder]
    words += ["--data", settings.labeled or "SPEC", "--crop", settings.crop, "--long-side", settings.long_side]
    return shlex.join(map(str, words))
