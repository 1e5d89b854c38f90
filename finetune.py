"""Blind quality assessment with a pretrained encoder (Sections 4.2 and 4.3): LP, FT and LP-FT, SROCC and PLCC.

    python finetune.py --mode lp-ft                       the encoder and the split of the last `python train_joint.py`
    python finetune.py --mode lp-ft --encoder random      the same from random weights
    python finetune.py --preset paper --encoder runs/joint/encoder.pt --data kadid10k:DIR/kadid10k
    torchrun --nproc_per_node 4 finetune.py ..            the same on four GPUs

    python finetune.py --preset paper --mode all --encoders imagenet,cl=runs/cl,ssl=runs/ssl \\
        --data kadid10k:DIR/kadid10k --data koniq10k:DIR/koniq10k                           Tables 1 and 2

The epoch with the best validation SROCC is the one that is tested, once.
"""

import argparse
import copy
import math
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ssl_iqa import baselines
from ssl_iqa.data import sets
from ssl_iqa.data.datasets import LabeledCrops, collate_crops, make_all, name_skipped
from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.data.samplers import LabeledBatches
from ssl_iqa.data.seen import in_words, unseen
from ssl_iqa.engine import console, distributed, run_folder
from ssl_iqa.engine.device import autocast, cpu_cores, use_device
from ssl_iqa.engine.settings import script_parser, setting, settings_from
from ssl_iqa.engine.signals import STOPPED, clear_stop, stop_signals
from ssl_iqa.engine.weights import encoder_state, load_encoder
from ssl_iqa.engine.workers import make_loader, worker_end
from ssl_iqa.evaluation import calibration, tables
from ssl_iqa.evaluation.cells import Cell, baseline, begin, parts_of, plan, save, write_tables
from ssl_iqa.evaluation.features import Features, digest, encode_part, frozen_features
from ssl_iqa.evaluation.learning_curve import SHARES, SPLITS, CurveSplit, curve_parts, curve_text
from ssl_iqa.evaluation.metrics import srocc
from ssl_iqa.evaluation.predictions import measure
from ssl_iqa.evaluation.resampling import TOO_FEW
from ssl_iqa.model import ARCHS, Encoder, Regressor

MODES = {"lp": ("lp",), "ft": ("ft",), "lp-ft": ("lp", "ft")}
SAVE_AFTER = 30.0  # seconds since the last save, at an epoch's end: LP's epochs take less than a save


@dataclass(frozen=True)
class Settings:
    """Section 4.2, BIQA; where the paper is silent, the README's decisions."""

    mode: str = setting(
        "lp-ft",
        "model",
        "linear probing, fine-tuning, one after the other, or all of these, as tables",
        choices=(*MODES, "all"),
    )
    encoder: str = setting(
        "runs/joint/encoder.pt", "model", "a file, the folder of a joint run, `imagenet` or `random`"
    )
    encoders: str = setting(
        "",
        "model",
        "several to compare, as imagenet,cl=RUN,ssl=RUN; {seed} in RUN is the split's; also `brisque`, `class-mean`",
    )
    arch: str = setting("resnet50", "model", "of `imagenet` and `random`", choices=tuple(ARCHS))
    data: tuple[str, ...] = setting((), "data", f"scored pictures: {sets.SPECS}; several, with as many flags")
    test: tuple[str, ...] = setting(
        (), "data", "another set, tested on as a whole after training on --data; several, with as many flags"
    )
    split: str = setting(
        "seeded",
        "data",
        "60/20/20 by reference, or the published one of sets that have one",
        choices=("seeded", "official"),
    )
    splits: int = setting(1, "data", "so many, of the seeds from --seed on", low=1)
    crop: int = setting(224, "data", "side of the crops, pixels", low=32)
    long_side: int = setting(0, "data", "images are reduced to it, pixels, when they are read; 0: as they are", low=0)
    crops: str = setting(
        "five", "data", "the test's: corners and center, center, all", choices=("five", "center", "full")
    )
    epochs: int = setting(50, "optimization", "of LP, and of FT", low=1)
    batch_size: int = setting(32, "optimization", "pictures a step", low=2)
    lr: float = setting(1e-5, "optimization", "learning rate of Adam in LP", above=0)
    ft_lr: float = setting(1e-5, "optimization", "learning rate of Adam in FT", above=0)
    amp: str = setting("off", "run", "mixed precision", choices=("bf16", "off"))
    workers: int = setting(8, "run", "processes that read pictures, of each training process", low=0)
    device: str = setting("auto", "run", "where to compute", choices=("auto", "cpu", "cuda", "mps"))
    seed: int = setting(0, "run", "of everything random; of the split too, where the encoder brings none", low=0)


