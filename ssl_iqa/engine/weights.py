"""The encoder's file: ours, ImageNet's, and those that other projects write."""

import re
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights, list_models

from ssl_iqa.model import ARCHS, Encoder

ENCODER_FORMAT = "ssl_iqa.encoder"
ENCODER_VERSION = 1

# Where other projects' files keep the weights, what they write before a weight's name, and their heads, which f is
# without. PREFIX is stripped as often as it matches: torch's DistributedDataParallel and compile add one each.
NESTS = ("encoder", "state_dict", "model", "net", "backbone")
PREFIX = re.compile(r"((module|_orig_mod|model|net|encoder|backbone)\.)*")
HEADS = re.compile(r"(fc|head|classifier|projector|projection_head|predictor|prototypes|linear|regressor)\.")
RESNET = re.compile(r"(conv1|bn1|layer[1-4])\.")
CHILDREN = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc")  # a ResNet's


def load_encoder(spec: str | Path, arch: str | None = None, seed: int = 0) -> Encoder:
    """The initial encoder (Section 4.3 compares several), on the CPU and in training mode.

    Args:
        spec: "imagenet", torchvision's IMAGENET1K_V1 weights of `arch`, downloaded to torch's hub folder (`TORCH_HOME`)
            if they are not there; "random"; or a file with an `encoder_state`, with a checkpoint that holds one under
            "encoder", or with a torchvision state_dict of `arch`, as others write it too: see `torchvision_weights`.
        arch: one of `ARCHS`. None takes that of the file, which a plain state_dict does not name.
        seed: of "random" only: the same seed gives the same weights, and no global random state changes.

    Raises:
        FileNotFoundError: if `spec` is no file.
        ValueError: for a file that is damaged, of something else or of another arch; for an arch that is unknown or
            needed and None; if ImageNet weights cannot be fetched.
    """
    if spec in ("imagenet", "random") and arch is None:
        raise ValueError(f"arch must be given with {spec!r}: one of {', '.join(ARCHS)}")
    if spec == "random":
        # Not torch.manual_seed, which would reseed the accelerators as well.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return Encoder(arch)

    path = _imagenet_file(arch) if spec == "imagenet" else Path(spec)
    content = _read(path)
    for _ in NESTS:  # one in another, at most so deep
        if isinstance(content, Mapping) and content.get("format") != ENCODER_FORMAT:
            content = next((content[name] for name in NESTS if isinstance(content.get(name), Mapping)), content)
    if isinstance(content, Mapping) and any(isinstance(value, Tensor) for value in content.values()):
        weights = torchvision_weights(content, source=str(path))
        if arch is None:
            raise ValueError(f"{path}: a plain torchvision state_dict does not name its arch, give it")
        encoder = Encoder(arch)
        copy_weights(encoder.network, weights, source=f"{path} as {arch}")
        return encoder
    encoder = encoder_from_state(content, source=str(path))
    if arch not in (None, encoder.arch):
        raise ValueError(f"{path}: holds a {encoder.arch} encoder, wanted {arch}")
    return encoder


def encoder_state(encoder: Encoder) -> dict[str, Any]:
    """What builds the encoder again, for `torch.save` and back by `weights_only=True`; the tensors are not copies."""
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

    def in_a_line(value: Any) -> str:  # tensors are shown in several
        return " ".join(repr(value).split())

    version, arch, weights = (state.get(name) for name in ("version", "arch", "weights"))
    if not isinstance(version, int) or version != ENCODER_VERSION:
        raise ValueError(f"{source}: encoder version {in_a_line(version)}, this code reads {ENCODER_VERSION}")
    if not isinstance(arch, str) or arch not in ARCHS:
        raise ValueError(f"{source}: arch {in_a_line(arch)}, wanted one of {', '.join(ARCHS)}")
    if not isinstance(weights, Mapping):
        raise ValueError(f"{source}: weights must be a state_dict, got {type(weights).__name__}")
    encoder = Encoder(arch)
    copy_weights(encoder, weights, source=f"{source} as {arch}")
    seen = state.get("seen")  # a file of an earlier version has none
    if seen is not None and not (isinstance(seen, list) and all(map(_is_record, seen))):
        raise ValueError(
            f"{source}: seen must be a list of records of ssl_iqa/data/seen.py, got {in_a_line(seen)[:80]}"
        )
    encoder.seen = seen
    return encoder


