"""The three networks of Section 3: encoder f (Eqs. 1-2), projector g (Eqs. 3-4) and regressor h (Eq. 6)."""

from typing import Any

import torch
from torch import Tensor, nn

from ssl_iqa.archs import ARCHS, TIMM_ARCH
from ssl_iqa.dct_mlp import DctMlp

# Channel mean and standard deviation of ImageNet's RGB in [0, 1], with which torchvision's weights were trained.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Encoder(nn.Module):
    """f_theta1, Eqs. 1-2: a torchvision ResNet up to its average pooling, with the ImageNet normalization inside.

    Attributes: `arch`, one of `ARCHS` (the paper's is resnet50; the demo's dct-mlp normalizes by itself), `dim`, d: the
    length of z (resnet50 2048, resnet18 and resnet34 512, dct-mlp 256), and `seen`, the records of its training images
    (`ssl_iqa/data/seen.py`), None where they are not known.
    Raises ValueError for an unknown arch, for one whose library is not installed, and in `forward` for images that are
    not floating point [B, 3, H, W].
    """

    def __init__(self, arch: str) -> None:
        if arch not in ARCHS:
            raise ValueError(f"arch must be one of {', '.join(ARCHS)}, got {arch!r}")
        super().__init__()
        self.arch = arch
        self.seen: list[dict[str, Any]] | None = []
        self.network = ARCHS[arch]()
        self.dim: int = self.network.fc.in_features
        self.network.fc = nn.Identity()
        mean, std = ((0.5,) * 3,) * 2 if arch == TIMM_ARCH else (IMAGENET_MEAN, IMAGENET_STD)
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """RGB images in [0, 1], [B, 3, H, W], to z, [B, dim]."""
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise ValueError(f"images must be floating point [B, 3, H, W], got {images.dtype} {list(images.shape)}")
        if not isinstance(self.network, DctMlp):
            images = (images - self.mean) / self.std
        return self.network(images)


class ProjectionHead(nn.Sequential):
    """g_theta2, Eqs. 3-4: z, [B, dim], to p, [B, out_dim], by two layers; for ResNet-50 2048-2048-ReLU-128."""

    def __init__(self, dim: int, out_dim: int = 128) -> None:
        super().__init__(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, out_dim))


class Regressor(nn.Sequential):
    """h_phi, Eq. 6: z, [B, dim], to the predicted MOS y_hat, [B], by two layers; for ResNet-50 2048-512-ReLU-1.

    `mean_score`, the labels' mean, is the output bias at the start, so that training need not first find their level
    (5.5 is the middle of Section 4.1's [1, 10]). The 512 hidden units are Section 3.2's.
    """

    def __init__(self, dim: int, mean_score: float = 5.5, hidden_dim: int = 512) -> None:
        super().__init__(nn.Linear(dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, 1))
        nn.init.constant_(self[-1].bias, mean_score)

    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z).squeeze(1)  # [B, 1] -> [B]


class Networks(nn.Module):
    """The networks that Eq. 8 trains: encoder f, projection head g and regressor h."""

    def __init__(self, encoder: Encoder, mean_score: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = ProjectionHead(encoder.dim)
        self.regressor = Regressor(encoder.dim, mean_score)

    def forward(self, x_d: Tensor, x: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Views x_d [N_U, 3, s, s] of distorted images and labeled images x [N_L, 3, s, s], one batch after the other.

        Returns p [N_U, 128] and y_hat [N_L]. CL has no labels: x is None, and so is y_hat.
        """
        return self.project(x_d), None if x is None else self.predict(x)

    def project(self, x_d: Tensor) -> Tensor:
        """p [N_U, 128] of views x_d [N_U, 3, s, s]."""
        z = self.encoder(x_d)  # [N_U, d], Eqs. 1 and 2
        return self.projector(z)  # [N_U, 128], Eqs. 3 and 4

    def predict(self, x: Tensor) -> Tensor:
        """y_hat [N_L] of images x [N_L, 3, s, s]."""
        return self.regressor(self.encoder(x))  # Eq. 6
