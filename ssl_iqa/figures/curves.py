"""How one or several runs of train_joint.py went, from their logs: losses, SROCC, learning rates and speed by epoch."""

import argparse
import json
from dataclasses import dataclass, field
from itertools import cycle
from math import ceil, nan
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ssl_iqa.engine import run_folder
from ssl_iqa.figures import plots
from ssl_iqa.figures.plots import COLORS, GRAY, MARKERS, new_figure

if TYPE_CHECKING:  # an extra: what draws imports it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS, ROW, FOOT, LEGEND_ROW = 2, 1.8, 0.25, 0.18  # panels side by side; heights in inches
LEGEND_LETTERS = 120  # that fit side by side
SHORT, DOTS = 30, 12  # epochs: a curve of so few has a dot on each; a longer one, where it has any, about DOTS

FACES = {"-": None, "--": "white", ":": "white"}  # of the dots on such a line; None: its color
RING = {"marker": "o", "markersize": 8, "markerfacecolor": "none", "linestyle": "none", "zorder": 3}

Log = dict[str, np.ndarray]
"""A run's epochs, field by field: `epoch` and what was measured [epochs], NaN where a line has no value."""


@dataclass(frozen=True)
class Panel:
    """A panel's title and y axis, the line style of each field, and the words for them in its key."""

    title: str
    label: str
    lines: dict[str, str]
    key: dict[str, str] = field(default_factory=dict)
    ends: tuple[float, float | None] | None = None  # of the y axis, where not the data's
    scale: str = "linear"


LOSSES, RATES = {"L": "training", "val_L": "validation"}, {"lr": "encoder, projector", "regressor_lr": "regressor"}
PANELS = (
    Panel("Joint loss, Eq. 8", "$L$", {"L": "-", "val_L": "--"}, LOSSES),
    Panel("Contrastive loss, Eq. 5", r"$L_\mathrm{cont}$ (nats)", {"L_cont": "-", "val_L_cont": "--"}),
    Panel("Regression loss, Eq. 7", "$L_r$ (score points squared)", {"L_r": "-", "val_L_r": "--"}),
    Panel("Rank correlation with the true scores, validation", "SROCC", {"val_SROCC": "--"}),
    Panel("Learning rate", "learning rate", {"lr": "-", "regressor_lr": ":"}, RATES, scale="log"),
    Panel("Gradient norm", "mean of the steps", {"grad_norm": "-"}, ends=(0, None)),
    Panel("Throughput", "images a second", {"pictures_per_second": "-"}, ends=(0, None)),
    Panel("Waiting for data", "share of the time", {"data_wait": "-"}, ends=(0, 1)),
)
FIELDS = [name for panel in PANELS for name in panel.lines]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a folder that train_joint.py wrote")


def run(args: argparse.Namespace) -> tuple[bytes, str]:
    return plots.encode(draw(plots.read_runs(args.runs, read_log)), args.out.suffix.lower())


def read_log(folder: Path) -> Log:
    """The log of a run's folder. A last line without its end is left out: the run was killed while it wrote it.

    Raises FileNotFoundError without a log, ValueError for one that is damaged elsewhere or has no whole epoch.
    """
    path = folder / run_folder.LOG
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; a RUN must be the folder of a train_joint.py run")
    *lines, _ = path.read_bytes().split(b"\n")  # behind the last line's end is nothing, or a part of a line
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            records.append(np.array([record["epoch"], *map(record.get, FIELDS)], dtype=float))  # NaN for null
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: damaged, not an epoch of train_joint.py ({error!r})") from error
    if not records:
        raise ValueError(f"{path}: no whole epoch in it")
    columns = np.stack(records, axis=1)  # [fields, epochs]
    columns[np.isinf(columns)] = nan  # an infinite value has no place on an axis
    log = dict(zip(["epoch", *FIELDS], columns, strict=True))
    if (np.diff(log["epoch"]) <= 0).any():
        raise ValueError(f"{path}: epochs must follow one another, as in the log of one run")
    if not has_values(log["L_r"]):
        # a run without labels logs a val_L_r of 0 and the learning rate of a regressor that nothing trains
        log["val_L_r"][:] = log["regressor_lr"][:] = nan
    return log


