"""What finetune.py prints: its settings and data, a line a cell, a single run's results, what an early end has left."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import groupby
from typing import Any

from ssl_iqa.data.seen import in_words
from ssl_iqa.engine import run_folder
from ssl_iqa.engine.signals import STOPPED
from ssl_iqa.engine.workers import worker_end
from ssl_iqa.evaluation import tables
from ssl_iqa.evaluation.cells import Cell, write_tables
from ssl_iqa.evaluation.learning_curve import curve_text
from ssl_iqa.evaluation.resampling import TOO_FEW


def print_start(settings: Any, cells: list[Cell]) -> None:
    shown = asdict(cells[0].settings if len(cells) == 1 else settings)
    for name, value in sorted(shown.items()):
        print(f"  {name:<12} {' '.join(value) if isinstance(value, tuple) else value}")
    if "demo" in settings.data:
        print("Demo scores are the mean opinions of KADID-10k's 125 classes, not opinions of these very images.")
    for spec, of_set in groupby(cells, key=lambda cell: cell.settings.data[0]):
        first = next(of_set)
        parts = first.parts
        counts = ", ".join(f"{len(parts[part])} of {len(first.split[part])} references {part}" for part in parts)
        print(f"{spec}: images {counts}", flush=True)
        if first.known:
            print(f"  {in_words(first.split, first.known)}", flush=True)


def print_end(cells: list[Cell]) -> None:
    """The results of a single cell, or the tables of several, which are written as well."""
    cell = cells[0]
    if not cell.is_single:
        write_tables(cells)
        return
    results, model = run_folder.read_json(cell.folder / run_folder.RESULTS), cell.folder / run_folder.MODEL

    def number(value: float | None) -> str:
        return "nan" if value is None else f"{value:.3f}"

    unreadable = f" ({results['unreadable']} could not be read)" if results["unreadable"] else ""
    chosen, is_ridge = results["best_epoch"], results["mode"] == tables.RIDGE  # which has a penalty for an epoch
    best = chosen if is_ridge else f"best epoch {chosen}"
    print(f"\n{results['mode'].upper()} from {results['encoder']}, {best},", end=" ")
    print(f"on {results['images']} held-out images of {len(results['split']['test'])} references{unreadable}:")
    values = [number(results.get(name)) for name in ("srocc", "plcc", "plcc_logistic", "plcc_logistic5")]
    print("  SROCC {}   PLCC {}   after logistic {} (4 parameters), {} (5)".format(*values))
    has_interval = None not in results["srocc_interval"]
    interval = " to ".join(map(number, results["srocc_interval"])) if has_interval else f"none, {TOO_FEW}"
    print(f"  95 % interval of SROCC over references: {interval}")
    if results["margin"] is not None:  # else the validation part is too small
        print(f"  90 % interval of a score: +- {results['margin']:.2f}, which holds {results['coverage']:.0%} of these")
    if by_type := results["srocc_by_type"]:
        shown = {name: by_type[name] for name in tables.TYPES if name in by_type} or by_type
        print("  SROCC by type (Table 2):", ", ".join(f"{name} {number(value)}" for name, value in shown.items()))
    for spec, elsewhere in results["tests"].items():
        left_out = elsewhere.get("left_out")  # an earlier version did not write it
        without = f" ({left_out} that were trained on are left out)" if left_out else ""
        print(f"  on {elsewhere['images']} images of {spec}{without}: SROCC {number(elsewhere['srocc'])}")
    if "learning_curve" in results:
        print("\n" + curve_text(results["learning_curve"], has_seen=bool(cell.known)) + "\n")
    numbers = f"{results['minutes']:.1f} minutes. All numbers: {cell.folder / run_folder.RESULTS}"
    if is_ridge:
        print(f"{numbers}; a model that scores images: --mode lp, ft or lp-ft")
    else:
        print(f"{numbers}; networks: {model}")
        print(f"Next: {shlex.join(['ssl-iqa', 'score', str(model)])} PATH ..")


def print_cell(results: dict[str, Any], cells: list[Cell]) -> None:
    """A line for one of several cells."""
    if not cells[0].is_single:
        where = f"{results['data']}, split {results['seed']}: {results['mode'].upper()} from {results['name']}"
        numbers = f"SROCC {results['srocc']:.3f}  PLCC {results['plcc']:.3f}  {results['minutes']:.1f} min"
        print(f"[{sum(cell.is_done for cell in cells)}/{len(cells)}] {where}  {numbers}", flush=True)


@contextmanager
def kept_at_an_end(cells: list[Cell]) -> Iterator[None]:
    """Where the run ends early, its last line says what is left in its folders, and what --resume does with it."""
    try:
        yield
    except (run_folder.NotWritten, RuntimeError) as error:
        message = str(error) if isinstance(error, run_folder.NotWritten) else worker_end(error)
        if not message:
            raise
        sys.exit(f"error: {message}; {_what_is_kept(cells)}")
    except KeyboardInterrupt:
        print(f"ended: {_what_is_kept(cells)}")
        sys.exit(STOPPED)


def _what_is_kept(cells: list[Cell]) -> str:
    done = sum(cell.is_done for cell in cells)
    lasts = [cell.folder / run_folder.LAST for cell in cells if (cell.folder / run_folder.LAST).is_file()]
    kept = f"{done} of {len(cells)} results"
    if lasts:
        kept += f", and {lasts[0]}: an epoch of the next"
    return kept + ("; --resume goes on from there" if done or lasts else "; nothing to resume")
