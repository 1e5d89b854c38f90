"""Semi-supervised pretraining (Sections 3 and 4.2): one encoder learns from two streams at once.

    python train_joint.py                                   the built-in photographs, a few minutes on two CPU cores
    python train_joint.py --preset paper --unlabeled DIR/kadis700k --labeled kadid10k:DIR/kadid10k

Read with Section 3 beside it: `joint_step` is the algorithm, `main` what is around it.
"""

import argparse
import math
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ssl_iqa import checkpoint, data, probe, report, runs, views
from ssl_iqa.cli import add_flags, setting, settings_from
from ssl_iqa.distortions import DistortionClass, as_plain, load_distortions
from ssl_iqa.lars import LARS
from ssl_iqa.losses import supervised_nt_xent
from ssl_iqa.metrics import srocc
from ssl_iqa.model import ARCHS, Networks, load_encoder


@dataclass(frozen=True)
class Settings:
    """Section 4.2's setting; where the paper is silent, the README's decisions."""

    unlabeled: str = setting("", "data", "pristine pictures: `demo`, KADIS-700k's folder, or any folder")
    labeled: str = setting("", "data", "scored pictures: `demo`, `kadid10k:DIR`, `koniq10k:DIR` or `csv:FILE`")
    distortions: str = setting(
        "kadis", "data", "types and levels: `kadis`, `distinct`, `imgaug` or a TOML or JSON file (docs/distortions.md)"
    )
    distort_on: str = setting("worker", "data", "where pictures are distorted", choices=("worker", "device"))
    crop: int = setting(224, "data", "side of the views, pixels", low=32)
    epoch_size: int = setting(0, "data", "unlabeled pictures an epoch; 0: each once", low=0)
    validation_size: int = setting(0, "data", "unlabeled pictures to validate with; 0: each once", low=0)
    arch: str = setting("resnet50", "model", "the encoder", choices=tuple(ARCHS))
    init: str = setting("imagenet", "model", "weights to start from: `imagenet`, `random` or a file")
    alpha: float = setting(0.9, "loss", "weight of L_cont in Eq. 8; 1 is the paper's CL, no labels", low=0, high=1)
    temperature: float = setting(0.5, "loss", "tau of Eq. 5", above=0)
    average: str = setting("anchors", "loss", "what Eq. 5 is averaged over", choices=("anchors", "classes"))
    batch_size: int = setting(1000, "loss", "unlabeled pictures a step; the loss sees twice as many views", low=2)
    labeled_batch_size: int = setting(32, "loss", "labeled pictures a step", low=2)
    images_per_class: int = setting(0, "loss", "M pictures of each class drawn; 0: classes at random", low=0)
    epochs: int = setting(100, "optimization", "at most", low=1)
    lr: float = setting(1e-2, "optimization", "learning rate of encoder and projection head", above=0)
    regressor_lr: float = setting(1e-4, "optimization", "learning rate of the regressor", above=0)
    weight_decay: float = setting(1e-6, "optimization", "of all but one-dimensional parameters", low=0)
    trust_coefficient: float = setting(1e-3, "optimization", "of LARS", above=0)
    warmup: int = setting(0, "optimization", "steps over which the learning rates rise to their value", low=0)
    schedule: str = setting(
        "plateau",
        "optimization",
        "lr / 10 when the validation loss stagnates, or down to 0",
        choices=("plateau", "linear"),
    )
    patience: int = setting(5, "optimization", "epochs without a better validation loss until lr / 10", low=1)
    stop_after: int = setting(15, "optimization", "epochs without a better validation loss until the end", low=1)
    workers: int = setting(8, "run", "processes that read and distort pictures", low=0)
    device: str = setting("auto", "run", "where to compute", choices=("auto", "cpu", "cuda", "mps"))
    seed: int = setting(0, "run", "of everything random", low=0)


