"""Table 1's numbers and Table 2's on a test part, and the prediction for every image of it."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssl_iqa.data.labeled import LabeledSet, numbers, read_csv
from ssl_iqa.engine import run_folder
from ssl_iqa.evaluation.metrics import plcc, plcc_logistic, plcc_logistic5, srocc, srocc_by_type
from ssl_iqa.evaluation.resampling import Predictions, interval, resampled


def measure(predicted: np.ndarray, labeled: LabeledSet, indices: list[int]) -> dict[str, Any]:
    """Table 1's numbers, with 95 % intervals over references, nan for few, and Table 2's if distortions have names."""
    true = np.array([labeled.scores[i] for i in indices])
    tested = [Predictions(predicted, true, [labeled.references[i] for i in indices])]
    by_type = None
    if labeled.distortions:
        types = [labeled.distortions[i] for i in indices]  # "" where a CSV file leaves the cell empty
        by_type = {name: value for name, value in srocc_by_type(predicted, true, types).items() if name}
    return {
        "srocc": srocc(predicted, true),
        "srocc_interval": interval(resampled(tested, srocc)),
        "plcc": plcc(predicted, true),
        "plcc_interval": interval(resampled(tested, plcc)),
        "plcc_logistic": plcc_logistic(predicted, true),
        "plcc_logistic5": plcc_logistic5(predicted, true),
        "srocc_by_type": by_type,
        "images": len(indices),
    }


HEADER = ["image", "reference", "distortion", "level", "score", "predicted"]  # of predictions.csv


def predictions_csv(predicted: np.ndarray, labeled: LabeledSet, indices: list[int]) -> str:
    """Every test image's true and predicted score, on the scale of 1 to 10."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(HEADER)
    for index, y_hat in zip(indices, predicted.tolist(), strict=True):
        known = [labeled.paths[index], labeled.references[index]]
        known += [column[index] if column else "" for column in (labeled.distortions, labeled.levels)]
        writer.writerow([*known, labeled.scores[index], y_hat])
    return file.getvalue()


def read_predictions(folder: Path) -> Predictions:
    """The predictions.csv of a run. Raises FileNotFoundError without it, ValueError for another file."""
    table = read_csv(folder / run_folder.PREDICTIONS, HEADER)
    scores, predicted = (np.array(numbers(table, name)) for name in ("score", "predicted"))
    return Predictions(predicted, scores, table.column("reference"), table.column("distortion"))


@dataclass(frozen=True)
class Measured:
    """One measurement: an encoder, by a mode, on one split of a labeled set."""

    encoder: str  # its name in the tables
    mode: str
    data: str  # the set's spec
    seed: int  # of the split
    results: dict[str, Any]  # results.json
    tested: Predictions


def read_measured(folder: Path) -> Measured:
    """The measurement that finetune.py wrote into a folder."""
    results = run_folder.read_json(folder / run_folder.RESULTS)
    names = ("name", "mode", "data", "seed")
    return Measured(*(results[name] for name in names), results, read_predictions(folder))
