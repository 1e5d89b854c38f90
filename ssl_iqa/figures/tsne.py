"""Figures 2 and 3: the features of several encoders in a plane, by t-SNE, a panel each.

Figure 2 shows distorted photographs colored by family and type; with --scores it is Figure 3, the images of a labeled
set colored by score. A table goes with it: silhouettes and linear probes of types and levels, or the scores' SROCC
along the best linear direction. The t-SNE is Barnes and Hut's on Euclidean distances, started from the first two
principal components (scikit-learn, the extra `[figures]`).
"""

import argparse
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ssl_iqa.data import sets, views
from ssl_iqa.data.datasets import LabeledImages, UnlabeledViews, name_skipped
from ssl_iqa.data.demo import LONG_SIDE, demo_sources
from ssl_iqa.data.images import list_images
from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.data.seen import known_parts, records_of
from ssl_iqa.distortions import KADIS, NAMES, NUM_LEVELS
from ssl_iqa.engine import console, run_folder
from ssl_iqa.engine.device import use_device
from ssl_iqa.engine.settings import whole
from ssl_iqa.engine.weights import load_encoder
from ssl_iqa.evaluation import probe, protocol
from ssl_iqa.figures import plots
from ssl_iqa.figures.plots import COLORS, GRAY, MARKERS, new_figure
from ssl_iqa.model import ARCHS, Encoder

if TYPE_CHECKING:  # an extra: what draws imports it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# A family has a color, its types a marker each: 25 colors cannot be told apart. Each tuple is a column of the key.
FAMILIES = (
    (("blur", COLORS[0], range(0, 3)), ("compression", COLORS[2], range(8, 10))),
    (("color", COLORS[1], range(3, 8)),),
    (("noise", COLORS[3], range(10, 15)),),
    (("spatial", COLORS[5], range(18, 23)),),
    (("brightness", COLORS[4], range(15, 18)), ("sharpness, contrast", COLORS[6], range(23, 25))),
)
LOOKS = {kind: (color, MARKERS[kind - kinds[0]]) for column in FAMILIES for _, color, kinds in column for kind in kinds}
PANEL_HEIGHT, KEY_ROW, KEY_ROWS = 2.9, 0.165, 7  # inches; families with their names in a column
SIZES = (4, 6, 8, 11, 14)  # of the dots of levels 1 to 5, square points
PALE = 0.6  # how much white is in the color of level 1; level 5 has none
NUMBER_ROOM = (0.065, 0.04)  # the size of a number, as parts of a panel's width and height
COMPACT = 0.15  # half of a type's images are nearer to its number, as a part of a panel's side
MOST_IN_A_ROW = 3

Points = dict[str, np.ndarray]
"""By the name of an encoder the images' places in the plane [N, 2]."""


class Sample(NamedTuple):
    """The images of a figure, and either their distortion classes or their scores."""

    words: str
    crops: Tensor  # bytes [N, 3, size, size]
    groups: Tensor  # [N], a number for each photograph, or reference image: what a fold keeps together
    classes: Tensor | None = None  # [N], 0 .. 124
    scores: Tensor | None = None  # [N], true, in [1, 10]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    text = "random, imagenet or name=RUN, a joint run's folder or encoder, with commas"
    parser.add_argument("--encoders", required=True, help=text)
    images = parser.add_mutually_exclusive_group()
    text = "demo or a folder of photographs to distort (those that no RUN trained with)"
    images.add_argument("--types", metavar="PHOTOS", help=text)
    images.add_argument("--scores", metavar="SPEC", help="a labeled set, to be colored by score")
    parts, devices = ("train", "val", "test", "all"), ("auto", "cpu", "cuda", "mps")
    parser.add_argument("--part", choices=parts, help="of SPEC (test if a RUN split it, or all)")
    parser.add_argument("--arch", choices=tuple(ARCHS), help="of random and imagenet (the first RUN's)")
    parser.add_argument("--crop", type=whole(32, 10_000), help="side of the crops, pixels (the first RUN's, else 224)")
    text = "images; types: as many of each class (2500)"
    parser.add_argument("--count", type=whole(3, 10**6), default=2500, help=text)
    parser.add_argument("--perplexity", type=float, default=30, help="of t-SNE, about the neighbors that count (30)")
    parser.add_argument("--device", choices=devices, default="auto", help="of the encoders (auto)")
    text = "of the images, of random weights and of t-SNE (0)"
    parser.add_argument("--seed", type=whole(0, 2**31 - 1), default=0, help=text)


