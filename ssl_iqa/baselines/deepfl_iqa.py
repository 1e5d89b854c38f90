"""DeepFL-IQA, of Table 3: an encoder learns to predict full-reference scores before it sees opinions.

Lin, Hosu, Saupe, "DeepFL-IQA: Weak Supervision for Deep IQA Feature Learning", arXiv:2001.08113, 2020. As theirs: a
head for each full-reference metric, of 512 and 256 units with dropout 1/4 and 1/2, on the features' last stage; MSE;
Adam, learning rate 1e-4, 10 epochs of batches of 64; then the global means of all stages of the frozen network.

Otherwise here: eight of their eleven metrics, those of piq, without SFF, SCQI and ADD-GSIM; they are computed anew for
each random crop, theirs once for a whole image. How their targets were scaled is not in their code (LinHanhe/DeepFL-IQA
has the second step alone): here each is histogram-equalized, 0 the worst and 1 the best, by deciles that were measured
once (`DECILES`). ResNet-50 takes the place of InceptionResNetV2, its four stages (3840 numbers) that of 43 blocks
(16928); the demo's encoder has one stage. `finetune.py --mode lp --encoders deepfl-iqa=RUN` trains this project's
regressor on them at its own rate, and tests five crops; theirs has 2048, 1024 and 256 units with batch normalization
and dropout, Adam at 1e-3, and sees whole images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_iqa import baselines
from ssl_iqa.archs import ARCHS
from ssl_iqa.baselines import pretrain
from ssl_iqa.data.joint_run import Method
from ssl_iqa.engine.settings import setting
from ssl_iqa.model import Encoder

SMALLEST = 161  # pixels a side that MS-SSIM and IW-SSIM take

# The least score, nine deciles and the largest of each metric, the higher the better (MDSI and GMSD with the sign
# changed), of 1,000 crops of 224 x 224 of the package's photographs, eight of each distortion class.
DECILES = {
    "SSIM": (0.112, 0.445, 0.586, 0.694, 0.793, 0.86, 0.906, 0.939, 0.966, 0.987, 1.0),
    "MS-SSIM": (0.32, 0.725, 0.832, 0.887, 0.92, 0.948, 0.966, 0.979, 0.989, 0.996, 1.0),
    "IW-SSIM": (0.217, 0.767, 0.853, 0.901, 0.929, 0.952, 0.969, 0.981, 0.991, 0.997, 1.0),
    "MDSI": (-0.628, -0.433, -0.395, -0.366, -0.344, -0.318, -0.291, -0.256, -0.206, -0.15, 0.0),
    "VSI": (0.659, 0.909, 0.935, 0.954, 0.967, 0.976, 0.984, 0.99, 0.996, 0.999, 1.0),
    "FSIMc": (0.378, 0.745, 0.833, 0.88, 0.914, 0.936, 0.954, 0.971, 0.985, 0.995, 1.0),
    "GMSD": (-0.314, -0.155, -0.119, -0.089, -0.07, -0.051, -0.034, -0.021, -0.01, -0.004, 0.0),
    "SR-SIM": (0.489, 0.856, 0.901, 0.933, 0.952, 0.966, 0.977, 0.985, 0.992, 0.998, 1.0),
}
STEPS = np.linspace(0, 1, 11)


@dataclass(frozen=True)
class Settings(pretrain.Settings):
    method: str = setting("deepfl-iqa", "", "")
    crop: int = setting(224, "data", "side of the views, pixels", low=SMALLEST, demo=168)
    long_side: int = setting(0, "data", "pixels that images are reduced to when read; 0: as they are", low=0, demo=256)
    epoch_size: int = setting(0, "data", "pristine images an epoch; 0: each once", low=0, demo=512)
    validation_size: int = setting(0, "data", "pristine images to validate with; 0: each once", low=0, demo=64)
    arch: str = setting("resnet50-stages", "model", "the encoder", choices=tuple(ARCHS), demo="dct-mlp")
    batch_size: int = setting(64, "optimization", "distorted images a step", low=2, demo=16)
    epochs: int = setting(10, "optimization", "at most", low=1, demo=4)
    views = 2


class Predictor(nn.Module):
    """The encoder with a head for each metric, which sees the last of its stages.

    Views [2B, 3, s, s] in [0, 1], those of B distorted images and then the pristine ones at their places, to [B, 2, 8]:
    predictions and targets.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.last = getattr(encoder.network, "inplanes", encoder.dim)  # of a ResNet the channels of its last stage
        self.heads = nn.ModuleList(self.head() for _ in DECILES)

    def head(self) -> nn.Sequential:
        hidden = nn.Linear(self.last, 512), nn.ReLU(), nn.Dropout(0.25), nn.Linear(512, 256), nn.ReLU(), nn.Dropout(0.5)
        return nn.Sequential(*hidden, nn.Linear(256, 1))

    def forward(self, views: Tensor) -> Tensor:
        x_d, x = views.chunk(2)
        z = self.encoder(x_d)[:, -self.last :]
        predicted = torch.cat([head(z) for head in self.heads], dim=1).float()
        targets = equalized(full_reference(x_d, x))
        return torch.stack((predicted, targets.to(predicted)), dim=1)


