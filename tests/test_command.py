"""`ssl-iqa` itself: its list of commands, and what it makes of its first argument."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import ssl_iqa
from ssl_iqa.__main__ import COMMANDS
from ssl_iqa.scoring import quality
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


def test_a_closed_pipe_ends_any_command_without_a_word(tmp_path: Path) -> None:
    folder, model = Path(ssl_iqa.__file__).parents[1], save_model(tmp_path / "model.pt")
    for words, unbuffered in ((["--help"], ""), (["card", str(model)], "1")):
        reading, writing = os.pipe()
        os.close(reading)
        environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        words = [sys.executable, "-m", "ssl_iqa", *words]
        done = subprocess.run(words, cwd=folder, stdout=writing, stderr=subprocess.PIPE, env=environment)
        os.close(writing)
        assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_standard_output_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        words = [sys.executable, "-m", "ssl_iqa", "--help"]
        done = subprocess.run(words, cwd=Path(ssl_iqa.__file__).parents[1], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2 and done.stderr == b"error: standard output: no space left on device\n"


def test_ctrl_c_ends_any_command_without_a_word(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*others: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(quality, "load", interrupted)
    for words in (["card", "model.pt"], ["severity", "model.pt", "."], ["export", "model.pt", "out.onnx"]):
        assert command(*words) == ("", "", 130)


def test_a_model_in_a_commands_place_scores(
    command: Command, photographs: Path, tmp_path: Path, one_thread: None
) -> None:
    words = [save_model(tmp_path / "model.pt"), photographs / "0.png", "--json"]
    assert command(*words) == command("score", *words) and command(*words)[2] == 0