PRESETS = {
    "demo": Settings(data=("demo",), arch="dct-mlp", crop=96, long_side=192, epochs=6, lr=1e-3, ft_lr=1e-4, workers=2),
    "paper": Settings(),
}
DEFAULT_OUT = Path("runs/finetune")


@dataclass
class Task:
    """What a cell of Table 1 is measured on: a labeled set, its parts (indices of pictures), and how."""

    labeled: LabeledSet
    parts: dict[str, list[int]]
    device: torch.device
    settings: Settings  # of the cell: one mode, one encoder, one set, its split's seed
    skipped: set[str]  # files that could not be read
    verbose: bool  # a line an epoch
    last: Path | None = None  # where epochs are saved, if they are
    saved: dict[str, Any] = field(default_factory=dict)  # what was there, see `save_epoch`
    began: float = field(default_factory=time.perf_counter)

    @property
    def workers(self) -> int:
        return 0 if self.labeled.kept else self.settings.workers

    def minutes(self) -> float:
        return self.saved.get("minutes", 0.0) + (time.perf_counter() - self.began) / 60


@dataclass
class Best:
    """The epoch with the best validation SROCC so far, the weights that it had, and how far it was off."""

    srocc: float = -2.0
    epoch: str = ""
    weights: dict = field(default_factory=dict)
    residuals: Tensor = field(default_factory=lambda: torch.empty(0))  # |y_hat - y|, [M]


def train_epoch(
    trained: nn.Module, optimizer: torch.optim.Adam, batches: Iterable, amp: str, skipped: set[str]
) -> float:
    """One pass over the training pictures. Returns the mean of L_r, Eq. 7.

    `trained` takes the pictures in FT, and in LP the features that the frozen encoder gave. `skipped` gathers the files
    that could not be read.
    """
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


def probing_batches(features: Features, train: list[int], task: Task) -> Callable[[int], Iterable]:
    """LP's batches in an epoch: z of one of its crops for each picture drawn, [B, d], and the scores [B]."""
    sampler = make_sampler(len(train), task)
    scores = torch.tensor(task.labeled.scores, dtype=torch.float32)

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
        sampler.epoch = epoch
        for draws in sampler:
            indices = [train[draw.index] for draw in draws]
            yield features.z[indices, [draw.seed % features.z.shape[1] for draw in draws]], scores[indices], []

    return batches


def tuning_batches(task: Task) -> Callable[[int], Iterable]:
    """FT's batches in an epoch: random views of pictures [B, 3, s, s] and the scores [B]."""
    sampler = make_sampler(len(task.parts["train"]), task)
    loader = make_loader(
        LabeledCrops(task.labeled, task.parts["train"], task.settings.crop),
        task.workers,
        collate_crops,
        batch_sampler=sampler,
        persistent_workers=task.workers > 0,
        pin_memory=task.device.type == "cuda",
    )

    def batches(epoch: int) -> Iterable:
        sampler.epoch = epoch
        return loader

    return batches


def make_sampler(pictures: int, task: Task) -> LabeledBatches:
    """So many pictures, in as many steps an epoch as the whole training part takes."""
    settings = task.settings
    steps = math.ceil(len(task.parts["train"]) / settings.batch_size)
    return LabeledBatches(pictures, steps, settings.batch_size, settings.seed)


@torch.no_grad()
def predict(regressor: Regressor, z: Tensor) -> Tensor:
    """y_hat of a picture, the mean over its crops: z [M, crops, d] -> [M] on the CPU."""
    regressor.eval()
    return regressor(z.flatten(0, 1)).view(z.shape[:2]).mean(dim=1).cpu()


