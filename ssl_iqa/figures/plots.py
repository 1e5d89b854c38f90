"""What figures share: images of a set, and, where matplotlib draws, their style, their formats and the names of runs.

matplotlib is the extra `[figures]`; pyplot, which would open windows, is never used.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from math import ceil
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from torch import Tensor

from ssl_iqa.data.datasets import name_skipped
from ssl_iqa.data.in_order import LabeledImages
from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.engine import console

if TYPE_CHECKING:  # an extra: what draws imports it
    from matplotlib.axes import Axes  # noqa: F401 - for the other modules
    from matplotlib.figure import Figure

Content = TypeVar("Content")

# By suffix, what is written beside the drawing: no date, so that the same logs give the same bytes.
FORMATS: dict[str, dict[str, None]] = {".png": {}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
WIDTH = 8  # of a figure, in inches: 1200 pixels
LETTERS, LEGEND_ROW = 15, 0.18  # of the runs' legend: what fits in an inch, and its rows' height in inches

# The colors of Okabe and Ito (2008), chosen to be told apart by the color-blind, without the yellow, faint on white.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = "os^Dv"  # of the dots: when the colors are used up they come again with another marker
DARK, GRAY = "#1a1a1a", "#6b6b6b"
STYLE = ["default", Path(__file__).with_name("figures.mplstyle")]  # whatever the reader's own settings are


def of_images(labeled: LabeledSet, indices: Sequence[int], make: Callable[[Tensor], Content]) -> dict[int, Content]:
    """What `make` gives for each image, bytes [3, H, W], by index. Files that cannot be read are named and left out.

    Raises ValueError where none is left.
    """
    contents = {}
    for index, image in console.bar(LabeledImages(labeled, indices), "images"):
        if image is not None:
            contents[index] = make(image)
    name_skipped((labeled.paths[i] for i in {*indices} - {*contents}), set())
    if not contents:
        raise ValueError(f"{labeled.name}: none of its {len(indices)} images can be read")
    return contents


@contextmanager
def new_figure(height: float, width: float = WIDTH) -> Iterator["Figure"]:
    """An empty figure, in inches, to be drawn on within."""
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(STYLE):
        yield Figure((width, height))


def read_runs(folders: Sequence[Path], read: Callable[[Path], Content]) -> dict[str, Content]:
    """What `read` finds in each folder, by the last parts of its path, as few as tell all apart.

    An end that all share is left out. runs/a, runs/b: a, b; 0/joint, 1/joint: 0, 1; x/a, x/b, y/a: x/a, x/b, y/a.
    Raises ValueError for a folder that is given twice.
    """
    paths = [Path(os.path.abspath(folder)).parts for folder in folders]
    if len({*paths}) < len(paths):
        raise ValueError(f"each RUN must be given once, got {', '.join(map(str, folders))}")
    while len(paths) > 1 and len({parts[-1] for parts in paths}) == 1:
        paths = [parts[:-1] for parts in paths]
    candidates = (["/".join(parts[-length:]) for parts in paths] for length in count(1))
    names = next(names for names in candidates if len({*names}) == len(names))
    return dict(zip(names, map(read, folders), strict=True))


def name_runs(figure: "Figure", handles: Sequence[Any], names: Sequence[str]) -> None:
    """The legend of the runs, above the panels. A name is shown as it is, with $ and with _ in front."""
    width, height = figure.get_size_inches()
    columns = max(1, int(LETTERS * width / (max(map(len, names)) + 8)))  # 8: a line and the space around it
    figure.set_figheight(height + ceil(len(names) / columns) * LEGEND_ROW)
    legend = figure.legend(handles, [""] * len(names), loc="outside upper left", ncols=columns)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set(text=name, parse_math=False)


def save(figure: "Figure", suffix: str, file: IO[bytes]) -> None:
    """Writes a figure in the format of FORMATS."""
    from matplotlib import style

    with style.context(STYLE):
        figure.savefig(file, format=suffix[1:], metadata=FORMATS[suffix])
