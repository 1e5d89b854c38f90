"""Figures 2 and 3: the features of several encoders in a plane, by t-SNE, and numbers beside what the eye sees.

Drawn with matplotlib, computed with scikit-learn: the extra `[figures]`. The t-SNE is the usual one of Barnes and Hut
on Euclidean distances, started from the first two principal components.
"""

from collections.abc import Sequence
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
from ssl_iqa.engine.weights import load_encoder
from ssl_iqa.evaluation import probe, protocol
from ssl_iqa.figures.plots import COLORS, GRAY, MARKERS, new_figure
from ssl_iqa.model import Encoder

if TYPE_CHECKING:  # an extra: what draws imports it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# A family has a color, its types a marker each: 25 colors cannot be told apart. Each tuple is a column of the key.
FAMILIES = (
    (("blur", 0, 3), ("compression", 8, 10)),
    (("color", 3, 8),),
    (("noise", 10, 15),),
    (("spatial", 18, 23),),
    (("brightness", 15, 18), ("sharpness, contrast", 23, 25)),
)  # name, first type, the one after the last
PANEL_HEIGHT, KEY_ROW, KEY_ROWS = 2.9, 0.165, 7  # inches; families with their names in a column
SIZES = (4, 6, 8, 11, 14)  # of the dots of levels 1 to 5, square points
PALE = 0.6  # how much white is in the color of level 1; level 5 has none
NUMBER_ROOM = (0.065, 0.04)  # the size of a number, as parts of a panel's width and height
COMPACT = 0.15  # half of a type's pictures are nearer to its number, as a part of a panel's side
MOST_IN_A_ROW = 3

Points = dict[str, np.ndarray]
"""By the name of an encoder the pictures' places in the plane [N, 2]."""


class Shown(NamedTuple):
    """The pictures of a figure, and either their distortion classes or their scores."""

    words: str
    crops: Tensor  # bytes [N, 3, size, size]
    groups: Tensor  # [N], a number for each photograph, or reference image: what a fold keeps together
    classes: Tensor | None = None  # [N], 0 .. 124
    scores: Tensor | None = None  # [N], true, in [1, 10]


def check_extras() -> None:
    """Raise ValueError where what draws or computes is not installed: told before the work, not after it."""
    try:
        import matplotlib.figure  # noqa: F401
        import sklearn.manifold  # noqa: F401
    except ImportError as error:
        raise ValueError(f"tsne takes scikit-learn and matplotlib: pip install 'ssl_iqa[figures]' ({error})") from error


def read_encoders(spec: str, arch: str | None, seed: int) -> tuple[dict[str, Encoder], list[Path]]:
    """The encoders of `random,imagenet,name=RUN ..` by name, and the folders of the runs among them.

    A RUN is the folder of a joint run or a file with an encoder; without `arch` the arch of `random` and `imagenet` is
    that of the first RUN. Raises FileNotFoundError or ValueError for anything else.
    """
    places = protocol.parse_encoders(spec, ("random", "imagenet"))
    files = {name: protocol.encoder_file(place, seed) for name, place in places.items()}
    trained = {name: load_encoder(file) for name, file in files.items() if name != file}
    for name, encoder in trained.items():
        encoder.seen = records_of(files[name], encoder)
    arch = arch or next((encoder.arch for encoder in trained.values()), None)
    if arch is None:
        raise ValueError(f"--encoders {spec}: without a RUN among them --arch is wanted")
    encoders = {name: trained.get(name) or load_encoder(name, arch, seed) for name in files}
    return encoders, [Path(files[name]).parent for name in trained]


def crop_size(folders: Sequence[Path]) -> int:
    """The crop that the first of the runs was trained with; the paper's 224 where none says so."""
    configs = [folder / run_folder.CONFIG for folder in folders]
    return next((run_folder.read_json(path)["crop"] for path in configs if path.is_file()), 224)


