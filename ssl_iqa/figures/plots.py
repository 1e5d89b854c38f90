"""What the figures that matplotlib draws share: their style, their formats and the names of runs.

matplotlib is the extra `[figures]`; pyplot, which would open windows, is never used.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from PIL import Image

if TYPE_CHECKING:  # an extra: what draws imports it
    from matplotlib.figure import Figure

Content = TypeVar("Content")

# By suffix, what is written beside the drawing: no date, so that the same logs give the same bytes.
FORMATS: dict[str, dict[str, None]] = {".png": {}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
WIDTH, DPI = 8, 150  # of a figure, in inches: 1200 pixels

# The colors of Okabe and Ito (2008), chosen to be told apart by the color-blind, without the yellow, faint on white.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = "os^Dv"  # of the dots: when the colors are used up they come again with another marker
DARK, GRAY, FAINT = "#1a1a1a", "#6b6b6b", "#e4e4e4"
STYLE = {
    **{"font.size": 7.5, "axes.titlesize": 8, "axes.titlelocation": "left", "axes.titlecolor": DARK},
    **{"axes.labelsize": 7, "axes.labelcolor": GRAY, "axes.edgecolor": GRAY, "axes.linewidth": 0.6},
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True},
    **{"axes.grid": True, "grid.color": FAINT, "grid.linewidth": 0.6, "text.color": DARK},
    **{"xtick.labelsize": 7, "xtick.color": GRAY, "ytick.labelsize": 7, "ytick.color": GRAY},
    **{"lines.linewidth": 1.1, "lines.markersize": 2.8, "legend.fontsize": 7, "legend.frameon": False},
    **{"pdf.fonttype": 42, "svg.hashsalt": "ssl_iqa"},  # letters as letters; the same names in each SVG
}


@contextmanager
def new_figure(height: float, width: float = WIDTH) -> Iterator["Figure"]:
    """An empty figure, in inches, to be drawn on within: in STYLE, whatever the reader's own settings are.

    Raises ValueError where matplotlib is not installed.
    """
    try:
        from matplotlib import style
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError(f"matplotlib is required: pip install 'ssl_iqa[figures]' ({error})") from error
    with style.context(["default", STYLE]):
        yield Figure((width, height), DPI, layout="constrained")


def run_names(folders: Sequence[Path]) -> list[str]:
    """For each folder the last parts of its path, as few as tell all apart, without an end that all share.

    runs/a, runs/b: a, b; 0/joint, 1/joint: 0, 1; x/a, x/b, y/a: x/a, x/b, y/a. Raises ValueError for a folder that is
    given twice.
    """
    paths = [Path(os.path.abspath(folder)).parts for folder in folders]
    for i, parts in enumerate(paths):
        if parts in paths[:i]:
            raise ValueError(f"{folders[i]}: given twice")
    while len(paths) > 1 and len({parts[-1] for parts in paths}) == 1:
        paths = [parts[:-1] for parts in paths]
    candidates = (["/".join(parts[-length:]) for parts in paths] for length in count(1))
    return next(names for names in candidates if len({*names}) == len(names))


def read_runs(folders: Sequence[Path], read: Callable[[Path], Content]) -> dict[str, Content]:
    """What `read` finds in each folder, by the run's name."""
    return dict(zip(run_names(folders), map(read, folders), strict=True))


def name_runs(figure: "Figure", handles: Sequence[Any], names: Sequence[str], columns: int) -> None:
    """The legend of the runs, above the panels. A name is shown as it is, with $ and with _ in front."""
    legend = figure.legend(handles, [""] * len(names), loc="outside upper left", ncols=columns)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set(text=name, parse_math=False)


def encode(figure: "Figure", suffix: str) -> tuple[bytes, str]:
    """The figure as a file of FORMATS, and its size in words."""
    from matplotlib import style

    encoded = BytesIO()
    with style.context(["default", STYLE]):
        figure.savefig(encoded, format=suffix[1:], metadata=FORMATS[suffix])
    if suffix != ".png":
        width, height = figure.get_size_inches()
        return encoded.getvalue(), f"{width:g} x {height:.1f} inches"
    with Image.open(encoded) as page:  # few colors: with a palette a third of the bytes
        few = page.convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    encoded = BytesIO()
    few.save(encoded, "PNG", optimize=True, dpi=(DPI, DPI))
    return encoded.getvalue(), f"{few.width} x {few.height} pixels"
