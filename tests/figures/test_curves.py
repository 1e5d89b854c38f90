"""The curves of joint training: every value of a log stands at its place, and what is wrong with a log is said."""

import json
import math
import re
import sys
from collections.abc import Iterable
from io import BytesIO
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from ssl_iqa.__main__ import main
from ssl_iqa.figures import curves, plots
from tests.processes import run_process

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

matplotlib = pytest.importorskip("matplotlib")
colors = pytest.importorskip("matplotlib.colors")

# What each panel is to show: by title the fields, with the style of their lines.
PANELS = {
    "Joint loss, Eq. 8": {"L": "-", "val_L": "--"},
    "Contrastive loss, Eq. 5": {"L_cont": "-", "val_L_cont": "--"},
    "Regression loss, Eq. 7": {"L_r": "-", "val_L_r": "--"},
    "Rank correlation with the true scores, validation": {"val_SROCC": "--"},
    "Learning rate": {"lr": "-", "regressor_lr": ":"},
    "Gradient norm": {"grad_norm": "-"},
    "Throughput": {"pictures_per_second": "-"},
    "Waiting for data": {"data_wait": "-"},
}
LABELED = ("L_r", "val_L_r", "val_SROCC", "regressor_lr")
LATER = ("grad_norm", "data_wait", "regressor_lr")  # older logs lack these
Records = list[dict[str, Any]]


def records(epochs: int, seed: int = 0, without: Iterable[str] = ()) -> Records:
    """Lines of a log as train_joint.py writes them: values between 0 and 1 that fall, with noise."""
    rng = np.random.default_rng(seed)
    starts = {name: rng.uniform(0.3, 0.9) for fields in PANELS.values() for name in fields if name not in without}
    lines = []
    for epoch in range(1, epochs + 1):
        values = {name: start * (0.2 + 0.8 * 0.9**epoch) + rng.uniform(0, 0.02) for name, start in starts.items()}
        lines.append({"epoch": epoch, "minutes": 1.5 * epoch, "skipped": 0, **values})
    return lines


def write(folder: Path, lines: Records, end: str = "") -> Path:
    folder.mkdir(parents=True)
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + end)
    return folder


def draw(*folders: Path) -> "Figure":
    return curves.draw(plots.read_runs(folders, curves.read_log))


def saved(figure: "Figure") -> bytes:
    """The figure's PNG."""
    encoded = BytesIO()
    plots.save(figure, ".png", encoded)
    return encoded.getvalue()


def panels(figure: "Figure") -> dict[str, "Axes"]:
    return {axes.get_title("left"): axes for axes in figure.axes}


def names_by_color(figure: "Figure") -> dict[tuple[str, str], str]:
    """What the legend says: by color and marker the run."""
    (legend,) = figure.legends
    looks = [(colors.to_hex(line.get_color()), line.get_marker()) for line in legend.get_lines()]
    return dict(zip(looks, (text.get_text() for text in legend.get_texts()), strict=True))


def drawn(figure: "Figure") -> dict[tuple[str, str, str], np.ndarray]:
    """By run, panel and line style the points [n, 2] of a curve."""
    names = names_by_color(figure)
    found = {}
    for title, axes in panels(figure).items():
        for line in axes.lines:
            if line.get_linestyle() != "None":
                key = (names[colors.to_hex(line.get_color()), line.get_marker()], title, line.get_linestyle())
                assert key not in found
                found[key] = np.array(line.get_xydata())
    return found


def rings(figure: "Figure") -> dict[tuple[str, str], tuple[float, float]]:
    """By color and panel the point that is marked as the best epoch."""
    found = {}
    for title, axes in panels(figure).items():
        for line in axes.lines:
            if line.get_linestyle() == "None":
                ((x, y),) = line.get_xydata()
                found[colors.to_hex(line.get_color()), title] = (x, y)
    return found


def expected(name: str, lines: Records) -> dict[tuple[str, str, str], np.ndarray]:
    """The curves of a run's lines; none for a field that has no value."""
    found = {}
    for title, fields in PANELS.items():
        for field, style in fields.items():
            points = [(line["epoch"], math.nan if line.get(field) is None else line[field]) for line in lines]
            if not all(math.isnan(y) for _, y in points):
                found[name, title, style] = np.array(points)
    return found


def assert_same(found: dict, wanted: dict) -> None:
    assert found.keys() == wanted.keys()
    for key, points in wanted.items():
        np.testing.assert_array_equal(found[key], points, err_msg=str(key))