def fit(
    encoder: Encoder,
    regressor: Regressor,
    phase: str,
    batches: Callable[[int], Iterable],
    validate: Callable[[], tuple[list[int], Tensor]],
    best: Best,
    task: Task,
) -> None:
    """One phase, LP or FT: leaves both networks with the weights of the best epoch so far, of this phase or before."""
    settings, scores = task.settings, np.array(task.labeled.scores)
    trained = regressor if phase == "lp" else nn.Sequential(encoder, regressor)
    optimizer = torch.optim.Adam(trained.parameters(), lr=settings.ft_lr if phase == "ft" else settings.lr)
    first = 0
    if task.saved.get("phase") == phase:
        first = task.saved["epochs"]
        optimizer.load_state_dict(task.saved["optimizer"])
    trained = distributed.parallel(trained, task.device)
    saved_at = time.monotonic()
    epochs = range(first, settings.epochs)
    for epoch in epochs if task.verbose else console.bar(epochs, f"{phase.upper()} epochs", settings.epochs, first):
        desc = f"{phase.upper()} epoch {epoch + 1}/{settings.epochs}"
        loss = train_epoch(trained, optimizer, console.bar(batches(epoch), desc), settings.amp, task.skipped)
        indices, z = validate()
        y_hat = predict(regressor, z)
        if not math.isfinite(loss) or not y_hat.isfinite().all():
            sys.exit(f"error: the loss or a prediction is not finite in {desc}; a lower learning rate may help")
        val_srocc = srocc(y_hat, scores[indices])
        ranks = np.nan_to_num([val_srocc, best.srocc], nan=-2)  # SROCC is nan where predictions are all equal
        is_best = ranks[0] > ranks[1] or not best.weights
        if is_best:
            weights = {"encoder": encoder_state(encoder), "regressor": regressor.state_dict()}
            best.srocc, best.epoch, best.weights = val_srocc, f"{phase} {epoch + 1}", copy.deepcopy(weights)
            best.residuals = (y_hat.double() - torch.from_numpy(scores[indices])).abs()
        if task.verbose:
            print(f"{desc}  L_r {loss:.3f} | validation SROCC {val_srocc:.3f}{' *' if is_best else ''}", flush=True)
        if task.last and distributed.is_main() and time.monotonic() - saved_at >= SAVE_AFTER:
            save_epoch(phase, epoch + 1, (encoder, regressor, optimizer), best, task)
            saved_at = time.monotonic()
    encoder.load_state_dict(best.weights["encoder"]["weights"])
    regressor.load_state_dict(best.weights["regressor"])


def save_epoch(
    phase: str, epochs: int, trained: tuple[Encoder, Regressor, torch.optim.Adam], best: Best, task: Task
) -> None:
    """All that a run needs to go on bit for bit after so many epochs of a phase: draws come from the epoch's number."""
    names = ("encoder", "regressor", "optimizer")
    state = {name: part.state_dict() for name, part in zip(names, trained, strict=True)}
    state |= {"phase": phase, "epochs": epochs, "best": vars(best), "skipped": sorted(task.skipped)}
    state |= {"minutes": task.minutes(), "digest": task.saved["digest"], "parts": task.parts}
    task.last.parent.mkdir(parents=True, exist_ok=True)
    run_folder.save(state, task.last)


def read_epoch(last: Path, encoder: Encoder, task: Task) -> dict[str, Any]:
    """What `save_epoch` has written there, or only the digest of what is trained on where there is nothing.

    Raises ValueError for a damaged file, and where the encoder to start from, the images or their parts have changed.
    """
    now = digest(encoder, task)
    if not distributed.every(last.is_file())[0]:
        return {"digest": now}
    saved = run_folder.load(last)
    if (saved["digest"], saved["parts"]) != (now, task.parts):
        raise ValueError(f"{last}: the encoder, the images or their split have changed since; --overwrite starts again")
    return saved


def fresh_head(encoder: Encoder, train: list[int], task: Task) -> Regressor:
    """h before training: random weights by the seed, and the mean score of the pictures that are trained with."""
    torch.manual_seed(task.settings.seed)
    return Regressor(encoder.dim, float(np.mean([task.labeled.scores[i] for i in train]))).to(task.device)


def probe_linearly(
    encoder: Encoder, regressor: Regressor, features: Features, train: list[int], best: Best, task: Task
) -> list[int]:
    """LP with the pictures `train`. Returns the test part's pictures that can be read."""
    parts = task.parts | {"train": train}
    train, val, test = ([i for i in parts[part] if features.readable[i]] for part in ("train", "val", "test"))
    batches = probing_batches(features, train, task)
    fit(encoder, regressor, "lp", batches, lambda: (val, features.z[val]), best, task)
    return test


