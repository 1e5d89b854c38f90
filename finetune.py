"""Blind quality assessment with a pretrained encoder (Sections 4.2 and 4.3): LP, FT and LP-FT, SROCC and PLCC.

    python finetune.py --mode lp-ft                       the encoder and the split of the last `python train_joint.py`
    python finetune.py --mode lp-ft --encoder random      the same from random weights
    python finetune.py --preset paper --encoder runs/joint/encoder.pt --data kadid10k:DIR/kadid10k
    torchrun --nproc_per_node 4 finetune.py ..            the same on four GPUs

The epoch with the best validation SROCC is the one that is tested, once.
"""

import argparse
import copy
import math
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ssl_iqa import data, distributed, report, runs, sets, views
from ssl_iqa.cli import add_flags, setting, settings_from
from ssl_iqa.metrics import plcc, plcc_logistic, srocc, srocc_by_type
from ssl_iqa.model import ARCHS, Encoder, Regressor, encoder_state, load_encoder
from ssl_iqa.samplers import LabeledBatches

MODES = {"lp": ("lp",), "ft": ("ft",), "lp-ft": ("lp", "ft")}
TABLE_2 = ("gaussian_blur", "jpeg2000", "jpeg", "white_noise")


@dataclass(frozen=True)
class Settings:
    """Section 4.2, BIQA; where the paper is silent, the README's decisions."""

    mode: str = setting("lp-ft", "model", "linear probing, fine-tuning, or one after the other", choices=tuple(MODES))
    encoder: str = setting("runs/joint/encoder.pt", "model", "a file, `imagenet` or `random`")
    arch: str = setting("resnet50", "model", "of `imagenet` and `random`", choices=tuple(ARCHS))
    data: str = setting("", "data", f"scored pictures: {sets.SPECS}")
    crop: int = setting(224, "data", "side of the crops, pixels", low=32)
    crops: str = setting(
        "five", "data", "the test's: corners and center, center, all", choices=("five", "center", "full")
    )
    epochs: int = setting(50, "optimization", "of LP, and of FT", low=1)
    batch_size: int = setting(32, "optimization", "pictures a step", low=2)
    lr: float = setting(1e-5, "optimization", "learning rate of Adam in LP", above=0)
    ft_lr: float = setting(1e-5, "optimization", "learning rate of Adam in FT", above=0)
    amp: str = setting("off", "run", "mixed precision", choices=("bf16", "off"))
    workers: int = setting(8, "run", "processes that read pictures, of each training process", low=0)
    device: str = setting("auto", "run", "where to compute", choices=("auto", "cpu", "cuda", "mps"))
    seed: int = setting(0, "run", "of everything random; of the split too, where the encoder brings none", low=0)


PRESETS = {
    "demo": Settings(data="demo", arch="dct-mlp", crop=96, epochs=6, lr=1e-3, ft_lr=1e-4, workers=2),
    "paper": Settings(),
}


@dataclass
class Best:
    """The epoch with the best validation SROCC so far, and the weights that it had."""

    srocc: float = -2.0
    epoch: str = ""
    weights: dict = field(default_factory=dict)


def train_epoch(
    encoder: Encoder,
    trained: nn.Module,
    optimizer: torch.optim.Adam,
    batches: Iterable,
    phase: str,
    amp: str,
    skipped: set[str],
) -> float:
    """One pass over the training pictures. Returns the mean of L_r, Eq. 7.

    `trained` takes the pictures in FT, and in LP the features of the frozen encoder, which is in eval mode, so that its
    batch normalization stays as it is, too. `skipped` gathers the files that could not be read.
    """
    device = next(trained.parameters()).device
    trained.train()
    encoder.train(phase == "ft")
    losses = []
    for x, y, unreadable in batches:
        views.name_skipped(unreadable, skipped)
        x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
        with runs.autocast(device, amp):
            if phase == "lp":
                with torch.no_grad():
                    x = encoder(x)  # [B, d]
            y_hat = trained(x).to(y.dtype)  # [B], Eq. 6
        loss = nn.functional.mse_loss(y_hat, y)  # Eq. 7
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return distributed.mean(torch.stack(losses).mean()).item()