def run(args: argparse.Namespace) -> tuple[bytes, str]:
    if args.scores is None and args.count < 2 * len(KADIS):
        raise ValueError(f"--count must be {2 * len(KADIS)} or more, two of each class, got {args.count}")
    if args.scores is None and args.part:
        raise ValueError(f"--part must stand with --scores, got --part {args.part} alone")
    check_extras()
    encoders, folders = read_encoders(args.encoders, args.arch, args.seed)
    size = args.crop or crop_size(folders)
    device = use_device(args.device, workers=0)
    if args.scores is None:
        sample = distorted_sample(args.types, folders, size, args.count, args.seed)
    else:
        sample = scored_sample(args.scores, [*encoders.values()], args.part, size, args.count, args.seed)
    print(sample.words)
    figure, table = draw(encoders, sample, device, args.perplexity, args.seed)
    print(table)
    return plots.encode(figure, args.out.suffix.lower())


def check_extras() -> None:
    """Raise ValueError where what draws or computes is not installed: told before the work, not after it."""
    try:
        import matplotlib.figure  # noqa: F401
        import sklearn.manifold  # noqa: F401
    except ImportError as error:
        extras = "scikit-learn and matplotlib are required: pip install 'ssl_iqa[figures]'"
        raise ValueError(f"{extras} ({error})") from error


def read_encoders(spec: str, arch: str | None, seed: int) -> tuple[dict[str, Encoder], list[Path]]:
    """The encoders of `random,imagenet,name=RUN ..` by name, and the folders of the runs among them.

    Without `arch` the arch of `random` and `imagenet` is that of the first RUN. Raises FileNotFoundError or ValueError.
    """
    places = protocol.parse_encoders(spec, ("random", "imagenet"))
    files = {name: protocol.encoder_file(place, seed) for name, place in places.items()}
    trained = {name: load_encoder(file) for name, file in files.items() if name != file}
    for name, encoder in trained.items():
        encoder.seen = records_of(files[name], encoder)
    arch = arch or next((encoder.arch for encoder in trained.values()), None)
    if arch is None:
        raise ValueError(f"--arch is required where --encoders names no RUN, got {spec}")
    encoders = {name: trained.get(name) or load_encoder(name, arch, seed) for name in files}
    return encoders, [Path(files[name]).parent for name in trained]


def crop_size(folders: Sequence[Path]) -> int:
    """The crop that the first of the runs was trained with; the paper's 224 where none says so."""
    configs = [folder / run_folder.CONFIG for folder in folders]
    return next((run_folder.read_json(path)["crop"] for path in configs if path.is_file()), 224)


def held_out(folder: Path) -> set[str]:
    """The photographs that a joint run has not trained with: the demo's test sources, a folder's validation images.

    Raises ValueError where the run does not say, or trained on tars.
    """
    if not (folder / run_folder.SPLITS).is_file():
        raise ValueError(f"--types is required: {folder} has no {run_folder.SPLITS} that says what was held out")
    splits = run_folder.read_json(folder / run_folder.SPLITS)
    spec, names = splits["unlabeled"]["spec"], splits["unlabeled"]["val"]
    if spec == "demo" and splits.get("labeled", {}).get("spec") == "demo":
        return {path for path, source in demo_sources().items() if source in splits["labeled"]["test"]}
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"--types is required: {folder} was trained on tars, {spec}")
    paths = demo_sources() if spec == "demo" else list_images(spec)
    return {path for path in paths if Path(path).name in names}


def find_photographs(photos: str | None, folders: Sequence[Path]) -> tuple[list[str], int, str]:
    """The photographs to distort: their paths, the long side that they are reduced to, and words for them.

    `photos` is `demo` or a folder; None takes what none of the runs has trained with. Raises OSError or ValueError.
    """
    if photos is not None:
        paths = list(demo_sources()) if photos == "demo" else list_images(photos)
        words = photos
    elif not folders:
        raise ValueError("--types or --scores is required without a RUN, which would have photographs held out")
    else:
        paths = sorted(set.intersection(*map(held_out, folders)))
        words = "held out of training"
    if len(paths) < 3:
        raise ValueError(f"photographs must be three or more, got {len(paths)}, {words}")
    return paths, LONG_SIDE if set(paths) <= {*demo_sources()} else 0, words


