"""What a finetuned encoder gives on a test part: Table 1's numbers and Table 2's, and every picture's prediction."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssl_iqa import runs
from ssl_iqa.metrics import plcc, plcc_logistic, srocc, srocc_by_type
from ssl_iqa.resampling import Tested, interval, resampled
from ssl_iqa.sets import LabeledSet


def measure(predicted: np.ndarray, labeled: LabeledSet, indices: list[int]) -> dict[str, Any]:
    """Table 1's numbers, with their 95 % intervals over references, and Table 2's where distortions have names."""
    true = np.array([labeled.scores[i] for i in indices])
    tested = [Tested(predicted, true, [labeled.references[i] for i in indices])]
    by_type = None
    if labeled.distortions:
        types = [labeled.distortions[i] for i in indices]  # "" where a CSV file leaves the cell empty
        by_type = {name: value for name, value in srocc_by_type(predicted, true, types).items() if name}
    return {
        "srocc": srocc(predicted, true),
        "srocc_interval": interval(resampled(tested, srocc, seed=0)),
        "plcc": plcc(predicted, true),
        "plcc_interval": interval(resampled(tested, plcc, seed=0)),
        "plcc_logistic": plcc_logistic(predicted, true),
        "srocc_by_type": by_type,
        "images": len(indices),
    }


def predictions_csv(predicted: np.ndarray, labeled: LabeledSet, indices: list[int]) -> str:
    """Every test picture's true and predicted score, on the scale of 1 to 10."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("image", "reference", "distortion", "level", "score", "predicted"))
    for index, y_hat in zip(indices, predicted.tolist(), strict=True):
        known = [labeled.paths[index], labeled.references[index]]
        known += [column[index] if column else "" for column in (labeled.distortions, labeled.levels)]
        writer.writerow([*known, labeled.scores[index], y_hat])
    return file.getvalue()


@dataclass(frozen=True)
class Measured:
    """One measurement: an encoder, by a mode, on one split of a labeled set."""

    encoder: str  # its name in the tables
    mode: str
    data: str  # the set's spec
    seed: int  # of the split
    results: dict[str, Any]  # results.json
    tested: Tested


def read_measured(folder: Path) -> Measured:
    """What finetune.py wrote into a folder."""
    results = runs.read_json(folder / runs.RESULTS)
    with open(folder / runs.PREDICTIONS, newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    scores = [np.array([float(line[column]) for line in lines]) for column in ("predicted", "score")]
    tested = Tested(*scores, [line["reference"] for line in lines])
    return Measured(results["name"], results["mode"], results["data"], results["seed"], results, tested)
