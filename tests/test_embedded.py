"""Every command's main() also runs where Python is not a terminal's: in a thread, with its output caught in memory."""

import importlib
import io
import threading
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import pytest

import ssl_iqa
from tests.models import save_model

PACKAGE = Path(ssl_iqa.__file__).parent
COMMANDS = ["train_joint", "finetune"]
COMMANDS += [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in sorted(PACKAGE.rglob("*.py"))
    if "\ndef main(arguments" in path.read_text()
]


def run(command: str, *words: object) -> tuple[object, str]:
    """The exit code and the output of main() in a thread, with io.StringIO as the standard output."""
    main = importlib.import_module(command).main
    output, codes = io.StringIO(), []

    def call() -> None:
        try:
            codes.append(main([*map(str, words)]))
        except SystemExit as end:
            codes.append(end.code)

    thread = threading.Thread(target=call)
    with redirect_stdout(output):
        thread.start()
        thread.join()
    (code,) = codes  # none after a traceback
    return code or 0, output.getvalue()


@pytest.fixture
def model_file(tmp_path: Path, one_thread: None) -> Path:
    return save_model(tmp_path / "run" / "model.pt")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_and_a_wrong_flag(command: str) -> None:
    code, text = run(command, "--help")
    assert code == 0 and text.startswith("usage: ")
    assert run(command, "--no-such-flag") == (2, "")


def test_scores(model_file: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, text = run("ssl_iqa.__main__", "score", model_file, photographs)
    assert code == 0 and text.count("\n") == 1 + len([*photographs.iterdir()])
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{photographs / '0.png'}\n"))
    code, text = run("ssl_iqa.__main__", "score", model_file, "-", "--csv")
    assert code == 0 and text.splitlines()[1].startswith(str(photographs / "0.png"))
    assert run("ssl_iqa.__main__", "score", model_file, photographs / "none.png") == (2, "")


def test_a_page_and_an_export(model_file: Path, photographs: Path, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    code, text = run("ssl_iqa.__main__", "report", model_file, photographs, "-o", tmp_path / "page.html")
    assert code == 0 and text.startswith(f"{tmp_path / 'page.html'}: ")
    code, text = run("ssl_iqa.__main__", "export", model_file, tmp_path / "model.safetensors")
    assert code == 0 and text.startswith(f"{tmp_path / 'model.safetensors'}: ")


def test_finetuning(finetune_arguments: Callable[..., list[str]], tmp_path: Path) -> None:
    code, text = run("finetune", *finetune_arguments(out=tmp_path / "run-0"))
    assert code == 0 and "SROCC" in text


def test_joint_training(joint_arguments: Callable[..., list[str]], tmp_path: Path, small_probe: None) -> None:
    """Signals, for which Python takes handlers in the main thread only, mean there what they did before."""
    code, text = run("train_joint", *joint_arguments(out=tmp_path / "run", epochs=1, near_duplicates="ignore"))
    assert code == 0 and "Next: python " in text
