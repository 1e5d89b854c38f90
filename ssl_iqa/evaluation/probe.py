"""How well an encoder's features name distortions: the numbers behind the clusters of Figure 2.

    ssl-iqa probe runs/joint/encoder.pt

Photographs are distorted by all 125 classes; a linear and a nearest-neighbor classifier learn the 25 types from some
photographs and are tested on others that they have not seen. Chance is 1/25.
"""

import argparse
import copy
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssl_iqa.data.datasets import UnlabeledViews, first_readable
from ssl_iqa.data.demo import demo_sources
from ssl_iqa.data.samplers import Draw
from ssl_iqa.data.views import to_float
from ssl_iqa.engine import console, run_folder
from ssl_iqa.engine.device import use_device
from ssl_iqa.engine.settings import whole
from ssl_iqa.engine.weights import load_encoder
from ssl_iqa.evaluation.metrics import srocc
from ssl_iqa.model import Encoder

FOLDS = 5
PENALTIES = (10, 100, 1000, 10_000)  # of which `score_direction` chooses


def draw_crops(dataset: UnlabeledViews, per_class: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """`per_class` photographs for each class of the dataset's distortions, distorted, one random view each.

    Returns bytes [N, 3, size, size], the classes [N] and the photographs [N], as places in the dataset's paths.
    """
    dataset = copy.copy(dataset)
    dataset.on_device = False
    rng = np.random.default_rng(seed)
    classes = np.repeat(np.arange(len(dataset.distortions)), per_class)
    indices = np.resize(rng.permutation(len(dataset.paths)), len(classes))
    seeds = rng.integers(2**62, size=len(classes))
    crops, photographs = [], []
    draws = list(zip(indices.tolist(), seeds.tolist(), classes.tolist(), strict=True))
    for draw in console.bar(draws, "distorting photographs"):
        index, photograph, _ = first_readable(dataset.read, dataset.paths, draw[0])
        crops.append(dataset.make(photograph, Draw(*draw))[0])
        photographs.append(index)
    return torch.stack(crops), torch.from_numpy(classes), torch.tensor(photographs)


def distorted_crops(dataset: UnlabeledViews, per_class: int, seed: int) -> tuple[Tensor, Tensor]:
    """`draw_crops`' bytes [N, 3, size, size] and types [N], numbered in the order of the dataset's distortions."""
    crops, classes, _ = draw_crops(dataset, per_class, seed)
    names = [distortion.name for distortion in dataset.distortions]
    types = torch.tensor([list(dict.fromkeys(names)).index(name) for name in names])
    return crops, types[classes]


@torch.no_grad()
def features(encoder: Encoder, crops: Tensor, batch_size: int = 125) -> Tensor:
    """z of images given as bytes: [N, 3, s, s] -> float64 [N, d] on the CPU. The encoder is left in eval mode."""
    encoder.eval()
    device = next(encoder.parameters()).device
    parts = console.bar(crops.split(batch_size), "features of photographs")
    return torch.cat([encoder(to_float(part.to(device))).double().cpu() for part in parts])


def standardized(z_train: Tensor, z_test: Tensor) -> tuple[Tensor, Tensor]:
    """Features [N, d] by the mean and standard deviation of the training ones."""
    mean, std = z_train.mean(0), z_train.std(0).clamp_min(1e-6)
    return (z_train - mean) / std, (z_test - mean) / std


def share(named: Tensor, true: Tensor) -> float:
    return (named == true).double().mean().item()


def ridge(z_train: Tensor, targets: Tensor, z_test: Tensor, penalty: float = 10) -> Tensor:
    """Targets [N, k] learned by ridge regression on features [N, d], and what it says of others: [N_test, k].

    Features are standardized by the training ones, and a constant one is added, which is penalized like the others.
    """
    train, test = (torch.cat((z, z.new_ones(len(z), 1)), dim=1) for z in standardized(z_train, z_test))  # [N, d + 1]
    if len(train) < train.shape[1]:  # the same by the smaller system: X' (X X' + c)^-1 = (X' X + c)^-1 X'
        gram = train @ train.T + penalty * torch.eye(len(train), dtype=train.dtype)
        return test @ (train.T @ torch.linalg.solve(gram, targets))
    gram = train.T @ train + penalty * torch.eye(train.shape[1], dtype=train.dtype)
    return test @ torch.linalg.solve(gram, train.T @ targets)


def name_types(z_train: Tensor, types_train: Tensor, z_test: Tensor) -> Tensor:
    """The types [N_test] that `ridge` onto the types' indicators gives the largest values."""
    indicators = torch.nn.functional.one_hot(types_train).to(z_train.dtype)  # [N, types]
    return ridge(z_train, indicators, z_test).argmax(dim=1)


def type_accuracy(z_train: Tensor, types_train: Tensor, z_test: Tensor, types_test: Tensor) -> dict[str, float]:
    """The share of test images whose type is named, from features [N, d] standardized by the training ones.

    `linear`: ridge regression (penalty 10) onto the types' indicators, the largest wins. `neighbor`: the type of the
    training image with the largest cosine similarity.
    """
    linear = name_types(z_train, types_train, z_test)
    train, test = map(torch.nn.functional.normalize, standardized(z_train, z_test))
    neighbor = types_train[(test @ train.T).argmax(dim=1)]  # of similarities [N_test, N_train]
    return {"linear": share(linear, types_test), "neighbor": share(neighbor, types_test)}


def make_folds(groups: Tensor, seed: int = 0) -> Tensor:
    """The fold of each image [N], 0 .. 4, or fewer where there are fewer groups.

    Images of one group [N], a photograph or a reference image, are in the same fold.

    Raises ValueError for fewer than three groups: to learn from, to choose a penalty with and to test.
    """
    names, which = groups.unique(return_inverse=True)
    if len(names) < 3:
        raise ValueError(f"photographs or references must be at least 3 to be probed, got {len(names)}")
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed))
    return (order % min(FOLDS, len(names)))[which]


