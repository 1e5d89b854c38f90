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
import hashlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ssl_iqa import baselines, data, distributed, protocol, report, runs, sets, tables, views
from ssl_iqa.cli import add_flags, flag, setting, settings_from
from ssl_iqa.metrics import srocc
from ssl_iqa.model import ARCHS, Encoder, Regressor, encoder_state, load_encoder
from ssl_iqa.results import measure, predictions_csv, read_measured
from ssl_iqa.samplers import LabeledBatches

MODES = {"lp": ("lp",), "ft": ("ft",), "lp-ft": ("lp", "ft")}
NAMED = ("imagenet", "random", *baselines.NAMES)  # what --encoders takes without a file
Pictures = tuple[sets.LabeledSet, dict[int, Tensor]]  # a set, and those that need not be read
MAY_DIFFER = ("workers", "device")  # of tables that are gone on with


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
    test: tuple[str, ...] = setting((), "data", "other sets that what was trained on --data is tested on, as a whole")
    split: str = setting(
        "seeded", "data", "60/20/20 by reference, or what the set publishes", choices=("seeded", "official")
    )
    splits: int = setting(1, "data", "so many, of the seeds from --seed on", low=1)
    crop: int = setting(224, "data", "side of the crops, pixels", low=32)
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
    "demo": Settings(data=("demo",), arch="dct-mlp", crop=96, epochs=6, lr=1e-3, ft_lr=1e-4, workers=2),
    "paper": Settings(),
}


@dataclass(frozen=True)
class Cell:
    """One measurement of Table 1, to be made or made."""

    name: str  # of the encoder, in the tables
    settings: Settings  # with one mode, encoder file, set and split's seed
    labeled: sets.LabeledSet
    split: protocol.Split
    folder: Path  # of its results


@dataclass
class Task:
    """What a cell of Table 1 is measured on: a labeled set, its parts (indices of pictures), and how."""

    labeled: sets.LabeledSet
    parts: dict[str, list[int]]
    made: dict[int, Tensor]  # pictures that need not be read, see views.make_demo_pictures
    device: torch.device
    settings: Settings  # of the cell: one mode, one encoder, one set, its split's seed
    skipped: set[str]  # files that could not be read
    verbose: bool  # a line an epoch

    @property
    def workers(self) -> int:
        return 0 if self.made else self.settings.workers


@dataclass
class Best:
    """The epoch with the best validation SROCC so far, and the weights that it had."""

    srocc: float = -2.0
    epoch: str = ""
    weights: dict = field(default_factory=dict)


@dataclass
class Features:
    """z of the test crops of all of a set's pictures by a frozen encoder, [M, crops, d]; which could be read, [M]."""

    z: Tensor
    readable: Tensor


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
        views.name_skipped(unreadable, skipped)
        x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
        with runs.autocast(device, amp):
            y_hat = trained(x).to(y.dtype)  # [B], Eq. 6
        loss = nn.functional.mse_loss(y_hat, y)  # Eq. 7
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return distributed.mean(torch.stack(losses).mean()).item()


@torch.no_grad()
def encode(encoder: Encoder, batches: Iterable, crop: Callable[[Tensor], Tensor], amp: str) -> tuple[list[int], Tensor]:
    """z of the test crops of every picture that can be read: (their indices [M], z [M, crops, d])."""
    device = next(encoder.parameters()).device
    encoder.eval()
    indices, z = [], []
    for batch in batches:
        readable = [(index, crop(picture / 255)) for index, picture in batch if picture is not None]
        for _, group in groupby(readable, key=lambda item: item[1].shape):  # whole pictures may differ in size
            group_indices, crops = zip(*group, strict=True)
            x = torch.stack(crops).to(device)  # [m, crops, 3, h, w]
            with runs.autocast(device, amp):
                z.append(encoder(x.flatten(0, 1)).float().unflatten(0, x.shape[:2]))  # [m, crops, d]
            indices += group_indices
    return indices, torch.cat(z) if z else torch.empty(0)


