"""Near-duplicates: unlabeled photographs that a labeled set also holds, recognized by a perceptual hash.

    ssl-iqa near-duplicates --unlabeled DIR/kadis700k --labeled kadid10k:DIR/kadid10k

With such a photograph joint training (Section 3) meets content that finetuning is tested on, and the pristine images of
KADIS-700k and of KADID-10k come from the same site. `train_joint.py --near-duplicates` reports or removes them.

The hash is pHash (Zauner 2010): 64 bits, the signs of a small gray image's lowest frequencies about their median.
"""

import argparse
import csv
import io
import shlex
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from ssl_iqa.data import sets
from ssl_iqa.data.datasets import UnlabeledViews, name_skipped
from ssl_iqa.data.images import UnreadableImage, is_shards, list_images
from ssl_iqa.data.shards import Members, ShardViews, list_shards
from ssl_iqa.engine import console, distributed, run_folder
from ssl_iqa.engine.device import cpu_cores
from ssl_iqa.engine.settings import whole
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
    reference: str  # of the labeled image


def phash(image: Tensor) -> np.ndarray:
    """The hashes of an image and of its mirror image: uint8 [3, H, W] -> bool [2, 64].

    The luma is reduced to 32 x 32 by Lanczos's filter; of its DCT the rows and columns 0 to 7 are compared with their
    median (the C++ library takes 1 to 8; the Python package imagehash, whose hash this is, 0 to 7, and finds more of
    the cropped copies). 32 bits are ones, but for images with equal frequencies, so that distances are even.
    """
    planes = [Image.fromarray(plane) for plane in image.numpy()]
    gray = Image.merge("RGB", planes).convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    frequencies = COSINES @ np.asarray(gray, dtype=np.float64) @ COSINES.T  # [8, 8]
    frequencies = frequencies.round(6)  # so that none of a flat image's is above another by float64's error
    mirrored = frequencies * (-1) ** np.arange(LOW)  # cos(pi k (n + 1/2) / 32) is odd about the middle for odd k
    both = np.stack([frequencies, mirrored]).reshape(2, -1)
    return both > np.median(both, axis=1, keepdims=True)


def hash_image(images: UnlabeledViews, index: int) -> tuple[int, np.ndarray | None]:
    """An image's index and hashes; None for one that cannot be read."""
    try:
        return index, phash(images.decode(index))
    except (UnreadableImage, OSError):
        return index, None


def hash_images(images: UnlabeledViews, workers: int, title: str) -> tuple[list[int], np.ndarray, list[str]]:
    """The indices of the images that can be read, their hashes [n, 2, 64] (see `phash`), and the paths of the others.

    Each of several processes hashes its part and gets all hashes.
    """
    own = range(len(images.paths))[distributed.rank() :: distributed.size()]
    loader = make_loader(own, workers, partial(hash_image, images), batch_size=None)  # it collates a single index
    hashes = dict(item for items in distributed.every([*console.bar(loader, title)]) for item in items)
    readable = [index for index, bits in hashes.items() if bits is not None]
    bits = np.array([hashes[index] for index in readable], dtype=bool).reshape(-1, 2, LOW**2)
    return readable, bits, [images.paths[index] for index, bits in hashes.items() if bits is None]


