"""The cells of Table 1: which are to be measured, how each is, and where its results are kept."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_iqa import baselines
from ssl_iqa.baselines.class_mean import class_mean_predictions
from ssl_iqa.baselines.regressor import set_features, svr_predictions
from ssl_iqa.data.datasets import LabeledCrops, first_readable
from ssl_iqa.data.in_order import make_all
from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.data.seen import Record, Split, fingerprint, known_parts, records_of, unseen, with_record
from ssl_iqa.data.sets import SPECS, load_labeled
from ssl_iqa.data.splits import digest, part_indices
from ssl_iqa.engine import distributed, model_file, run_folder
from ssl_iqa.engine.device import cpu_cores
from ssl_iqa.engine.settings import flag
from ssl_iqa.engine.weights import load_encoder
from ssl_iqa.evaluation import calibration, tables
from ssl_iqa.evaluation.features import encode_part, frozen_features, kept, predict
from ssl_iqa.evaluation.predictions import measure, predictions_csv, read_measured
from ssl_iqa.evaluation.protocol import check_runs, encoder_file, known_to_all, parse_encoders, split_of
from ssl_iqa.evaluation.ridge import TwoSizes, choose_ridge
from ssl_iqa.evaluation.task import Best, Task
from ssl_iqa.evaluation.tuning import First, tune
from ssl_iqa.model import Encoder, Regressor

NAMED = ("imagenet", "random", *baselines.NAMES, *baselines.FROM_IMAGENET)  # what --encoders takes without a file
MAY_DIFFER = ("workers", "device")  # of tables that are resumed


@dataclass(frozen=True)
class Cell:
    """One measurement of Table 1."""

    name: str  # of the encoder, in the tables
    settings: Any  # finetune.py's, with one mode, encoder file, set and split's seed
    labeled: LabeledSet
    split: Split
    known: dict[str, str]  # the part of each reference that the encoders had seen before
    seen: list[Record]  # what this one will have seen, of its start and of this cell
    others: list[LabeledSet]  # of --test
    out: Path  # the run's folder
    folder: Path  # of its results: `out` itself for a single cell

    @property
    def is_single(self) -> bool:
        return self.folder == self.out

    @property
    def parts(self) -> dict[str, list[int]]:
        return parts_of(self.labeled, self.split)

    @property
    def is_done(self) -> bool:
        return (self.folder / run_folder.RESULTS).is_file()


Start = tuple[str, str, Any, list[Record]]
"""An encoder or a baseline: its name in the tables, its place as it was given, the settings with its file and
architecture, what it was trained on."""


def plan(settings: Any, modes: Sequence[str], arch: str | None, out: Path) -> list[Cell]:
    """The cells that finetune.py's settings ask for: every set, split, encoder and mode.

    A single one has its results in `out` itself, of several each has a folder below. Everything that can be wrong with
    the input is found here, before the first cell is begun.
    """
    if not settings.data:
        raise ValueError(f"--data is required: {SPECS}")
    if len({*settings.data}) < len(settings.data):
        raise ValueError(f"--data must name each set once, got {' '.join(settings.data)}")
    encoders = parse_encoders(settings.encoders, NAMED) if settings.encoders else {"encoder": settings.encoder}
    modes = modes if settings.mode == "all" else [settings.mode]
    loaded = [load_labeled(spec, settings.long_side) for spec in settings.data]
    others = [load_labeled(spec, settings.long_side) for spec in settings.test]
    seeds = range(settings.seed, settings.seed + settings.splits)
    starts = {seed: [_start(name, encoders[name], seed, settings, arch) for name in encoders] for seed in seeds}
    kinds = [tables.kind(labeled.name) for labeled in loaded]
    cells = []
    for number, labeled in enumerate(loaded):
        nth = kinds[: number + 1].count(kinds[number])
        folder = out / run_folder.CELLS / (kinds[number] if nth == 1 else f"{kinds[number]}-{nth}")
        # where no set has an official split, split_of says so
        has_official = labeled.official_split or not any(each.official_split for each in loaded)
        kind = settings.split if has_official else "seeded"
        for seed in seeds:
            split, known = _split_for(starts[seed], labeled, kind, settings.splits, seed)
            for name, _, start, records in starts[seed]:
                is_baseline, has_no_mode = name in baselines.NAMES, name in (*baselines.NAMES, *baselines.FINETUNED)
                if is_baseline:
                    baselines.check(name, labeled)
                seen = [] if is_baseline else with_record(records, labeled, split, seed, by="finetuning")
                for other in others:
                    check_unseen(other, seen)
                images, *other_images = (_at_its_size(each, name) for each in (labeled, *others))
                for mode in [tables.NO_MODE] if has_no_mode else modes:
                    cell_settings = replace(start, data=(labeled.name,), mode=mode)
                    if mode == tables.RIDGE:
                        cell_settings = replace(cell_settings, crops="full")
                    place = folder / name / mode / f"split-{seed}"
                    cells.append(Cell(name, cell_settings, images, split, known, seen, other_images, out, place))
    is_single = len(cells) == 1 and not settings.encoders
    return [replace(cells[0], folder=out)] if is_single else cells


def _start(name: str, place: str, seed: int, settings: Any, arch: str | None) -> Start:
    file = "imagenet" if place in baselines.FROM_IMAGENET else encoder_file(place, seed)
    settings = replace(settings, encoder=file, encoders="", splits=1, seed=seed)
    if name in baselines.NAMES:
        return name, place, settings, []
    load = load_encoder
    if name in baselines.FINETUNED:
        method = baselines.finetuning_of(name)
        load, settings = method.load, method.settings(settings)
    encoder = load(file, settings.arch if file in NAMED else arch, seed)
    return name, place, replace(settings, arch=encoder.arch), records_of(file, encoder)


def _at_its_size(labeled: LabeledSet, name: str) -> LabeledSet:
    """A set as an encoder or a method takes it."""
    return replace(labeled, size=baselines.finetuning_of(name).size) if name in baselines.FINETUNED else labeled


def _split_for(
    starts: Sequence[Start], labeled: LabeledSet, kind: str, splits: int, seed: int
) -> tuple[Split, dict[str, str]]:
    """The split on which encoders are compared, and the parts of references that it had to keep."""
    known_by = {start.encoder: known_parts(labeled, records) for *_, start, records in starts}
    if splits > 1 and kind == "seeded":
        for _, place, start, _ in starts:
            check_runs(place, labeled, known_by[start.encoder])
    known = known_to_all(known_by, labeled)
    split = split_of(labeled, known, seed, kind)
    check_parts(labeled, parts_of(labeled, split))
    return split, known


def check_unseen(labeled: LabeledSet, seen: Sequence[Record]) -> None:
    """Raises ValueError for a set of --test with fewer than two images that were not trained on."""
    images, left = len(labeled.paths), len(unseen(labeled, seen))
    if left < 2:
        got = f"{labeled.name}, of whose {images} images {images - left} were trained on"
        raise ValueError(f"--test must have two images or more that are new to the encoder and --data, got {got}")


def parts_of(labeled: LabeledSet, split: Split) -> dict[str, list[int]]:
    return {part: part_indices(labeled.references, names) for part, names in split.items()}


def check_parts(labeled: LabeledSet, parts: dict[str, list[int]]) -> None:
    """Raises ValueError where a part has fewer than two usable images: SROCC takes two."""
    for part, indices in parts.items():
        crops = LabeledCrops(labeled, indices, 0)
        first, *_ = first_readable(crops.read, crops.paths, 0)
        second, *_ = first_readable(crops.read, crops.paths, (first + 1) % len(indices))
        if second == first:
            raise ValueError(f"{labeled.name}: its {part} part must have at least two usable images, got 1")


def as_plain(settings: Any) -> dict[str, Any]:
    """As JSON and `torch.load(weights_only=True)` give it back; a cell's single set is its spec."""
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(settings).items()}
    return plain | ({"data": settings.data[0]} if len(settings.data) == 1 else {})


