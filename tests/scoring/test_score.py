"""The command that prints scores: its formats, its order, every kind of path, what cannot be read, exit codes."""

import codecs
import csv
import fcntl
import io
import json
import os
import pty
import shutil
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ssl_iqa
from ssl_iqa.__main__ import main
from ssl_iqa.data.images import read_image, walk_images
from ssl_iqa.scoring import export, quality, score
from tests.models import by_hand, make_networks, save_model
from tests.processes import run_process

ROOT = Path(__file__).parents[2]
MARGIN = 1.8  # of tests.models.RESIDUALS, 90 %


@pytest.fixture
def model_file(tmp_path: Path, one_thread: None) -> str:
    return str(save_model(tmp_path / "run" / "model.pt"))


@pytest.fixture
def wanted(model_file: str, photographs: Path) -> dict[str, float]:
    """The ten photographs' paths and scores."""
    model = quality.load(model_file)
    return {str(path): by_hand(model, path) for path in sorted(photographs.iterdir())}


@pytest.fixture
def printed(command: Callable[..., tuple[str, str, int]]) -> Callable[..., tuple[str, str, int]]:
    return partial(command, "score")


Printed = Callable[..., tuple[str, str, int]]


def interval(y_hat: float, margin: float) -> tuple[float, float]:
    """In 1 to 10: all that a true score can be."""
    inside = min(max(y_hat, 1), 10)
    return max(inside - margin, 1), min(inside + margin, 10)


def test_a_table_has_a_line_an_image_in_the_order_of_their_names(
    model_file: str, photographs: Path, wanted: dict[str, float], printed: Printed
) -> None:
    out, err, code = printed(model_file, photographs)
    head, *lines = out.splitlines()
    assert head.split() == ["score", "low", "high", "image"] and code == 0 and err == ""
    assert [line.split()[3] for line in lines] == [*wanted]
    for line, y_hat in zip(lines, wanted.values(), strict=True):
        numbers = [float(word) for word in line.split()[:3]]
        assert numbers == pytest.approx([y_hat, *interval(y_hat, MARGIN)], abs=0.006)
        assert len(line) - len(line.split()[3]) == len(head) - len("image")  # under its heading


def test_csv_and_json_hold_the_same(
    model_file: str, photographs: Path, wanted: dict[str, float], printed: Printed
) -> None:
    rows = list(csv.DictReader(io.StringIO(printed(model_file, photographs, "--csv")[0])))
    objects = [json.loads(line) for line in printed(model_file, photographs, "--json")[0].splitlines()]
    for found in ({**row} for row in (*rows, *objects)):
        path = found.pop("picture")
        numbers = {name: float(value) for name, value in found.items()}
        low, high = interval(wanted[path], MARGIN)
        assert numbers == pytest.approx({"score": wanted[path], "low": low, "high": high}, abs=2e-4)
    assert len(rows) == len(objects) == 10


def test_sorted_from_best_to_worst(
    model_file: str, photographs: Path, wanted: dict[str, float], printed: Printed
) -> None:
    out, _, _ = printed(model_file, photographs, "--sort", "--json")
    assert [json.loads(line)["picture"] for line in out.splitlines()] == sorted(wanted, key=lambda path: -wanted[path])


def test_the_coverage_is_that_of_the_interval(model_file: str, photographs: Path, printed: Printed) -> None:
    rows = [json.loads(printed(model_file, photographs / "0.png", "--json", "--coverage", c)[0]) for c in (0.5, 0.99)]
    margin = quality.load(model_file).margin(0.5)
    assert [rows[0]["low"], rows[0]["high"]] == pytest.approx(interval(rows[0]["score"], margin), abs=2e-4)
    assert [rows[1]["low"], rows[1]["high"]] == [1, 10]  # 19 images do not tell


