"""What a network was trained on travels in its file, and every later split respects it: no image is tested that it saw.

A record says how one labeled set was split (Section 4.1): plain values, in an encoder's file and so in model.pt.
A reference image is recognized by its images' content, whatever their names and folder are now, or by its name in a set
of the same kind, for images that were resized or saved anew. It keeps its part. Only references that no record knows
are drawn.
"""

import hashlib
import math
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.data.splits import digest, part_indices, part_sizes, shuffled
from ssl_iqa.engine import console, distributed, run_folder
from ssl_iqa.engine.device import cpu_cores
from ssl_iqa.model import Encoder

PARTS = ("train", "val", "test")  # a reference that is in several counts to the first of them
Split = dict[str, list[str]]
Record = dict[str, Any]
"""data: the set's spec; seed; by: what trained; references {part: names}; images {part: contents}, see `contents`."""


def contents(labeled: LabeledSet) -> list[str]:
    """16 hexadecimal digits of the SHA-256 of each image's file, an entry an image; "" for one that is empty or gone.

    64 bits: of a million different files two share theirs with a probability of 3e-8.
    """
    paths = list(dict.fromkeys(labeled.paths))
    with ThreadPoolExecutor(cpu_cores()) as pool:
        bar = console.bar(pool.map(_content, paths), "reading labeled images", len(paths))
        by_path = dict(zip(paths, bar, strict=True))
    return [by_path[path] for path in labeled.paths]


def _content(path: str) -> str:
    try:
        stat = Path(path).stat()
        return _digest(path, stat.st_size, stat.st_mtime_ns) if stat.st_size else ""  # two empty ones are not one image
    except OSError:
        return ""


