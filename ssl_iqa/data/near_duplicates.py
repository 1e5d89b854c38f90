"""Near-duplicates: unlabeled photographs that a labeled set holds, too, told by a perceptual hash.

    python -m ssl_iqa.data.near_duplicates --unlabeled DIR/kadis700k --labeled kadid10k:DIR/kadid10k

Of a photograph that is in both, joint training (Section 3) would meet the content that finetuning is tested on, and the
pristine pictures of KADIS-700k and of KADID-10k come from the same site. `train_joint.py --near-duplicates` reports
such photographs, or leaves them out.

The hash is pHash (Zauner 2010): 64 bits, the signs of a small gray picture's lowest frequencies about their median.
"""

import argparse
import csv
import io
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ssl_iqa.data import sets
from ssl_iqa.data.datasets import name_skipped
from ssl_iqa.data.images import UnreadableImage, decode_image, list_pictures, passed_over, read_image
from ssl_iqa.data.shards import list_shards, read_shard
from ssl_iqa.data.streams import is_shards
from ssl_iqa.engine import console, distributed, run_folder
from ssl_iqa.engine.device import cpu_cores
from ssl_iqa.engine.settings import Parser
from ssl_iqa.engine.workers import make_loader

# Measured on 317 photographs: of their copies, as JPEG of quality 30 to 90, at 1/2 or 4/3 of the size, mirrored, or cut
# by 2 %, all are within 10 bits (at most 6, 2, 0 and 10), and of their versions in the 125 distortion classes 96 %.
# Different photographs are 12 or more apart in all 50,085 pairs; of parts of them 1.3 in a million pairs are within 10.
THRESHOLD = 10

SIDE, LOW = 32, 8
COSINES = np.cos(np.pi / SIDE * np.outer(np.arange(LOW), np.arange(SIDE) + 0.5))  # [8, 32], DCT-II, not normalized
AT_ONCE = 2**22  # distances in memory


class Pair(NamedTuple):
    unlabeled: str  # paths
    labeled: str
    distance: int  # bits that differ, of 64, in the photograph or in its mirror image


def phash(picture: Tensor) -> np.ndarray:
    """A picture's hash and that of its mirror image: bytes [3, H, W] -> bool [2, 64].

    The luma is reduced to 32 x 32 by Lanczos's filter; of its DCT the rows and columns 0 to 7 are compared with their
    median (the C++ library takes 1 to 8; the Python package imagehash, whose hash this is, 0 to 7, and finds more of
    the cropped copies). 32 bits are ones, but for pictures with equal frequencies, so that distances are even.
    """
    planes = [Image.fromarray(plane) for plane in picture.numpy()]
    gray = Image.merge("RGB", planes).convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    frequencies = COSINES @ np.asarray(gray, dtype=np.float64) @ COSINES.T  # [8, 8]
    frequencies = frequencies.round(6)  # so that none of a flat picture's is above another by float64's error
    mirrored = frequencies * (-1) ** np.arange(LOW)  # cos(pi k (n + 1/2) / 32) is odd about the middle for odd k
    both = np.stack([frequencies, mirrored]).reshape(2, -1)
    return both > np.median(both, axis=1, keepdims=True)


Hashed = tuple[str, np.ndarray | None]  # a picture's path, and bool [2, 64], or None where it is unreadable


