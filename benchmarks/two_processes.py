"""Two processes on one GPU: the gradients of a joint step, beside those of one process.

python -m benchmarks.two_processes nccl     on a GPU; NCCL usually refuses two processes on one
python -m benchmarks.two_processes gloo     on a GPU, or without one on the CPU
"""

import sys
from dataclasses import replace
from tempfile import NamedTemporaryFile

import torch
import torch.distributed as dist
import torch.multiprocessing

import train_joint
from ssl_iqa.engine import distributed
from ssl_iqa.engine.weights import load_encoder
from ssl_iqa.model import Networks

SETTINGS = replace(train_joint.PRESETS["paper"], arch="resnet18", alpha=0.7)
IMAGES, LABELED = 32, 8


def gradient_of(process: int, processes: int, device: torch.device) -> torch.Tensor:
    """The gradient of Eq. 8, as one vector, with this process's part of a fixed batch."""
    nets = Networks(load_encoder("random", SETTINGS.arch), 5.5).to(device).double()
    parallel = distributed.parallel(distributed.synchronize(nets, device), device)
    generator = torch.Generator().manual_seed(0)
    x_d, x = (torch.rand(n, 3, 64, 64, generator=generator, dtype=torch.float64) for n in (2 * IMAGES, LABELED))
    classes, y = torch.arange(IMAGES).remainder(5).repeat(2), torch.linspace(1, 10, LABELED).double()
    x_d, classes, x, y = (part.tensor_split(processes)[process].to(device) for part in (x_d, classes, x, y))
    train_joint.joint_step(parallel, (x_d, classes), (x, y), SETTINGS)
    return torch.cat([w.grad.flatten() for w in nets.parameters()])


def compare(process: int, backend: str, file: str, device: torch.device) -> None:
    torch.set_num_threads(1)
    expected = gradient_of(0, 1, device)  # no group yet: one process
    dist.init_process_group(backend, init_method=f"file://{file}", rank=process, world_size=2)
    difference = (gradient_of(process, 2, device) - expected).norm() / expected.norm()
    if process == 0:
        print(f"{backend}, two processes on {device}: gradient within {difference:.1e} of one process's (float64)")
    dist.destroy_process_group()
    if not difference < 1e-9:
        raise ValueError(f"the gradients differ by {difference:.1e}")


def main(backend: str) -> None:
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    with NamedTemporaryFile() as store:
        try:
            torch.multiprocessing.spawn(compare, (backend, store.name, device), nprocs=2)
        except Exception as error:  # of a process: its message ends with the error's own lines
            sys.exit(f"{backend}, two processes on {device}: refused or failed: {' '.join(str(error).split())[-300:]}")


if __name__ == "__main__":
    main(sys.argv[1])