def held_out(folder: Path) -> set[str]:
    """The photographs that a joint run has not trained with: the demo's test sources, a folder's validation pictures.

    Raises ValueError where the run does not say, or trained on tars.
    """
    if not (folder / run_folder.SPLITS).is_file():
        raise ValueError(f"--types: {folder} has no {run_folder.SPLITS} that says what was held out; PHOTOS is wanted")
    splits = run_folder.read_json(folder / run_folder.SPLITS)
    spec, names = splits["unlabeled"]["spec"], splits["unlabeled"]["val"]
    if spec == "demo" and splits.get("labeled", {}).get("spec") == "demo":
        return {path for path, source in demo_sources().items() if source in splits["labeled"]["test"]}
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"--types: {folder} was trained on tars, {spec}; a folder of PHOTOS is wanted")
    paths = demo_sources() if spec == "demo" else list_images(spec)
    return {path for path in paths if Path(path).name in names}


def find_photographs(photos: str | None, folders: Sequence[Path]) -> tuple[list[str], int, str]:
    """What is to be distorted: its paths, the long side that it is reduced to, and words for it.

    `photos` is `demo` or a folder; None takes what none of the runs has trained with. Raises OSError or ValueError
    where there is nothing.
    """
    if photos is not None:
        paths = list(demo_sources()) if photos == "demo" else list_images(photos)
        words = photos
    elif not folders:
        raise ValueError("--types or --scores: without a RUN, which would have photographs held out, one is wanted")
    else:
        paths = sorted(set.intersection(*map(held_out, folders)))
        words = "held out of training"
    if len(paths) < 3:
        raise ValueError(f"--types: {len(paths)} photographs {words}; three or more are wanted")
    return paths, LONG_SIDE if set(paths) <= {*demo_sources()} else 0, words


def part_of(labeled: LabeledSet, encoders: Sequence[Encoder], part: str | None) -> tuple[list[int], str]:
    """The pictures of a part of a labeled set that are in it for all those encoders that have seen the set.

    `part` is train, val, test or all; None is test where an encoder has seen the set, else all. What none has seen can
    be tested. Returns the indices and the part's name. Raises ValueError where no encoder has seen the set, or no
    reference is in this part of all of them.
    """
    splits = [known for encoder in encoders if (known := known_parts(labeled, encoder.seen or ()))]
    part = part or ("test" if splits else "all")
    if part == "all":
        return list(range(len(labeled.paths))), part
    if not splits:
        raise ValueError(f"--part {part}: none of the runs has split {labeled.name}; --part all is wanted")
    references = enumerate(labeled.references)
    indices = [i for i, name in references if all(known.get(name, "test") == part for known in splits)]
    if not indices:
        raise ValueError(f"--part {part}: no reference image is in it in all of the runs; --part all is wanted")
    return indices, part


def distorted_pictures(photos: str | None, folders: Sequence[Path], size: int, count: int, seed: int) -> Shown:
    """Figure 2's pictures, about `count`: a random view each of distorted photographs, as many of each class."""
    paths, long_side, words = find_photographs(photos, folders)
    per_class = count // len(KADIS)
    crops, classes, photographs = probe.draw_crops(UnlabeledViews(paths, size, long_side=long_side), per_class, seed)
    sources = demo_sources()  # two parts of one photograph share theirs
    names = [sources.get(paths[i], paths[i]) for i in photographs.tolist()]
    _, groups = np.unique(names, return_inverse=True)
    words = f"{len(crops)} pictures, {per_class} of each class, of {len(photographs.unique())} photographs {words}"
    return Shown(words, crops, torch.from_numpy(groups), classes=classes)


def scored_pictures(
    spec: str, encoders: Sequence[Encoder], part: str | None, size: int, count: int, seed: int
) -> Shown:
    """Figure 3's pictures: the centers of `count` at random of a labeled set's part. Unreadable files are named."""
    labeled = sets.load_labeled(spec, LONG_SIDE if spec == "demo" else 0)
    indices, part = part_of(labeled, encoders, part)
    chosen = sorted(np.random.default_rng(seed).permutation(indices)[:count].tolist())
    pictures = LabeledImages(labeled, chosen)
    crops, found = [], []
    for place in console.bar(range(len(chosen)), "pictures"):
        index, picture = pictures[place]
        if picture is not None:
            crops.append(views.test_crops(picture, "center", size)[0])
            found.append(index)
    name_skipped((labeled.paths[i] for i in {*chosen} - {*found}), set())
    if not found:
        raise ValueError(f"{spec}: no readable picture in this part, {part}")
    scores = torch.tensor([labeled.scores[i] for i in found], dtype=torch.float64)
    names, references = np.unique([labeled.references[i] for i in found], return_inverse=True)
    words = f"{len(found)} of {len(indices)} pictures of {len(names)} references, {spec}, part {part}"
    return Shown(words, torch.stack(crops), torch.from_numpy(references), scores=scores)


