"""Predicted against true scores: every image, the fitted curve and each type's SROCC are drawn as they are."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.stats import pearsonr, spearmanr

from ssl_iqa.__main__ import main
from ssl_iqa.evaluation.predictions import read_predictions
from ssl_iqa.figures import scatter

colors = pytest.importorskip("matplotlib.colors")
HEADER = ("image", "reference", "distortion", "level", "score", "predicted")
KINDS = ("jpeg", "gaussian_blur", "own kind")


def rows(seed: int, kinds: tuple[str, ...] = KINDS) -> list[tuple[Any, ...]]:
    """60 images whose predictions follow an S of the true scores, with noise."""
    rng = np.random.default_rng(seed)
    true = rng.uniform(1, 10, 60)
    predicted = 5.5 + 2 * np.tanh((true - 5.5) / 2) + rng.normal(0, 0.4 + seed, 60)
    names = [(f"{i}, a.png", f"r{i % 7}", kinds[i % len(kinds)], 1 + i % 5) for i in range(60)]
    return [(*name, *pair) for name, pair in zip(names, zip(true, predicted, strict=True), strict=True)]


def write(folder: Path, lines: list[tuple[Any, ...]]) -> Path:
    folder.mkdir(parents=True)
    with open(folder / "predictions.csv", "w", newline="") as file:
        csv.writer(file).writerows([HEADER, *lines])
    return folder


def columns(lines: list[tuple[Any, ...]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([line[4] for line in lines]), np.array([line[5] for line in lines])


def test_a_panel_has_every_image_the_least_squares_curve_and_the_correlations(tmp_path: Path) -> None:
    runs = {"$a": rows(0), "b": rows(1)}
    figure = scatter.draw_scatter(
        {name: read_predictions(write(tmp_path / name, lines)) for name, lines in runs.items()}
    )
    assert [axes.get_title("left") for axes in figure.axes] == ["$a", "b"]
    assert len({(*axes.get_xlim(), *axes.get_ylim()) for axes in figure.axes}) == 1
    for axes, lines in zip(figure.axes, runs.values(), strict=True):
        true, predicted = columns(lines)
        (dots,) = axes.collections
        np.testing.assert_allclose(dots.get_offsets(), np.stack([predicted, true], axis=1))
        low, high = axes.get_xlim()
        assert low < min(1, predicted.min()) and high > max(10, predicted.max())
        assert axes.get_ylim()[0] < 1 and axes.get_ylim()[1] > 10

        equal, curve = axes.lines
        assert (np.diff(equal.get_xydata(), axis=1) == 0).all()

        def error(b: np.ndarray, x: np.ndarray = predicted, y: np.ndarray = true) -> np.ndarray:
            return (b[0] - b[1]) / (1 + np.exp(-(x - b[2]) / abs(b[3]))) + b[1] - y

        best = least_squares(error, (10, 1, 5.5, 1), xtol=1e-12, ftol=1e-12)
        x, y = curve.get_xydata().T
        assert (x.min(), x.max()) == (predicted.min(), predicted.max())
        np.testing.assert_allclose(y, error(best.x, x, np.zeros(len(x))), atol=2e-3)
        (words,) = (text.get_text() for text in axes.texts)
        after = pearsonr(error(best.x, predicted, np.zeros(60)), true).statistic
        assert words.split() == [
            *("SROCC", f"{spearmanr(predicted, true).statistic:.3f}"),
            *("PLCC", f"{pearsonr(predicted, true).statistic:.3f}", "after", "logistic", f"{after:.3f}"),
        ]


def test_a_run_without_a_fit_has_no_curve(tmp_path: Path) -> None:
    (axes,) = scatter.draw_scatter({"a": read_predictions(write(tmp_path / "a", rows(0)[:4]))}).axes
    assert len(axes.lines) == 1 and "logistic" not in axes.texts[0].get_text()


def test_bars_are_the_srocc_of_each_type_runs_side_by_side(tmp_path: Path) -> None:
    few = [line if line[2] != "jpeg" else (*line[:2], "", "", *line[4:]) for line in rows(1)]
    runs = {"_a": rows(0), "b": few}
    figure = scatter.draw_types({name: read_predictions(write(tmp_path / name, lines)) for name, lines in runs.items()})
    (axes,), (legend,) = figure.axes, figure.legends
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels == ["gaussian blur", "jpeg", "own kind"]  # the paper's order, then what it does not know
    assert axes.yaxis_inverted()  # the first on top
    assert [text.get_text() for text in legend.get_texts()] == list(runs)
    looks = [colors.to_hex(patch.get_facecolor()) for patch in legend.get_patches()]
    middles = axes.get_yticks()
    for (name, lines), bars, look in zip(runs.items(), axes.containers, looks, strict=True):
        for bar, kind, middle in zip(bars, ("gaussian_blur", "jpeg", "own kind"), middles, strict=True):
            true, predicted = columns([line for line in lines if line[2] == kind])
            assert colors.to_hex(bar.get_facecolor()) == look
            assert bar.get_width() == pytest.approx(
                spearmanr(predicted, true).statistic if len(true) else np.nan, nan_ok=True
            )
            assert (bar.get_y() + bar.get_height() <= middle) == (name == "_a") and abs(bar.get_y() - middle) < 0.1


def test_a_negative_srocc_is_seen(tmp_path: Path) -> None:
    lines = [(*line[:5], 11 - line[4]) for line in rows(0)]
    (axes,) = scatter.draw_types({"a": read_predictions(write(tmp_path / "a", lines))}).axes
    assert [bar.get_width() for bar in axes.containers[0]] == [-1, -1, -1] and axes.get_xlim()[0] < -1


@pytest.mark.parametrize("figure", ["scatter", "types"])
def test_the_commands_write_files(tmp_path: Path, capsys: pytest.CaptureFixture[str], figure: str) -> None:
    folder, out = write(tmp_path / "a", rows(0)), tmp_path / "out.pdf"
    main(["figure", figure, str(folder), "-o", str(out)])
    assert out.read_bytes().startswith(b"%PDF-") and capsys.readouterr().out.startswith(f"{out}: ")


GOOD = ",".join(HEADER) + "\na.png,a,,,1.5,2\nb.png,b,,,2.5,3\n"


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (None, ("predictions.csv: no such file",)),
        ("", ("predictions.csv, line 1", ", ".join(HEADER))),
        ("image,score\n", ("predictions.csv, line 1", ", ".join(HEADER))),
        (GOOD[: GOOD.index("b.png")], ("must be [M] with one M >= 2, got shapes [1] and [1]",)),
        (GOOD + "c.png,c,,,3\n", ("predictions.csv, line 4: must have 6 cells, got 5",)),
        (GOOD + "c.png,c,,,x,3\n", ("predictions.csv, line 4", "'x'", "number")),
        (GOOD + "c.png,c,,,3,nan\n", ("predictions.csv, line 4", "nan", "finite")),
        (GOOD + "\udcff\n", ("predictions.csv: must be a CSV file in UTF-8",)),
        (GOOD, ("bad: no type of distortion in predictions.csv",)),
    ],
)
def test_bad_predictions_are_one_line_and_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, wanted: tuple[str, ...]
) -> None:
    (tmp_path / "bad").mkdir()
    if content is not None:
        (tmp_path / "bad" / "predictions.csv").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(SystemExit) as caught:
        main(["figure", "types", str(tmp_path / "bad"), "-o", str(tmp_path / "out.png")])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1
    assert all(part in error for part in wanted), error
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]
