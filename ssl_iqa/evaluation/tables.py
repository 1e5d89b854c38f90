"""Tables 1 to 3 of finished runs of finetune.py, with the paper's numbers beside them.

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
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ssl_iqa.engine import console, run_folder
from ssl_iqa.evaluation.metrics import srocc
from ssl_iqa.evaluation.predictions import Measured, read_measured
from ssl_iqa.evaluation.resampling import LEAST_REFERENCES, Predictions, interval, p_value, resampled


def paper_numbers() -> dict[tuple[str, ...], tuple[float, float]]:
    """The paper's SROCC and PLCC by set, mode, encoder, type: Table 2 alone has types, and neither modes nor PLCC."""
    with open(Path(__file__).with_name("paper.csv"), encoding="utf-8", newline="") as file:
        return {
            (row["set"], row["mode"], row["encoder"], row["type"]): (float(row["srocc"]), float(row["plcc"] or "nan"))
            for row in csv.DictReader(file)
        }


PAPER = paper_numbers()
TYPES = ("gaussian_blur", "jpeg2000", "jpeg", "white_noise")  # of Table 2
NO_MODE = "-"  # of what needs no encoder: BRISQUE, class means
RIDGE = "ridge"
MODES = (NO_MODE, RIDGE, "lp", "ft", "lp-ft")
COLUMNS = ("data", "mode", "encoder", "split", "images", "srocc", "srocc_low", "srocc_high", "plcc", "plcc_low")
COLUMNS += ("plcc_high", "plcc_logistic", "plcc_logistic5", *TYPES, "paper_srocc", "paper_plcc", "minutes")
Row = dict[str, Any]

# of Table 3, in its order; the last three are in Table 1 as well
COMPARED = [*dict.fromkeys(name for _, mode, name, _ in PAPER if mode == NO_MODE), "imagenet", "cl", "ssl"]
BY_RIDGE = ("contrique", "contrique-syn")  # whose numbers in the paper are its authors', of ridge regression


def summarize(cells: Sequence[Measured]) -> list[Row]:
    """A row for each set, mode and encoder: number of splits; mean, median, standard deviation of every number.

    SROCC and PLCC also have their intervals by `resampling`, over the references of all splits.
    """
    rows = []
    groups: dict[tuple[str, str, str], list[Measured]] = {}
    for cell in cells:
        groups.setdefault((cell.data, cell.mode, cell.encoder), []).append(cell)
    for (data, mode, encoder), group in groups.items():
        row: Row = {"data": data, "mode": mode, "encoder": encoder, "splits": len(group)}
        for name in ("srocc", "plcc", "plcc_logistic", "plcc_logistic5", "minutes"):
            row[name] = spread([cell.results.get(name) for cell in group])  # earlier versions lack plcc_logistic5
        row["srocc_by_type"] = spreads([cell.results["srocc_by_type"] or {} for cell in group])
        tests = [cell.results["tests"] for cell in group]
        row["tests"] = spreads([{spec: test["srocc"] for spec, test in of_cell.items()} for of_cell in tests])
        row["interval"] = interval(resampled([cell.tested for cell in group], srocc))
        row["paper_srocc"], row["paper_plcc"] = PAPER.get((kind(data), mode, encoder, ""), (None, None))
        rows.append(row)
    return rows


def differences(cells: Sequence[Measured]) -> list[Row]:
    """The difference in SROCC of every two encoders of a set and mode, on the splits that both have.

    The mean over splits, interval and p by `resampling`, both encoders on the same resamples of references.
    """
    tested: dict[tuple[str, str], dict[str, dict[int, Predictions]]] = {}  # by set and mode, encoder, seed
    for cell in cells:
        # a baseline, which has no mode, is compared with the encoders in each of theirs, or with other baselines only
        modes = [other.mode for other in cells if other.data == cell.data and other.mode != NO_MODE]
        for mode in [cell.mode] if cell.mode != NO_MODE else modes or [NO_MODE]:
            tested.setdefault((cell.data, mode), {}).setdefault(cell.encoder, {})[cell.seed] = cell.tested

    @cache
    def of_splits(data: str, mode: str, encoder: str, seeds: tuple[int, ...]) -> tuple[float, np.ndarray]:
        splits = [tested[data, mode][encoder][seed] for seed in seeds]
        return np.mean([srocc(split.predicted, split.scores) for split in splits]), resampled(splits, srocc)

    rows = []
    for (data, mode), encoders in tested.items():
        for first, second in combinations(encoders, 2):
            seeds = tuple(sorted(encoders[first].keys() & encoders[second].keys()))
            if seeds:
                means, draws = zip(*(of_splits(data, mode, name, seeds) for name in (first, second)), strict=True)
                apart = draws[0] - draws[1]
                row = {"data": data, "mode": mode, "first": first, "second": second, "splits": len(seeds)}
                row |= {"difference": means[0] - means[1], "interval": interval(apart), "p": p_value(apart)}
                rows.append(row)
    return rows