def draw(
    encoders: dict[str, Encoder], shown: Shown, device: torch.device, perplexity: float, seed: int
) -> tuple["Figure", str]:
    """The figure of these pictures, a panel an encoder, and its table. Raises ValueError as `to_plane` does."""
    folds = probe.make_folds(shown.groups)
    points, rows = {}, {}
    for name, encoder in console.bar(encoders.items(), "encoders"):
        z = probe.features(encoder.to(device), shown.crops)
        points[name] = to_plane(z, perplexity, seed)
        if shown.classes is not None:
            rows[name] = measure_types(z, points[name], shown.classes, folds)
        else:
            rows[name] = measure_scores(z, points[name], shown.scores, folds)
    notes = {}
    if shown.classes is not None:
        for name, row in rows.items():
            notes[name] = f"linear probe: type {row['type']:.0%}, level {row['level given the type']:.0%}"
        return draw_types(points, notes, shown.classes.numpy()), table(rows)
    for name, row in rows.items():
        notes[name] = f"best direction: SROCC {row['SROCC, features']:.3f}"
    return draw_scores(points, notes, shown.scores.numpy()), table(rows)


def to_plane(z: Tensor, perplexity: float, seed: int) -> np.ndarray:
    """Features [N, d] to points [N, 2]. Raises ValueError for a perplexity of N or more."""
    from sklearn.manifold import TSNE

    if not 1 <= perplexity < len(z):
        raise ValueError(f"--perplexity {perplexity:g}: 1 or more, and less than the {len(z)} pictures, is wanted")
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(z.float().numpy())


def measure_types(z: Tensor, points: np.ndarray, classes: Tensor, folds: Tensor) -> dict[str, float]:
    """An encoder's numbers for Figure 2: silhouettes of the types, in [-1, 1], and `probe.type_and_level`.

    A silhouette is the mean over pictures of (b - a) / max(a, b), where a is the mean distance to the pictures of the
    same type, and b that to the nearest other type's: among the features [N, d] and in the plane [N, 2].
    """
    from sklearn.metrics import silhouette_score

    types = classes // NUM_LEVELS
    found = probe.type_and_level(z, types, classes % NUM_LEVELS, folds)
    return {
        "silhouette, features": float(silhouette_score(z.numpy(), types.numpy())),
        "silhouette, plane": float(silhouette_score(points, types.numpy())),
        "type": found["type"],
        "level given the type": found["level"],
    }


