"""RankIQA, of Table 3: an encoder learns to rank the levels of a distortion before it sees scores.

Liu, van de Weijer, Bagdanov, "RankIQA: Learning from Rankings for No-reference Image Quality Assessment", ICCV 2017.
As in the authors' code (xialeiliu/RankIQA): VGG-16 from ImageNet's weights, one output; all five levels of a type and
an image in a batch, each with a crop of its own, which pass the network once; the hinge over all pairs of levels,
margin 10, divided by the images of the batch; SGD, momentum 0.9, weight decay 5e-4, learning rate 1e-4, batches of 45.

Otherwise here: the distortions are the unlabeled stream's, but for mean_shift and contrast_change, whose levels do not
grow in severity; a batch has 9 pristine images of a type each, theirs one image of 9 types; the learning rate falls
when the validation loss stagnates, theirs after each 10,000 of 50,000 steps; no dropout. `finetune.py --encoders
rankiqa=RUN` trains a fresh regressor on the encoder and tests five crops; theirs trains the one output on and tests 30.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_iqa.archs import ARCHS
from ssl_iqa.baselines import pretrain
from ssl_iqa.data.datasets import UnlabeledViews
from ssl_iqa.data.joint_run import Method
from ssl_iqa.data.samplers import Draw, UnlabeledBatches
from ssl_iqa.distortions import DISTORTIONS, DistortionClass
from ssl_iqa.engine import distributed
from ssl_iqa.engine.settings import setting
from ssl_iqa.model import Encoder

MARGIN = 10.0
UNORDERED = ("mean_shift", "contrast_change")


@dataclass(frozen=True)
class Settings(pretrain.Settings):
    method: str = setting("rankiqa", "", "")
    arch: str = setting("vgg16", "model", "the encoder", choices=tuple(ARCHS), demo="dct-mlp")
    epoch_size: int = setting(0, "data", "pristine images an epoch, five levels each; 0: each once", low=0, demo=1280)
    validation_size: int = setting(0, "data", "pristine images to validate with; 0: each once", low=0, demo=240)
    batch_size: int = setting(45, "optimization", "distorted images a step, all levels of each pristine one", low=2)
    epochs: int = setting(4, "optimization", "at most", low=1, demo=8)
    weight_decay: float = setting(5e-4, "optimization", "of all parameters", low=0)


class Ranker(nn.Module):
    """The encoder with one output, the higher the better: images [N, 3, s, s] to [N]."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder, self.output = encoder, nn.Linear(encoder.dim, 1)

    def forward(self, x_d: Tensor) -> Tensor:
        return self.output(self.encoder(x_d))[:, 0]


def ordered(distortions: Sequence[DistortionClass]) -> list[DistortionClass]:
    """The classes of the types whose levels grow in severity, level by level.

    Raises ValueError for levels in another order than the published ones of the type, for a type of a single level,
    and for types of different numbers of levels, of which no batches of equal size can be made.
    """
    levels: dict[str, list[DistortionClass]] = {}
    for distortion in distortions:
        if distortion.name not in UNORDERED:
            levels.setdefault(distortion.name, []).append(distortion)
    for name, classes in levels.items():
        values, (first, *_, last) = [distortion.value for distortion in classes], DISTORTIONS[name]
        if values != sorted(values, reverse=first > last):
            way = "fall" if first > last else "rise"
            raise ValueError(f"{name}: levels must {way}, from weak to strong, to be ranked, got {values}")
    counts = {len(classes): name for name, classes in levels.items()}
    if len(counts) != 1 or 1 in counts:
        got = " and ".join(f"{count} of {name}" for count, name in counts.items()) or "none"
        raise ValueError(f"--distortions must have two levels or more, of each type as many, to be ranked, got {got}")
    return [distortion for classes in levels.values() for distortion in classes]


def levels_of(distortions: Sequence[Sequence]) -> int:
    """The levels of a type, of classes as `ordered` gives them."""
    return sum(name == distortions[0][0] for name, *_ in distortions)


class AllLevels:
    """Batch sampler of all levels, from weak to strong, of the image and type of each draw of `batches`.

    `epoch` and `start` as in `UnlabeledBatches`.
    """

    def __init__(self, batches: UnlabeledBatches, levels: int) -> None:
        self.batches, self.levels = batches, levels
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Draw]]:
        self.batches.epoch, self.batches.start = self.epoch, self.start
        for draws in self.batches:
            groups = [(draw, draw.distortion_class - draw.distortion_class % self.levels) for draw in draws]
            # seeds two apart: a draw's crop has the seed that follows its own
            yield [
                Draw(draw.index, draw.seed + 2 * k, weakest + k) for draw, weakest in groups for k in range(self.levels)
            ]


def order(dataset: UnlabeledViews, epoch_size: int, batch_size: int, _: int, seed: int) -> AllLevels:
    """The sampler for `ordered` classes: `epoch_size` pristine images an epoch, `batch_size` distorted ones a step."""
    levels = levels_of(dataset.distortions)
    least = levels * distributed.size()
    if batch_size % least:
        raise ValueError(f"--batch-size must be a multiple of {least}, levels times processes, got {batch_size}")
    return AllLevels(dataset.order(epoch_size, batch_size // levels, 0, seed), levels)


def measure(scores: Tensor, _: Tensor, distortions: Sequence[Sequence]) -> tuple[Tensor, Tensor]:
    """Of a batch of `AllLevels`, scores [N]: the sum of hinges over N, and the share of pairs in the right order."""
    levels = levels_of(distortions)
    better, worse = torch.triu_indices(levels, levels, offset=1)
    by_level = scores.view(-1, levels)  # [groups, levels], from weak to strong
    apart = by_level[:, better] - by_level[:, worse]  # [groups, pairs]
    return F.relu(MARGIN - apart).sum() / len(scores), (apart > 0).float().mean()


def make_optimizer(nets: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    return torch.optim.SGD(nets.parameters(), settings.lr, momentum=0.9, weight_decay=settings.weight_decay)


METHOD = Method(make_optimizer, lambda encoder, *_: Ranker(encoder), order=order, choose=ordered)
