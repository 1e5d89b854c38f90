"""How fast the parts are, as tables.

    python -m benchmarks.bench distortions    each type on one thread, and the pictures a second of the view pipeline
    python -m benchmarks.bench device         distorting a step's pictures on the device, beside the encoder's own work
    python -m benchmarks.bench loss           Eq. 5 all at once and in chunks: time and peak memory by number of views
    python -m benchmarks.bench shards         the unlabeled stream from tar shards, beside the same pictures as files
    python -m benchmarks.bench step           train_joint.py's step, its parts and its loop, with any flags of its own
    python -m benchmarks.bench score          scoring files, beside the bare encoder on what they hold

Times are medians after a warm-up. Machines differ and are noisy: compare within one run, the yardstick is for that.
"""

import argparse
import importlib.util
import io
import json
import math
import multiprocessing
import os
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from ssl_iqa.data import views
from ssl_iqa.data.datasets import UnlabeledViews, distorted_views
from ssl_iqa.data.demo import demo_sources
from ssl_iqa.data.images import decode_image, read_image
from ssl_iqa.data.joint_run import find_images, make_streams
from ssl_iqa.data.samplers import Draw
from ssl_iqa.data.shards import Shard, ShardViews, list_shards, read_shard
from ssl_iqa.data.streams import Streams
from ssl_iqa.distortions import KADIS, distort_as, load_distortions
from ssl_iqa.engine import console, run_folder
from ssl_iqa.engine.device import autocast, cpu_cores, use_device
from ssl_iqa.engine.settings import Parser, flag
from ssl_iqa.engine.weights import load_encoder
from ssl_iqa.losses import supervised_nt_xent
from ssl_iqa.model import ARCHS, Networks, Regressor
from ssl_iqa.scoring import quality

SIZE = (512, 384)  # width and height of KADIS-700k's pictures
PIPELINE = 525  # pictures through the view pipeline, each time
TARS = 4


