"""Where to compute, with how many threads, and in which precision."""

import os

import torch

from ssl_iqa.engine import distributed


def use_device(name: str, workers: int, amp: str = "off") -> torch.device:
    """The device of a name (`auto`: the accelerator where there is one), with torch's threads set for it.

    Of several processes on a machine each gets a GPU of its own. On the CPU the encoder gets the cores that the workers
    leave, and a single process no more threads than OMP_NUM_THREADS says: more threads than cores wait for one another.
    Other numbers of threads add up in another order: results are then the same up to rounding, not bit for bit.
    `amp` is the precision that it will be asked for, see `autocast`.

    Raises ValueError for a device that is not there or has no such precision.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if (name == "cuda" and not torch.cuda.is_available()) or (name == "mps" and not torch.backends.mps.is_available()):
        raise ValueError(f"--device {name}: there is none here; wanted is cpu or auto")
    process, processes = distributed.on_this_machine()
    if name == "mps" and processes > 1:
        raise ValueError("--device mps: processes cannot share it; wanted is cpu, or a single process")
    if name == "cuda" and processes > max(torch.cuda.device_count(), 1):
        raise ValueError(f"--nproc_per_node {processes}: there are {torch.cuda.device_count()} GPUs here")
    if name == "cpu":
        threads = max(1, cpu_cores() // processes - workers)
        asked = os.environ.get("OMP_NUM_THREADS", "")
        if processes == 1 and asked.isdigit():  # torchrun sets it, unasked, to 1
            threads = min(threads, max(1, int(asked)))
        torch.set_num_threads(threads)
        if amp == "fp16" or (amp == "bf16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported()):
            raise ValueError(f"--amp {amp}: this CPU has no such arithmetic; wanted is off")
    if name == "cuda" and amp == "bf16" and not torch.cuda.is_bf16_supported():
        raise ValueError("--amp bf16: this GPU has no such arithmetic; wanted is fp16 or off")
    if name == "cuda" and processes > 1:
        torch.cuda.set_device(process)
        return torch.device("cuda", process)
    return torch.device(name)


def autocast(device: torch.device, amp: str) -> torch.autocast:
    """Mixed precision, `bf16` or `fp16`, for the networks' forward passes in it; `off`: float32."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "off": None}[amp]
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


def cpu_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
