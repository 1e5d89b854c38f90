"""Pretraining of Table 3's learned methods by their own pretext tasks, on the unlabeled stream of train_joint.py.

    ssl-iqa pretrain rankiqa                                        the built-in photographs, a few minutes
    ssl-iqa pretrain rankiqa --preset paper --unlabeled DIR/kadis700k --arch resnet50
    torchrun --nproc_per_node 8 -m ssl_iqa pretrain ..              the same on eight GPUs

A pretext task is a batch sampler and a loss, in the module of the method's name: `Settings`, `METHOD`, `measure`.
Images, distortions, views, checkpoints and resuming are joint training's.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssl_iqa.archs import ARCHS
from ssl_iqa.baselines import PRETRAINED, module_of
from ssl_iqa.data import sets
from ssl_iqa.data.joint_run import end_epoch, finetune_command, goes_on_from, set_up
from ssl_iqa.data.streams import Streams
from ssl_iqa.engine import checkpoint, console, distributed
from ssl_iqa.engine.checkpoint import Run
from ssl_iqa.engine.device import autocast, use_device
from ssl_iqa.engine.settings import Parser, add_flags, presets, setting, settings_from
from ssl_iqa.engine.signals import Stop, clear_stop, stop_signals
from ssl_iqa.schedule import lr_factor

Measure = Callable[[Tensor, Tensor, list[list]], tuple[Tensor, Tensor]]
"""The networks' output for a batch, its classes [N] and all classes, to the loss and the share of right answers."""


@dataclass(frozen=True)
class Settings:
    """What all pretext tasks share; a method's own `Settings` have its authors' values."""

    method: str = setting("", "", "")  # of no flag: the command's word
    unlabeled: str = setting("", "data", "pristine images: `demo`, a folder, or tars: `{000..999}.tar`", demo="demo")
    distortions: str = setting("kadis", "data", "types and levels: `kadis`, `distinct`, `imgaug` or a TOML file")
    distort_on: str = setting("worker", "data", "where images are distorted", choices=("worker", "device"))
    crop: int = setting(224, "data", "side of the views, pixels", low=32, demo=96)
    long_side: int = setting(0, "data", "pixels that images are reduced to when read; 0: as they are", low=0, demo=192)
    epoch_size: int = setting(0, "data", "pristine images an epoch; 0: each once", low=0, demo=6400)
    validation_size: int = setting(0, "data", "pristine images to validate with; 0: each once", low=0, demo=256)
    arch: str = setting("resnet50", "model", "the encoder", choices=tuple(ARCHS), demo="dct-mlp")
    init: str = setting("imagenet", "model", "weights to start from: `imagenet`, `random` or a file", demo="random")
    batch_size: int = setting(64, "optimization", "distorted images a step", low=2)
    epochs: int = setting(10, "optimization", "at most", low=1, demo=8)
    lr: float = setting(1e-4, "optimization", "learning rate", above=0, demo=1e-3)
    weight_decay: float = setting(0.0, "optimization", "of all parameters", low=0)
    warmup: int = setting(0, "optimization", "steps over which the learning rate rises to its value", low=0)
    schedule: str = setting("plateau", "optimization", "of lr", choices=("plateau", "linear"), demo="linear")
    patience: int = setting(5, "optimization", "epochs without a better validation loss until lr / 10", low=1)
    stop_after: int = setting(15, "optimization", "epochs without a better validation loss until the end", low=1)
    amp: str = setting("off", "run", "mixed precision", choices=("bf16", "off"))
    save_every: int = setting(0, "run", "steps after which to save within an epoch; 0: at its end", low=0)
    workers: int = setting(8, "run", "processes that read and distort images, of each training process", low=0, demo=2)
    device: str = setting("auto", "run", "where to compute", choices=("auto", "cpu", "cuda", "mps"))
    seed: int = setting(0, "run", "of everything random", low=0, high=2**63 - 1)

    # what train_joint.py's have besides, for the code that both share: no labels, one view of an image
    labeled, near_duplicates, views, images_per_class, compile = "", "ignore", 1, 0, False


