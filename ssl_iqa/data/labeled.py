"""A labeled set, and the tables of published and own ones: CSV files, spreadsheets, MATLAB files."""

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.io import loadmat
from torch import Tensor

from ssl_iqa.data.images import in_any_case, in_utf8, read_image, reduced
from ssl_iqa.data.views import to_bytes, to_float
from ssl_iqa.distortions import KADIS, distort_as


@dataclass(frozen=True)
class LabeledSet:
    """Images with quality scores, {x_i, y_i} of Section 3.2; every list has one entry an image.

    `references` groups images of the same content, which a split must keep together; an image without a reference is
    its own. `distortions` and `levels` (1..5) are what was done to it, None where the set does not say; a type has its
    name in Appendix A where it is one of these. `classes` is None but for the demo: there `paths` are undistorted
    photographs, and the image is what distortion class `classes[i]` (0..124) makes of one, which `kept` holds once
    `in_order.make_all` has distorted it. Images are reduced to `long_side` pixels when they are read, and to `size`,
    last of all, by `datasets.labeled_image`: copies that `dataclasses.replace` makes at other sizes share `kept`.
    `official_split` is the published split of the references, sorted, no part of it empty; None where there is none.
    """

    name: str  # the spec
    paths: list[str]
    scores: list[float]  # in [1, 10], higher is better
    score_range: tuple[float, float]  # what 1 and 10 stand for on the set's own scale; falling for differential scores
    references: list[str]
    distortions: list[str] | None = None
    levels: list[int] | None = None
    classes: list[int] | None = None
    official_split: dict[str, list[str]] | None = None  # of train, val and test
    long_side: int = 0  # 0: as they are
    size: tuple[int, int] | None = None  # height and width; None: as they are
    kept: dict[int, Tensor] = field(default_factory=dict, repr=False, compare=False)  # bytes, by index

    def read(self, index: int) -> Tensor:
        """x_i of Section 3.2, uint8 [3, H, W]. Raises OSError or UnreadableImage."""
        image = reduced(read_image(self.paths[index]), self.long_side)
        if self.classes is None:
            return image
        generator = torch.Generator().manual_seed(index)  # always alike
        return to_bytes(distort_as(to_float(image), KADIS[self.classes[index]], generator))


@dataclass(frozen=True)
class Table:
    path: Path
    rows: list[tuple[str, dict[str, str]]]  # where a row stands, such as "line 3", and its cells by column
    may_have_decimal_commas: bool = False

    def __post_init__(self) -> None:
        if not self.rows:
            raise ValueError(f"{self.path}: must have a row for each image, got none")

    def column(self, name: str) -> list[str]:
        return [row[name] for _, row in self.rows]


def find(folder: Path, *names: str) -> Path:
    """The first of a set's files or folders that is there, as named or in another case. Raises FileNotFoundError."""
    for name in names:
        path = reduce(in_any_case, name.split("/"), folder)
        if path.exists():
            return path
    kind, others = "file" if "." in names[0] else "folder", "".join(f", nor {name}" for name in names[1:])
    raise FileNotFoundError(f"{folder / names[0]}: no such {kind}{others}")


def read_csv(path: Path, columns: Sequence[str]) -> Table:
    """A CSV file; blank lines are left out. Each of `columns` is there, and each row has all cells.

    Cells are separated by commas, semicolons or tabs, whichever the header has most of. Where it is not commas, numbers
    may have decimal commas, as spreadsheets write them in much of Europe.
    """
    try:
        text = in_utf8(path.read_bytes()).decode("utf-8")
        separator = max(",;\t", key=text.partition("\n")[0].count)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        rows = [(f"line {reader.line_num}", [*map(str.strip, cells)]) for cells in reader if cells]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: must be a CSV file in UTF-8 ({error})") from error
    header = rows.pop(0)[1] if rows else []
    if any(header.count(column) != 1 for column in columns):
        got = separator.join(header) or "nothing"
        raise ValueError(f"{path}, line 1: the header must have {', '.join(columns)}, each once, got {got}")
    for place, cells in rows:
        if len(cells) != len(header):
            raise ValueError(f"{path}, {place}: must have {len(header)} cells, got {len(cells)}")
    return Table(path, [(place, dict(zip(header, cells, strict=True))) for place, cells in rows], separator != ",")


