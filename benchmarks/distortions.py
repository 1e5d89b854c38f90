"""Milliseconds of each distortion type, images a second of the view pipeline; or the device beside both.

python -m benchmarks.distortions                    each type on one thread, and the pipeline of 1 and 2 workers
python -m benchmarks.distortions --device cuda      distorting there, the workers, and the encoder's part of a step
"""

import argparse
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import torch
from scipy import ndimage

import train_joint
from benchmarks.timing import MANY, SIZE, photographs, seconds
from ssl_iqa.archs import ARCHS
from ssl_iqa.data.datasets import UnlabeledViews, distorted_views
from ssl_iqa.data.demo import demo_sources
from ssl_iqa.data.images import list_images, read_image
from ssl_iqa.data.samplers import Draw
from ssl_iqa.data.streams import Streams
from ssl_iqa.data.views import to_float
from ssl_iqa.distortions import KADIS, distort_as, on_cpu_only
from ssl_iqa.engine import console
from ssl_iqa.engine.device import autocast, cpu_cores, use_device
from ssl_iqa.engine.settings import Parser, whole
from ssl_iqa.engine.weights import load_encoder
from ssl_iqa.losses import supervised_nt_xent
from ssl_iqa.model import Networks

BATCH = 25  # images of the pipeline's batches, each of another class
ENCODED = 250  # images at most that time the encoder: of 1000 images ResNet-50 needs some 90 GB


def print_types(path: str, repeats: int) -> None:
    """A line a type: the mean of its five levels' medians, the slowest level, its share of all types' time."""
    x_u = to_float(read_image(path))  # [3, 384, 512]
    cpu, by_type = torch.device("cpu"), {}
    for distortion in KADIS:  # warm-up: kernels are cached, the allocator grows
        distort_as(x_u, distortion)
    for distortion in KADIS:
        generator = torch.Generator().manual_seed(0)
        taken = seconds(lambda d=distortion, g=generator: distort_as(x_u, d, g), repeats, cpu)
        by_type.setdefault(distortion.name, []).append(1000 * taken)
    total = sum(map(sum, by_type.values()))
    print(f"one thread of {cpu_cores()} cores, {SIZE[0]}x{SIZE[1]} float32, medians of {repeats}, mean of 5 levels")
    print(f"{'type':<30} {'ms':>7} {'slowest level':>14} {'share':>7}")
    for name, times in by_type.items():
        print(f"{name:<30} {sum(times) / 5:7.2f} {max(times):14.2f} {sum(times) / total:7.1%}")
    print(f"{'mean of the 25 types':<30} {total / 125:7.2f}")
    print(f"{'.. without jpeg2000':<30} {(total - sum(by_type['jpeg2000'])) / 120:7.2f}")
    yardstick = seconds(lambda: ndimage.gaussian_filter(x_u.numpy(), (0, 2, 2)), repeats, cpu)
    print(f"{'yardstick: scipy, sigma 2':<30} {1000 * yardstick:7.2f}   (ndimage.gaussian_filter on the same image)")


def pipeline_speed(paths: Sequence[str], workers: int, images: int) -> float:
    """Images a second of Section 3.1's stream: read, distorted by random classes, two crops of 224."""
    dataset = UnlabeledViews(paths, size=224)
    dataset.KEEP = 0  # read every time, as from a large set
    settings = {"batch_size": BATCH, "images_per_class": 1, "epoch_size": images, "workers": workers}
    streams = Streams(dataset, None, replace(train_joint.PRESETS["paper"], **settings), torch.device("cpu"))
    batches = streams.batches(0)
    next(batches)  # workers have started
    began = perf_counter()
    count = sum(BATCH for _ in batches)
    return count / (perf_counter() - began)


def print_workers(paths: Sequence[str], counts: Collection[int], images: int) -> None:
    for workers in counts:
        speed = pipeline_speed(paths, workers, images)
        print(f"{f'{workers} workers, a thread each: read, distort, two crops':<52} {speed:9.1f} images/s")


def print_device(paths: Sequence[str], args: argparse.Namespace, device: torch.device) -> None:
    """Distorting a step's images on the device beside the encoder's forward and backward pass of their views."""
    size, dataset = args.batch_size, UnlabeledViews([], size=224)
    images = [read_image(path) for path in paths]
    x_u = torch.stack([images[i % len(images)] for i in range(size)]).to(device)  # [B, 3, 384, 512]
    there = [k for k, distortion in enumerate(KADIS) if not on_cpu_only(distortion)]  # the others stay with the workers
    classes = [there[i] for i in torch.randint(len(there), (size,), generator=torch.Generator().manual_seed(0))]
    draws = [Draw(i, i, distortion_class) for i, distortion_class in enumerate(classes)]
    distorting = size / seconds(lambda: distorted_views(x_u, draws, dataset), args.repeats, device)

    nets = Networks(load_encoder("random", args.arch), 5.5).to(device, memory_format=torch.channels_last)
    x_d = to_float(distorted_views(x_u[:ENCODED], draws[:ENCODED], dataset).flatten(0, 1))  # [N_U, 3, 224, 224]
    targets = torch.tensor(classes[:ENCODED], device=device).repeat(2)

    def encode() -> None:
        with autocast(device, args.amp):
            p = nets.project(x_d)
        supervised_nt_xent(p, targets).backward()
        nets.zero_grad()

    encoding = len(x_d) / 2 / seconds(encode, args.repeats, device)
    print(f"{f'{device.type}: distort {size} images, two crops':<52} {distorting:9.1f} images/s")
    print(f"{f'{device.type}: {args.arch}, --amp {args.amp}, forward and backward':<52} {encoding:9.1f} images/s")
    print(f"share of distorting in a step that distorts on the device: {encoding / (encoding + distorting):.0%}")


def main(arguments: list[str] | None = None) -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=whole(1, MANY), default=5, help="of each measurement (5)")
    parser.add_argument("--images", type=whole(2 * BATCH, MANY), default=525, help="through the pipeline (525)")
    parser.add_argument("--photographs", default="demo", help="a folder of images, of which 12 are used (the demo's)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), help="distort there, too")
    parser.add_argument("--batch-size", type=whole(1, MANY), default=1000, help="images distorted at once there (1000)")
    parser.add_argument("--arch", choices=tuple(ARCHS), default="resnet50", help="the encoder (resnet50)")
    parser.add_argument("--amp", choices=("bf16", "fp16", "off"), default="off", help="its precision (off)")
    args = parser.parse_args(arguments)
    with TemporaryDirectory() as folder, console.clear_errors():
        sources = demo_sources() if args.photographs == "demo" else list_images(args.photographs)
        paths = photographs(Path(folder), 12, sources)
        if args.device:
            device = use_device(args.device, workers=0, amp=args.amp)
            print_workers(paths, [cpu_cores()], args.images)
            print_device(paths, args, device)
        else:
            torch.set_num_threads(1)
            print_types(paths[0], args.repeats)
            print_workers(paths, (1, 2), args.images)


if __name__ == "__main__":
    main()