@torch.no_grad()
def encode(encoder: Encoder, batches: Iterable, crop: Callable[[Tensor], Tensor], amp: str) -> tuple[list[int], Tensor]:
    """z of the test crops of every picture that can be read: (their indices [M], z [M, crops, d])."""
    device = next(encoder.parameters()).device
    encoder.eval()
    indices, z = [], []
    for batch in batches:
        readable = [(index, crop(picture / 255)) for index, picture in batch if picture is not None]
        for _, group in groupby(readable, key=lambda item: item[1].shape):  # whole pictures may differ in size
            group_indices, crops = zip(*group, strict=True)
            x = torch.stack(crops).to(device)  # [m, crops, 3, h, w]
            with runs.autocast(device, amp):
                z.append(encoder(x.flatten(0, 1)).float().unflatten(0, x.shape[:2]))  # [m, crops, d]
            indices += group_indices
    return indices, torch.cat(z) if z else torch.empty(0)


@torch.no_grad()
def predict(regressor: Regressor, z: Tensor) -> Tensor:
    """y_hat of a picture, the mean over its crops: z [M, crops, d] -> [M] on the CPU."""
    regressor.eval()
    return regressor(z.flatten(0, 1)).view(z.shape[:2]).mean(dim=1).cpu()


def fit(
    encoder: Encoder,
    regressor: Regressor,
    phase: str,
    train: DataLoader,
    validate: Callable[[Encoder], tuple[list[int], Tensor]],
    scores: np.ndarray,
    best: Best,
    skipped: set[str],
    settings: Settings,
) -> None:
    """One phase, LP or FT: leaves both networks with the weights of the best epoch so far, of this phase or before."""
    frozen = copy.deepcopy(encoder.state_dict()) if phase == "lp" else None
    trained = regressor if phase == "lp" else nn.Sequential(encoder, regressor)
    optimizer = torch.optim.Adam(trained.parameters(), lr=settings.ft_lr if phase == "ft" else settings.lr)
    trained = distributed.parallel(trained, next(regressor.parameters()).device)
    encoded = None
    for epoch in range(settings.epochs):
        train.batch_sampler.epoch = epoch
        desc = f"{phase.upper()} epoch {epoch + 1}/{settings.epochs}"
        loss = train_epoch(encoder, trained, optimizer, runs.bar(train, desc), phase, settings.amp, skipped)
        if encoded is None or phase == "ft":
            encoded = validate(encoder)
        indices, z = encoded
        y_hat = predict(regressor, z)
        if not math.isfinite(loss) or not y_hat.isfinite().all():
            sys.exit(f"error: the loss or a prediction is not finite in {desc}; a lower learning rate may help")
        val_srocc = srocc(y_hat, scores[indices])
        ranks = np.nan_to_num([val_srocc, best.srocc], nan=-2)  # SROCC is nan where predictions are all equal
        is_best = ranks[0] > ranks[1] or not best.weights
        if is_best:
            weights = {"encoder": encoder_state(encoder), "regressor": regressor.state_dict()}
            best.srocc, best.epoch, best.weights = val_srocc, f"{phase} {epoch + 1}", copy.deepcopy(weights)
        print(f"{desc}  L_r {loss:.3f} | validation SROCC {val_srocc:.3f}{' *' if is_best else ''}", flush=True)
    if frozen is not None and not all(torch.equal(frozen[name], now) for name, now in encoder.state_dict().items()):
        raise AssertionError("linear probing has changed the encoder")
    encoder.load_state_dict(best.weights["encoder"]["weights"])
    regressor.load_state_dict(best.weights["regressor"])


