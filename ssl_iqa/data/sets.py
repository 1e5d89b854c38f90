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
from ssl_iqa.data.labeled import LabeledSet, find, labeled_set, numbers, paths_in, read_csv, types_and_levels
from ssl_iqa.data.other_sets import load_clive, load_csiq, load_live, load_spaq, load_tid2013
from ssl_iqa.distortions import DISTORTIONS

KONIQ_PARTS = {"training": "train", "validation": "val", "test": "test"}  # the column `set` of the published split


def load_labeled(spec: str, long_side: int = 0) -> LabeledSet:
    """The labeled set that a spec names; its images are reduced to a long side when they are read (0: as they are).

    - `demo`: the package's own photographs in all 125 distortion classes, each with the mean opinion that KADID-10k
      gives its class, not an opinion of this image.
    - `kadid10k:DIR`: its `dmos`, 1 to 5, is a mean opinion: higher is better.
    - `koniq10k:DIR`: `MOS_zscore`, 0 to 100; in a file without that column `MOS`, 1 to 5, but in the file of the
      official split, where it is the only one, 0 to 100: it is `MOS_zscore`. The images of 512x384 go first.
    - `tid2013:DIR`: the MOS, 0 to 9 (its readme).
    - `live:DIR`, release 2: `dmos_new`, differential: lower is better, so it is turned. Its scale is about 0 to 100,
      but realigning took some scores off it. -3 becomes 10 and 112 becomes 1, whole numbers that enclose all that are
      published (-2.6 to 111.8). The 203 entries with `orgs` 1 are undistorted and left out.
    - `csiq:DIR`: `dmos` of the sheet `all_by_image`, 0 to 1, differential, so it is turned: 0 becomes 10.
    - `clive:DIR`, LIVE In the Wild: the MOS, 0 to 100. The first 7 images were for practice and are left out.
    - `spaq:DIR`: `MOS`, 0 to 100.
    - `csv:FILE`: own scores, higher is better, in the columns `image` (a path from the file's folder) and `score`;
      optional are `reference` and `distortion`, where a cell may be empty. Commas, semicolons or tabs separate
      them. An image without a reference is its own. The lowest score of all becomes 1 and the highest 10, whichever
      part they fall into.

    docs/training.md lists each set's files, whose names may be in another case. CSIQ and SPAQ need the extra `[sets]`.

    Raises ValueError for an unknown spec, for a file whose content is not as said and where an extra is missing,
    FileNotFoundError for files that are missing; each names the file, and the place in it where there is one.
    """
    kind, _, place = spec.partition(":")
    if spec == "demo":
        return replace(load_demo(), long_side=long_side)
    if kind not in LOADERS or not place:
        raise ValueError(f"a labeled set must be {SPECS}, got {spec!r}")
    labeled = LOADERS[kind](spec, Path(place).expanduser())  # a shell leaves the ~ in csv:~/scores.csv as it is
    return replace(labeled, long_side=long_side)


def _load_kadid(spec: str, folder: Path) -> LabeledSet:
    table = read_csv(find(folder, "dmos.csv"), ("dist_img", "ref_img", "dmos"))
    types = types_and_levels(table, "dist_img", "png", list(DISTORTIONS))
    paths = paths_in(find(folder, "images"), table.column("dist_img"))
    return labeled_set(spec, table, "dmos", (1, 5), paths, table.column("ref_img"), **types)


def _load_koniq(spec: str, folder: Path) -> LabeledSet:
    split_file = "koniq10k_distributions_sets.csv"
    path = find(folder, "koniq10k_scores_and_distributions.csv", "koniq10k_scores.csv", split_file)
    table = read_csv(path, ("image_name",))
    columns, is_split_file = table.rows[0][1], table.path.name.lower() == split_file
    column = "MOS_zscore" if "MOS_zscore" in columns else "MOS"
    if column not in columns:
        raise ValueError(f"{table.path}, line 1: a column must be MOS_zscore or MOS, got {', '.join(columns)}")
    score_range = (1, 5) if column == "MOS" and not is_split_file else (0, 100)
    references = table.column("image_name")
    paths = paths_in(find(folder, "512x384", "1024x768"), references)
    path = in_any_case(folder, split_file)
    split = _koniq_split(path, references) if path.exists() else None
    return labeled_set(spec, table, column, score_range, paths, references, official_split=split)


def _koniq_split(path: Path, references: list[str]) -> dict[str, list[str]]:
    """The published split, 7058, 1000 and 2015 of all images, of those that are there."""
    set_of = {row["image_name"]: row["set"] for _, row in read_csv(path, ("image_name", "set")).rows}
    split = {
        part: sorted(name for name in references if set_of.get(name) == word) for word, part in KONIQ_PARTS.items()
    }
    counts = [len(names) for names in split.values()]
    if sum(counts) < len(references) or not all(counts):
        got = f"{', '.join(map(str, counts))} of {len(references)}"
        raise ValueError(f"{path}: set must be {', '.join(KONIQ_PARTS)} (none empty) for each scored image, got {got}")
    return split


def _load_csv(spec: str, path: Path) -> LabeledSet:
    table = read_csv(path, ("image", "score"))
    scores = numbers(table, "score")
    if min(scores) == max(scores):
        raise ValueError(f"{path}: scores must differ, got {scores[0]:g} in each row")
    paths = [path.parent / name for name in table.column("image")]
    distortions = table.column("distortion") if "distortion" in table.rows[0][1] else None
    references = [row.get("reference") or os.path.normpath(row["image"]) for _, row in table.rows]
    return labeled_set(spec, table, "score", (min(scores), max(scores)), paths, references, distortions=distortions)


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
