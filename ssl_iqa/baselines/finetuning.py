"""What a method of Table 3 has of its own where it is finetuned in its own way, in place of LP and FT."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Generator, Tensor, nn

from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.model import Encoder


class Fit(NamedTuple):
    """One training of the network, by Adam at a constant learning rate."""

    name: str  # of its epochs in results.json: "3 at NAME"
    rate: float
    epochs: int
    loss: Callable[[Tensor, Tensor], Tensor]  # of outputs [N, 1 + ..] and targets [N, ..]
    goes_on: bool = False  # from the least validation loss of the fit before it; else from the start


class Finetuning(NamedTuple):
    """A method's own finetuning, for `evaluation.tuning.tune`.

    Its network has an `encoder`, whose `arch` and `seen` are as in `model.Encoder`, and a `score`, all the rest. It
    takes images [N, 3, h, w] in [0, 1] and returns [N, 1 + ..]: y_hat, then whatever else its losses take.
    """

    load: Callable[[str, str | None, int], Encoder]  # by file, arch and seed; raises as `weights.load_encoder`
    settings: Callable[[Any], Any]  # finetune.py's, as its cells have them; raises ValueError for those it cannot have
    make_network: Callable[[Encoder, float], nn.Module]  # of the mean training score
    targets: Callable[[LabeledSet, Encoder], Tensor]  # of the losses, [M, ..]
    fits: Callable[[int], Sequence[Fit]]  # by --epochs
    view: Callable[[Tensor, int, Generator], Tensor]  # of a training image [3, H, W], by --crop
    size: tuple[int, int] | None = None  # height and width that images are resized to first