@lru_cache(maxsize=100_000)  # a set is looked at once for each encoder and split
def _digest(path: str, size: int, time: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def fingerprint(labeled: LabeledSet) -> str:
    """Tells two labeled sets apart by their references, scores and images, wherever these lie."""
    return digest(zip(labeled.references, labeled.scores, contents(labeled), strict=True))


def with_record(records: Sequence[Record], labeled: LabeledSet, split: Split, seed: int, by: str) -> list[Record]:
    """The records and one more, of a set and its split; `by` is what trains on it, in words."""
    of_images = contents(labeled)
    images = {}
    for part, names in split.items():
        images[part] = sorted({of_images[i] for i in part_indices(labeled.references, names)} - {""})
    record = {"data": labeled.name, "seed": seed, "by": by, "references": dict(split), "images": images}
    same = {"data": ""}  # a run that goes on has it already, perhaps under another path
    return [*(other for other in records if other | same != record | same), record]


def known_parts(labeled: LabeledSet, records: Sequence[Record]) -> dict[str, str]:
    """The part of each reference of a set that a record knows; of several the first of PARTS.

    References that hold an image of the same content are one reference here: what is known of one is known of all.
    """
    if not records:
        return {}
    of_images, unknown = contents(labeled), len(PARTS)
    kind = labeled.name.partition(":")[0]
    by_content = _places(records, "images")
    by_name = _places([record for record in records if record["data"].partition(":")[0] == kind], "references")
    places: dict[str, int] = {}
    for reference, content in zip(labeled.references, of_images, strict=True):
        place = min(by_content.get(content, unknown), by_name.get(reference, unknown))
        places[reference] = min(place, places.get(reference, unknown))
    known: dict[str, str] = {}
    for group in _groups(labeled.references, of_images):
        place = min(places[name] for name in group)
        if place < unknown:
            known |= dict.fromkeys(group, PARTS[place])
    return dict(sorted(known.items()))


def _places(records: Sequence[Record], key: str) -> dict[str, int]:
    """Of each name or content the place of its first part in PARTS."""
    last_to_first = [*enumerate(PARTS)][::-1]  # the first part is written over the others
    return {item: place for place, part in last_to_first for record in records for item in record[key].get(part, ())}


def _groups(references: Sequence[str], of_images: Sequence[str]) -> list[list[str]]:
    """References that share an image's content, directly or by way of others: sorted names, a list a group."""
    names, reference_of = np.unique(references, return_inverse=True)
    _, content_of = np.unique(of_images, return_inverse=True)
    has_content = np.array(of_images) != ""
    edges = reference_of[has_content], len(names) + content_of[has_content]  # references and contents are the nodes
    nodes = len(names) + len(references)
    _, group_of = connected_components(coo_array((np.ones(len(edges[0])), edges), shape=(nodes, nodes)))
    groups: dict[int, list[str]] = {}
    for name, group in zip(names.tolist(), group_of, strict=False):  # the nodes after the names are contents
        groups.setdefault(int(group), []).append(name)
    return list(groups.values())


def divide(labeled: LabeledSet, known: Mapping[str, str], seed: int) -> Split:
    """A split into 60, 20 and 20 % by reference (Section 4.1) in which known references keep their part.

    `known` comes from `known_parts`. New references are shuffled by `seed` and divided so that the parts come as near
    to their shares (`part_sizes`) as can be. References that share an image stay together. Each part is sorted.

    Raises ValueError where a part has none.
    """
    groups = {group[0]: group for group in _groups(labeled.references, contents(labeled))}
    new = [name for name in groups if name not in known]
    parts = {part: [name for name in groups if known.get(name) == part] for part in PARTS}
    for part, names in _draw(new, {part: len(names) for part, names in parts.items()}, seed).items():
        parts[part] += names
    empty = [part for part in PARTS if not parts[part]]
    if empty:
        raise ValueError(
            f"{labeled.name}: each part must have a reference image, got none for {' and '.join(empty)}: of"
            f" {len(groups)} distinct ones {len(groups) - len(new)} keep the part in which the encoder has seen them"
        )
    return {part: sorted(name for first in names for name in groups[first]) for part, names in parts.items()}


def _draw(new: list[str], counts: dict[str, int], seed: int) -> Split:
    """Parts for new references where others are known already, `counts` of them in each part."""
    shares = part_sizes(len(new) + sum(counts.values()))
    val, test = (max(0, size - counts[part]) for part, size in zip(PARTS[1:], shares[1:], strict=True))
    if val + test > len(new):  # too few for both: they share them
        test = math.ceil(len(new) * test / (val + test))
        val = len(new) - test
    order = shuffled(new, seed)
    train = len(new) - val - test
    return {"train": order[:train], "val": order[train : train + val], "test": order[train + val :]}


def in_words(split: Split, known: Mapping[str, str]) -> str:
    """What became of known and of new references, with counts."""

    def counted(is_known: bool) -> str:
        numbers = {part: sum((name in known) == is_known for name in split[part]) for part in PARTS}
        return f"{sum(numbers.values())} ({', '.join(f'{n} {part}' for part, n in numbers.items())})"

    return f"references seen before keep their part: {counted(True)}; new ones are drawn: {counted(False)}"


def unseen(labeled: LabeledSet, records: Sequence[Record]) -> list[int]:
    """The images of a set that no record has in its train or val part: those that can be tested."""
    known = known_parts(labeled, records)
    return [i for i, name in enumerate(labeled.references) if known.get(name, "test") == "test"]


def records_of(file: str, encoder: Encoder) -> list[Record]:
    """What an encoder from a file was trained on. A file of an earlier version has the splits.json beside it, if any.

    Says so where neither tells it. Weights of others, such as ImageNet's, have no records.
    """
    if encoder.seen is not None or not Path(file).is_file():
        return encoder.seen or []
    path = Path(file).parent / run_folder.SPLITS
    if not path.is_file():
        if distributed.is_main():
            message = "does not say what it was trained on, nor is there"
            print(f"warning: {file} {message} {path}: images that it has seen may be tested", file=sys.stderr)
        return []
    parts = dict(run_folder.read_json(path).get("labeled", {}))
    spec = parts.pop("spec", "")
    return [{"data": spec, "seed": None, "by": "joint training", "references": parts, "images": {}}] if parts else []
