"""The file of a finetuned model, finetune.py's model.pt or the same as .safetensors, with all that it holds checked.

Both are plain data: tensors, numbers, words. No code of a file is ever run.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssl_iqa.engine import run_folder
from ssl_iqa.engine.weights import ENCODER_FORMAT

FORMAT, VERSION = "ssl_iqa.model", 1
SAFETENSORS = ".safetensors"
FOR_OTHERS = (".onnx", ".pt2")  # what `export` makes besides
CHECKSUM = "sha256"
CROPS, LEAST = ("five", "center", "full"), 32  # of the test's crops (data/views.py): modes, and pixels a side
NAMING = ("weight", "bias")  # the tensors of what names distortions
NO_MODEL = (
    f"no model of finetune.py; its {run_folder.MODEL} is wanted, or a {SAFETENSORS} of"
    " `python -m ssl_iqa.scoring.export`"
)


def read(path: Path) -> dict[str, Any]:
    """What a file knows: encoder (an `encoder_state`), regressor (a state_dict), score_range, settings, results,
    residuals and naming, see `quality.QualityModel`; what an older version did not write is empty.

    Raises FileNotFoundError without the file, ValueError for one that is damaged, holds code, comes from a newer
    version or is something else. Whether the weights fit is left to who builds the networks.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; the {run_folder.MODEL} of a finetune.py run is wanted")
    if path.suffix in FOR_OTHERS:
        made_from = f"the {run_folder.MODEL} it was made from is wanted"
        raise ValueError(f"{path}: exported for other programs; {made_from}")
    if path.suffix == SAFETENSORS:
        return checked(from_safetensors(path.read_bytes(), str(path)), str(path))
    return checked(run_folder.load(path), str(path))


def write(content: Mapping[str, Any], path: Path) -> None:
    """A file that `read` gives back. Raises NotWritten, and ValueError where safetensors is not installed."""
    if path.suffix == SAFETENSORS:
        file = to_safetensors(content)
        run_folder.write_atomic(path, lambda out: out.write(file))
    else:
        run_folder.save({**content, "format": FORMAT, "version": VERSION}, path)


def checked(content: Any, source: str) -> dict[str, Any]:
    """A file's content, with what an older version did not write yet. Raises ValueError, naming `source`."""
    if not isinstance(content, Mapping) or content.get("format", FORMAT) != FORMAT:
        raise ValueError(f"{source}: {NO_MODEL}")
    version = content.get("version", VERSION)  # the first files had none
    if not isinstance(version, int):
        raise ValueError(f"{source}: {NO_MODEL}")
    if version > VERSION:
        raise ValueError(f"{source}: made by a newer version of ssl_iqa (file version {version}): update ssl_iqa")
    content = {"results": {}, "residuals": torch.empty(0), "naming": None, **content}
    if not content.keys() >= {"encoder", *WANTED}:
        raise ValueError(f"{source}: {NO_MODEL}")
    for name, (wanted, is_it) in WANTED.items():
        if not is_it(content[name]):
            raise ValueError(f"{source}: its {name} is not what finetune.py writes: {wanted}")
    return content


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _are_numbers(values: Any, count: int) -> bool:
    return isinstance(values, list | tuple) and len(values) == count and all(map(_is_number, values))


def _are_settings(settings: Any) -> bool:
    if not isinstance(settings, Mapping):
        return False
    words = (settings.get(name) for name in ("data", "mode", "encoder", "crops"))
    crop = settings.get("crop")
    return (
        all(isinstance(word, str) for word in words)
        and settings["crops"] in CROPS
        and isinstance(crop, int)
        and crop >= LEAST
    )


def _are_results(results: Any) -> bool:
    if isinstance(results, Mapping) and not results:
        return True
    if not isinstance(results, Mapping) or not isinstance(results.get("split"), Mapping):
        return False
    parts = (results["split"].get(part) for part in ("train", "val", "test"))
    interval = results.get("srocc_interval")
    numbers = [results.get(name, "none") for name in ("srocc", "plcc", "images", "coverage")]
    return (
        all(isinstance(part, list) for part in parts)
        and isinstance(interval, list)
        and len(interval) == 2
        and all(number is None or _is_number(number) for number in (*numbers, *interval))  # None: not a number
    )


def _are_residuals(residuals: Any) -> bool:
    is_row = isinstance(residuals, Tensor) and residuals.layout == torch.strided and residuals.ndim == 1
    return is_row and residuals.is_floating_point() and bool((residuals.isfinite() & (residuals >= 0)).all())


