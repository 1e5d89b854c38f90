"""The cells of Table 1: which are to be measured, and where each one's results are kept."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssl_iqa import baselines
from ssl_iqa.baselines.brisque import brisque_of, svr_predictions
from ssl_iqa.baselines.class_mean import class_mean_predictions
from ssl_iqa.data.datasets import LabeledCrops, first_readable
from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.data.seen import Record, Split, fingerprint, known_parts, records_of, unseen, with_record
from ssl_iqa.data.sets import load_labeled
from ssl_iqa.data.splits import digest, part_indices
from ssl_iqa.engine import distributed, model_file, run_folder
from ssl_iqa.engine.settings import flag, is_same
from ssl_iqa.engine.weights import load_encoder
from ssl_iqa.evaluation import tables
from ssl_iqa.evaluation.predictions import measure, predictions_csv, read_measured
from ssl_iqa.evaluation.protocol import check_runs, encoder_file, known_to_all, parse_encoders, split_of

NAMED = ("imagenet", "random", *baselines.NAMES)  # what --encoders takes without a file
MAY_DIFFER = ("workers", "device")  # of tables that are gone on with


@dataclass(frozen=True)
class Cell:
    """One measurement of Table 1, to be made or made."""

    name: str  # of the encoder, in the tables
    settings: Any  # finetune.py's, with one mode, encoder file, set and split's seed
    labeled: LabeledSet
    split: Split
    known: dict[str, str]  # the part of each reference that the encoders had seen before
    seen: list[Record]  # what this one will have seen, of its start and of this cell
    folder: Path  # of its results


def plan(settings: Any, modes: Sequence[str], arch: str | None, out: Path) -> list[Cell]:
    """The cells that finetune.py's settings ask for: every set, split, encoder and mode.

    A single one has its results in `out` itself, of several each has a folder below. Everything that can be wrong with
    the input is found here, before the first cell is begun.
    """
    encoders = {"encoder": settings.encoder}
    if settings.encoders:
        encoders = parse_encoders(settings.encoders, NAMED)
    modes = modes if settings.mode == "all" else [settings.mode]
    others = [load_labeled(spec, settings.long_side) for spec in settings.test]
    arch_and_seen = cache(partial(_arch_and_seen, settings, arch))
    cells = []
    loaded = [load_labeled(spec, settings.long_side) for spec in settings.data]
    has_official = any(labeled.official_split for labeled in loaded)  # else split_of says that there is none
    for number, (spec, labeled) in enumerate(zip(settings.data, loaded, strict=True)):
        kind = settings.split if labeled.official_split or not has_official else "seeded"
        same_kind = [tables.kind(other) for other in settings.data[:number]].count(tables.kind(spec))
        folder = out / run_folder.CELLS / (tables.kind(spec) + f"-{same_kind + 1}" * (same_kind > 0))
        for seed in range(settings.seed, settings.seed + settings.splits):
            files = {name: encoder_file(place, seed) for name, place in encoders.items()}
            found = {name: arch_and_seen(file, seed) for name, file in files.items() if name not in baselines.NAMES}
            if settings.splits > 1 and kind == "seeded":
                for name, (_, seen) in found.items():
                    check_runs(encoders[name], labeled, known_parts(labeled, seen))
            known = known_to_all({files[name]: seen for name, (_, seen) in found.items()}, labeled)
            split = split_of(labeled, known, seed, kind)
            check_parts(labeled, parts_of(labeled, split))
            for name, file in files.items():
                if name in baselines.NAMES:
                    baselines.check(name, labeled)
                one = replace(settings, encoder=file, encoders="", data=(spec,), splits=1, seed=seed)
                seen = []
                if name in found:
                    one = replace(one, arch=found[name][0])
                    seen = with_record(found[name][1], labeled, split, seed, by="finetuning")
                    for other in others:
                        check_unseen(other, seen)
                for mode in modes if name not in baselines.NAMES else [tables.NO_MODE]:
                    place = folder / name / mode / f"split-{seed}"
                    cells.append(Cell(name, replace(one, mode=mode), labeled, split, known, seen, place))
    is_single = len(cells) == 1 and not settings.encoders
    return [replace(cells[0], folder=out)] if is_single else cells


def _arch_and_seen(settings: Any, arch: str | None, file: str, seed: int) -> tuple[str, list[Record]]:
    encoder = load_encoder(file, settings.arch if file in NAMED else arch, seed)
    return encoder.arch, records_of(file, encoder)


def check_unseen(labeled: LabeledSet, seen: Sequence[Record]) -> None:
    """Raises ValueError for a set of --test with fewer than two images that were not trained on."""
    left = unseen(labeled, seen)
    if len(left) < 2:
        raise ValueError(
            f"--test {labeled.name}: {len(labeled.paths) - len(left)} of its {len(labeled.paths)} images were trained"
            " on, by --data or by the encoder; two or more that were not must be left"
        )


def parts_of(labeled: LabeledSet, split: Split) -> dict[str, list[int]]:
    return {part: part_indices(labeled.references, names) for part, names in split.items()}


def check_parts(labeled: LabeledSet, parts: dict[str, list[int]]) -> None:
    """Raises ValueError where a part has fewer than two usable pictures: SROCC takes two."""
    for part, indices in parts.items():
        crops = LabeledCrops(labeled, indices, 0)
        first, *_ = first_readable(crops.read, crops.paths, 0)
        second, *_ = first_readable(crops.read, crops.paths, (first + 1) % len(indices))
        if second == first:
            raise ValueError(f"{labeled.name}: its {part} part has a single usable picture; two or more are wanted")


def as_plain(settings: Any) -> dict[str, Any]:
    """As JSON and `torch.load(weights_only=True)` give it back; a cell's single set is its spec."""
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(settings).items()}
    return plain | ({"data": settings.data[0]} if len(settings.data) == 1 else {})


