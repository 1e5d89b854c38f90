"""CONTRIQUE-syn, of Table 3: Eq. 5 on the patches of images at two sizes and in five color spaces.

Madhusudana, Birkbeck, Wang, Adsumilli, Bovik, "Image Quality Assessment Using Contrastive Learning", IEEE Transactions
on Image Processing, 2022; "syn" is without its authentic images. As in the authors' code (pavancm/CONTRIQUE): ResNet-50
from random weights; a class of pristine images besides those of types and levels, a sixth of all images as in
KADIS-700k; two crops of 256 x 256 of an image, one of it at half size, each in gray, Lab, HSV, less its local mean, or
RGB; the four 2 x 2 averages of the last map, of length 1, as views; projector 2048-BN-ReLU-128-BN; temperature 0.1;
SGD, learning rate 0.6, momentum 0.9, weight decay 1e-4, 25 epochs of batches of 1024.

Otherwise here: the crop at half size has 128 x 128 pixels, and no zeros around it; the learning rate falls linearly,
without warm-up unless `--warmup` gives one. An encoder without maps, the demo's, takes the quarters of a crop one by
one. Images are normalized by ImageNet's mean and deviation, theirs are not. Their evaluation is `finetune.py --mode
ridge --encoders contrique-syn=RUN`, ridge regression on features of both sizes (ssl_iqa/evaluation/ridge.py); LP, FT
and LP-FT take those of the full one. A published file of theirs is `--encoders contrique=FILE --arch resnet50`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import ResNet

from ssl_iqa.baselines import pretrain
from ssl_iqa.baselines.brisque import WINDOW
from ssl_iqa.data.joint_run import Method
from ssl_iqa.distortions import DistortionClass
from ssl_iqa.distortions.colorspace import rgb_to_gray, rgb_to_lab
from ssl_iqa.engine import distributed
from ssl_iqa.engine.settings import setting
from ssl_iqa.losses import supervised_nt_xent
from ssl_iqa.model import Encoder

TEMPERATURE = 0.1


@dataclass(frozen=True)
class Settings(pretrain.Settings):
    method: str = setting("contrique-syn", "", "")
    crop: int = setting(256, "data", "side of both views, pixels, before one is halved", low=64, demo=96)
    init: str = setting("random", "model", "weights to start from: `imagenet`, `random` or a file")
    batch_size: int = setting(1024, "optimization", "images a step, of two views each", low=2, demo=64)
    epochs: int = setting(25, "optimization", "at most", low=1, demo=8)
    lr: float = setting(0.6, "optimization", "learning rate", above=0, demo=0.1)
    weight_decay: float = setting(1e-4, "optimization", "of all parameters", low=0)
    schedule: str = setting("linear", "optimization", "of lr", choices=("plateau", "linear"))
    views = 2


def with_pristine(distortions: Sequence[DistortionClass]) -> tuple[DistortionClass, ...]:
    """The classes and, last, that of pristine images, a fifth as often as all others together: a shift by 0."""
    weight = sum(distortion.weight for distortion in distortions) / 5
    return (*distortions, DistortionClass("mean_shift", 0, 0.0, weight))


def gray(x: Tensor) -> Tensor:
    return rgb_to_gray(x).expand_as(x)


def lab(x: Tensor) -> Tensor:
    """L, a and b from 0 to 1, as 8 bits hold them."""
    return (rgb_to_lab(x) * x.new_tensor((2.55, 1, 1)).view(3, 1, 1) + x.new_tensor((0, 128, 128)).view(3, 1, 1)) / 255


def hsv(x: Tensor) -> Tensor:
    """Hue, saturation and value from 0 to 1."""
    value, largest = x.max(dim=1)
    spread = value - x.amin(dim=1)
    r, g, b = (x / spread.clamp_min(1e-12)[:, None]).unbind(1)
    sixths = torch.stack(((g - b) % 6, b - r + 2, r - g + 4), dim=1).gather(1, largest[:, None])[:, 0]
    return torch.stack((sixths / 6, spread / value.clamp_min(1e-12), value), dim=1)


def less_local_mean(x: Tensor) -> Tensor:
    """Each channel less its mean by BRISQUE's window, then stretched from 0 to 1."""
    window = WINDOW.to(x).expand(3, 1, 1, 7)
    padded = F.pad(x, (3, 3, 3, 3), mode="reflect")
    mean = F.conv2d(F.conv2d(padded, window, groups=3), window.transpose(2, 3), groups=3)
    low, high = (x - mean).flatten(2).aminmax(dim=2, keepdim=True)
    return (x - mean - low[..., None]) / (high - low + 1e-3)[..., None]