def encode_part(encoder: Encoder, task: Task, part: list[int]) -> tuple[list[int], Tensor]:
    """`encode` for some pictures of the set: each process encodes its share, and all have all."""
    process, processes = distributed.rank(), distributed.size()
    batches = views.picture_batches(task.labeled, part[process::processes], task.made, task.workers)
    crop = partial(views.test_crops, mode=task.settings.crops, size=task.settings.crop)
    indices, z = encode(encoder, runs.bar(batches, "features"), crop, task.settings.amp)
    shares = distributed.every((indices, z.cpu()))
    indices = sum((share[0] for share in shares), [])
    views.name_skipped((task.labeled.paths[i] for i in {*part} - {*indices}), task.skipped)
    return indices, torch.cat([share[1].to(task.device) for share in shares if share[0]])


def frozen_features(encoder: Encoder, task: Task, folder: Path | None) -> Features:
    """What LP trains and is tested on: the encoder passes each picture once, and not in every epoch.

    With a folder they are kept there, for other splits and modes, under a name that says what they were made of.
    """
    path = folder / f"{digest(encoder, task)}.pt" if folder else None
    if path and distributed.every(path.is_file())[0]:
        return Features(**{name: value.to(task.device) for name, value in runs.load(path).items()})
    pictures = len(task.labeled.paths)
    indices, z = encode_part(encoder, task, list(range(pictures)))
    features = Features(z.new_zeros(pictures, *z.shape[1:]), torch.zeros(pictures, dtype=torch.bool, device=z.device))
    features.z[indices], features.readable[indices] = z, True
    if path and distributed.is_main():
        path.parent.mkdir(exist_ok=True)
        runs.save(vars(features), path)
    return features


def digest(encoder: Encoder, task: Task) -> str:
    """Names features by all that they depend on: the encoder's weights, the files, and how these are cropped."""
    settings, labeled = task.settings, task.labeled
    known = hashlib.sha256(repr((encoder.arch, settings.crop, settings.crops, settings.amp, labeled.classes)).encode())
    for path in labeled.paths:
        stat = os.stat(path)
        known.update(repr((path, stat.st_size, stat.st_mtime_ns)).encode())
    for tensor in encoder.state_dict().values():
        known.update(tensor.cpu().contiguous().numpy().tobytes())
    return known.hexdigest()[:32]


def probing_batches(features: Features, train: list[int], task: Task) -> Callable[[int], Iterable]:
    """LP's batches in an epoch: z of one of its crops for each picture drawn, [B, d], and the scores [B]."""
    sampler = make_sampler(len(train), task.settings)
    scores = torch.tensor(task.labeled.scores, dtype=torch.float32)

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
        sampler.epoch = epoch
        for draws in sampler:
            indices = [train[draw.index] for draw in draws]
            yield features.z[indices, [draw.seed % features.z.shape[1] for draw in draws]], scores[indices], []

    return batches


def tuning_batches(task: Task) -> Callable[[int], Iterable]:
    """FT's batches in an epoch: random views of pictures [B, 3, s, s] and the scores [B]."""
    sampler = make_sampler(len(task.parts["train"]), task.settings)
    loader = DataLoader(
        views.LabeledCrops(task.labeled, task.parts["train"], task.settings.crop, task.made),
        batch_sampler=sampler,
        collate_fn=views.collate_crops,
        num_workers=task.workers,
        persistent_workers=task.workers > 0,
        pin_memory=task.device.type == "cuda",
    )

    def batches(epoch: int) -> Iterable:
        sampler.epoch = epoch
        return loader

    return batches