def part_of(labeled: LabeledSet, encoders: Sequence[Encoder], part: str | None) -> tuple[list[int], str]:
    """The images of a labeled set's part, as all those encoders that have seen the set split it, and the part's name.

    None is test where an encoder has seen the set, else all. What none has seen counts as test. Raises ValueError for
    an empty part.
    """
    splits = [known for encoder in encoders if (known := known_parts(labeled, encoder.seen or ()))]
    part = part or ("test" if splits else "all")
    if part == "all":
        return list(range(len(labeled.paths))), part
    if not splits:
        raise ValueError(f"--part must be all, since none of the runs has split {labeled.name}, got {part}")
    references = enumerate(labeled.references)
    indices = [i for i, name in references if all(known.get(name, "test") == part for known in splits)]
    if not indices:
        raise ValueError(f"--part {part}: no reference image is in it in all of the runs")
    return indices, part


def distorted_sample(photos: str | None, folders: Sequence[Path], size: int, count: int, seed: int) -> Sample:
    """Figure 2's images, about `count`: a random view each of distorted photographs, as many of each class."""
    paths, long_side, words = find_photographs(photos, folders)
    per_class = count // len(KADIS)
    crops, classes, photographs = probe.draw_crops(UnlabeledViews(paths, size, long_side=long_side), per_class, seed)
    sources = demo_sources()  # two parts of one photograph share theirs
    names = [sources.get(paths[i], paths[i]) for i in photographs.tolist()]
    _, groups = np.unique(names, return_inverse=True)
    words = f"{len(crops)} images, {per_class} of each class, of {len(photographs.unique())} photographs {words}"
    return Sample(words, crops, torch.from_numpy(groups), classes=classes)


def scored_sample(spec: str, encoders: Sequence[Encoder], part: str | None, size: int, count: int, seed: int) -> Sample:
    """Figure 3's images: the centers of `count` at random of a labeled set's part. Unreadable files are named."""
    labeled = sets.load_labeled(spec, LONG_SIDE if spec == "demo" else 0)
    indices, part = part_of(labeled, encoders, part)
    chosen = sorted(np.random.default_rng(seed).permutation(indices)[:count].tolist())
    images = LabeledImages(labeled, chosen)
    crops, readable = [], []
    for place in console.bar(range(len(chosen)), "images"):
        index, image = images[place]
        if image is not None:
            crops.append(views.test_crops(image, "center", size)[0])
            readable.append(index)
    name_skipped((labeled.paths[i] for i in {*chosen} - {*readable}), set())
    if not readable:
        raise ValueError(f"{spec}: no readable image in its part {part}")
    scores = torch.tensor([labeled.scores[i] for i in readable], dtype=torch.float64)
    names, references = np.unique([labeled.references[i] for i in readable], return_inverse=True)
    words = f"{len(readable)} of {len(indices)} images of {len(names)} references, {spec}, part {part}"
    return Sample(words, torch.stack(crops), torch.from_numpy(references), scores=scores)


def draw(
    encoders: dict[str, Encoder], sample: Sample, device: torch.device, perplexity: float, seed: int
) -> tuple["Figure", str]:
    """The figure of a sample, a panel an encoder, and its table: its numbers are those of `measure_types` or, among the
    features and in the plane, of `probe.score_direction`. Raises ValueError as `to_plane` does.
    """
    folds = probe.make_folds(sample.groups)
    points, rows, notes = {}, {}, {}
    for name, encoder in console.bar(encoders.items(), "encoders"):
        z = probe.features(encoder.to(device), sample.crops)
        points[name] = to_plane(z, perplexity, seed)
        if sample.classes is not None:
            row = measure_types(z, points[name], sample.classes, folds)
            notes[name] = f"linear probe: type {row['type']:.0%}, level {row['level given the type']:.0%}"
        else:
            spaces = {"SROCC, features": z, "SROCC, plane": torch.from_numpy(points[name]).double()}
            row = {column: probe.score_direction(space, sample.scores, folds) for column, space in spaces.items()}
            notes[name] = f"best direction: SROCC {row['SROCC, features']:.3f}"
        rows[name] = row
    if sample.classes is not None:
        return draw_types(points, notes, sample.classes.numpy()), table(rows)
    return draw_scores(points, notes, sample.scores.numpy()), table(rows)


