"""The labeled sets of Section 4.1: pictures with opinion scores, as they lie on disk.

A labeled set is named by a spec: `demo`, `kadid10k:DIR`, `koniq10k:DIR` or `csv:FILE`. All scores are mapped to
[1, 10], higher is better (Section 4.1: "MOS are scaled to a standard range of [1, 10]").
"""

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ssl_iqa.distortions import DISTORTIONS

DEMO_FOLDER = Path(__file__).parent / "demo_photos"
DEMO_REDUCE = 2  # 384x288 -> 192x144 before anything else: a quarter of the work, and a crop shows more of the picture
LEVELS = 5  # of each distortion type (Section 3.1)

Rows = list[tuple[int, dict[str, str]]]  # of a CSV file: the line number and the cells by column


@dataclass(frozen=True)
class LabeledSet:
    """Pictures with quality scores, {x_i, y_i} of Section 3.2; every list has one entry a picture.

    `references` groups pictures of the same content, which a split must keep together; where a picture has no
    reference it is its own. `distortions` and `levels` (1..5) are what was done to it, None where the set does not
    say. `classes` is None but for the demo: there `paths` are undistorted photographs, and the picture is what
    distortion class `classes[i]` (0..124) makes of one.
    """

    name: str  # the spec
    paths: list[str]
    scores: list[float]  # in [1, 10], higher is better
    score_range: tuple[float, float]  # what 1 and 10 stand for on the set's own scale
    references: list[str]
    distortions: list[str] | None = None
    levels: list[int] | None = None
    classes: list[int] | None = None
    reduce: int = 1  # pictures are averaged over reduce x reduce pixels when they are read


def load_labeled(spec: str) -> LabeledSet:
    """The labeled set that a spec names.

    - `demo`: the package's own photographs in all 125 distortion classes, each with the mean opinion that KADID-10k
      gives its class. These are class means, not opinions of these pictures.
    - `kadid10k:DIR`: `dmos.csv` and `images/`. Its `dmos`, 1 to 5, is a mean opinion: higher is better.
    - `koniq10k:DIR`: `koniq10k_scores_and_distributions.csv`, or the older `koniq10k_scores.csv`, and `512x384/`, or
      else `1024x768/`. The score is `MOS_zscore`, 0 to 100; in a file without that column `MOS`, 1 to 5.
    - `csv:FILE`: own scores, higher is better, in the columns `image` (a path from the file's folder) and `score`;
      optional are `reference` and `distortion`, where a cell may be empty. The file's lowest score becomes 1 and its
      highest 10.

    Raises ValueError for an unknown spec and for a file whose content is not as said, FileNotFoundError for files
    that are missing; each names the file, and the line where there is one.
    """
    kind, _, place = spec.partition(":")
    loaders = {"kadid10k": _load_kadid, "koniq10k": _load_koniq, "csv": _load_csv}
    if spec == "demo":
        return _load_demo()
    if kind not in loaders or ":" not in spec:
        raise ValueError(f"{spec!r}: no labeled set; wanted is demo, kadid10k:DIR, koniq10k:DIR or csv:FILE")
    if not place:
        raise ValueError(f"{spec!r}: no path after the colon; wanted is {kind}:{'FILE' if kind == 'csv' else 'DIR'}")
    return loaders[kind](spec, Path(place).expanduser())  # a shell leaves the ~ in csv:~/scores.csv as it is


def _load_kadid(spec: str, folder: Path) -> LabeledSet:
    table = folder / "dmos.csv"
    rows = _read_rows(table, ("dist_img", "ref_img", "dmos"))
    images = folder / "images"
    if not images.is_dir():
        raise FileNotFoundError(f"{images}: no such folder; KADID-10k's pictures are wanted in it")

    types, levels = [], []
    for line, row in rows:
        match = re.fullmatch(r"I\d+_(\d\d)_(\d\d)\.png", row["dist_img"])
        if not match or not 1 <= int(match[1]) <= len(DISTORTIONS) or not 1 <= int(match[2]) <= LEVELS:
            raise ValueError(
                f"{table}, line {line}: {row['dist_img']!r} is no KADID-10k picture; wanted is"
                f" Iref_type_level.png with a type of 01 to {len(DISTORTIONS)} and a level of 01 to 0{LEVELS}"
            )
        types.append(int(match[1]))
        levels.append(int(match[2]))

    names = list(DISTORTIONS)
    return LabeledSet(
        name=spec,
        paths=_picture_paths(table, rows, "dist_img", images),
        scores=_scores(table, rows, "dmos", 1, 5),
        score_range=(1, 5),
        references=[row["ref_img"] for _, row in rows],
        distortions=[names[number - 1] for number in types],
        levels=levels,
    )


