"""What train_joint.py and finetune.py parse and check alike, and every command's parser.

A script's settings are a frozen dataclass, whose fields say their flag's group, help and range:

    PRESETS = presets(Settings)
    args = script_parser(__doc__, PRESETS, Path("runs/joint")).parse_args(arguments)
    settings = settings_from(args, PRESETS)             raises ValueError: call it in console.clear_errors()
"""

import argparse
import dataclasses
import math
import operator
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ssl_iqa import __version__
from ssl_iqa.engine import distributed

LIMITS = {"low": (operator.ge, "at least"), "high": (operator.le, "at most"), "above": (operator.gt, "more than")}


class Parser(argparse.ArgumentParser):
    """argparse's, but a wrong flag or value gives one line, `error: --epochs: .., see --help`, and exit code 2, without
    the usage; of several processes on a machine one says it.
    """

    def error(self, message: str) -> NoReturn:
        if distributed.on_this_machine()[0] == 0:
            problem = message.removeprefix("argument ").replace(": must be ", " must be ", 1)  # of `whole`
            print(f"error: {problem}; see --help", file=sys.stderr)
        sys.exit(2)


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """What `parse_args` gives, but options may stand amid paths, where there are no subcommands."""
    try:
        return parser.parse_intermixed_args(arguments)
    except TypeError:  # argparse's, before it looks at any argument: there are subcommands
        return parser.parse_args(arguments)


def setting(
    default: Any, group: str, text: str, choices: Sequence[str] | None = None, demo: Any = None, **limits: float
) -> Any:
    """A field of a settings dataclass: one of `choices`, or a number within `limits`: `low`, `high`, `above`.

    `demo` is its value in the demo's preset, where that is another one. With a tuple as default the flag may be given
    several times.
    """
    metadata = {"group": group, "help": text, "choices": choices, "demo": demo, "limits": limits}
    return dataclasses.field(default=default, metadata=metadata)


def presets(settings: type) -> dict[str, Any]:
    """`paper`, the fields' defaults, and `demo`."""
    demo = {field.name: field.metadata["demo"] for field in dataclasses.fields(settings)}
    return {"demo": settings(**{name: v for name, v in demo.items() if v is not None}), "paper": settings()}


def script_parser(description: str, presets: dict[str, Any], out: Path) -> Parser:
    """A parser with `add_flags`, of a script."""
    parser = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"ssl_iqa {__version__}")
    add_flags(parser, presets, out)
    return parser


def add_flags(parser: argparse.ArgumentParser, presets: dict[str, Any], out: Path) -> None:
    """A flag for each setting, whose value is None where it is not given, and those of every run; `out` is its default
    folder. Where --out is not given, `args.out` is None. A setting without a group is none of the flags.
    """
    parser.add_argument("--preset", choices=tuple(presets), default="demo", help="what the settings below start from")
    groups: dict[str, argparse._ArgumentGroup] = {}
    for field in dataclasses.fields(presets["demo"]):
        title, choices = field.metadata["group"], field.metadata["choices"]
        if not title:
            continue
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        defaults = ", ".join(f"{name} {getattr(preset, field.name)!r}" for name, preset in presets.items())
        kind: dict[str, Any] = {"type": field.type, "choices": choices}
        kind["metavar"] = "|".join(choices) if choices else field.name.upper()
        if field.type is bool:
            kind = {"action": "store_true", "default": None}
        elif isinstance(field.default, tuple):
            kind = {"action": "append", "metavar": field.name.upper()}
        text = f"{field.metadata['help']} ({defaults})".replace("%", "%%")
        groups[title].add_argument(flag(field.name), help=text, **kind)
    parser.add_argument("--out", type=Path, help=f"the run's folder ({out})")
    parser.add_argument("--overwrite", action="store_true", help="replace the run that --out holds")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out from where it was saved")


def settings_from(args: argparse.Namespace, presets: dict[str, Any], **forced: Any) -> Any:
    """The preset with `forced` values and those of the flags in its place.

    Raises ValueError, naming the flag, for a value out of range, and for a batch that the processes cannot share.
    """
    preset = presets[args.preset]
    given = {field.name: getattr(args, field.name) for field in dataclasses.fields(preset)}
    given = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items() if v is not None}
    settings = dataclasses.replace(preset, **forced | given)
    for field in dataclasses.fields(settings):
        name, value = flag(field.name), getattr(settings, field.name)
        if isinstance(value, float) and math.isinf(value):
            raise ValueError(f"{name} must be finite, got {value}")
        for limit, bound in field.metadata["limits"].items():
            is_within, words = LIMITS[limit]
            if not is_within(value, bound):
                raise ValueError(f"{name} must be {words} {bound}, got {value}")
        processes = distributed.launched()
        if field.name.endswith("batch_size") and value % processes:
            raise ValueError(f"{name} must be a multiple of the number of processes, {processes}, got {value}")
    return settings


def whole(low: int, high: int) -> Callable[[str], int]:
    """An argument's type: a whole number from low to high, 0 or more."""

    def parse(text: str) -> int:
        if not (text.isdecimal() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"must be a whole number {low} to {high}, got {text!r}")
        return int(text)

    return parse


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")
