"""The demo's photographs, and the mean opinions of the classes that they are distorted in."""

from pathlib import Path

from ssl_iqa.data.labeled import LabeledSet, mapped_scores, read_csv
from ssl_iqa.distortions import DISTORTIONS

DEMO_FOLDER = Path(__file__).parent / "demo_photos"
LONG_SIDE = 192  # of the demo's 384: a quarter of the work, and a crop shows more of the image


def load_demo() -> LabeledSet:
    # in the order of the distortion classes
    table = read_csv(DEMO_FOLDER / "kadid_class_means.csv", ("type", "level", "mean_opinion"))
    sources = demo_sources()
    names = list(DISTORTIONS)
    return LabeledSet(
        name="demo",
        paths=[path for path in sources for _ in table.rows],
        scores=mapped_scores(table, "mean_opinion", (1, 5)) * len(sources),
        score_range=(1, 5),
        references=[source for source in sources.values() for _ in table.rows],
        distortions=[names[int(kind) - 1] for kind in table.column("type")] * len(sources),
        levels=[int(level) for level in table.column("level")] * len(sources),
        classes=list(range(len(table.rows))) * len(sources),
    )


def demo_sources() -> dict[str, str]:
    """The demo's 67 photographs, by path, and the one of 40 sources that each was cut from.

    They are the demo's unlabeled images and, distorted, its labeled ones. Two parts of one photograph share their
    source: both streams are split by it.
    """
    credits = read_csv(DEMO_FOLDER / "CREDITS.csv", ("image", "source"))
    return dict(sorted((str(DEMO_FOLDER / row["image"]), row["source"]) for _, row in credits.rows))
