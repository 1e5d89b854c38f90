"""Which encoders are compared, and on which splits: no picture that is tested was met before (Sections 4.1 to 4.3)."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from ssl_iqa import data, runs
from ssl_iqa.sets import LabeledSet

SEED = "{seed}"  # in an encoder's path: the split's seed, for a run of joint training a split

Split = dict[str, list[str]]


def parse_encoders(text: str, named: Sequence[str]) -> dict[str, str]:
    """`imagenet,cl=runs/cl,ssl=runs/ssl-{seed}` by name: {"imagenet": "imagenet", "cl": "runs/cl", ..}.

    Raises ValueError for an entry that is neither one of `named` nor NAME=PATH, and for a name that comes twice.
    """
    found: dict[str, str] = {}
    for entry in text.split(","):
        name, equals, place = entry.strip().partition("=")
        if (not equals and name not in named) or (equals and not (name and place)) or "/" in name:
            raise ValueError(f"--encoders {entry.strip()!r}: wanted is {', '.join(named)} or NAME=RUN, as ssl=runs/ssl")
        if name in found:
            raise ValueError(f"--encoders {text}: {name} comes twice; give the second another name, as {name}2=RUN")
        found[name] = place or name
    return found


def encoder_file(spec: str, seed: int) -> str:
    """The file of an encoder: that of a joint run's folder, of the run for this split; a name stays as it is."""
    path = Path(spec.replace(SEED, str(seed))).expanduser()  # a shell leaves the ~ in ssl=~/runs/ssl as it is
    return str(path / runs.ENCODER) if path.is_dir() else str(path)


def recorded_split(file: str, labeled: LabeledSet) -> Split | None:
    """The split of these very references that the joint run beside an encoder's file was trained by, if any."""
    return split_in(Path(file).parent, labeled) if file and Path(file).is_file() else None


def split_in(folder: Path, labeled: LabeledSet) -> Split | None:
    """The split of these very references that a joint run's folder records, if any."""
    path = folder / runs.SPLITS
    if path.is_file():
        split = {part: names for part, names in runs.read_json(path).get("labeled", {}).items() if part != "spec"}
        if set().union(*split.values()) == set(labeled.references):
            return split
    return None


def split_of(files: Iterable[str], labeled: LabeledSet, seed: int, kind: str = "seeded") -> Split:
    """What encoders are compared on: `official`, the set's published split, or `seeded`, one by `seed`.

    Where joint training has seen a part of this set, its split is the one, so that the test part is new to the encoder.

    Raises ValueError for encoders that were trained by different splits, or by another than the official one, and for
    `official` where the set publishes none.
    """
    recorded = {file: split for file in files if (split := recorded_split(file, labeled))}
    if kind == "official":
        if labeled.official_split is None:
            raise ValueError(
                f"--split official: {labeled.name} has none; KonIQ-10k's is koniq10k_distributions_sets.csv"
            )
        chosen, whose = labeled.official_split, "the official one"
    elif recorded:
        whose, chosen = next(iter(recorded.items()))
    else:
        return data.split_references(labeled.references, seed)
    for file, split in recorded.items():
        if split != chosen:
            raise ValueError(
                f"{file}: was trained by another split of {labeled.name} than {whose}, so that its training pictures"
                f" would be tested; joint runs of one split are wanted, {SEED} in a run's name being the split's seed"
            )
    return chosen


def check_runs(encoders: dict[str, str], labeled: LabeledSet, seed: int) -> None:
    """Raises ValueError for an encoder whose joint run has fixed the split, where several are wanted."""
    for place in encoders.values():
        if SEED not in place and recorded_split(encoder_file(place, seed), labeled):
            raise ValueError(
                f"--splits: {place} was trained by one split of {labeled.name}; a run for each split is wanted, named"
                f" with its seed, as {place}-{SEED}"
            )
