"""What train_joint.py says: its settings and data at the start, a line an epoch, and what the encoder has learned."""

import math
from pathlib import Path
from typing import Any


def print_start(
    settings: dict[str, Any], splits: dict, types: int, classes: int, steps: int, device: str, out: Path
) -> None:
    for name, value in sorted(settings.items()):
        print(f"  {name:<20} {value}")
    if "demo" in (settings["unlabeled"], settings["labeled"]):
        print("The demo's setting: a small encoder and small pictures for two CPU cores. The paper's: --preset paper.")
    if settings["labeled"] == "demo":
        print("Its scores are the mean opinions of KADID-10k's 125 classes, not opinions of these very pictures.")
    train, val = splits["unlabeled"]["train"], len(splits["unlabeled"]["val"])
    print(f"unlabeled: {train} photographs to train, {val} to validate; {types} distortion types, {classes} classes")
    if "labeled" in splits:
        counts = ", ".join(f"{len(splits['labeled'][part])} {part}" for part in ("train", "val", "test"))
        print(f"labeled: {settings['labeled']}, by reference image: {counts}")
    chance = math.log(2 * settings["batch_size"] - 1)
    print(f"{steps} steps an epoch on {device}; L_cont is about {chance:.2f} where features say nothing")
    print(f"run folder: {out}", flush=True)


def print_epoch(record: dict[str, Any], epochs: int, is_best: bool) -> None:
    """A line of log.jsonl, for people; * marks the best epoch so far."""
    labeled = "L_r" in record
    print(
        f"epoch {record['epoch']:>3}/{epochs}  L_cont {record['L_cont']:.3f}"
        + (f"  L_r {record['L_r']:.3f}" if labeled else "")
        + f" | validation: L {record['val_L']:.3f}  L_cont {record['val_L_cont']:.3f}"
        + (f"  L_r {record['val_L_r']:.3f}  SROCC {record['val_SROCC']:.3f}" if labeled else "")
        + f" | {record['pictures_per_second']:.0f} pictures/s, {record['minutes']:.1f} min"
        + (" *" if is_best else ""),
        flush=True,
    )


def print_end(accuracies: dict[str, dict[str, float]], types: int, skipped: int, encoder: Path, minutes: float) -> None:
    """What the best encoder has learned (`probe.probe_types`, by name, of so many types), and what to do with it."""
    if skipped:
        print(f"{skipped} files could not be read and were skipped")
    print(f"Which of the {types} types has a validation photograph? (chance {1 / types:.0%})")
    for name, shares in accuracies.items():
        print(f"  {name}: a linear probe names {shares['linear']:.0%}, the nearest neighbor {shares['neighbor']:.0%}")
    print(f"{minutes:.1f} minutes. The encoder of the best epoch (*) is {encoder}")
    flag = "" if encoder == Path("runs/joint/encoder.pt") else f" --encoder {encoder}"
    print(f"Next: python finetune.py --mode lp-ft{flag}")