def begin(settings: Any, cells: list[Cell], resume: bool, overwrite: bool) -> None:
    """Makes the run's folder. Raises ValueError for a run to resume that had other settings or images."""
    out = cells[0].out
    plain = as_plain(cells[0].settings if cells[0].is_single else settings)
    images = [fingerprint(labeled) for labeled in {cell.labeled.name: cell.labeled for cell in cells}.values()]
    if resume and (out / run_folder.CONFIG).is_file():
        was = run_folder.read_json(out / run_folder.CONFIG)
        was["long_side"] = run_folder.saved_long_side(was)
        images_were = was.get("images")  # an earlier version did not write it
        may_differ = (*MAY_DIFFER, "data") if images_were == images else MAY_DIFFER  # they may lie elsewhere now
        differing = [
            f"{flag(name)} was {was.get(name)!r}, is {value!r}"
            for name, value in plain.items()
            if name not in may_differ and was.get(name) != value
        ]
        if images_were not in (None, images):
            differing.append("the images of --data or their scores differ")
        if differing:
            raise ValueError(f"--resume {out}: a run of other settings: {'; '.join(differing)}")
    run_folder.prepare_folder(out, keep=resume, replace=overwrite)
    run_folder.write_json(plain | {"images": images}, out / run_folder.CONFIG)


