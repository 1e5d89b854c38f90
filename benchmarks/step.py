"""The step of train_joint.py beside the bare encoder's work in it, its parts, and the loop as users run it.

python -m benchmarks.step, with any flags of train_joint.py
"""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

import train_joint
from benchmarks.timing import MANY, in_turns, peak_memory
from ssl_iqa.distortions import KADIS
from ssl_iqa.engine import console, run_folder
from ssl_iqa.engine.chunks import NetworksInChunks
from ssl_iqa.engine.device import autocast, use_device
from ssl_iqa.engine.settings import Parser, whole
from ssl_iqa.engine.weights import load_encoder
from ssl_iqa.losses import supervised_nt_xent
from ssl_iqa.model import Networks


def step_parts(settings: train_joint.Settings, device: torch.device) -> dict[str, Callable[[], None]]:
    """The bare encoder's work, a full step, and the step's parts, on images that are in memory already."""
    encoder, chunks = load_encoder("random", settings.arch), settings.accumulate
    nets = NetworksInChunks(encoder, 5.5, chunks) if chunks > 1 else Networks(encoder, 5.5)
    nets = nets.to(device, memory_format=torch.channels_last).train()
    if settings.compile:
        nets.encoder.compile()
    optimizer = train_joint.make_optimizer(nets, settings)
    sizes = (settings.views * settings.batch_size, settings.labeled_batch_size)
    x_d, x = (torch.rand(n, 3, settings.crop, settings.crop, device=device) for n in sizes)
    classes = torch.arange(settings.batch_size, device=device).remainder(len(KADIS)).repeat(settings.views)
    y = torch.rand(len(x), device=device)
    p = torch.randn(len(x_d), 128, device=device, requires_grad=True)

    def encoder_alone() -> None:
        for images in (*x_d.tensor_split(chunks), x):
            with autocast(device, settings.amp):
                z = nets.encoder(images)
            z.float().square().mean().backward()
        nets.zero_grad()

    def one_pass(part: Callable[[Tensor], Tensor], images: Tensor) -> None:
        with autocast(device, settings.amp):
            out = part(images)
        out.float().sum().backward()

    def step() -> None:
        optimizer.zero_grad()
        train_joint.joint_step(nets, (x_d, classes), (x, y), settings)
        optimizer_step()

    def optimizer_step() -> None:
        train_joint.gradient_norm(nets)
        optimizer.step()

    return {
        "the bare encoder": encoder_alone,
        "the full step": step,
        "unlabeled pass": lambda: one_pass(nets.project, x_d),
        "labeled pass": lambda: one_pass(nets.predict, x),
        "loss, Eq. 5": lambda: supervised_nt_xent(p, classes, settings.temperature, settings.average).backward(),
        "optimizer": optimizer_step,
    }


def print_step(settings: train_joint.Settings, device: torch.device, repeats: int) -> None:
    """A line each; on CUDA with the peak memory of a full step."""
    count, works = settings.batch_size + settings.labeled_batch_size, step_parts(settings, device)
    sizes = f"{settings.batch_size} + {settings.labeled_batch_size} images of {settings.crop} pixels"
    how = f"--amp {settings.amp}, --accumulate {settings.accumulate}{', --compile' if settings.compile else ''}"
    print(f"{settings.arch}, {sizes}, {how}, on {device} with {torch.get_num_threads()} threads; medians of {repeats}")
    times = in_turns(works, repeats, device)
    bare, full = times.pop("the bare encoder"), times.pop("the full step")
    print(f"{'loading switched off':<24} {'s a step':>9} {'images/s':>11}")
    print(f"{'the bare encoder':<24} {bare:9.4f} {count / bare:11.1f}")
    for name, taken in times.items():
        print(f"  {name:<22} {taken:9.4f} {'':>11}   {taken / sum(times.values()):.1%} of the parts")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        works["the full step"]()
        print(f"{'peak memory of the step':<24} {peak_memory(device):9.0f} MiB")
    print(f"{'the full step':<24} {full:9.4f} {count / full:11.1f}   {bare / full:.0%} of the bare encoder")


def loop_record(flags: Sequence[str], settings: train_joint.Settings, images: int) -> dict[str, float]:
    """The log's line of the second of two epochs of `images`, trained as users train."""
    with TemporaryDirectory() as folder:
        size = max(1, images // settings.batch_size) * settings.batch_size
        sizes = f"--epochs 2 --epoch-size {size} --validation-size {settings.batch_size}"
        command = [sys.executable, train_joint.__file__, *flags, *sizes.split(), "--out", f"{folder}/run"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise ValueError(f"train_joint.py failed: {done.stderr.strip().splitlines()[-1]}")
        return json.loads(Path(folder, "run", run_folder.LOG).read_text().splitlines()[1])


def main(arguments: list[str] | None = None) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--repeats", type=whole(1, MANY), default=7, help="of each measurement (7)")
    parser.add_argument("--images", type=whole(0, MANY), default=6400, help="an epoch of the loop; 0: no loop (6400)")
    args, flags = parser.parse_known_args(arguments)
    settings, _ = train_joint.parse_arguments(flags)
    with console.clear_errors():
        if settings.alpha == 1:
            raise ValueError("--alpha must be below 1 (the step of both losses is timed), got 1")
        device = use_device(settings.device, workers=0, amp=settings.amp)
    print_step(settings, device, args.repeats)
    if args.images:
        if device.type == "cuda":
            torch.cuda.empty_cache()  # for the process that trains
        with console.clear_errors():
            record = loop_record(flags, settings, args.images)
        speed, share = record["pictures_per_second"], record["data_wait"]
        print(f"the loop, {settings.workers} workers: {speed:.1f} images/s, {share:.0%} of the time waiting for images")


if __name__ == "__main__":
    main()