def to_plane(z: Tensor, perplexity: float, seed: int) -> np.ndarray:
    """Features [N, d] to points [N, 2]. Raises ValueError for a perplexity under 1, or of N or more."""
    from sklearn.manifold import TSNE

    if not 1 <= perplexity < len(z):
        raise ValueError(f"--perplexity must be 1 or more, and less than the {len(z)} images, got {perplexity:g}")
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(z.float().numpy())


def measure_types(z: Tensor, points: np.ndarray, classes: Tensor, folds: Tensor) -> dict[str, float]:
    """An encoder's numbers for Figure 2: silhouettes of the types, in [-1, 1], and `probe.type_and_level`.

    A silhouette is the mean over images of (b - a) / max(a, b), where a is the mean distance to the images of the same
    type, and b that to the nearest other type's: among the features [N, d] and in the plane [N, 2].
    """
    from sklearn.metrics import silhouette_score

    types = classes // NUM_LEVELS
    accuracy = probe.type_and_level(z, types, classes % NUM_LEVELS, folds)
    return {
        "silhouette, features": float(silhouette_score(z.numpy(), types.numpy())),
        "silhouette, plane": float(silhouette_score(points, types.numpy())),
        "type": accuracy["type"],
        "level given the type": accuracy["level"],
    }


CHANCE = {"type": 1 / len(NAMES), "level given the type": 1 / NUM_LEVELS}  # of the others 0