def test_a_score_beyond_the_scale_is_shown_at_its_end_and_sorted_by_what_it_was(
    photographs: Path, wanted: dict[str, float], printed: Printed, tmp_path: Path
) -> None:
    middle = float(np.median([*wanted.values()]))
    for end, sign in ((1.0, -1), (10.0, 1)):
        weights = make_networks()[1].state_dict()
        name = [*weights][-1]  # the bias of the output
        weights[name] += end - middle
        changed = str(save_model(tmp_path / f"{end}" / "model.pt", {"regressor": weights}))
        rows = [json.loads(line) for line in printed(changed, photographs, "--sort", "--json")[0].splitlines()]
        assert [row["picture"] for row in rows] == sorted(wanted, key=lambda path: -wanted[path])
        expected = [min(max(wanted[row["picture"]] + end - middle, 1), 10) for row in rows]
        assert [row["score"] for row in rows] == pytest.approx(expected, abs=2e-4)
        assert sum(row["score"] == end for row in rows) == 5
        assert all(row["low"] <= row["score"] <= row["high"] for row in rows)
        model = quality.load(changed)
        assert model.score([row["picture"] for row in rows]) == pytest.approx(expected, abs=2e-4)
        x = read_image(rows[0 if sign > 0 else -1]["picture"])[None] / 255
        assert export.graph_of(model)(x).item() == end  # the graph that other programs get


def test_a_model_of_an_older_version_has_scores_without_intervals(
    tmp_path: Path, photographs: Path, printed: Printed
) -> None:
    old = save_model(tmp_path / "old.pt", {"results": None, "residuals": None})
    row = json.loads(printed(old, photographs / "0.png", "--json")[0])
    assert row["low"] is None and row["high"] is None and np.isfinite(row["score"])
    assert printed(old, photographs / "0.png")[0].splitlines()[1].split()[1:3] == ["-", "-"]
    assert printed(old, photographs / "0.png", "--csv")[0].splitlines()[1].endswith(",,")


NAMES = ["a b.png", "line\nbreak.png", 'tab\t,comma".png', "Straße 写真 🙂.png", "-dash.png", "back\\slash.PNG"]


def test_any_name_is_a_name(
    model_file: str, photographs: Path, tmp_path: Path, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "new\nfolder"
    folder.mkdir()
    for i, name in enumerate(NAMES):
        shutil.copy(photographs / f"{i}.png", folder / name)
    paths = sorted(str(folder / name) for name in NAMES)
    for form, read in (
        ("--csv", lambda out: [row["picture"] for row in csv.DictReader(io.StringIO(out, newline=""))]),
        ("--json", lambda out: [json.loads(line)["picture"] for line in out.splitlines()]),
    ):
        out, err, code = printed(model_file, folder, form)
        assert read(out) == paths and (err, code) == ("", 0)
    lines = printed(model_file, folder)[0].splitlines()[1:]
    assert len(lines) == len(NAMES)
    assert any(line.endswith("new\\nfolder/line\\nbreak.png") for line in lines)
    assert any(line.endswith("Straße 写真 🙂.png") for line in lines)


def test_a_name_that_is_no_utf8_goes_out_as_it_came(model_file: str, photographs: Path, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    shutil.copy(photographs / "0.png", name)
    calls = "main(['score', *sys.argv[1:], '--csv']); main(['score', *sys.argv[1:]])"
    code = f"import sys; from ssl_iqa.__main__ import main; {calls}"
    command, environment = [sys.executable, "-c", code, model_file, name], os.environ | {"PYTHONUTF8": "1"}
    run = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, env=environment)
    _, as_csv, _, shown = run.stdout.splitlines()
    assert as_csv.startswith(name + b",") and shown.endswith(b"caf\\udce9.png")


@pytest.mark.parametrize(
    ("end", "names"),
    [
        (b"\n", ["a b.png", "c.png"]),
        (b"\0", ["line\nbreak.png", "return.png\r", "\ufeffmark.png"]),
        (b"\r\n", ["a b.png", "c.png"]),
    ],
)
def test_a_list_of_paths_comes_from_standard_input(
    model_file: str,
    photographs: Path,
    tmp_path: Path,
    printed: Printed,
    monkeypatch: pytest.MonkeyPatch,
    end: bytes,
    names: list[str],
) -> None:
    paths = [str(tmp_path / name) for name in names]
    for i, path in enumerate(paths):
        shutil.copy(photographs / f"{i}.png", path)
    stream = io.TextIOWrapper(io.BytesIO(end.join(os.fsencode(path) for path in paths) + end))
    monkeypatch.setattr(sys, "stdin", stream)
    out, _, code = printed(model_file, photographs / "9.png", "-", "--json")
    assert [json.loads(line)["picture"] for line in out.splitlines()] == [str(photographs / "9.png"), *paths]
    assert code == 0


def test_a_list_may_begin_with_a_byte_order_mark_and_must_name_an_image(
    model_file: str, photographs: Path, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = photographs / "0.png"
    for listed, wanted in ((codecs.BOM_UTF8 + os.fsencode(path), ""), (b"\n", "standard input must name an image")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listed)))
        out, err, code = printed(model_file, "-")
        assert (str(path) in out) == (code == 0) == (not wanted) and wanted in err and "Traceback" not in err


