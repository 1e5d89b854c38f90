"""The labeled sets of Section 4.1: images with opinion scores, as they lie on disk.

A labeled set is named by a spec, such as `demo` or `kadid10k:DIR`: see `load_labeled`. All scores are mapped to
[1, 10], higher is better (Section 4.1: "MOS are scaled to a standard range of [1, 10]"), each published set's linearly
from a fixed scale, whichever images are there. Nothing is clipped: a score off its scale is an error.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ssl_iqa.data.demo import load_demo
from ssl_iqa.data.images import in_any_case
from ssl_iqa.data.labeled import (
    LabeledSet,
    Table,
    find_folder,
    labeled_set,
    numbers,
    paths_in_any_case,
    read_csv,
    types_and_levels,
)
from ssl_iqa.data.other_sets import load_clive, load_csiq, load_live, load_spaq, load_tid2013
from ssl_iqa.distortions import DISTORTIONS

KONIQ_PARTS = {"training": "train", "validation": "val", "test": "test"}  # the column `set` of the published split


def load_labeled(spec: str, long_side: int = 0) -> LabeledSet:
    """The labeled set that a spec names; its images are reduced to a long side when they are read (0: as they are).

    - `demo`: the package's own photographs in all 125 distortion classes, each with the mean opinion that KADID-10k
      gives its class, not an opinion of this image.
    - `kadid10k:DIR`: `dmos.csv` and `images/`. Its `dmos`, 1 to 5, is a mean opinion: higher is better.
    - `koniq10k:DIR`: `koniq10k_scores_and_distributions.csv`, or the older `koniq10k_scores.csv`, and `512x384/`, or
      else `1024x768/`. The score is `MOS_zscore`, 0 to 100; in a file without that column `MOS`, 1 to 5.
      `koniq10k_distributions_sets.csv` has the official split; where it is the only file, its `MOS` is the score, the
      same as `MOS_zscore`, 0 to 100.
    - `tid2013:DIR`: `mos_with_names.txt` and `distorted_images/`. The score is the MOS, 0 to 9 (its readme).
    - `live:DIR`, release 2: `dmos_realigned.mat`, `refnames_all.mat` and `jp2k/`, `jpeg/`, `wn/`, `gblur/`,
      `fastfading/`. The score is `dmos_new`, differential: lower is better, so it is turned. Its scale is about 0 to
      100, but realigning took some scores off it. -3 becomes 10 and 112 becomes 1, whole numbers that enclose all that
      are published (-2.6 to 111.8). The 203 entries with `orgs` 1 are undistorted and left out.
    - `csiq:DIR`: `csiq.DMOS.xlsx` and `dst_imgs/`, with or without a folder for each type. The score is `dmos` of the
      sheet `all_by_image`, 0 to 1, differential, so it is turned: 0 becomes 10. Needs the extra `[sets]`.
    - `clive:DIR`, LIVE In the Wild: `Data/AllImages_release.mat`, `Data/AllMOS_release.mat` and `Images/`. The score
      is the MOS, 0 to 100. The first 7 images were for practice and are left out.
    - `spaq:DIR`: `MOS and Image attribute scores.xlsx`, in `Annotations/` or in DIR, and `TestImage/`. The score is
      `MOS`, 0 to 100. Needs the extra `[sets]`.
    - `csv:FILE`: own scores, higher is better, in the columns `image` (a path from the file's folder) and `score`;
      optional are `reference` and `distortion`, where a cell may be empty. Commas, semicolons or tabs separate
      them. An image without a reference is its own, one for all rows of the same file. The lowest score of all becomes
      1 and the highest 10, whichever part they fall into.

    Names may be in another case than the published ones. Raises ValueError for an unknown spec, for a file whose
    content is not as said and where an extra is missing, FileNotFoundError for files that are missing; each names the
    file, and the place in it where there is one.
    """
    kind, _, place = spec.partition(":")
    if spec == "demo":
        return replace(load_demo(), long_side=long_side)
    if kind not in LOADERS or ":" not in spec:
        raise ValueError(f"a labeled set must be {SPECS}, got {spec!r}")
    if not place:
        raise ValueError(f"a labeled set must be {kind}:{'FILE' if kind == 'csv' else 'DIR'}, got {spec!r}")
    labeled = LOADERS[kind](spec, Path(place).expanduser())  # a shell leaves the ~ in csv:~/scores.csv as it is
    return replace(labeled, long_side=long_side)


def _load_kadid(spec: str, folder: Path) -> LabeledSet:
    table = read_csv(in_any_case(folder, "dmos.csv"), ("dist_img", "ref_img", "dmos"))
    types = types_and_levels(table, "dist_img", r"I\d+_(?P<type>\d\d)_(?P<level>0[1-5])\.png", list(DISTORTIONS))
    paths = paths_in_any_case([find_folder(folder, "images", "KADID-10k")], table.column("dist_img"))
    return labeled_set(spec, table, "dmos", (1, 5), paths, table.column("ref_img"), **types)


def _load_koniq(spec: str, folder: Path) -> LabeledSet:
    names = ("koniq10k_scores_and_distributions.csv", "koniq10k_scores.csv", "koniq10k_distributions_sets.csv")
    files = [in_any_case(folder, name) for name in names]
    present = [path for path in files if path.exists()]
    if not present:
        raise FileNotFoundError(f"{files[0]}: no such file, nor {names[1]} or {names[2]}")
    table = read_csv(present[0], ("image_name",))
    columns = table.rows[0][1]
    column = "MOS_zscore" if "MOS_zscore" in columns else "MOS"
    if column not in columns:
        raise ValueError(f"{table.path}, line 1: a column must be MOS_zscore or MOS, got {', '.join(columns)}")
    score_range = (1, 5) if column == "MOS" and table.path != files[2] else (0, 100)

    sizes = [path for path in (in_any_case(folder, size) for size in ("512x384", "1024x768")) if path.is_dir()]
    if not sizes:
        raise FileNotFoundError(f"{folder / '512x384'}: no such folder, nor 1024x768")
    references = table.column("image_name")
    split = _koniq_split(files[2], references) if files[2].exists() else None
    paths = paths_in_any_case(sizes[:1], references)
    return labeled_set(spec, table, column, score_range, paths, references, official_split=split)


def _koniq_split(path: Path, references: list[str]) -> dict[str, list[str]]:
    """The published split, 7058, 1000 and 2015 of all images, of those that are there."""
    part_of = {}
    for place, row in read_csv(path, ("image_name", "set")).rows:
        if row["set"] not in KONIQ_PARTS:
            raise ValueError(f"{path}, {place}: set must be {', '.join(KONIQ_PARTS)}, got {row['set']!r}")
        part_of[row["image_name"]] = KONIQ_PARTS[row["set"]]
    split: dict[str, list[str]] = {part: [] for part in KONIQ_PARTS.values()}
    for name in sorted(references):
        if name not in part_of:
            raise ValueError(f"{path}: must have a row for each image with a score, got none for {name}")
        split[part_of[name]].append(name)
    for name, part in KONIQ_PARTS.items():
        if not split[part]:
            raise ValueError(f"{path}: the set {name} must have one or more of the images with a score, got none")
    return split


def _load_csv(spec: str, path: Path) -> LabeledSet:
    table = read_csv(path, ("image", "score"))
    scores = numbers(table, "score")
    if min(scores) == max(scores):
        raise ValueError(f"{path}: scores must differ, got {scores[0]:g} in each row")
    paths = [path.parent / name for name in table.column("image")]
    distortions = table.column("distortion") if "distortion" in table.rows[0][1] else None
    labeled = labeled_set(spec, table, "score", (min(scores), max(scores)), paths, [], distortions=distortions)
    return replace(labeled, references=_own_references(table, labeled.paths))  # of images known to be there


def _own_references(table: Table, paths: list[str]) -> list[str]:
    """An own set's references: the column's, or else the image itself, which is one however its rows name the file.

    A file is recognized by its number on the disk: neither ./ nor a link nor another case makes it two references, one
    in the training and one in the test part. Raises ValueError for a file that the column gives two.
    """
    files = [(status.st_dev, status.st_ino) for status in map(os.stat, paths)]
    named: dict[tuple[int, int], str] = {}
    given: dict[tuple[int, int], str] = {}
    for file, (place, row) in zip(files, table.rows, strict=True):
        name = os.path.normpath(row["image"])
        named[file] = min(name, named.get(file, name))  # whatever the order of the rows
        reference = row.get("reference") or given.get(file)
        if reference and given.setdefault(file, reference) != reference:
            raise ValueError(
                f"{table.path}, {place}: the reference of {row['image']} must be that of the same file above,"
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