def test_every_value_of_the_logs_is_drawn_in_its_panel(tmp_path: Path) -> None:
    new, old = records(40), records(53, seed=1, without=LATER)
    new[4]["val_SROCC"] = new[20]["L"] = new[21]["grad_norm"] = None
    figure = draw(write(tmp_path / "new", new), write(tmp_path / "old", old))
    assert_same(drawn(figure), expected("new", new) | expected("old", old))
    assert list(panels(figure)) == list(PANELS)
    assert [axes.get_yscale() for axes in figure.axes] == ["log" if "rate" in title else "linear" for title in PANELS]
    assert all(axes.get_ylabel() for axes in figure.axes)
    assert "epoch" in [text.get_text() for text in figure.texts]  # below all
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    assert panels(figure)["Waiting for data"].get_ylim() == (0, 1)
    assert panels(figure)["Throughput"].get_ylim()[0] == 0


def test_the_keys_explain_the_lines(tmp_path: Path) -> None:
    figure = draw(write(tmp_path / "run", records(3)))
    words = {}
    for title, axes in panels(figure).items():
        if axes.get_legend() is not None:
            handles, texts = axes.get_legend().get_lines(), axes.get_legend().get_texts()
            words[title] = [(h.get_linestyle(), t.get_text()) for h, t in zip(handles, texts, strict=True)]
    assert words == {
        "Joint loss, Eq. 8": [("-", "training"), ("--", "validation"), ("None", "best epoch: lowest validation $L$")],
        "Learning rate": [("-", "encoder, projector"), (":", "regressor")],
    }


def test_the_best_epoch_is_marked_on_the_curves_of_the_validation(tmp_path: Path) -> None:
    folders, wanted = [], {}
    for seed, (best, color) in enumerate([(6, "#0072b2"), (1, "#d55e00")]):
        lines = records(9, seed)
        lines[best - 1]["val_L"] = lines[best + 1]["val_L"] = 0.05  # of equal ones the first, as train_joint.py has it
        lines[8]["val_L"] = None
        folders.append(write(tmp_path / str(seed), lines))
        for title, fields in PANELS.items():
            for field in fields:
                if field.startswith("val_"):
                    wanted[color, title] = (best, lines[best - 1][field])
    assert rings(draw(*folders)) == wanted and len(wanted) == 8


def test_no_best_epoch_without_a_validation_loss(tmp_path: Path) -> None:
    figure = draw(write(tmp_path / "run", records(4, without=["val_L"])))
    assert rings(figure) == {}
    assert panels(figure)["Joint loss, Eq. 8"].get_legend() is None  # one kind of line needs no key


@pytest.mark.parametrize("logged", [{}, {"val_L_r": None}, {"val_L_r": 0.0, "regressor_lr": 1e-4}])
def test_panels_without_values_are_left_out(tmp_path: Path, logged: dict[str, float | None]) -> None:
    """A run without labels may log a val_L_r of 0 and a regressor's learning rate: it has no such curves."""
    lines = records(5, without=LABELED)
    cl = write(tmp_path / "cl", [line | logged for line in lines])
    titles = [*PANELS]
    alone = draw(cl)
    assert_same(drawn(alone), expected("cl", lines))
    assert list(panels(alone)) == titles[:2] + titles[4:]
    assert panels(alone)["Learning rate"].get_legend() is None
    ssl = records(5, seed=1)
    figure = draw(cl, write(tmp_path / "ssl", ssl))  # a panel that one run has values for
    assert list(panels(figure)) == titles
    assert_same(drawn(figure), expected("cl", lines) | expected("ssl", ssl))
    old = draw(write(tmp_path / "old", records(5, without=LATER)))
    assert list(panels(old)) == titles[:5] + titles[6:7]


def pixels(figure: "Figure") -> np.ndarray:
    """The figure's PNG, [H, W, 3]."""
    with Image.open(BytesIO(saved(figure))) as page:
        return np.asarray(page.convert("RGB")).astype(int)


def shows(page: np.ndarray, axes: "Axes", x: float, y: float, color: str) -> bool:
    """Whether a page has a color within four pixels of a panel's point."""
    column, up = (round(place) for place in axes.transData.transform((x, y)))
    row = page.shape[0] - up
    around = page[row - 4 : row + 5, column - 4 : column + 5]
    return bool((abs(around - np.array(colors.to_rgb(color)) * 255).max(-1) < 40).any())


