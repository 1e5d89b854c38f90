"""A labeled set, and how the tables are read that published sets and own ones come with."""

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from scipy.io import loadmat
from torch import Tensor

from ssl_iqa.data.images import in_any_case, in_utf8, read_image, reduced
from ssl_iqa.data.views import to_bytes, to_float
from ssl_iqa.distortions import KADIS, distort_as

LEVELS = 5  # of each distortion type (Section 3.1)
Rows = list[tuple[str, dict[str, str]]]  # of a table: where a row stands, such as "line 3", and its cells by column


@dataclass(frozen=True)
class LabeledSet:
    """Pictures with quality scores, {x_i, y_i} of Section 3.2; every list has one entry a picture.

    `references` groups pictures of the same content, which a split must keep together; where a picture has no
    reference it is its own. `distortions` and `levels` (1..5) are what was done to it, None where the set does not
    say; a type is called as in Appendix A where it is one of these. `classes` is None but for the demo: there `paths`
    are undistorted photographs, and the image is what distortion class `classes[i]` (0..124) makes of one, which
    `kept` holds once `datasets.make_all` has made it. Images are reduced to `long_side` pixels when they are read.
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
    kept: dict[int, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)  # bytes, by index

    def read(self, index: int) -> Tensor:
        """x_i of Section 3.2, uint8 [3, H, W]. Raises OSError or UnreadableImage."""
        if index in self.kept:
            return self.kept[index]
        image = reduced(read_image(self.paths[index]), self.long_side)
        if self.classes is None:
            return image
        generator = torch.Generator().manual_seed(index)  # always alike
        return to_bytes(distort_as(to_float(image), KADIS[self.classes[index]], generator))


def find_file(folder: Path, name: str, of: str) -> Path:
    path = in_any_case(folder, name)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; it is wanted as in the published {of}")
    return path


def find_folder(folder: Path, name: str, of: str) -> Path:
    path = in_any_case(folder, name)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such folder; {of}'s pictures are wanted in it")
    return path


def read_csv(table: Path, columns: Sequence[str]) -> Rows:
    """A CSV file's rows; blank lines are left out. Each of `columns` is there, and each row has all cells.

    Cells are separated by commas, semicolons or tabs, whichever give the header these columns. Where it is not commas,
    a column of numbers may have decimal commas, as spreadsheets write them in much of Europe.
    """
    if not table.exists():
        raise FileNotFoundError(f"{table}: no such file; wanted is a CSV file with columns {', '.join(columns)}")
    rows = []
    try:
        text = in_utf8(table.read_bytes()).decode("utf-8")
        separator = _separator(text, columns)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        header = [cell.strip() for cell in next(reader, [])]
        for column in columns:
            if header.count(column) != 1:
                raise ValueError(
                    f"{table}, line 1: {header.count(column)} columns are called {column}, wanted is one;"
                    f" the header is {separator.join(header) or 'empty'}"
                )
        for cells in reader:
            if cells and len(cells) != len(header):
                raise ValueError(
                    f"{table}, line {reader.line_num}: {len(cells)} cells, wanted are the header's {len(header)}"
                )
            if cells:
                rows.append((f"line {reader.line_num}", dict(zip(header, map(str.strip, cells), strict=True))))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{table}: not a CSV file in UTF-8 ({error})") from error
    if not rows:
        raise ValueError(f"{table}: no rows below the header; wanted is one for each picture")
    return rows if separator == "," else _with_decimal_points(rows)


def _separator(text: str, columns: Sequence[str]) -> str:
    """The one of , ; and tab by which a table's header has most of `columns`; the comma, where they are equal."""

    def named(separator: str) -> int:
        header = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), [])
        return len({cell.strip() for cell in header} & set(columns))

    return max(",;\t", key=named)


def _with_decimal_points(rows: Rows) -> Rows:
    """Decimal commas become points in the columns that hold nothing but whole numbers and numbers with such a comma."""
    number = re.compile(r"([+-]?\d+(,\d+)?)?")
    decimal = [name for name in rows[0][1] if all(number.fullmatch(row[name]) for _, row in rows)]
    return [(place, row | {name: row[name].replace(",", ".") for name in decimal}) for place, row in rows]


def read_sheet(table: Path, sheet: str | None, columns: Sequence[str]) -> Rows:
    """The rows of an .xlsx file's sheet, the first one without a name, below the row that has all of `columns`.

    Only these columns are read; rows where they are all empty are left out.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise ValueError(f"{table}: .xlsx files are read with openpyxl: pip install 'ssl_iqa[sets]'") from error
    try:
        book = openpyxl.load_workbook(table, read_only=True, data_only=True)
        content = list((book[sheet] if sheet else book.worksheets[0]).iter_rows(values_only=True))
        book.close()
    except Exception as error:  # on other files openpyxl raises errors of zip files, XML and its own
        raise ValueError(f"{table}: no .xlsx file{f' with a sheet {sheet}' if sheet else ''} ({error!r})") from error
    header = next((i for i, cells in enumerate(content) if set(columns) <= set(cells)), None)
    if header is None:
        raise ValueError(f"{table}: no row has the columns' names; wanted are {', '.join(columns)}")
    places = {column: content[header].index(column) for column in columns}
    rows = []
    for number, cells in enumerate(content[header + 1 :], header + 2):  # as a spreadsheet counts, from 1
        row = {column: "" if cells[place] is None else str(cells[place]).strip() for column, place in places.items()}
        if any(row.values()):
            rows.append((f"row {number}", row))
    if not rows:
        raise ValueError(f"{table}: no rows below the header; wanted is one for each picture")
    return rows


def read_mat(table: Path, variable: str) -> list:
    """A vector of a MATLAB file, numbers or strings."""
    try:
        content = loadmat(table, variable_names=[variable], squeeze_me=True)
    except Exception as error:  # on other files scipy raises nearly every type there is
        raise ValueError(f"{table}: no readable MATLAB file ({error!r})") from error
    if variable not in content:
        raise ValueError(f"{table}: no variable {variable} in it")
    return np.atleast_1d(content[variable]).ravel().tolist()


def paths_in_any_case(folders: Sequence[Path], names: Sequence[str]) -> list[Path]:
    """Where pictures are in folders, as they are named or in another case; one that is not there as in the first."""
    paths = [folders[0] / name for name in names]
    if all(path.is_file() for path in paths):
        return paths
    found = {path.name.lower(): path for folder in folders if folder.is_dir() for path in folder.iterdir()}
    return [path if path.is_file() else found.get(path.name.lower(), path) for path in paths]


def picture_paths(table: Path, rows: Rows, paths: Sequence[Path]) -> list[str]:
    missing = [i for i, path in enumerate(paths) if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{table}, {rows[missing[0]][0]}: no picture {paths[missing[0]]};"
            f" {len(missing)} of the {len(paths)} pictures listed are missing"
        )
    return [str(path) for path in paths]


def to_number(table: Path, place: str, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{table}, {place}: the score is {cell!r}, wanted is a finite number")
    return value


def mapped_scores(table: Path, rows: Rows, column: str, worst: float, best: float) -> list[float]:
    """A column's scores, mapped linearly from worst .. best to 1 .. 10; differential scores are best when lowest."""
    low, high = sorted((worst, best))
    scores = []
    for place, row in rows:
        score = to_number(table, place, row[column])
        if not low <= score <= high:
            raise ValueError(f"{table}, {place}: {column} is {score:g}, wanted is {low:g} to {high:g}")
        scores.append(1 + 9 * (score - worst) / (best - worst))
    return scores