def spreads(numbers: Sequence[dict[str, float | None]]) -> dict[str, Row]:
    """`spread` by name, over the dictionaries that have it."""
    names = sorted({name for by_name in numbers for name in by_name})
    return {name: spread([by_name.get(name) for by_name in numbers]) for name in names}


def spread(values: Sequence[float | None]) -> Row:
    """Mean, median and sample standard deviation (nan for a single one) of the values that are numbers."""
    numbers = np.array(values, dtype=float)  # None is nan
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return dict.fromkeys(("mean", "median", "sd"), float("nan"))
    deviation = numbers.std(ddof=1) if len(numbers) > 1 else float("nan")
    return {"mean": float(numbers.mean()), "median": float(np.median(numbers)), "sd": float(deviation)}


def kind(spec: str) -> str:
    return spec.partition(":")[0]


def markdown(rows: Sequence[Row], pairs: Sequence[Row]) -> str:
    """Tables 1 to 3, tests on other sets, and the encoders' differences, one below the other."""
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
    parts += ["Table 3: the compared methods, SROCC / PLCC, the paper's and here.", table_3(rows)]
    parts += ["Minutes of all splits; of features that several cells share, in the first of them.", minutes(rows)]
    if any(row["tests"] for row in rows):
        parts += ["Trained on one set, tested on all of another: SROCC (only ranks are comparable).", other_sets(rows)]
    if pairs:
        title = "Differences in SROCC on the same splits; 95 % interval and p by bootstrap over references"
        parts += [f"{title}, for {LEAST_REFERENCES} or more.", significance(pairs)]
    return "\n\n".join(parts) + "\n"


def lines(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, ["---"] * len(header), *body])


def shown(value: Row | None) -> str:
    """0.770 +- 0.053 (0.768), or of one split 0.770."""
    if not value or not np.isfinite(value["mean"]):
        return "-"
    if not np.isfinite(value["sd"]):
        return f"{value['mean']:.3f}"
    return f"{value['mean']:.3f} +- {value['sd']:.3f} ({value['median']:.3f})"


def table_1(rows: Sequence[Row]) -> str:
    header = ["mode", "encoder"]
    body = {(row["mode"], row["encoder"]): [row["mode"].upper(), row["encoder"]] for row in rows}
    for data in dict.fromkeys(row["data"] for row in rows):
        of_set = {(row["mode"], row["encoder"]): row for row in rows if row["data"] == data}
        header += [f"{data} SROCC", "PLCC"]
        for key, cells in body.items():
            row = of_set.get(key)
            has_interval = row and row["splits"] == 1 and np.isfinite(row["interval"]).all()
            bounds = " [{:.3f}, {:.3f}]".format(*row["interval"]) if has_interval else ""
            cells += [shown(row["srocc"]) + bounds, shown(row["plcc"])] if row else ["-", "-"]
        if any(row["paper_srocc"] for row in of_set.values()):
            header.append("paper")
            for key, cells in body.items():
                row = of_set.get(key)
                has_both = row and row["paper_srocc"]
                cells.append(f"{row['paper_srocc']:.2f} / {row['paper_plcc']:.2f}" if has_both else "-")
    return lines(header, [*body.values()])


def table_2(rows: Sequence[Row], types: Sequence[str]) -> str:
    """Of one set, by the last mode that was measured (LP-FT in a full run); the paper's numbers are KADID-10k's."""
    mode = max((row["mode"] for row in rows), key=MODES.index)
    body, has_paper = [], False
    for row in rows:
        if row["mode"] in (mode, NO_MODE):
            cells = [row["mode"].upper(), row["encoder"]]
            for name in types:
                paper = PAPER.get((kind(row["data"]), "", row["encoder"], name))
                has_paper = has_paper or paper is not None
                cells.append(shown(row["srocc_by_type"].get(name)) + (f" / {paper[0]:.2f}" if paper else ""))
            body.append(cells)
    return lines(["mode", "encoder", *(f"{name} / paper" if has_paper else name for name in types)], body)


