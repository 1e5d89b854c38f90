"""Tables 1 and 2 of finished runs of finetune.py, with the paper's numbers beside them.

    ssl-iqa tables runs/tables-kadid runs/tables-koniq
    ssl-iqa tables runs/ssl-0 runs/ssl-1 runs/ssl-2 runs/random-0 runs/random-1 runs/random-2

A run of a single encoder is named by its folder: those whose names differ in the number at their end are one row.
"""

import argparse
import csv
import io
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ssl_iqa.engine import console, run_folder
from ssl_iqa.evaluation.metrics import srocc
from ssl_iqa.evaluation.predictions import Measured, read_measured
from ssl_iqa.evaluation.resampling import LEAST_REFERENCES, Evaluated, interval, p_value, resampled

# SROCC and PLCC of Table 1, by mode and encoder: SL(ImageNet), CL and SSL
PAPER_TABLE_1: dict[tuple[str, str], dict[str, tuple[float, float]]] = {
    ("lp", "imagenet"): {"koniq10k": (0.77, 0.73), "kadid10k": (0.70, 0.73)},
    ("lp", "cl"): {"koniq10k": (0.79, 0.80), "kadid10k": (0.84, 0.85)},
    ("lp", "ssl"): {"koniq10k": (0.84, 0.83), "kadid10k": (0.88, 0.87)},
    ("ft", "imagenet"): {"koniq10k": (0.82, 0.80), "kadid10k": (0.75, 0.76)},
    ("ft", "cl"): {"koniq10k": (0.81, 0.82), "kadid10k": (0.83, 0.83)},
    ("ft", "ssl"): {"koniq10k": (0.91, 0.89), "kadid10k": (0.90, 0.89)},
    ("lp-ft", "imagenet"): {"koniq10k": (0.84, 0.83), "kadid10k": (0.78, 0.79)},
    ("lp-ft", "cl"): {"koniq10k": (0.86, 0.86), "kadid10k": (0.84, 0.83)},
    ("lp-ft", "ssl"): {"koniq10k": (0.90, 0.89), "kadid10k": (0.91, 0.90)},
}
# SROCC of Table 2, on KADID-10k, in the order of TYPES
PAPER_TABLE_2 = {
    "imagenet": (0.79, 0.82, 0.79, 0.78),
    "cl": (0.84, 0.83, 0.84, 0.85),
    "ssl": (0.88, 0.86, 0.90, 0.87),
}
TYPES = ("gaussian_blur", "jpeg2000", "jpeg", "white_noise")  # of Table 2
NO_MODE = "-"  # of what needs no encoder: BRISQUE, class means
COLUMNS = ("srocc", "srocc_low", "srocc_high", "plcc", "plcc_low", "plcc_high", "plcc_logistic", "plcc_logistic5")

Row = dict[str, Any]


def summarize(cells: Sequence[Measured]) -> list[Row]:
    """A row for each set, mode and encoder: number of splits; mean, median, standard deviation of every number.

    SROCC and PLCC also have their intervals by `resampling`, over the references of all splits.
    """
    rows = []
    for (data, mode, encoder), group in groups(cells).items():
        row: Row = {"data": data, "mode": mode, "encoder": encoder, "splits": len(group)}
        for name in ("srocc", "plcc", "plcc_logistic", "plcc_logistic5", "minutes"):
            row[name] = spread(
                [cell.results.get(name) for cell in group]
            )  # None: an earlier version wrote no plcc_logistic5
        types = {name for cell in group for name in cell.results["srocc_by_type"] or ()}
        row["srocc_by_type"] = {
            name: spread([(cell.results["srocc_by_type"] or {}).get(name) for cell in group]) for name in sorted(types)
        }
        tests = {spec for cell in group for spec in cell.results["tests"]}
        row["tests"] = {
            spec: spread([cell.results["tests"].get(spec, {}).get("srocc") for cell in group]) for spec in sorted(tests)
        }
        row["interval"] = interval(resampled([cell.tested for cell in group], srocc, seed=0))
        srocc_paper, plcc_paper = PAPER_TABLE_1.get((mode, encoder), {}).get(kind(data), (None, None))
        rows.append(row | {"paper_srocc": srocc_paper, "paper_plcc": plcc_paper})
    return rows


