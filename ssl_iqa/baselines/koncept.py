"""KonCept224 and KonCept512, of Table 3: ImageNet's features of the whole, resized image, finetuned in three stages.

Hosu, Lin, Sziranyi, Saupe, "KonIQ-10k: An Ecologically Valid Database for Deep Learning of Blind Image Quality
Assessment", IEEE Transactions on Image Processing, 2020. As in the authors' code (subpic/koniq): InceptionResNetV2 up
to its global pooling; a head 2048-1024-256-1, each layer but the last followed by ReLU, batch normalization and dropout
of .25, .25, .5; images resized by Lanczos's filter to 224 x 224, or 512 x 384, whatever their aspect, and mirrored at
random; MSE; Adam at 1e-4, 2e-5 and 1e-5, each stage from the least validation loss of the one before it.

    python finetune.py --preset paper --encoders koncept224,koncept512 --arch inception_resnet_v2 --batch-size 64 ..

At `--epochs` 50 the stages have the authors' 40, 20 and 10 epochs, at others as many in proportion. `koncept224` alone
starts from ImageNet's weights of `--arch`, which is ResNet-50 as in the other rows unless it is given, since
InceptionResNetV2 needs timm; `koncept224=FILE` starts from an encoder.

Otherwise here: the epoch with the best validation SROCC is tested, as everywhere in this project, there that with the
least loss; a stage has no early end, there 20 epochs without a lower loss end it; batches are `--batch-size`, there 64;
images resized are not saved as JPEG again; scores are in [1, 10]; initial values and batch normalization's momentum are
PyTorch's, but for the output bias, the mean score.
"""

from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from ssl_iqa.baselines.finetuning import Finetuning, Fit
from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.engine.weights import load_encoder
from ssl_iqa.model import Encoder

SIZES = {"koncept224": (224, 224), "koncept512": (384, 512)}  # height and width
WIDTHS, DROPOUT = (2048, 1024, 256), (0.25, 0.25, 0.5)
STAGES = ((1e-4, 0.8), (2e-5, 0.4), (1e-5, 0.2))  # the learning rate, and the epochs for one of --epochs


class KonCept(nn.Module):
    """The encoder and the head: images [N, 3, h, w] in [0, 1] to y_hat [N, 1]."""

    def __init__(self, encoder: Encoder, mean_score: float) -> None:
        super().__init__()
        self.encoder = encoder
        layers: list[nn.Module] = []
        for (inputs, outputs), rate in zip(pairwise((encoder.dim, *WIDTHS)), DROPOUT, strict=True):
            layers += [nn.Linear(inputs, outputs), nn.ReLU(), nn.BatchNorm1d(outputs), nn.Dropout(rate)]
        self.score = nn.Sequential(*layers, nn.Linear(WIDTHS[-1], 1))
        nn.init.constant_(self.score[-1].bias, mean_score)  # so that training need not first find the level

    def forward(self, x: Tensor) -> Tensor:
        return self.score(self.encoder(x))


def mirrored(image: Tensor, _: int, generator: Generator) -> Tensor:
    """The whole image [3, h, w], flipped left-right with probability 1/2."""
    return image.flip(2) if torch.rand((), generator=generator) < 0.5 else image


def targets(labeled: LabeledSet, _: Encoder) -> Tensor:
    """The scores [M]."""
    return torch.tensor(labeled.scores, dtype=torch.float32)


def loss(outputs: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(outputs[:, 0], y)


def fits(epochs: int) -> list[Fit]:
    """The three stages."""
    lengths = [max(1, round(share * epochs)) for _, share in STAGES]
    return [
        Fit(f"{rate:g}", rate, length, loss, goes_on=stage > 0)
        for stage, ((rate, _), length) in enumerate(zip(STAGES, lengths, strict=True))
    ]


def settings_at(size: tuple[int, int], settings: Any) -> Any:
    """The whole image is tested, of whose sides the longer one stands as `crop`."""
    return replace(settings, crop=max(size), crops="full")


FINETUNINGS = {
    name: Finetuning(load_encoder, partial(settings_at, size), KonCept, targets, fits, mirrored, size)
    for name, size in SIZES.items()
}