def split_of(encoder: str, labeled: sets.LabeledSet, seed: int) -> dict[str, list[str]]:
    """The split that joint training made of the same references, so that the test part is new to the encoder.

    A new one where there is none.
    """
    path = Path(encoder).parent / runs.SPLITS
    if encoder not in ("imagenet", "random") and path.is_file():
        split = {part: names for part, names in runs.read_json(path).get("labeled", {}).items() if part != "spec"}
        if set().union(*split.values()) == set(labeled.references):
            return split
    return data.split_references(labeled.references, seed)


def check_parts(labeled: sets.LabeledSet, parts: dict[str, list[int]]) -> None:
    """Raises ValueError where a part has fewer than two usable pictures: SROCC takes two."""
    for part, indices in parts.items():
        crops = views.LabeledCrops(labeled, indices, 0, {})
        first, *_ = views.first_readable(crops.read, crops.paths, 0)
        second, *_ = views.first_readable(crops.read, crops.paths, (first + 1) % len(indices))
        if second == first:
            raise ValueError(f"{labeled.name}: its {part} part has a single usable picture; two or more are wanted")


def measure(predicted: np.ndarray, labeled: sets.LabeledSet, indices: list[int]) -> dict:
    """Table 1's numbers, and Table 2's where the set names its distortions."""
    true = [labeled.scores[i] for i in indices]
    by_type = None
    if labeled.distortions:
        types = [labeled.distortions[i] for i in indices]  # "" where a CSV file leaves the cell empty
        by_type = {name: value for name, value in srocc_by_type(predicted, true, types).items() if name}
    return {
        "srocc": srocc(predicted, true),
        "plcc": plcc(predicted, true),
        "plcc_logistic": plcc_logistic(predicted, true),
        "srocc_by_type": by_type,
        "images": len(indices),
    }


def parse_arguments(arguments: list[str] | None) -> tuple[Settings, argparse.Namespace]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_flags(parser, PRESETS)
    parser.add_argument("--out", type=Path, help="the run's folder (runs/finetune)")
    parser.add_argument("--overwrite", action="store_true", help="replace the run that --out holds")
    args = parser.parse_args(arguments)
    with runs.clear_errors():
        settings = settings_from(args, PRESETS)
        if not settings.data:
            raise ValueError(f"--data: a labeled set is wanted: {sets.SPECS}")
        if settings.batch_size % distributed.launched():
            wanted = f"with {distributed.launched()} processes a multiple of them is wanted"
            raise ValueError(f"--batch-size {settings.batch_size}: {wanted}")
    return settings, args


def main(arguments: list[str] | None = None) -> None:
    began = time.perf_counter()
    settings, args = parse_arguments(arguments)
    out = args.out or Path("runs/finetune")
    with runs.clear_errors():
        device = runs.use_device(settings.device, 0 if settings.data == "demo" else settings.workers, settings.amp)
    with distributed.processes(device), report.one_voice(distributed.is_main()):
        with runs.clear_errors(), distributed.together():
            is_named = settings.encoder in ("imagenet", "random")
            encoder = load_encoder(settings.encoder, settings.arch if is_named else args.arch, settings.seed)
            settings = replace(settings, arch=encoder.arch)
            labeled = sets.load_labeled(settings.data)
            split = split_of(settings.encoder, labeled, settings.seed)
            parts = {part: data.part_indices(labeled.references, names) for part, names in split.items()}
            check_parts(labeled, parts)
            if distributed.is_main():
                is_default_demo = args.out is None and settings.data == "demo"
                runs.prepare_folder(out, keep=False, replace=args.overwrite or is_default_demo)
                runs.write_json(asdict(settings), out / runs.CONFIG)
        print_start(settings, parts, split)
        best, predicted, indices = train_and_test(encoder, labeled, parts, device, settings)
        if distributed.is_main():
            results = measure(predicted, labeled, indices)
            results |= {
                "unreadable": len(parts["test"]) - len(indices),
                "mode": settings.mode,
                "encoder": settings.encoder,
                "data": settings.data,
                "seed": settings.seed,
                "best_epoch": best.epoch,
                "val_srocc": best.srocc,
                "minutes": round((time.perf_counter() - began) / 60, 2),
                "settings": asdict(settings),
                "split": split,
            }
            model = {**best.weights, "score_range": list(labeled.score_range), "settings": asdict(settings)}
            try:
                runs.save(model, out / runs.MODEL)
                runs.write_json(results, out / runs.RESULTS)
            except runs.NotWritten as error:
                sys.exit(f"error: {error}")
            print_results(results, out)


