"""The curves of joint training, from the logs of one or several runs, drawn with matplotlib: the extra `[figures]`."""

import json
from dataclasses import dataclass, field
from math import ceil, isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_iqa.engine import run_folder
from ssl_iqa.figures.plots import COLORS, GRAY, MARKERS, new_figure

if TYPE_CHECKING:  # an extra: what draws imports it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS, ROW, FOOT, LEGEND_ROW = 2, 1.8, 0.25, 0.18  # panels side by side; heights in inches
LEGEND_LETTERS = 120  # that fit side by side
SHORT, DOTS = 30, 12  # a curve of so few epochs has a dot on each; a longer one, where it has any, about so many

FACES = {"-": None, "--": "white", ":": "white"}  # of the dots on such a line; None: its color
RING = {"marker": "o", "markersize": 8, "markerfacecolor": "none", "linestyle": "none", "zorder": 3}

Log = dict[str, list[float]]
"""A run's epochs, field by field: `epoch` and what was measured, NaN where a line has no value."""


@dataclass(frozen=True)
class Panel:
    """What a panel shows: its title and y axis, each field's line style, and the words for them in its key."""

    title: str
    label: str
    lines: dict[str, str]
    key: dict[str, str] = field(default_factory=dict)
    ends: tuple[float, float | None] | None = None  # of the y axis, where not the data's
    scale: str = "linear"


PANELS = (
    Panel("Joint loss, Eq. 8", "$L$", {"L": "-", "val_L": "--"}, {"L": "training", "val_L": "validation"}),
    Panel("Contrastive loss, Eq. 5", r"$L_\mathrm{cont}$ (nats)", {"L_cont": "-", "val_L_cont": "--"}),
    Panel("Regression loss, Eq. 7", "$L_r$ (score points squared)", {"L_r": "-", "val_L_r": "--"}),
    Panel("Rank correlation with the true scores, validation", "SROCC", {"val_SROCC": "--"}),
    Panel(
        "Learning rate",
        "learning rate",
        {"lr": "-", "regressor_lr": ":"},
        {"lr": "encoder, projector", "regressor_lr": "regressor"},
        scale="log",
    ),
    Panel("Gradient norm", "mean of the steps", {"grad_norm": "-"}, ends=(0, None)),
    Panel("Throughput", "pictures a second", {"pictures_per_second": "-"}, ends=(0, None)),
    Panel("Waiting for data", "share of the time", {"data_wait": "-"}, ends=(0, 1)),
)
FIELDS = [name for panel in PANELS for name in panel.lines]


def read_log(folder: Path) -> Log:
    """The log of a run's folder. A last line without its end is left out: the run was killed while it wrote it.

    Raises FileNotFoundError without a log, ValueError for one that is damaged elsewhere or has no whole epoch.
    """
    path = folder / run_folder.LOG
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; the folder of a train_joint.py run is wanted")
    *lines, _ = path.read_bytes().split(b"\n")  # behind the last line's end is nothing, or a part of a line
    records = [parse_line(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1)]
    if not records:
        raise ValueError(f"{path}: no whole epoch in it")
    epochs = [record["epoch"] for record in records]
    if any(one >= following for one, following in zip(epochs, epochs[1:], strict=False)):
        raise ValueError(f"{path}: its epochs do not follow one another; the log of one run is wanted")
    log = {"epoch": epochs} | {name: [as_float(record.get(name)) for record in records] for name in FIELDS}
    if not any(map(isfinite, log["L_r"])):
        # a run without labels logs a val_L_r of 0 and the learning rate of a regressor that nothing trains
        log["val_L_r"] = log["regressor_lr"] = [nan] * len(epochs)
    return log


def parse_line(line: bytes, place: str) -> dict[str, Any]:
    """An epoch's record. Raises ValueError, which names the place, for anything else."""
    try:
        record = json.loads(line.decode())
    except ValueError as error:
        raise ValueError(f"{place}: damaged, not JSON ({error})") from error
    if not isinstance(record, dict) or type(record.get("epoch")) is not int:
        raise ValueError(f"{place}: no epoch of train_joint.py")
    for name in FIELDS:
        if not isinstance(record.get(name), int | float | None):
            raise ValueError(f"{place}: {name} is {record[name]!r}; a number is wanted")
    return record


def as_float(value: float | None) -> float:
    """NaN for null, and for infinity, which has no place on an axis."""
    return value if value is not None and isfinite(value) else nan


def best_epoch(log: Log) -> int | None:
    """The index of the epoch with the lowest validation loss, the first of equal ones: encoder.pt is that epoch's."""
    measured = [i for i, loss in enumerate(log["val_L"]) if isfinite(loss)]
    return min(measured, key=log["val_L"].__getitem__, default=None)


def has_values(log: Log, panel: Panel) -> bool:
    return any(isfinite(value) for name in panel.lines for value in log[name])


def draw(logs: dict[str, Log]) -> "Figure":
    """A figure of the runs, by name, over one another, in those of PANELS that have values in any run.

    Raises ValueError where matplotlib is not installed or there is nothing to draw.
    """
    panels = [panel for panel in PANELS if any(has_values(log, panel) for log in logs.values())]
    if not panels:
        raise ValueError(f"{', '.join(logs)}: nothing but null in the log")
    columns = min(COLUMNS, len(panels))
    rows = ceil(len(panels) / columns)
    names_in_row = max(1, LEGEND_LETTERS // (max(map(len, logs)) + 8))  # 8: a line and the space around it
    height = FOOT + rows * ROW + ceil(len(logs) / names_in_row) * LEGEND_ROW

    with new_figure(height) as figure:
        from matplotlib.lines import Line2D

        looks = [
            {"color": COLORS[i % len(COLORS)], "marker": MARKERS[i // len(COLORS) % len(MARKERS)]}
            for i in range(len(logs))
        ]
        for i, panel in enumerate(panels):
            axes = figure.add_subplot(rows, columns, i + 1, sharex=figure.axes[0] if i else None)
            for log, look in zip(logs.values(), looks, strict=True):
                draw_run(axes, panel, log, look)
            finish(axes, panel)
            if i + columns >= len(panels):  # none below it
                axes.set_xlabel("epoch")
        handles = [Line2D([], [], **look) for look in looks]
        legend = figure.legend(handles, [""] * len(logs), loc="outside upper left", ncols=names_in_row)
        for text, name in zip(legend.get_texts(), logs, strict=True):
            text.set(text=name, parse_math=False)  # a name is shown as it is, with $ and with _ in front
    return figure


def draw_run(axes: "Axes", panel: Panel, log: Log, look: dict[str, str]) -> None:
    """A run's lines in a panel, the best epoch in a ring where they are the validation's."""
    best = best_epoch(log)
    for name, line in panel.lines.items():
        values = log[name]
        if not any(map(isfinite, values)):
            continue
        every = dots(values, always=look["marker"] != MARKERS[0])
        axes.plot(log["epoch"], values, line, markevery=every, markerfacecolor=FACES[line], label=name, **look)
        if best is not None and name.startswith("val_"):
            axes.plot(log["epoch"][best], values[best], color=look["color"], label="best", **RING)


def dots(values: list[float], always: bool) -> list[int]:
    """The indices of a curve's dots: all of a short one; of a long one those between two NaN, where no line is seen,
    and with `always` some more, by which it is told from another of its color.
    """
    if len(values) <= SHORT:
        return list(range(len(values)))
    seen = [False, *map(isfinite, values), False]
    alone = {i for i in range(len(values)) if not seen[i] and not seen[i + 2]}
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