def train_and_test(
    encoder: Encoder, features: Callable[[], Features], task: Task
) -> tuple[Best, Regressor, list[int], np.ndarray]:
    """The best epoch of all phases, its regressor, the test part's pictures that can be read, and their scores [M].

    Both networks end as they were in the best epoch. `features` are those of the encoder as it comes.
    """
    parts, phases, best = task.parts, MODES[task.settings.mode], Best()
    regressor = fresh_head(encoder, parts["train"], task)
    if "phase" in task.saved:
        phases = phases[phases.index(task.saved["phase"]) :]
        encoder.load_state_dict(task.saved["encoder"])
        regressor.load_state_dict(task.saved["regressor"])
        best = Best(**task.saved["best"])
    if "lp" in phases:
        encoder.eval()
        frozen = copy.deepcopy(encoder.state_dict())
        test = probe_linearly(encoder, regressor, features(), parts["train"], best, task)
        z = features().z[test]
        if not all(torch.equal(frozen[name], now) for name, now in encoder.state_dict().items()):
            raise AssertionError("linear probing has changed the encoder")
    if "ft" in phases:
        validate = partial(encode_part, encoder, task, parts["val"])
        fit(encoder, regressor, "ft", tuning_batches(task), validate, best, task)
        test, z = encode_part(encoder, task, parts["test"])
    return best, regressor, test, predict(regressor, z).numpy()


def learning_curve(encoder: Encoder, features: Features, splits: list[CurveSplit], task: Task) -> list[dict[str, Any]]:
    """SROCC of LP with a part of the labels, for each of several splits, in as many steps as with all: `learning`."""
    rows: list[dict[str, Any]] = [{"labels": 0.0, "srocc": []} for _ in SHARES]
    for number, (parts, shares) in enumerate(console.bar(splits, "learning curve")):
        settings = replace(task.settings, seed=task.settings.seed + number)
        one = replace(task, parts=parts, settings=settings, verbose=False, last=None, saved={})
        for row, train in zip(rows, shares, strict=True):
            regressor = fresh_head(encoder, train, one)
            test = probe_linearly(encoder, regressor, features, train, Best(), one)
            row["labels"] += len(train) / SPLITS
            row["srocc"].append(srocc(predict(regressor, features.z[test]), np.array(task.labeled.scores)[test]))
    return rows


def measure_elsewhere(
    encoder: Encoder, regressor: Regressor, cell: Cell, labeled: LabeledSet, device: torch.device
) -> dict:
    """SROCC on another set, all of it, but for what joint training or this cell has seen of it. Its scores' scale is
    another one, so that only the ranks of predictions mean anything there.
    """
    part = unseen(labeled, cell.seen)
    task = Task(labeled, {"test": part}, device, cell.settings, set(), verbose=False)
    indices, z = encode_part(encoder, task, part)
    measured = measure(predict(regressor, z).numpy(), labeled, indices)
    left_out = len(labeled.paths) - len(part)
    return {name: measured[name] for name in ("srocc", "srocc_interval", "images")} | {"left_out": left_out}


def run_cell(
    cell: Cell,
    others: dict[str, LabeledSet],
    curve: list[CurveSplit],
    device: torch.device,
    out: Path,
) -> dict[str, Any]:
    """Measures a cell and writes what it gave: results.json, predictions.csv and, of a single one, model.pt."""
    began, earlier = time.perf_counter(), 0.0
    settings, labeled, is_single = cell.settings, cell.labeled, cell.folder == out
    parts, best, how, elsewhere = parts_of(labeled, cell.split), Best(), {}, {}
    last = cell.folder / run_folder.LAST
    if cell.name in baselines.NAMES:
        indices, predicted = baseline(cell, parts, out / run_folder.FEATURES)
    else:
        encoder = load_encoder(settings.encoder, settings.arch, settings.seed)
        encoder = distributed.synchronize(encoder.to(device, memory_format=torch.channels_last), device)
        encoder.seen = cell.seen  # travels in model.pt
        task = Task(labeled, parts, device, settings, set(), verbose=is_single)
        with console.clear_errors():
            task.last, task.saved = last, read_epoch(last, encoder, task)
        task.skipped.update(task.saved.get("skipped", ()))
        earlier = task.saved.get("minutes", 0.0)
        features = cache(partial(frozen_features, encoder, task, out / run_folder.FEATURES))
        if curve:
            how["learning_curve"] = learning_curve(encoder, features(), curve, task)
        best, regressor, indices, predicted = train_and_test(encoder, features, task)
        for spec, other in others.items():
            elsewhere[spec] = measure_elsewhere(encoder, regressor, cell, other, device)
    how |= {"best_epoch": best.epoch, "val_srocc": best.srocc, "tests": elsewhere}
    how |= {"minutes": earlier + (time.perf_counter() - began) / 60}
    if best.epoch:
        within = calibration.margin(best.residuals)
        off = np.abs(predicted - np.array([labeled.scores[i] for i in indices]))
        how |= {"margin": within, "coverage": float(np.mean(off <= within))}
    model = best.weights | {"residuals": best.residuals.sort().values} if is_single else None
    results = save(cell, indices, predicted, how, model)
    if distributed.is_main():
        last.unlink(missing_ok=True)
        if is_single:  # of several cells others need the features, too
            shutil.rmtree(out / run_folder.FEATURES, ignore_errors=True)
    return results