def seconds(work: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Median time of a call, after one that does not count."""
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return median(times[1:])


def in_turns(works: dict[str, Callable[[], object]], repeats: int, device: torch.device) -> dict[str, float]:
    """Median time of each, taken in turns, so that what else the machine does meets all of them."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            times[name].append(seconds(work, 1, device))
    return {name: median(values) for name, values in times.items()}


def photographs(folder: Path, count: int) -> list[str]:
    """Demo photographs as JPEG files of KADIS-700k's size."""
    paths = []
    for i, path in enumerate(list(demo_sources())[:count]):
        with Image.open(path) as photograph:
            photograph.resize(SIZE, Image.Resampling.BICUBIC).save(folder / f"{i}.jpg", quality=90)
        paths.append(str(folder / f"{i}.jpg"))
    return paths


def bench_types(path: str, repeats: int) -> None:
    """A line a type: the mean of its five levels' medians, the slowest level, its share of all types' time."""
    x_u = views.to_float(read_image(path))  # [3, 384, 512]
    cpu, by_type = torch.device("cpu"), {}
    for distortion in KADIS:  # a round that does not count: kernels are cached, the allocator grows
        distort_as(x_u, distortion)
    for distortion in KADIS:
        generator = torch.Generator().manual_seed(0)
        taken = seconds(lambda d=distortion, g=generator: distort_as(x_u, d, g), repeats, cpu)
        by_type.setdefault(distortion.name, []).append(1000 * taken)
    total = sum(map(sum, by_type.values()))
    print(f"{'type':<30} {'ms':>7} {'slowest level':>14} {'share':>7}   (medians of {repeats}, mean of 5 levels)")
    for name, times in by_type.items():
        print(f"{name:<30} {sum(times) / 5:7.2f} {max(times):14.2f} {sum(times) / total:7.1%}")
    without = total - sum(by_type["jpeg2000"])
    print(f"{'mean of the 25 types':<30} {total / 125:7.2f}")
    print(f"{'.. without jpeg2000':<30} {without / 120:7.2f}")
    array = x_u.numpy()
    yardstick = seconds(lambda: ndimage.gaussian_filter(array, (0, 2, 2)), repeats, cpu)
    print(f"{'yardstick: scipy, sigma 2':<30} {1000 * yardstick:7.2f}   (ndimage.gaussian_filter on the same picture)")


def bench_pipeline(dataset: UnlabeledViews, workers: int, pictures: int) -> float:
    """Pictures a second of Section 3.1's stream: read, distorted by random classes (25 different ones), two crops."""
    dataset.KEEP = 0  # read every time, as from a set of many
    batch_size = 25
    settings = SimpleNamespace(batch_size=batch_size, images_per_class=1, epoch_size=pictures, workers=workers)
    settings.seed, settings.views = 0, 2
    streams = Streams(dataset, None, settings, torch.device("cpu"))
    batches = streams.batches(0)
    next(batches)  # workers have started
    began, count = time.perf_counter(), 0
    for _ in batches:
        count += batch_size
    return count / (time.perf_counter() - began)


def bench_distortions(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    print(f"one thread of {cpu_cores()} cores, {SIZE[0]}x{SIZE[1]} float32")
    with TemporaryDirectory() as folder:
        paths = photographs(Path(folder), 12)
        bench_types(paths[0], args.repeats)
        dataset = UnlabeledViews(paths, size=224)
        print("\nthe view pipeline: read a JPEG file, distort, two crops of 224; one thread a worker")
        for workers in (1, 2):
            speeds = [bench_pipeline(dataset, workers, args.pictures) for _ in range(3)]
            name = "1 worker " if workers == 1 else f"{workers} workers"
            print(f"{name} {median(speeds):7.1f} pictures/s   (median of 3)")


def bench_device(args: argparse.Namespace) -> None:
    """Distorting B pictures of mixed classes, and the encoder's step on their 2B views."""
    device = use_device(args.device, workers=0)
    batch_size = args.batch_size or (1000 if device.type == "cuda" else 8)
    rng = np.random.default_rng(0)
    with TemporaryDirectory() as folder:
        photos = [read_image(path) for path in photographs(Path(folder), 12)]
    pictures = torch.stack([photos[i % len(photos)] for i in range(batch_size)]).to(device)  # [B, 3, 384, 512]
    classes = rng.integers(len(KADIS), size=batch_size).tolist()
    draws = [Draw(i, i, one) for i, one in enumerate(classes)]
    dataset = UnlabeledViews([], size=224)
    distorting = seconds(lambda: distorted_views(pictures, draws, dataset), args.repeats, device)

    nets = Networks(load_encoder("random", args.arch), 5.5).to(device, memory_format=torch.channels_last)
    x_d = distorted_views(pictures, draws, dataset).flatten(0, 1)  # [2B, 3, 224, 224]
    targets = torch.tensor(classes, device=device).repeat(2)

    def step() -> None:
        with autocast(device, "bf16" if device.type == "cuda" else "off"):
            p = nets.projector(nets.encoder(x_d))
        supervised_nt_xent(p, targets, 0.5).backward()
        nets.zero_grad()

    encoding = seconds(step, args.repeats, device)
    print(f"{batch_size} pictures of {SIZE[0]}x{SIZE[1]} on {device}, medians of {args.repeats}")
    print(f"distorting and two crops of 224  {distorting:8.3f} s  {batch_size / distorting:8.1f} pictures/s")
    print(f"{args.arch}, forward and backward  {encoding:8.3f} s  distorting is {distorting / encoding:.0%} of it")


def peak_memory(device: torch.device) -> float:
    """The most that this process has held so far, in MiB: on CUDA of tensors, else resident (Linux)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    # Not getrusage's ru_maxrss, which begins with the peak of the process that started this one.
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 2**10


def in_new_process(work: Callable[..., Any], *arguments: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(work, *arguments).result()


def loss_cost(n_views: int, processes: int, chunked: bool, repeats: int, device_name: str) -> tuple[float, float]:
    """Seconds of a process's share of Eq. 5, forward and backward, and the MiB it adds to the peak of this process.

    So use a fresh one.
    """
    device = use_device(device_name, workers=0)
    settings = {} if chunked else {"max_similarities": n_views**2}

    def inputs(n: int) -> tuple[torch.Tensor, torch.Tensor]:
        p = torch.randn(n, 128, device=device, requires_grad=True)  # [N, 128]
        return p, torch.arange(n, device=device) % len(KADIS)

    def step(p: torch.Tensor, classes: torch.Tensor) -> None:
        anchors = (0, len(p) // processes)
        torch.autograd.grad(supervised_nt_xent(p, classes, anchors=anchors, **settings), p)

    p, classes = inputs(n_views)
    step(*inputs(16 * processes))  # threads have started, libraries have their memory
    before = peak_memory(device)
    taken = seconds(lambda: step(p, classes), repeats, device)
    return taken, peak_memory(device) - before


def bench_loss(args: argparse.Namespace) -> None:
    """A line a number of views and of processes: a share all at once, and in the chunks the loss takes by default."""
    for name, least in (("views", 2), ("processes", 1)):
        if min(getattr(args, name)) < least:
            raise ValueError(f"--{name} {min(getattr(args, name))}: {least} or more is wanted")
    shares = [(n_views, processes) for n_views in args.views for processes in args.processes]
    for n_views, processes in shares:
        if n_views % processes:
            raise ValueError(f"--processes {processes}: {n_views} views cannot be divided evenly among so many")
    name = "cpu" if args.device == "auto" and not torch.cuda.is_available() else args.device
    device = use_device(name, workers=0)
    print(f"Eq. 5, forward and backward, on {device}: views of 128 numbers in 125 classes, medians of {args.repeats}")
    print("the share of one of the processes, which compares its part of the views with all of them")
    print(f"{'':>18} {'plain':>19} {'chunked':>19} {'chunked / plain':>15}")
    print(f"{'views':>8} {'processes':>9} {'s':>9} {'MiB':>9} {'s':>9} {'MiB':>9} {'s':>7} {'MiB':>7}")
    for n_views, processes in shares:
        (plain_s, plain), (chunked_s, chunked) = (
            in_new_process(loss_cost, n_views, processes, in_chunks, args.repeats, device.type)
            for in_chunks in (False, True)
        )
        costs = f"{plain_s:9.4f} {plain:9.1f} {chunked_s:9.4f} {chunked:9.1f}"
        ratios = f"{chunked_s / plain_s:7.2f} {chunked / (plain or math.nan):7.2f}"  # a few views take no new memory
        print(f"{n_views:8} {processes:9} {costs} {ratios}", flush=True)


def write_pictures(folder: Path, count: int) -> tuple[list[str], str]:
    """`count` pictures, demo photographs under ever new names, twice: (the paths of files, the spec of tars)."""
    contents = [Path(path).read_bytes() for path in photographs(folder, count)]
    paths = [folder / f"picture{i}.jpg" for i in range(count)]
    for i, path in enumerate(paths):
        path.write_bytes(contents[i % len(contents)])
    for number in range(TARS):
        with tarfile.open(folder / f"{number}.tar", "w", format=tarfile.GNU_FORMAT) as archive:  # the tar command's
            for path in paths[number * count // TARS : (number + 1) * count // TARS]:
                archive.add(path, path.name)
    return [str(path) for path in paths], f"{folder}/{{0..{TARS - 1}}}.tar"


def source_speeds(shards: Sequence[Shard], paths: Sequence[str], repeats: int) -> Iterator[tuple[str, float, float]]:
    """(what is done, pictures a second from shards, from files) for reading, decoding and the view pipeline."""
    order = np.random.default_rng(0).permutation(paths).tolist()

    def from_shards(decode: bool) -> None:
        for shard in shards:
            for name, encoded in read_shard(shard.path):
                if decode:
                    decode_image(io.BytesIO(encoded), name)

    def from_files(decode: bool) -> None:
        for path in order:
            if decode:
                read_image(path)
            else:
                Path(path).read_bytes()

    for name, decode in (("read", False), ("read, decode", True)):
        works = {"shards": partial(from_shards, decode), "files": partial(from_files, decode)}
        times = in_turns(works, repeats, torch.device("cpu"))
        yield name, len(paths) / times["shards"], len(paths) / times["files"]
    of_level_3 = KADIS[2::5]  # a batch has each type once, so that both sources have the same work
    datasets = (
        ShardViews(shards, size=224, distortions=of_level_3),
        UnlabeledViews(paths, size=224, distortions=of_level_3),
    )
    pictures = min(len(paths), PIPELINE)
    for name, workers in (("views, 1 worker", 1), ("views, 2 workers", 2)):
        speeds = [[bench_pipeline(dataset, workers, pictures) for dataset in datasets] for _ in range(repeats)]
        yield name, *map(median, zip(*speeds, strict=True))


def bench_shards(args: argparse.Namespace) -> None:
    """Tar shards beside the same pictures as files."""
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        paths, spec = write_pictures(Path(folder), args.pictures)
        shards = list_shards(spec)
        counting = seconds(lambda: list_shards(spec), args.repeats, torch.device("cpu"))
        size = sum(shard.size for shard in shards) / len(paths)
        in_tar = sum(os.path.getsize(shard.path) for shard in shards) / len(paths)
        print(f"{len(paths)} JPEG pictures of {SIZE[0]}x{SIZE[1]}, in {TARS} tars and as files")
        print("the page cache is warm: pictures are read from memory; a disk or a network may be slower")
        print("views: read, distorted by each type at level 3, two crops of 224; one thread a worker")
        print(f"medians of {args.repeats}")
        print(f"{'bytes a picture':<24} {size:9.0f}, {in_tar:.0f} in a tar")
        print(f"{'counting, 0 workers':<24} {len(paths) / counting:9.0f} headers/s")
        print(f"{'':<24} {'shards':>20} {'files, random order':>20} {'shards / files':>14}")
        print(f"{'':<24} {'MB/s':>9} {'pictures/s':>10} {'MB/s':>9} {'pictures/s':>10}")
        for name, *speeds in source_speeds(shards, paths, args.repeats):
            cells = " ".join(f"{speed * size / 1e6:9.1f} {speed:10.1f}" for speed in speeds)
            print(f"{name:<24} {cells} {speeds[0] / speeds[1]:14.2f}", flush=True)


def load_script(path: Path) -> ModuleType:
    """train_joint.py, whose own functions are timed."""
    if not path.is_file():
        raise FileNotFoundError(f"--script {path}: no such file; train_joint.py is wanted")
    spec = importlib.util.spec_from_file_location("train_joint", path)
    sys.modules["train_joint"] = script = importlib.util.module_from_spec(spec)  # its dataclass looks there
    spec.loader.exec_module(script)
    return script


def step_times(script: ModuleType, settings: Any, device: torch.device, repeats: int) -> dict[str, float]:
    """Seconds of the bare encoder, of a full step, and of the step's parts, on pictures that are there already."""
    nets = Networks(load_encoder("random", settings.arch), 5.5).to(device, memory_format=torch.channels_last)
    if settings.compile:
        nets.encoder.compile()
    optimizer = script.make_optimizer(nets.train(), settings)
    sizes = (settings.views * settings.batch_size, settings.labeled_batch_size)
    x_d, x = (torch.rand(n, 3, settings.crop, settings.crop, device=device) for n in sizes)
    classes = torch.arange(settings.batch_size, device=device).remainder(len(KADIS)).repeat(settings.views)
    y = torch.rand(len(x), device=device)
    p = torch.randn(len(x_d), 128, device=device, requires_grad=True)
    gradients = {"project": torch.randn_like(p), "predict": torch.randn_like(y)}

    def encoder_alone() -> None:
        for images in (x_d, x):
            with autocast(device, settings.amp):
                z = nets.encoder(images)
            z.float().square().mean().backward()
        nets.zero_grad()

    def one_pass(part: str, images: Tensor) -> None:
        with autocast(device, settings.amp):
            out = getattr(nets, part)(images)
        out.float().backward(gradients[part])

    def step() -> None:
        optimizer.zero_grad()
        script.joint_step(nets, (x_d, classes), (x, y), settings)
        optimizer_step()

    def optimizer_step() -> None:
        script.gradient_norm(nets)
        optimizer.step()

    works = {
        "the bare encoder": encoder_alone,
        "the full step": step,
        "unlabeled pass": lambda: one_pass("project", x_d),
        "labeled pass": lambda: one_pass("predict", x),
        "loss, Eq. 5": lambda: supervised_nt_xent(p, classes, settings.temperature, settings.average).backward(),
        "optimizer": optimizer_step,
    }
    return in_turns(works, repeats, device)


def loading_seconds(script: ModuleType, settings: Any, repeats: int) -> float:
    """What a step's pictures cost one core, of the workers' work: reading, distorting, cropping, for both streams."""
    torch.set_num_threads(1)
    settings = replace(settings, workers=0, epoch_size=(repeats + 1) * settings.batch_size)
    images = find_images(settings, load_distortions(settings.distortions))
    streams, _ = make_streams(images, torch.device("cpu"), settings)
    unlabeled, labeled = iter(streams.unlabeled), iter(streams.labeled)
    return seconds(lambda: ([next(unlabeled) for _ in range(streams.parts)], next(labeled)), repeats, streams.device)


def loop_record(script: Path, flags: Sequence[str], settings: Any, pictures: int) -> dict[str, Any]:
    """The log's line of the second of two epochs of `pictures`, trained as users train."""
    with TemporaryDirectory() as folder:
        size = max(1, pictures // settings.batch_size) * settings.batch_size
        short = {"epochs": 2, "epoch-size": size, "validation-size": settings.batch_size, "out": f"{folder}/run"}
        ends = [part for name, value in short.items() for part in (f"--{name}", str(value))]
        done = subprocess.run([sys.executable, str(script), *flags, *ends], capture_output=True, text=True)
        if done.returncode:
            raise ValueError(f"--script {script}: it failed: {done.stderr.strip().splitlines()[-1]}")
        return json.loads(Path(folder, "run", run_folder.LOG).read_text().splitlines()[1])


def bench_step(args: argparse.Namespace) -> None:
    """The step of train_joint.py beside the bare encoder's work in it, its parts, and the loop beside its bound."""
    script = load_script(args.script)
    settings, _ = script.parse_arguments(args.flags)
    if settings.alpha == 1:
        raise ValueError("--alpha 1: the step of both losses is timed; an alpha below 1 is wanted")
    device = use_device(settings.device, workers=0, amp=settings.amp)
    count, threads = settings.batch_size + settings.labeled_batch_size, torch.get_num_threads()
    times = step_times(script, settings, device, args.repeats)
    bare, full = times.pop("the bare encoder"), times.pop("the full step")
    sizes = f"{settings.batch_size} + {settings.labeled_batch_size} pictures of {settings.crop} pixels"
    print(
        f"{settings.arch}, {sizes}, --amp {settings.amp}, on {device} with {threads} threads; medians of {args.repeats}"
    )
    print(f"{'loading switched off':<24} {'s a step':>9} {'pictures/s':>11}")
    print(f"{'the bare encoder':<24} {bare:9.4f} {count / bare:11.1f}")
    print(f"{'the full step':<24} {full:9.4f} {count / full:11.1f}   {bare / full:.0%} of the bare encoder")
    for name, taken in times.items():
        print(f"  {name:<22} {taken:9.4f} {'':>11}   {taken / sum(times.values()):.1%} of the parts")
    if args.pictures:
        bench_loop(args, script, settings, device, full)


def bench_loop(args: argparse.Namespace, script: ModuleType, settings: Any, device: torch.device, full: float) -> None:
    """The loop beside what the cores allow: they load the pictures, and on a CPU take the steps, too."""
    cores, count = cpu_cores(), settings.batch_size + settings.labeled_batch_size
    if device.type == "cuda":
        torch.cuda.empty_cache()  # for the process that trains
    record = loop_record(args.script, args.flags, settings, args.pictures)
    loading = loading_seconds(script, settings, 4 * args.repeats)  # and from here on one thread
    if device.type == "cpu":
        on_one = step_times(script, settings, device, args.repeats)["the full step"]
        allowed = (loading + on_one) / cores
        how = f"({loading:.4f} s to load + {on_one:.4f} s a step, on one core each) / {cores} cores"
    else:
        allowed = max(full, loading / cores)
        how = f"the full step, or {loading:.4f} s to load / {cores} cores, whichever is longer"
    taken = count / record["pictures_per_second"]
    print(f"the loop, {settings.workers} workers")
    print(f"{'what the cores allow':<24} {allowed:9.4f} {count / allowed:11.1f}   {how}")
    share = f"{allowed / taken:.0%} of it, {record['data_wait']:.0%} of the time waiting for pictures"
    print(f"{'the loop as users run it':<24} {taken:9.4f} {count / taken:11.1f}   {share}")


@torch.no_grad()
def bench_score(args: argparse.Namespace) -> None:
    """Files to scores as ssl_iqa.scoring.score makes them, beside the encoder on crops that are in memory already."""
    device = use_device(args.device, workers=0)
    encoder = load_encoder("random", args.arch)
    settings = {"data": "", "crops": "five", "crop": 224}
    regressor = Regressor(encoder.dim)
    model = quality.QualityModel(encoder.eval(), regressor.eval(), (1, 10), settings, {}, torch.empty(0)).to(device)
    with TemporaryDirectory() as folder:
        paths = (photographs(Path(folder), 12) * args.pictures)[: args.pictures]
        held = [quality.crops_of(model, read_image(path)) for path in paths]
        batches = torch.cat(held).to(device).split(quality.AT_ONCE_PIXELS // 224**2)
        works = {
            "the bare encoder": lambda: [model.encoder(batch) for batch in batches],
            "scoring files": lambda: list(quality.score_files(model, paths, cpu_cores())),
            ".. reading them alone": lambda: [quality.crops_of(model, read_image(path)) for path in paths],
        }
        times = in_turns(works, args.repeats, device)
    print(f"{args.arch} on {device.type}, {cpu_cores()} cores, {args.pictures} JPEG files of {SIZE[0]}x{SIZE[1]}")
    print(f"\n{'':<22} seconds  pictures/s")
    for name, time_taken in times.items():
        share = f"{times['the bare encoder'] / time_taken:.0%} of the bare encoder" if name == "scoring files" else ""
        print(f"{name:<22} {time_taken:7.3f} {args.pictures / time_taken:11.1f}   {share}".rstrip())
    print(f"\nmedians of {args.repeats}")


def main(arguments: list[str] | None = None) -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    distortions = commands.add_parser("distortions", help="each type on one thread, and the view pipeline")
    distortions.add_argument("--repeats", type=int, default=5, help="of each measurement")
    distortions.add_argument("--pictures", type=int, default=PIPELINE, help="through the pipeline, each time")
    distortions.set_defaults(run=bench_distortions)
    device = commands.add_parser("device", help="distorting on the device, beside the encoder's step")
    device.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    device.add_argument("--batch-size", type=int, default=0, help="pictures (1000 with CUDA, else 8)")
    device.add_argument("--arch", choices=tuple(ARCHS), default="resnet50")
    device.add_argument("--repeats", type=int, default=3, help="of each measurement")
    device.set_defaults(run=bench_device)
    loss = commands.add_parser("loss", help="time and memory of Eq. 5, all at once and in chunks")
    loss.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    loss.add_argument("--views", type=int, nargs="+", default=[1000, 2000, 4096, 8192, 16384])
    loss.add_argument("--processes", type=int, nargs="+", default=[1], help="that share the views' anchors")
    loss.add_argument("--repeats", type=int, default=3, help="of each measurement")
    loss.set_defaults(run=bench_loss)
    shards = commands.add_parser("shards", help="the unlabeled stream from tars, beside the same pictures as files")
    shards.add_argument("--pictures", type=int, default=2000, help="in the tars, and as files")
    shards.add_argument("--repeats", type=int, default=3, help="of each measurement")
    shards.set_defaults(run=bench_shards)
    step = commands.add_parser("step", help="train_joint.py's step and loop; other flags are given on to it")
    step.add_argument("--script", type=Path, default=Path("train_joint.py"), help="where it is (train_joint.py)")
    step.add_argument("--repeats", type=int, default=7, help="of each measurement")
    step.add_argument("--pictures", type=int, default=6400, help="of an epoch of the loop; 0: without the loop")
    step.set_defaults(run=bench_step)
    scoring = commands.add_parser("score", help="scoring files, beside the bare encoder")
    scoring.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    scoring.add_argument("--arch", choices=tuple(ARCHS), default="resnet50")
    scoring.add_argument("--pictures", type=int, default=48, help="to be scored, each time")
    scoring.add_argument("--repeats", type=int, default=5, help="of each measurement")
    scoring.set_defaults(run=bench_score)
    args, flags = parser.parse_known_args(arguments)
    if flags and args.command != "step":
        parser.refuse(args, flags)
    args.flags = flags
    with console.clear_errors():
        fewest = {"distortions": 50, "shards": 50, "score": 1}.get(args.command, 0)
        for name, least in (("repeats", 1), ("pictures", fewest), ("batch_size", 0)):
            if getattr(args, name, least) < least:
                raise ValueError(f"{flag(name)} {getattr(args, name)}: {least} or more is wanted")
        args.run(args)


if __name__ == "__main__":
    main()
