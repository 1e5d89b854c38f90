"""Figures 2 and 3: which images are taken, where their dots stand and what they look like, and the numbers beside."""

import csv
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.distance import cdist

from ssl_iqa.__main__ import main
from ssl_iqa.data.demo import demo_sources
from ssl_iqa.distortions import NAMES
from ssl_iqa.engine import run_folder
from ssl_iqa.engine.weights import encoder_state, load_encoder
from ssl_iqa.evaluation import probe
from ssl_iqa.figures import tsne
from tests.splits import split_references

if TYPE_CHECKING:
    from matplotlib.figure import Figure

colors = pytest.importorskip("matplotlib.colors")
viridis = pytest.importorskip("matplotlib").colormaps["viridis"]
pytest.importorskip("sklearn")


def make_run(folder: Path, splits: dict[str, Any] | None = None, crop: int = 32, seed: int = 1) -> Path:
    folder.mkdir(parents=True)
    state = encoder_state(load_encoder("random", "dct-mlp", seed=seed))
    # with splits.json, which then says it, the file is one of an earlier version
    torch.save(state | {"seen": [] if splits is None else None}, folder / run_folder.ENCODER)
    (folder / run_folder.CONFIG).write_text(json.dumps({"crop": crop}))
    if splits is not None:
        (folder / run_folder.SPLITS).write_text(json.dumps(splits))
    return folder


def own_splits(photographs: Path, held_out: list[int], scored: Path | None = None, test: tuple = (0, 1, 2)) -> dict:
    """The splits.json of a run on a folder of photographs, and on the scored set."""
    splits = {"unlabeled": {"spec": str(photographs), "train": 7, "val": [f"{i}.png" for i in held_out]}}
    if scored:
        parts = {"train": range(4, 10), "val": [3], "test": test}
        names = {part: [f"reference {i}" for i in numbers] for part, numbers in parts.items()}
        rest = {f"reference {i}" for i in range(10)} - {*sum(names.values(), [])}
        names["val"] += sorted(rest)
        splits["labeled"] = {"spec": f"csv:{scored}", **names}
    return splits


# --- encoders ---


def test_encoders_are_named_and_random_has_the_arch_of_the_first_run(tmp_path: Path) -> None:
    first, second = make_run(tmp_path / "a", seed=1), make_run(tmp_path / "b", seed=2)
    encoders, folders = tsne.read_encoders(f"random, cl={first},ssl={second / 'encoder.pt'}", seed=2)
    assert list(encoders) == ["random", "cl", "ssl"] and folders == [first, second]
    weights = {name: encoder.network.layer1[0].weight for name, encoder in encoders.items()}
    same = {name: torch.equal(weight, weights["ssl"]) for name, weight in weights.items()}
    assert same == {"random": True, "cl": False, "ssl": True}  # seed 2


# --- images ---


def test_photographs_are_those_that_no_run_has_trained_with(tmp_path: Path, photographs: Path) -> None:
    first = make_run(tmp_path / "a", own_splits(photographs, [1, 2, 5, 7]))
    second = make_run(tmp_path / "b", own_splits(photographs, [2, 5, 6, 7, 8]))
    paths = tsne.find_photographs(None, [first, second])
    assert [Path(path).name for path in paths] == ["2.png", "5.png", "7.png"]
    assert len(tsne.find_photographs(str(photographs), [first])) == 10
    with pytest.raises(ValueError, match="three or more, got 2, held out of training"):
        tsne.find_photographs(None, [first, make_run(tmp_path / "c", own_splits(photographs, [1, 2, 3]))])