def within(unlabeled: np.ndarray, labeled: np.ndarray, threshold: int) -> tuple[np.ndarray, ...]:
    """The pairs of hashes of which at most `threshold` bits differ: their rows, columns and distances [pairs].

    unlabeled [n, 2, 64] has mirror images, of which the nearer counts, labeled [m, 64] not. The product of bits written
    as 1 and -1 is 64 less twice the distance; the n x m products are computed in parts of `AT_ONCE`.
    """
    unlabeled, labeled = (2 * bits.astype(np.float32) - 1 for bits in (unlabeled, labeled))
    pairs = [np.empty((3, 0), dtype=np.int64)]
    step = max(1, AT_ONCE // max(1, len(labeled)))
    for start in range(0, len(unlabeled), step):
        part = unlabeled[start : start + step]
        products = np.maximum(part[:, 0] @ labeled.T, part[:, 1] @ labeled.T)  # [step, m], whole numbers
        rows, columns = np.nonzero(products >= 64 - 2 * threshold)
        distances = (64 - products[rows, columns].astype(np.int64)) // 2
        pairs.append(np.stack([rows + start, columns, distances]))
    return tuple(np.concatenate(pairs, axis=1))


def near_duplicates(
    unlabeled: UnlabeledViews, references: dict[str, str], threshold: int = THRESHOLD, workers: int = 0
) -> tuple[dict[str, Any], list[Pair]]:
    """A report, plain values for JSON, and all pairs of images whose hashes differ in at most `threshold` bits.

    `references` are those of labeled images by path. Pairs come nearest first. The report's `found` has, of each
    photograph, the nearest labeled image, its reference, and how many `further` ones there are. Several processes must
    all call it.
    """
    labeled = UnlabeledViews([*references], 0)
    indices, bits, unreadable = hash_images(unlabeled, workers, "hashing unlabeled photographs")
    labeled_indices, labeled_bits, more = hash_images(labeled, workers, "hashing labeled images")
    rows, columns, distances = within(bits, labeled_bits[:, 0], threshold)
    names = {row: unlabeled.paths[indices[row]] for row in {*rows}}  # once each: of a tar it is looked up there
    pairs = []
    for row, column, distance in zip(rows, columns, distances.tolist(), strict=True):
        path = labeled.paths[labeled_indices[column]]
        pairs.append(Pair(names[row], path, distance, references[path]))
    pairs.sort(key=lambda pair: (pair.distance, pair.unlabeled, pair.labeled))
    nearest: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        nearest.setdefault(pair.unlabeled, pair._asdict() | {"further": -1})["further"] += 1
    report = {
        "threshold": threshold,
        "unlabeled": len(unlabeled.paths),
        "labeled": len(references),
        "unreadable": sorted({*unreadable, *more}),
        "found": [*nearest.values()],
    }
    return report, pairs


def describe(report: dict[str, Any], limit: int | None = None) -> str:
    """A report in words: the nearest photographs, at most `limit`, and how many there are."""
    text = ""
    for pair in report["found"][:limit]:
        more = f"; {pair['further']} more" if pair["further"] else ""
        text += f"{pair['distance']:>3} bits: {pair['unlabeled']} and {pair['labeled']}"
        text += f" (reference {pair['reference']}{more})\n"
    text += f"near-duplicates: {len(report['found'])} of {report['unlabeled']} unlabeled photographs are within"
    text += f" {report['threshold']} of 64 bits of one of {report['labeled']} labeled images"
    text += f"; {len(report['unreadable'])} files could not be read" if report["unreadable"] else ""
    return text.encode("utf-8", "backslashreplace").decode()  # it names files, which may be no UTF-8


def search_for_training(settings: Any, recorded: Path | None) -> dict[str, Any] | None:
    """The report for train_joint.py's `settings`; None for `ignore`, and where nothing is to be compared.

    Only a folder is searched: the demo is split by source photograph, and tars hold too much to be read before
    training. A run that goes on reuses its `recorded` report, unless its folder has moved. Raises ValueError for
    `remove` without a folder and, on all processes, what listing the images raises on one of them.
    """
    unlabeled, action = settings.unlabeled, settings.near_duplicates
    if action == "remove" and (unlabeled == "demo" or is_shards(unlabeled)):
        raise ValueError(f"--unlabeled must be a folder for --near-duplicates remove, got {unlabeled}")
    if action == "ignore" or not settings.labeled or unlabeled == "demo":
        return None
    if is_shards(unlabeled):
        command = shlex.join(["ssl-iqa", "near-duplicates", "--unlabeled", unlabeled, "--labeled", settings.labeled])
        print(f"near-duplicates: tars are not searched; once: {command}")
        return None
    with distributed.together():
        has_report = recorded is not None and distributed.is_main() and recorded.exists()
        report = run_folder.read_json(recorded) if has_report else None
        paths, labeled = list_images(unlabeled), sets.load_labeled(settings.labeled)
        if report and not {pair["unlabeled"] for pair in report["found"]} <= set(paths):
            report = None
    report = distributed.every(report)[0]
    if report is None:
        references = dict(zip(labeled.paths, labeled.references, strict=True))
        report, _ = near_duplicates(UnlabeledViews(paths, 0), references, workers=settings.workers)
    return report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--unlabeled", required=True, metavar="DIR", help="KADIS-700k's folder, any folder, or tars")
    parser.add_argument("--labeled", required=True, action="append", metavar="SPEC", help="a labeled set; repeatable")
    parser.add_argument("--threshold", type=whole(0, 64), default=THRESHOLD, help="bits that may differ, of 64 (10)")
    parser.add_argument(
        "--workers", type=whole(0, 10_000), default=cpu_cores(), help="processes that hash (one a core)"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write every pair there")


@console.clear_errors()
def run(args: argparse.Namespace) -> None:
    if args.csv:
        run_folder.check_out(args.csv, "--csv")
        before = args.csv.read_text(errors="replace") if args.csv.is_file() else ""
        if before and not before.startswith(",".join(Pair._fields)):
            raise ValueError(f"--csv {args.csv}: must be a new file, or one that this command has written")
    references: dict[str, str] = {}
    for spec in args.labeled:
        labeled = sets.load_labeled(spec)
        references |= zip(labeled.paths, labeled.references, strict=True)
    if is_shards(args.unlabeled):
        unlabeled = ShardViews(Members(list_shards(args.unlabeled, args.workers)), 0)
    else:
        unlabeled = UnlabeledViews(list_images(args.unlabeled), 0)
    report, pairs = near_duplicates(unlabeled, references, args.threshold, args.workers)
    name_skipped(report["unreadable"], set())
    print(describe(report))
    if args.csv:
        rows = io.StringIO(newline="")
        csv.writer(rows).writerows([Pair._fields, *pairs])
        content = rows.getvalue().encode(errors="surrogateescape")  # a file's name may be no UTF-8
        run_folder.write_atomic(args.csv, lambda file: file.write(content))
