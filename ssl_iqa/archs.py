"""The networks that an encoder can be, by name: ResNets, the paper's and smaller ones, and those of others.

dct-mlp is the demo's. Of Table 3 vgg16 is RankIQA's, inception_resnet_v2 KonCept's, the -stages are DeepFL-IQA's; the
model in the package has -moments. The last layer of each is `fc`, as a ResNet's.
"""

from collections.abc import Callable
from functools import partial
from types import ModuleType

import torch
from torch import Tensor, nn
from torchvision.models import VGG, ResNet, resnet18, resnet34, resnet50, vgg16
from torchvision.models.resnet import BasicBlock, Bottleneck

from ssl_iqa.dct_mlp import DctMlp

TIMM_ARCH = "inception_resnet_v2"  # of the library timm, whose weights were trained with images in [-1, 1]


LEAST_VARIANCE = 1e-6  # of a map, whose standard deviation has no gradient at 0


class ResNetStages(ResNet):
    """A ResNet whose features are the means of the maps that each of its four stages leaves; the last stage's stand
    last. With `moments` the maps' standard deviations stand before them. Weights are named as a ResNet's.
    """

    def __init__(self, block: type[BasicBlock | Bottleneck], layers: list[int], moments: bool = False) -> None:
        super().__init__(block, layers)
        self.moments = moments
        self.fc = nn.Linear((1 + moments) * (64 + 128 + 256 + 512) * block.expansion, 1)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        means, deviations = [], []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            maps = stage(maps)
            means.append(maps.mean(dim=(2, 3)))  # [B, channels]
            if self.moments:
                variance = (maps.float() - means[-1].float()[:, :, None, None]).square().mean(dim=(2, 3))
                deviations.append((variance + LEAST_VARIANCE).sqrt().to(maps.dtype))
        return self.fc(torch.cat(deviations + means, dim=1))


def vgg16_with_fc() -> VGG:
    """torchvision's VGG-16; without dropout, which a resumed run would draw anew."""
    network = vgg16(dropout=0.0)
    network.fc = network.classifier.pop(-1)
    return network


def inception_library() -> ModuleType:
    """The library of InceptionResNetV2. Raises ValueError where it is not installed."""
    try:
        import timm
    except ImportError as error:
        raise ValueError(f"arch {TIMM_ARCH} needs the library timm: pip install 'ssl_iqa[koncept]'") from error
    return timm


def inception_resnet_v2() -> nn.Module:
    """timm's InceptionResNetV2."""
    network = inception_library().create_model(TIMM_ARCH)
    network.fc, network.classif = network.classif, nn.Identity()
    return network


ARCHS: dict[str, Callable[[], nn.Module]] = {
    "dct-mlp": DctMlp,
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "vgg16": vgg16_with_fc,
    "resnet18-stages": partial(ResNetStages, BasicBlock, [2, 2, 2, 2]),
    "resnet50-stages": partial(ResNetStages, Bottleneck, [3, 4, 6, 3]),
    "resnet18-moments": partial(ResNetStages, BasicBlock, [2, 2, 2, 2], moments=True),
    "resnet50-moments": partial(ResNetStages, Bottleneck, [3, 4, 6, 3], moments=True),
    TIMM_ARCH: inception_resnet_v2,
}


def network_of(arch: str) -> str:
    """The network whose weights an arch has: resnet50 of resnet50-stages and resnet50-moments."""
    return arch.removesuffix("-stages").removesuffix("-moments")
