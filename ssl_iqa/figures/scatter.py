"""Predicted against true scores of finetune.py runs, and their SROCC by type of distortion, drawn with matplotlib."""

import math
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from ssl_iqa.distortions import NAMES
from ssl_iqa.engine import run_folder
from ssl_iqa.evaluation.metrics import fit_logistic, logistic, plcc, plcc_logistic, srocc, srocc_by_type
from ssl_iqa.evaluation.predictions import Predictions
from ssl_iqa.figures.plots import COLORS, DARK, GRAY, WIDTH, new_figure

if TYPE_CHECKING:  # an extra: what draws imports it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_IN_A_ROW = 3
TYPES_WIDTH, BAR, GROUP_GAP = 5, 0.07, 0.07  # inches: of the figure of types, of a bar, between two types


def draw_scatter(predictions: dict[str, Predictions]) -> "Figure":
    """A panel a run: a dot a picture, the logistic that `plcc_logistic` fits, a dotted line where both are equal."""
    columns = min(MOST_IN_A_ROW, len(predictions))
    rows = -(-len(predictions) // columns)
    predicted = np.concatenate([run.predicted for run in predictions.values()])
    ends = (min(1, predicted.min()) - 0.2, max(10, predicted.max()) + 0.2)
    side = WIDTH / max(columns, 2)
    with new_figure(rows * side, columns * side) as figure:
        for i, (name, run) in enumerate(predictions.items()):
            axes = figure.add_subplot(rows, columns, i + 1)
            draw_run(axes, run, ends)
            axes.set_title(name, parse_math=False, fontweight="bold")
            axes.set(xlim=ends, ylim=(0.8, 10.2), xticks=range(1, 11), yticks=range(1, 11))
            if i % columns == 0:
                axes.set_ylabel("true score")
            if i + columns >= len(predictions):  # none below it
                axes.set_xlabel("predicted score")
    return figure


def draw_run(axes: "Axes", run: Predictions, ends: tuple[float, float]) -> None:
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


def draw_types(predictions: dict[str, Predictions]) -> "Figure":
    """Horizontal bars, a group a type, in it a bar a run: the SROCC within the type (Table 2).

    Types are in the paper's order. Raises ValueError where no run names any type.
    """
    found = {name: srocc_by_type(run.predicted, run.scores, run.distortions) for name, run in predictions.items()}
    named = {kind for values in found.values() for kind in values if kind}
    if not named:
        raise ValueError(f"{', '.join(predictions)}: no type of distortion in {run_folder.PREDICTIONS}")
    kinds = [kind for kind in NAMES if kind in named] + sorted(named - {*NAMES})
    group = len(found) * BAR + GROUP_GAP
    with new_figure(len(kinds) * group + 0.75, TYPES_WIDTH) as figure:
        axes = figure.add_subplot()
        for i, (values, color) in enumerate(zip(found.values(), cycle(COLORS), strict=False)):
            tops = [k * group + i * BAR for k in range(len(kinds))]
            axes.barh(tops, [values.get(kind, math.nan) for kind in kinds], 0.9 * BAR, color=color, align="edge")
        middles = [k * group + len(found) * BAR / 2 for k in range(len(kinds))]
        axes.set_yticks(middles, [kind.replace("_", " ") for kind in kinds])
        axes.tick_params(axis="y", length=0, labelcolor=DARK)
        axes.set(ylim=(len(kinds) * group - GROUP_GAP / 2, -GROUP_GAP), xlabel="SROCC within the type")
        lowest = min((v for values in found.values() for k, v in values.items() if k and v < 0), default=0)
        axes.set_xlim(1.05 * lowest, 1)
        axes.grid(False, axis="y")
        axes.axvline(0, color=GRAY, linewidth=0.8)
        handles = [bars[0] for bars in axes.containers]
        legend = figure.legend(handles, [""] * len(found), loc="outside upper left", ncols=min(4, len(found)))
        for text, name in zip(legend.get_texts(), found, strict=True):
            text.set(text=name, parse_math=False)  # a name is shown as it is, with $ and with _ in front
    return figure
