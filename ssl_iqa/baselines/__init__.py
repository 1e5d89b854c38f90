"""The methods that Table 3 compares with: hand-made features with a support vector regressor, class means, those that
are pretrained, and those with a finetuning of their own.
"""

import importlib.util
from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

from ssl_iqa.baselines.finetuning import Finetuning
from ssl_iqa.data.labeled import LabeledSet

Parts = dict[str, list[int]]
"""The indices of the images in a set's `train`, `val` and `test` part."""

# The methods with features made by hand, each a module of its name, and the libraries of `[baselines]` that it needs.
HANDMADE = {"brisque": ("sklearn",), "biqi": ("sklearn", "pywt"), "bliinds-ii": ("sklearn",)}
HANDMADE |= {"cornia": ("sklearn",), "diivine": ("sklearn",), "hosa": ("sklearn",)}
CODEBOOKS = ("cornia", "hosa")  # of these: they learn a codebook first, and their regressor is linear
SMALLEST = 16  # pixels a side of an image that they take: at half size BRISQUE's window still fits into it
CLASS_MEAN = "class-mean"
NAMES = (*HANDMADE, CLASS_MEAN)

# What `ssl-iqa pretrain` pretrains, each a module of its name, and how.
PRETRAINED = {
    "rankiqa": "by ranking the levels of a distortion",
    "meon": "by naming distortions",
    "contrique-syn": "by Eq. 5 on patches, at two sizes and in five color spaces",
    "deepfl-iqa": "by predicting full-reference scores",
}

# Those with a finetuning of their own, and the module whose FINETUNINGS has it.
FINETUNED = {"meon": "meon", "koncept224": "koncept", "koncept512": "koncept"}
FROM_IMAGENET = ("koncept224", "koncept512")  # of these: their name alone means ImageNet's weights


def check(name: str, labeled: LabeledSet) -> None:
    """Raises ValueError where a set or the machine lacks what a baseline of NAMES needs, before any work is done."""
    if name == CLASS_MEAN and not (labeled.distortions and labeled.levels):
        raise ValueError(f"{labeled.name}: distortions and levels must be known, class means need both")
    require(name, *HANDMADE.get(name, ()))


def require(name: str, *libraries: str) -> None:
    """Raises ValueError where a library that the method of this name needs is missing."""
    missing = [library for library in libraries if importlib.util.find_spec(library) is None]
    if missing:
        raise ValueError(f"{name}: needs the library {missing[0]}: pip install 'ssl_iqa[baselines]'")


def usable(features: Callable[[Tensor], Tensor], count: int, image: Tensor | None, smallest: int = SMALLEST) -> Tensor:
    """A method's features [count] of bytes [3, H, W]; NaN for None, which could not be read, and for too few pixels."""
    if image is None or min(image.shape[1:]) < smallest:
        return torch.full((count,), torch.nan)
    return features(image / 255)


def finetuning_of(name: str) -> Finetuning:
    """The finetuning of a method of FINETUNED."""
    return module_of(FINETUNED[name]).FINETUNINGS[name]


def module_of(name: str) -> ModuleType:
    """The module of a method of Table 3. Of HANDMADE its `usable_features` is a `regressor.Method`; of CODEBOOKS that
    takes what the module's `learn` returns first.
    """
    return importlib.import_module(f"ssl_iqa.baselines.{name.replace('-', '_')}")