def _is_record(record: Any) -> bool:
    if not isinstance(record, Mapping) or not isinstance(record.get("data"), str):
        return False
    parts = (record.get(name) for name in ("references", "images"))
    return all(isinstance(part, Mapping) and all(isinstance(v, list) for v in part.values()) for part in parts)


def torchvision_weights(state: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The weights of a ResNet by torchvision's names, of a state_dict that others have written.

    Wrappers' prefixes (PREFIX) are stripped and heads (HEADS) left out. Numbers in place of names are those of an
    nn.Sequential of a ResNet's children, as in CONTRIQUE's files: encoder.4.0.conv1.weight is layer1.0.conv1.weight.

    Raises ValueError, its message starting with `source`, for a name that is none of these, and for two that are one.
    """
    weights, unknown = {}, []
    for name, tensor in state.items():
        plain = PREFIX.sub("", str(name), count=1)
        number, dot, rest = plain.partition(".")
        if number.isdecimal() and int(number) < len(CHILDREN):
            plain = CHILDREN[int(number)] + dot + rest
        if HEADS.match(plain):
            continue
        if not RESNET.match(plain):
            unknown.append(name)
        elif plain in weights:
            raise ValueError(f"{source}: must hold one encoder, got {name!r} as one more {plain!r}")
        weights[plain] = tensor
    if unknown or not weights:
        shown = ", ".join(map(repr, (unknown or [*state])[:3]))
        raise ValueError(
            f"{source}: not an encoder of ssl_iqa, nor a torchvision ResNet's state_dict: it holds {shown} and"
            f" {len(state)} names in all; wanted are conv1.weight, bn1.weight, layer1.0.conv1.weight and so on"
        )
    return weights


def copy_weights(module: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """`load_state_dict`, refusing in one line what does not fit: a ValueError that starts with `source`.

    BatchNorm's count of batches may be missing: nothing reads it, and old torchvision files have none.
    """
    wanted = {name: list(tensor.shape) for name, tensor in module.state_dict().items()}
    given = {name: list(getattr(tensor, "shape", ["no tensor"])) for name, tensor in weights.items()}
    wrong = [
        name
        for name in wanted | given
        if wanted.get(name) != given.get(name) and not (name not in given and name.endswith("num_batches_tracked"))
    ]
    if wrong:
        first = wrong[0]
        raise ValueError(
            f"{source}: {len(wrong)} weights do not fit, the first {first!r} is "
            f"{given.get(first, 'missing')}, wanted {wanted.get(first, 'none of that name')}"
        )
    try:
        module.load_state_dict(weights, strict=False)  # checked above
    except RuntimeError as error:
        raise ValueError(f"{source}: the weights cannot be copied, since they are no plain tensors") from error


def _read(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file (an encoder is 'imagenet', 'random' or a file)")
    with open(path, "rb") as file:
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # on damaged files torch raises almost anything, an OSError without the name too
            raise ValueError(
                f"{path}: damaged, or not a file of tensors and plain values ({type(error).__name__})"
            ) from error


def _imagenet_file(arch: str) -> Path:
    """Where torch's hub keeps torchvision's IMAGENET1K_V1 weights of `arch`, downloaded if need be."""
    if arch not in ARCHS or arch not in list_models():
        raise ValueError(f"there are no ImageNet weights for arch {arch!r}; 'random' or a file can be used instead")
    url = get_model_weights(arch)["IMAGENET1K_V1"].url
    path = Path(torch.hub.get_dir(), "checkpoints", Path(url).name)
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # The name ends in the first digits of the file's SHA-256: resnet50-0676ba61.pth.
            torch.hub.download_url_to_file(url, str(path), hash_prefix=path.stem.rpartition("-")[2])
        except (OSError, HTTPException, RuntimeError) as error:  # no connection or disk; a bad answer; another hash
            raise ValueError(
                f"the ImageNet weights of {arch} could not be fetched ({error}): use 'random' or a file instead, "
                f"or put {url} at {path}"
            ) from error
    return path