def test_a_run_of_one_epoch_is_visible(tmp_path: Path) -> None:
    (line,) = lines = records(1)
    figure = draw(write(tmp_path / "run", lines))
    page = pixels(figure)
    for title, fields in PANELS.items():
        for field in fields:
            seen = [shows(page, panels(figure)[title], x, line[field], "#0072b2") for x in (0.97, 1, 1.03)]
            assert seen == [False, True, False], field


def test_a_short_run_has_a_dot_on_every_epoch_and_a_long_one_some(tmp_path: Path) -> None:
    for epochs, dots in ((1, 1), (8, 1), (29, 1), (30, 2), (100, 6)):
        figure = draw(write(tmp_path / str(epochs), records(epochs)))
        lines = [line for axes in figure.axes for line in axes.lines if line.get_linestyle() != "None"]
        assert len(lines) == 12 and all(line.get_markevery() == dots for line in lines)


def test_twenty_runs_are_told_apart(tmp_path: Path) -> None:
    folders = [write(tmp_path / f"{i}" / "joint", records(50, seed=i)) for i in range(20)]
    figure = draw(*folders)
    assert list(names_by_color(figure).values()) == [str(i) for i in range(20)]  # as many looks as names
    assert {(name, title) for name, title, _ in drawn(figure)} == {
        (str(i), title) for i in range(20) for title in PANELS
    }
    assert pixels(figure).shape[1] == 1200


def test_colors_are_told_apart_by_the_color_blind() -> None:
    """Seen as by people without one kind of cones (Machado et al., 2009, severity 1), any two differ in CIELAB."""
    skimage_color = pytest.importorskip("skimage.color")
    linear = np.array([colors.to_rgb(color) for color in [*plots.COLORS, "#ffffff"]])
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    matrices = {
        "protanopia": [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        "deuteranopia": [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
        "tritanopia": [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ],
        "none": np.eye(3),
    }
    for kind, matrix in matrices.items():
        seen = np.clip(linear @ np.array(matrix).T, 0, 1)
        seen = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
        lab = skimage_color.rgb2lab(seen)
        for a, b in combinations(range(len(lab)), 2):
            assert np.linalg.norm(lab[a] - lab[b]) > 10, (kind, a, b)


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["runs/a"], ["a"]),
        (["runs/a", "runs/b"], ["a", "b"]),
        (["seed0/joint", "seed1/joint"], ["seed0", "seed1"]),
        (["x/a", "x/b", "y/a"], ["x/a", "x/b", "y/a"]),
        (["x/1/joint", "y/1/joint", "x/2/joint"], ["x/1", "y/1", "x/2"]),
        (["runs/b", "runs/a/b/"], ["runs", "a"]),
        (["a", "./b/../c"], ["a", "c"]),
    ],
)
def test_names_are_the_parts_of_the_paths_that_differ(folders: list[str], names: list[str]) -> None:
    found = plots.read_runs([Path(folder) for folder in folders], str)
    assert found == dict(zip(names, map(str, map(Path, folders)), strict=True)) and list(found) == names


def test_a_name_is_shown_as_it_is(tmp_path: Path) -> None:
    """Neither mathematics nor, with a line in front, hidden."""
    figure = draw(*(write(tmp_path / name, records(2)) for name in ("$x_0$", "_b", "50%")))
    assert list(names_by_color(figure).values()) == ["$x_0$", "_b", "50%"]
    (legend,) = figure.legends
    assert not any(text.get_parse_math() for text in legend.get_texts())


def run(*arguments: object) -> None:
    main(["figure", "curves", *map(str, arguments)])


@pytest.mark.parametrize("suffix", ["PNG", "pdf", "svg"])
def test_the_command_writes_the_format_of_the_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    left_out = {name for fields in PANELS.values() for name in fields} - {"L", "val_L"}  # a panel's text takes the time
    folders = [write(tmp_path / name, records(9, i, without=left_out)) for i, name in enumerate(("a", "b", "c"))]
    out = tmp_path / f"curves.{suffix}"
    run(*folders, "-o", out)
    written = out.read_bytes()
    assert capsys.readouterr().out == f"{out}: {len(written)} bytes\n"
    if suffix.lower() == "png":
        with Image.open(out) as page:
            page.load()
            assert page.format == "PNG" and page.width == 1200
    elif suffix == "pdf":
        box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+) ?\]", written)  # in points
        assert written.startswith(b"%PDF-") and float(box[1]) == 8 * 72
    else:
        root = ElementTree.fromstring(written)
        assert root.tag.endswith("svg") and root.get("width") == f"{8 * 72}pt"
    run(*folders, "-o", out)
    assert out.read_bytes() == written  # no date, no random name