def test_other_files_of_a_folder_are_counted_once_by_suffix(
    model_file: str, photographs: Path, tmp_path: Path, printed: Printed
) -> None:
    folder = tmp_path / "mixed"
    for name in ("a.png", "sub/b.JFIF"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photographs / "0.png", folder / name)
    for name in ("a.txt", "sub/b.TXT", "sub/c.xmp", "README", ".hidden.txt", "x.\x1b[31m"):
        (folder / name).touch()
    out, err, code = printed(model_file, folder, folder / "sub", folder / "a.png", "--csv")
    assert len(out.splitlines()) == 5 and code == 0  # a.png and b.JFIF twice
    assert err == "passed over: 3 .txt, 2 .xmp, 2 other\n"
    out, err, code = printed(model_file, folder / "sub", "--json")
    assert err == "passed over: 1 .txt, 1 .xmp\n" and code == 0
    (folder / "sub" / "b.JFIF").unlink()
    out, err, code = printed(model_file, folder / "sub", "--json")
    assert err.startswith("error: ") and err.endswith("; passed over: 1 .txt, 1 .xmp\n") and code == 2


def test_what_cannot_be_read_is_named_at_the_end_and_the_rest_has_scores(
    model_file: str, damaged: list[str], tmp_path: Path, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(damaged[0]).parent
    (folder / "closed").mkdir()
    scandir = os.scandir

    def closed(path: str) -> object:
        if os.fspath(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    out, err, code = printed(model_file, folder, "--json")
    good = [json.loads(line)["picture"] for line in out.splitlines()]
    assert code == 1 and {*good} < {*damaged}
    first, *errors, last = err.splitlines()
    assert first == "passed over: 1 .pt"
    assert all(line.startswith("error: ") for line in errors) and last == f"{len(errors)} could not be read"
    bad = [path for path in damaged if path not in good and os.path.exists(path)]
    assert len(errors) == len(bad) + 1 and len(bad) >= 2
    for path in (*bad, str(folder / "closed")):
        assert sum(path in line for line in errors) == 1


def test_a_file_that_goes_while_the_command_runs_is_named(
    model_file: str, photographs: Path, tmp_path: Path, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "going"
    shutil.copytree(photographs, folder)
    walk = walk_images

    def then_gone(*arguments: object) -> list[str]:
        found = list(walk(*arguments))
        (folder / "4.png").unlink()
        return found

    monkeypatch.setattr(score, "walk_images", then_gone)
    out, err, code = printed(model_file, folder, "--json")
    assert code == 1 and len(out.splitlines()) == 9
    assert "4.png" in err and err.splitlines()[-1] == "1 could not be read"


def test_an_image_over_the_limit_is_refused_unless_it_is_raised(
    model_file: str, tmp_path: Path, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # the command sets it
    monkeypatch.chdir(tmp_path)
    Image.new("1", (20000, 20000)).save("large.png")
    Image.new("RGB", (1500, 1000)).save("small.png")
    out, err, code = printed(model_file, "large.png", "small.png", "--json")
    assert code == 1 and len(out.splitlines()) == 1
    assert err.startswith("error: large.png: must be at most 200 megapixels ") and "--max-megapixels" in err
    assert printed(model_file, "small.png", "--max-megapixels", "1.4")[2] == 1
    out, err, code = printed(model_file, "small.png", "--max-megapixels", "1.5")
    assert (err, code) == ("", 0)


def test_another_long_side_takes_the_place_of_the_models(
    photographs: Path, tmp_path: Path, one_thread: None, printed: Printed
) -> None:
    path, photograph = save_model(tmp_path / "model.pt", long_side=64), tmp_path / "large.png"
    with Image.open(photographs / "0.png") as image:
        image.resize((128, 96), Image.Resampling.BICUBIC).save(photograph)
    model = ssl_iqa.load(path)
    for words, factor in (([], 2), (["--long-side", "0"], 1), (["--long-side", "128"], 1), (["--long-side", "64"], 2)):
        (line,) = printed(path, photograph, "--json", *words)[0].splitlines()
        assert json.loads(line)["score"] == pytest.approx(by_hand(model, photograph, reduce=factor), abs=1e-3)
    assert abs(by_hand(model, photograph, reduce=2) - by_hand(model, photograph)) > 1e-2
    assert ssl_iqa.load(path, long_side=0).score(photograph) == pytest.approx(by_hand(model, photograph), abs=1e-3)


def test_an_animated_image_is_its_first_frame(
    model_file: str, photographs: Path, tmp_path: Path, printed: Printed
) -> None:
    frames = [Image.open(photographs / f"{i}.png").convert("RGB") for i in (0, 1)]
    path = tmp_path / "moving.webp"
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
    found = json.loads(printed(model_file, path, "--json")[0])["score"]
    assert found == pytest.approx(by_hand(quality.load(model_file), photographs / "0.png"), abs=1e-3)


def test_the_card_is_printed(model_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["card", model_file])
    assert capsys.readouterr() == (quality.load(model_file).card() + "\n", "")


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([], "the following arguments are required: PATH"),
        (["MODEL"], "an image or a folder is required after the model"),
        (["none.pt", "."], "none.pt: no such file"),
        (["text.pt", "."], "text.pt: damaged"),
        (["MODEL", "none.jpg"], "none.jpg: no such file or folder"),
        (["MODEL", "empty"], "empty: no images"),
        (["MODEL", ".", "--coverage", "1"], "--coverage must be more than 0 and less than 1, got 1"),
        (["MODEL", ".", "--coverage", "nan"], "--coverage must be more than 0 and less than 1, got nan"),
        (["MODEL", ".", "--max-megapixels", "0"], "--max-megapixels must be more than 0 and finite, got 0"),
        (["MODEL", ".", "--max-megapixels", "inf"], "--max-megapixels must be more than 0 and finite, got inf"),
    ],
)
def test_bad_input_is_one_line(
    model_file: str,
    tmp_path: Path,
    printed: Printed,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    wanted: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.pt").write_text("no model")
    Path("empty").mkdir()
    out, err, code = printed(*(word.replace("MODEL", model_file) for word in words))
    assert code == 2 and err.startswith(f"error: {wanted}") and err.count("\n") == 1 and out == ""


def test_who_has_seen_enough_may_close_the_pipe(model_file: str, photographs: Path) -> None:
    command = f"{sys.executable} -m ssl_iqa score {model_file} {' '.join([str(photographs)] * 300)} | head -n 3"
    run = subprocess.run(
        ["bash", "-c", f"{command}; echo ${{PIPESTATUS[0]}}"], cwd=ROOT, capture_output=True, text=True
    )
    assert len(run.stdout.splitlines()) == 4 and run.stdout.splitlines()[-1] == "0" and run.stderr == ""


def score_in(terminal: str, words: list[str]) -> None:
    opened = os.open(terminal, os.O_WRONLY)
    for descriptor in (2,) if "--csv" in words else (1, 2):
        os.dup2(opened, descriptor)
    os.close(opened)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    main(["score", *words])


@pytest.mark.parametrize(("words", "has_bar"), [(["--csv"], True), (["--sort"], True), ([], False)])
def test_a_bar_is_for_a_terminal_only(model_file: str, photographs: Path, words: list[str], has_bar: bool) -> None:
    """And there not amid the lines: --csv goes to a pipe here, the others to the terminal that has the bar."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))  # a terminal of no width has no bar
    done = run_process(score_in, os.ttyname(slave), [model_file, str(photographs), *words])
    os.close(slave)
    shown = b""
    with suppress(OSError):  # the end of a terminal that nobody has open
        while part := os.read(master, 10000):
            shown += part
    os.close(master)
    assert done.returncode == 0 and (b"images:" in shown) == has_bar, shown
