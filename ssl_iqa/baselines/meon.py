"""MEON, of Table 3: a small network learns to name distortions, then to name and to score them at once.

Ma, Liu, Zhang, Duanmu, Wang, Zuo, "End-to-End Blind Image Quality Assessment Using Deep Neural Networks", IEEE
Transactions on Image Processing, 2018. As theirs: the network, for crops of 256 x 256 and with generalized divisive
normalization (GDN); cross-entropy of sub-network I on distorted images first, then, on scored ones, cross-entropy and
lambda |y_hat - y|, where y_hat is the sum over types of probability times score.

Otherwise here: the types named are those of the unlabeled stream, 25 in place of four. In the second step the
cross-entropy is over images whose type the set states and the first step has seen; authentic images have none. Theirs
not being at hand, this project's are GDN's initial values, Adam's rate of 1e-3 in the first step, and in the second the
rates and lambdas of which the validation part chooses (`RATES`, `LAMBDAS`). The crops of `finetune.py --crops` are
tested, of 256 x 256.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_iqa.baselines import pretrain
from ssl_iqa.baselines.finetuning import Finetuning, Fit
from ssl_iqa.data.joint_run import Method
from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.data.views import random_view
from ssl_iqa.engine import run_folder
from ssl_iqa.engine.settings import setting
from ssl_iqa.engine.weights import copy_weights

CROP = 256
RATES, LAMBDAS = (1e-3, 1e-4), (1.0, 0.1)
UNKNOWN = -1  # of an image: no type of sub-network I


@dataclass(frozen=True)
class Settings(pretrain.Settings):
    method: str = setting("meon", "", "")
    crop: int = setting(CROP, "data", "side of the views, pixels", low=171)
    arch: str = setting("meon", "model", "its own network", choices=("meon",))
    init: str = setting("random", "model", "weights to start from: `random` or encoder.pt of a run of this command")
    lr: float = setting(1e-3, "optimization", "learning rate of Adam", above=0)


class GDN(nn.Module):
    """y_i = x_i / sqrt(b_i + sum_j G_ij x_j^2) over the channels of x, [N, C] or [N, C, h, w].

    The parameters are the square roots of b and G, so that both stay positive; at first b is 1, and G 0.1 on the
    diagonal and 0.001 beside it.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.root_b = nn.Parameter(torch.ones(channels))
        self.root_g = nn.Parameter((0.099 * torch.eye(channels) + 0.001).sqrt())

    def forward(self, x: Tensor) -> Tensor:
        b = self.root_b.square().view(-1, *[1] * (x.ndim - 2)) + 1e-6
        return x * (b + torch.einsum("ij,nj...->ni...", self.root_g.square(), x.square())).rsqrt()