def train_epoch(
    run: Run, nets: nn.Module, streams: Streams, measure: Measure, settings: Settings, stop: Stop
) -> dict[str, float]:
    """One pass over the unlabeled images, from the run's step on. Returns the epoch's means.

    Raises FloatingPointError, before the weights change, when the loss or its gradient is not finite, and Stopped,
    between two steps, when the run is to end.
    """
    nets.train()
    progress, clock = run.progress, console.Clock(settings.batch_size)
    batches = clock.waiting(streams.batches(progress.epochs, progress.step))
    bar = console.bar(batches, f"epoch {progress.epochs + 1}/{settings.epochs}", len(streams), done=progress.step)
    for (x_d, classes), _ in bar:
        step = progress.epochs * len(streams) + progress.step
        factor = lr_factor(step, settings.epochs * len(streams), progress.plateaus, settings.warmup, settings.schedule)
        for group in run.optimizer.param_groups:
            group["lr"] = settings.lr * factor
        run.optimizer.zero_grad()
        torch.manual_seed(settings.seed + step)  # of what a network draws, so that a resumed run draws it again
        with autocast(streams.device, settings.amp):
            outputs = nets(x_d)
        loss, accuracy = measure(outputs.float(), classes, run.distortions)
        loss.backward()
        means = distributed.mean(torch.stack([loss.detach(), accuracy])).tolist()
        values = dict(zip(("loss", "accuracy"), means, strict=True))
        values["grad_norm"] = nn.utils.clip_grad_norm_(run.nets.parameters(), math.inf).item()  # nothing is clipped
        if not all(map(math.isfinite, values.values())):
            where = f"step {progress.step + 1}, epoch {progress.epochs + 1}"
            raise FloatingPointError(f"the loss or its gradient is not finite at {where}: {values}")
        run.optimizer.step()
        progress.add(values)
        bar.set_postfix(console.shown(values | {"lr": settings.lr * factor} | clock.rates()), refresh=False)
        if settings.save_every and progress.step % settings.save_every == 0:
            checkpoint.save_run(run)
        distributed.end_if_asked(stop.asked, streams.device)
    return progress.means() | {"lr": run.optimizer.param_groups[0]["lr"]} | clock.rates()


@torch.no_grad()
def validate(run: Run, streams: Streams, measure: Measure, settings: Settings, stop: Stop) -> dict[str, float]:
    """Loss and accuracy on the validation images, whose distortions and crops are the same every time."""
    run.nets.eval()
    values = []
    torch.manual_seed(settings.seed)
    for x_d, classes in console.bar(streams.unlabeled_batches(), "validation", len(streams)):
        with autocast(streams.device, settings.amp):
            outputs = run.nets(x_d)
        values.append(torch.stack(measure(outputs.float(), classes, run.distortions)))
        distributed.end_if_asked(stop.asked, streams.device)
    loss, accuracy = distributed.mean(torch.stack(values).mean(dim=0)).tolist()
    if not math.isfinite(loss):
        raise FloatingPointError(f"the validation loss is not finite: {loss}")
    return {"val_loss": loss, "val_accuracy": accuracy}


def print_epoch(record: dict[str, Any], is_best: bool, epochs: int) -> None:
    losses = f"epoch {record['epoch']:>3}/{epochs}  loss {record['loss']:.4f}  right {record['accuracy']:.1%}"
    validation = f"validation: loss {record['val_loss']:.4f}  right {record['val_accuracy']:.1%}"
    console.print_parts([losses, validation], record, is_best)


def add_arguments(parser: Parser) -> None:
    methods = parser.add_subparsers(dest="method", metavar="METHOD", required=True)
    for name, text in PRETRAINED.items():
        module = module_of(name)
        command = methods.add_parser(
            name, help=text, description=module.__doc__, formatter_class=parser.formatter_class
        )
        add_flags(command, presets(module.Settings), Path("runs", name))


def run(args: Any) -> None:
    module = module_of(args.method)
    with console.clear_errors():
        own = {"long_side": 0} if args.unlabeled not in (None, "demo") else {}  # own images are never reduced unasked
        settings = settings_from(args, presets(module.Settings), **own)
        if not settings.unlabeled:
            raise ValueError("--unlabeled is required: `demo`, a folder of pristine images, or tars")
        device = use_device(settings.device, settings.workers, settings.amp)
    args.overwrite |= args.out is None and settings.unlabeled == "demo"  # the demo's default folder is replaced
    args.out = args.out or Path("runs", args.method)
    with stop_signals() as stop, distributed.processes(device), console.one_voice(distributed.is_main()):
        goes_on, kept = goes_on_from(args)
        with clear_stop(f"before the first step; {kept}"), stop.anywhere(), console.clear_errors():
            run, images, streams, val_streams = set_up(settings, args, device, goes_on, module.METHOD)
        progress, nets = run.progress, distributed.parallel(run.nets, device)
        console.print_start(run, images.splits, len(streams), device)
        with checkpoint.clear_end(run):
            while progress.epochs < settings.epochs and progress.since_best < settings.stop_after:
                record = train_epoch(run, nets, streams, module.measure, settings, stop)
                record |= validate(run, val_streams, module.measure, settings, stop)
                is_best = end_epoch(run, record, record["val_loss"], settings.patience)
                print_epoch(record, is_best, settings.epochs)
        console.print_end(run, finetune_command(settings, args, "--encoders", f"{args.method}={args.out}"), sets.SPECS)
