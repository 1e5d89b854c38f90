"""Which distortions are drawn: "configured and chosen depending on the downstream task" (Section 3.1).

A set of distortion classes is a tuple of `DistortionClass`; a class's place in it is its number. `load_distortions`
makes one from a preset's name or from a file.
"""

import json
import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from numbers import Real
from pathlib import Path
from typing import Any

import torch

from . import imgaug_types
from .apply import FLAT, distort_as
from .table import DISTORTIONS, KADIS, NAMES, TYPES, DistortionClass

OPTIONS = ("levels", "weight", "library")
LIBRARIES = ("ssl_iqa", "imgaug")


def load_distortions(spec: str) -> tuple[DistortionClass, ...]:
    """The classes that `--distortions` names.

    - `kadis`: all 125 of KADIS-700k and KADID-10k.
    - `distinct`: those without the four that leave an image as it was, so that no two classes are the same.
    - `imgaug`: the 125 with the paper's own library in the types that it has (docs/distortions.md), ours in the others.
    - a TOML or JSON file: a table for each type, in any order, empty or with `levels` (values in the type's own unit,
      from weak to strong; the published ones by default), `weight` (how often each of its levels is drawn; 1) and
      `library` ("ssl_iqa" or "imgaug"; "ssl_iqa").

    Raises FileNotFoundError for a missing file and ValueError for any other content, with the file and the type;
    ValueError where imgaug is named and cannot be imported.
    """
    if spec == "kadis":
        return KADIS
    if spec == "distinct":
        same = unchanged()
        return tuple(distortion for distortion in KADIS if distortion not in same)
    if spec == "imgaug":
        table = {name: {"library": "imgaug"} if name in imgaug_types.AUGMENTERS else {} for name in NAMES}
        return classes_from_table(table, source="--distortions imgaug")
    return classes_from_table(read_table(Path(spec).expanduser()), source=spec)


def unchanged(distortions: Sequence[DistortionClass] = KADIS) -> list[DistortionClass]:
    """The classes that equal the pristine image, but for the stretch.

    Found by trying: on an image of random colors they move no sample by half a step of 8 bits.
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
            f"{path}: no such file; distortions must be kadis, distinct, imgaug or a TOML or JSON file"
        )
    kind = path.suffix.lower()
    if kind not in (".toml", ".json"):
        raise ValueError(f"{path}: the name of a file of distortions must end in .toml or .json")
    try:
        text = path.read_text(encoding="utf-8-sig")
        return tomllib.loads(text) if kind == ".toml" else json.loads(text)
    except ValueError as error:  # of TOML, of JSON, and of bytes that are no text
        raise ValueError(f"{path}: not a {kind[1:].upper()} file ({error})") from error


def classes_from_table(table: Any, source: str) -> tuple[DistortionClass, ...]:
    """The classes of a table {type: {"levels": .., "weight": .., "library": ..}}, types in the paper's order.

    Raises ValueError, its message starting with `source`, for anything in it that makes no sense.
    """
    is_table = isinstance(table, Mapping) and len(table) > 0
    require(is_table, f"{source}: content", "a table for each type, such as [jpeg]", table)
    for name in table:
        if name not in TYPES:
            nearest = get_close_matches(str(name), NAMES, n=1, cutoff=0)[0]
            raise ValueError(f"{source}: {name!r} is no distortion type; the nearest name is {nearest!r}")
    distortions = []
    for name in (name for name in NAMES if name in table):
        options = table[name]
        require(isinstance(options, Mapping), f"{source}: {name}", "a table of levels, weight, library", options)
        for option in options:
            require(option in OPTIONS, f"{source}: {name}: option", "levels, weight or library", option)
        weight, library = options.get("weight", 1.0), options.get("library", "ssl_iqa")
        require(is_number(weight) and weight > 0, f"{source}: {name}: weight", "a number above 0", weight)
        check_library(name, library, source)
        levels = options.get("levels", DISTORTIONS[name])
        check_levels(name, levels, source)
        values = map(int, levels) if TYPES[name].whole else levels  # a codec takes 60, not the file's 60.0
        for level, value in enumerate(values, start=1):
            distortions.append(DistortionClass(name, level, value, float(weight), library))
    if len(distortions) < 2:
        raise ValueError(f"{source}: classes must be two or more, since Eq. 5 tells them apart, got {len(distortions)}")
    return tuple(distortions)


def require(valid: bool, name: str, what: str, value: Any) -> None:
    if not valid:
        raise ValueError(f"{name} must be {what}, got {value!r}")


def is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def check_library(name: str, library: Any, source: str) -> None:
    require(library in LIBRARIES, f"{source}: {name}: library", f"one of {', '.join(LIBRARIES)}", library)
    if library == "imgaug":
        if name not in imgaug_types.AUGMENTERS:
            raise ValueError(f"{source}: {name}: imgaug has no such type; it has {', '.join(imgaug_types.AUGMENTERS)}")
        try:
            imgaug_types.augmenters()
        except ImportError as error:
            raise ValueError(f"{source}: imgaug is required: pip install 'ssl_iqa[imgaug]' ({error})") from error


def check_levels(name: str, levels: Any, source: str) -> None:
    kind, what = TYPES[name], f"{source}: {name}: levels"
    require(isinstance(levels, (list, tuple)) and len(levels) > 0, what, "a list of numbers", levels)
    span = f"{'whole ' if kind.whole else ''}numbers from {kind.low:g} to {kind.high:g}"
    for value in levels:
        require(is_number(value), what, "numbers", value)
        require(kind.low <= value <= kind.high and (not kind.whole or value == int(value)), what, span, value)
    require(len(set(levels)) == len(levels), what, "different, or two classes are the same", list(levels))


def as_plain(distortions: Iterable[DistortionClass]) -> list[list[str | int | float]]:
    """A set for a checkpoint, in types that `torch.load(weights_only=True)` reads."""
    return [list(distortion) for distortion in distortions]
