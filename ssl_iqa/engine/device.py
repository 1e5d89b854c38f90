"""Where to compute, with how many threads, and in which precision."""

import os

import torch

from ssl_iqa.engine import distributed

AMP = {"bf16": torch.bfloat16, "fp16": torch.float16, "off": None}  # mixed precision


def use_device(name: str, workers: int, amp: str = "off") -> torch.device:
    """The device of a name (`auto`: the accelerator where there is one), with torch's threads set for it.

    Of several processes on a machine each gets a GPU of its own. On the CPU the encoder gets the cores that the workers
    leave, and a single process no more threads than OMP_NUM_THREADS says: more threads than cores wait for one another.
    Other numbers of threads add up in another order: results are then the same up to rounding, not bit for bit.

    Raises ValueError for a device that is not there or has no arithmetic of the precision `amp`.
    """
    has_cuda, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        name = "cuda" if has_cuda else "mps" if has_mps else "cpu"
    process, processes = distributed.on_this_machine()
    if (name == "cuda" and not has_cuda) or (name == "mps" and not has_mps):
        raise ValueError(f"--device must be cpu or auto where there is no {name}, got {name}")
    if name == "mps" and processes > 1:
        raise ValueError("--device must be cpu with several processes, which cannot share it, got mps")
    if name == "cuda" and processes > max(torch.cuda.device_count(), 1):
        raise ValueError(f"--nproc_per_node must be at most {torch.cuda.device_count()}, the GPUs, got {processes}")
    if name == "cpu":
        if amp == "fp16" or (amp == "bf16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported()):
            raise ValueError(f"--amp must be off on this CPU, got {amp}")
        threads = max(1, cpu_cores() // processes - workers)
        limit = os.environ.get("OMP_NUM_THREADS", "")
        if processes == 1 and limit.isdigit():  # torchrun sets it, unasked, to 1
            threads = min(threads, max(1, int(limit)))
        torch.set_num_threads(threads)
    if name == "cuda" and processes > 1:
        torch.cuda.set_device(process)
        return torch.device("cuda", process)
    return torch.device(name)


def autocast(device: torch.device, amp: str) -> torch.autocast:
    """The networks' forward passes in it are in mixed precision, one of `AMP`; `off`: float32."""
    return torch.autocast(device.type, AMP[amp], enabled=amp != "off")


def has_bfloat16() -> bool:
    """Whether this CPU computes in bfloat16; others only stand in for it, slower than in float32. False on older torch,
    which cannot tell.
    """
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))


def cpu_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