def train_and_test(
    encoder: Encoder,
    labeled: sets.LabeledSet,
    parts: dict[str, list[int]],
    device: torch.device,
    settings: Settings,
) -> tuple[Best, np.ndarray, list[int]]:
    """The best epoch of all phases, what it predicts for the test part's pictures [M], and these pictures' indices."""
    scores = np.array(labeled.scores)
    made = views.make_demo_pictures(labeled, sum(parts.values(), []), settings.workers and runs.cpu_cores())
    crops = views.LabeledCrops(labeled, parts["train"], settings.crop, made)
    steps = math.ceil(len(parts["train"]) / settings.batch_size)
    process, processes = distributed.rank(), distributed.size()
    sampler = LabeledBatches(len(parts["train"]), steps, settings.batch_size, settings.seed, process, processes)
    workers = 0 if made else settings.workers
    train = DataLoader(
        crops,
        batch_sampler=sampler,
        collate_fn=views.collate_crops,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )
    skipped: set[str] = set()

    def encode_part(part: str, encoder: Encoder) -> tuple[list[int], Tensor]:
        """Each process encodes its share, and all have all."""
        batches = views.picture_batches(labeled, parts[part][process::processes], made, workers)
        crop = partial(views.test_crops, mode=settings.crops, size=settings.crop)
        indices, z = encode(encoder, batches, crop, settings.amp)
        shares = distributed.every((indices, z.cpu()))
        indices = sum((share[0] for share in shares), [])
        views.name_skipped((labeled.paths[i] for i in {*parts[part]} - {*indices}), skipped)
        return indices, torch.cat([share[1].to(device) for share in shares if share[0]])

    torch.manual_seed(settings.seed)  # of the fresh head
    encoder = distributed.synchronize(encoder.to(device, memory_format=torch.channels_last), device)
    regressor = Regressor(encoder.dim, float(scores[parts["train"]].mean())).to(device)
    best = Best()
    for phase in MODES[settings.mode]:
        fit(encoder, regressor, phase, train, partial(encode_part, "val"), scores, best, skipped, settings)
    indices, z = encode_part("test", encoder)
    return best, predict(regressor, z).numpy(), indices


def print_start(settings: Settings, parts: dict[str, list[int]], split: dict[str, list[str]]) -> None:
    for name, value in sorted(asdict(settings).items()):
        print(f"  {name:<12} {value}")
    if settings.data == "demo":
        print("Demo scores are the mean opinions of KADID-10k's 125 classes, not opinions of these very pictures.")
    counts = ", ".join(f"{len(parts[part])} of {len(split[part])} references {part}" for part in split)
    print(f"{settings.data}: pictures {counts}", flush=True)


def print_results(results: dict, out: Path) -> None:
    unreadable = f" ({results['unreadable']} could not be read)" if results["unreadable"] else ""
    print(f"\n{results['mode'].upper()} from {results['encoder']}, best epoch {results['best_epoch']},", end=" ")
    print(f"on {results['images']} held-out pictures of {len(results['split']['test'])} references{unreadable}:")
    print(
        f"  SROCC {results['srocc']:.3f}   PLCC {results['plcc']:.3f}   after logistic {results['plcc_logistic']:.3f}"
    )
    by_type = results["srocc_by_type"]
    if by_type:
        shown = {name: by_type[name] for name in TABLE_2 if name in by_type} or by_type
        print("  SROCC by type (Table 2):", ", ".join(f"{name} {value:.3f}" for name, value in shown.items()))
    print(f"{results['minutes']:.1f} minutes. All numbers: {out / runs.RESULTS}; networks: {out / runs.MODEL}")


if __name__ == "__main__":
    main()