def make_sampler(pictures: int, settings: Settings) -> LabeledBatches:
    steps = math.ceil(pictures / settings.batch_size)
    return LabeledBatches(pictures, steps, settings.batch_size, settings.seed, distributed.rank(), distributed.size())


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
    trained = distributed.parallel(trained, task.device)
    for epoch in range(settings.epochs):
        desc = f"{phase.upper()} epoch {epoch + 1}/{settings.epochs}"
        loss = train_epoch(trained, optimizer, runs.bar(batches(epoch), desc), settings.amp, task.skipped)
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
        if task.verbose:
            print(f"{desc}  L_r {loss:.3f} | validation SROCC {val_srocc:.3f}{' *' if is_best else ''}", flush=True)
    encoder.load_state_dict(best.weights["encoder"]["weights"])
    regressor.load_state_dict(best.weights["regressor"])


def train_and_test(encoder: Encoder, task: Task, folder: Path | None) -> tuple[Best, Regressor, list[int], np.ndarray]:
    """The best epoch of all phases, its regressor, the test part's pictures that can be read, and their scores [M].

    Both networks end as they were in the best epoch. `folder` is where features of frozen encoders are kept.
    """
    settings, parts = task.settings, task.parts
    encoder = distributed.synchronize(encoder.to(task.device, memory_format=torch.channels_last), task.device)
    torch.manual_seed(settings.seed)  # of the fresh head
    mean_score = float(np.mean([task.labeled.scores[i] for i in parts["train"]]))
    regressor = Regressor(encoder.dim, mean_score).to(task.device)
    best, phases = Best(), MODES[settings.mode]
    if "lp" in phases:
        encoder.eval()
        frozen = copy.deepcopy(encoder.state_dict())
        features = frozen_features(encoder, task, folder)
        train, val, test = ([i for i in parts[part] if features.readable[i]] for part in ("train", "val", "test"))
        fit(
            encoder, regressor, "lp", probing_batches(features, train, task), lambda: (val, features.z[val]), best, task
        )
        if not all(torch.equal(frozen[name], now) for name, now in encoder.state_dict().items()):
            raise AssertionError("linear probing has changed the encoder")
    if "ft" in phases:
        fit(
            encoder,
            regressor,
            "ft",
            tuning_batches(task),
            partial(encode_part, encoder, task, parts["val"]),
            best,
            task,
        )
        test, z = encode_part(encoder, task, parts["test"])
    else:
        z = features.z[test]
    return best, regressor, test, predict(regressor, z).numpy()


def measure_elsewhere(
    encoder: Encoder, regressor: Regressor, settings: Settings, other: Pictures, device: torch.device
) -> dict[str, Any]:
    """SROCC on another set, all of it, but for what joint training has seen of it. Its scores' scale is another one, so
    that only the ranks of predictions mean anything there.
    """
    labeled, made = other
    split = protocol.recorded_split(settings.encoder, labeled)
    part = data.part_indices(labeled.references, split["test"]) if split else list(range(len(labeled.paths)))
    task = Task(labeled, {"test": part}, made, device, settings, set(), verbose=False)
    indices, z = encode_part(encoder, task, part)
    found = measure(predict(regressor, z).numpy(), labeled, indices)
    return {name: found[name] for name in ("srocc", "srocc_interval", "images")}