def _is_naming(naming: Any) -> bool:
    if naming is None:
        return True
    if not isinstance(naming, Mapping) or not isinstance(naming.get("right"), Mapping):
        return False
    weight, bias, classes = (naming.get(name) for name in (*NAMING, "classes"))
    return (
        isinstance(classes, list)
        and all(isinstance(one, list) and [*map(type, one)] == [str, int] for one in classes)
        and all(isinstance(one, Tensor) and one.dtype == torch.float32 for one in (weight, bias))
        and all(one.layout == torch.strided for one in (weight, bias))
        and weight.ndim == 2
        and len(weight) == len(classes) > 0
        and list(bias.shape) == [len(classes)]
        and all(_is_number(naming["right"].get(name)) for name in ("type", "level", "photographs"))
    )


WANTED: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "regressor": ("weights by their name", lambda weights: isinstance(weights, Mapping)),
    "score_range": ("two numbers", lambda pair: _are_numbers(pair, 2)),
    "settings": (
        f"among them the words data, mode, encoder and crops (five, center or full), and crop, {LEAST} or more",
        _are_settings,
    ),
    "results": ("among them srocc, srocc_interval, plcc, images, coverage and split", _are_results),
    "residuals": ("a row of numbers, 0 or more", _are_residuals),
    "naming": ("none, or weight, bias, classes and right of `ssl_iqa.scoring.naming`", _is_naming),
}


def to_safetensors(content: Mapping[str, Any]) -> bytes:
    """A file's content as .safetensors: tensors `encoder.*`, `regressor.*`, `naming.*` and `residuals`; metadata in
    JSON, but for format and checksum, which are plain.
    """
    encoder = content["encoder"]
    tensors = {f"encoder.{name}": tensor for name, tensor in encoder["weights"].items()}
    tensors |= {f"regressor.{name}": tensor for name, tensor in content["regressor"].items()}
    tensors["residuals"] = content["residuals"]
    naming = content["naming"]
    if naming:
        tensors |= {f"naming.{name}": naming[name] for name in NAMING}
        naming = {name: value for name, value in naming.items() if name not in NAMING}
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    plain = {name: content[name] for name in ("score_range", "settings", "results")}
    plain |= {"naming": naming, "version": VERSION, "encoder_version": encoder["version"], "arch": encoder["arch"]}
    plain["seen"] = encoder.get("seen")
    metadata = {"format": FORMAT, **{name: json.dumps(value) for name, value in plain.items()}}
    metadata[CHECKSUM] = checksum(tensors, metadata)
    return _library().save(tensors, metadata)


def from_safetensors(file: bytes, source: str) -> dict[str, Any]:
    """What `to_safetensors` was given. Raises ValueError, naming `source`, for a file that is damaged or another."""
    library = _library()
    try:
        tensors = library.load(file)
        header = json.loads(file[8 : 8 + int.from_bytes(file[:8], "little")])  # its length comes before it
    except Exception as error:  # of damaged files safetensors and torch raise several
        raise ValueError(f"{source}: damaged, or no {SAFETENSORS} file ({type(error).__name__})") from error
    metadata = header.get("__metadata__") or {}
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{source}: {NO_MODEL}")
    if metadata.get(CHECKSUM) != checksum(tensors, metadata):
        raise ValueError(f"{source}: damaged or changed: its checksum is another one")
    content: dict[str, Any] = {"format": FORMAT}
    for name in metadata.keys() - {"format", CHECKSUM}:
        try:
            content[name] = json.loads(metadata[name])
        except ValueError as error:
            raise ValueError(f"{source}: its {name} is no JSON") from error
    content["encoder"] = {
        "format": ENCODER_FORMAT,
        "version": content.pop("encoder_version", None),
        "arch": content.pop("arch", None),
        "seen": content.pop("seen", None),
        "weights": _part(tensors, "encoder."),
    }
    content["regressor"] = _part(tensors, "regressor.")
    if isinstance(content.get("naming"), dict):
        content["naming"] |= _part(tensors, "naming.")
    if "residuals" in tensors:
        content["residuals"] = tensors["residuals"]
    return content


def checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256, in hexadecimal digits, of what a .safetensors file holds, whatever the order in it.

    Its input is, by name, each item of the metadata but the checksum as JSON [name, text]; then, by name, each tensor
    as JSON [name, dtype, shape] and its bytes, little-endian.
    """
    known = hashlib.sha256()
    for name in sorted(metadata.keys() - {CHECKSUM}):
        known.update(json.dumps([name, metadata[name]]).encode())
    for name, tensor in sorted(tensors.items()):
        known.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        known.update(tensor.flatten().view(torch.uint8).numpy())
    return known.hexdigest()


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _library() -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise ValueError(
            f"{SAFETENSORS} files take the safetensors library: pip install 'ssl_iqa[export]' ({error})"
        ) from error
    return safetensors.torch
