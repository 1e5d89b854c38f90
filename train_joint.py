"""Semi-supervised pretraining (Sections 3 and 4.2): one encoder learns from two streams at once.

    python train_joint.py                                   the built-in photographs, a few minutes on two CPU cores
    python train_joint.py --preset paper --unlabeled DIR/kadis700k --labeled kadid10k:DIR/kadid10k
    torchrun --nproc_per_node 8 train_joint.py ..           the same on eight GPUs

Read with Section 3 beside it: `joint_step` is the algorithm, `main` what is around it.
"""

import argparse
import math
import os
import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_iqa.data import seen, sets
from ssl_iqa.data.datasets import name_skipped
from ssl_iqa.data.splits import part_indices
from ssl_iqa.data.streams import Pictures, Streams, find_pictures, is_shards, make_streams
from ssl_iqa.distortions import as_plain, load_distortions
from ssl_iqa.engine import checkpoint, console, distributed, run_folder
from ssl_iqa.engine.chunks import NetworksInChunks
from ssl_iqa.engine.device import autocast, use_device
from ssl_iqa.engine.settings import script_parser, setting, settings_from
from ssl_iqa.engine.signals import Stop, Stopped, clear_stop, stop_signals
from ssl_iqa.engine.weights import encoder_from_state, load_encoder
from ssl_iqa.evaluation import probe, protocol
from ssl_iqa.evaluation.metrics import srocc
from ssl_iqa.lars import LARS
from ssl_iqa.losses import supervised_nt_xent
from ssl_iqa.model import ARCHS, Networks
from ssl_iqa.schedule import lr_factor


@dataclass(frozen=True)
class Settings:
    """Section 4.2's setting; where the paper is silent, the README's decisions."""

    unlabeled: str = setting(
        "", "data", "pristine pictures: `demo`, KADIS-700k's folder, any folder, or tars: `photos-{0000..1399}.tar`"
    )
    labeled: str = setting("", "data", f"scored pictures: {sets.SPECS}")
    distortions: str = setting(
        "kadis", "data", "types and levels: `kadis`, `distinct`, `imgaug` or a TOML or JSON file (docs/distortions.md)"
    )
    distort_on: str = setting("worker", "data", "where pictures are distorted", choices=("worker", "device"))
    near_duplicates: str = setting(
        "report",
        "data",
        "photographs of a folder that the labeled set holds, too; to find them, all pictures are read once before"
        " training, 150,000 PNG files in half an hour of one core, which the workers share",
        choices=("report", "remove", "ignore"),
    )
    crop: int = setting(224, "data", "side of the views, pixels", low=32)
    long_side: int = setting(0, "data", "images are reduced to it, pixels, when they are read; 0: as they are", low=0)
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
    views: int = setting(2, "loss", "of each distorted picture; 1: positives are other pictures only", low=1, high=2)
    epochs: int = setting(100, "optimization", "at most", low=1)
    optimizer: str = setting(
        "lars", "optimization", "the paper's, or what it is compared with", choices=("lars", "sgd", "adam")
    )
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
    accumulate: int = setting(1, "run", "parts in which a step's views pass the encoder, for a small GPU", low=1)
    amp: str = setting("off", "run", "mixed precision", choices=("bf16", "fp16", "off"))
    compile: bool = setting(False, "run", "compile the encoder (torch.compile)")
    save_every: int = setting(0, "run", "steps after which to save within an epoch; 0: at its end", low=0)
    keep: int = setting(0, "run", "numbered checkpoints of the last epochs to keep beside last.pt and best.pt", low=0)
    workers: int = setting(8, "run", "processes that read and distort pictures, of each training process", low=0)
    device: str = setting("auto", "run", "where to compute", choices=("auto", "cpu", "cuda", "mps"))
    seed: int = setting(0, "run", "of everything random", low=0)


