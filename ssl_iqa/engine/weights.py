"""The encoder's file: ours, ImageNet's, and those that other projects write."""

import re
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights, list_models

from ssl_iqa.archs import ARCHS, TIMM_ARCH, inception_library, network_of
from ssl_iqa.engine import run_folder
from ssl_iqa.model import Encoder

ENCODER_FORMAT = "ssl_iqa.encoder"
ENCODER_VERSION = 1

# In other projects' files: the keys of the weights, the prefixes of a weight's name (DistributedDataParallel and
# torch.compile add one each), and the heads, which f does not have.
NESTS = ("encoder", "state_dict", "model", "net", "backbone")
PREFIX = re.compile(r"((module|_orig_mod|model|net|encoder|backbone)\.)*")
HEADS = re.compile(r"(fc|head|classif|classifier|projector|projection_head|predictor|prototypes|linear|regressor)\.")
RESNET = (
    re.compile(r"(conv1|bn1|layer[1-4])\."),
    "a ResNet's",
    "conv1.weight, bn1.weight, layer1.0.conv1.weight and so on",
)
KNOWN = {  # the weights of other archs, and what an error says of their names
    "vgg16": (  # its first two layers after the convolutions belong to f
        re.compile(r"(features\.\d+|classifier\.[03])\."),
        "a VGG-16's",
        "features.0.weight .. features.28.bias, classifier.0.weight and so on",
    ),
    TIMM_ARCH: (
        re.compile(r"(conv2d_\d[ab]|mixed_\d[ab]|repeat(_\d)?|block8)\."),
        f"timm's {TIMM_ARCH}'s",
        "conv2d_1a.conv.weight .. conv2d_7b.bn.bias",
    ),
}
CHILDREN = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc")  # a ResNet's


def load_encoder(spec: str | Path, arch: str | None = None, seed: int = 0) -> Encoder:
    """The initial encoder (Section 4.3 compares several), on the CPU and in training mode.

    Args:
        spec: "imagenet", torchvision's IMAGENET1K_V1 weights of `arch`, downloaded to torch's hub folder (`TORCH_HOME`)
            where they are missing, of inception_resnet_v2 timm's, to Hugging Face's (`HF_HOME`); "random"; or a file
            with an `encoder_state`, alone or under "encoder", or with a torchvision, or timm, state_dict of `arch`, as
            other projects write it too (`torchvision_weights`).
        arch: one of `ARCHS`. None takes the file's, which a plain state_dict does not name. A file of ours may have
            another one of the same network: of a resnet50's resnet50-stages takes other features.
        seed: of "random" only: the same seed gives the same weights, and no global random state changes.

    Raises:
        FileNotFoundError: if `spec` is no file.
        ValueError: for a file that is damaged, something else or of another arch; for an arch that is unknown or
            missing; if ImageNet weights cannot be fetched.
    """
    if spec in ("imagenet", "random") and arch is None:
        raise ValueError(f"arch must be one of {', '.join(ARCHS)} with {spec!r}, got None")
    if spec == "random":
        # Not torch.manual_seed, which would reseed the accelerators as well.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return Encoder(arch)

    path = Path(spec)
    if spec != "imagenet" and not path.is_file():
        raise FileNotFoundError(f"{path}: no such file (an encoder is 'imagenet', 'random' or a file)")
    content = _imagenet_weights(arch) if spec == "imagenet" else run_folder.load(path)
    for _ in NESTS:  # they may be nested
        if isinstance(content, Mapping) and content.get("format") != ENCODER_FORMAT:
            content = next((content[name] for name in NESTS if isinstance(content.get(name), Mapping)), content)
    if isinstance(content, Mapping) and any(isinstance(value, Tensor) for value in content.values()):
        weights = torchvision_weights(content, source=str(path), arch=arch)
        if arch is None:
            raise ValueError(f"{path}: arch is required, which a plain torchvision state_dict does not name")
        encoder = Encoder(arch)
        copy_weights(encoder.network, weights, source=f"{path} as {arch}")
        return encoder
    encoder = encoder_from_state(content, source=str(path))
    if arch in (None, encoder.arch):
        return encoder
    if network_of(arch) != network_of(encoder.arch):
        raise ValueError(f"{path}: arch must be {arch}, got {encoder.arch}")
    other = Encoder(arch)
    other.network.load_state_dict(encoder.network.state_dict())
    other.seen = encoder.seen
    return other


