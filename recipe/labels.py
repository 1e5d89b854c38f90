"""The labels of the model in the package: opinions of real photographs, and class means of distorted ones.

    python recipe/labels.py clive:DIR/clive DIR/photographs DIR/labels

writes distorted photographs, scores.csv, all.csv and levels.csv into a new folder. In scores.csv are the labeled set's
images with their opinions, and each of the 125 distortion classes 16 times, or once less, with KADID-10k's mean opinion
of that class, besides 100 pristine images, or a few less: one or two of each photograph. all.csv has the same images,
but what finetune.py tests with seed 0 in scores.csv, of the labeled set, is trained on. levels.csv has 21 of the
photographs that are trained on in all classes.

Both kinds of scores go from 0 to 100. Class means have a scale of their own: the worst class becomes 8 and the
best 82, as the worst and the best of LIVE In the Wild's photographs have (their 2nd and 95th percentiles).
"""

import argparse
import csv
import random
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from itertools import cycle
from pathlib import Path

import torch
from torch import Tensor

from ssl_iqa.data import sets
from ssl_iqa.data.demo import load_demo
from ssl_iqa.data.images import list_images, read_image, reduced
from ssl_iqa.data.seen import divide
from ssl_iqa.data.views import to_bytes, to_float
from ssl_iqa.distortions import KADIS, distort_as
from ssl_iqa.distortions.compression import to_pil
from ssl_iqa.engine import console
from ssl_iqa.engine.device import cpu_cores

PER_CLASS, PRISTINE = 16, 100
WORST, BEST = 8.0, 82.0  # of class means, on the scale of 0 to 100
LONG_SIDE = 512
WITH_ALL, SIDES = 21, (384, 512, 320)  # photographs in all classes, and their long sides, in turns
COLUMNS = ("image", "score", "reference", "distortion")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labeled", help="a set of real opinions, as train_joint.py's --labeled")
    parser.add_argument("photographs", type=Path, help="a folder of pristine ones")
    parser.add_argument("out", type=Path, help="a new folder")
    args = parser.parse_args(arguments)
    with console.clear_errors():
        real = sets.load_labeled(args.labeled)
        photographs = list_images(args.photographs)
        args.out.mkdir(parents=True)
    drawn = draw_classes(len(photographs))
    with ProcessPoolExecutor(cpu_cores()) as pool:
        jobs = pool.map(partial(write_images, args.out), photographs, (drawn[n] for n in range(len(photographs))))
        made = [row for rows in console.bar(jobs, "photographs", len(photographs)) for row in rows]
    rows = [
        (str(Path(path).resolve()), (score - 1) / 9 * 100, f"real/{name}", "")
        for path, score, name in zip(real.paths, real.scores, real.references, strict=True)
    ]
    write_csv(rows + made, args.out / "scores.csv")
    split = divide(sets.load_labeled(f"csv:{args.out / 'scores.csv'}"), {}, seed=0)
    trained = next(name for name in split["train"] if name.startswith("real/"))
    more = {name for name in split["test"] if name.startswith("real/")}
    rows = [(*row[:2], trained if row[2] in more else row[2], row[3]) for row in rows]
    write_csv(rows + made, args.out / "all.csv")
    chosen = [path for path in photographs if f"synth/{Path(path).stem}" in {*split["train"]}]
    random.Random(7).shuffle(chosen)
    chosen = chosen[:WITH_ALL]
    (args.out / "levels").mkdir()
    with ProcessPoolExecutor(cpu_cores()) as pool:
        jobs = pool.map(partial(write_levels, args.out), chosen, cycle(SIDES))
        made = [row for rows in console.bar(jobs, "photographs in all levels", len(chosen)) for row in rows]
    write_csv(made, args.out / "levels.csv")


def draw_classes(photographs: int) -> dict[int, list[int]]:
    """The classes of each photograph, without repetition: indices of KADIS, -1 for the photograph as it is."""
    classes = [*range(len(KADIS))] * PER_CLASS + [-1] * PRISTINE
    random.Random(0).shuffle(classes)
    drawn: dict[int, list[int]] = defaultdict(list)
    for n, k in enumerate(classes):
        if k not in drawn[n % photographs]:
            drawn[n % photographs].append(k)
    return drawn


def write_images(out: Path, path: str, classes: list[int]) -> list[tuple[str, float, str, str]]:
    """Writes a photograph's versions. Returns their rows of the CSV file."""
    torch.set_num_threads(1)
    x_u = to_float(reduced(read_image(path), LONG_SIDE))  # [3, H, W]
    return [write_image(x_u, k, k + 1, out, f"{Path(path).stem}-{name_of(k)}.png", path) for k in classes]


def write_levels(out: Path, path: str, side: int) -> list[tuple[str, float, str, str]]:
    """`write_images` of all classes, at a long side."""
    torch.set_num_threads(1)
    x_u, stem = to_float(reduced(read_image(path), side)), Path(path).stem
    return [
        write_image(x_u, k, 0 if k < 0 else KADIS[k].level, out, f"levels/{stem}-{name_of(k)}.png", path)
        for k in range(-1, len(KADIS))
    ]


def write_image(x_u: Tensor, k: int, seed: int, out: Path, file: str, path: str) -> tuple[str, float, str, str]:
    """Writes a photograph [3, H, W] in a class, or as it is. Returns its row of the CSV file."""
    x_d = x_u if k < 0 else distort_as(x_u, KADIS[k], torch.Generator().manual_seed(seed))
    to_pil(to_bytes(x_d)).save(out / file, compress_level=1)
    return file, score_of(k), f"synth/{Path(path).stem}", "pristine" if k < 0 else KADIS[k].name


@cache
def score_of(k: int) -> float:
    """KADID-10k's mean opinion of a class, the best one's of a photograph as it is, from `WORST` to `BEST`."""
    demo = load_demo()
    means = dict(zip(demo.classes, demo.scores, strict=True))
    low, high = min(means.values()), max(means.values())
    return WORST + ((high if k < 0 else means[k]) - low) / (high - low) * (BEST - WORST)


def name_of(k: int) -> str:
    return "pristine" if k < 0 else f"{KADIS[k].name}-{KADIS[k].level}"


def write_csv(rows: list[tuple[str, float, str, str]], path: Path) -> None:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])


if __name__ == "__main__":
    main()