def differences(cells: Sequence[Measured]) -> list[Row]:
    """The difference in SROCC of every two encoders of a set and mode, on the splits that both have.

    The mean over splits, interval and p by `resampling`, both encoders on the same resamples of references.
    """
    rows = []
    by_mode: dict[tuple[str, str], dict[str, dict[int, Evaluated]]] = {}
    for (data, mode, encoder), group in groups(cells).items():
        # a baseline, which has no mode, is compared with the encoders in each of theirs
        modes = {cell.mode: None for cell in cells if cell.data == data and cell.mode != NO_MODE}
        for each in [mode] if mode != NO_MODE else modes:
            by_mode.setdefault((data, each), {})[encoder] = {cell.seed: cell.tested for cell in group}
    for (data, mode), encoders in by_mode.items():
        draws: dict[tuple, np.ndarray] = {}  # by encoder and splits
        for first, second in combinations(encoders, 2):
            seeds = tuple(sorted({*encoders[first]} & {*encoders[second]}))
            if not seeds:
                continue
            pair = [[encoders[name][seed] for seed in seeds] for name in (first, second)]
            means = [np.mean([srocc(split.predicted, split.true) for split in splits]) for splits in pair]
            for name, splits in zip((first, second), pair, strict=True):
                if (name, seeds) not in draws:
                    draws[name, seeds] = resampled(splits, srocc, seed=0)
            apart = draws[first, seeds] - draws[second, seeds]
            row = {"data": data, "mode": mode, "first": first, "second": second, "splits": len(seeds)}
            rows.append(row | {"difference": means[0] - means[1], "interval": interval(apart), "p": p_value(apart)})
    return rows


def groups(cells: Sequence[Measured]) -> dict[tuple[str, str, str], list[Measured]]:
    """The splits of each set, mode and encoder, in the order in which these come."""
    grouped: dict[tuple[str, str, str], list[Measured]] = {}
    for cell in cells:
        grouped.setdefault((cell.data, cell.mode, cell.encoder), []).append(cell)
    return grouped


def spread(values: Sequence[float | None]) -> Row:
    """Mean, median and sample standard deviation (nan for a single one) of the values that are numbers."""
    numbers = np.array([value for value in values if value is not None], dtype=float)
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return dict.fromkeys(("mean", "median", "sd"), float("nan"))
    deviation = numbers.std(ddof=1) if len(numbers) > 1 else float("nan")
    return {"mean": float(numbers.mean()), "median": float(np.median(numbers)), "sd": float(deviation)}


def kind(spec: str) -> str:
    return spec.partition(":")[0]


def markdown(rows: Sequence[Row], pairs: Sequence[Row]) -> str:
    """Tables 1 and 2, tests on other sets, and the encoders' differences, one below the other."""
    splits = max(row["splits"] for row in rows)
    content = "one split, in brackets the 95 % interval over references"
    if splits > 1:
        content = f"mean +- standard deviation (median) over {splits} splits"
    parts = [f"Table 1: {content}.", table_1(rows)]
    for data in dict.fromkeys(row["data"] for row in rows):
        in_set = [row for row in rows if row["data"] == data]
        types = [name for name in TYPES if any(name in row["srocc_by_type"] for row in in_set)]
        if types:
            parts += [f"Table 2: SROCC by distortion type, {data}.", table_2(in_set, types)]
    if any(row["tests"] for row in rows):
        parts += ["Trained on one set, tested on all of another: SROCC (only ranks are comparable).", other_sets(rows)]
    if pairs:
        parts.append(
            "Differences in SROCC on the same splits; 95 % interval and p by bootstrap over references, "
            f"for {LEAST_REFERENCES} or more."
        )
        parts.append(significance(pairs))
    return "\n\n".join(parts) + "\n"


def lines(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, ["---"] * len(header), *body])


def shown(value: Row) -> str:
    """0.770 +- 0.053 (0.768), or of one split 0.770."""
    if not np.isfinite(value["mean"]):
        return "-"
    if not np.isfinite(value["sd"]):
        return f"{value['mean']:.3f}"
    return f"{value['mean']:.3f} +- {value['sd']:.3f} ({value['median']:.3f})"


def table_1(rows: Sequence[Row]) -> str:
    sets = list(dict.fromkeys(row["data"] for row in rows))
    header = ["mode", "encoder"]
    for data in sets:
        header += [f"{data} SROCC", "PLCC", *(["paper"] if has_paper(rows, data) else [])]
    body = []
    by_key = {(row["data"], row["mode"], row["encoder"]): row for row in rows}
    for mode, encoder in dict.fromkeys((row["mode"], row["encoder"]) for row in rows):
        cells = [mode.upper(), encoder]
        for data in sets:
            row = by_key.get((data, mode, encoder))
            has_interval = row and row["splits"] == 1 and np.isfinite(row["interval"]).all()
            bounds = " [{:.3f}, {:.3f}]".format(*row["interval"]) if has_interval else ""
            cells += [shown(row["srocc"]) + bounds, shown(row["plcc"])] if row else ["-", "-"]
            if has_paper(rows, data):
                has_both = row and row["paper_srocc"]
                cells.append(f"{row['paper_srocc']:.2f} / {row['paper_plcc']:.2f}" if has_both else "-")
        body.append(cells)
    return lines(header, body)