def plan(settings: Settings, arch: str | None, out: Path) -> list[Cell]:
    """The cells that the settings ask for: every set, split, encoder and mode.

    A single one has its results in `out` itself, of several each has a folder below. Everything that can be wrong with
    the input is found here, before the first cell is begun.
    """
    encoders = {"encoder": settings.encoder}
    if settings.encoders:
        encoders = protocol.parse_encoders(settings.encoders, NAMED)
    modes = [*MODES] if settings.mode == "all" else [settings.mode]
    for spec in settings.test:
        sets.load_labeled(spec)
    cells = []
    for number, spec in enumerate(settings.data):
        labeled = sets.load_labeled(spec)
        same_kind = [tables.kind(other) for other in settings.data[:number]].count(tables.kind(spec))
        folder = out / runs.CELLS / (tables.kind(spec) + f"-{same_kind + 1}" * (same_kind > 0))
        if settings.splits > 1 and settings.split == "seeded":
            protocol.check_runs(encoders, labeled, settings.seed)
        for seed in range(settings.seed, settings.seed + settings.splits):
            files = {name: protocol.encoder_file(place, seed) for name, place in encoders.items()}
            split = protocol.split_of(files.values(), labeled, seed, settings.split)
            check_parts(labeled, parts_of(labeled, split))
            for name, file in files.items():
                if name in baselines.NAMES:
                    baselines.check(name, labeled)
                one = replace(settings, encoder=file, encoders="", data=(spec,), splits=1, seed=seed)
                if name not in baselines.NAMES:
                    encoder = load_encoder(file, settings.arch if file in NAMED else arch, seed)
                    one = replace(one, arch=encoder.arch)
                for mode in modes if name not in baselines.NAMES else [tables.NO_MODE]:
                    place = folder / name / mode / f"split-{seed}"
                    cells.append(Cell(name, replace(one, mode=mode), labeled, split, place))
    is_single = len(cells) == 1 and not settings.encoders
    return [replace(cells[0], folder=out)] if is_single else cells


def parts_of(labeled: sets.LabeledSet, split: protocol.Split) -> dict[str, list[int]]:
    return {part: data.part_indices(labeled.references, names) for part, names in split.items()}


def check_parts(labeled: sets.LabeledSet, parts: dict[str, list[int]]) -> None:
    """Raises ValueError where a part has fewer than two usable pictures: SROCC takes two."""
    for part, indices in parts.items():
        crops = views.LabeledCrops(labeled, indices, 0, {})
        first, *_ = views.first_readable(crops.read, crops.paths, 0)
        second, *_ = views.first_readable(crops.read, crops.paths, (first + 1) % len(indices))
        if second == first:
            raise ValueError(f"{labeled.name}: its {part} part has a single usable picture; two or more are wanted")


def run_cell(
    cell: Cell, made: dict[int, Tensor], others: dict[str, Pictures], device: torch.device, out: Path
) -> dict[str, Any]:
    """Measures a cell and writes what it gave: results.json, predictions.csv and, of a single one, model.pt."""
    began = time.perf_counter()
    settings, labeled, is_single = cell.settings, cell.labeled, cell.folder == out
    parts, best, elsewhere = parts_of(labeled, cell.split), Best(), {}
    if cell.name in baselines.NAMES:
        indices, predicted = baseline(cell, parts, out / runs.FEATURES)
    else:
        encoder = load_encoder(settings.encoder, settings.arch, settings.seed)
        task = Task(labeled, parts, made, device, settings, set(), verbose=is_single)
        features = None if is_single else out / runs.FEATURES
        best, regressor, indices, predicted = train_and_test(encoder, task, features)
        for spec, other in others.items():
            elsewhere[spec] = measure_elsewhere(encoder, regressor, settings, other, device)
    plain = as_plain(settings) | {"data": settings.data[0]}
    results = measure(predicted, labeled, indices) | {
        "tests": elsewhere,
        "unreadable": len(parts["test"]) - len(indices),
        "name": cell.name,
        "mode": settings.mode,
        "encoder": settings.encoder,
        "data": settings.data[0],
        "seed": settings.seed,
        "best_epoch": best.epoch,
        "val_srocc": best.srocc,
        "minutes": round((time.perf_counter() - began) / 60, 2),
        "settings": plain,
        "split": cell.split,
    }
    if distributed.is_main():
        cell.folder.mkdir(parents=True, exist_ok=True)
        if is_single:
            model = {**best.weights, "score_range": list(labeled.score_range), "settings": plain}
            runs.save(model, cell.folder / runs.MODEL)
        rows = predictions_csv(predicted, labeled, indices)
        runs.write_atomic(cell.folder / runs.PREDICTIONS, lambda file: file.write(rows.encode()))
        runs.write_json(results, cell.folder / runs.RESULTS)  # the last one: where it is, the cell is done
    return results


