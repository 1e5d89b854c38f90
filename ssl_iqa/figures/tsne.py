"""Figures 2 and 3: the features of several encoders in a plane, by t-SNE, a panel each.

Figure 2 shows distorted photographs colored by family and type; with --scores it is Figure 3, the images of a labeled
set colored by score. They are new to all RUNs, unless --types names photographs. A table goes with it: silhouettes and
linear probes of types and levels, or the scores' SROCC along the best linear direction. The t-SNE is Barnes and Hut's
on Euclidean distances, started from the first two principal components (scikit-learn, the extra `[figures]`).
"""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ssl_iqa.data import sets, views
from ssl_iqa.data.datasets import UnlabeledViews
from ssl_iqa.data.demo import demo_sources
from ssl_iqa.data.images import list_images
from ssl_iqa.data.seen import records_of, unseen
from ssl_iqa.distortions import KADIS, NAMES, NUM_LEVELS
from ssl_iqa.engine import console, run_folder
from ssl_iqa.engine.device import use_device
from ssl_iqa.engine.settings import whole
from ssl_iqa.engine.weights import load_encoder
from ssl_iqa.evaluation import probe, protocol, tables
from ssl_iqa.figures import plots
from ssl_iqa.figures.plots import COLORS, GRAY, MARKERS, WIDTH, new_figure
from ssl_iqa.model import Encoder

# A family of types has a color, its types a marker each: 25 colors cannot be told apart. Five types are a column of the
# key: blur and compression, color, noise, spatial, brightness and what is left: sharpness and contrast.
FAMILIES = (range(0, 3), range(8, 10), range(3, 8), range(10, 15), range(18, 23), range(15, 18), range(23, 25))
LOOKS = {
    kind: {"color": color, "marker": marker}
    for kinds, color in zip(FAMILIES, COLORS, strict=True)
    for kind, marker in zip(kinds, MARKERS, strict=False)
}
OPACITY = np.array([0.2, 0.35, 0.5, 0.75, 1])  # of the dots of levels 1 to 5
CHANCE = {"type": 1 / len(NAMES), "level": 1 / NUM_LEVELS}  # of other numbers 0

Points = dict[str, np.ndarray]
"""By the name of an encoder the images' places in the plane [N, 2]."""


class Sample(NamedTuple):
    """The images of a figure, with their distortion classes or their scores."""

    words: str
    crops: Tensor  # bytes [N, 3, size, size]
    labels: Tensor  # [N], classes, 0 .. 124, or true scores, in [1, 10]
    groups: Tensor  # [N], a number for each photograph, or reference image: what a fold keeps together


def add_arguments(parser: argparse.ArgumentParser) -> None:
    text = "random, imagenet or name=RUN, a joint run's folder or encoder, with commas"
    parser.add_argument("--encoders", required=True, help=text)
    images = parser.add_mutually_exclusive_group()
    text = "demo or a folder of photographs to distort (those that no RUN trained with)"
    images.add_argument("--types", metavar="PHOTOS", help=text)
    images.add_argument("--scores", metavar="SPEC", help="a labeled set, to be colored by score")
    text = "images; types: as many of each class, two or more (2500)"
    parser.add_argument("--count", type=whole(3, 10**6), default=2500, help=text)
    parser.add_argument("--perplexity", type=float, default=30, help="of t-SNE, about the neighbors that count (30)")
    devices = ("auto", "cpu", "cuda", "mps")
    parser.add_argument("--device", choices=devices, default="auto", help="of the encoders (auto)")
    text = "of the images, of random weights and of t-SNE (0)"
    parser.add_argument("--seed", type=whole(0, 2**31 - 1), default=0, help=text)


def run(args: argparse.Namespace) -> "plots.Figure":
    import matplotlib.figure  # noqa: F401
    import sklearn.manifold  # noqa: F401 - what is not installed is told before the work, not after it

    encoders, folders = read_encoders(args.encoders, args.seed)
    size, long_side = input_size(folders)
    device = use_device(args.device, workers=0)
    if args.scores is None:
        paths = find_photographs(args.types, folders)
        run_folder.refuse_input(args.out, paths)
        sample = distorted_sample(paths, size, long_side, args.count, args.seed)
        measure, draw = measure_types, draw_types
    else:
        sample = scored_sample(args.scores, [*encoders.values()], size, long_side, args.count, args.seed)
        measure, draw = measure_scores, draw_scores
    print(sample.words)
    folds = probe.make_folds(sample.groups)
    points, rows, notes = {}, {}, {}
    for name, encoder in console.bar(encoders.items(), "encoders"):
        z = probe.features(encoder.to(device), sample.crops)
        points[name] = to_plane(z, args.perplexity, args.seed)
        rows[name], notes[name] = measure(z, points[name], sample.labels, folds)
    print(table(rows))
    return draw(points, notes, sample.labels.numpy())