def _load_koniq(spec: str, folder: Path) -> LabeledSet:
    table = folder / "koniq10k_scores_and_distributions.csv"
    older = folder / "koniq10k_scores.csv"
    if not table.exists() and not older.exists():
        raise FileNotFoundError(f"{table}: no such file, nor the older {older.name}; KonIQ-10k's scores are wanted")
    table = table if table.exists() else older
    rows = _read_rows(table, ("image_name",))
    column, low, high = ("MOS_zscore", 0, 100) if "MOS_zscore" in rows[0][1] else ("MOS", 1, 5)
    if column not in rows[0][1]:
        raise ValueError(f"{table}, line 1: no column MOS_zscore or MOS; its columns are {', '.join(rows[0][1])}")

    images = folder / "512x384"
    if not images.is_dir():
        images = folder / "1024x768"
    if not images.is_dir():
        raise FileNotFoundError(f"{folder}: no folder 512x384 or 1024x768 in it; KonIQ-10k's pictures are wanted there")
    return LabeledSet(
        name=spec,
        paths=_picture_paths(table, rows, "image_name", images),
        scores=_scores(table, rows, column, low, high),
        score_range=(low, high),
        references=[row["image_name"] for _, row in rows],
    )


def _load_csv(spec: str, table: Path) -> LabeledSet:
    rows = _read_rows(table, ("image", "score"))
    own = [_number(table, line, row["score"]) for line, row in rows]
    low, high = min(own), max(own)
    if low == high:
        raise ValueError(f"{table}: every score is {low:g}; wanted are scores that differ")
    return LabeledSet(
        name=spec,
        paths=_picture_paths(table, rows, "image", table.parent),
        scores=_scores(table, rows, "score", low, high),
        score_range=(low, high),
        references=[row.get("reference") or row["image"] for _, row in rows],
        distortions=[row["distortion"] for _, row in rows] if "distortion" in rows[0][1] else None,
    )


def _load_demo() -> LabeledSet:
    table = DEMO_FOLDER / "kadid_class_means.csv"
    rows = _read_rows(table, ("type", "level", "mean_opinion"))  # in the order of the distortion classes
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
    rows = _read_rows(DEMO_FOLDER / "CREDITS.csv", ("image", "source"))
    return dict(sorted((str(DEMO_FOLDER / row["image"]), row["source"]) for _, row in rows))


def _read_rows(table: Path, columns: Sequence[str]) -> Rows:
    """A CSV file's rows; blank lines are left out. Each of `columns` is there, and each row has all cells."""
    if not table.exists():
        raise FileNotFoundError(f"{table}: no such file; wanted is a CSV file with columns {', '.join(columns)}")
    rows = []
    with open(table, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        try:
            header = [cell.strip() for cell in next(reader, [])]
            for column in columns:
                if header.count(column) != 1:
                    raise ValueError(
                        f"{table}, line 1: {header.count(column)} columns are called {column}, wanted is one;"
                        f" the header is {','.join(header) or 'empty'}"
                    )
            for cells in reader:
                if cells and len(cells) != len(header):
                    raise ValueError(
                        f"{table}, line {reader.line_num}: {len(cells)} cells, wanted are the header's {len(header)}"
                    )
                if cells:
                    rows.append((reader.line_num, dict(zip(header, map(str.strip, cells), strict=True))))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{table}: not a CSV file in UTF-8 ({error})") from error
    if not rows:
        raise ValueError(f"{table}: no rows below the header; wanted is one for each picture")
    return rows


def _picture_paths(table: Path, rows: Rows, column: str, folder: Path) -> list[str]:
    paths = [folder / row[column] for _, row in rows]
    missing = [i for i, path in enumerate(paths) if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{table}, line {rows[missing[0]][0]}: no picture {paths[missing[0]]};"
            f" {len(missing)} of the {len(paths)} pictures listed are missing"
        )
    return [str(path) for path in paths]


def _number(table: Path, line: int, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{table}, line {line}: the score is {cell!r}, wanted is a finite number")
    return value


def _scores(table: Path, rows: Rows, column: str, low: float, high: float) -> list[float]:
    """A column's scores, mapped linearly from [low, high] to [1, 10]."""
    scores = []
    for line, row in rows:
        score = _number(table, line, row[column])
        if not low <= score <= high:
            raise ValueError(f"{table}, line {line}: {column} is {score:g}, wanted is {low:g} to {high:g}")
        scores.append(1 + 9 * (score - low) / (high - low))
    return scores
