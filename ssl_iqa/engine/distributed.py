"""Training on several GPUs or machines: torchrun's processes share one model and one batch.

    torchrun --nproc_per_node 8 train_joint.py ..

A single process runs nothing distributed: each function here returns its argument. With several, each makes its part
of the global batch; Eq. 5 sees the projections of all (`gather`), batch normalization the statistics of all
(`synchronize`), and gradients are averaged (`parallel`), so that a step is the one that a single process would take.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ssl_iqa.engine.signals import Stopped


def launched() -> int:
    """The number of processes that torchrun has started."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "RANK" in os.environ else 1


def on_this_machine() -> tuple[int, int]:
    """The number of this process among those of its machine, and how many these are."""
    if launched() == 1:
        return 0, 1
    return int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])


def launch() -> str:
    """A name of the torchrun that has started this process, the same after it has restarted the processes."""
    return f"{os.environ.get('TORCHELASTIC_RUN_ID', '')} {os.getppid()}" if launched() > 1 else ""


@contextmanager
def processes(device: torch.device) -> Iterator[None]:
    """The process group of torchrun's processes: NCCL on GPUs, gloo elsewhere."""
    if launched() == 1:
        yield
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    if on_this_machine()[1] == launched():
        # After a restart torchrun's store still holds the addresses of before, which dead processes do not answer
        # (github.com/pytorch/pytorch/issues/135712). On several machines the number of restarts is not the same
        # everywhere, and TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 has to be set instead.
        store, number, count = next(dist.rendezvous("env://"))
        store = dist.PrefixStore(f"restart {os.environ.get('TORCHELASTIC_RESTART_COUNT')}", store)
        dist.init_process_group(backend, store=store, rank=number, world_size=count)
    else:
        dist.init_process_group(backend)
    yield
    dist.destroy_process_group()  # not after an error: it would wait for the others


def size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if size() > 1 else 0


def is_main() -> bool:
    """Whether this is the process that writes and prints."""
    return rank() == 0


class _Sum(torch.autograd.Function):
    """The sum over the processes, whose gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    backward = forward


def gather(p: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """p [n, D], with its gradient, and classes [n] of all processes: [N, D], [N], and this one's (first, stop).

    A sum of zeros but for a process's own place: `all_gather` would cut the graph (MoCo's gather does so).
    """
    if size() == 1:
        return p, classes, (0, len(p))
    first = rank() * len(p)
    rest = (size() - 1) * len(p) - first
    all_p, all_classes = F.pad(p, (0, 0, first, rest)), F.pad(classes, (first, rest))
    return _Sum.apply(all_p), _Sum.apply(all_classes), (first, first + len(p))


class _SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalization by the statistics of all processes, of as many images each, where torch's needs a GPU."""

    def _check_input_dim(self, x: Tensor) -> None:  # [B, C, ..], as torch's own
        pass

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        dtype, x = x.dtype, x.to(self.weight.dtype)  # statistics of half precision are float32
        dims = [dim for dim in range(x.ndim) if dim != 1]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        mean = _Sum.apply(x.mean(dims)) / size()  # [C]
        deviation = x - mean.view(shape)
        variance = _Sum.apply(deviation.square().mean(dims)) / size()
        count = size() * x.numel() // x.shape[1]
        with torch.no_grad():
            if self.num_batches_tracked is not None:  # as torch's own; see running_statistics_kept
                self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        x = deviation * (variance + self.eps).rsqrt().view(shape)
        return (x * self.weight.view(shape) + self.bias.view(shape)).to(dtype)


def synchronize(module: nn.Module, device: torch.device) -> nn.Module:
    """The module with its batch normalization synchronized over the processes; parameters and names are the same."""
    if size() == 1:
        return module
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            child.__class__ = _SyncBatchNorm
    return module


def parallel(module: nn.Module, device: torch.device) -> nn.Module:
    """The module, its gradients averaged over the processes while a backward pass runs."""
    if size() == 1:
        return module
    return DistributedDataParallel(module, [device] if device.type == "cuda" else None)


def mean(values: Tensor) -> Tensor:
    """The mean of the processes' values."""
    if size() > 1:
        dist.all_reduce(values)
        values /= size()
    return values


def end_if_asked(is_asked: bool, device: torch.device) -> None:
    """Raises Stopped, in all processes, when one of them was asked to end."""
    if mean(torch.tensor(float(is_asked), device=device)) > 0:
        raise Stopped


def every(value: Any) -> list[Any]:
    """The value of each process, in their order."""
    if size() == 1:
        return [value]
    values = [None] * size()
    dist.all_gather_object(values, value)
    return values


@contextmanager
def together() -> Iterator[None]:
    """Bad input of one process, a ValueError or an OSError, is raised by all: none waits for one that has ended.

    In it the processes must not wait for each other.
    """
    error = None
    try:
        yield
    except (ValueError, OSError) as caught:
        error = caught
    errors = [caught for caught in every(error) if caught]
    if errors:
        raise error or errors[0]