def read_encoders(spec: str, seed: int) -> tuple[dict[str, Encoder], list[Path]]:
    """The encoders of `random,imagenet,name=RUN ..` by name, and the folders of the runs among them.

    `random` and `imagenet` have the arch of the first RUN, the paper's without any. Raises FileNotFoundError or
    ValueError.
    """
    places = protocol.parse_encoders(spec, ("random", "imagenet"))
    files = {name: protocol.encoder_file(place, seed) for name, place in places.items()}
    trained = {name: load_encoder(file) for name, file in files.items() if name != file}
    for name, encoder in trained.items():
        encoder.seen = records_of(files[name], encoder)
    arch = next((encoder.arch for encoder in trained.values()), "resnet50")
    encoders = {name: trained.get(name) or load_encoder(name, arch, seed) for name in files}
    return encoders, [Path(files[name]).parent for name in trained]


def input_size(folders: Sequence[Path]) -> tuple[int, int]:
    """The crop that the first of the runs was trained with, and the long side that it reduced images to.

    Where none says so, the paper's: 224, and 0 for images as they are.
    """
    configs = [path for folder in folders if (path := folder / run_folder.CONFIG).is_file()]
    config = run_folder.read_json(configs[0]) if configs else {"crop": 224}
    return config["crop"], run_folder.saved_long_side(config) or 0


def held_out(folder: Path) -> set[str]:
    """The photographs that a joint run has not trained with: the demo's test sources, a folder's validation images.

    Raises FileNotFoundError where the run does not say, ValueError where it trained on tars.
    """
    splits = run_folder.read_json(folder / run_folder.SPLITS)
    spec, names = splits["unlabeled"]["spec"], splits["unlabeled"]["val"]
    if spec == "demo" and splits.get("labeled", {}).get("spec") == "demo":
        return {path for path, source in demo_sources().items() if source in splits["labeled"]["test"]}
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"--types is required: {folder} was trained on tars, {spec}")
    paths = demo_sources() if spec == "demo" else list_images(spec)
    return {path for path in paths if Path(path).name in names}


def find_photographs(photos: str | None, folders: Sequence[Path]) -> list[str]:
    """The photographs to distort: `demo`, a folder's, or, for None, those that none of the runs has trained with.

    Raises OSError or ValueError.
    """
    if photos is not None:
        paths = demo_sources() if photos == "demo" else list_images(photos)
    elif not folders:
        raise ValueError("--types or --scores is required without a RUN, which would have photographs held out")
    else:
        paths = set.intersection(*map(held_out, folders))
    if len(paths) < 3:
        raise ValueError(f"photographs must be three or more, got {len(paths)}, {photos or 'held out of training'}")
    return sorted(paths)