def has_values(values: np.ndarray) -> bool:
    return not np.isnan(values).all()


def draw(logs: dict[str, Log]) -> "Figure":
    """A figure of the runs, by name, over one another, in those of PANELS that have values in any run.

    Raises ValueError where matplotlib is not installed or there is nothing to draw.
    """
    panels = [p for p in PANELS if any(has_values(log[name]) for log in logs.values() for name in p.lines)]
    if not panels:
        raise ValueError(f"{', '.join(logs)}: nothing but null in the log")
    columns = min(COLUMNS, len(panels))
    rows = ceil(len(panels) / columns)
    names_in_row = max(1, LEGEND_LETTERS // (max(map(len, logs)) + 8))  # 8: a line and the space around it
    height = FOOT + rows * ROW + ceil(len(logs) / names_in_row) * LEGEND_ROW
    pairs = cycle([(color, marker) for marker in MARKERS for color in COLORS])
    looks = [{"color": color, "marker": marker} for (color, marker), _ in zip(pairs, logs, strict=False)]
    with new_figure(height) as figure:
        from matplotlib.lines import Line2D

        for i, panel in enumerate(panels):
            axes = figure.add_subplot(rows, columns, i + 1, sharex=figure.axes[0] if i else None)
            for log, look in zip(logs.values(), looks, strict=True):
                draw_run(axes, panel, log, look)
            finish(axes, panel)
            if i + columns >= len(panels):  # none below it
                axes.set_xlabel("epoch")
        plots.name_runs(figure, [Line2D([], [], **look) for look in looks], [*logs], names_in_row)
    return figure


def draw_run(axes: "Axes", panel: Panel, log: Log, look: dict[str, str]) -> None:
    """A run's lines in a panel. On the validation's a ring marks the best epoch, the first of the lowest loss."""
    best = np.nanargmin(log["val_L"]) if has_values(log["val_L"]) else None  # encoder.pt is that epoch's
    for name, line in panel.lines.items():
        values = log[name]
        if not has_values(values):
            continue
        marked = dots(values, always=look["marker"] != MARKERS[0])
        axes.plot(log["epoch"], values, line, markevery=marked, markerfacecolor=FACES[line], label=name, **look)
        if best is not None and name.startswith("val_"):
            axes.plot(log["epoch"][best], values[best], color=look["color"], label="best", **RING)


def dots(values: np.ndarray, always: bool) -> list[int]:
    """The indices of a curve's dots: all of a short one; of a long one those between two NaN, where no line is seen,
    and with `always` about DOTS more, by which it is told from another of its color.
    """
    if len(values) <= SHORT:
        return list(range(len(values)))
    measured = np.pad(~np.isnan(values), 1)
    alone = set(np.flatnonzero(~measured[:-2] & ~measured[2:]).tolist())
    return sorted(alone | {*range(0, len(values), ceil(len(values) / DOTS))} if always else alone)


def finish(axes: "Axes", panel: Panel) -> None:
    """A panel's title, y axis and key, when its lines are drawn."""
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    axes.set_title(panel.title)
    axes.set_ylabel(panel.label)
    axes.set_yscale(panel.scale)
    if panel.ends is not None:
        axes.set_ylim(*panel.ends)
    if panel.ends == (0, 1):
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    drawn = {line.get_label() for line in axes.lines}
    shown = [name for name in panel.key if name in drawn]
    if len(shown) > 1:
        styles = [panel.lines[name] for name in shown]
        handles = [Line2D([], [], color=GRAY, marker="o", linestyle=s, markerfacecolor=FACES[s]) for s in styles]
        words = [panel.key[name] for name in shown]
        if "best" in drawn:
            handles.append(Line2D([], [], color=GRAY, **RING))
            words.append("best epoch: lowest validation $L$")
        axes.legend(handles, words)