COLOR_SPACES = (gray, lab, hsv, less_local_mean, torch.clone)  # the last is RGB


class Projections(nn.Module):
    """Views [2B, 3, s, s] in [0, 1], the first ones of B images and then the second ones, to p [8B, 128].

    The four patches of a view are 2B apart.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder, d = encoder, encoder.dim
        layers = (nn.Linear(d, d, bias=False), nn.BatchNorm1d(d), nn.ReLU())
        self.projector = nn.Sequential(*layers, nn.Linear(d, 128, bias=False), nn.BatchNorm1d(128))

    def forward(self, x_d: Tensor) -> Tensor:
        first, second = x_d.chunk(2)
        z = [self.patches(in_any_color_space(x)) for x in (first, F.avg_pool2d(second, 2))]  # [4, B, d] each
        return self.projector(F.normalize(torch.cat(z, dim=1).flatten(0, 1), dim=1))

    def patches(self, x: Tensor) -> Tensor:
        """Features of the quarters of images [B, 3, s, s]: [4, B, d]."""
        f = self.encoder
        if type(f.network) is not ResNet:
            quarters = [half for rows in x.chunk(2, dim=2) for half in rows.chunk(2, dim=3)]
            return f(torch.cat(quarters)).unflatten(0, (4, len(x)))
        maps = nn.Sequential(*list(f.network.children())[:-2])((x - f.mean) / f.std)  # up to the last, [B, d, h, w]
        return F.adaptive_avg_pool2d(maps, 2).flatten(2).permute(2, 0, 1)


def in_any_color_space(x: Tensor) -> Tensor:
    """Each image [B, 3, s, s] in one of COLOR_SPACES at random."""
    spaces, converted = torch.randint(len(COLOR_SPACES), (len(x),)), torch.empty_like(x)
    for number, convert in enumerate(COLOR_SPACES):
        places = (spaces == number).nonzero()[:, 0].to(x.device)
        if len(places):
            converted[places] = convert(x[places])
    return converted


def measure(p: Tensor, classes: Tensor, _: Sequence[Sequence]) -> tuple[Tensor, Tensor]:
    """Eq. 5 of the views' patches p [8B, 128], classes [2B]; the share of first patches whose nearest patch of another
    image is of their class.
    """
    images = len(classes) // 2
    unit, classes = F.normalize(p.detach(), dim=1), classes.repeat(len(p) // len(classes))
    near = (unit[:images] @ unit.T).view(images, -1, images)  # [B, 8, B]
    near.diagonal(dim1=0, dim2=2).fill_(-2)
    accuracy = (classes[near.flatten(1).argmax(dim=1)] == classes[:images]).float().mean()
    p, classes, anchors = distributed.gather(p, classes)
    return distributed.size() * supervised_nt_xent(p, classes, TEMPERATURE, anchors=anchors), accuracy


def make_optimizer(nets: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    return torch.optim.SGD(nets.parameters(), settings.lr, momentum=0.9, weight_decay=settings.weight_decay)


METHOD = Method(make_optimizer, lambda encoder, *_: Projections(encoder), choose=with_pristine)