def has_paper(rows: Sequence[Row], data: str) -> bool:
    return any(row["paper_srocc"] for row in rows if row["data"] == data)


def table_2(rows: Sequence[Row], types: Sequence[str]) -> str:
    """Of one set, by the last mode that was measured (LP-FT in a full run); the paper's numbers are KADID-10k's."""
    modes = {row["mode"] for row in rows} - {NO_MODE}
    mode = next((mode for mode in ("lp-ft", "ft", "lp") if mode in modes), NO_MODE)
    body = []
    for row in rows:
        if row["mode"] not in (mode, NO_MODE):
            continue
        paper = PAPER_TABLE_2.get(row["encoder"]) if kind(row["data"]) == "kadid10k" else None
        cells = [row["mode"].upper(), row["encoder"]]
        for name in types:
            beside = f" / {paper[TYPES.index(name)]:.2f}" if paper else ""
            cells.append(shown(row["srocc_by_type"].get(name, spread([]))) + beside)
        body.append(cells)
    has_paper = any(kind(row["data"]) == "kadid10k" and row["encoder"] in PAPER_TABLE_2 for row in rows)
    return lines(["mode", "encoder", *(f"{name} / paper" if has_paper else name for name in types)], body)


def other_sets(rows: Sequence[Row]) -> str:
    specs = sorted({spec for row in rows for spec in row["tests"]})
    body = [
        [row["data"], row["mode"].upper(), row["encoder"], *(shown(row["tests"].get(s, spread([]))) for s in specs)]
        for row in rows
    ]
    return lines(["trained on", "mode", "encoder", *(f"tested on {spec}" for spec in specs)], body)


def significance(pairs: Sequence[Row]) -> str:
    body = []
    for pair in pairs:
        bounds, p = "-", "-"  # too few references
        if np.isfinite(pair["interval"]).all():
            bounds, p = "[{:+.3f}, {:+.3f}]".format(*pair["interval"]), f"{pair['p']:.3f}"
        names = [pair["data"], pair["mode"].upper(), f"{pair['first']} - {pair['second']}"]
        body.append([*names, f"{pair['difference']:+.3f}", bounds, p])
    return lines(["set", "mode", "encoders", "difference", "interval", "p"], body)


def comma_separated(cells: Sequence[Measured]) -> str:
    """A line for each measurement, with the paper's number beside it."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    header = ("data", "mode", "encoder", "split", "images", *COLUMNS, *TYPES, "paper_srocc", "paper_plcc", "minutes")
    writer.writerow(header)
    for cell in cells:
        results = cell.results
        values = dict(zip(("srocc_low", "srocc_high"), results["srocc_interval"], strict=True))
        values |= dict(zip(("plcc_low", "plcc_high"), results["plcc_interval"], strict=True))
        by_type = results["srocc_by_type"] or {}
        paper = PAPER_TABLE_1.get((cell.mode, cell.encoder), {}).get(kind(cell.data), ("", ""))
        writer.writerow(
            [cell.data, cell.mode, cell.encoder, cell.seed, results["images"]]
            + [values.get(name, results.get(name)) for name in COLUMNS]
            + [by_type.get(name) for name in TYPES]
            + [*paper, results["minutes"]]
        )
    return file.getvalue()


def finished_cells(folder: Path) -> list[Measured]:
    """The measurements in a run's folder. Raises FileNotFoundError where there is none."""
    if (folder / run_folder.RESULTS).is_file():
        return [replace(read_measured(folder), encoder=re.sub(r"-\d+$", "", folder.resolve().name))]
    paths = sorted((folder / run_folder.CELLS).rglob(run_folder.RESULTS))
    if not paths:
        raise FileNotFoundError(
            f"{folder / run_folder.RESULTS}: no such file; give the folder of a finished finetune.py run"
        )
    return [read_measured(path.parent) for path in paths]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", nargs="+", type=Path, metavar="RUN", help="folders of finished finetune.py runs")


def run(args: argparse.Namespace) -> None:
    with console.clear_errors():
        cells = [cell for folder in args.folders for cell in finished_cells(folder)]
    print(markdown(summarize(cells), differences(cells)), end="")
