"""The regressor of the model in the package, of both kinds of labels, on the encoder of a joint run.

    python recipe/head.py runs/real/ssl/encoder.pt csv:DIR/labels/scores.csv csv:DIR/labels/levels.csv runs/real/test

It is LP (Section 4.2), but for what docs/model.md measures. The encoder, a ResNet, sees whole images of at most 512
pixels; features are the standard deviations and means of the maps of all four stages, standardized, and a random half
of them is left out in training; class means count a fifth; there are 40 hidden units. Of the photographs in levels.csv,
which have all types and levels, a step also sees whole series, whose order counts (`series_loss`).
"""

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ssl_iqa.archs import network_of
from ssl_iqa.data import sets
from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.data.seen import Split, divide, known_parts, with_record
from ssl_iqa.data.splits import part_indices
from ssl_iqa.engine import console, model_file, run_folder
from ssl_iqa.engine.device import use_device
from ssl_iqa.engine.weights import encoder_state, load_encoder
from ssl_iqa.evaluation import calibration
from ssl_iqa.evaluation.features import frozen_features, predict
from ssl_iqa.evaluation.metrics import srocc
from ssl_iqa.evaluation.predictions import measure
from ssl_iqa.evaluation.task import Task
from ssl_iqa.model import Encoder, Regressor

LONG_SIDE = 512
HIDDEN, EPOCHS, BATCH, LR = 40, 24, 64, 2e-4
DROPOUT = 0.5  # of features
OF_CLASS_MEANS = 0.2  # their weight
SERIES, OF_SERIES, MARGIN = 24, 0.2, 0.15  # of a step; their squared errors' weight; points
LEAST_STD = 1e-3  # of a feature, which is divided by it
PRISTINE = "pristine"  # in the column `distortion`


class Data(NamedTuple):
    """Features of images with their scores, and which of them are trained with and validated with."""

    z: Tensor  # [M, d]
    y: Tensor  # [M]
    weight: Tensor  # [M]
    train: list[int]
    val: dict[str, list[int]]  # by kind
    z_series: Tensor  # [S, 6, d]
    y_series: Tensor  # [S, 6]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", type=Path, help="encoder.pt of a joint run with the labels")
    parser.add_argument("labels", help="csv:DIR/labels/scores.csv, or all.csv")
    parser.add_argument("levels", help="csv:DIR/labels/levels.csv")
    parser.add_argument("out", type=Path, help="the folder for model.pt; features are kept beside it")
    args = parser.parse_args(arguments)
    with console.clear_errors():
        use_device("cpu", workers=0)
        encoder = load_encoder(args.encoder)
        encoder = load_encoder(args.encoder, f"{network_of(encoder.arch)}-moments").eval()
        labeled, levels = (sets.load_labeled(spec, LONG_SIDE) for spec in (args.labels, args.levels))
        split = divide(labeled, known_parts(labeled, encoder.seen or ()), seed=0)
        trained = {"train": sorted({*levels.references}), "val": [], "test": []}
        if left := {*trained["train"]} - {*split["train"]}:
            raise ValueError(f"{levels.name}: photographs must be of the training part, got {min(left)}")
        args.out.mkdir(parents=True, exist_ok=True)
    data = gather(encoder, labeled, levels, split, args.out.parent / run_folder.FEATURES)
    regressor, epoch, val_srocc = fit(data)
    encoder.seen = with_record(encoder.seen or (), labeled, split, 0, by="finetuning")
    encoder.seen = with_record(encoder.seen, levels, trained, 0, by="finetuning")
    results = measured(regressor, data, labeled, split) | {"best_epoch": f"lp {epoch}", "val_srocc": val_srocc}
    settings = {"mode": "lp", "encoder": str(args.encoder), "data": labeled.name, "crop": 224, "crops": "full"}
    content = {"encoder": encoder_state(encoder), "regressor": regressor.state_dict(), "results": results}
    content |= {"score_range": list(labeled.score_range), "settings": settings | {"long_side": LONG_SIDE}}
    content["residuals"] = errors(regressor, data, [*data.val["opinions"], *data.val["class means"]]).sort().values
    model_file.write(content, args.out / run_folder.MODEL)
    print(f"epoch {epoch}, validation SROCC {val_srocc:.3f}, test SROCC {results['srocc']:.3f} of opinions")