def type_and_level(z: Tensor, types: Tensor, levels: Tensor, folds: Tensor) -> dict[str, float]:
    """The shares of images whose type, and whose level, a linear probe names from features [N, d].

    `type`: one of 25, by `name_types` from the images of the other folds. `level`: one of 5 given the type, by a
    probe for each type that learns from the other folds' images of this type only. Chance is 1/25 and 1/5; since
    four classes leave an image as it was, no probe names more than 122/125 of the types.
    """
    named_types, named_levels = torch.empty_like(types), torch.empty_like(levels)
    for fold in folds.unique():
        test = folds == fold
        named_types[test] = name_types(z[~test], types[~test], z[test])
        for kind in types[test].unique():
            train_kind, test_kind = (part & (types == kind) for part in (~test, test))
            named_levels[test_kind] = name_types(z[train_kind], levels[train_kind], z[test_kind])
    return {"type": share(named_types, types), "level": share(named_levels, levels)}


def score_direction(z: Tensor, scores: Tensor, folds: Tensor) -> float:
    """The SROCC of scores [N] with the places of their images along the best linear direction of features [N, d].

    The direction for a fold's images is that of ridge regression onto the scores of the other folds' images, with the
    penalty that has the least squared error on the next fold when it learns from those that are left. Returns the mean
    of the folds' SROCCs: directions of two folds differ in length and offset. Folds in which it is not defined (a
    single image, equal scores) are left out; nan where all are.
    """
    targets = (scores - scores.mean())[:, None]
    sroccs = []
    for fold in folds.unique():
        test, chooses = folds == fold, folds == (fold + 1) % (folds.max() + 1)
        learns = ~test & ~chooses
        errors = {
            penalty: (ridge(z[learns], targets[learns], z[chooses], penalty) - targets[chooses]).square().sum().item()
            for penalty in PENALTIES
        }
        best = min(errors, key=errors.__getitem__)
        places = ridge(z[~test], targets[~test], z[test], best)[:, 0]
        sroccs.append(srocc(places, scores[test]) if len(places) > 1 else math.nan)
    defined = [value for value in sroccs if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


def probe_types(
    encoders: dict[str, Encoder], train: UnlabeledViews, test: UnlabeledViews, seed: int = 0
) -> dict[str, dict[str, float]]:
    """`type_accuracy` of each encoder on the same crops: 8 of each class from train photographs, 4 from test ones."""
    crops_train, types_train = distorted_crops(train, per_class=8, seed=seed)
    crops_test, types_test = distorted_crops(test, per_class=4, seed=seed + 1)
    return {
        name: type_accuracy(features(encoder, crops_train), types_train, features(encoder, crops_test), types_test)
        for name, encoder in encoders.items()
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("encoder", type=Path, help="encoder.pt in a joint run's folder")
    parser.add_argument("--part", choices=("val", "test"), default="test", help="the demo's photographs to be named")
    parser.add_argument("--seed", type=whole(0, 2**63 - 1), default=0, help="of the distortions and crops")


def run(args: argparse.Namespace) -> None:
    with console.clear_errors():
        if not args.encoder.is_file():
            raise FileNotFoundError(f"{args.encoder}: no such file; encoder.pt of a joint run is required")
        encoder = load_encoder(args.encoder)
        config = run_folder.read_json(args.encoder.parent / run_folder.CONFIG)
        split = run_folder.read_json(args.encoder.parent / run_folder.SPLITS).get("labeled", {})
        if split.get("spec") != "demo":
            raise ValueError(f"{args.encoder}: must be of a run with --labeled demo, which held photographs out")
        use_device("cpu", workers=0)
        sources, long_side = demo_sources(), run_folder.saved_long_side(config)
        paths = ([path for path in sources if sources[path] in split[part]] for part in ("train", args.part))
        train, test = (UnlabeledViews(part, config["crop"], long_side=long_side) for part in paths)
        encoders = {str(args.encoder): encoder, "random": load_encoder("random", encoder.arch, config["seed"])}
        results = probe_types(encoders, train, test, args.seed)
    print(f"25 types, {args.part} photographs not seen in training; chance {1 / 25:.3f}")
    for name, shares in results.items():
        print(f"{name}: linear {shares['linear']:.3f}, nearest neighbor {shares['neighbor']:.3f}")