def full_reference(x_d: Tensor, x: Tensor) -> Tensor:
    """Scores of images x_d by their pristine ones x, both [B, 3, s, s] in [0, 1], in the order of DECILES: [B, 8].

    The higher the better. IW-SSIM is NaN where the pristine image is flat.
    """
    import piq

    if x.device.type == "mps":  # it has no eigenvalues, which IW-SSIM takes
        x_d, x = x_d.cpu(), x.cpu()
    with torch.autocast(x.device.type, enabled=False):
        scores = (
            piq.ssim(x_d, x, reduction="none"),
            piq.multi_scale_ssim(x_d, x, reduction="none"),
            iw_ssim(x_d, x),
            -piq.mdsi(x_d, x, reduction="none"),
            piq.vsi(x_d, x, reduction="none"),
            piq.fsim(x_d, x, reduction="none"),  # FSIMc, with color
            -piq.gmsd(x_d, x, reduction="none"),
            # one by one: it scales saliency by the extremes of a batch
            torch.cat([piq.srsim(*pair, reduction="none") for pair in zip(x_d.split(1), x.split(1), strict=True)]),
        )
    return torch.stack(scores, dim=1)


def iw_ssim(x_d: Tensor, x: Tensor) -> Tensor:
    """piq's IW-SSIM [B], which inverts a covariance of the pristine image; NaN where that has no inverse."""
    import piq

    try:
        return piq.information_weighted_ssim(x_d, x, reduction="none")
    except torch.linalg.LinAlgError:
        if len(x) == 1:
            return x.new_full((1,), torch.nan)
        return torch.cat([iw_ssim(*pair) for pair in zip(x_d.split(1), x.split(1), strict=True)])


def equalized(scores: Tensor) -> Tensor:
    """Scores as `full_reference` gives them to targets, by DECILES, from 0, the worst, to 1: [B, 8]. NaN stays NaN."""
    columns = zip(scores.T.cpu().numpy(), DECILES.values(), strict=True)
    targets = np.stack([np.interp(column, deciles, STEPS) for column, deciles in columns], axis=1)
    return torch.from_numpy(targets).to(scores)


def measure(outputs: Tensor, _: Tensor, __: Sequence[Sequence]) -> tuple[Tensor, Tensor]:
    """The MSE of predictions, over images and metrics whose target is not NaN, of `Predictor`'s outputs [B, 2, 8]; of
    neighbors in the batch the share whose order is predicted, the first image being the last one's neighbor.
    """
    predicted, targets = outputs.unbind(dim=1)
    known = ~targets.isnan()
    is_better = outputs > outputs.roll(1, dims=0)
    right = (is_better[:, 0] == is_better[:, 1])[known & known.roll(1, dims=0)]
    return F.mse_loss(predicted[known], targets[known]), right.float().mean()


def make_networks(encoder: Encoder, *_: object) -> Predictor:
    baselines.require("deepfl-iqa", "piq")
    return Predictor(encoder)


def make_optimizer(nets: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    return torch.optim.Adam(nets.parameters(), settings.lr, weight_decay=settings.weight_decay)


METHOD = Method(make_optimizer, make_networks, with_pristine=True)
