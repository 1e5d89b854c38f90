"""How one or several runs of train_joint.py went, from their logs: losses, SROCC, learning rates and speed by epoch."""

import argparse
import json
from itertools import cycle, islice, product
from math import ceil, nan
from pathlib import Path
from typing import Any

import numpy as np

from ssl_iqa.engine import run_folder
from ssl_iqa.figures import plots
from ssl_iqa.figures.plots import COLORS, MARKERS, new_figure

COLUMNS, ROW, FOOT = 2, 1.8, 0.25  # panels side by side; heights in inches
DOTS = 15  # on a curve, about; one on each epoch of a short run

Log = dict[str, np.ndarray]
"""A run's epochs, field by field: `epoch` and what was measured [epochs], NaN where a line has no value."""

# By a panel's title its fields, each with the style of its line, and the settings of its axes.
PANELS: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "Joint loss, Eq. 8": ({"L": "-", "val_L": "--"}, {"ylabel": "$L$"}),
    "Contrastive loss, Eq. 5": ({"L_cont": "-", "val_L_cont": "--"}, {"ylabel": r"$L_\mathrm{cont}$ (nats)"}),
    "Regression loss, Eq. 7": ({"L_r": "-", "val_L_r": "--"}, {"ylabel": "$L_r$ (score points squared)"}),
    "Rank correlation with the true scores, validation": ({"val_SROCC": "--"}, {"ylabel": "SROCC"}),
    "Learning rate": ({"lr": "-", "regressor_lr": ":"}, {"ylabel": "learning rate", "yscale": "log"}),
    "Gradient norm": ({"grad_norm": "-"}, {"ylabel": "mean of the steps", "ylim": (0, None)}),
    "Throughput": ({"pictures_per_second": "-"}, {"ylabel": "images a second", "ylim": (0, None)}),
    "Waiting for data": ({"data_wait": "-"}, {"ylabel": "share of the time", "ylim": (0, 1)}),
}
FIELDS = [name for lines, _ in PANELS.values() for name in lines]
KEY = {"L": "training", "val_L": "validation", "lr": "encoder, projector", "regressor_lr": "regressor"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a folder that train_joint.py wrote")


def run(args: argparse.Namespace) -> "plots.Figure":
    return draw(plots.read_runs(args.runs, read_log))


def read_log(folder: Path) -> Log:
    """The log of a run's folder. A last line without its end is left out: the run was killed while it wrote it.

    Raises FileNotFoundError without a log, ValueError for one that is damaged elsewhere or has no whole epoch.
    """
    path = folder / run_folder.LOG
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; a RUN must be the folder of a train_joint.py run")
    *lines, _ = path.read_bytes().split(b"\n")  # behind the last line's end is nothing, or a part of a line
    epochs = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            epochs.append(np.array([record["epoch"], *map(record.get, FIELDS)], dtype=float))  # NaN for null
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: damaged, not an epoch of train_joint.py ({error!r})") from error
    if not epochs:
        raise ValueError(f"{path}: no whole epoch in it")
    log = dict(zip(["epoch", *FIELDS], np.stack(epochs, axis=1), strict=True))
    if not has_values(log["L_r"]):
        # a run without labels logs a val_L_r of 0 and the learning rate of a regressor that nothing trains
        log["val_L_r"][:] = log["regressor_lr"][:] = nan
    return log


def has_values(values: np.ndarray) -> bool:
    return not np.isnan(values).all()


def draw(logs: dict[str, Log]) -> "plots.Figure":
    """The runs by name, over one another, in those of PANELS that have values in any. Raises ValueError without any."""
    panels = {
        title: panel
        for title, panel in PANELS.items()
        if any(has_values(log[name]) for log in logs.values() for name in panel[0])
    }
    if not panels:
        raise ValueError(f"{', '.join(logs)}: nothing but null in the log")
    columns = min(COLUMNS, len(panels))
    rows = ceil(len(panels) / columns)
    looks = [{"color": color, "marker": marker} for marker, color in islice(cycle(product(MARKERS, COLORS)), len(logs))]
    with new_figure(rows * ROW + FOOT) as figure:
        from matplotlib.lines import Line2D

        for i, (title, (lines, settings)) in enumerate(panels.items()):
            axes = figure.add_subplot(rows, columns, i + 1, sharex=figure.axes[0] if i else None)
            for log, look in zip(logs.values(), looks, strict=True):
                draw_run(axes, lines, log, look)
            axes.set(title=title, **settings)
            axes.xaxis.get_major_locator().set_params(integer=True)
            handles, words = axes.get_legend_handles_labels()
            key = dict(zip(words, handles, strict=True))  # each word once, whatever number of runs
            if len(key) > 1:
                axes.legend(key.values(), key)
        figure.supxlabel("epoch")
        plots.name_runs(figure, [Line2D([], [], **look) for look in looks], [*logs])
    return figure


def draw_run(axes: "plots.Axes", lines: dict[str, str], log: Log, look: dict[str, str]) -> None:
    """A run's lines in a panel. On the validation's a ring marks the best epoch, the first of the lowest loss."""
    color, epochs = look["color"], log["epoch"]
    best = np.nanargmin(log["val_L"]) if has_values(log["val_L"]) else None  # encoder.pt is that epoch's
    for name, style in lines.items():
        if not has_values(log[name]):
            continue
        dots = {"markevery": max(1, len(epochs) // DOTS), "markerfacecolor": color if style == "-" else "white"}
        axes.plot(epochs, log[name], style, label=KEY.get(name), **dots, **look)
        if best is not None and name.startswith("val_"):
            words = "best epoch: lowest validation $L$" if name == "val_L" else None
            ring = {"color": color, "markersize": 8, "markerfacecolor": "none", "zorder": 3}
            axes.plot(epochs[best], log[name][best], "o", label=words, **ring)