def make_images(cells: Sequence[Cell]) -> None:
    """Distorts the demo's labeled photographs once for all cells."""
    for labeled in {labeled.name: labeled for cell in cells for labeled in (cell.labeled, *cell.others)}.values():
        make_all(labeled, range(len(labeled.paths)), cells[0].settings.workers and cpu_cores())


def measure_elsewhere(
    encoder: Encoder, regressor: Regressor, cell: Cell, device: torch.device
) -> dict[str, dict[str, Any]]:
    """SROCC on the sets of --test, all of each but for what joint training or this cell has seen of it.

    Their scores have scales of their own, so that only the ranks of predictions mean anything there.
    """
    tests = {}
    for other in cell.others:
        part = unseen(other, cell.seen)
        indices, z = encode_part(encoder, Task(other, {"test": part}, device, cell.settings), part)
        measured = measure(predict(regressor, z).numpy(), other, indices)
        numbers = {name: measured[name] for name in ("srocc", "srocc_interval", "images")}
        tests[other.name] = numbers | {"left_out": len(other.paths) - len(part)}
    return tests


def handmade_features(cell: Cell) -> np.ndarray:
    """[M, F]; the same for each split, as a codebook is for each set, so that both are kept for other cells."""
    labeled, folder = cell.labeled, cell.out / run_folder.FEATURES
    module = baselines.module_of(cell.name)

    def make() -> dict[str, Tensor]:
        method = module.usable_features
        if cell.name in baselines.CODEBOOKS:
            method = partial(method, kept(folder / f"{cell.name}.pt", module.learn))
        return set_features(labeled, method, cell.settings.workers)

    name = f"{cell.name}-{tables.kind(labeled.name)}-{digest(labeled.paths)[:16]}.pt"
    return kept(folder / name, make)["features"].numpy()


def measure_ridge(encoder: Encoder, cell: Cell, device: torch.device) -> dict[str, Any]:
    """Measures a cell by ridge regression on features of whole images at two sizes, which are kept for other splits."""
    network, task = TwoSizes(encoder), Task(cell.labeled, cell.parts, device, cell.settings)
    features = frozen_features(network, task, cell.out / run_folder.FEATURES)
    best, regressor, indices, predicted = choose_ridge(features, task)
    details = {"tests": measure_elsewhere(network, regressor, cell, device), "minutes": task.minutes()}
    return save(cell, indices, predicted, best, details)


