"""Blind quality assessment with a pretrained encoder (Sections 4.2 and 4.3): LP, FT and LP-FT, SROCC and PLCC.

    python finetune.py                                    LP-FT of the encoder of the last `python train_joint.py`
    python finetune.py --mode lp --encoder random         LP of random weights
    python finetune.py --mode ridge                       CONTRIQUE's evaluation: ssl_iqa/evaluation/ridge.py
    python finetune.py --preset paper --encoder runs/joint/encoder.pt --data kadid10k:DIR/kadid10k
    torchrun --nproc_per_node 4 finetune.py ..            the same on four GPUs

    python finetune.py --preset paper --mode all --encoders imagenet,cl=runs/cl,ssl=runs/ssl \\
        --data kadid10k:DIR/kadid10k --data koniq10k:DIR/koniq10k                           Tables 1 to 3

The epoch with the best validation SROCC is the one that is tested, once.
"""

import argparse
import copy
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam

from ssl_iqa import baselines
from ssl_iqa.archs import ARCHS
from ssl_iqa.data import sets
from ssl_iqa.data.datasets import LabeledCrops, collate_crops, name_skipped
from ssl_iqa.engine import console, distributed, run_folder
from ssl_iqa.engine.device import autocast, use_device
from ssl_iqa.engine.settings import presets, script_parser, setting, settings_from
from ssl_iqa.engine.signals import clear_stop, stop_signals
from ssl_iqa.engine.weights import load_encoder
from ssl_iqa.engine.workers import make_loader
from ssl_iqa.evaluation import cells, tables
from ssl_iqa.evaluation.features import Features, encode_part, frozen_features, predict
from ssl_iqa.evaluation.learning_curve import CurveSplit, curve_parts, learning_curve
from ssl_iqa.evaluation.metrics import srocc
from ssl_iqa.evaluation.printout import kept_at_an_end, print_cell, print_end, print_start
from ssl_iqa.evaluation.task import Best, Task, read_epoch, restore, save_epoch
from ssl_iqa.model import Encoder, Regressor
from ssl_iqa.schedule import lr_factor

MODES = {"lp": ("lp",), "ft": ("ft",), "lp-ft": ("lp", "ft")}
CHOICES = (*MODES, tables.RIDGE, "all")  # "all" are Table 1's, without ridge
DEFAULT_OUT = Path("runs/finetune")
Batch = tuple[Tensor, Tensor, list[str]]  # images or features, their scores, files that could not be read
Batches = Callable[[int], Iterable[Batch]]  # of an epoch
Validate = Callable[[], tuple[list[int], Tensor]]  # the validation images that can be read, [M], and z [M, crops, d]


@dataclass(frozen=True)
class Settings:
    """Section 4.2, BIQA; where the paper is silent, docs/decisions.md says why."""

    mode: str = setting("lp-ft", "model", "LP, FT, one after the other, all three; or ridge", choices=CHOICES)
    encoder: str = setting("runs/joint/encoder.pt", "model", "a file, a joint run's folder, `imagenet` or `random`")
    encoders: str = setting(
        "", "model", "several, as imagenet,cl=RUN-{seed}; also `brisque`, `class-mean`, `koncept224`"
    )
    arch: str = setting("resnet50", "model", "of `imagenet` and `random`", choices=tuple(ARCHS), demo="dct-mlp")
    data: tuple[str, ...] = setting((), "data", f"scored images: {sets.SPECS}; one a flag", demo=("demo",))
    test: tuple[str, ...] = setting((), "data", "another set to test on, as a whole; several, with as many flags")
    split: str = setting("seeded", "data", "60/20/20 by reference, or the set's own", choices=("seeded", "official"))
    splits: int = setting(1, "data", "number of splits, of the seeds from --seed on", low=1)
    crop: int = setting(224, "data", "side of the crops, pixels", low=32, demo=96)
    long_side: int = setting(0, "data", "pixels that images are reduced to when read; 0: as they are", low=0, demo=192)
    crops: str = setting("five", "data", "tested: center and corners, center, all", choices=("five", "center", "full"))
    epochs: int = setting(50, "optimization", "of LP, and of FT", low=1, demo=6)
    batch_size: int = setting(32, "optimization", "images a step", low=2)
    lr: float = setting(1e-5, "optimization", "learning rate of Adam in LP", above=0, demo=1e-3)
    ft_lr: float = setting(1e-5, "optimization", "learning rate of Adam in FT", above=0, demo=1e-4)
    schedule: str = setting("constant", "optimization", "of both, by epochs", choices=("constant", "linear"))
    amp: str = setting("off", "run", "mixed precision", choices=("bf16", "off"))
    workers: int = setting(8, "run", "processes that read images, of each training process", low=0, demo=2)
    device: str = setting("auto", "run", "where to compute", choices=("auto", "cpu", "cuda", "mps"))
    seed: int = setting(
        0, "run", "of everything random; of the split too, where the encoder brings none", low=0, high=2**63 - 1
    )