PRESETS = {
    # what a few minutes of two CPU cores buy most with: see the README's section on the demo
    "demo": Settings(
        unlabeled="demo",
        labeled="demo",
        crop=96,
        long_side=192,  # of 384
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


DEFAULT_OUT = Path("runs/joint")  # finetune.py's default encoder is there


def joint_loss(
    p: Tensor, classes: Tensor, y_hat: Tensor | None, y: Tensor | None, settings: Settings
) -> tuple[Tensor, Tensor, Tensor]:
    """Eq. 8 and its two terms, L, L_cont and L_r: scalars.

    p [n, 128] and distortion classes [n] of the views, predicted scores y_hat [N_L] and opinion scores y [N_L], which
    are None for CL (alpha 1). Of several processes each returns its share of L_cont times their number, so that the
    mean over processes is the loss of the whole batch.
    """
    p, classes, anchors = distributed.gather(p, classes)  # [N_U, 128] and [N_U] of all processes
    share = supervised_nt_xent(p, classes, settings.temperature, settings.average, anchors)
    loss_cont = distributed.size() * share  # Eq. 5
    loss_r = loss_cont.new_zeros(()) if y_hat is None else F.mse_loss(y_hat.to(y.dtype), y)  # Eq. 7
    loss = settings.alpha * loss_cont + (1 - settings.alpha) * loss_r  # Eq. 8
    return loss, loss_cont, loss_r


def joint_step(
    nets: nn.Module,
    unlabeled: tuple[Tensor, Tensor],
    labeled: tuple[Tensor, Tensor] | None,
    settings: Settings,
    scale: Callable[[Tensor], Tensor] = lambda loss: loss,
) -> dict[str, float]:
    """The gradient of Eq. 8, added to the parameters of all three networks, and the losses' values, finite or not.

    x_d [n, 3, s, s] with classes [n], and x [N_L, 3, s, s] with scores y [N_L]; `labeled` is None for CL (alpha 1).
    `scale` is what fp16 needs.
    """
    (x_d, classes), (x, y) = unlabeled, labeled or (None, None)
    with autocast(x_d.device, settings.amp):
        p, y_hat = nets(x_d, x)  # Eqs. 1-4: [n, 128], and Eq. 6: [N_L]
    loss, loss_cont, loss_r = joint_loss(p, classes, y_hat, y, settings)
    scale(loss).backward()
    values = distributed.mean(torch.stack([loss, loss_cont, loss_r]).detach()).tolist()
    losses = dict(zip(("L", "L_cont", "L_r"), values, strict=True))
    return {name: losses[name] for name in losses if labeled or name != "L_r"}


def make_optimizer(nets: Networks, settings: Settings) -> torch.optim.Optimizer:
    """LARS with Section 4.2's learning rates. The regressor, which only Eq. 7 reaches, is not adapted.

    SGD, with LARS's momentum, and Adam are what docs/study.md compares it with.
    """
    adapted = {"params": [*nets.encoder.parameters(), *nets.projector.parameters()], "lr": settings.lr}
    regressor = {"params": [*nets.regressor.parameters()], "lr": settings.regressor_lr}
    if settings.optimizer == "adam":
        return torch.optim.Adam([adapted, regressor], weight_decay=settings.weight_decay)
    if settings.optimizer == "sgd":
        return torch.optim.SGD([adapted, regressor], momentum=0.9, weight_decay=settings.weight_decay)
    return LARS(
        [adapted, regressor | {"adapt": False}],
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        trust_coefficient=settings.trust_coefficient,
    )


def gradient_norm(nets: Networks) -> float:
    """The length of all gradients as one vector."""
    return torch.stack([w.grad.norm() for w in nets.parameters() if w.grad is not None]).norm().item()


def train_epoch(
    run: checkpoint.Run, nets: nn.Module, streams: Streams, settings: Settings, stop: Stop
) -> dict[str, float]:
    """One pass over the unlabeled pictures, the labeled ones going round beside them. Returns the epoch's means.

    Begins with the step that the run has come to. Raises FloatingPointError, before the weights change, when the loss
    is not finite, and Stopped, between two steps, when the run is to end.
    """
    nets.train()
    progress, optimizer, scaler = run.progress, run.optimizer, run.scaler
    epoch, steps = progress.epochs, len(streams)
    clock = console.Clock(settings.batch_size + (settings.labeled_batch_size if streams.labeled else 0))
    batches = clock.waiting(stop.waiting(streams.batches(epoch, progress.step)))
    bar = console.bar(batches, f"epoch {epoch + 1}/{settings.epochs}", steps, done=progress.step)
    for unlabeled, labeled in bar:
        step, total_steps = epoch * steps + progress.step, settings.epochs * steps
        factor = lr_factor(step, total_steps, progress.plateaus, settings.warmup, settings.schedule)
        for group, lr in zip(optimizer.param_groups, (settings.lr, settings.regressor_lr), strict=True):
            group["lr"] = lr * factor
        optimizer.zero_grad()
        values = joint_step(nets, unlabeled, labeled, settings, scaler.scale)
        scaler.unscale_(optimizer)
        values["grad_norm"] = gradient_norm(run.nets)
        # a gradient that fp16 cannot hold is left out, and the next one scaled down, as far as that goes
        is_finite = math.isfinite(values["grad_norm"]) or (scaler.is_enabled() and scaler.get_scale() > 1)
        if not (math.isfinite(values["L"]) and is_finite):
            where = f"step {epoch * steps + progress.step + 1}, epoch {epoch + 1}"
            raise FloatingPointError(f"the loss or its gradient is not finite at {where}: {values}")
        scaler.step(optimizer)
        scaler.update()
        progress.add(values)
        bar.set_postfix(console.shown(values | {"lr": settings.lr * factor} | clock.rates()), refresh=False)
        if settings.save_every and progress.step % settings.save_every == 0:
            checkpoint.save_run(run)
        end_if_asked(stop, streams.device)
    lr, regressor_lr = (group["lr"] for group in optimizer.param_groups)
    return progress.means() | {"lr": lr, "regressor_lr": regressor_lr} | clock.rates()


@torch.no_grad()
def validate(nets: Networks, streams: Streams, settings: Settings, stop: Stop) -> dict[str, float]:
    """Eq. 8 on the validation images, whose distortions and crops are the same every time, and their SROCC.

    L_r and SROCC are over all labeled images, each once, however many unlabeled ones there are.

    Raises FloatingPointError when the loss is not finite, Stopped when the run is to end.
    """
    nets.eval()
    y_hat, y = predict_all(nets, streams, settings, stop) if streams.labeled else (None, None)
    losses = []  # of each batch L, L_cont, L_r
    for x_d, classes in console.bar(stop.waiting(streams.unlabeled_batches()), "validation", len(streams)):
        with autocast(streams.device, settings.amp):
            p = nets.project(x_d)
        losses.append(torch.stack(joint_loss(p, classes, y_hat, y, settings)))
        end_if_asked(stop, streams.device)
    means = distributed.mean(torch.stack(losses).mean(dim=0)).tolist()
    values = dict(zip(("val_L", "val_L_cont", "val_L_r"), means, strict=True))
    if not math.isfinite(values["val_L"]):
        raise FloatingPointError(f"the validation loss is not finite: {values}")
    if y is not None:
        values["val_SROCC"] = srocc(y_hat.cpu(), y.cpu()) if len(y) > 1 else math.nan
    return values


def predict_all(nets: Networks, streams: Streams, settings: Settings, stop: Stop) -> tuple[Tensor, Tensor]:
    """y_hat and y [M] of all labeled validation images, of all processes."""
    predicted, true = [], []
    batches = stop.waiting(streams.labeled_batches())
    for _ in console.bar(range(len(streams.labeled)), "validation, scores"):
        if batch := next(batches, None):  # None: of the last batch this process has no share
            with autocast(streams.device, settings.amp):
                predicted += nets.predict(batch[0]).tolist()
            true += batch[1].tolist()
        end_if_asked(stop, streams.device)
    parts = zip(*distributed.every((predicted, true)), strict=True)
    y_hat, y = (torch.tensor(sum(part, []), device=streams.device) for part in parts)
    return y_hat, y


def end_if_asked(stop: Stop, device: torch.device) -> None:
    """Raises Stopped, in all processes, when one of them was told to end."""
    if distributed.any_process(stop.asked, device):
        raise Stopped


def parse_arguments(arguments: list[str] | None) -> tuple[Settings, argparse.Namespace]:
    parser = script_parser(__doc__, PRESETS, DEFAULT_OUT)
    parser.add_argument("--tensorboard", action="store_true", help="write its log for TensorBoard, too")
    args = parser.parse_args(arguments)
    with console.clear_errors():
        # own images never go with the demo's scores, and are never reduced, unasked
        own = {"labeled": ""} if args.unlabeled else {}
        own |= {"long_side": 0} if {args.unlabeled, args.labeled} - {None, "", "demo"} else {}
        settings = settings_from(args, PRESETS, **own)
        if not settings.unlabeled:
            raise ValueError("--unlabeled: a folder of pristine pictures is wanted")
        if not settings.labeled and settings.alpha < 1:
            raise ValueError("--labeled: a labeled set is wanted; only --alpha 1, the paper's CL, goes without")
        if settings.batch_size % max(settings.images_per_class, 1):
            raise ValueError(
                f"--images-per-class {settings.images_per_class}: it must divide --batch-size {settings.batch_size}"
            )
        processes = distributed.launched()
        if 2 * settings.accumulate > settings.views * settings.batch_size // processes:
            raise ValueError(f"--accumulate {settings.accumulate}: at least two views in each part are wanted")
        if args.tensorboard:
            console.summary_writer()
    args.overwrite |= args.out is None and settings.unlabeled == "demo"  # the demo's default folder is replaced
    return settings, args


def set_up(
    settings: Settings,
    args: argparse.Namespace,
    out: Path,
    device: torch.device,
    is_restarted: bool,
    near: dict[str, Any] | None,
) -> tuple[checkpoint.Run, Pictures, Streams, Streams]:
    """The run, new or as it was saved, its pictures, and the batches to train and to validate with.

    `near` is the report on near-duplicates, where they were looked for.
    """
    distortions = load_distortions(settings.distortions)
    plain_settings, plain_classes = asdict(settings), as_plain(distortions)
    has_saved = args.resume or (is_restarted and (out / run_folder.LAST).exists())
    of_shards = is_shards(settings.unlabeled)
    saved = checkpoint.read_run(out, plain_settings, plain_classes, of_shards) if has_saved else None
    if saved:
        encoder = encoder_from_state(saved["encoder"], str(out / run_folder.LAST))
    else:
        encoder = load_encoder(settings.init, settings.arch, settings.seed)
    is_removed = near and settings.near_duplicates == "remove"
    pictures = find_pictures(
        settings.unlabeled,
        settings.labeled,
        settings.crop,
        distortions,
        on_device=settings.distort_on == "device",
        seed=settings.seed,
        workers=settings.workers,
        left_out={found["unlabeled"] for found in near["found"]} if is_removed else (),
        seen=protocol.records_of(settings.init, encoder),
        long_side=settings.long_side,
    )
    encoder.seen = pictures.seen
    if saved:
        checkpoint.check_splits(out, pictures.splits)
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
    nets = nets.to(device, memory_format=torch.channels_last)
    distributed.synchronize(nets, device)
    if settings.compile:
        nets.encoder.compile()
    scaler = torch.amp.GradScaler(device.type, enabled=settings.amp == "fp16")
    run = checkpoint.Run(out, plain_settings, plain_classes, nets, make_optimizer(nets, settings), scaler)
    if saved:
        checkpoint.restore(run, saved)
    streams.skipped = val_streams.skipped = run.skipped
    if distributed.is_main():
        run_folder.prepare_folder(out, keep=args.resume or is_restarted, replace=args.overwrite)
        checkpoint.begin(run, pictures.splits)
        if near:
            run_folder.write_json(near, out / run_folder.NEAR_DUPLICATES)
    return run, pictures, streams, val_streams


def finetune_command(settings: Settings, preset: str, out: Path) -> str:
    """How to finetune the encoder of a run, to be pasted into a shell: the flags that finetune.py's preset of the same
    name, whose set and crop are this script's, does not have already. The split comes with the encoder.
    """
    words = ["python", os.path.relpath(Path(__file__).with_name("finetune.py")), "--mode", "lp-ft"]
    if preset != "demo":
        words += ["--preset", preset]
    if out != DEFAULT_OUT:
        words += ["--encoder", str(out / run_folder.ENCODER)]
    if settings.labeled != PRESETS[preset].labeled or not settings.labeled:
        words += ["--data", settings.labeled or "SPEC"]
    if settings.crop != PRESETS[preset].crop:
        words += ["--crop", str(settings.crop)]
    if settings.long_side != PRESETS[preset].long_side:
        words += ["--long-side", str(settings.long_side)]
    return shlex.join(words)


def main(arguments: list[str] | None = None) -> None:
    from ssl_iqa.data import near_duplicates  # beside what a reader follows from here to the loss

    settings, args = parse_arguments(arguments)
    out = args.out or DEFAULT_OUT
    with console.clear_errors():
        device = use_device(settings.device, settings.workers, settings.amp)
    with stop_signals() as stop, distributed.processes(device), console.one_voice(distributed.is_main()):
        is_restarted = distributed.every(run_folder.is_of_this_launch(out))[0]
        left = f"{out / run_folder.LAST} is as it was" if args.resume or is_restarted else "nothing to resume"
        with clear_stop(f"before the first step; {left}"), stop.anywhere():
            with console.clear_errors():
                # told before the search for near-duplicates, which may take minutes
                run_folder.run_in(out, keep=args.resume or is_restarted, replace=args.overwrite)
                near = near_duplicates.search_for_training(
                    settings.near_duplicates,
                    settings.unlabeled,
                    settings.labeled,
                    settings.workers,
                    recorded=out / run_folder.NEAR_DUPLICATES if args.resume or is_restarted else None,
                )
            with console.clear_errors(), distributed.together():
                run, pictures, streams, val_streams = set_up(settings, args, out, device, is_restarted, near)
        progress, nets = run.progress, distributed.parallel(run.nets, device)
        write_scalars = console.tensorboard(run) if args.tensorboard and distributed.is_main() else None
        if near:
            near_duplicates.print_report(near, settings.near_duplicates, out / run_folder.NEAR_DUPLICATES)
        console.print_start(run, pictures.splits, len(streams), device)
        if pictures.known and not run.saved:
            print(seen.in_words(pictures.splits["labeled"], pictures.known))

        with checkpoint.clear_end(run):
            while progress.epochs < settings.epochs and progress.since_best < settings.stop_after:
                record = train_epoch(run, nets, streams, settings, stop)
                record |= validate(run.nets, val_streams, settings, stop)
                is_best = progress.update(record["val_L"], settings.patience)
                skipped = set().union(*distributed.every(run.skipped))
                name_skipped(skipped, run.skipped)
                record |= {"epoch": progress.epochs, "minutes": round(run.minutes(), 2), "skipped": len(skipped)}
                checkpoint.save_run(run, record, is_best, settings.keep)
                console.print_epoch(run, record, is_best)
                if write_scalars:
                    write_scalars(record)

        if distributed.is_main():
            encoders = {
                "this encoder": load_encoder(out / run_folder.ENCODER),
                "a random one": load_encoder("random", settings.arch, settings.seed),
            }
            with clear_stop(f"after the last epoch; {out} is complete"), stop.anywhere():
                accuracies = probe.probe_types(encoders, pictures.train, pictures.val, settings.seed)
            console.print_end(accuracies, run, finetune_command(settings, args.preset, out), sets.SPECS)


if __name__ == "__main__":
    main()
