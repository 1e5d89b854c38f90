"""Which encoders are compared, and on which splits: no tested image was seen in training (Sections 4.1 to 4.3)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.data.seen import Split, divide
from ssl_iqa.engine import run_folder

SEED = "{seed}"  # in an encoder's path: the split's seed, for a run of joint training a split


def parse_encoders(text: str, named: Sequence[str]) -> dict[str, str]:
    """`imagenet,cl=runs/cl,ssl=runs/ssl-{seed}` by name: {"imagenet": "imagenet", "cl": "runs/cl", ..}.

    Raises ValueError for an entry that is neither one of `named` nor NAME=PATH, and for a name that comes twice.
    """
    places: dict[str, str] = {}
    for entry in text.split(","):
        name, equals, place = entry.strip().partition("=")
        if (not equals and name not in named) or (equals and not (name and place)) or not is_folder(name):
            raise ValueError(f"--encoders must be {', '.join(named)} or NAME=RUN, got {entry.strip()!r}")
        if name in places:
            raise ValueError(f"--encoders must name each encoder once, got {name} twice; {name}2=RUN is another")
        places[name] = place or name
    return places


def is_folder(name: str) -> bool:
    """Whether a name can be a folder's, below that of the run."""
    return "/" not in name and name not in (".", "..")


def encoder_file(spec: str, seed: int) -> str:
    """The file of an encoder: that of a joint run's folder, of the run for this split; a name stays as it is."""
    path = Path(spec.replace(SEED, str(seed))).expanduser()  # a shell leaves the ~ in ssl=~/runs/ssl as it is
    return str(path / run_folder.ENCODER) if path.is_dir() else str(path)


def known_to_all(known_by: Mapping[str, Mapping[str, str]], labeled: LabeledSet) -> dict[str, str]:
    """The part of each reference that any encoder has seen; `known_by` its file gives what each knows (`known_parts`).

    Raises ValueError for encoders that were trained by different splits.
    """
    known: dict[str, tuple[str, str]] = {}  # and by which file
    for file, parts in known_by.items():
        for name, part in parts.items():
            first_part, first_file = known.setdefault(name, (part, file))
            if first_part != part:
                raise ValueError(_another_split(file, labeled, first_file))
    return {name: part for name, (part, _) in known.items()}


def _another_split(file: str, labeled: LabeledSet, than: str) -> str:
    one = f"joint runs must be of one split, {SEED} in a run's name being the split's seed"
    return f"{file}: was trained by another split of {labeled.name} than {than}; {one}"


def split_of(labeled: LabeledSet, known: Mapping[str, str], seed: int, kind: str = "seeded") -> Split:
    """The split on which encoders are compared: `official`, the set's published split, or `seeded`, one by `seed`.

    What the encoders have seen keeps its part (`known`), so that the test part is new to all of them.
    Raises ValueError for `official` where the set publishes none or where it has other parts than are known, and as
    `seen.divide` does.
    """
    if kind != "official":
        return divide(labeled, known, seed)
    if labeled.official_split is None:
        raise ValueError(f"--split official: {labeled.name} has none; KonIQ-10k's is koniq10k_distributions_sets.csv")
    for part, names in labeled.official_split.items():
        if any(known.get(name, part) != part for name in names):
            raise ValueError(_another_split("an encoder", labeled, "the official one"))
    return labeled.official_split


def check_runs(place: str, labeled: LabeledSet, known: Mapping[str, str]) -> None:
    """Raises ValueError for an encoder whose training has fixed the split, where there are several."""
    if SEED not in place and known:
        each = f"each split must have a run, named with its seed, as {place}-{SEED}"
        raise ValueError(f"--splits: {place} was trained by one split of {labeled.name}; {each}")