PRESETS = presets(Settings)


def probing_batches(features: Features, train: list[int], task: Task, epoch: int) -> Iterator[Batch]:
    """LP's batches in an epoch: z of one of its crops for each image drawn, [B, d], and the scores [B]."""
    scores = torch.tensor(task.labeled.scores, dtype=torch.float32)
    sampler = task.sampler(len(train))
    sampler.epoch = epoch
    for draws in sampler:
        indices = [train[draw.index] for draw in draws]
        yield features.z[indices, [draw.seed % features.z.shape[1] for draw in draws]], scores[indices], []


def tuning_batches(task: Task) -> Batches:
    """FT's batches in an epoch: random views of images [B, 3, s, s] and the scores [B]."""
    train = task.parts["train"]
    sampler = task.sampler(len(train))
    crops = LabeledCrops(task.labeled, train, task.settings.crop)
    places = {"persistent_workers": task.workers > 0, "pin_memory": task.device.type == "cuda"}
    loader = make_loader(crops, task.workers, collate_crops, batch_sampler=sampler, **places)

    def batches(epoch: int) -> Iterable[Batch]:
        sampler.epoch = epoch
        return loader

    return batches


def train_epoch(trained: nn.Module, optimizer: Adam, batches: Iterable[Batch], amp: str, skipped: set[str]) -> float:
    """One pass over the training images, or LP's features; `skipped` gathers unreadable files. Returns L_r's mean."""
    device = next(trained.parameters()).device
    trained.train()
    losses = []
    for x, y, unreadable in batches:
        name_skipped(unreadable, skipped)
        x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
        with autocast(device, amp):
            y_hat = trained(x).to(y.dtype)  # [B], Eq. 6
        loss = nn.functional.mse_loss(y_hat, y)  # Eq. 7
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return distributed.mean(torch.stack(losses).mean()).item()


def fit(
    encoder: Encoder, regressor: Regressor, phase: str, batches: Batches, validate: Validate, best: Best, task: Task
) -> None:
    """One phase, LP or FT: leaves both networks with the weights of the best epoch so far, of this phase or before."""
    settings, scores = task.settings, np.array(task.labeled.scores)
    trained = regressor if phase == "lp" else nn.Sequential(encoder, regressor)
    lr = settings.lr if phase == "lp" else settings.ft_lr
    optimizer = Adam(trained.parameters(), lr=lr)
    first = task.saved["epochs"] if task.saved.get("phase") == phase else 0
    if first:
        optimizer.load_state_dict(task.saved["optimizer"])
    trained = distributed.parallel(trained, task.device)
    epochs = range(first, settings.epochs)
    for epoch in epochs if task.verbose else console.bar(epochs, f"{phase.upper()} epochs", settings.epochs, first):
        desc = f"{phase.upper()} epoch {epoch + 1}/{settings.epochs}"
        optimizer.param_groups[0]["lr"] = lr * lr_factor(epoch, settings.epochs, 0, 0, settings.schedule)
        loss = train_epoch(trained, optimizer, console.bar(batches(epoch), desc), settings.amp, task.skipped)
        indices, z = validate()
        y_hat = predict(regressor, z)
        if not math.isfinite(loss) or not y_hat.isfinite().all():
            sys.exit(f"error: the loss or a prediction is not finite in {desc}; a lower learning rate may help")
        val_srocc = srocc(y_hat, scores[indices])
        residuals = (y_hat.double() - torch.from_numpy(scores[indices])).abs()
        is_best = best.offer(val_srocc, f"{phase} {epoch + 1}", (encoder, regressor), residuals)
        if task.verbose:
            print(f"{desc}  L_r {loss:.3f} | validation SROCC {val_srocc:.3f}{' *' if is_best else ''}", flush=True)
        if task.is_save_due:
            save_epoch(phase, epoch + 1, (encoder, regressor, optimizer), best, task)
    encoder.load_state_dict(best.weights["encoder"]["weights"])
    regressor.load_state_dict(best.weights["regressor"])


def fresh_head(encoder: Encoder, train: list[int], task: Task) -> Regressor:
    """h before training: random weights by the seed, its bias the mean score of the training images."""
    torch.manual_seed(task.settings.seed)
    return Regressor(encoder.dim, float(np.mean([task.labeled.scores[i] for i in train]))).to(task.device)


def probe_linearly(
    encoder: Encoder, regressor: Regressor, features: Features, train: list[int], best: Best, task: Task
) -> tuple[list[int], Tensor]:
    """LP with the images `train`. Returns the test part's images that can be read, [M], and z [M, crops, d]."""
    parts = task.parts | {"train": train}
    train, val, test = ([i for i in parts[part] if features.readable[i]] for part in ("train", "val", "test"))
    batches = partial(probing_batches, features, train, task)
    fit(encoder, regressor, "lp", batches, lambda: (val, features.z[val]), best, task)
    return test, features.z[test]