def test_the_demos_test_sources_are_held_out(tmp_path: Path) -> None:
    sources = demo_sources()
    split = split_references(list(sources.values()), seed=3)
    splits = {"unlabeled": {"spec": "demo", "val": []}, "labeled": {"spec": "demo", **split}}
    paths = tsne.find_photographs(None, [make_run(tmp_path / "a", splits)])
    assert {sources[path] for path in paths} == set(split["test"])
    val = [Path(path).name for path in [*sources][3:9]]  # labels of another set: the demo's validation images
    splits = {"unlabeled": {"spec": "demo", "val": val}, "labeled": {"spec": "csv:other", "test": ["a"]}}
    assert tsne.find_photographs(None, [make_run(tmp_path / "b", splits)]) == [*sources][3:9]
    assert len(tsne.find_photographs("demo", [])) == 67


def test_images_have_the_size_that_the_first_run_with_settings_took_them_in(tmp_path: Path) -> None:
    bare, first, second = (make_run(tmp_path / name, crop=crop) for name, crop in (("a", 8), ("b", 48), ("c", 64)))
    (bare / run_folder.CONFIG).unlink()
    assert tsne.input_size([bare, first, second]) == (48, 0)
    (first / run_folder.CONFIG).write_text(json.dumps({"crop": 48, "long_side": 192}))
    assert tsne.input_size([first, second]) == (48, 192)
    assert tsne.input_size([bare]) == tsne.input_size([]) == (224, 0)


def test_both_parts_of_a_photograph_of_the_demo_are_in_one_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = demo_sources()
    paths = [path for path, source in sources.items() if source in ("bridge", "bythewater", "dragonfly")]
    assert len(paths) == 5
    photographs = torch.arange(250) % 5
    monkeypatch.setattr(probe, "draw_crops", lambda *_: (torch.empty(250, 3, 32, 32), torch.zeros(250), photographs))
    shown = tsne.distorted_sample(paths, 32, 192, 250, 0)
    wanted = [sources[paths[i]] for i in photographs.tolist()]
    pairs = {*zip(shown.groups.tolist(), wanted, strict=True)}
    assert len(pairs) == len({*wanted}) == len({*shown.groups.tolist()}) == 3


def test_scored_images_are_the_centers_of_a_part_that_all_runs_held_out(
    tmp_path: Path, photographs: Path, scored: Path
) -> None:
    spec = f"csv:{scored}"
    made = [
        make_run(tmp_path / "a", own_splits(photographs, [1], scored, test=(0, 1, 2))),
        make_run(tmp_path / "b", own_splits(photographs, [1], scored, test=(1, 2, 3))),
        make_run(tmp_path / "c", own_splits(photographs, [1])),  # has not seen the set
    ]
    named, _ = tsne.read_encoders(",".join(f"{folder.name}={folder}" for folder in made), 0)
    encoders = list(named.values())
    shown = tsne.scored_sample(spec, encoders, 32, 0, 100, seed=0)
    with open(scored) as file:
        rows = [row for row in csv.DictReader(file) if row["reference"] in ("reference 1", "reference 2")]
    assert len(shown.crops) == len(rows) == 8
    assert shown.words == f"8 images of 2 references of {spec}, of 8 that no RUN was trained with"
    for crop, score, group, row in zip(shown.crops, shown.labels, shown.groups, rows, strict=True):
        pixels = np.asarray(Image.open(scored.parent / row["image"]))
        np.testing.assert_array_equal(crop.permute(1, 2, 0), pixels[8:40, 16:48])
        assert score == pytest.approx(1 + 9 * (float(row["score"]) - 40) / 30.9)
        assert group == int(row["reference"][-1]) - 1
    assert len(tsne.scored_sample(spec, encoders[2:], 32, 0, 100, 0).crops) == 40
    few = [tsne.scored_sample(spec, encoders[2:], 32, 0, 9, seed).crops for seed in (0, 0, 1)]
    assert len(few[0]) == 9 and torch.equal(few[0], few[1]) and not torch.equal(few[0], few[2])


# --- the drawing ---


