"""Which distortions are drawn: "configured and chosen depending on the downstream task" (Section 3.1).

A set of distortion classes is a tuple of `DistortionClass`; a class's place in it is its number. `load_distortions`
makes one from a preset's name or from a file.
"""

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from numbers import Real
from pathlib import Path
from typing import Any

import torch

from . import imgaug_types
from .apply import FLAT, distort_as
from .table import DISTORTIONS, KADIS, NAMES, TYPES, DistortionClass

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LIBRARIES = ("ssl_iqa", "imgaug")


def load_distortions(spec: str) -> tuple[DistortionClass, ...]:
    """The classes that `--distortions` names.

    - `kadis`: all 125 of KADIS-700k and KADID-10k.
    - `distinct`: those without the four that leave a picture as it was, so that no two classes are the same.
    - `imgaug`: the 125 with the paper's own library in the types that it has (docs/distortions.md), ours in the others.
    - a TOML or JSON file: a table for each type that is wanted, in any order, empty or with `levels` (values in the
      type's own unit, from weak to strong; the published ones if there are none), `weight` (how often each of its
      levels is drawn, 1 if there is none) and `library` ("imgaug", or "ssl_iqa" if there is none).

    Raises FileNotFoundError for a file that is not there and ValueError for one that is not as said, which names the
    file and the type; ValueError if imgaug is asked for and cannot be imported.
    """
    if spec == "kadis":
        return KADIS
    if spec == "distinct":
        same = unchanged(KADIS)
        return tuple(distortion for distortion in KADIS if distortion not in same)
    if spec == "imgaug":
        chosen = {name: {"library": "imgaug"} if name in imgaug_types.AUGMENTERS else {} for name in NAMES}
        return classes_from_table(chosen, source="--distortions imgaug")
    return classes_from_table(read_table(Path(spec).expanduser()), source=spec)


def unchanged(distortions: Sequence[DistortionClass] = KADIS) -> list[DistortionClass]:
    """The classes that equal the pristine picture, but for the stretch.

    Found by trying: on a picture of random colors they move no sample by half a step of 8 bits.
    """
    image = torch.rand(3, 48, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return [
        distortion
        for distortion in distortions
        if (distort_as(image, distortion, torch.Generator().manual_seed(1), stretch=False) - image).abs().max() < FLAT
    ]


def read_table(path: Path) -> Any:
    """The content of a TOML or JSON file."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; wanted is kadis, distinct, imgaug or a TOML or JSON file of distortions"
        )
    if path.suffix.lower() not in (".toml", ".json"):
        raise ValueError(f"{path}: the name of a file of distortions ends in .toml or .json")
    try:
        text = path.read_text(encoding="utf-8-sig")
        return tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except ValueError as error:  # both libraries' errors, and that of bytes that are no text, are ValueErrors
        raise ValueError(f"{path}: not a {path.suffix[1:].upper()} file ({error})") from error


def classes_from_table(table: Any, source: str) -> tuple[DistortionClass, ...]:
    """The classes of a table {type: {"levels": .., "weight": .., "library": ..}}, types in the paper's order.

    Raises ValueError, its message starting with `source`, for anything in it that makes no sense.
    """
    if not isinstance(table, Mapping) or not table:
        raise ValueError(f"{source}: a table for each type is wanted, such as [jpeg], {table!r} came")
    for name, options in table.items():
        if name not in TYPES:
            near = get_close_matches(str(name), NAMES, n=1, cutoff=0)[0]
            raise ValueError(f"{source}: {name!r} is no distortion type; the nearest name is {near!r}")
        if not isinstance(options, Mapping):
            raise ValueError(f"{source}: {name}: a table of levels, weight, library is wanted, {options!r} came")
        unknown = [key for key in options if key not in ("levels", "weight", "library")]
        if unknown:
            raise ValueError(f"{source}: {name}: levels, weight and library may be given, {unknown[0]!r} came")
    chosen = []
    for name in (name for name in NAMES if name in table):
        options = table[name]
        weight, library = options.get("weight", 1.0), options.get("library", "ssl_iqa")
        if not is_number(weight) or not weight > 0:
            raise ValueError(f"{source}: {name}: weight: a number above 0 is wanted, {weight!r} came")
        check_library(name, library, source)
        levels = options.get("levels", DISTORTIONS[name])
        check_levels(name, levels, source)
        values = map(int, levels) if TYPES[name].whole else levels  # of [60.0, 30.0] in the file the codec wants 60
        chosen += [
            DistortionClass(name, level, value, float(weight), library) for level, value in enumerate(values, start=1)
        ]
    if len(chosen) < 2:
        raise ValueError(f"{source}: two classes or more are wanted: Eq. 5 tells classes apart")
    return tuple(chosen)


def is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def check_library(name: str, library: Any, source: str) -> None:
    if library not in LIBRARIES:
        raise ValueError(f"{source}: {name}: library: one of {', '.join(LIBRARIES)} is wanted, {library!r} came")
    if library == "imgaug":
        if name not in imgaug_types.AUGMENTERS:
            has = ", ".join(imgaug_types.AUGMENTERS)
            raise ValueError(f"{source}: {name}: imgaug has no such type; it has {has}")
        try:
            imgaug_types.augmenters()
        except ImportError as error:
            raise ValueError(f"{source}: imgaug: pip install 'ssl_iqa[imgaug]' is wanted ({error})") from error


def check_levels(name: str, levels: Any, source: str) -> None:
    kind = TYPES[name]
    if not isinstance(levels, (list, tuple)) or not levels:
        raise ValueError(f"{source}: {name}: levels: a list of numbers is wanted, {levels!r} came")
    for value in levels:
        if not is_number(value):
            raise ValueError(f"{source}: {name}: levels: numbers are wanted, {value!r} came")
        if not kind.low <= value <= kind.high or (kind.whole and value != int(value)):
            whole = "whole " if kind.whole else ""
            wanted = f"{whole}numbers from {kind.low:g} to {kind.high:g}"
            raise ValueError(f"{source}: {name}: levels: {wanted} are wanted, {value!r} came")
    if len(set(levels)) < len(levels):
        raise ValueError(f"{source}: {name}: levels: {list(levels)} has a value twice, which makes two equal classes")


def as_plain(distortions: Iterable[DistortionClass]) -> list[list[str | int | float]]:
    """A set for a checkpoint, in types that `torch.load(weights_only=True)` reads."""
    return [list(distortion) for distortion in distortions]