def train_and_test(
    encoder: Encoder, features: Callable[[], Features], task: Task
) -> tuple[Best, Regressor, list[int], np.ndarray]:
    """The best epoch of all phases, its regressor, the test part's images that can be read, and their y_hat [M].

    Both networks end as they were in the best epoch. `features` are those of the encoder as it comes.
    """
    parts, phases = task.parts, MODES[task.settings.mode]
    regressor = fresh_head(encoder, parts["train"], task)
    best = restore(encoder, regressor, task)
    phases = phases[phases.index(task.saved.get("phase", phases[0])) :]
    if "lp" in phases:
        encoder.eval()
        frozen = copy.deepcopy(encoder.state_dict())
        test, z = probe_linearly(encoder, regressor, features(), parts["train"], best, task)
        if not all(torch.equal(frozen[name], now) for name, now in encoder.state_dict().items()):
            raise AssertionError("linear probing has changed the encoder")
    if "ft" in phases:
        validate = partial(encode_part, encoder, task, parts["val"])
        fit(encoder, regressor, "ft", tuning_batches(task), validate, best, task)
        test, z = encode_part(encoder, task, parts["test"])
    return best, regressor, test, predict(regressor, z).numpy()


def probing_srocc(encoder: Encoder, features: Callable[[], Features], train: list[int], task: Task) -> float:
    """SROCC on the test part after LP with the images `train`: a point of the learning curve."""
    regressor = fresh_head(encoder, train, task)
    test, z = probe_linearly(encoder, regressor, features(), train, Best(), task)
    return srocc(predict(regressor, z), np.array(task.labeled.scores)[test])


def run_cell(cell: cells.Cell, curve: list[CurveSplit], device: torch.device) -> dict[str, Any]:
    """Measures a cell of Table 1. Returns what it writes into results.json."""
    if cell.name in baselines.NAMES:
        with console.clear_errors():
            return cells.measure_baseline(cell)
    if cell.name in baselines.FINETUNED:
        return cells.measure_finetuned(cell, device)
    settings = cell.settings
    encoder = load_encoder(settings.encoder, settings.arch, settings.seed)
    encoder = distributed.synchronize(encoder.to(device, memory_format=torch.channels_last), device)
    if settings.mode == tables.RIDGE:
        return cells.measure_ridge(encoder, cell, device)
    encoder.seen = cell.seen  # travels in model.pt
    task = Task(cell.labeled, cell.parts, device, settings, verbose=cell.is_single)
    with console.clear_errors():
        read_epoch(cell.folder / run_folder.LAST, encoder, task)
    features = cache(partial(frozen_features, encoder, task, cell.out / run_folder.FEATURES))
    details: dict[str, Any] = {}
    if curve:
        details["learning_curve"] = learning_curve(curve, task, partial(probing_srocc, encoder, features))
    best, regressor, indices, predicted = train_and_test(encoder, features, task)
    details["tests"] = cells.measure_elsewhere(encoder, regressor, cell, device)
    return cells.save(cell, indices, predicted, best, details | {"minutes": task.minutes()})


def parse_arguments(arguments: list[str] | None) -> tuple[Settings, argparse.Namespace]:
    parser = script_parser(__doc__, PRESETS, DEFAULT_OUT)
    parser.add_argument("--learning-curve", action="store_true", help="also: would more labels help?")
    args = parser.parse_args(arguments)
    with console.clear_errors():
        own = {*(args.data or ())} - {"demo"}  # own images are never reduced unasked
        settings = settings_from(args, PRESETS, **({"long_side": 0} if own else {}))
        if args.encoder and args.encoders:
            raise ValueError(f"--encoder {args.encoder}: not beside --encoders, which takes it as NAME={args.encoder}")
    return settings, args


def main(arguments: list[str] | None = None) -> None:
    settings, args = parse_arguments(arguments)
    out, is_demo = args.out or DEFAULT_OUT, settings.data == ("demo",)
    with console.clear_errors():
        device = use_device(settings.device, 0 if is_demo else settings.workers, settings.amp)
    with (
        stop_signals() as stop,
        distributed.processes(device),
        console.one_voice(distributed.is_main()),
        stop.anywhere(),
    ):
        with clear_stop("before training; nothing was saved"), console.clear_errors(), distributed.together():
            planned = cells.plan(settings, tuple(MODES), args.arch, out)
            curve = curve_parts(planned) if args.learning_curve else []
            if distributed.is_main():
                cells.begin(settings, planned, args.resume, args.overwrite or (args.out is None and is_demo))
        with kept_at_an_end(planned):
            print_start(settings, planned)
            left = [cell for cell in planned if not cell.is_done]
            distributed.every(len(left))  # all have looked before the first cell is done
            cells.make_images(left)
            for cell in left:
                print_cell(run_cell(cell, curve, device), planned)
            if distributed.is_main():
                print_end(planned)


if __name__ == "__main__":
    main()
