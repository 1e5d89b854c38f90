"""Settings of the scripts: a frozen dataclass whose fields say their flag's group, help and range."""

import argparse
import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Any


def setting(
    default: Any,
    group: str,
    text: str,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: Sequence[str] | None = None,
) -> Any:
    """A field of a settings dataclass: low <= value <= high, value > above, or one of `choices`.

    One whose default is a tuple takes its flag several times.
    """
    metadata = {"group": group, "help": text, "low": low, "high": high, "above": above, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


def add_flags(parser: argparse.ArgumentParser, presets: dict[str, Any]) -> None:
    """`--preset` and a flag for each setting; a flag that is not given is None."""
    parser.add_argument("--preset", choices=tuple(presets), default="demo", help="what the settings below start from")
    groups: dict[str, argparse._ArgumentGroup] = {}
    for field in dataclasses.fields(presets["demo"]):
        title = field.metadata["group"]
        group = groups[title] if title in groups else groups.setdefault(title, parser.add_argument_group(title))
        defaults = ", ".join(f"{name} {getattr(preset, field.name)!r}" for name, preset in presets.items())
        choices = field.metadata["choices"]
        text = f"{field.metadata['help']} ({defaults})".replace("%", "%%")
        if field.type is bool:
            group.add_argument(flag(field.name), action="store_true", default=None, help=text)
        elif isinstance(field.default, tuple):
            group.add_argument(flag(field.name), action="append", metavar=field.name.upper(), help=text)
        else:
            metavar = "|".join(choices) if choices else field.name.upper()
            group.add_argument(flag(field.name), type=field.type, choices=choices, metavar=metavar, help=text)


def settings_from(args: argparse.Namespace, presets: dict[str, Any], **forced: Any) -> Any:
    """The preset with what was given in its place. Raises ValueError, naming the flag, for a value out of range."""
    preset = presets[args.preset]
    given = {field.name: getattr(args, field.name) for field in dataclasses.fields(preset)}
    given = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items() if v is not None}
    settings = dataclasses.replace(preset, **forced | given)
    for field in dataclasses.fields(settings):
        value, limits = getattr(settings, field.name), field.metadata
        if isinstance(value, float) and math.isinf(value):
            raise ValueError(f"{flag(field.name)} {value}: a finite number is wanted")
        if limits["low"] is not None and not value >= limits["low"]:
            raise ValueError(f"{flag(field.name)} {value}: {limits['low']} or more is wanted")
        if limits["high"] is not None and not value <= limits["high"]:
            raise ValueError(f"{flag(field.name)} {value}: {limits['high']} or less is wanted")
        if limits["above"] is not None and not value > limits["above"]:
            raise ValueError(f"{flag(field.name)} {value}: more than {limits['above']} is wanted")
    return settings


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def is_same(was: Any, now: Any) -> bool:
    """Whether two values of a setting mean the same: a file or folder may be written in several ways."""
    return was == now or _resolved(was) == _resolved(now)


def _resolved(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_resolved(one) for one in value]
    if not isinstance(value, str):
        return value
    places = []
    for part in value.split(","):  # imagenet,cl=RUN or csv:FILE
        start = max(part.rfind("="), part.rfind(":")) + 1
        path = os.path.expanduser(part[start:])
        places.append(part[:start] + (os.path.realpath(path) if os.path.exists(path) else path))
    return places