def test_a_dot_stands_at_its_place_and_has_its_types_look() -> None:
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(125), 3)
    points = {"$a": rng.normal(size=(375, 2)), "b": rng.normal(size=(375, 2)) * (5, 1)}
    figure = tsne.draw_types(points, {"$a": "x", "b": "y"}, classes)
    figure.draw_without_rendering()
    assert [axes.get_title("left") for axes in figure.axes] == ["$a", "b"]
    assert [axes.get_title("right") for axes in figure.axes] == ["x", "y"]
    for axes, places in zip(figure.axes, points.values(), strict=True):
        looks = {}
        for dots in axes.collections:
            shape = dots.get_paths()[0].vertices.tobytes()
            for place, color in zip(dots.get_offsets(), dots.get_facecolor(), strict=True):
                (i,) = np.flatnonzero((places == place).all(axis=1))
                looks.setdefault(int(classes[i]), []).append((colors.to_hex(color, keep_alpha=True), shape))
        assert all(len(found) == 3 and len({*found}) == 1 for found in looks.values())  # a class has one look
        looks = {found: look[0] for found, look in looks.items()}
        assert looks.keys() == set(range(125)) and len(set(looks.values())) == 125
        assert len({(color[:7], shape) for color, shape in looks.values()}) == 25
        for kind in range(25):  # the stronger, the less transparent
            opacity = [colors.to_rgba(looks[5 * kind + level][0])[3] for level in range(5)]
            assert opacity == sorted({*opacity}) and opacity[-1] == 1
        (low, high), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        assert low < places[:, 0].min() and high > places[:, 0].max()
        assert bottom < places[:, 1].min() and top > places[:, 1].max()


def test_the_key_names_every_type_with_its_look_and_nothing_is_cut_off_or_covered() -> None:
    points = {name: np.random.default_rng(0).normal(size=(125, 2)) for name in ("a", "b", "c")}
    figure = tsne.draw_types(points, dict.fromkeys(points, "note"), np.arange(125))
    figure.draw_without_rendering()
    (legend,) = figure.legends
    words = [text.get_text() for text in legend.get_texts()]
    assert sorted(words) == sorted(name.replace("_", " ") for name in NAMES)
    looks = {}  # of the dots, by type
    for kind, dots in zip(tsne.LOOKS, figure.axes[0].collections, strict=True):
        looks[NAMES[kind].replace("_", " ")] = colors.to_hex(dots.get_facecolor()[0])
    assert {
        word: colors.to_hex(line.get_color()) for word, line in zip(words, legend.get_lines(), strict=True)
    } == looks
    page = figure.bbox
    boxes = [text.get_window_extent() for text in legend.get_texts() if text.get_text()]
    assert all(page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 for box in boxes)
    lowest = min(axes.get_window_extent().y0 for axes in figure.axes)
    assert all(box.y1 < lowest for box in boxes)
    columns = {round(box.x0) for box in boxes}
    assert len(columns) == 5 and not any(a.overlaps(b) for a in boxes for b in boxes if a is not b)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_every_number_of_panels_fits(count: int) -> None:
    points = {f"encoder {i}": np.random.default_rng(i).normal(size=(30, 2)) for i in range(count)}
    scores = np.linspace(2, 9, 30)
    figure: Figure = tsne.draw_scores(points, dict.fromkeys(points, "best direction: SROCC 0.123"), scores)
    figure.draw_without_rendering()
    *panels, bar = figure.axes
    assert len(panels) == count and bar.get_ylim() == (2, 9)
    boxes = [axes.get_window_extent() for axes in panels]
    assert min(box.width / box.height for box in boxes) > 0.7 and max(box.width / box.height for box in boxes) < 1.7
    assert not any(a.overlaps(b) for a in boxes for b in boxes if a is not b)
    for axes, places in zip(panels, points.values(), strict=True):
        (dots,) = axes.collections
        found = {tuple(place): color for place, color in zip(dots.get_offsets(), dots.get_facecolor(), strict=True)}
        np.testing.assert_allclose([found[tuple(place)] for place in places], viridis((scores - 2) / 7))


