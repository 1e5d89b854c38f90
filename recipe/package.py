"""The file of the model in the package, of what recipe/head.py, or finetune.py, has made.

    python recipe/package.py runs/real/test/model.pt csv:DIR/labels/scores.csv model.pt

The model was trained with scores.csv of `recipe/labels.py`, whose test part gives the numbers of the card, on the
images with opinions. Where it was trained with all.csv, `--held-out` names one that was trained in the same way with
scores.csv, and is measured in its place. The file has its weights in half precision, reduces images to the size that
the model knows, has intervals of its own validation part, and names distortions: as recipe/names.py has taught it, or
else as `ssl-iqa learn-names` would.
"""

import argparse
import copy
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_iqa.data import sets
from ssl_iqa.data.images import read_image
from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.data.splits import part_indices
from ssl_iqa.engine import console, model_file
from ssl_iqa.engine.device import cpu_cores, use_device
from ssl_iqa.evaluation import calibration
from ssl_iqa.evaluation.predictions import measure
from ssl_iqa.scoring import naming, quality

REAL = "real/"  # begins the references of images with opinions
SCALE = (0.0, 100.0)  # of the labels: what the scores 1 and 10 stand for
SETTINGS = {"long_side": 512, "data": "LIVE In the Wild, and KADID-10k's class means"}
SETTINGS |= {"encoder": "joint training from ImageNet's weights"}
OF_ANOTHER = {"numbers": "of the same training with 60 % of LIVE In the Wild; this model has 80 %"}
NOTES = {
    "knows": "photographs of some 500 pixels with faults of cameras or of software; larger ones are reduced first",
    "not tested": "on any set that it was not trained with; screens, drawings, medical images, generated ones",
    "terms": "LIVE In the Wild: Ghadiyaram and Bovik, IEEE TIP 2016; photographs for research: docs/model.md",
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="model.pt of recipe/head.py or finetune.py")
    parser.add_argument("labels", help="csv:DIR/labels/scores.csv")
    parser.add_argument("out", type=Path, help="the file to write")
    parser.add_argument("--held-out", type=Path, help="the model to measure, where the first has seen the test part")
    args = parser.parse_args(arguments)
    with console.clear_errors():
        use_device("cpu", workers=0)
        labeled = sets.load_labeled(args.labels)
        content = packaged(model_file.read(args.model))
        held_out = packaged(model_file.read(args.held_out)) if args.held_out else content
    parts = {
        part: [i for i in part_indices(labeled.references, names) if labeled.references[i].startswith(REAL)]
        for part, names in held_out["results"]["split"].items()
    }
    model = loaded(content)
    results, of_val = measure_held_out(loaded(held_out) if args.held_out else model, labeled, parts)
    if args.held_out:
        of_val = errors(predictions(model, labeled, parts["val"]), labeled, parts["val"])
    content["residuals"] = torch.from_numpy(of_val).float().sort().values
    results["bf16_change"] = largest_bf16_change(model, labeled, parts["val"][::16])
    content["naming"] = halved(content["naming"] or naming.learn_to_name(model))
    content |= {"results": results, "notes": (OF_ANOTHER if args.held_out else {}) | NOTES}
    model_file.write(content, args.out)
    print(quality.load(args.out).card())
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB")


def packaged(content: dict[str, Any]) -> dict[str, Any]:
    """A model's content in half precision, with scores on `SCALE`, without the places of files."""
    content = copy.deepcopy(content)
    content["settings"] |= SETTINGS
    low, high = content["score_range"]
    head = content["regressor"]  # its output, y, goes from 1 at `low` to 10 at `high`
    weight, bias = [*head][-2:]
    stretch = (high - low) / (SCALE[1] - SCALE[0])
    head[weight] *= stretch
    head[bias] = 1 + 9 * (low - SCALE[0]) / (SCALE[1] - SCALE[0]) + stretch * (head[bias] - 1)
    content["score_range"] = SCALE
    content["regressor"] = halved(head)
    content["encoder"]["weights"] = halved(content["encoder"]["weights"])
    content["encoder"]["seen"] = [unplaced(record) for record in not_repeated(content["encoder"]["seen"])]
    return content