def parse_arguments(arguments: list[str] | None) -> tuple[Settings, argparse.Namespace]:
    parser = script_parser(__doc__, PRESETS, DEFAULT_OUT)
    parser.add_argument("--learning-curve", action="store_true", help="also: would more labels help?")
    args = parser.parse_args(arguments)
    with console.clear_errors():
        # own images are never reduced unasked
        settings = settings_from(args, PRESETS, **({"long_side": 0} if {*(args.data or ())} - {"demo"} else {}))
        if not settings.data:
            raise ValueError(f"--data: a labeled set is wanted: {sets.SPECS}")
        if len({*settings.data}) < len(settings.data):
            raise ValueError(f"--data {' '.join(settings.data)}: a set comes twice")
        if args.encoder and args.encoders:
            raise ValueError(f"--encoder {args.encoder}: not beside --encoders, which takes it as NAME={args.encoder}")
    return settings, args


def main(arguments: list[str] | None = None) -> None:
    settings, args = parse_arguments(arguments)
    out = args.out or DEFAULT_OUT
    with console.clear_errors():
        needs_no_workers = settings.data == ("demo",)
        device = use_device(settings.device, 0 if needs_no_workers else settings.workers, settings.amp)
    with (
        stop_signals() as stop,
        distributed.processes(device),
        console.one_voice(distributed.is_main()),
        stop.anywhere(),
    ):
        with clear_stop("before training; nothing was saved"), console.clear_errors(), distributed.together():
            cells = plan(settings, tuple(MODES), args.arch, out)
            if args.learning_curve and cells[0].folder != out:
                raise ValueError("--learning-curve: of one encoder on one split of one set, in one mode")
            curve = curve_parts(cells[0]) if args.learning_curve else []
            if distributed.is_main():
                is_default_demo = args.out is None and settings.data == ("demo",)
                begin(settings, cells, out, args.resume, args.overwrite or is_default_demo)
        try:
            print_start(settings, cells)
            left = [cell for cell in cells if not (cell.folder / run_folder.RESULTS).is_file()]
            distributed.every(len(left))  # all have looked before the first cell is done
            measure_cells(left, cells, curve, device, out)
            if distributed.is_main() and cells[0].folder == out:
                print_results(run_folder.read_json(out / run_folder.RESULTS), bool(cells[0].known), out)
            elif distributed.is_main():
                write_tables(cells, out)
        except run_folder.NotWritten as error:
            sys.exit(f"error: {error}; {what_is_kept(cells)}")
        except RuntimeError as error:
            if not worker_end(error):
                raise
            sys.exit(f"error: {worker_end(error)}; {what_is_kept(cells)}")
        except KeyboardInterrupt:
            print(f"ended: {what_is_kept(cells)}")
            sys.exit(STOPPED)


def what_is_kept(cells: list[Cell]) -> str:
    """What a run that has ended early has left in its folders, and what --resume does with it."""
    done = sum((cell.folder / run_folder.RESULTS).is_file() for cell in cells)
    lasts = [cell.folder / run_folder.LAST for cell in cells if (cell.folder / run_folder.LAST).is_file()]
    kept = f"{done} of {len(cells)} results"
    if lasts:
        kept += f", and {lasts[0]}: an epoch of the next"
    return kept + ("; --resume goes on from there" if done or lasts else "; nothing to resume")


