"""What the benchmarks share: how a time is taken, peak memory, photographs of KADIS-700k's size.

Times are medians after a warm-up. Machines differ and are noisy: compare within one run only.
"""

import re
import time
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from statistics import median

import torch
from PIL import Image

SIZE = (512, 384)  # width and height of KADIS-700k's images
MANY = 10**6  # the most that a flag takes


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
    """Median time of each, taken in turns, so that what else the machine does slows all of them."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            times[name].append(seconds(work, 1, device))
    return {name: median(values) for name, values in times.items()}


def peak_memory(device: torch.device) -> float:
    """Largest memory of this process so far, in MiB: on CUDA of tensors, else resident (Linux)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    # Not getrusage's ru_maxrss, which begins with the peak of the process that started this one.
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 2**10


def photographs(folder: Path, count: int, sources: Iterable[str], size: tuple[int, int] = SIZE) -> list[str]:
    """Paths of JPEG files in `folder`, of KADIS-700k's size or another, made of the first `count` sources."""
    paths = []
    for i, source in enumerate(islice(sources, count)):
        with Image.open(source) as photograph:
            photograph.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(folder / f"{i}.jpg", quality=90)
        paths.append(str(folder / f"{i}.jpg"))
    return paths
