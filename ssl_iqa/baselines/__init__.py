"""Table 3's baselines without deep pretraining: BRISQUE with a support vector regressor, and class means."""

import importlib.util

from ssl_iqa.data.labeled import LabeledSet

Parts = dict[str, list[int]]
"""The indices of the pictures in a set's `train`, `val` and `test` part."""

BRISQUE, CLASS_MEAN = NAMES = ("brisque", "class-mean")


def check(name: str, labeled: LabeledSet) -> None:
    """Raises ValueError where a baseline of NAMES cannot be had for a set: told before the work, not amid it."""
    if name == CLASS_MEAN and not (labeled.distortions and labeled.levels):
        raise ValueError(f"{labeled.name}: its pictures' distortions and levels are not known; class means need both")
    if name == BRISQUE and importlib.util.find_spec("sklearn") is None:
        wanted = "pip install 'ssl_iqa[baselines]'"
        raise ValueError(f"brisque: its support vector regressor is scikit-learn's: {wanted}")