class HashedFiles(Dataset):
    """The hashes of the picture in a file, or of all in a tar, whose paths are then "shard.tar/member"."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> list[Hashed]:
        path = self.paths[index]
        if not is_shards(path):
            return [hashed(path, partial(read_image, path))]
        return [hashed(name, partial(decode_image, io.BytesIO(encoded), name)) for name, encoded in read_shard(path)]


def hashed(name: str, read: Callable[[], Tensor]) -> Hashed:
    try:
        return name, phash(read())
    except (UnreadableImage, OSError):
        return name, None


def hash_files(paths: Sequence[str], workers: int, title: str) -> tuple[list[str], np.ndarray, list[str]]:
    """The pictures that can be read, their hashes [n, 2, 64], see `phash`, and the pictures that cannot.

    `paths` are files of one picture or tars of many. Of several processes each hashes its part, and all get all; all
    must ask.
    """
    own = HashedFiles(paths[distributed.rank() :: distributed.size()])
    parts = make_loader(own, workers, list, batch_size=None)
    made = [item for part in console.bar(parts, title) for item in part]
    made = [item for part in distributed.every(made) for item in part]
    readable = {path: bits for path, bits in made if bits is not None}
    bits = np.array([*readable.values()], dtype=bool).reshape(-1, 2, LOW**2)
    return [*readable], bits, [path for path, bits in made if bits is None]


def within(unlabeled: np.ndarray, labeled: np.ndarray, threshold: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs of hashes of which at most `threshold` bits differ: their rows, columns and distances [pairs].

    unlabeled [n, 2, 64] has mirror images, of which the nearer counts, labeled [m, 64] not. Of bits written as 1 and -1
    the product is 64 less twice the distance; n x m of them are made in parts of `AT_ONCE`.
    """
    unlabeled, labeled = (2 * bits.astype(np.float32) - 1 for bits in (unlabeled, labeled))
    found = [np.empty((3, 0), dtype=np.int64)]
    step = max(1, AT_ONCE // max(1, len(labeled)))
    for start in range(0, len(unlabeled), step):
        part = unlabeled[start : start + step]
        products = np.maximum(part[:, 0] @ labeled.T, part[:, 1] @ labeled.T)  # [step, m], whole numbers
        rows, columns = np.nonzero(products >= 64 - 2 * threshold)
        distances = (64 - products[rows, columns].astype(np.int64)) // 2
        found.append(np.stack([rows + start, columns, distances]))
    rows, columns, distances = np.concatenate(found, axis=1)
    return rows, columns, distances


def near_duplicates(
    unlabeled: Sequence[str], labeled: Sequence[str], threshold: int = THRESHOLD, workers: int = 0
) -> tuple[list[Pair], list[str], int]:
    """All pairs of pictures whose hashes differ in at most `threshold` bits, nearest first.

    Beside them the files that could not be read, and the number of unlabeled pictures, which may be in tars. Several
    processes must all ask; each hashes a part.
    """
    names, bits, unreadable = hash_files(unlabeled, workers, "hashing unlabeled photographs")
    labeled_names, labeled_bits, more = hash_files([*dict.fromkeys(labeled)], workers, "hashing labeled pictures")
    found = zip(*(part.tolist() for part in within(bits, labeled_bits[:, 0], threshold)), strict=True)
    pairs = [Pair(names[row], labeled_names[column], distance) for row, column, distance in found]
    order = sorted(pairs, key=lambda pair: (pair.distance, pair.unlabeled, pair.labeled))
    return order, sorted({*unreadable, *more}), len(names) + len(unreadable)


def by_photograph(pairs: Sequence[Pair], references: dict[str, str]) -> list[dict[str, Any]]:
    """Of each photograph the nearest labeled picture, that one's reference, and the number of `further` ones.

    `pairs` come nearest first, and so do the photographs; `references` are those of labeled pictures, by path.
    """
    counts = Counter(pair.unlabeled for pair in pairs)
    nearest: dict[str, Pair] = {}
    for pair in pairs:
        nearest.setdefault(pair.unlabeled, pair)
    return [
        pair._asdict() | {"reference": references[pair.labeled], "further": counts[path] - 1}
        for path, pair in nearest.items()
    ]


def search(
    unlabeled: Sequence[str], references: dict[str, str], threshold: int, workers: int
) -> tuple[dict[str, Any], list[Pair]]:
    """`near_duplicates` as a report, plain values for JSON, and all pairs; `references` is as in `by_photograph`."""
    pairs, unreadable, pictures = near_duplicates(unlabeled, [*references], threshold, workers)
    report = {
        "threshold": threshold,
        "unlabeled": pictures,
        "labeled": len(references),
        "unreadable": unreadable,
        "found": by_photograph(pairs, references),
    }
    return report, pairs


def lines(report: dict[str, Any], most: int | None = None) -> str:
    """A report of `search` for people: the nearest photographs, `most` of them or all, and how many there are."""
    shown = [
        f"{found['distance']:>3} bits: {found['unlabeled']} and {found['labeled']} (reference {found['reference']}"
        + (f"; {found['further']} more)" if found["further"] else ")")
        for found in report["found"][:most]
    ]
    count = f"{len(report['found'])} of {report['unlabeled']} unlabeled photographs"
    unreadable = f"; {len(report['unreadable'])} files could not be read" if report["unreadable"] else ""
    near = f"within {report['threshold']} of 64 bits of one of {report['labeled']} labeled pictures"
    return "\n".join([*shown, f"near-duplicates: {count} are {near}{unreadable}"])


def search_for_training(
    how: str, unlabeled: str, labeled: str, workers: int, recorded: Path | None
) -> dict[str, Any] | None:
    """The report for `--near-duplicates report` or `remove`; None for `ignore`, and where nothing is to be compared.

    Only a folder is searched: the demo is split by source photograph, and tars hold too much to be read before
    training. A run that goes on gets back what it has `recorded`, unless its folder has moved. Raises ValueError for
    `remove` without a folder and, on all processes, what listing the pictures raises on one of them.
    """
    if how == "remove" and (unlabeled == "demo" or is_shards(unlabeled)):
        raise ValueError(f"--near-duplicates remove: a folder as --unlabeled is wanted, {unlabeled} is not searched")
    if how == "ignore" or not labeled or unlabeled == "demo":
        return None
    if is_shards(unlabeled):
        command = shlex.join(
            ["python", "-m", "ssl_iqa.data.near_duplicates", "--unlabeled", unlabeled, "--labeled", labeled]
        )
        print(f"near-duplicates: not looked for in tars; once: {command}")
        return None
    with distributed.together():
        has_report = recorded is not None and distributed.is_main() and recorded.exists()
        before = run_folder.read_json(recorded) if has_report else None
        paths, scored = list_pictures(unlabeled), sets.load_labeled(labeled)
        if before and not {found["unlabeled"] for found in before["found"]} <= set(paths):
            before = None
    before = distributed.every(before)[0]
    return before or search(paths, dict(zip(scored.paths, scored.references, strict=True)), THRESHOLD, workers)[0]


def print_report(report: dict[str, Any], how: str, path: Path) -> None:
    """What train_joint.py says of a report; `path` is where all of it is."""
    print(lines(report, most=3))
    if report["found"]:
        done = "left out" if how == "remove" else "used all the same; --near-duplicates remove leaves them out"
        print(f"they are {done}; {path} names all")


def main(arguments: list[str] | None = None) -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--unlabeled", required=True, metavar="DIR", help="KADIS-700k's folder, any folder, or tars")
    parser.add_argument(
        "--labeled", required=True, action="append", metavar="SPEC", help="a labeled set; may be given several times"
    )
    parser.add_argument("--threshold", type=int, default=THRESHOLD, help=f"bits that may differ, of 64 ({THRESHOLD})")
    parser.add_argument("--workers", type=int, default=cpu_cores(), help="processes that hash (one a core)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write every pair there")
    args = parser.parse_args(arguments)
    with console.clear_errors():
        if not 0 <= args.threshold <= 64:
            raise ValueError(f"--threshold {args.threshold}: 0 to 64 bits are wanted")
        if args.workers < 0:
            raise ValueError(f"--workers {args.workers}: 0 or more is wanted")
        labeled = [sets.load_labeled(spec) for spec in args.labeled]
        references = {path: name for one in labeled for path, name in zip(one.paths, one.references, strict=True)}
        if is_shards(args.unlabeled):
            paths = [shard.path for shard in list_shards(args.unlabeled, args.workers)]
        else:
            passed: Counter[str] = Counter()
            paths = list_pictures(args.unlabeled, passed)
            if passed:
                print(passed_over(passed), file=sys.stderr)
        report, pairs = search(paths, references, args.threshold, args.workers)
        name_skipped(report["unreadable"], set())
        print(lines(report))
        if args.csv:
            rows = io.StringIO(newline="")
            csv.writer(rows).writerow((*Pair._fields, "reference"))
            csv.writer(rows).writerows((*pair, references[pair.labeled]) for pair in pairs)
            run_folder.write_atomic(args.csv, lambda file: file.write(rows.getvalue().encode()))


if __name__ == "__main__":
    main()