def begin(settings: Any, cells: list[Cell], out: Path, resume: bool, overwrite: bool) -> None:
    """Makes the run's folder. Raises ValueError for a run to go on with that had other settings or images."""
    plain = as_plain(cells[0].settings if cells[0].folder == out else settings)
    images = [fingerprint(labeled) for labeled in {cell.labeled.name: cell.labeled for cell in cells}.values()]
    if resume and (out / run_folder.CONFIG).is_file():
        was = run_folder.read_json(out / run_folder.CONFIG)
        was["long_side"] = run_folder.saved_long_side(was)
        images_were = was.get("images")  # an earlier version did not write it
        may_differ = (*MAY_DIFFER, "data") if images_were == images else MAY_DIFFER  # they may lie elsewhere now
        differing = [
            f"{flag(name)} was {was.get(name)!r}, is {value!r}"
            for name, value in plain.items()
            if name not in may_differ and not is_same(was.get(name), value)
        ]
        if images_were not in (None, images):
            differing.append("the images of --data or their scores are others")
        if differing:
            raise ValueError(f"--resume {out}: a run of other settings: {'; '.join(differing)}")
    run_folder.prepare_folder(out, keep=resume, replace=overwrite)
    run_folder.write_json(plain | {"images": images}, out / run_folder.CONFIG)


def save(
    cell: Cell, indices: list[int], predicted: np.ndarray, how: dict[str, Any], model: dict[str, Any] | None
) -> dict[str, Any]:
    """Writes what a cell gave, predictions.csv, results.json and, with `model`, model.pt. Returns the results.

    `how` is what is known of its making: minutes, best epoch, tests on other sets; `model` the weights and the
    validation part's residuals, from which the intervals of scores come.
    """
    settings, labeled = cell.settings, cell.labeled
    plain = as_plain(settings)
    results = measure(predicted, labeled, indices) | how
    results |= {
        "minutes": round(how["minutes"], 2),
        "unreadable": len(parts_of(labeled, cell.split)["test"]) - len(indices),
        "name": cell.name,
        **{name: plain[name] for name in ("mode", "encoder", "data", "seed")},
        "settings": plain,
        "split": cell.split,
    }
    if distributed.is_main():
        cell.folder.mkdir(parents=True, exist_ok=True)
        if model is not None:
            known = {
                "score_range": list(labeled.score_range),
                "settings": plain,
                "results": run_folder.without_nan(results),
            }
            model_file.write(model | known, cell.folder / run_folder.MODEL)
        rows = predictions_csv(predicted, labeled, indices)
        run_folder.write_atomic(cell.folder / run_folder.PREDICTIONS, lambda file: file.write(rows.encode()))
        run_folder.write_json(results, cell.folder / run_folder.RESULTS)  # the last one: where it is, the cell is done
    return results


def baseline(cell: Cell, parts: dict[str, list[int]], folder: Path) -> tuple[list[int], np.ndarray]:
    """What needs no encoder: the test part's pictures that can be used, and their predicted scores [M].

    BRISQUE's features, the same for each split, are kept in `folder`.
    """
    labeled = cell.labeled
    if cell.name == baselines.CLASS_MEAN:
        return parts["test"], class_mean_predictions(labeled, parts)
    path = folder / f"brisque-{tables.kind(labeled.name)}-{digest(labeled.paths)[:16]}.pt"
    if path.is_file():
        features = run_folder.load(path)["features"].numpy()
    else:
        features = brisque_of(labeled, cell.settings.workers)
        if distributed.is_main():
            path.parent.mkdir(parents=True, exist_ok=True)
            run_folder.save({"features": torch.from_numpy(features)}, path)
    predicted = svr_predictions(features, labeled.scores, parts)
    usable = np.isfinite(predicted)
    return [index for index, is_usable in zip(parts["test"], usable, strict=True) if is_usable], predicted[usable]


def write_tables(cells: list[Cell], out: Path) -> None:
    # of a run that went on with its data elsewhere, the first cells know the old place
    measured = [replace(read_measured(cell.folder), data=cell.settings.data[0]) for cell in cells]
    rows, pairs = tables.summarize(measured), tables.differences(measured)
    text = tables.markdown(rows, pairs)
    contents = (text, tables.comma_separated(measured))
    for name, content in zip(run_folder.TABLES, contents, strict=False):
        run_folder.write_atomic(out / name, lambda file, content=content: file.write(content.encode()))
    run_folder.write_json({"rows": rows, "differences": pairs}, out / run_folder.TABLES[-1])
    files = ", ".join(str(out / name) for name in run_folder.TABLES)
    print(f"\n{text}\nThese tables: {files}; each cell: {out / run_folder.CELLS}")