def measure_cells(
    left: list[Cell], cells: list[Cell], curve: list[CurveSplit], device: torch.device, out: Path
) -> None:
    """One after the other; what is needed of a set is made when its first cell comes, and kept until its last."""
    done = len(cells) - len(left)
    settings = cells[0].settings
    others = {spec: sets.load_labeled(spec, settings.long_side) for spec in settings.test if left}
    for labeled in others.values():
        make_images(labeled, settings)
    for _, of_set in groupby(left, key=lambda cell: cell.settings.data):
        of_set = list(of_set)
        make_images(of_set[0].labeled, settings)
        for cell in of_set:
            results = run_cell(cell, others, curve, device, out)
            done += 1
            if cell.folder != out:
                where = f"{results['data']}, split {results['seed']}: {results['mode'].upper()} from {results['name']}"
                numbers = f"SROCC {results['srocc']:.3f}  PLCC {results['plcc']:.3f}  {results['minutes']:.1f} min"
                print(f"[{done}/{len(cells)}] {where}  {numbers}", flush=True)


def make_images(labeled: LabeledSet, settings: Settings) -> None:
    make_all(labeled, range(len(labeled.paths)), settings.workers and cpu_cores())


def print_start(settings: Settings, cells: list[Cell]) -> None:
    shown = asdict(settings) if len(cells) > 1 else asdict(cells[0].settings)
    for name, value in sorted(shown.items()):
        print(f"  {name:<12} {' '.join(value) if isinstance(value, tuple) else value}")
    if "demo" in settings.data:
        print("Demo scores are the mean opinions of KADID-10k's 125 classes, not opinions of these very pictures.")
    for spec, of_set in groupby(cells, key=lambda cell: cell.settings.data[0]):
        first = next(of_set)
        parts = parts_of(first.labeled, first.split)
        counts = ", ".join(f"{len(parts[part])} of {len(first.split[part])} references {part}" for part in parts)
        print(f"{spec}: pictures {counts}", flush=True)
        if first.known:
            print(f"  {in_words(first.split, first.known)}", flush=True)


def print_results(results: dict, has_seen: bool, out: Path) -> None:
    def number(value: float | None) -> str:
        return "nan" if value is None else f"{value:.3f}"

    unreadable = f" ({results['unreadable']} could not be read)" if results["unreadable"] else ""
    print(f"\n{results['mode'].upper()} from {results['encoder']}, best epoch {results['best_epoch']},", end=" ")
    print(f"on {results['images']} held-out pictures of {len(results['split']['test'])} references{unreadable}:")
    values = [number(results.get(name)) for name in ("srocc", "plcc", "plcc_logistic", "plcc_logistic5")]
    print("  SROCC {}   PLCC {}   after logistic {} (4 parameters), {} (5)".format(*values))
    has_interval = None not in results["srocc_interval"]
    interval = " to ".join(map(number, results["srocc_interval"])) if has_interval else f"none, {TOO_FEW}"
    print(f"  95 % interval of SROCC over references: {interval}")
    if results["margin"] is not None:  # else the validation part is too small
        print(f"  90 % interval of a score: +- {results['margin']:.2f}, which holds {results['coverage']:.0%} of these")
    by_type = results["srocc_by_type"]
    if by_type:
        shown = {name: by_type[name] for name in tables.TYPES if name in by_type} or by_type
        print("  SROCC by type (Table 2):", ", ".join(f"{name} {number(value)}" for name, value in shown.items()))
    for spec, elsewhere in results["tests"].items():
        left_out = elsewhere.get("left_out")  # an earlier version did not write it
        without = f" ({left_out} that were trained on are left out)" if left_out else ""
        print(f"  on {elsewhere['images']} pictures of {spec}{without}: SROCC {number(elsewhere['srocc'])}")
    if "learning_curve" in results:
        print("\n" + curve_text(results["learning_curve"], has_seen) + "\n")
    print(
        f"{results['minutes']:.1f} minutes. All numbers: {out / run_folder.RESULTS}; networks: {out / run_folder.MODEL}"
    )
    print(f"Next: {shlex.join(['python', '-m', 'ssl_iqa.scoring.score', str(out / run_folder.MODEL)])} PATH ..")


if __name__ == "__main__":
    main()
