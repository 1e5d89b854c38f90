"""Table 3's baselines without deep pretraining: BRISQUE with a support vector regressor, and class means."""

import importlib.util

from ssl_iqa.data.labeled import LabeledSet

Parts = dict[str, list[int]]
"""The indices of the images in a set's `train`, `val` and `test` part."""

BRISQUE, CLASS_MEAN = NAMES = ("brisque", "class-mean")


def check(name: str, labeled: LabeledSet) -> None:
    """Raises ValueError where a set lacks what a baseline of NAMES needs, before any work is done."""
    if name == CLASS_MEAN and not (labeled.distortions and labeled.levels):
        raise ValueError(f"{labeled.name}: distortions and levels must be known, class means need both")
    if name == BRISQUE and importlib.util.find_spec("sklearn") is None:
        raise ValueError("brisque: scikit-learn is required: pip install 'ssl_iqa[baselines]'")
