"""From the predictions.csv of finetune.py runs: predicted against true scores with the fitted logistic (`scatter`), and
the SROCC by type of distortion (`types`, Table 2).
"""

import argparse
from itertools import cycle
from math import ceil, nan
from pathlib import Path

import numpy as np

from ssl_iqa.distortions import NAMES
from ssl_iqa.engine import run_folder
from ssl_iqa.evaluation.metrics import fit_logistic, logistic, plcc, plcc_logistic, srocc, srocc_by_type
from ssl_iqa.evaluation.predictions import Predictions, read_predictions
from ssl_iqa.figures import plots
from ssl_iqa.figures.plots import COLORS, DARK, GRAY, WIDTH, new_figure

MOST_IN_A_ROW = 3
TYPES_WIDTH, BAR, GAP = 5, 0.07, 0.07  # inches: of the figure of types, of a bar, between two types


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a folder that finetune.py wrote")


def run(args: argparse.Namespace) -> "plots.Figure":
    draw = draw_types if args.figure == "types" else draw_scatter
    return draw(plots.read_runs(args.runs, read_predictions))


def draw_scatter(predictions: dict[str, Predictions]) -> "plots.Figure":
    """A panel a run: a dot an image, the logistic that `plcc_logistic` fits, a dotted line where both are equal."""
    columns = min(MOST_IN_A_ROW, len(predictions))
    rows = ceil(len(predictions) / columns)
    predicted = np.concatenate([run.predicted for run in predictions.values()])
    ends = (min(1, predicted.min()) - 0.2, max(10, predicted.max()) + 0.2)
    side = WIDTH / max(columns, 2)
    with new_figure(rows * side, columns * side) as figure:
        for i, (name, run) in enumerate(predictions.items()):
            axes = figure.add_subplot(rows, columns, i + 1)
            draw_run(axes, run, ends)
            axes.set_title(name, parse_math=False, fontweight="bold")
            axes.set(xlim=ends, ylim=(0.8, 10.2), xticks=range(1, 11), yticks=range(1, 11))
        figure.supxlabel("predicted score")
        figure.supylabel("true score")
    return figure


def draw_run(axes: "plots.Axes", run: Predictions, ends: tuple[float, float]) -> None:
    axes.plot(ends, ends, ":", color=GRAY, linewidth=0.8)
    size = float(np.clip(3000 / len(run.scores), 3, 16))  # square points: few are seen, many do not hide one another
    axes.scatter(run.predicted, run.scores, size, COLORS[0], alpha=0.35, linewidths=0)
    words = f"SROCC {srocc(run.predicted, run.scores):.3f}\nPLCC {plcc(run.predicted, run.scores):.3f}"
    parameters = fit_logistic(run.predicted, run.scores)
    if parameters is not None:
        x = np.linspace(run.predicted.min(), run.predicted.max(), 200)
        axes.plot(x, logistic(x, *parameters), color=COLORS[1], linewidth=1.6)
        words += f"\nafter logistic {plcc_logistic(run.predicted, run.scores):.3f}"
    box = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 2}
    axes.text(0.97, 0.03, words, transform=axes.transAxes, ha="right", color=DARK, bbox=box)  # where fewest dots are


def draw_types(predictions: dict[str, Predictions]) -> "plots.Figure":
    """Horizontal bars, a group a type, in it a bar a run: the SROCC within the type. Types are in the paper's order.

    Raises ValueError where no run names any type.
    """
    sroccs = {name: srocc_by_type(run.predicted, run.scores, run.distortions) for name, run in predictions.items()}
    named = {kind for by_type in sroccs.values() for kind in by_type if kind}
    if not named:
        raise ValueError(f"{', '.join(predictions)}: no type of distortion in {run_folder.PREDICTIONS}")
    kinds = [kind for kind in NAMES if kind in named] + sorted(named - {*NAMES})
    group = len(sroccs) * BAR + GAP
    with new_figure(len(kinds) * group + 0.75, TYPES_WIDTH) as figure:
        axes = figure.add_subplot()
        for i, (by_type, color) in enumerate(zip(sroccs.values(), cycle(COLORS), strict=False)):
            tops = group * np.arange(len(kinds)) + i * BAR
            axes.barh(tops, [by_type.get(kind, nan) for kind in kinds], 0.9 * BAR, color=color, align="edge")
        middles = group * np.arange(len(kinds)) + len(sroccs) * BAR / 2
        axes.set_yticks(middles, [kind.replace("_", " ") for kind in kinds])
        axes.tick_params(axis="y", length=0, labelcolor=DARK)
        axes.set(ylim=(len(kinds) * group - GAP / 2, -GAP), xlabel="SROCC within the type")
        axes.set_xlim(min(0, axes.get_xlim()[0]), 1)
        axes.grid(False, axis="y")
        axes.axvline(0, color=GRAY, linewidth=0.8)
        plots.name_runs(figure, [bars[0] for bars in axes.containers], [*sroccs])
    return figure