# --- the numbers ---


def test_the_numbers_of_figure_2() -> None:
    """The silhouette by its definition; the probes are tested in test_probe.py."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.arange(125).repeat(4)
    z = torch.randn(500, 6, generator=generator, dtype=torch.float64) + (classes // 5)[:, None] / 4
    points = torch.randn(500, 2, generator=generator).numpy()
    folds = torch.arange(500) % 5
    row, note = tsne.measure_types(z, points, classes, folds)
    assert row["silhouette, features"] == pytest.approx(silhouette(z.numpy(), classes.numpy() // 5))
    assert row["silhouette, plane"] == pytest.approx(silhouette(points, classes.numpy() // 5), abs=1e-5)
    found = probe.type_and_level(z, classes // 5, classes % 5, folds)
    assert (row["type"], row["level"]) == (found["type"], found["level"])
    assert note == f"linear probe: type {found['type']:.0%}, level {found['level']:.0%}"


def silhouette(x: np.ndarray, kinds: np.ndarray) -> float:
    distances = cdist(x, x)
    values = []
    for i, kind in enumerate(kinds):
        means = {k: distances[i][kinds == k].sum() / ((kinds == k).sum() - (k == kind)) for k in set(kinds.tolist())}
        a, b = means.pop(int(kind)), min(value for k, value in means.items() if k != kind)
        values.append((b - a) / max(a, b))
    return float(np.mean(values))


def test_the_plane_keeps_clusters_apart_and_has_a_seed() -> None:
    rng = np.random.default_rng(0)
    z = torch.from_numpy(rng.normal(size=(60, 8)) + 20 * np.repeat(np.eye(3, 8), 20, axis=0))
    points = [tsne.to_plane(z, 5, seed) for seed in (0, 0)]
    assert points[0].shape == (60, 2) and np.array_equal(points[0], points[1])
    nearest = (cdist(points[0], points[0]) + 1e9 * np.eye(60)).argmin(axis=1)
    assert (nearest // 20 == np.arange(60) // 20).all()


def test_the_seed_is_that_of_the_plane(monkeypatch: pytest.MonkeyPatch) -> None:
    """On so few images it changes nothing: of principal components only those of many are estimated at random."""
    asked: list[dict[str, Any]] = []

    class Recorder:
        def __init__(self, **settings: Any) -> None:
            asked.append(settings)

        def fit_transform(self, z: np.ndarray) -> np.ndarray:
            return z[:, :2]

    monkeypatch.setattr("sklearn.manifold.TSNE", Recorder)
    assert tsne.to_plane(torch.ones(9, 4, dtype=torch.float64), 3, 7).dtype == np.float32
    assert asked == [{"perplexity": 3, "init": "pca", "random_state": 7}]


def run(*arguments: object) -> None:
    main(["figure", "tsne", *map(str, arguments)])


def test_the_command_draws_figure_2_and_prints_its_table(
    tmp_path: Path, photographs: Path, one_thread: None, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(tmp_path / "run", own_splits(photographs, [1, 2, 5]))
    out = tmp_path / "figure2.png"
    run("--encoders", f"ssl={folder}", "--count", 260, "--perplexity", 5, "-o", out)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "250 images, 2 of each class, of 3 photographs"
    head, rule, *rows, chance, last = lines[1:]
    assert head.count("|") == rule.count("|") == 6 and [row.split()[1] for row in rows] == ["ssl"]
    assert chance == "| chance | 0.000 | 0.000 | 0.040 | 0.200 |"
    assert last == f"{out}: {out.stat().st_size} bytes" and Image.open(out).width == 1200
    shown = tsne.distorted_sample(tsne.find_photographs(None, [folder]), 32, 0, 260, 0)
    z = probe.features(load_encoder(folder / run_folder.ENCODER), shown.crops)
    found = probe.type_and_level(z, shown.labels // 5, shown.labels % 5, probe.make_folds(shown.groups))
    assert rows[0].split("|")[4:6] == [f" {found['type']:.3f} ", f" {found['level']:.3f} "]


def test_the_command_draws_figure_3_and_prints_its_table(
    tmp_path: Path, photographs: Path, scored: Path, one_thread: None, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(tmp_path / "run", own_splits(photographs, [1, 2, 5]), crop=40)
    out = tmp_path / "figure3.svg"
    spec = f"csv:{scored}"
    run("--encoders", f"ssl={folder}", "--scores", spec, "--perplexity", 5, "-o", out)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"40 images of 10 references of {spec}, of 40 that no RUN was trained with"
    shown = tsne.scored_sample(spec, [], 40, 0, 99, 0)
    z = probe.features(load_encoder(folder / run_folder.ENCODER), shown.crops)
    found = probe.score_direction(z, shown.labels, probe.make_folds(shown.groups))
    assert (
        re.fullmatch(rf"\| ssl \| {found:.3f} \| -?\d\.\d+ \|", lines[3]) and lines[4] == "| chance | 0.000 | 0.000 |"
    )
    assert "<svg" in out.read_text()


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--encoders", "other"], ("--encoders must be", "NAME=RUN, got 'other'")),
        (["--encoders", "a=run,"], ("NAME=RUN",)),
        (["--encoders", "a="], ("NAME=RUN, got 'a='",)),
        (["--encoders", "a=run,a=run"], ("got a twice",)),
        (["--encoders", "a=none"], ("none: no such file",)),
        (["--encoders", "random"], ("--types or --scores is required",)),
        (["--encoders", "a=bare"], ("bare/splits.json",)),
        (["--encoders", "a=tars"], ("--types is required: tars was trained on tars",)),
        (["--encoders", "a=run", "--types", "none"], ("none: no such folder",)),
        (["--encoders", "a=run", "--types", "PHOTOS", "-o", "PHOTOS/0.png"], ("--out must be another file", "0.png")),
        (["--encoders", "a=run", "--count", "2"], ("--count must be a whole number 3 to", "got '2'")),
        (["--encoders", "a=run", "--seed", "-1"], ("--seed must be a whole number 0 to", "got '-1'")),
        (["--encoders", "a=run", "--scores", "csv:none"], ("none: no such file",)),
        (
            ["--encoders", "a=run", "--scores", "SCORED", "--perplexity", "12"],
            ("perplexity (12.0) must be less than n_samples (12)",),
        ),
        (["--encoders", "a=run,b=far", "--scores", "SCORED"], ("each of its images is of a training",)),
        (["--encoders", "a=run", "--scores", "SCORED", "-o", "page.jpg"], ("--out", ".png, .pdf")),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    tmp_path: Path,
    photographs: Path,
    scored: Path,
    one_thread: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    wanted: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "run", own_splits(photographs, [1, 2, 3], scored))
    make_run(tmp_path / "far", own_splits(photographs, [1, 2, 3], scored, test=(8, 9)))
    make_run(tmp_path / "bare")
    make_run(tmp_path / "tars", {"unlabeled": {"spec": "a-{0..9}.tar", "val": [["a-3.tar", 10]]}})
    with pytest.raises(SystemExit) as caught:
        run(*(part.replace("SCORED", f"csv:{scored}").replace("PHOTOS", str(photographs)) for part in arguments))
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1
    assert all(part in error for part in wanted), error
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize("library", ["sklearn.manifold", "matplotlib.figure"])
def test_without_an_extra_a_line_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], library: str
) -> None:
    """Before anything is read."""
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(SystemExit) as caught:
        run("--encoders", "a=none", "-o", tmp_path / "a.png")
    error = capsys.readouterr().err
    assert caught.value.code == 2 and "pip install 'ssl_iqa[figures]'" in error and library.split(".")[0] in error