def test_the_readers_own_settings_change_nothing(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", records(3, without=LABELED))
    encoded = []
    for settings in ({}, {"axes.facecolor": "#ffcccc", "savefig.bbox": "tight"}):
        with matplotlib.rc_context(settings):
            encoded.append(saved(draw(folder)))
    assert encoded[0] == encoded[1]


def test_a_last_line_that_was_not_finished_is_left_out(tmp_path: Path) -> None:
    lines = records(4)
    for i, end in enumerate(["", json.dumps(lines[3])[:40], json.dumps(lines[3])[:-1], "\0\0", '{"epoch": 4']):
        log = curves.read_log(write(tmp_path / str(i), lines[:3], end))
        assert log["epoch"].tolist() == [1, 2, 3] and log["L"].tolist() == [line["L"] for line in lines[:3]]


GOOD = json.dumps(records(1)[0]) + "\n"


@pytest.mark.parametrize(
    ("log", "wanted"),
    [
        (None, ("log.jsonl: no such file", "train_joint.py")),
        (b"", ("log.jsonl: no whole epoch",)),
        (b'{"epoch": 1, "L"', ("log.jsonl: no whole epoch",)),
        (b"a log\n", ("log.jsonl, line 1: ", "damaged")),
        ((GOOD[:30] + "\n" + GOOD).encode(), ("log.jsonl, line 1: ", "damaged")),
        ((GOOD + GOOD[:30] + "\n").encode(), ("log.jsonl, line 2: ", "damaged")),
        (GOOD.encode() + b"\xff\xfe\n", ("log.jsonl, line 2: ", "damaged")),
        (GOOD.encode() + b"[1, 2]\n", ("log.jsonl, line 2: ", "not an epoch")),
        (GOOD.encode() + b'{"L": 2}\n', ("log.jsonl, line 2: ", "not an epoch")),
        (b'{"epoch": 1, "val_L": "low"}\n', ("log.jsonl, line 1: ", "'low'")),
        (b'{"epoch": 1, "L": null}\n', ("bad", "nothing but null")),
    ],
)
def test_a_bad_log_is_one_line_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], log: bytes | None, wanted: tuple[str, ...]
) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    if log is not None:
        (bad / "log.jsonl").write_bytes(log)
    assert_error(tmp_path, capsys, [bad], wanted)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["good", "good/../good"], ("each RUN must be given once", "good/../good")),
        (["good", "none"], ("none", "no such file")),
        (["good", "-o", "none/curves.png"], ("--out", "no such folder", "none")),
        (["good", "-o", "curves.jpg"], ("--out", "curves.jpg", ".png, .pdf, .svg")),
        (["good", "-o", "good"], ("--out", ".png")),
    ],
)
def test_bad_arguments_are_one_line_and_leave_nothing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    wanted: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "good", records(2))
    assert_error(tmp_path, capsys, arguments, wanted)


def test_without_matplotlib_a_line_says_how_to_get_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "run", records(2))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert_error(tmp_path, capsys, [folder], ("pip install 'ssl_iqa[figures]'", "matplotlib"))


def assert_error(folder: Path, capsys: pytest.CaptureFixture[str], arguments: list, wanted: tuple[str, ...]) -> None:
    """The command ends with exit code 2 and one line, and leaves the folder's files as they are."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit) as caught:
        run("-o", folder / "curves.png", *arguments)
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1
    assert all(part in error for part in wanted), error
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_matplotlib_is_loaded_only_to_draw() -> None:
    """The other figures do without it, and pyplot, which would open windows, is never used."""
    code = """
import sys
from io import BytesIO
import numpy as np
from ssl_iqa.figures import command, curves, plots
assert "matplotlib" not in sys.modules
log = dict.fromkeys(["epoch", *curves.FIELDS], np.full(1, np.nan)) | {"epoch": np.ones(1), "L": np.ones(1)}
plots.save(curves.draw({"run": log}), ".png", BytesIO())
assert "matplotlib" in sys.modules and "matplotlib.pyplot" not in sys.modules
"""
    done = run_process(exec, code)
    assert done.returncode == 0, done.stderr
