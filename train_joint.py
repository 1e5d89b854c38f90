"""Semi-supervised pretraining (Sections 3 and 4.2): one encoder learns from two streams at once.

    python train_joint.py                                   the built-in photographs, a few minutes on two CPU cores
    python train_joint.py --preset paper --unlabeled DIR/kadis700k --labeled kadid10k:DIR/kadid10k
    torchrun --nproc_per_node 8 train_joint.py ..           the same on eight GPUs

Read with Section 3 beside it: `joint_step` is the algorithm, `main` what is around it.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ssl_iqa.archs import ARCHS
from ssl_iqa.data import seen, sets
from ssl_iqa.data.joint_run import Method, end_epoch, finetune_command, goes_on_from, set_up
from ssl_iqa.data.streams import Streams
from ssl_iqa.engine import checkpoint, console, distributed, run_folder
from ssl_iqa.engine.checkpoint import Run
from ssl_iqa.engine.device import AMP, use_device
from ssl_iqa.engine.settings import presets, script_parser, setting, settings_from
from ssl_iqa.engine.signals import Stop, clear_stop, stop_signals
from ssl_iqa.engine.weights import load_encoder
from ssl_iqa.evaluation import metrics, probe
from ssl_iqa.lars import LARS
from ssl_iqa.losses import supervised_nt_xent
from ssl_iqa.model import Networks
from ssl_iqa.schedule import lr_factor


@dataclass(frozen=True)
class Settings:
    """Section 4.2's setting; where the paper is silent, docs/decisions.md's. docs/training.md says more of each."""

    unlabeled: str = setting("", "data", "pristine images: `demo`, a folder, or tars: `{000..999}.tar`", demo="demo")
    labeled: str = setting("", "data", f"scored images: {sets.SPECS}", demo="demo")
    distortions: str = setting("kadis", "data", "types and levels: `kadis`, `distinct`, `imgaug` or a TOML file")
    distort_on: str = setting("worker", "data", "where images are distorted", choices=("worker", "device"))
    near_duplicates: str = setting("report", "data", "of labeled images", choices=("report", "remove", "ignore"))
    crop: int = setting(224, "data", "side of the views, pixels", low=32, demo=96)
    long_side: int = setting(0, "data", "pixels that images are reduced to when read; 0: as they are", low=0, demo=192)
    epoch_size: int = setting(0, "data", "unlabeled images an epoch; 0: each once", low=0, demo=6400)
    validation_size: int = setting(0, "data", "unlabeled images to validate with; 0: each once", low=0, demo=256)
    arch: str = setting("resnet50", "model", "the encoder", choices=tuple(ARCHS), demo="dct-mlp")
    init: str = setting("imagenet", "model", "weights to start from: `imagenet`, `random` or a file", demo="random")
    alpha: float = setting(0.9, "loss", "weight of L_cont in Eq. 8; 1 is the paper's CL, no labels", low=0, high=1)
    temperature: float = setting(0.5, "loss", "tau of Eq. 5", above=0)
    average: str = setting("anchors", "loss", "what Eq. 5 is averaged over", choices=("anchors", "classes"))
    batch_size: int = setting(1000, "loss", "unlabeled images a step, of two views each", low=2, demo=64)
    labeled_batch_size: int = setting(32, "loss", "labeled images a step", low=2, demo=64)
    images_per_class: int = setting(0, "loss", "M images of each class drawn; 0: classes at random", low=0, demo=2)
    views: int = setting(2, "loss", "of each distorted image; 1: positives are other images only", low=1, high=2)
    epochs: int = setting(100, "optimization", "at most", low=1, demo=8)
    optimizer: str = setting("lars", "optimization", "the paper's, or one to compare", choices=("lars", "sgd", "adam"))
    lr: float = setting(1e-2, "optimization", "learning rate of encoder and projection head", above=0, demo=0.7)
    regressor_lr: float = setting(1e-4, "optimization", "learning rate of the regressor", above=0, demo=1e-2)
    weight_decay: float = setting(1e-6, "optimization", "of all, with LARS but one-dimensional parameters", low=0)
    trust_coefficient: float = setting(1e-3, "optimization", "of LARS", above=0)
    warmup: int = setting(0, "optimization", "steps over which the learning rates rise to their value", low=0, demo=40)
    schedule: str = setting("plateau", "optimization", "of lr", choices=("plateau", "linear"), demo="linear")
    patience: int = setting(5, "optimization", "epochs without a better validation loss until lr / 10", low=1)
    stop_after: int = setting(15, "optimization", "epochs without a better validation loss until the end", low=1)
    accumulate: int = setting(1, "run", "parts in which a step's views pass the encoder, for a small GPU", low=1)
    amp: str = setting("off", "run", "mixed precision", choices=tuple(AMP))
    compile: bool = setting(False, "run", "compile the encoder (torch.compile)")
    save_every: int = setting(0, "run", "steps after which to save within an epoch; 0: at its end", low=0)
    workers: int = setting(8, "run", "processes that read and distort images, of each training process", low=0, demo=2)
    device: str = setting("auto", "run", "where to compute", choices=("auto", "cpu", "cuda", "mps"))
    seed: int = setting(0, "run", "of everything random", low=0, high=2**63 - 1)


PRESETS = presets(Settings)  # paper; demo: what a few minutes of two CPU cores buy most with, see docs/demo.md
Batch = tuple[Tensor, Tensor]  # views and classes, or images and scores
DEFAULT_OUT = Path("runs/joint")  # finetune.py's default encoder is there


def joint_loss(p: Tensor, classes: Tensor, y_hat: Tensor | None, y: Tensor | None, settings: Settings) -> Tensor:
    """Eq. 8 and its two terms: L, L_cont and L_r, [3].

    p [n, 128] and distortion classes [n] of the views, predicted scores y_hat [N_L] and opinion scores y [N_L], which
    are None for CL (alpha 1). Of several processes each returns its share of L_cont times their number, so that the
    mean over processes is the loss of the whole batch.
    """
    p, classes, anchors = distributed.gather(p, classes)  # [N_U, 128] and [N_U] of all processes
    share = supervised_nt_xent(p, classes, settings.temperature, settings.average, anchors)
    loss_cont = distributed.size() * share  # Eq. 5
    loss_r = loss_cont.new_zeros(()) if y_hat is None else nn.functional.mse_loss(y_hat.to(y.dtype), y)  # Eq. 7
    loss = settings.alpha * loss_cont + (1 - settings.alpha) * loss_r  # Eq. 8
    return torch.stack([loss, loss_cont, loss_r])


def joint_step(
    nets: nn.Module, unlabeled: Batch, labeled: Batch | None, settings: Settings, scale: Callable = lambda loss: loss
) -> dict[str, float]:
    """The gradient of Eq. 8, added to the parameters of all three networks, and the losses' values, finite or not.

    x_d [n, 3, s, s] with classes [n], and x [N_L, 3, s, s] with scores y [N_L]; `labeled` is None for CL (alpha 1).
    `scale` is what fp16 needs.
    """
    (x_d, classes), (x, y) = unlabeled, labeled or (None, None)
    with torch.autocast(x_d.device.type, AMP[settings.amp], enabled=settings.amp != "off"):
        p, y_hat = nets(x_d, x)  # Eqs. 1-4: [n, 128], and Eq. 6: [N_L]
    losses = joint_loss(p, classes, y_hat, y, settings)  # [3], Eqs. 5, 7 and 8
    scale(losses[0]).backward()
    values = distributed.mean(losses.detach()).tolist()
    return dict(zip(("L", "L_cont", "L_r") if labeled else ("L", "L_cont"), values, strict=False))


def make_optimizer(nets: Networks, settings: Settings) -> torch.optim.Optimizer:
    """LARS with Section 4.2's learning rates. The regressor, which only Eq. 7 reaches, is not adapted.

    SGD, with LARS's momentum, and Adam are what docs/study.md compares it with.
    """
    adapted = {"params": [*nets.encoder.parameters(), *nets.projector.parameters()], "lr": settings.lr}
    regressor = {"params": [*nets.regressor.parameters()], "lr": settings.regressor_lr, "adapt": False}
    decay = settings.weight_decay
    if settings.optimizer == "adam":
        return torch.optim.Adam([adapted, regressor], weight_decay=decay)
    if settings.optimizer == "sgd":
        return torch.optim.SGD([adapted, regressor], momentum=0.9, weight_decay=decay)
    return LARS([adapted, regressor], settings.lr, weight_decay=decay, trust_coefficient=settings.trust_coefficient)


def gradient_norm(nets: Networks) -> float:
    """The length of all gradients as one vector."""
    return torch.stack([w.grad.norm() for w in nets.parameters() if w.grad is not None]).norm().item()


def train_epoch(run: Run, nets: nn.Module, streams: Streams, settings: Settings, stop: Stop) -> dict[str, float]:
    """One pass over the unlabeled images beside repeated passes over the labeled ones. Returns the epoch's means.

    Starts at the run's step. Raises FloatingPointError, before the weights change, when the loss is not finite, and
    Stopped, between two steps, when the run is to end.
    """
    nets.train()
    progress, optimizer, scaler = run.progress, run.optimizer, run.scaler
    clock = console.Clock(settings.batch_size + (settings.labeled_batch_size if streams.labeled else 0))
    batches = clock.waiting(streams.batches(progress.epochs, progress.step))
    bar = console.bar(batches, f"epoch {progress.epochs + 1}/{settings.epochs}", len(streams), done=progress.step)
    for unlabeled, labeled in bar:
        step = progress.epochs * len(streams) + progress.step
        factor = lr_factor(step, settings.epochs * len(streams), progress.plateaus, settings.warmup, settings.schedule)
        for group, lr in zip(optimizer.param_groups, (settings.lr, settings.regressor_lr), strict=True):
            group["lr"] = lr * factor
        optimizer.zero_grad()
        values = joint_step(nets, unlabeled, labeled, settings, scaler.scale)
        scaler.unscale_(optimizer)
        values["grad_norm"] = gradient_norm(run.nets)
        # a gradient that fp16 cannot hold is left out and the next one scaled down, as far as that goes
        is_finite = math.isfinite(values["grad_norm"]) or (scaler.is_enabled() and scaler.get_scale() > 1)
        if not (math.isfinite(values["L"]) and is_finite):
            where = f"step {step + 1}, epoch {progress.epochs + 1}"
            raise FloatingPointError(f"the loss or its gradient is not finite at {where}: {values}")
        scaler.step(optimizer)
        scaler.update()
        progress.add(values)
        bar.set_postfix(console.shown(values | {"lr": settings.lr * factor} | clock.rates()), refresh=False)
        if settings.save_every and progress.step % settings.save_every == 0:
            checkpoint.save_run(run)
        distributed.end_if_asked(stop.asked, streams.device)
    lr, regressor_lr = (group["lr"] for group in optimizer.param_groups)
    return progress.means() | {"lr": lr, "regressor_lr": regressor_lr} | clock.rates()


@torch.no_grad()
def validate(nets: Networks, streams: Streams, settings: Settings, stop: Stop) -> dict[str, float]:
    """Eq. 8 on the validation images, whose distortions and crops are the same every time, and their SROCC.

    L_r and SROCC are over all labeled images, each once, however many unlabeled ones there are. Raises
    FloatingPointError when the loss is not finite, Stopped when the run is to end.
    """
    nets.eval()
    amp = torch.autocast(streams.device.type, AMP[settings.amp], enabled=settings.amp != "off")
    y_hat = y = None
    if streams.labeled:
        predicted, true, batches = [], [], streams.labeled_batches()
        for _ in console.bar(range(len(streams.labeled)), "validation, scores"):
            if batch := next(batches, None):  # None: this process has no share of the last batch
                with amp:
                    predicted += nets.predict(batch[0]).tolist()
                true += batch[1].tolist()
            distributed.end_if_asked(stop.asked, streams.device)
        parts = zip(*distributed.every((predicted, true)), strict=True)
        y_hat, y = (torch.tensor(sum(part, []), device=streams.device) for part in parts)  # [M], of all processes
    losses = []  # of each batch L, L_cont, L_r
    for x_d, classes in console.bar(streams.unlabeled_batches(), "validation", len(streams)):
        with amp:
            p = nets.project(x_d)
        losses.append(joint_loss(p, classes, y_hat, y, settings))
        distributed.end_if_asked(stop.asked, streams.device)
    means = distributed.mean(torch.stack(losses).mean(dim=0)).tolist()
    values = dict(zip(("val_L", "val_L_cont", "val_L_r"), means, strict=True))
    if not math.isfinite(values["val_L"]):
        raise FloatingPointError(f"the validation loss is not finite: {values}")
    if streams.labeled:
        values["val_SROCC"] = metrics.srocc(y_hat.cpu(), y.cpu()) if len(y) > 1 else math.nan
    return values


def parse_arguments(arguments: list[str] | None) -> tuple[Settings, argparse.Namespace]:
    args = script_parser(__doc__, PRESETS, DEFAULT_OUT).parse_args(arguments)
    with console.clear_errors():
        # unasked, own images never go with the demo's scores and are never reduced
        own = {"labeled": ""} if args.unlabeled else {}
        own |= {"long_side": 0} if {args.unlabeled, args.labeled} - {None, "", "demo"} else {}
        settings = settings_from(args, PRESETS, **own)
        if not settings.unlabeled:
            raise ValueError("--unlabeled is required: `demo`, a folder of pristine images, or tars")
        if not settings.labeled and settings.alpha < 1:
            raise ValueError("--labeled is required: only --alpha 1, the paper's CL, goes without labels")
        if settings.batch_size % max(settings.images_per_class, 1):
            raise ValueError(f"--images-per-class must divide --batch-size, got {settings.images_per_class}")
        most = settings.views * settings.batch_size // distributed.launched() // 2  # of two views each
        if settings.accumulate > most:
            raise ValueError(f"--accumulate must be at most {most} for this batch, got {settings.accumulate}")
    args.overwrite |= args.out is None and settings.unlabeled == "demo"  # the demo's default folder is replaced
    args.out = args.out or DEFAULT_OUT
    return settings, args


def main(arguments: list[str] | None = None) -> None:
    settings, args = parse_arguments(arguments)
    with console.clear_errors():
        device = use_device(settings.device, settings.workers, settings.amp)
    with stop_signals() as stop, distributed.processes(device), console.one_voice(distributed.is_main()):
        goes_on, kept = goes_on_from(args)
        with clear_stop(f"before the first step; {kept}"), stop.anywhere(), console.clear_errors():
            run, images, streams, val_streams = set_up(settings, args, device, goes_on, Method(make_optimizer))
        progress, nets = run.progress, distributed.parallel(run.nets, device)
        console.print_start(run, images.splits, len(streams), device)
        if images.known and not run.saved:
            print(seen.in_words(images.splits["labeled"], images.known))

        with checkpoint.clear_end(run):
            while progress.epochs < settings.epochs and progress.since_best < settings.stop_after:
                record = train_epoch(run, nets, streams, settings, stop)
                record |= validate(run.nets, val_streams, settings, stop)
                is_best = end_epoch(run, record, record["val_L"], settings.patience)
                console.print_epoch(record, is_best, settings.epochs)

        if distributed.is_main():
            with clear_stop(f"after the last epoch; {args.out} is complete"), stop.anywhere():
                best = load_encoder(args.out / run_folder.ENCODER)
                encoders = {"this encoder": best, "a random one": load_encoder("random", best.arch, settings.seed)}
                accuracies = probe.probe_types(encoders, images.train, images.val, settings.seed)
            console.print_probe(accuracies, run)
            next_command = finetune_command(settings, args, "--encoder", args.out / run_folder.ENCODER)
            console.print_end(run, next_command, sets.SPECS)


if __name__ == "__main__":
    main()
