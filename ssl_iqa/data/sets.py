"""The labeled sets of Section 4.1: pictures with opinion scores, as they lie on disk.

A labeled set is named by a spec, such as `demo` or `kadid10k:DIR`: see `load_labeled`. All scores are mapped to
[1, 10], higher is better (Section 4.1: "MOS are scaled to a standard range of [1, 10]"), each published set's linearly
from a fixed scale, whichever pictures are there. Nothing is clipped: a score off its scale is an error.
"""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ssl_iqa.data.demo import load_demo
from ssl_iqa.data.images import in_any_case
from ssl_iqa.data.labeled import (
    LEVELS,
    LabeledSet,
    Rows,
    find_folder,
    mapped_scores,
    paths_in_any_case,
    picture_paths,
    read_csv,
    to_number,
)
from ssl_iqa.data.other_sets import load_clive, load_csiq, load_live, load_spaq, load_tid2013
from ssl_iqa.distortions import DISTORTIONS

KONIQ_PARTS = {"training": "train", "validation": "val", "test": "test"}  # the column `set` of the published split


def load_labeled(spec: str, long_side: int = 0) -> LabeledSet:
    """The labeled set that a spec names; its images are reduced to a long side when they are read (0: as they are).

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
        return replace(load_demo(), long_side=long_side)
    if kind not in LOADERS or ":" not in spec:
        raise ValueError(f"{spec!r}: no labeled set; wanted is {SPECS}")
    if not place:
        raise ValueError(f"{spec!r}: no path after the colon; wanted is {kind}:{'FILE' if kind == 'csv' else 'DIR'}")
    labeled = LOADERS[kind](spec, Path(place).expanduser())  # a shell leaves the ~ in csv:~/scores.csv as it is
    return replace(labeled, long_side=long_side)


def _load_kadid(spec: str, folder: Path) -> LabeledSet:
    table = in_any_case(folder, "dmos.csv")
    rows = read_csv(table, ("dist_img", "ref_img", "dmos"))
    images = find_folder(folder, "images", "KADID-10k")

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
        paths=picture_paths(table, rows, paths_in_any_case([images], [row["dist_img"] for _, row in rows])),
        scores=mapped_scores(table, rows, "dmos", 1, 5),
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
    rows = read_csv(table, ("image_name",))
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
        paths=picture_paths(table, rows, paths_in_any_case([images], references)),
        scores=mapped_scores(table, rows, column, low, high),
        score_range=(low, high),
        references=references,
        official_split=_koniq_split(tables[2], references) if tables[2].exists() else None,
    )


def _koniq_split(table: Path, references: list[str]) -> dict[str, list[str]]:
    """The published split, 7058, 1000 and 2015 of all pictures, of those that are there."""
    part_of = {}
    for place, row in read_csv(table, ("image_name", "set")):
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


def _load_csv(spec: str, table: Path) -> LabeledSet:
    rows = read_csv(table, ("image", "score"))
    own = [to_number(table, place, row["score"]) for place, row in rows]
    low, high = min(own), max(own)
    if low == high:
        raise ValueError(f"{table}: every score is {low:g}; wanted are scores that differ")
    paths = picture_paths(table, rows, [table.parent / row["image"] for _, row in rows])
    return LabeledSet(
        name=spec,
        paths=paths,
        scores=mapped_scores(table, rows, "score", low, high),
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


LOADERS: dict[str, Callable[[str, Path], LabeledSet]] = {
    "kadid10k": _load_kadid,
    "koniq10k": _load_koniq,
    "tid2013": load_tid2013,
    "live": load_live,
    "csiq": load_csiq,
    "clive": load_clive,
    "spaq": load_spaq,
    "csv": _load_csv,
}
SPECS = f"demo, {', '.join(f'{kind}:DIR' for kind in LOADERS if kind != 'csv')} or csv:FILE"
