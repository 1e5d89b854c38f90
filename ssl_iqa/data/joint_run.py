"""Around train_joint.py's loop: the run that it starts from, new or as it was saved, and the next command."""

import os
import shlex
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ssl_iqa.data.seen import records_of
from ssl_iqa.data.splits import part_indices
from ssl_iqa.data.streams import Pictures, Streams, find_pictures, is_shards, make_streams
from ssl_iqa.distortions import as_plain, load_distortions
from ssl_iqa.engine import checkpoint, distributed, run_folder
from ssl_iqa.engine.chunks import NetworksInChunks
from ssl_iqa.engine.weights import load_encoder
from ssl_iqa.model import Networks


def set_up(
    settings: Any,
    args: Any,
    device: torch.device,
    goes_on: bool,
    make_optimizer: Callable[[Networks, Any], torch.optim.Optimizer],
) -> tuple[checkpoint.Run, Pictures, Streams, Streams]:
    """The run, new or as it was saved, its images, and the batches to train and to validate with.

    `settings` and `args` are train_joint.py's, `goes_on` whether the run in the folder is continued. Near-duplicates
    are searched for, reported and, with `--near-duplicates remove`, left out.
    """
    from ssl_iqa.data import near_duplicates  # beside what a reader follows from train_joint.py to the loss

    # a folder is refused before the search, which may take minutes
    run_folder.run_in(args.out, keep=goes_on, replace=args.overwrite)
    action, report_file = settings.near_duplicates, args.out / run_folder.NEAR_DUPLICATES
    recorded = report_file if goes_on else None
    duplicates = near_duplicates.search_for_training(
        action, settings.unlabeled, settings.labeled, settings.workers, recorded
    )
    with distributed.together():
        distortions = load_distortions(settings.distortions)
        plain = asdict(settings), as_plain(distortions)
        saved = checkpoint.read_run(args.out, *plain, is_shards(settings.unlabeled)) if args.resume else None
        encoder = load_encoder(args.out / run_folder.LAST if saved else settings.init, settings.arch, settings.seed)
        is_removed = duplicates and action == "remove"
        pictures = find_pictures(
            settings.unlabeled,
            settings.labeled,
            settings.crop,
            distortions,
            on_device=settings.distort_on == "device",
            seed=settings.seed,
            workers=settings.workers,
            left_out={pair["unlabeled"] for pair in duplicates["found"]} if is_removed else (),
            seen=records_of(settings.init, encoder),
            long_side=settings.long_side,
        )
        encoder.seen = pictures.seen
        streams, val_streams = make_streams(pictures, device, settings)

        torch.manual_seed(settings.seed)  # of the heads
        mean_score = 5.5
        if pictures.labeled:  # of the training part: the test part must not have any influence
            train = part_indices(pictures.labeled.references, pictures.splits["labeled"]["train"])
            mean_score = sum(pictures.labeled.scores[i] for i in train) / len(train)
        nets = Networks(encoder, mean_score)
        if settings.accumulate > 1:
            nets = NetworksInChunks(encoder, mean_score, settings.accumulate)
        nets.regressor.requires_grad_(settings.alpha < 1)  # CL does not reach it
        distributed.synchronize(nets.to(device, memory_format=torch.channels_last), device)
        if settings.compile:
            nets.encoder.compile()
        scaler = torch.amp.GradScaler(device.type, enabled=settings.amp == "fp16")
        run = checkpoint.Run(args.out, *plain, nets, make_optimizer(nets, settings), scaler)
        if saved:
            checkpoint.restore(run, saved, pictures.splits)
        streams.skipped = val_streams.skipped = run.skipped
        if distributed.is_main():
            run_folder.prepare_folder(args.out, keep=goes_on, replace=args.overwrite)
            checkpoint.begin(run, pictures.splits)
            if duplicates:
                run_folder.write_json(duplicates, report_file)
    if duplicates:
        near_duplicates.print_report(duplicates, action, report_file)
    return run, pictures, streams, val_streams


def finetune_command(settings: Any, preset: Any, args: Any) -> str:
    """How to finetune the encoder of a run, to be pasted into a shell: the flags that finetune.py's preset of the same
    name, whose set and crop are this script's, does not have already. The split comes with the encoder.
    """
    flags = (
        ("--preset", args.preset, "demo"),
        ("--encoder", args.out / run_folder.ENCODER, Path("runs/joint/encoder.pt")),
        ("--data", settings.labeled or "SPEC", preset.labeled),
        ("--crop", settings.crop, preset.crop),
        ("--long-side", settings.long_side, preset.long_side),
    )
    words = ["python", os.path.relpath(Path(__file__).parents[2] / "finetune.py"), "--mode", "lp-ft"]
    for name, value, default in flags:
        words += [name, str(value)] if value != default else []
    return shlex.join(words)