def measure_scores(z: Tensor, points: np.ndarray, scores: Tensor, folds: Tensor) -> dict[str, float]:
    """An encoder's numbers for Figure 3: `probe.score_direction` among the features [N, d] and in the plane [N, 2]."""
    spaces = {"features": z, "plane": torch.from_numpy(points).double()}
    return {f"SROCC, {name}": probe.score_direction(space, scores, folds) for name, space in spaces.items()}


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
    found = []
    for i, (name, places) in enumerate(points.items()):
        axes = figure.add_subplot(-(-len(points) // columns), columns, i + 1)
        axes.set(xticks=[], yticks=[])
        axes.grid(False)
        for spine in axes.spines.values():
            spine.set(visible=True, color="#c8c8c8")
        low, high = places.min(axis=0), places.max(axis=0)
        edge = 0.03 * (high - low)
        axes.set(xlim=(low[0] - edge[0], high[0] + edge[0]), ylim=(low[1] - edge[1], high[1] + edge[1]))
        axes.set_title(name, parse_math=False, fontweight="bold")
        axes.set_title(notes[name], loc="right", color=GRAY, fontsize=7)
        found.append(axes)
    return found


def height_of(panels: int) -> float:
    """Of all panels, in inches; one, two and four are larger."""
    return PANEL_HEIGHT * {1: 1.7, 2: 1.35, 4: 2.7}.get(panels, -(-panels // MOST_IN_A_ROW))


def shade(color: str, level: int) -> tuple[float, float, float]:
    """A color with white in it, the less the higher the level, 1 to 5."""
    from matplotlib.colors import to_rgb

    white = PALE * (NUM_LEVELS - level) / (NUM_LEVELS - 1)
    return tuple((1 - white) * part + white for part in to_rgb(color))


def looks() -> dict[int, tuple[str, str]]:
    """Each type's color, its family's, and marker."""
    families = sorted((first, stop) for column in FAMILIES for _, first, stop in column)
    return {
        kind: (COLORS[i], MARKERS[kind - first])
        for i, (first, stop) in enumerate(families)
        for kind in range(first, stop)
    }


def draw_types(points: Points, notes: dict[str, str], classes: np.ndarray) -> "Figure":
    """Figure 2: a panel an encoder, a dot a picture of class [N]. Its family gives its color, its type the marker, its
    level shade and size; a type's number stands at the median of its pictures of level 5 where these are together.
    """
    with new_figure(height_of(len(points)) + KEY_ROWS * KEY_ROW) as figure:
        for axes, places in zip(panels(figure, points, notes), points.values(), strict=True):
            for level in range(1, NUM_LEVELS + 1):  # the strongest on top
                shades = {kind: shade(color, level) for kind, (color, _) in looks().items()}
                for marker in MARKERS:
                    kinds = [kind for kind, look in looks().items() if look[1] == marker]
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
    found = []
    for kind in looks():
        strongest = places[classes == NUM_LEVELS * kind + NUM_LEVELS - 1]
        middle = np.median(strongest, axis=0)
        found.append((np.median(np.linalg.norm((strongest - middle) / size, axis=1)), kind, middle))
    written: list[np.ndarray] = []
    halo = [withStroke(linewidth=1.6, foreground="white")]
    for spread, kind, middle in sorted(found, key=lambda one: one[:2]):
        if spread < COMPACT and all(
            (np.abs(middle - other) > np.multiply(NUMBER_ROOM, size)).any() for other in written
        ):
            axes.text(*middle, str(kind + 1), size=6.5, weight="bold", ha="center", va="center", path_effects=halo)
            written.append(middle)


def add_key(figure: "Figure") -> None:
    """The families and their types below the panels, and the five levels."""
    from matplotlib.legend_handler import HandlerTuple
    from matplotlib.lines import Line2D

    def dot(color: Any, marker: str, size: float) -> Line2D:
        return Line2D([], [], color=color, marker=marker, markersize=size, markeredgewidth=0, linestyle="none")

    empty, rows = dot("none", "o", 1), []
    for column in FAMILIES:
        cells = []
        for family, first, stop in column:
            cells.append((empty, family))
            for kind in range(first, stop):
                color, marker = looks()[kind]
                cells.append((dot(color, marker, 4), f"{kind + 1}  {NAMES[kind].replace('_', ' ')}"))
        rows += cells + [(empty, "")] * (KEY_ROWS - len(cells))
    levels = tuple(dot(shade(GRAY, level), "o", SIZES[level - 1] ** 0.5) for level in range(1, NUM_LEVELS + 1))
    rows[4 * KEY_ROWS - 1] = (levels, " level 1 to 5")
    handles, labels = zip(*rows, strict=True)
    legend = figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=len(FAMILIES),
        fontsize=6.5,
        columnspacing=1.2,
        handletextpad=0.4,
        labelspacing=0.35,
        handler_map={tuple: HandlerTuple(ndivide=None)},
    )
    for text in legend.get_texts():
        if text.get_text() in [family for column in FAMILIES for family, *_ in column]:
            text.set_fontweight("bold")


def draw_scores(points: Points, notes: dict[str, str], scores: np.ndarray) -> "Figure":
    """Figure 3: a panel an encoder, a dot a picture, its color the true score [N]; one color bar for all."""
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