def encoder_state(encoder: Encoder) -> dict[str, Any]:
    """The encoder as `torch.load(weights_only=True)` reads it; the tensors are not copies."""
    return {
        "format": ENCODER_FORMAT,
        "version": ENCODER_VERSION,
        "arch": encoder.arch,
        "weights": encoder.state_dict(),
        "seen": encoder.seen,
    }


def encoder_from_state(state: Any, source: str) -> Encoder:
    """The encoder of an `encoder_state`.

    Raises ValueError, its message starting with `source` (the file's name), if `state` is something else, of another
    version, of an unknown arch, or has weights that do not fit it.
    """
    if not isinstance(state, Mapping) or state.get("format") != ENCODER_FORMAT:
        raise ValueError(f"{source}: not an encoder of ssl_iqa (no format {ENCODER_FORMAT!r})")
    version, arch = state.get("version"), state.get("arch")
    if version != ENCODER_VERSION:
        raise ValueError(f"{source}: the encoder's version must be {ENCODER_VERSION}, got {version!r}")
    if arch not in list(ARCHS):
        raise ValueError(f"{source}: arch must be one of {', '.join(ARCHS)}, got {arch!r}")
    encoder = Encoder(arch)
    copy_weights(encoder, state.get("weights"), source=f"{source} as {arch}")
    encoder.seen = state.get("seen")  # missing in a file of an earlier version
    return encoder


def torchvision_weights(state: Mapping[str, Any], source: str, arch: str | None = None) -> dict[str, Any]:
    """The weights of a ResNet, or of an `arch` of KNOWN, by its library's names, from a state_dict of any project.

    Prefixes (PREFIX) are stripped and heads (HEADS) left out. Numbers in place of names are those of an nn.Sequential
    of a ResNet's children, as in CONTRIQUE's files: encoder.4.0.conv1.weight is layer1.0.conv1.weight.

    Raises ValueError, its message starting with `source`, for other names, and for two names of one weight.
    """
    weights, unknown = {}, []
    known, whose, names = KNOWN.get(arch, RESNET)
    for name, tensor in state.items():
        plain = PREFIX.sub("", str(name), count=1)
        number, dot, rest = plain.partition(".")
        if arch not in KNOWN and number.isdecimal() and int(number) < len(CHILDREN):
            plain = CHILDREN[int(number)] + dot + rest
        if HEADS.match(plain) and not known.match(plain):
            continue
        if not known.match(plain):
            unknown.append(name)
        elif plain in weights:
            raise ValueError(f"{source}: {plain} must be given once, got {name!r} as well")
        weights[plain] = tensor
    if unknown or not weights:
        shown = ", ".join(map(repr, (unknown or [*state])[:3]))
        raise ValueError(f"{source}: not an encoder of ssl_iqa; {whose} names must be {names}, got {shown}")
    return weights


def copy_weights(module: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """`load_state_dict`; raises ValueError, its message starting with `source`, for weights that do not fit.

    BatchNorm's count of batches may be missing: nothing reads it, and torchvision's old files do not have it.
    """
    counts = {name: count for name, count in module.state_dict().items() if name.endswith("num_batches_tracked")}
    try:
        module.load_state_dict({**counts, **weights})
    except (RuntimeError, TypeError, AttributeError) as error:  # AttributeError: a name that is no string
        raise ValueError(f"{source}: the weights do not fit: {shorten(str(error), 200, placeholder=' ..')}") from error


def _imagenet_weights(arch: str) -> dict[str, Tensor]:
    name = network_of(arch)
    if arch not in ARCHS or name not in (*list_models(), TIMM_ARCH):
        raise ValueError(f"no ImageNet weights for arch {arch!r}: use 'random' or a file instead")
    timm, by_hand = inception_library() if arch == TIMM_ARCH else None, ""
    try:
        if timm:
            return timm.create_model(TIMM_ARCH, pretrained=True).state_dict()
        weights = get_model_weights(name)["IMAGENET1K_V1"]
        by_hand = f", or put {weights.url} into {Path(torch.hub.get_dir(), 'checkpoints')}"
        return weights.get_state_dict(map_location="cpu", check_hash=True, weights_only=True)
    except Exception as error:  # no connection or disk; a bad answer; another hash; a damaged file
        reason = shorten(str(error), 200, placeholder=" ..")
        raise ValueError(
            f"the ImageNet weights of {arch} could not be read ({reason}): use 'random' or a file instead{by_hand}"
        ) from error
