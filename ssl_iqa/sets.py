"""The labeled sets of Section 4.1: pictures with opinion scores, as they lie on disk.

A labeled set is named by a spec, such as `demo` or `kadid10k:DIR`: see `load_labeled`. All scores are mapped to
[1, 10], higher is better (Section 4.1: "MOS are scaled to a standard range of [1, 10]"), each published set's linearly
from a fixed scale, whichever pictures are there. Nothing is clipped: a score off its scale is an error.
"""

import csv
import io
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from ssl_iqa.data import in_any_case, in_utf8
from ssl_iqa.distortions import DISTORTIONS

DEMO_FOLDER = Path(__file__).parent / "demo_photos"
DEMO_REDUCE = 2  # 384x288 -> 192x144 before anything else: a quarter of the work, and a crop shows more of the picture
LEVELS = 5  # of each distortion type (Section 3.1)

# TID2013's 24 types in the order of their numbers (its readme, Table I), by Appendix A's names where they are among its
# 25, otherwise by their own.
TID2013_TYPES = (
    *("white_noise", "white_noise_color_component", "spatially_correlated_noise", "masked_noise"),
    *("high_frequency_noise", "impulse_noise", "quantization_noise", "gaussian_blur", "denoise", "jpeg", "jpeg2000"),
    *("jpeg_transmission_errors", "jpeg2000_transmission_errors", "non_eccentricity_patch"),
    *("local_block_wise_distortions", "mean_shift", "contrast_change", "change_of_color_saturation"),
    *("multiplicative_noise", "comfort_noise", "lossy_compression_of_noisy_images", "color_quantization"),
    *("chromatic_aberrations", "sparse_sampling_and_reconstruction"),
)
# LIVE's folders in the order of its arrays, each with the type in it and its number of pictures (its readme).
LIVE_FOLDERS = {
    "jp2k": ("jpeg2000", 227),
    "jpeg": ("jpeg", 233),
    "wn": ("white_noise", 174),
    "gblur": ("gaussian_blur", 174),
    "fastfading": ("fast_fading", 174),
}
# CSIQ's types as its sheet calls them, each with the type's name here and in the names of its files.
CSIQ_TYPES = {
    "noise": ("white_noise", "AWGN"),
    "blur": ("gaussian_blur", "BLUR"),
    "contrast": ("contrast", "contrast"),
    "fnoise": ("fnoise", "fnoise"),
    "jpeg": ("jpeg", "JPEG"),
    "jpeg 2000": ("jpeg2000", "jpeg2000"),
}
CLIVE_PRACTICE = 7  # its first pictures, which observers were trained with: its papers leave them out (1162 of 1169)
KONIQ_PARTS = {"training": "train", "validation": "val", "test": "test"}  # the column `set` of the published split

Rows = list[tuple[str, dict[str, str]]]  # of a table: where a row stands, such as "line 3", and its cells by column