def read_xlsx(path: Path, sheet: str | None, columns: Sequence[str]) -> Table:
    """An .xlsx file's sheet, the first one without a name, below the row that has all of `columns`.

    Only these columns are read; rows where they are all empty are left out.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise ValueError(f"{path}: .xlsx files need the openpyxl library: pip install 'ssl_iqa[sets]'") from error
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        content = list((book[sheet] if sheet else book.worksheets[0]).iter_rows(values_only=True))
        book.close()
    except Exception as error:  # on other files openpyxl raises errors of zip files, XML and its own
        raise ValueError(f"{path}: must be an .xlsx file with the published sheets ({error!r})") from error
    top = next((i for i, cells in enumerate(content) if set(columns) <= set(cells)), None)
    if top is None:
        raise ValueError(f"{path}: must have a row with the columns' names, which are {', '.join(columns)}")
    rows = []
    for number, cells in enumerate(content[top + 1 :], top + 2):  # as a spreadsheet counts, from 1
        by_name = dict(zip(content[top], cells, strict=True))
        row = {column: "" if by_name[column] is None else str(by_name[column]).strip() for column in columns}
        if any(row.values()):
            rows.append((f"row {number}", row))
    return Table(path, rows)


def read_mat(path: Path, variable: str) -> list[str]:
    """A vector of a MATLAB file, numbers or strings."""
    try:
        content = loadmat(path, variable_names=[variable], squeeze_me=True)
    except Exception as error:  # on other files scipy raises nearly every type there is
        raise ValueError(f"{path}: must be a MATLAB file ({error!r})") from error
    if variable not in content:
        raise ValueError(f"{path}: must have a variable {variable}")
    return [str(value) for value in np.atleast_1d(content[variable]).ravel().tolist()]


def paths_in(folder: Path, names: Sequence[str]) -> list[Path]:
    """Paths of images in a folder: as named, or in another case or a folder below it; of a missing one as named."""
    paths = [folder / name for name in names]
    if not all(path.is_file() for path in paths):
        by_name = {path.name.lower(): path for path in folder.rglob("*")}
        paths = [path if path.is_file() else by_name.get(path.name.lower(), path) for path in paths]
    return paths


def types_and_levels(table: Table, column: str, suffix: str, types: Sequence[str]) -> dict[str, list]:
    """A LabeledSet's `distortions` and `levels` by the names of its images, such as I01_25_05.png.

    A type is a number, counted in `types` from 1.
    """
    distortions, levels = [], []
    for place, row in table.rows:
        match = re.fullmatch(rf"I\d+_(\d\d)_0?([1-5])\.{suffix}", row[column], re.IGNORECASE)
        if not match or not 1 <= int(match[1]) <= len(types):
            form = f"I<reference>_<type>_<level>.{suffix}, the type 01 to {len(types)}, the level 1 to 5"
            raise ValueError(f"{table.path}, {place}: the image must be {form}, got {row[column]!r}")
        distortions.append(types[int(match[1]) - 1])
        levels.append(int(match[2]))
    return {"distortions": distortions, "levels": levels}


def numbers(table: Table, column: str) -> list[float]:
    cells, values = table.column(column), []
    if table.may_have_decimal_commas and not any("." in cell for cell in cells):
        cells = [cell.replace(",", ".") for cell in cells]
    for (place, row), cell in zip(table.rows, cells, strict=True):
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(f"{table.path}, {place}: {column} must be a finite number, got {row[column]!r}")
        values.append(value)
    return values


def mapped_scores(table: Table, column: str, score_range: tuple[float, float]) -> list[float]:
    """A column's scores, mapped linearly from worst .. best to 1 .. 10; differential scores are best when lowest."""
    (worst, best), (low, high) = score_range, sorted(score_range)
    scores = numbers(table, column)
    if not math.isfinite(best - worst):
        raise ValueError(f"{table.path}: {column} must span less, got {low:g} to {high:g}")
    for (place, _), score in zip(table.rows, scores, strict=True):
        if not low <= score <= high:
            raise ValueError(f"{table.path}, {place}: {column} must be {low:g} to {high:g}, got {score:g}")
    return [1 + 9 * (score - worst) / (best - worst) for score in scores]


def labeled_set(
    spec: str,
    table: Table,
    column: str,
    score_range: tuple[float, float],
    paths: Sequence[Path],
    references: list[str],
    **others: Any,
) -> LabeledSet:
    """The set of a table, an image a row; `others` are further fields of LabeledSet."""
    missing = [i for i, path in enumerate(paths) if not path.is_file()]
    if missing:
        place, counts = table.rows[missing[0]][0], f"{len(missing)} of the {len(paths)} images listed are missing"
        raise FileNotFoundError(f"{table.path}, {place}: no such file: {paths[missing[0]]}; {counts}")
    scores = mapped_scores(table, column, score_range)
    return LabeledSet(spec, [*map(str, paths)], scores, score_range, references, **others)