def distorted_sample(paths: Sequence[str], size: int, long_side: int, count: int, seed: int) -> Sample:
    """Figure 2's images, about `count`: a random view each of distorted photographs, as many of each class."""
    per_class = max(2, count // len(KADIS))
    crops, classes, photographs = probe.draw_crops(UnlabeledViews(paths, size, long_side=long_side), per_class, seed)
    sources = demo_sources()  # two parts of one photograph share theirs
    names = [sources.get(paths[i], paths[i]) for i in photographs.tolist()]
    _, groups = np.unique(names, return_inverse=True)
    words = f"{len(crops)} images, {per_class} of each class, of {len(photographs.unique())} photographs"
    return Sample(words, crops, classes, torch.from_numpy(groups))


def scored_sample(spec: str, encoders: Sequence[Encoder], size: int, long_side: int, count: int, seed: int) -> Sample:
    """Figure 3's images: the centers of `count` at random of those of a labeled set that no encoder was trained with.

    Files that cannot be read are named and left out. Raises ValueError where none is left.
    """
    labeled = sets.load_labeled(spec, long_side)
    indices = unseen(labeled, [record for encoder in encoders for record in encoder.seen or ()])
    if not indices:
        raise ValueError(f"{spec}: each of its images is of a training or validation part of some RUN")
    chosen = sorted(np.random.default_rng(seed).permutation(indices)[:count].tolist())
    crops = plots.of_images(labeled, chosen, lambda image: views.test_crops(image, "center", size)[0])
    scores = torch.tensor([labeled.scores[i] for i in crops], dtype=torch.float64)
    names, references = np.unique([labeled.references[i] for i in crops], return_inverse=True)
    words = f"{len(crops)} images of {len(names)} references of {spec}, of {len(indices)} that no RUN was trained with"
    return Sample(words, torch.stack([*crops.values()]), scores, torch.from_numpy(references))


def to_plane(z: Tensor, perplexity: float, seed: int) -> np.ndarray:
    """Features [N, d] to points [N, 2]. Raises ValueError for a perplexity of N or more."""
    from sklearn.manifold import TSNE

    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(z.float().numpy())


def measure_types(z: Tensor, points: np.ndarray, classes: Tensor, folds: Tensor) -> tuple[dict[str, float], str]:
    """An encoder's row of Figure 2's table, silhouettes in [-1, 1] and `probe.type_and_level`, and its panel's note.

    A silhouette is the mean over images of (b - a) / max(a, b), where a is the mean distance to the images of the same
    type, and b that to the nearest other type's: among the features [N, d] and in the plane [N, 2].
    """
    from sklearn.metrics import silhouette_score

    types = classes // NUM_LEVELS
    row = {
        "silhouette, features": float(silhouette_score(z.numpy(), types.numpy())),
        "silhouette, plane": float(silhouette_score(points, types.numpy())),
        **probe.type_and_level(z, types, classes % NUM_LEVELS, folds),
    }
    return row, f"linear probe: type {row['type']:.0%}, level {row['level']:.0%}"


def measure_scores(z: Tensor, points: np.ndarray, scores: Tensor, folds: Tensor) -> tuple[dict[str, float], str]:
    """The same for Figure 3: `probe.score_direction` among the features and in the plane."""
    spaces = {"SROCC, features": z, "SROCC, plane": torch.from_numpy(points).double()}
    row = {column: probe.score_direction(space, scores, folds) for column, space in spaces.items()}
    return row, f"best direction: SROCC {row['SROCC, features']:.3f}"


def table(rows: dict[str, dict[str, float]]) -> str:
    """A Markdown table, a row an encoder, and one of what chance gives."""
    columns = list(next(iter(rows.values())))
    named = rows | {"chance": {column: CHANCE.get(column, 0.0) for column in columns}}
    body = [[name, *(f"{row[column]:.3f}" for column in columns)] for name, row in named.items()]
    return tables.lines(["encoder", *columns], body)


@contextmanager
def panels(points: Points, notes: dict[str, str], below: float = 0) -> Iterator["plots.Figure"]:
    """A figure with an empty panel an encoder, its name and a note above it, and some inches of room below.

    The axes of t-SNE have no unit and so no ticks.
    """
    columns = 2 if len(points) == 4 else min(3, len(points))
    rows = ceil(len(points) / columns)
    with new_figure(rows * min(WIDTH / columns + 0.2, 5) + below) as figure:
        figure.get_layout_engine().set(w_pad=0.08)  # inches, between one panel's note and the next one's name
        for i, name in enumerate(points):
            axes = figure.add_subplot(rows, columns, i + 1)
            axes.grid(False)
            axes.spines[:].set(visible=True, color="#c8c8c8")
            axes.set(xticks=[], yticks=[], xmargin=0.03, ymargin=0.03)
            axes.set_title(name, parse_math=False, fontweight="bold")
            axes.set_title(notes[name], loc="right", color=GRAY, fontsize=7)
        yield figure


def draw_types(points: Points, notes: dict[str, str], classes: np.ndarray) -> "plots.Figure":
    """Figure 2: a panel an encoder, a dot an image of class [N]: color by family, marker by type, opacity by level."""
    types, opacity = classes // NUM_LEVELS, OPACITY[classes % NUM_LEVELS]
    with panels(points, notes, below=1.2) as figure:
        for axes, places in zip(figure.axes, points.values(), strict=True):
            for kind, look in LOOKS.items():
                chosen = types == kind
                axes.scatter(*places[chosen].T, s=10, alpha=opacity[chosen], linewidths=0, **look)
        from matplotlib.lines import Line2D

        dots = [Line2D([], [], linestyle="none", markersize=4, **look) for look in LOOKS.values()]
        words = [NAMES[kind].replace("_", " ") for kind in LOOKS]
        title = "the fainter a dot, the lower its level"
        figure.legend(dots, words, title=title, loc="outside lower center", ncols=5)
    return figure


def draw_scores(points: Points, notes: dict[str, str], scores: np.ndarray) -> "plots.Figure":
    """Figure 3: a panel an encoder, a dot an image, its color the true score [N]; one color bar for all."""
    with panels(points, notes) as figure:
        order = np.random.default_rng(0).permutation(len(scores))  # so that no score is always on top
        for axes, places in zip(figure.axes, points.values(), strict=True):
            dots = axes.scatter(*places[order].T, s=7, c=scores[order], cmap="viridis", linewidths=0)
        bar = figure.colorbar(dots, ax=figure.axes, aspect=35, pad=0.01, label="true score, 1 (worst) to 10 (best)")
        bar.outline.set_visible(False)
    return figure