@dataclass(frozen=True)
class LabeledSet:
    """Pictures with quality scores, {x_i, y_i} of Section 3.2; every list has one entry a picture.

    `references` groups pictures of the same content, which a split must keep together; where a picture has no
    reference it is its own. `distortions` and `levels` (1..5) are what was done to it, None where the set does not
    say; a type is called as in Appendix A where it is one of these. `classes` is None but for the demo: there `paths`
    are undistorted photographs, and the picture is what distortion class `classes[i]` (0..124) makes of one.
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
    reduce: int = 1  # pictures are averaged over reduce x reduce pixels when they are read
    official_split: dict[str, list[str]] | None = None  # of train, val and test


def load_labeled(spec: str) -> LabeledSet:
    """The labeled set that a spec names.

    - `demo`: the package's own photographs in all 125 distortion classes, each with the mean opinion that KADID-10k
      gives its class. These are class means, not opinions of these pictures.
    - `kadid10k:DIR`: `dmos.csv` and `images/`. Its `dmos`, 1 to 5, is a mean opinion: higher is better.
    - `koniq10k:DIR`: `koniq10k_scores_and_distributions.csv`, or the older `koniq10k_scores.csv`, and `512x384/`, or
      else `1024x768/`. The score is `MOS_zscore`, 0 to 100; in a file without that column `MOS`, 1 to 5.
      `koniq10k_distributions_sets.csv` has the official split; where it is the only file, its `MOS` is the score. It is
      the same as `MOS_zscore`, 0 to 100.
    - `tid2013:DIR`: `mos_with_names.txt` and `distorted_images/`, whose names differ in case between list and disk. The
      score is the MOS, 0 to 9 (its readme), higher is better.
    - `live:DIR`, release 2: `dmos_realigned.mat`, `refnames_all.mat` and `jp2k/`, `jpeg/`, `wn/`, `gblur/`,
      `fastfading/`. The score is `dmos_new`, differential: lower is better, so it is turned. Its scale is about 0 to
      100, but realigning took some scores off it. -3 becomes 10 and 112 becomes 1, whole numbers that enclose all that
      are published (-2.6 to 111.8). The 203 entries with `orgs` 1 are undistorted and left out.
    - `csiq:DIR`: `csiq.DMOS.xlsx` and `dst_imgs/`, with or without a folder for each type. The score is `dmos` of the
      sheet `all_by_image`, 0 to 1, differential, so it is turned: 0 becomes 10. Needs the extra `[sets]`.
    - `clive:DIR`, LIVE In the Wild: `Data/AllImages_release.mat`, `Data/AllMOS_release.mat` and `Images/`. The score
      is the MOS, 0 to 100, higher is better. The first 7 pictures were for practice and are left out.
    - `spaq:DIR`: `MOS and Image attribute scores.xlsx`, in `Annotations/` or in DIR, and `TestImage/`. The score is
      `MOS`, 0 to 100, higher is better. Needs the extra `[sets]`.
    - `csv:FILE`: own scores, higher is better, in the columns `image` (a path from the file's folder) and `score`;
      optional are `reference` and `distortion`, where a cell may be empty. Commas, semicolons or tabs separate
      them. An image without a reference is its own, one for all rows of the same file. The lowest score of all becomes
      1 and the highest 10, whichever part they fall into.

    Raises ValueError for an unknown spec, for a file whose content is not as said and where an extra is missing,
    FileNotFoundError for files that are missing; each names the file, and the place in it where there is one.
    """
    kind, _, place = spec.partition(":")
    if spec == "demo":
        return _load_demo()
    if kind not in LOADERS or ":" not in spec:
        raise ValueError(f"{spec!r}: no labeled set; wanted is {SPECS}")
    if not place:
        raise ValueError(f"{spec!r}: no path after the colon; wanted is {kind}:{'FILE' if kind == 'csv' else 'DIR'}")
    return LOADERS[kind](spec, Path(place).expanduser())  # a shell leaves the ~ in csv:~/scores.csv as it is


def _load_kadid(spec: str, folder: Path) -> LabeledSet:
    table = in_any_case(folder, "dmos.csv")
    rows = _read_csv(table, ("dist_img", "ref_img", "dmos"))
    images = _folder(folder, "images", "KADID-10k")

    types, levels = [], []
    for place, row in rows:
        match = re.fullmatch(r"I\d+_(\d\d)_(\d\d)\.png", row["dist_img"])
        if not match or not 1 <= int(match[1]) <= len(DISTORTIONS) or not 1 <= int(match[2]) <= LEVELS:
            raise ValueError(
                f"{table}, {place}: {row['dist_img']!r} is no KADID-10k picture; wanted is"
                f" Iref_type_level.png with a type of 01 to {len(DISTORTIONS)} and a level of 01 to 0{LEVELS}"
            )
        types.append(int(match[1]))
        levels.append(int(match[2]))

    names = list(DISTORTIONS)
    return LabeledSet(
        name=spec,
        paths=_picture_paths(table, rows, _in_any_case([images], [row["dist_img"] for _, row in rows])),
        scores=_scores(table, rows, "dmos", 1, 5),
        score_range=(1, 5),
        references=[row["ref_img"] for _, row in rows],
        distortions=[names[number - 1] for number in types],
        levels=levels,
    )


def _load_koniq(spec: str, folder: Path) -> LabeledSet:
    names = ("koniq10k_scores_and_distributions.csv", "koniq10k_scores.csv", "koniq10k_distributions_sets.csv")
    tables = [in_any_case(folder, name) for name in names]
    table = next((table for table in tables if table.exists()), None)
    if table is None:
        raise FileNotFoundError(
            f"{tables[0]}: no such file, nor {names[1]} or {names[2]}; KonIQ-10k's scores are wanted"
        )
    rows = _read_csv(table, ("image_name",))
    column, low, high = ("MOS_zscore", 0, 100) if "MOS_zscore" in rows[0][1] else ("MOS", 1, 5)
    if table == tables[2]:
        low, high = 0, 100
    if column not in rows[0][1]:
        raise ValueError(f"{table}, line 1: no column MOS_zscore or MOS; its columns are {', '.join(rows[0][1])}")

    images = in_any_case(folder, "512x384")
    if not images.is_dir():
        images = in_any_case(folder, "1024x768")
    if not images.is_dir():
        raise FileNotFoundError(f"{folder}: no folder 512x384 or 1024x768 in it; KonIQ-10k's pictures are wanted there")
    references = [row["image_name"] for _, row in rows]
    return LabeledSet(
        name=spec,
        paths=_picture_paths(table, rows, _in_any_case([images], references)),
        scores=_scores(table, rows, column, low, high),
        score_range=(low, high),
        references=references,
        official_split=_koniq_split(tables[2], references) if tables[2].exists() else None,
    )


def _koniq_split(table: Path, references: list[str]) -> dict[str, list[str]]:
    """The published split, 7058, 1000 and 2015 of all pictures, of those that are there."""
    part_of = {}
    for place, row in _read_csv(table, ("image_name", "set")):
        if row["set"] not in KONIQ_PARTS:
            raise ValueError(f"{table}, {place}: the set is {row['set']!r}, wanted is one of {', '.join(KONIQ_PARTS)}")
        part_of[row["image_name"]] = KONIQ_PARTS[row["set"]]
    split: dict[str, list[str]] = {part: [] for part in KONIQ_PARTS.values()}
    for name in sorted(references):
        if name not in part_of:
            raise ValueError(f"{table}: no row for {name}, which has a score; wanted is one for each picture")
        split[part_of[name]].append(name)
    for name, part in KONIQ_PARTS.items():
        if not split[part]:
            raise ValueError(f"{table}: none of the pictures with a score is in the set {name}; wanted is at least one")
    return split


def _load_tid2013(spec: str, folder: Path) -> LabeledSet:
    table = _file(folder, "mos_with_names.txt", "TID2013")
    rows, references, types, levels = [], [], [], []
    for line, text in enumerate(table.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not text.strip():
            continue
        match = re.fullmatch(r"\s*(\S+)\s+([iI](\d\d)_(\d\d)_([1-5])\.(?:bmp|BMP))\s*", text)
        if not match or not 1 <= int(match[4]) <= len(TID2013_TYPES):
            raise ValueError(
                f"{table}, line {line}: {text.strip()!r} is no row of TID2013; wanted are a score and a picture"
                f" iREFERENCE_TYPE_LEVEL.bmp with a type of 01 to {len(TID2013_TYPES)} and a level of 1 to {LEVELS}"
            )
        rows.append((f"line {line}", {"MOS": match[1], "picture": match[2]}))
        references.append(f"I{match[3]}")
        types.append(TID2013_TYPES[int(match[4]) - 1])
        levels.append(int(match[5]))
    if not rows:
        raise ValueError(f"{table}: no rows; wanted is one for each picture")
    images = _folder(folder, "distorted_images", "TID2013")
    return LabeledSet(
        name=spec,
        paths=_picture_paths(table, rows, _in_any_case([images], [row["picture"] for _, row in rows])),
        scores=_scores(table, rows, "MOS", 0, 9),
        score_range=(0, 9),
        references=references,
        distortions=types,
        levels=levels,
    )


def _load_live(spec: str, folder: Path) -> LabeledSet:
    table = _file(folder, "dmos_realigned.mat", "LIVE")
    dmos, is_reference = _read_mat(table, "dmos_new"), _read_mat(table, "orgs")
    references = _read_mat(_file(folder, "refnames_all.mat", "LIVE"), "refnames_all")
    pictures = []
    for kind, (_, number) in LIVE_FOLDERS.items():
        names = [f"img{i}.bmp" for i in range(1, number + 1)]
        pictures += [(path, kind) for path in _in_any_case([in_any_case(folder, kind)], names)]
    if not len(dmos) == len(is_reference) == len(references) == len(pictures):
        counts = f"{len(dmos)} scores, {len(is_reference)} orgs and {len(references)} names of references"
        raise ValueError(f"{table}: {counts}; LIVE's release 2 has {len(pictures)} of each")
    kept = [i for i in range(len(pictures)) if not is_reference[i]]
    rows = [(f"entry {i + 1}", {"dmos_new": str(dmos[i])}) for i in kept]
    return LabeledSet(
        name=spec,
        paths=_picture_paths(table, rows, [pictures[i][0] for i in kept]),
        scores=_scores(table, rows, "dmos_new", 112, -3),
        score_range=(112, -3),
        references=[str(references[i]) for i in kept],
        distortions=[LIVE_FOLDERS[pictures[i][1]][0] for i in kept],
    )


def _load_csiq(spec: str, folder: Path) -> LabeledSet:
    table = _file(folder, "csiq.DMOS.xlsx", "CSIQ")
    rows = _read_sheet(table, "all_by_image", ("image", "dst_type", "dst_lev", "dmos"))
    for place, row in rows:
        if row["dst_type"] not in CSIQ_TYPES or row["dst_lev"] not in tuple("12345"):
            raise ValueError(
                f"{table}, {place}: {row['dst_type']!r} at level {row['dst_lev']!r} is no distortion of CSIQ; wanted is"
                f" {', '.join(CSIQ_TYPES)} at 1 to {LEVELS}"
            )
    images = _folder(folder, "dst_imgs", "CSIQ")
    names = [f"{row['image']}.{CSIQ_TYPES[row['dst_type']][1]}.{row['dst_lev']}.png" for _, row in rows]
    return LabeledSet(
        name=spec,
        paths=_picture_paths(table, rows, _in_any_case([images, *images.iterdir()], names)),
        scores=_scores(table, rows, "dmos", 1, 0),
        score_range=(1, 0),
        references=[f"{row['image']}.png" for _, row in rows],
        distortions=[CSIQ_TYPES[row["dst_type"]][0] for _, row in rows],
        levels=[int(row["dst_lev"]) for _, row in rows],
    )


def _load_clive(spec: str, folder: Path) -> LabeledSet:
    table = _file(in_any_case(folder, "Data"), "AllMOS_release.mat", "LIVE In the Wild")
    names_table = _file(in_any_case(folder, "Data"), "AllImages_release.mat", "LIVE In the Wild")
    mos, names = _read_mat(table, "AllMOS_release"), _read_mat(names_table, "AllImages_release")
    if len(mos) != len(names) or len(mos) <= CLIVE_PRACTICE:
        wanted = f"as many of each are wanted, and more than the {CLIVE_PRACTICE} for practice"
        raise ValueError(f"{table}: {len(mos)} scores of {len(names)} pictures; {wanted}")
    rows = [(f"entry {i + 1}", {"MOS": str(mos[i])}) for i in range(CLIVE_PRACTICE, len(mos))]
    names = [str(name) for name in names[CLIVE_PRACTICE:]]
    images = _folder(folder, "Images", "LIVE In the Wild")
    return LabeledSet(
        name=spec,
        paths=_picture_paths(table, rows, _in_any_case([images], names)),
        scores=_scores(table, rows, "MOS", 0, 100),
        score_range=(0, 100),
        references=names,
    )


def _load_spaq(spec: str, folder: Path) -> LabeledSet:
    name = "MOS and Image attribute scores.xlsx"
    annotations = in_any_case(folder, "Annotations")
    is_beside = in_any_case(folder, name).is_file() and not in_any_case(annotations, name).is_file()
    table = _file(folder if is_beside else annotations, name, "SPAQ")
    rows = _read_sheet(table, None, ("Image name", "MOS"))
    images = _folder(folder, "TestImage", "SPAQ")
    return LabeledSet(
        name=spec,
        paths=_picture_paths(table, rows, _in_any_case([images], [row["Image name"] for _, row in rows])),
        scores=_scores(table, rows, "MOS", 0, 100),
        score_range=(0, 100),
        references=[row["Image name"] for _, row in rows],
    )


def _load_csv(spec: str, table: Path) -> LabeledSet:
    rows = _read_csv(table, ("image", "score"))
    own = [_number(table, place, row["score"]) for place, row in rows]
    low, high = min(own), max(own)
    if low == high:
        raise ValueError(f"{table}: every score is {low:g}; wanted are scores that differ")
    paths = _picture_paths(table, rows, [table.parent / row["image"] for _, row in rows])
    return LabeledSet(
        name=spec,
        paths=paths,
        scores=_scores(table, rows, "score", low, high),
        score_range=(low, high),
        references=_own_references(table, rows, paths),
        distortions=[row["distortion"] for _, row in rows] if "distortion" in rows[0][1] else None,
    )


def _own_references(table: Path, rows: Rows, paths: Sequence[str]) -> list[str]:
    """An own set's references: the column's, or else the image itself, which is one however its rows name the file.

    A file is told by its number on the disk: neither ./ nor a link nor another case makes it two references, one in
    the training and one in the test part. Raises ValueError for a file that the column gives two.
    """
    files = [(status.st_dev, status.st_ino) for status in map(os.stat, paths)]
    named: dict[tuple[int, int], str] = {}
    given: dict[tuple[int, int], str] = {}
    for file, (place, row) in zip(files, rows, strict=True):
        name = os.path.normpath(row["image"])
        named[file] = min(name, named.get(file, name))  # whatever the order of the rows
        reference = row.get("reference") or given.get(file)
        if reference and given.setdefault(file, reference) != reference:
            raise ValueError(
                f"{table}, {place}: the reference of {row['image']} must be that of the same file above,"
                f" {given[file]!r}, got {reference!r}"
            )
    return [given.get(file) or named[file] for file in files]


def _load_demo() -> LabeledSet:
    table = DEMO_FOLDER / "kadid_class_means.csv"
    rows = _read_csv(table, ("type", "level", "mean_opinion"))  # in the order of the distortion classes
    sources = demo_sources()
    names = list(DISTORTIONS)
    return LabeledSet(
        name="demo",
        paths=[path for path in sources for _ in rows],
        scores=_scores(table, rows, "mean_opinion", 1, 5) * len(sources),
        score_range=(1, 5),
        references=[source for source in sources.values() for _ in rows],
        distortions=[names[int(row["type"]) - 1] for _, row in rows] * len(sources),
        levels=[int(row["level"]) for _, row in rows] * len(sources),
        classes=list(range(len(rows))) * len(sources),
        reduce=DEMO_REDUCE,
    )


def demo_sources() -> dict[str, str]:
    """The demo's 67 photographs, by path, and the one of 40 sources that each was cut from.

    They are the demo's unlabeled pictures and, distorted, its labeled ones. Two parts of one photograph share their
    source: split both streams by it.
    """
    rows = _read_csv(DEMO_FOLDER / "CREDITS.csv", ("image", "source"))
    return dict(sorted((str(DEMO_FOLDER / row["image"]), row["source"]) for _, row in rows))


LOADERS: dict[str, Callable[[str, Path], LabeledSet]] = {
    "kadid10k": _load_kadid,
    "koniq10k": _load_koniq,
    "tid2013": _load_tid2013,
    "live": _load_live,
    "csiq": _load_csiq,
    "clive": _load_clive,
    "spaq": _load_spaq,
    "csv": _load_csv,
}
SPECS = f"demo, {', '.join(f'{kind}:DIR' for kind in LOADERS if kind != 'csv')} or csv:FILE"


def _file(folder: Path, name: str, of: str) -> Path:
    path = in_any_case(folder, name)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; it is wanted as in the published {of}")
    return path


def _folder(folder: Path, name: str, of: str) -> Path:
    path = in_any_case(folder, name)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such folder; {of}'s pictures are wanted in it")
    return path


def _read_csv(table: Path, columns: Sequence[str]) -> Rows:
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


def _read_sheet(table: Path, sheet: str | None, columns: Sequence[str]) -> Rows:
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


def _read_mat(table: Path, variable: str) -> list:
    """A vector of a MATLAB file, numbers or strings."""
    try:
        content = loadmat(table, variable_names=[variable], squeeze_me=True)
    except Exception as error:  # on other files scipy raises nearly every type there is
        raise ValueError(f"{table}: no readable MATLAB file ({error!r})") from error
    if variable not in content:
        raise ValueError(f"{table}: no variable {variable} in it")
    return np.atleast_1d(content[variable]).ravel().tolist()


def _in_any_case(folders: Sequence[Path], names: Sequence[str]) -> list[Path]:
    """Where pictures are in folders, as they are named or in another case; one that is not there as in the first."""
    paths = [folders[0] / name for name in names]
    if all(path.is_file() for path in paths):
        return paths
    found = {path.name.lower(): path for folder in folders if folder.is_dir() for path in folder.iterdir()}
    return [path if path.is_file() else found.get(path.name.lower(), path) for path in paths]


def _picture_paths(table: Path, rows: Rows, paths: Sequence[Path]) -> list[str]:
    missing = [i for i, path in enumerate(paths) if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{table}, {rows[missing[0]][0]}: no picture {paths[missing[0]]};"
            f" {len(missing)} of the {len(paths)} pictures listed are missing"
        )
    return [str(path) for path in paths]


def _number(table: Path, place: str, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{table}, {place}: the score is {cell!r}, wanted is a finite number")
    return value


def _scores(table: Path, rows: Rows, column: str, worst: float, best: float) -> list[float]:
    """A column's scores, mapped linearly from worst .. best to 1 .. 10; differential scores are best when lowest."""
    low, high = sorted((worst, best))
    scores = []
    for place, row in rows:
        score = _number(table, place, row[column])
        if not low <= score <= high:
            raise ValueError(f"{table}, {place}: {column} is {score:g}, wanted is {low:g} to {high:g}")
        scores.append(1 + 9 * (score - worst) / (best - worst))
    return scores