class Meon(nn.Module):
    """The shared layers and sub-network I: images [N, 3, 256, 256] in [0, 1] to h [N, 64] and the types' logits [N, C].

    `arch` and `seen` are as in `model.Encoder`.
    """

    arch = "meon"

    def __init__(self, types: Sequence[str]) -> None:
        super().__init__()
        self.types, self.seen = list(types), []
        stages = [(3, 8, 5, 2, 2), (8, 16, 5, 2, 2), (16, 32, 5, 2, 2), (32, 64, 3, 1, 0)]  # in, out, side, stride, pad
        layers = [[nn.Conv2d(*stage), GDN(stage[1]), nn.MaxPool2d(2)] for stage in stages]
        layers[-1][-1] = nn.AdaptiveMaxPool2d(1)  # of 2 x 2 pixels for a crop of 256
        self.features = nn.Sequential(*sum(layers, []), nn.Flatten())
        self.identify = nn.Sequential(nn.Linear(64, 128), GDN(128), nn.Linear(128, len(types)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.features(x)
        return h, self.identify(h)


class Identification(nn.Module):
    """The first step: images [N, 3, s, s] to the types' logits [N, C]."""

    def __init__(self, encoder: Meon) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x_d: Tensor) -> Tensor:
        return self.encoder(x_d)[1]


class Scoring(nn.Module):
    """The second step, with sub-network II: images [N, 3, s, s] to [N, 1 + C], y_hat and the types' logits."""

    def __init__(self, encoder: Meon, mean_score: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.score = nn.Sequential(nn.Linear(64, 256), GDN(256), nn.Linear(256, len(encoder.types)))
        nn.init.constant_(self.score[-1].bias, mean_score)  # so that training need not first find the level

    def forward(self, x: Tensor) -> Tensor:
        h, logits = self.encoder(x)
        y_hat = (logits.softmax(dim=1) * self.score(h)).sum(dim=1, keepdim=True)
        return torch.cat((y_hat, logits), dim=1)


def types_of(distortions: Sequence[Sequence]) -> list[str]:
    return list(dict.fromkeys(name for name, *_ in distortions))


def measure(logits: Tensor, classes: Tensor, distortions: Sequence[Sequence]) -> tuple[Tensor, Tensor]:
    """The cross-entropy of a batch's types, and the share of them that is named."""
    types = types_of(distortions)
    type_of = torch.tensor([types.index(name) for name, *_ in distortions], device=classes.device)
    targets = type_of[classes]
    return F.cross_entropy(logits, targets), (logits.argmax(dim=1) == targets).float().mean()


def joint_loss(outputs: Tensor, targets: Tensor, weight: float) -> Tensor:
    """Cross-entropy, over the images whose type is not UNKNOWN, and `weight`, lambda, times the mean of |y_hat - y|.

    Outputs [N, 1 + C] of `Scoring`, targets [N, 2]: y and the type.
    """
    y, types = targets[:, 0], targets[:, 1].long()
    known = types != UNKNOWN
    error = (outputs[:, 0] - y).abs().mean()
    return weight * error + (F.cross_entropy(outputs[known, 1:], types[known]) if known.any() else 0)


def targets_of(labeled: LabeledSet, encoder: Meon) -> Tensor:
    """[M, 2]: the score of each image, and the number of its type among the network's, UNKNOWN for none of them."""
    names = labeled.distortions or [""] * len(labeled.scores)
    types = [encoder.types.index(name) if name in encoder.types else UNKNOWN for name in names]
    return torch.tensor([*zip(labeled.scores, types, strict=True)], dtype=torch.float32)


def fits(epochs: int) -> list[Fit]:
    """The second step at each rate and lambda, from the start."""
    return [
        Fit(f"{rate:g}, lambda {weight:g}", rate, epochs, partial(joint_loss, weight=weight))
        for rate, weight in product(RATES, LAMBDAS)
    ]


def tested_settings(settings: Any) -> Any:
    """finetune.py's with this network's crop. Raises ValueError for whole images, which it does not take."""
    if settings.crops == "full":
        raise ValueError("--crops must be five or center for meon, got full")
    return replace(settings, crop=CROP)


def read(path: Path) -> Meon:
    """The network of encoder.pt, or last.pt, of a run. Raises FileNotFoundError, and ValueError for another file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    content: Any = run_folder.load(path)
    content = content.get("encoder", content) if isinstance(content, Mapping) else None
    if not isinstance(content, Mapping) or content.get("arch") != Meon.arch:
        raise ValueError(f"{path}: must be of a run of `ssl-iqa pretrain meon`")
    network = Meon(types_of(content["distortions"]))
    copy_weights(network, content["weights"], source=str(path))
    network.seen = content["seen"]
    return network


def load_encoder(spec: str | Path, settings: Settings, distortions: Sequence[Sequence]) -> Meon:
    """The network to start from. Raises as `read`, and ValueError for a file whose types are not those of the run."""
    if spec == "random":
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(settings.seed)
            return Meon(types_of(distortions))
    network = read(Path(spec))
    if network.types != types_of(distortions):
        raise ValueError(f"{spec}: the types must be those of --distortions, got {', '.join(network.types)}")
    return network


def make_optimizer(nets: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    return torch.optim.Adam(nets.parameters(), settings.lr, weight_decay=settings.weight_decay)


METHOD = Method(make_optimizer, lambda encoder, *_: Identification(encoder), load_encoder)
FINETUNINGS = {
    "meon": Finetuning(lambda file, *_: read(Path(file)), tested_settings, Scoring, targets_of, fits, view=random_view)
}