def table(rows: dict[str, dict[str, float]]) -> str:
    """A Markdown table, a row an encoder, and one of what chance gives."""
    columns = list(next(iter(rows.values())))
    lines = ["| encoder | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in [*rows.items(), ("chance", {column: CHANCE.get(column, 0.0) for column in columns})]:
        lines.append(f"| {name} | " + " | ".join(f"{row[column]:.3f}" for column in columns) + " |")
    return "\n".join(lines)


def panels(figure: "Figure", points: Points, notes: dict[str, str]) -> list["Axes"]:
    """An empty panel an encoder, its name and a note above it; the axes of t-SNE have no unit and so no ticks."""
    columns = 2 if len(points) == 4 else min(MOST_IN_A_ROW, len(points))
    figure.get_layout_engine().set(w_pad=0.08)  # inches, between one panel's note and the next one's name
    for i, (name, places) in enumerate(points.items()):
        axes = figure.add_subplot(ceil(len(points) / columns), columns, i + 1)
        axes.grid(False)
        for spine in axes.spines.values():
            spine.set(visible=True, color="#c8c8c8")
        low, high = places.min(axis=0), places.max(axis=0)
        (left, bottom), (right, top) = low - 0.03 * (high - low), high + 0.03 * (high - low)
        axes.set(xticks=[], yticks=[], xlim=(left, right), ylim=(bottom, top))
        axes.set_title(name, parse_math=False, fontweight="bold")
        axes.set_title(notes[name], loc="right", color=GRAY, fontsize=7)
    return figure.axes


def height_of(panels: int) -> float:
    """Of all panels, in inches; one, two and four are larger."""
    return PANEL_HEIGHT * {1: 1.7, 2: 1.35, 4: 2.7}.get(panels, ceil(panels / MOST_IN_A_ROW))


def shade(color: str, level: int) -> tuple[float, float, float]:
    """A color with white in it, the less the higher the level, 1 to 5."""
    from matplotlib.colors import to_rgb

    white = PALE * (NUM_LEVELS - level) / (NUM_LEVELS - 1)
    return tuple((1 - white) * part + white for part in to_rgb(color))


def draw_types(points: Points, notes: dict[str, str], classes: np.ndarray) -> "Figure":
    """Figure 2: a panel an encoder, a dot an image of class [N]. Its family gives its color, its type the marker, its
    level shade and size; a type's number stands at the median of its images of level 5 where these are together.
    """
    with new_figure(height_of(len(points)) + KEY_ROWS * KEY_ROW) as figure:
        for axes, places in zip(panels(figure, points, notes), points.values(), strict=True):
            for level in range(1, NUM_LEVELS + 1):  # the strongest on top
                shades = {kind: shade(color, level) for kind, (color, _) in LOOKS.items()}
                for marker in MARKERS:
                    kinds = [kind for kind, look in LOOKS.items() if look[1] == marker]
                    chosen = np.isin(classes, [NUM_LEVELS * kind + level - 1 for kind in kinds])
                    colors = [shades[kind] for kind in classes[chosen] // NUM_LEVELS]
                    axes.scatter(*places[chosen].T, s=SIZES[level - 1], c=colors, marker=marker, linewidths=0)
            write_numbers(axes, places, classes)
        add_key(figure)
    return figure


def write_numbers(axes: "Axes", places: np.ndarray, classes: np.ndarray) -> None:
    """The numbers of types at the medians of their strongest level, where that is compact and there is room for it."""
    from matplotlib.patheffects import withStroke

    size = places.max(axis=0) - places.min(axis=0)
    medians = []
    for kind in LOOKS:
        strongest = places[classes == NUM_LEVELS * kind + NUM_LEVELS - 1]
        median = np.median(strongest, axis=0)
        medians.append((np.median(np.linalg.norm((strongest - median) / size, axis=1)), kind, median))
    written: list[np.ndarray] = []
    halo = [withStroke(linewidth=1.6, foreground="white")]
    for spread, kind, median in sorted(medians, key=lambda entry: entry[:2]):
        has_room = all((np.abs(median - other) > np.multiply(NUMBER_ROOM, size)).any() for other in written)
        if spread < COMPACT and has_room:
            axes.text(*median, str(kind + 1), size=6.5, weight="bold", ha="center", va="center", path_effects=halo)
            written.append(median)


def add_key(figure: "Figure") -> None:
    """The families and their types below the panels, and the five levels."""
    from matplotlib.legend_handler import HandlerTuple
    from matplotlib.lines import Line2D

    def dot(color: Any, marker: str, size: float) -> Line2D:
        return Line2D([], [], color=color, marker=marker, markersize=size, markeredgewidth=0, linestyle="none")

    empty, rows = dot("none", "o", 1), []
    for column in FAMILIES:
        cells = []
        for family, _, kinds in column:
            cells.append((empty, family))
            cells += [(dot(*LOOKS[kind], 4), f"{kind + 1}  {NAMES[kind].replace('_', ' ')}") for kind in kinds]
        rows += cells + [(empty, "")] * (KEY_ROWS - len(cells))
    levels = tuple(dot(shade(GRAY, level), "o", SIZES[level - 1] ** 0.5) for level in range(1, NUM_LEVELS + 1))
    rows[4 * KEY_ROWS - 1] = (levels, " level 1 to 5")
    handles, labels = zip(*rows, strict=True)
    spacing = {"columnspacing": 1.2, "handletextpad": 0.4, "labelspacing": 0.35}
    look = {"fontsize": 6.5, "handler_map": {tuple: HandlerTuple(ndivide=None)}}
    legend = figure.legend(handles, labels, loc="outside lower center", ncols=len(FAMILIES), **spacing, **look)
    families = {family for column in FAMILIES for family, *_ in column}
    for text in legend.get_texts():
        if text.get_text() in families:
            text.set_fontweight("bold")


def draw_scores(points: Points, notes: dict[str, str], scores: np.ndarray) -> "Figure":
    """Figure 3: a panel an encoder, a dot an image, its color the true score [N]; one color bar for all."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    with new_figure(height_of(len(points))) as figure:
        colors = ScalarMappable(Normalize(scores.min(), scores.max()), "viridis")
        order = np.random.default_rng(0).permutation(len(scores))  # so that no score is always on top
        for axes, places in zip(panels(figure, points, notes), points.values(), strict=True):
            axes.scatter(*places[order].T, s=7, c=colors.to_rgba(scores[order]), linewidths=0)
        bar = figure.colorbar(colors, ax=figure.axes, aspect=35, pad=0.01)
        bar.set_label("true score, 1 (worst) to 10 (best)")
        bar.outline.set_visible(False)
    return figure