def measure_finetuned(cell: Cell, device: torch.device) -> dict[str, Any]:
    """Measures a cell by the method's own finetuning."""
    task = Task(cell.labeled, cell.parts, device, cell.settings)
    best, network, indices, predicted = tune(cell.name, task, cell.folder / run_folder.LAST)
    details = {"tests": measure_elsewhere(network, First(), cell, device), "minutes": task.minutes()}
    return save(cell, indices, predicted, best, details)


def measure_baseline(cell: Cell) -> dict[str, Any]:
    """Measures a cell that needs no encoder."""
    began, labeled, parts = time.perf_counter(), cell.labeled, cell.parts
    if cell.name == baselines.CLASS_MEAN:
        predicted = class_mean_predictions(labeled, parts)
    else:
        kernel = "linear" if cell.name in baselines.CODEBOOKS else "gaussian"
        predicted = svr_predictions(handmade_features(cell), labeled.scores, parts, kernel)
    usable = np.isfinite(predicted)
    details = {"tests": {}, "minutes": (time.perf_counter() - began) / 60}
    return save(cell, np.array(parts["test"])[usable].tolist(), predicted[usable], Best(), details)


def save(cell: Cell, indices: list[int], predicted: np.ndarray, best: Best, details: dict[str, Any]) -> dict[str, Any]:
    """Writes predictions.csv, results.json and, of a single cell with networks, model.pt. Returns the results.

    `details` are the minutes, tests on other sets and the learning curve; `best` is the epoch that was tested.
    """
    labeled, plain = cell.labeled, as_plain(cell.settings)
    results = measure(predicted, labeled, indices) | details
    results |= {"best_epoch": best.epoch, "val_srocc": best.srocc}
    if best.epoch:
        margin = calibration.margin(best.residuals)
        errors = np.abs(predicted - np.array([labeled.scores[i] for i in indices]))
        results |= {"margin": margin, "coverage": float(np.mean(errors <= margin))}
    results |= {
        "minutes": round(details["minutes"], 2),
        "unreadable": len(cell.parts["test"]) - len(indices),
        "name": cell.name,
        **{name: plain[name] for name in ("mode", "encoder", "data", "seed")},
        "settings": plain,
        "split": cell.split,
    }
    if distributed.is_main():
        cell.folder.mkdir(parents=True, exist_ok=True)
        if cell.is_single and best.weights:
            model = best.weights | {"residuals": best.residuals.sort().values}
            model |= {"score_range": list(labeled.score_range), "settings": plain}
            model_file.write(model | {"results": run_folder.without_nan(results)}, cell.folder / run_folder.MODEL)
        rows = predictions_csv(predicted, labeled, indices)
        run_folder.write_atomic(cell.folder / run_folder.PREDICTIONS, lambda file: file.write(rows.encode()))
        run_folder.write_json(results, cell.folder / run_folder.RESULTS)  # the last one: where it is, the cell is done
        (cell.folder / run_folder.LAST).unlink(missing_ok=True)
        if cell.is_single:  # of several cells others need the features, too
            shutil.rmtree(cell.out / run_folder.FEATURES, ignore_errors=True)
    return results


def write_tables(cells: list[Cell]) -> None:
    """Tables 1 to 3 of all cells, printed and beside them in the run's folder."""
    out = cells[0].out
    # the first cells of a run that was resumed with its data elsewhere know the old place
    measured = [replace(read_measured(cell.folder), data=cell.settings.data[0]) for cell in cells]
    rows, pairs = tables.summarize(measured), tables.differences(measured)
    text = tables.markdown(rows, pairs)
    markdown, csv, json = (out / name for name in run_folder.TABLES)
    run_folder.write_atomic(markdown, lambda file: file.write(text.encode()))
    run_folder.write_atomic(csv, lambda file: file.write(tables.comma_separated(measured).encode()))
    run_folder.write_json({"rows": rows, "differences": pairs, "table_3": tables.compared(rows)}, json)
    print(f"\n{text}\nThese tables: {markdown}, {csv}, {json}; each cell: {out / run_folder.CELLS}")