def gather(encoder: Encoder, labeled: LabeledSet, levels: LabeledSet, split: Split, folder: Path) -> Data:
    settings = SimpleNamespace(crop=224, crops="full", amp="off", workers=0, batch_size=BATCH, seed=0)
    z, z_levels = (
        frozen_features(encoder, Task(each, {}, torch.device("cpu"), settings), folder).z[:, 0]  # [M, d]
        for each in (labeled, levels)
    )
    is_opinion = np.array([not distortion for distortion in labeled.distortions])
    val = np.array(part_indices(labeled.references, split["val"]))
    series = torch.tensor(series_of(levels))  # [S, 6]
    y = torch.tensor(labeled.scores, dtype=torch.float32)
    y_levels = torch.from_numpy(np.interp(on_own_scale(levels), labeled.score_range, (1, 10))).float()
    return Data(
        z,
        y,
        torch.from_numpy(np.where(is_opinion, 1.0, OF_CLASS_MEANS)).float(),
        part_indices(labeled.references, split["train"]),
        {"opinions": val[is_opinion[val]].tolist(), "class means": val[~is_opinion[val]].tolist()},
        z_levels[series],
        y_levels[series],
    )


def on_own_scale(labeled: LabeledSet) -> np.ndarray:
    """The scores of a set as its file has them, [M]: each file's own lowest and highest become 1 and 10."""
    return np.interp(labeled.scores, (1, 10), labeled.score_range)


def series_of(levels: LabeledSet) -> list[list[int]]:
    """The images of each photograph and type: the pristine one and five levels."""
    images: dict[tuple[str, str], list[int]] = {}
    for i, key in enumerate(zip(levels.references, levels.distortions, strict=True)):
        images.setdefault(key, []).append(i)
    return [images[name, PRISTINE] + found for (name, kind), found in images.items() if kind != PRISTINE]


def series_loss(y_hat: Tensor, y: Tensor) -> Tensor:
    """Of predictions [B, 6] for series with scores y: of two images the better one is to be ahead by `MARGIN`."""
    ahead = y_hat[:, :, None] - y_hat[:, None]  # [B, 6, 6]
    return (MARGIN - ahead).clamp_min(0)[y[:, :, None] > y[:, None]].mean()


def fit(data: Data) -> tuple[Regressor, int, float]:
    """The regressor of the best epoch, the epoch, and the mean of the validation SROCCs of both kinds."""
    torch.manual_seed(0)
    mean, std = data.z[data.train].mean(dim=0), data.z[data.train].std(dim=0) + LEAST_STD
    regressor = Regressor(data.z.shape[1], data.y[data.train].mean().item(), HIDDEN)
    optimizer = torch.optim.AdamW(regressor.parameters(), LR, weight_decay=0)
    thinned = nn.Dropout(DROPOUT)
    draws, steps = torch.Generator().manual_seed(0), len(data.train) // BATCH
    best: tuple[Regressor, int, float] | None = None
    for step in range(EPOCHS * steps):
        if step % steps == 0:
            order = torch.tensor(data.train)[torch.randperm(len(data.train), generator=draws)]
        batch = order[step % steps * BATCH :][:BATCH]
        drawn = torch.randint(len(data.z_series), (SERIES,), generator=draws)
        optimizer.param_groups[0]["lr"] = LR * (1 - step / (EPOCHS * steps))
        y_hat = regressor(thinned((data.z[batch] - mean) / std))
        loss = (data.weight[batch] * (y_hat - data.y[batch]).square()).mean()  # Eq. 7, weighted
        z, y = ((data.z_series[drawn] - mean) / std).flatten(0, 1), data.y_series[drawn]
        y_hat = regressor(thinned(z)).view(SERIES, -1)
        loss = loss + OF_SERIES * nn.functional.mse_loss(y_hat, y) + series_loss(y_hat, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % steps == 0:
            folded = of_plain_features(regressor, mean, std)
            found = [srocc(predict(folded, data.z[val, None]), data.y[val].numpy()) for val in data.val.values()]
            if best is None or np.mean(found) > best[2]:
                best = folded, (step + 1) // steps, float(np.mean(found))
    return best


@torch.no_grad()
def of_plain_features(regressor: Regressor, mean: Tensor, std: Tensor) -> Regressor:
    """The same function of features that are not standardized."""
    folded = Regressor(len(mean), hidden_dim=HIDDEN)
    folded.load_state_dict(regressor.state_dict())
    folded[0].weight /= std
    folded[0].bias -= folded[0].weight @ mean
    return folded


def errors(regressor: Regressor, data: Data, indices: list[int]) -> Tensor:
    """|y_hat - y|, [M]."""
    return (predict(regressor, data.z[indices, None]) - data.y[indices]).abs()


def measured(regressor: Regressor, data: Data, labeled: LabeledSet, split: Split) -> dict[str, Any]:
    """finetune.py's results of the test images with opinions; where there are none, of all."""
    tested = part_indices(labeled.references, split["test"])
    tested = [i for i in tested if not labeled.distortions[i]] or tested
    results = measure(predict(regressor, data.z[tested, None]).numpy(), labeled, tested)
    margin = calibration.margin(errors(regressor, data, data.val["opinions"] or data.val["class means"]).numpy())
    coverage = (errors(regressor, data, tested) <= margin).float().mean().item()
    return run_folder.without_nan(results | {"margin": margin, "coverage": coverage, "seed": 0, "split": split})


if __name__ == "__main__":
    main()
