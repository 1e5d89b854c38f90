"""The three networks of Section 3: encoder f (Eqs. 1-2), projector g (Eqs. 3-4) and regressor h (Eq. 6)."""

import re
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import ResNet, get_model_weights, list_models, resnet18, resnet34, resnet50

# Channel mean and standard deviation of ImageNet's RGB in [0, 1], with which torchvision's weights were trained.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

ENCODER_FORMAT = "ssl_iqa.encoder"
ENCODER_VERSION = 1

# Where other projects' files keep the weights, what they write before a weight's name, and their heads, which f is
# without. PREFIX is stripped as often as it matches: torch's DistributedDataParallel and compile add one each.
NESTS = ("encoder", "state_dict", "model", "net", "backbone")
PREFIX = re.compile(r"((module|_orig_mod|model|net|encoder|backbone)\.)*")
HEADS = re.compile(r"(fc|head|classifier|projector|projection_head|predictor|prototypes|linear|regressor)\.")
RESNET = re.compile(r"(conv1|bn1|layer[1-4])\.")
CHILDREN = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc")  # a ResNet's


class Encoder(nn.Module):
    """f_theta1, Eqs. 1-2: a torchvision ResNet up to its average pooling, with the ImageNet normalization inside.

    Attributes: `arch`, one of `ARCHS` (the paper's is resnet50; dct-mlp is the demo's `DctMlp`, which normalizes by
    itself), `dim`, d: the length of z (resnet50 2048, resnet18 and resnet34 512, dct-mlp 256), and `seen`, the records
    of what it was trained on (`ssl_iqa/seen.py`), None where that is not known. Raises ValueError for an unknown arch,
    and in `forward` for images that are not floating point [B, 3, H, W].
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
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """RGB images in [0, 1], [B, 3, H, W], to z, [B, dim]."""
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise ValueError(f"images must be floating point [B, 3, H, W], got {images.dtype} {list(images.shape)}")
        if isinstance(self.network, ResNet):
            images = (images - self.mean) / self.std
        return self.network(images)


class ProjectionHead(nn.Sequential):
    """g_theta2, Eqs. 3-4: z, [B, dim], to p, [B, out_dim], by two layers; for ResNet-50 2048-2048-ReLU-128."""

    def __init__(self, dim: int, out_dim: int = 128) -> None:
        super().__init__(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, out_dim))


class Regressor(nn.Sequential):
    """h_phi, Eq. 6: z, [B, dim], to the predicted MOS y_hat, [B], by two layers; for ResNet-50 2048-512-ReLU-1.

    `mean_score` starts the output bias, so that training need not first find the level of the labels: give their mean
    (5.5 is the middle of Section 4.1's [1, 10]). The 512 hidden units are Section 3.2's.
    """

    def __init__(self, dim: int, mean_score: float = 5.5, hidden_dim: int = 512) -> None:
        super().__init__(nn.Linear(dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, 1))
        nn.init.constant_(self[-1].bias, mean_score)

    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z).squeeze(1)  # [B, 1] -> [B]


class Networks(nn.Module):
    """What Eq. 8 trains: encoder f, projection head g and regressor h."""

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


class DctMlp(nn.Module):
    """The demo's encoder, for two CPU cores and few photographs: classical statistics, and layers that learn from them.

    A distortion changes how much of each frequency a picture holds, by a factor that depends little on what it shows.
    So this looks where classical quality measures look, and at logarithms, in which a factor is a shift: the first
    layer's 8x8 filters are the DCT's patterns in Y, Cb and Cr, and z comes, by a layer and a residual block, from the
    mean strength of their answers. The filters are fixed, the layers learn.
    """

    def __init__(self, dim: int = 256) -> None:
        super().__init__()
        n = torch.arange(8)
        waves = torch.cos(torch.pi * (2 * n + 1) * n[:, None] / 16)  # [frequency, position]
        waves /= waves.norm(dim=1, keepdim=True)
        patterns = torch.einsum("ui,vj->uvij", waves, waves).flatten(0, 1)[1:]  # [63, 8, 8], without the constant one
        ycbcr = torch.tensor(((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312)))
        filters = torch.einsum("yc,nij->yncij", ycbcr, patterns).flatten(0, 1)  # [189, 3, 8, 8]
        self.register_buffer("ycbcr", ycbcr, persistent=False)
        self.register_buffer("filters", filters, persistent=False)

        statistics = 2 * 3 + 2 * 2 * len(filters)  # 762
        self.norm = nn.BatchNorm1d(statistics)
        self.layer1 = nn.Sequential(nn.Linear(statistics, dim, bias=False), nn.BatchNorm1d(dim), nn.ReLU())
        self.layer2 = nn.Sequential(
            nn.Linear(dim, dim, bias=False),
            nn.BatchNorm1d(dim),
            nn.ReLU(),
            nn.Linear(dim, dim, bias=False),
            nn.BatchNorm1d(dim),
        )
        self.fc = nn.Linear(dim, 1)  # as torchvision's networks have one; the encoder ends before
        for module in (*self.layer1, *self.layer2):
            if isinstance(module, nn.Linear):  # as torchvision starts a ResNet's convolutions
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @torch.no_grad()
    def statistics(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] in [0, 1], H and W at least 16, to [B, 762].

        Mean and standard deviation of Y, Cb, Cr; then, at full and at half size, of each filter's answers r over all
        blocks of 8x8 pixels log(mean |r|), which sees edges, and mean log |r|, which sees plain surfaces. What is
        added to |r| is a quarter and half a level of 8 bits: less than that cannot be told.
        """
        with torch.autocast(images.device.type, enabled=False):  # half precision cannot tell so little
            colors = torch.einsum("yc,bchw->byhw", self.ycbcr, images).flatten(2)  # [B, 3, HW]
            mean = colors.mean(dim=2)  # [B, 3]
            deviation = colors.sub_(mean[..., None]).square_().mean(dim=2).sqrt_()  # torch's std is five times as slow
            found = [mean, deviation]
            for size in (images, F.avg_pool2d(images, 2)):
                strength = F.conv2d(size, self.filters, stride=8).abs_()  # [B, 189, h, w]
                found.append((strength.mean(dim=(2, 3)) + 1 / 1024).log())
                found.append(strength.add_(1 / 512).log_().mean(dim=(2, 3)))
            return torch.cat(found, dim=1)

    def forward(self, images: Tensor) -> Tensor:
        h = self.layer1(self.norm(self.statistics(images)))
        return self.fc(F.relu(h + self.layer2(h)))


ARCHS: dict[str, Callable[[], nn.Module]] = {
    "dct-mlp": DctMlp,
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
}


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
        raise ValueError(f"{source}: seen must be a list of records of ssl_iqa/seen.py, got {in_a_line(seen)[:80]}")
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
