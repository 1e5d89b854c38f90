"""Which distortions are drawn: "configured and chosen depending on the downstream task" (Section 3.1).

A set of distortion classes is a tuple of `DistortionClass`; a class's place in it is its number. `load_distortions`
makes one from a preset's name or from a file.
"""

import math
import tomllib
from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import torch

from . import imgaug_types
from .apply import FLAT, distort_as
from .table import DISTORTIONS, KADIS, NAMES, TYPES, DistortionClass


def load_distortions(spec: str) -> tuple[DistortionClass, ...]:
    """The classes that `--distortions` names.

    - `kadis`: all 125 of KADIS-700k and KADID-10k.
    - `distinct`: those without the four that leave an image as it was, so that no two classes are the same.
    - `imgaug`: the 125 with the paper's own library in the types that it has (docs/distortions.md), ours in the others.
    - a TOML file: a table for each type, in any order, empty or with `levels` (values in the type's own unit,
      from weak to strong; the published ones by default), `weight` (how often each of its levels is drawn; 1) and
      `library` ("ssl_iqa" or "imgaug"; "ssl_iqa").

    Raises FileNotFoundError for a missing file and ValueError for any other content, with the file and the type;
    ValueError where imgaug is named and cannot be imported.
    """
    if spec == "kadis":
        return KADIS
    if spec == "distinct":
        return _distinct()
    if spec == "imgaug":
        table = {name: {"library": "imgaug"} if name in imgaug_types.AUGMENTERS else {} for name in NAMES}
        return classes_from_table(table, source="--distortions imgaug")
    path = Path(spec).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; distortions must be kadis, distinct, imgaug or a TOML file")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:  # of TOML, and of bytes that are no text
        raise ValueError(f"{path}: not a TOML file ({error})") from error
    return classes_from_table(table, source=spec)


@cache
def _distinct() -> tuple[DistortionClass, ...]:
    same = unchanged()
    return tuple(distortion for distortion in KADIS if distortion not in same)


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


def classes_from_table(table: dict[str, Any], source: str) -> tuple[DistortionClass, ...]:
    """The classes of a table {type: {"levels": .., "weight": .., "library": ..}}, types in the paper's order.

    Raises ValueError, its message starting with `source`, for anything in it that makes no sense.
    """
    for name in table:
        if name not in TYPES:
            nearest = get_close_matches(name, NAMES, n=1, cutoff=0)[0]
            raise ValueError(f"{source}: {name!r} is no distortion type; the nearest name is {nearest!r}")
    chosen = [name for name in NAMES if name in table]
    distortions = [distortion for name in chosen for distortion in classes_of_type(name, table[name], source)]
    if len(distortions) < 2:
        raise ValueError(f"{source}: classes must be two or more, since Eq. 5 tells them apart, got {len(distortions)}")
    return tuple(distortions)


def classes_of_type(name: str, options: Any, source: str) -> list[DistortionClass]:
    """The classes of one type's table."""

    def require(valid: bool, what: str, must: str, value: Any) -> None:
        if not valid:
            raise ValueError(f"{source}: {name}{what} must be {must}, got {value!r}")

    is_table = isinstance(options, dict) and options.keys() <= {"levels", "weight", "library"}
    require(is_table, "", "a table of levels, weight, library", options)
    weight, library = options.get("weight", 1.0), options.get("library", "ssl_iqa")
    require(is_number(weight) and weight > 0, ": weight", "a number above 0", weight)
    require(library in ("ssl_iqa", "imgaug"), ": library", "ssl_iqa or imgaug", library)
    if library == "imgaug":
        require(name in imgaug_types.AUGMENTERS, "", f"one of {', '.join(imgaug_types.AUGMENTERS)} for imgaug", name)
        try:
            imgaug_types.augmenters()
        except ImportError as error:
            raise ValueError(f"{source}: imgaug is required: pip install 'ssl_iqa[imgaug]' ({error})") from error
    kind, levels = TYPES[name], options.get("levels", DISTORTIONS[name])
    numbers = f"{'whole ' if kind.whole else ''}numbers from {kind.low:g} to {kind.high:g}"
    is_list = isinstance(levels, (list, tuple)) and len(levels) > 0
    require(is_list, ": levels", f"a list of {numbers}", levels)
    for value in levels:
        fits = is_number(value) and kind.low <= value <= kind.high and (not kind.whole or value == int(value))
        require(fits, ": levels", numbers, value)
    require(len(set(levels)) == len(levels), ": levels", "different, or two classes are the same", levels)
    values = map(int, levels) if kind.whole else levels  # a codec takes 60, not the file's 60.0
    return [DistortionClass(name, level, value, float(weight), library) for level, value in enumerate(values, start=1)]


def is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