PRESETS = {
    # what a few minutes of two CPU cores buy most with: see the README's section on the demo
    "demo": Settings(
        unlabeled="demo",
        labeled="demo",
        crop=96,
        epoch_size=6400,
        validation_size=256,
        arch="dct-mlp",
        init="random",
        batch_size=64,
        labeled_batch_size=64,
        images_per_class=2,
        epochs=8,
        lr=0.7,
        regressor_lr=1e-2,
        warmup=40,
        schedule="linear",
        workers=2,
    ),
    "paper": Settings(),
}


def contrastive_loss(nets: Networks, x_d: Tensor, classes: Tensor, settings: Settings) -> Tensor:
    """L_cont of Section 3.1: views x_d [2B, 3, s, s] of distorted pictures and their distortion classes [2B]."""
    z = nets.encoder(x_d)  # [2B, d], Eqs. 1 and 2
    p = nets.projector(z)  # [2B, 128], Eqs. 3 and 4
    return supervised_nt_xent(p, classes, settings.temperature, settings.average)  # Eq. 5


def regression_loss(nets: Networks, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """L_r of Section 3.2 and the predicted scores y_hat [N_L]: pictures x [N_L, 3, s, s] and their scores y [N_L]."""
    y_hat = nets.regressor(nets.encoder(x))  # Eq. 6
    return nn.functional.mse_loss(y_hat, y), y_hat  # Eq. 7


def joint_step(
    nets: Networks,
    unlabeled: tuple[Tensor, Tensor],
    labeled: tuple[Tensor, Tensor] | None,
    settings: Settings,
) -> dict[str, float]:
    """The gradient of Eq. 8, L = alpha * L_cont + (1 - alpha) * L_r, added to the parameters of all three networks.

    The two terms go backward one after the other, so that only one graph is in memory at a time. `labeled` is None
    for CL (alpha 1). Returns the values of the losses, finite or not.
    """
    alpha = settings.alpha
    loss_cont = contrastive_loss(nets, *unlabeled, settings)
    (alpha * loss_cont).backward()
    losses = {"L_cont": loss_cont.item()}
    if labeled is not None:
        loss_r, _ = regression_loss(nets, *labeled)
        ((1 - alpha) * loss_r).backward()
        losses["L_r"] = loss_r.item()
    return losses | {"L": alpha * losses["L_cont"] + (1 - alpha) * losses.get("L_r", 0.0)}


def make_optimizer(nets: Networks, settings: Settings) -> LARS:
    """LARS with Section 4.2's learning rates. The regressor, which only Eq. 7 reaches, is not adapted."""
    return LARS(
        [
            {"params": [*nets.encoder.parameters(), *nets.projector.parameters()], "lr": settings.lr},
            {"params": [*nets.regressor.parameters()], "lr": settings.regressor_lr, "adapt": False},
        ],
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        trust_coefficient=settings.trust_coefficient,
    )


def lr_factor(step: int, total_steps: int, plateaus: int, settings: Settings) -> float:
    """What the learning rates are multiplied with at a step: a pure function of the run's progress."""
    warm = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
    if settings.schedule == "linear":
        return warm * (1 - step / total_steps)
    return warm * 0.1**plateaus  # Section 4.2: "a decay factor of 10^-1 whenever learning stagnates"


def train_epoch(
    nets: Networks, optimizer: LARS, streams: views.Streams, epoch: int, plateaus: int, settings: Settings
) -> dict[str, float]:
    """One pass over the unlabeled pictures, the labeled ones going round beside them. Returns the epoch's means.

    Raises FloatingPointError, before the weights change, when the loss is not finite.
    """
    nets.train()
    steps = len(streams)
    sums: dict[str, float] = {}
    began = time.perf_counter()
    bar = tqdm(streams.batches(epoch), f"epoch {epoch + 1}/{settings.epochs}", steps, leave=False, disable=None)
    for step, (unlabeled, labeled) in enumerate(bar, start=epoch * steps):
        factor = lr_factor(step, settings.epochs * steps, plateaus, settings)
        for group, lr in zip(optimizer.param_groups, (settings.lr, settings.regressor_lr), strict=True):
            group["lr"] = lr * factor
        optimizer.zero_grad()
        losses = joint_step(nets, unlabeled, labeled, settings)
        if not math.isfinite(losses["L"]):
            raise FloatingPointError(f"the loss is not finite at step {step + 1}, epoch {epoch + 1}: {losses}")
        optimizer.step()
        sums = {name: sums.get(name, 0.0) + value for name, value in losses.items()}
        bar.set_postfix({name: f"{value:.3f}" for name, value in losses.items()})
    pictures = steps * (settings.batch_size + (settings.labeled_batch_size if streams.labeled else 0))
    return {
        **{name: total / steps for name, total in sums.items()},
        "lr": settings.lr * factor,
        "pictures_per_second": round(pictures / (time.perf_counter() - began), 1),
    }


@torch.no_grad()
def validate(nets: Networks, streams: views.Streams, settings: Settings) -> dict[str, float]:
    """Eq. 8 on the validation pictures, whose distortions and crops are the same every time, and their SROCC.

    Raises FloatingPointError when the loss is not finite.
    """
    nets.eval()
    sums = {"val_L_cont": 0.0, "val_L_r": 0.0}
    predicted, true = [], []
    for unlabeled, labeled in streams.batches(0):
        sums["val_L_cont"] += contrastive_loss(nets, *unlabeled, settings).item()
        if labeled is not None:
            loss_r, y_hat = regression_loss(nets, *labeled)
            sums["val_L_r"] += loss_r.item()
            predicted.append(y_hat)
            true.append(labeled[1])
    losses = {name: total / len(streams) for name, total in sums.items()}
    losses["val_L"] = settings.alpha * losses["val_L_cont"] + (1 - settings.alpha) * losses["val_L_r"]
    if not math.isfinite(losses["val_L"]):
        raise FloatingPointError(f"the validation loss is not finite: {losses}")
    if predicted:
        losses["val_SROCC"] = srocc(torch.cat(predicted), torch.cat(true))
    return losses


def split_pictures(settings: Settings) -> tuple[dict, list[str], list[str], data.LabeledSet | None, int]:
    """What trains and what validates: (splits.json's content, unlabeled train and val paths, labeled set, reduce).

    Labeled pictures are split 60/20/20 by reference, unlabeled ones 80/20 (Section 4.1). The demo's photographs serve
    both streams and are split by source, alike in both, so that none of the labeled test part is met in training.
    """
    labeled = data.load_labeled(settings.labeled) if settings.labeled else None
    splits: dict = {}
    if labeled is not None:
        splits["labeled"] = {"spec": labeled.name, **data.split_references(labeled.references, settings.seed)}
    if settings.unlabeled == "demo":
        sources = data.demo_sources()
        parts = data.split_references(list(sources.values()), settings.seed)
        train, val = ([path for path, source in sources.items() if source in parts[name]] for name in ("train", "val"))
    else:
        train, val = data.split_pictures(data.list_pictures(settings.unlabeled), settings.seed)
    splits["unlabeled"] = {"spec": settings.unlabeled, "train": len(train), "val": sorted(map(os.path.basename, val))}
    return splits, train, val, labeled, data.DEMO_REDUCE if settings.unlabeled == "demo" else 1


def make_streams(
    train: list[str],
    val: list[str],
    labeled: data.LabeledSet | None,
    splits: dict,
    reduce: int,
    distortions: tuple[DistortionClass, ...],
    device: torch.device,
    settings: Settings,
) -> tuple[views.Streams, views.Streams]:
    """The batches to train and to validate with."""
    streams = []
    for part, paths in (("train", train), ("val", val)):
        crops = None
        if labeled is not None and settings.alpha < 1:
            indices = data.part_indices(labeled.references, splits["labeled"][part])
            made = views.make_demo_pictures(labeled, indices, settings.workers and runs.cpu_cores())
            crops = views.LabeledCrops(labeled, indices, settings.crop, made)
        epoch_size = settings.epoch_size if part == "train" else settings.validation_size
        streams.append(
            views.Streams(
                unlabeled=views.UnlabeledViews(
                    paths, settings.crop, reduce, distortions, on_device=settings.distort_on == "device"
                ),
                labeled=crops,
                batch_size=settings.batch_size,
                labeled_batch_size=settings.labeled_batch_size,
                images_per_class=settings.images_per_class,
                epoch_size=epoch_size,
                workers=settings.workers,
                seed=settings.seed if part == "train" else settings.seed + 1,
                device=device,
            )
        )
    return streams[0], streams[1]


def parse_arguments(arguments: list[str] | None) -> tuple[Settings, argparse.Namespace]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_flags(parser, PRESETS)
    parser.add_argument("--out", type=Path, help="the run's folder (runs/joint)")
    parser.add_argument("--overwrite", action="store_true", help="replace the run that --out holds")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out after its last whole epoch")
    args = parser.parse_args(arguments)
    with runs.clear_errors():
        # own pictures never go with the demo's scores unasked
        settings = settings_from(args, PRESETS, **({"labeled": ""} if args.unlabeled else {}))
        if not settings.unlabeled:
            raise ValueError("--unlabeled: a folder of pristine pictures is wanted")
        if not settings.labeled and settings.alpha < 1:
            raise ValueError("--labeled: a labeled set is wanted; only --alpha 1, the paper's CL, goes without")
        if settings.batch_size % max(settings.images_per_class, 1):
            raise ValueError(
                f"--images-per-class {settings.images_per_class}: it must divide --batch-size {settings.batch_size}"
            )
    return settings, args


def main(arguments: list[str] | None = None) -> None:
    began = time.perf_counter()
    settings, args = parse_arguments(arguments)
    out = args.out or Path("runs/joint")
    with runs.clear_errors():
        device = runs.use_device(settings.device, settings.workers)
        distortions = load_distortions(settings.distortions)
        saved = checkpoint.read_run(out, asdict(settings), as_plain(distortions)) if args.resume else None
        splits, train, val, labeled, reduce = split_pictures(settings)
        streams, val_streams = make_streams(train, val, labeled, splits, reduce, distortions, device, settings)
        encoder = load_encoder(settings.init, settings.arch, settings.seed)
        torch.manual_seed(settings.seed)  # of the heads
        mean_score = sum(labeled.scores) / len(labeled.scores) if labeled else 5.5
        nets = Networks(encoder, mean_score).to(device, memory_format=torch.channels_last)
        optimizer = make_optimizer(nets, settings)
        is_default_demo = args.out is None and settings.unlabeled == "demo"
        runs.prepare_folder(out, keep=args.resume, replace=args.overwrite or is_default_demo)
        progress = checkpoint.resume_run(saved, out, nets, optimizer) if saved else checkpoint.Progress()
        runs.write_json(asdict(settings), out / runs.CONFIG)
        runs.write_json(splits, out / runs.SPLITS)

    types = len({distortion.name for distortion in distortions})
    report.print_start(asdict(settings), splits, types, len(distortions), len(streams), str(device), out)
    while progress.epochs < settings.epochs and progress.since_best < settings.stop_after:
        try:
            losses = train_epoch(nets, optimizer, streams, progress.epochs, progress.plateaus, settings)
            losses |= validate(nets, val_streams, settings)
        except FloatingPointError as error:
            left = f"; {out / runs.LAST} holds the last whole epoch" if progress.epochs else ""
            sys.exit(f"error: {error}{left}")
        is_best = progress.update(losses["val_L"], settings.patience)
        minutes = round((time.perf_counter() - began) / 60, 2)
        record = {"epoch": progress.epochs, "minutes": minutes, "skipped": len(streams.skipped), **losses}
        runs.append_json(record, out / runs.LOG)
        checkpoint.save_run(out, nets, optimizer, progress, asdict(settings), as_plain(distortions), is_best)
        report.print_epoch(record, settings.epochs, is_best)

    encoders = {
        "this encoder": load_encoder(out / runs.ENCODER),
        "a random one": load_encoder("random", settings.arch, settings.seed),
    }
    accuracies = probe.probe_types(encoders, train, val, settings.crop, reduce, settings.seed, distortions)
    skipped = len(streams.skipped | val_streams.skipped)
    report.print_end(accuracies, types, skipped, out / runs.ENCODER, (time.perf_counter() - began) / 60)


if __name__ == "__main__":
    main()