def parse_arguments(arguments: list[str] | None) -> tuple[Settings, argparse.Namespace]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_flags(parser, PRESETS)
    parser.add_argument("--out", type=Path, help="the run's folder (runs/finetune)")
    parser.add_argument("--overwrite", action="store_true", help="replace the run that --out holds")
    parser.add_argument("--resume", action="store_true", help="go on with the tables in --out: measure what is left")
    args = parser.parse_args(arguments)
    with runs.clear_errors():
        settings = settings_from(args, PRESETS)
        if not settings.data:
            raise ValueError(f"--data: a labeled set is wanted: {sets.SPECS}")
        if len({*settings.data}) < len(settings.data):
            raise ValueError(f"--data {' '.join(settings.data)}: a set comes twice")
        if args.encoder and args.encoders:
            raise ValueError(f"--encoder {args.encoder}: not beside --encoders, which takes it as NAME={args.encoder}")
        if settings.batch_size % distributed.launched():
            wanted = f"with {distributed.launched()} processes a multiple of them is wanted"
            raise ValueError(f"--batch-size {settings.batch_size}: {wanted}")
    return settings, args


def baseline(cell: Cell, parts: dict[str, list[int]], folder: Path) -> tuple[list[int], np.ndarray]:
    """What needs no encoder: the test part's pictures that can be used, and their predicted scores [M].

    BRISQUE's features, the same for each split, are kept in `folder`.
    """
    labeled = cell.labeled
    if cell.name == baselines.CLASS_MEAN:
        return parts["test"], baselines.class_mean_predictions(labeled, parts)
    path = folder / f"brisque-{tables.kind(labeled.name)}-{data.digest(labeled.paths)[:16]}.pt"
    if path.is_file():
        features = runs.load(path)["features"].numpy()
    else:
        features = baselines.brisque_of(labeled, cell.settings.workers)
        if distributed.is_main():
            path.parent.mkdir(parents=True, exist_ok=True)
            runs.save({"features": torch.from_numpy(features)}, path)
    predicted = baselines.svr_predictions(features, labeled.scores, parts)
    usable = np.isfinite(predicted)
    return [index for index, is_usable in zip(parts["test"], usable, strict=True) if is_usable], predicted[usable]


def as_plain(settings: Settings) -> dict[str, Any]:
    """As JSON and `torch.load(weights_only=True)` give it back."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(settings).items()}


def begin(plain: dict[str, Any], out: Path, args: argparse.Namespace) -> None:
    """Makes the run's folder. Raises ValueError for a run to go on with that had other settings."""
    if args.resume and (out / runs.CONFIG).is_file():
        was = runs.read_json(out / runs.CONFIG)
        differing = [name for name in plain if name not in MAY_DIFFER and was.get(name) != plain[name]]
        if differing:
            words = "; ".join(f"{flag(name)} was {was.get(name)!r}, is {plain[name]!r}" for name in differing)
            raise ValueError(f"--resume {out}: a run of other settings: {words}")
    is_default_demo = args.out is None and plain["data"] in ("demo", ["demo"])
    runs.prepare_folder(out, keep=args.resume, replace=args.overwrite or is_default_demo)
    runs.write_json(plain, out / runs.CONFIG)


