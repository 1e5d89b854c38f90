"""Checks that the commands in README.md and docs/ would be taken: their flags are parsed, nothing is run.

python tests/readme_commands.py
"""

import io
import re
import runpy
import shlex
import sys
import warnings
from contextlib import redirect_stdout
from functools import cache
from itertools import takewhile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import finetune  # noqa: E402
import train_joint  # noqa: E402

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
    """The words of each command of this project, in lines that may hold several."""
    found = []
    for line in lines:
        line = re.sub(r"\$\w+", "0", line)  # the variable of a loop over seeds
        words = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="&|;<>")
        words.whitespace_split = True
        command: list[str] = []
        for word in [*words, ";"]:
            if not set(word) <= set("&|;<>"):
                command.append(word)
                continue
            while command and re.fullmatch(r"\w+=\S*", command[0]):  # a variable of the environment
                del command[0]
            if command[:1] == ["torchrun"]:
                script = next(i for i, word in enumerate(command) if word in SCRIPTS)
                command = ["python", *command[script:]]
            if command[:1] == ["ssl-iqa"]:  # as it is installed
                command = ["python", "-m", "ssl_iqa", *command[1:]]
            if len(command) > 1 and command[0] == "python" and (command[1] in SCRIPTS or is_module(command)):
                found.append(command)
            command = []
    return found


def is_module(command: list[str]) -> bool:
    return command[1] == "-m" and command[2:3] != [] and command[2].split(".")[0] in ("ssl_iqa", "benchmarks")


@cache
def help_of(*program: str) -> str:
    """What a program, -m MODULE or a script, says of its flags: in this process, since to start one takes seconds.

    Exits where it does not.
    """
    shown, before = io.StringIO(), sys.argv
    sys.argv = [program[-1], "--help"] if program[0] != "-m" else [program[1], *program[2:], "--help"]
    try:
        with redirect_stdout(shown), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of modules that are imported already
            if program[0] == "-m":
                runpy.run_module(program[1], run_name="__main__")
            else:
                runpy.run_path(str(ROOT / program[0]), run_name="__main__")
    except SystemExit as end:
        if end.code:
            sys.exit(f"{' '.join(program)} --help: exit code {end.code}")
    finally:
        sys.argv = before
    return shown.getvalue()


def check(command: list[str]) -> None:
    """Exits, with argparse's message, for arguments that the command does not take."""
    if not is_module(command):
        SCRIPTS[command[1]](command[2:])
        return
    first = takewhile(lambda word: not word.startswith("-"), command[3:4])  # may be a subcommand
    known = help_of("-m", command[2], *first)
    flags = [word.partition("=")[0] for word in command[3:] if word.startswith("-")]
    if command[2:4] == ["benchmarks.bench", "step"]:  # gives other flags on
        known += help_of("train_joint.py")
    unknown = [flag for flag in flags if not re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", known)]
    if unknown:
        sys.exit(f"{' '.join(command)}: no flag {unknown[0]}")


def main() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    found = [one for page in pages for one in commands(shell_lines(page.read_text(encoding="utf-8")))]
    for command in found:
        print(" ".join(command))
        check(command)
    if not found:
        sys.exit("README.md has no command of this project")
    print(f"{len(found)} commands are as they should be")


if __name__ == "__main__":
    main()
