"""Checks that the commands in README.md and docs/ would be taken: their arguments are parsed, nothing is run.

python tests/readme_commands.py
"""

import argparse
import io
import re
import runpy
import shlex
import sys
import warnings
from contextlib import redirect_stdout
from functools import cache
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import finetune  # noqa: E402
import train_joint  # noqa: E402
from ssl_iqa.__main__ import COMMANDS  # noqa: E402
from ssl_iqa.engine.settings import parse  # noqa: E402
from ssl_iqa.evaluation.cells import NAMED  # noqa: E402
from ssl_iqa.evaluation.protocol import parse_encoders  # noqa: E402

SCRIPTS = {"train_joint.py": train_joint.parse_arguments, "finetune.py": finetune.parse_arguments}


def shell_lines(text: str) -> list[str]:
    """The lines of Markdown's code blocks: fenced as bash, sh or without a language, or indented by four spaces."""
    lines, language = [], None
    for line in text.splitlines():
        fence = re.match(r" {0,3}(```+|~~~+)\s*(\w*)", line)
        if fence:
            language = fence[2] if language is None else None
        elif language in ("bash", "sh", "") or (language is None and line.startswith("    ")):
            lines.append(line.strip())
    return "\n".join(lines).replace("\\\n", " ").splitlines()


def commands(lines: list[str]) -> list[list[str]]:
    """The words of each command of this project, in lines that may hold several; the first says which it is.

    That is `train_joint.py` or `finetune.py`, `ssl-iqa`, or `benchmarks.NAME`.
    """
    found = []
    for line in unrolled(lines):
        words = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="&|;<>")
        words.whitespace_split = True
        command: list[str] = []
        for word in [*words, ";"]:
            if not set(word) <= set("&|;<>"):
                command.append(word)
                continue
            if program := program_of(command):
                found.append(program)
            command = []
    return found


def unrolled(lines: list[str]) -> list[str]:
    """The lines with those of a loop `for NAME in ..; do` once for each of its values."""
    result, variable, values = [], "", [""]
    for line in lines:
        if loop := re.match(r"for (\w+) in (.+); do$", line):
            variable, values = f"${loop[1]}", loop[2].split()
        result += [line.replace(variable, value) for value in values] if variable and variable in line else [line]
    return result


def program_of(command: list[str]) -> list[str]:
    """The command from its program on, without what starts it; empty where it is none of this project."""
    for place, word in enumerate(command):
        if word in (*SCRIPTS, "ssl-iqa"):
            return command[place:]
        if word == "-m" and command[place + 1].split(".")[0] in ("ssl_iqa", "benchmarks"):
            return ["ssl-iqa" if command[place + 1] == "ssl_iqa" else command[place + 1], *command[place + 2 :]]
    return []


@cache
def help_of(module: str) -> str:
    """What a module that is a command says of its flags, in this process: to start one takes seconds."""
    shown, before = io.StringIO(), sys.argv
    sys.argv = [module, "--help"]
    try:
        with redirect_stdout(shown), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of modules that are imported already
            runpy.run_module(module, run_name="__main__")
    except SystemExit as end:
        if end.code:
            sys.exit(f"{module} --help: exit code {end.code}")
    finally:
        sys.argv = before
    return shown.getvalue()


@cache
def train_joint_help() -> str:
    shown = io.StringIO()
    try:
        with redirect_stdout(shown):
            train_joint.parse_arguments(["--help"])
    except SystemExit:
        pass
    return shown.getvalue()


def check(program: str, *arguments: str) -> None:
    """Exits, with a message, for arguments that the program does not take."""
    if program in SCRIPTS:
        settings, _ = SCRIPTS[program](list(arguments))
        if program == "finetune.py" and settings.encoders:
            check_encoders(settings.encoders)
    elif program == "ssl-iqa":
        check_subcommand(*arguments)
    else:
        known = help_of(program) + (train_joint_help() if program == "benchmarks.step" else "")  # gives others on
        flags = [word.partition("=")[0] for word in arguments if word.startswith("-")]
        unknown = [flag for flag in flags if not re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", known)]
        if unknown:
            sys.exit(f"{program}: no flag {unknown[0]}")


def check_encoders(text: str) -> None:
    """Exits for names that `finetune.py --encoders` does not know, which it looks for when its data is loaded."""
    try:
        parse_encoders(text, NAMED)
    except ValueError as error:
        sys.exit(str(error))


def check_subcommand(*arguments: str) -> None:
    """Parses the arguments of `ssl-iqa` with the subcommand's own parser; without a name it is `score`."""
    if arguments == ("--help",):
        return
    name, rest = (arguments[0], arguments[1:]) if arguments[0] in COMMANDS else ("score", arguments)
    parser = argparse.ArgumentParser(prog=f"ssl-iqa {name}")
    import_module(COMMANDS[name][0]).add_arguments(parser)
    parse(parser, rest)


def main() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    found = [command for page in pages for command in commands(shell_lines(page.read_text(encoding="utf-8")))]
    for command in found:
        print(" ".join(command))
        check(*command)
    if not found:
        sys.exit("README.md has no command of this project")
    named = {words[1] if words[1] in COMMANDS else "score" for words in found if words[0] == "ssl-iqa"}
    if unnamed := sorted({*COMMANDS} - named):
        sys.exit(f"no page shows how to use ssl-iqa {', '.join(unnamed)}")
    print(f"{len(found)} commands are as they should be")


if __name__ == "__main__":
    main()