def not_repeated(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records but for those whose images, the tested ones aside, a later one has as well."""
    seen = [{*record["images"]["train"], *record["images"]["val"]} for record in records]
    return [record for n, record in enumerate(records) if not any(seen[n] <= later for later in seen[n + 1 :])]


def unplaced(record: dict[str, Any]) -> dict[str, Any]:
    """A record of what was seen without the folder of its set."""
    kind, _, path = record["data"].partition(":")
    return record | {"data": f"{kind}:{Path(path).name}"}


def halved(tensors: dict[str, Any]) -> dict[str, Any]:
    """In half precision, but for what it cannot hold to a thousandth: BatchNorm's variances, of up to 84,000."""
    return {
        name: value.half() if isinstance(value, Tensor) and value.is_floating_point() and survives(value) else value
        for name, value in tensors.items()
        if not name.endswith("num_batches_tracked")  # which nothing reads
    }


def survives(value: Tensor) -> bool:
    return torch.allclose(value.half().to(value.dtype), value, rtol=1e-3, atol=1e-7)


def loaded(content: dict[str, Any]) -> quality.QualityModel:
    with TemporaryDirectory() as folder:
        model_file.write(content, Path(folder) / "model.pt")
        return quality.load(Path(folder) / "model.pt")


def predictions(model: quality.QualityModel, labeled: LabeledSet, indices: Sequence[int]) -> np.ndarray:
    """y_hat of images, [M]. Raises OSError or UnreadableImage for one that cannot be read."""
    predicted = []
    files = quality.score_files(model, [labeled.paths[i] for i in indices], cpu_cores())
    for _, seen in console.bar(files, "images", len(indices)):
        if isinstance(seen, Exception):
            raise seen
        predicted.append(seen.y_hat)
    return np.array(predicted)


def errors(predicted: np.ndarray, labeled: LabeledSet, indices: Sequence[int]) -> np.ndarray:
    """|y_hat - y| of images, [M], on the scale of 1 to 10 that stands for SCALE."""
    low, high = (1 + 9 * (end - SCALE[0]) / (SCALE[1] - SCALE[0]) for end in labeled.score_range)
    true = low + (np.array([labeled.scores[i] for i in indices]) - 1) / 9 * (high - low)
    return np.abs(predicted - true)


def measure_held_out(
    model: quality.QualityModel, labeled: LabeledSet, parts: dict[str, list[int]]
) -> tuple[dict[str, Any], np.ndarray]:
    """What the card says of images that were not trained with, by the model that has not seen them; and its errors on
    the validation part.
    """
    predicted = {part: predictions(model, labeled, parts[part]) for part in ("val", "test")}
    of_val, of_test = (errors(predicted[part], labeled, parts[part]) for part in ("val", "test"))
    measured = measure(predicted["test"], labeled, parts["test"])
    margin = calibration.margin(of_val)
    coverage = float(np.mean(of_test <= margin))
    known = {name: measured[name] for name in ("srocc", "srocc_interval", "plcc", "plcc_interval", "images")}
    split = {part: sorted({labeled.references[i] for i in indices}) for part, indices in parts.items()}
    return known | {"margin": margin, "coverage": coverage, "split": split}, of_val


@torch.no_grad()
def largest_bf16_change(model: quality.QualityModel, labeled: LabeledSet, indices: Sequence[int]) -> float:
    """How much a score changes at most where the encoder computes in bfloat16."""
    changes = []
    for i in console.bar(indices, "bfloat16"):
        crops = quality.crops_of(model, read_image(labeled.paths[i]))
        z = model.encoder(crops)
        with torch.autocast("cpu", torch.bfloat16):
            z_bf16 = model.encoder(crops).float()
        changes.append((model.regressor(z) - model.regressor(z_bf16)).mean().abs().item())
    return max(changes)


if __name__ == "__main__":
    main()
