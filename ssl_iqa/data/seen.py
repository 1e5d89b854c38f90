"""What a network was trained on travels in its file, and every later split respects it: no image is tested that it saw.

A record says how one labeled set was split (Section 4.1): plain values, in an encoder's file and so in model.pt.
A reference image is recognized by its images' content, whatever their names and folder are now, or by its name in a set
of the same kind, for images that were resized or saved anew. It keeps its part. Only references that no record knows
are drawn.
"""

import hashlib
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

from ssl_iqa.data.images import UnreadableImage, read_image
from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.data.splits import digest, part_indices, part_sizes, shuffled, split_references
from ssl_iqa.engine import console, distributed, run_folder
from ssl_iqa.engine.device import cpu_cores
from ssl_iqa.model import Encoder

PARTS = ("train", "val", "test")  # a reference that is in several counts to the first of them
Split = dict[str, list[str]]
Record = dict[str, Any]
"""data: the set's spec; seed; by: what trained; references {part: names}; images {part: contents}, see `contents`."""


def contents(labeled: LabeledSet) -> list[str]:
    """16 hexadecimal digits of the SHA-256 of each image's file, an entry an image; "" for one that is empty or gone.

    64 bits: of a million different files two share theirs with a probability of 3e-8. What several files share has to
    be an image, or it is "", too: a page that says "not found" under many names says nothing of them.
    """
    paths = list(dict.fromkeys(labeled.paths))
    with ThreadPoolExecutor(cpu_cores()) as pool:
        found = dict(
            zip(paths, console.bar(pool.map(_content, paths), "reading labeled images", len(paths)), strict=True)
        )
    places: dict[str, list[str]] = {}
    for path, content in found.items():
        places.setdefault(content, []).append(path)
    for sharing in places.values():
        if len(sharing) > 1 and not _is_image(sharing[0]):
            found |= dict.fromkeys(sharing, "")
    return [found[path] for path in labeled.paths]


def _is_image(path: str) -> bool:
    try:
        read_image(path)
    except (UnreadableImage, OSError):
        return False
    return True


def _content(path: str) -> str:
    try:
        stat = Path(path).stat()
        return _digest(path, stat.st_size, stat.st_mtime_ns) if stat.st_size else ""  # two empty ones are not one image
    except OSError:
        return ""


def fingerprint(labeled: LabeledSet) -> str:
    """Tells two labeled sets apart by their references, scores and images, wherever these lie."""
    return digest(zip(labeled.references, labeled.scores, contents(labeled), strict=True))


@lru_cache(maxsize=100_000)  # a set is looked at once for each encoder and split
def _digest(path: str, size: int, time: int) -> str:
    known = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            known.update(block)
    return known.hexdigest()[:16]


def with_record(records: Sequence[Record], labeled: LabeledSet, split: Split, seed: int, by: str) -> list[Record]:
    """The records and one more, of a set that was split so; `by` is what trains on it, in words."""
    found = contents(labeled)
    images = {}
    for part, names in split.items():
        indices = part_indices(labeled.references, names)
        images[part] = sorted({found[i] for i in indices} - {""})
    record = {"data": labeled.name, "seed": seed, "by": by, "references": dict(split), "images": images}
    same = {"data": ""}  # a run that goes on has it already, perhaps under another path
    return [*(other for other in records if other | same != record | same), record]


def known_parts(labeled: LabeledSet, records: Sequence[Record]) -> dict[str, str]:
    """The part of each reference of a set that a record knows; of several the one that was seen most, train first.

    References that hold an image of the same content are one reference here: what is known of one is known of all.
    """
    if not records:
        return {}
    found = contents(labeled)
    by_content, by_name = _places(records, "images"), _places(_same_kind(labeled, records), "references")
    known: dict[str, int] = {}
    for reference, content in zip(labeled.references, found, strict=True):
        places = [place for place in (by_content.get(content), by_name.get(reference)) if place is not None]
        if places:
            known[reference] = min(places + ([known[reference]] if reference in known else []))
    for group in _groups(labeled.references, found):
        places = [known[name] for name in group if name in known]
        known |= dict.fromkeys(group, min(places)) if places else {}
    return {name: PARTS[place] for name, place in sorted(known.items())}


def _same_kind(labeled: LabeledSet, records: Sequence[Record]) -> list[Record]:
    """Records of sets of the same kind, in whose names a reference can be looked up."""
    kind = labeled.name.partition(":")[0]
    return [record for record in records if record["data"].partition(":")[0] == kind]


def _places(records: Iterable[Record], key: str) -> dict[str, int]:
    """Of each name or content the first of PARTS that it is in."""
    found: dict[str, int] = {}
    for record in records:
        for place, part in enumerate(PARTS):
            for item in record[key].get(part, ()):
                found[item] = min(place, found.get(item, place))
    return found


def _groups(references: Sequence[str], found: Sequence[str]) -> list[list[str]]:
    """References that share an image's content, directly or by way of others: sorted names, a list a group."""
    parent = {name: name for name in references}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    first: dict[str, str] = {}
    for reference, content in zip(references, found, strict=True):
        if content:
            one, other = sorted((root(reference), root(first.setdefault(content, reference))))
            parent[other] = one  # the first name of a group stands for it
    groups: dict[str, list[str]] = {}
    for name in sorted(parent):
        groups.setdefault(root(name), []).append(name)
    return list(groups.values())


def divide(labeled: LabeledSet, known: Mapping[str, str], seed: int) -> Split:
    """A split into 60, 20 and 20 % by reference (Section 4.1) in which known references keep their part.

    `known` comes from `known_parts`; without any it is `split_references` by `seed`. New references are drawn so
    that the parts come as near to their shares as can be. References that share an image stay together.

    Raises ValueError for too few references, and where every reference is known and a part has none.
    """
    groups = {group[0]: group for group in _groups(labeled.references, contents(labeled))}
    new = [name for name in groups if name not in known]
    if len(new) == len(groups):
        parts = split_references(new, seed)
    else:
        parts = {part: [name for name in groups if known.get(name) == part] for part in PARTS}
        for part, names in _draw(new, {part: len(names) for part, names in parts.items()}, seed).items():
            parts[part] += names
        empty = [part for part in PARTS if not parts[part]]
        if empty:
            raise ValueError(
                f"{labeled.name}: its {len(groups)} reference images leave none for {' and '.join(empty)}, since"
                f" {len(groups) - len(new)} of them keep the part that the encoder has seen them in; images that it"
                " has not seen are needed"
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
            print(
                f"warning: {file} does not say what it was trained on, nor is there {path}: of a set that it was"
                " trained on, images that it has seen may be tested",
                file=sys.stderr,
            )
        return []
    parts = dict(run_folder.read_json(path).get("labeled", {}))
    spec = parts.pop("spec", "")
    return [{"data": spec, "seed": None, "by": "joint training", "references": parts, "images": {}}] if parts else []
