"""How well an encoder's features name distortions: the numbers behind the clusters of Figure 2.

    python -m ssl_iqa.probe runs/joint/encoder.pt

Photographs are distorted by all 125 classes; a linear and a nearest-neighbor classifier learn the 25 types from some
photographs and are tested on others that they have not seen. Chance is 1/25.
"""

import argparse
import copy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssl_iqa import runs, sets, views
from ssl_iqa.model import Encoder, load_encoder
from ssl_iqa.shards import ShardViews

Crops = tuple[Tensor, Tensor]  # bytes [N, 3, size, size], and the number of each one's type [N]


def distorted_crops(dataset: views.UnlabeledViews, per_class: int, seed: int) -> Crops:
    """`per_class` photographs for each class of the dataset's distortions, distorted, one random view each."""
    dataset = copy.copy(dataset)
    dataset.on_device = False
    names = [distortion.name for distortion in dataset.distortions]
    types = np.array([list(dict.fromkeys(names)).index(name) for name in names])
    rng = np.random.default_rng(seed)
    classes = np.repeat(np.arange(len(names)), per_class)
    indices = np.resize(rng.permutation(len(dataset.paths)), len(classes))
    seeds = rng.integers(2**62, size=len(classes))
    draws = [views.Draw(*draw) for draw in zip(indices.tolist(), seeds.tolist(), classes.tolist(), strict=True)]
    crops = [(dataset[draw][0][0] * 255).round().to(torch.uint8) for draw in draws]
    return torch.stack(crops), torch.from_numpy(types[classes])


@torch.no_grad()
def features(encoder: Encoder, crops: Tensor, batch_size: int = 125) -> Tensor:
    """z of pictures given as bytes: [N, 3, s, s] -> float64 [N, d] on the CPU. The encoder is left in eval mode."""
    encoder.eval()
    device = next(encoder.parameters()).device
    return torch.cat([encoder(part.to(device).float() / 255).double().cpu() for part in crops.split(batch_size)])


def type_accuracy(z_train: Tensor, types_train: Tensor, z_test: Tensor, types_test: Tensor) -> dict[str, float]:
    """The share of test pictures whose type is named, from features [N, d] standardized by the training ones.

    `linear`: ridge regression (penalty 10) onto the types' indicators, the largest wins. `neighbor`: the type of the
    training picture with the largest cosine similarity.
    """
    mean, std = z_train.mean(0), z_train.std(0).clamp_min(1e-6)
    train, test = (z_train - mean) / std, (z_test - mean) / std

    with_one = [torch.cat((z, torch.ones(len(z), 1, dtype=z.dtype)), dim=1) for z in (train, test)]  # [N, d + 1]
    indicators = torch.nn.functional.one_hot(types_train).to(train.dtype)  # [N, types]
    gram = with_one[0].T @ with_one[0] + 10 * torch.eye(with_one[0].shape[1], dtype=train.dtype)
    linear = (with_one[1] @ torch.linalg.solve(gram, with_one[0].T @ indicators)).argmax(dim=1)

    similarity = torch.nn.functional.normalize(test) @ torch.nn.functional.normalize(train).T  # [N_test, N_train]
    neighbor = types_train[similarity.argmax(dim=1)]
    return {
        name: float((named == types_test).double().mean())
        for name, named in (("linear", linear), ("neighbor", neighbor))
    }


def probe_types(
    encoders: dict[str, Encoder], train: views.UnlabeledViews, test: views.UnlabeledViews, seed: int = 0
) -> dict[str, dict[str, float]]:
    """`type_accuracy` of each encoder on the same crops: of each class 8 of train photographs, 4 of test ones."""
    train, test = (part.some(200) if isinstance(part, ShardViews) else part for part in (train, test))
    crops_train, types_train = distorted_crops(train, per_class=8, seed=seed)
    crops_test, types_test = distorted_crops(test, per_class=4, seed=seed + 1)
    return {
        name: type_accuracy(features(encoder, crops_train), types_train, features(encoder, crops_test), types_test)
        for name, encoder in encoders.items()
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", type=Path, help="encoder.pt in a joint run's folder")
    parser.add_argument("--part", choices=("val", "test"), default="test", help="the demo's photographs to be named")
    parser.add_argument("--seed", type=int, default=0, help="of the distortions and crops")
    args = parser.parse_args(arguments)
    with runs.clear_errors():
        encoder = load_encoder(args.encoder)
        config = runs.read_json(args.encoder.parent / runs.CONFIG)
        splits = runs.read_json(args.encoder.parent / runs.SPLITS)
        if splits.get("labeled", {}).get("spec") != "demo":
            raise ValueError(f"{args.encoder}: of a run without the demo's photographs; this probe needs them held out")
        runs.use_device("cpu", workers=0)
        sources = sets.demo_sources()
        train, test = (
            views.UnlabeledViews(
                [path for path, source in sources.items() if source in splits["labeled"][part]],
                config["crop"],
                sets.DEMO_REDUCE,
            )
            for part in ("train", args.part)
        )
        encoders = {str(args.encoder): encoder, "random": load_encoder("random", encoder.arch, config["seed"])}
        results = probe_types(encoders, train, test, args.seed)
    print(f"25 types, {args.part} photographs not seen in training; chance {1 / 25:.3f}")
    for name, shares in results.items():
        print(f"{name}: linear {shares['linear']:.3f}, nearest neighbor {shares['neighbor']:.3f}")


if __name__ == "__main__":
    main()