def main(arguments: list[str] | None = None) -> None:
    settings, args = parse_arguments(arguments)
    out = args.out or Path("runs/finetune")
    with runs.clear_errors():
        needs_no_workers = settings.data == ("demo",)
        device = runs.use_device(settings.device, 0 if needs_no_workers else settings.workers, settings.amp)
    with distributed.processes(device), report.one_voice(distributed.is_main()):
        with runs.clear_errors(), distributed.together():
            cells = plan(settings, args.arch, out)
            if distributed.is_main():
                is_single = cells[0].folder == out
                plain = as_plain(cells[0].settings) | {"data": settings.data[0]} if is_single else as_plain(settings)
                begin(plain, out, args)
        print_start(settings, cells)
        left = [cell for cell in cells if not (cell.folder / runs.RESULTS).is_file()]
        distributed.every(len(left))  # all have looked before the first cell is done
        try:
            measure_cells(left, cells, device, out)
        except runs.NotWritten as error:
            sys.exit(f"error: {error}")
        if distributed.is_main() and cells[0].folder != out:
            write_tables(cells, out)


def measure_cells(left: list[Cell], cells: list[Cell], device: torch.device, out: Path) -> None:
    """One after the other; what is needed of a set is made when its first cell comes, and kept until its last."""
    done = len(cells) - len(left)
    others = {spec: pictures_of(sets.load_labeled(spec), cells[0].settings) for spec in cells[0].settings.test if left}
    for _, of_set in groupby(left, key=lambda cell: cell.settings.data):
        of_set = list(of_set)
        _, made = pictures_of(of_set[0].labeled, of_set[0].settings)
        for cell in of_set:
            results = run_cell(cell, made, others, device, out)
            done += 1
            if cell.folder == out:
                print_results(results, out)
            else:
                where = f"{results['data']}, split {results['seed']}: {results['mode'].upper()} from {results['name']}"
                numbers = f"SROCC {results['srocc']:.3f}  PLCC {results['plcc']:.3f}  {results['minutes']:.1f} min"
                print(f"[{done}/{len(cells)}] {where}  {numbers}", flush=True)


def pictures_of(labeled: sets.LabeledSet, settings: Settings) -> Pictures:
    workers = settings.workers and runs.cpu_cores()
    return labeled, views.make_demo_pictures(labeled, range(len(labeled.paths)), workers)


def write_tables(cells: list[Cell], out: Path) -> None:
    measured = [read_measured(cell.folder) for cell in cells]
    rows, pairs = tables.summarize(measured), tables.differences(measured)
    text = tables.markdown(rows, pairs)
    contents = (text, tables.comma_separated(measured))
    for name, content in zip(runs.TABLES, contents, strict=False):
        runs.write_atomic(out / name, lambda file, content=content: file.write(content.encode()))
    runs.write_json({"rows": rows, "differences": pairs}, out / runs.TABLES[-1])
    print(
        f"\n{text}\nThese tables: {', '.join(str(out / name) for name in runs.TABLES)}; each cell: {out / runs.CELLS}"
    )


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


def print_results(results: dict, out: Path) -> None:
    unreadable = f" ({results['unreadable']} could not be read)" if results["unreadable"] else ""
    print(f"\n{results['mode'].upper()} from {results['encoder']}, best epoch {results['best_epoch']},", end=" ")
    print(f"on {results['images']} held-out pictures of {len(results['split']['test'])} references{unreadable}:")
    low, high = results["srocc_interval"]
    print(
        f"  SROCC {results['srocc']:.3f}   PLCC {results['plcc']:.3f}   after logistic {results['plcc_logistic']:.3f}"
    )
    print(f"  95 % interval of SROCC over references: {low:.3f} to {high:.3f}")
    by_type = results["srocc_by_type"]
    if by_type:
        shown = {name: by_type[name] for name in tables.TYPES if name in by_type} or by_type
        print("  SROCC by type (Table 2):", ", ".join(f"{name} {value:.3f}" for name, value in shown.items()))
    for spec, elsewhere in results["tests"].items():
        print(f"  on {elsewhere['images']} pictures of {spec}: SROCC {elsewhere['srocc']:.3f}")
    print(f"{results['minutes']:.1f} minutes. All numbers: {out / runs.RESULTS}; networks: {out / runs.MODEL}")


if __name__ == "__main__":
    main()
