"""`ssl-iqa` itself: its list of commands, and what it makes of its first argument."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import ssl_iqa
from ssl_iqa.__main__ import COMMANDS
from tests.models import save_model

Command = Callable[..., tuple[str, str, int]]

NO_TORCH = """
import sys
from ssl_iqa.__main__ import main
main(["--help"])
assert "torch" not in sys.modules
"""


def test_help_has_a_line_for_each_command_and_does_not_wait_for_torch(command: Command) -> None:
    done = subprocess.run(
        [sys.executable, "-c", NO_TORCH], cwd=Path(ssl_iqa.__file__).parents[1], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    named = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
    assert named == [*COMMANDS] and set(named) >= {"score", "explain", "report", "card", "export", "figure", "probe"}
    assert command("--help") == command() == (done.stdout, "", 0)
    assert command("--version") == (f"ssl_iqa {ssl_iqa.__version__}\n", "", 0)


@pytest.mark.parametrize("word", ["scroe", "none.pt"])
def test_what_is_no_command_and_no_file_is_one_line(command: Command, word: str) -> None:
    assert command(word, ".") == ("", f"error: {word}: no such command or file; see ssl-iqa --help\n", 2)


def test_a_model_in_a_commands_place_scores(
    command: Command, photographs: Path, tmp_path: Path, one_thread: None
) -> None:
    words = [save_model(tmp_path / "model.pt"), photographs / "0.png", "--json"]
    assert command(*words) == command("score", *words) and command(*words)[2] == 0