def _rank(row: Row) -> tuple[bool, int]:
    return row["mode"] == RIDGE and row["encoder"] in BY_RIDGE, MODES.index(row["mode"])


def compared(rows: Sequence[Row]) -> list[Row]:
    """Table 3: each of COMPARED on the paper's two sets and on all others, by the last mode that was measured, of
    BY_RIDGE by ridge regression if it was.
    """
    sets = dict.fromkeys(["koniq10k", "kadid10k", *(kind(row["data"]) for row in rows)])
    entries = []
    for method in COMPARED:
        for data in sets:
            of_method = [row for row in rows if (row["encoder"], kind(row["data"])) == (method, data)]
            here = max(of_method, key=_rank, default={})
            entry = {"method": method, "data": data, **{name: here.get(name) for name in ("mode", "srocc", "plcc")}}
            paper = PAPER.get((data, NO_MODE, method, "")) or PAPER.get((data, "lp-ft", method, ""), (None, None))
            entries.append(entry | {"paper_srocc": paper[0], "paper_plcc": paper[1]})
    return entries


def table_3(rows: Sequence[Row]) -> str:
    entries = compared(rows)
    body: dict[str, list[str]] = {name: [name] for name in COMPARED}
    header = ["method"]
    for data in dict.fromkeys(entry["data"] for entry in entries):
        of_set = [entry for entry in entries if entry["data"] == data]
        has_paper = any(entry["paper_srocc"] for entry in of_set)
        header += [f"{data}: paper", "here"] if has_paper else [f"{data}: here"]
        for entry in of_set:
            if has_paper:
                numbers = [entry["paper_srocc"], entry["paper_plcc"]]
                body[entry["method"]].append(" / ".join(f"{n:.2f}" if n and np.isfinite(n) else "-" for n in numbers))
            is_measured = entry["srocc"] is not None
            body[entry["method"]].append(
                f"{entry['srocc']['mean']:.3f} / {entry['plcc']['mean']:.3f}" if is_measured else "not run"
            )
    return lines(header, [*body.values()])


def minutes(rows: Sequence[Row]) -> str:
    sets = [*dict.fromkeys(row["data"] for row in rows)]
    spent = {(row["mode"], row["encoder"], row["data"]): row["minutes"]["mean"] * row["splits"] for row in rows}
    body = [
        [mode.upper(), encoder, *(f"{spent[key]:.1f}" if (key := (mode, encoder, s)) in spent else "-" for s in sets)]
        for mode, encoder in dict.fromkeys((row["mode"], row["encoder"]) for row in rows)
    ]
    return lines(["mode", "encoder", *sets], body)


def other_sets(rows: Sequence[Row]) -> str:
    specs = sorted({spec for row in rows for spec in row["tests"]})
    body = [
        [row["data"], row["mode"].upper(), row["encoder"], *(shown(row["tests"].get(s)) for s in specs)] for row in rows
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
    writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for cell in cells:
        row = cell.results | (cell.results["srocc_by_type"] or {})
        row |= {"data": cell.data, "mode": cell.mode, "encoder": cell.encoder, "split": cell.seed}
        for name in ("srocc", "plcc"):
            row[f"{name}_low"], row[f"{name}_high"] = cell.results[f"{name}_interval"]
        row["paper_srocc"], row["paper_plcc"] = PAPER.get((kind(cell.data), cell.mode, cell.encoder, ""), ("", ""))
        writer.writerow(row)
    return file.getvalue()


def finished_cells(folder: Path) -> list[Measured]:
    """The measurements in a run's folder. Raises FileNotFoundError where there is none."""
    results = folder / run_folder.RESULTS
    if results.is_file():
        return [replace(read_measured(folder), encoder=re.sub(r"-\d+$", "", folder.resolve().name))]
    paths = sorted((folder / run_folder.CELLS).rglob(run_folder.RESULTS))
    if not paths:
        raise FileNotFoundError(f"{results}: no such file; give the folder of a finished finetune.py run")
    return [read_measured(path.parent) for path in paths]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", nargs="+", type=Path, metavar="RUN", help="folders of finished finetune.py runs")


def run(args: argparse.Namespace) -> None:
    with console.clear_errors():
        folders = {folder.resolve(): folder for folder in args.folders}  # one that is given twice counts once
        cells = [cell for folder in folders.values() for cell in finished_cells(folder)]
    print(markdown(summarize(cells), differences(cells)), end="")
