"""The file of a finetuned model: finetune.py's model.pt, or the same as .safetensors.

Both are plain data, tensors, numbers and words: no code of a file is ever run.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.models import list_models

from ssl_iqa.archs import network_of
from ssl_iqa.engine import run_folder
from ssl_iqa.engine.weights import ENCODER_FORMAT
from ssl_iqa.model import Encoder

FORMAT, VERSION = "ssl_iqa.model", 1
SAFETENSORS = ".safetensors"
SUFFIXES = (".pt", SAFETENSORS)
NOT_A_MODEL = f"must be the {run_folder.MODEL} of a finetune.py run, or a {SAFETENSORS} exported from one"


def read(path: Path) -> dict[str, Any]:
    """The content of a file: encoder (an `encoder_state`), regressor (a state_dict), score_range, settings, results,
    residuals, notes and naming, see `quality.QualityModel`; what an older version did not write is empty.

    Raises FileNotFoundError without the file, ValueError for one that is damaged, of a newer version or something else.
    Whether all is there and the weights fit is left to `quality.load`.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; it {NOT_A_MODEL}")
    content = from_safetensors(path.read_bytes(), path) if path.suffix == SAFETENSORS else run_folder.load(path)
    if not isinstance(content, Mapping) or content.get("format", FORMAT) != FORMAT:
        raise ValueError(f"{path}: {NOT_A_MODEL}")
    version = content.get("version", VERSION)  # the first files had none
    if version > VERSION:
        raise ValueError(f"{path}: made by a newer version of ssl_iqa (file version {version}): update ssl_iqa")
    return {"results": {}, "residuals": torch.empty(0), "notes": {}, "naming": None, **content}


def write(content: Mapping[str, Any], path: Path) -> None:
    """A file that `read` gives back. Raises NotWritten, and ValueError where safetensors is not installed."""
    if path.suffix == SAFETENSORS:
        file = to_safetensors(content)
        run_folder.write_atomic(path, lambda out: out.write(file))
    else:
        run_folder.save({**content, "format": FORMAT, "version": VERSION}, path)


def to_safetensors(content: Mapping[str, Any]) -> bytes:
    """A file's content as .safetensors: tensors `encoder.*`, `regressor.*`, `naming.*` and `residuals`; the rest in its
    metadata, each entry but `format` in JSON.
    """
    encoder, naming = content["encoder"], content["naming"] or {}
    parts = {
        "encoder": encoder["weights"],
        "regressor": content["regressor"],
        "naming": {name: value for name, value in naming.items() if isinstance(value, Tensor)},
    }
    tensors = {f"{part}.{name}": tensor for part, named in parts.items() for name, tensor in named.items()}
    tensors["residuals"] = content["residuals"]
    plain = {name: content[name] for name in ("score_range", "settings", "results", "notes")}
    plain["naming"] = {name: value for name, value in naming.items() if name not in parts["naming"]} or None
    plain |= {"version": VERSION, "encoder_version": encoder["version"]}
    plain |= {"arch": encoder["arch"], "seen": encoder.get("seen")}
    metadata = {"format": FORMAT, **{name: json.dumps(value) for name, value in plain.items()}}
    return _library().save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, metadata)


def write_backbone(encoder: Encoder, path: Path) -> None:
    """The encoder by torchvision's names, as .safetensors, for `resnet50().load_state_dict(.., strict=False)`: f ends
    before `fc`. Raises ValueError for an arch that is not torchvision's, and as `write` does.
    """
    if network_of(encoder.arch) not in list_models():
        raise ValueError(f"{path}: the encoder must be a ResNet, which torchvision has, got {encoder.arch}")
    tensors = {name: tensor.contiguous() for name, tensor in encoder.network.state_dict().items()}
    known = {
        "arch": network_of(encoder.arch),
        "images": "RGB in [0, 1], less ImageNet's mean, over its standard deviation",
    }
    file = _library().save(tensors, known)
    run_folder.write_atomic(path, lambda out: out.write(file))


def from_safetensors(file: bytes, source: str | Path) -> dict[str, Any]:
    """What `to_safetensors` was given. Raises ValueError, naming `source`, for a file that is damaged or another."""
    library = _library()
    try:
        tensors = library.load(file)
        header = json.loads(file[8 : 8 + int.from_bytes(file[:8], "little")])  # its length comes before it
        metadata = header.get("__metadata__") or {}
        entries = metadata.items() if metadata.get("format") == FORMAT else ()
        # older versions wrote a checksum, too
        plain = {name: json.loads(text) for name, text in entries if name not in ("format", "sha256")}
    except Exception as error:  # of damaged files safetensors and torch raise several
        raise ValueError(f"{source}: damaged, or no {SAFETENSORS} file ({type(error).__name__})") from error
    parts: dict[str, dict[str, Tensor]] = {"encoder": {}, "regressor": {}, "naming": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts.get(part, {})[rest] = tensor
    encoder = {"format": ENCODER_FORMAT, "version": plain.pop("encoder_version", None), "weights": parts["encoder"]}
    encoder |= {name: plain.pop(name, None) for name in ("arch", "seen")}
    content = {"format": metadata.get("format"), **plain, "encoder": encoder, "regressor": parts["regressor"]}
    content["residuals"] = tensors.get("residuals")
    if content.get("naming"):
        content["naming"] |= parts["naming"]
    return content


def _library() -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise ValueError(f"{SAFETENSORS} files need the library safetensors: pip install 'ssl_iqa[export]'") from error
    return safetensors.torch
