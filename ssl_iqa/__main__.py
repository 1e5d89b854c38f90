"""The command `ssl-iqa`; `python -m ssl_iqa` is the same."""

import argparse
import errno
import os
import sys
from importlib import import_module
from pathlib import Path

from ssl_iqa import __version__

# Each module has `add_arguments(parser)` and `run(args)`; its docstring is what --help shows. It is imported when it is
# asked for, so that `ssl-iqa --help` does not wait for torch.
COMMANDS = {
    "score": ("ssl_iqa.scoring.score", "scores of images, 1 (worst) to 10 (best); `ssl-iqa PATH..` is the same"),
    "explain": ("ssl_iqa.scoring.explain", "what is wrong with images, and where"),
    "report": ("ssl_iqa.scoring.page", "a page of scored images, for any browser"),
    "card": ("ssl_iqa.scoring.card", "what a model's scores mean, and how good it was on images it had not seen"),
    "export": ("ssl_iqa.scoring.export", "a model for other programs: .onnx, .safetensors"),
    "learn-names": ("ssl_iqa.scoring.naming", "teach a model to name distortions, for explain and report"),
    "severity": ("ssl_iqa.scoring.severity", "whether a model's score falls as distortions grow"),
    "figure": ("ssl_iqa.figures.command", "the paper's figures, of your own runs"),
    "probe": ("ssl_iqa.evaluation.probe", "which distortions an encoder tells apart"),
    "pretrain": ("ssl_iqa.baselines.pretrain", "Table 3's learned methods, by their own pretext tasks"),
    "tables": ("ssl_iqa.evaluation.tables", "Tables 1 to 3, of finished runs of finetune.py"),
    "near-duplicates": ("ssl_iqa.data.near_duplicates", "images that two sets share"),
}


def overview() -> str:
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:<{width}}{text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(["usage: ssl-iqa COMMAND ..", "", *lines, "", "ssl-iqa COMMAND --help says more of one."])


def main(arguments: list[str] | None = None) -> None:
    """Bad input ends the program with its one line and exit code 2; Ctrl-C, and a pipe that is closed, without one."""
    try:
        try:
            dispatch(arguments)
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left goes nowhere
        if error.errno == errno.EPIPE:  # `| head` has seen enough
            sys.exit()
        print(f"error: standard output: {error.strerror.lower()}", file=sys.stderr)
        sys.exit(2)


def dispatch(arguments: list[str] | None) -> None:
    given = sys.argv[1:] if arguments is None else arguments
    name = given[0] if given else "--help"
    if name in ("-h", "--help"):
        print(overview())
    elif name == "--version":
        print(f"ssl_iqa {__version__}")
    elif name in COMMANDS:
        run(name, given[1:])
    elif Path(name).exists():
        run("score", given)
    else:
        print(f"error: {name}: no such command or file; see ssl-iqa --help", file=sys.stderr)
        sys.exit(2)


def run(name: str, arguments: list[str]) -> None:
    from ssl_iqa.engine.settings import Parser, parse

    module = import_module(COMMANDS[name][0])
    parser = Parser(
        prog=f"ssl-iqa {name}", description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module.add_arguments(parser)
    module.run(parse(parser, arguments))


if __name__ == "__main__":
    main()
