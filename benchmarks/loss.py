"""Eq. 5, forward and backward, all similarities at once and in chunks: time and peak memory by number of views.

python -m benchmarks.loss
"""

import math
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import torch
from torch import Tensor

from benchmarks.timing import at_least, peak_memory, seconds
from ssl_iqa.distortions import KADIS
from ssl_iqa.engine import console
from ssl_iqa.engine.device import use_device
from ssl_iqa.engine.settings import Parser
from ssl_iqa.losses import supervised_nt_xent


def loss_cost(n_views: int, processes: int, chunked: bool, repeats: int, device_name: str) -> tuple[float, float]:
    """Seconds of one process's share of Eq. 5, and the MiB it adds to the peak of this process: use a fresh one."""
    device = use_device(device_name, workers=0)
    settings = {} if chunked else {"max_similarities": n_views**2}

    def inputs(n: int) -> tuple[Tensor, Tensor]:
        p = torch.randn(n, 128, device=device, requires_grad=True)  # [N, 128]
        return p, torch.arange(n, device=device) % len(KADIS)

    def step(p: Tensor, classes: Tensor) -> None:
        anchors = (0, len(p) // processes)
        torch.autograd.grad(supervised_nt_xent(p, classes, anchors=anchors, **settings), p)

    p, classes = inputs(n_views)
    step(*inputs(16 * processes))  # threads have started, libraries have their memory
    before = peak_memory(device)
    taken = seconds(lambda: step(p, classes), repeats, device)
    return taken, peak_memory(device) - before


def cost_in_new_process(*arguments: int | bool | str) -> tuple[float, float]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(loss_cost, *arguments).result()


def main(arguments: list[str] | None = None) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--views", type=at_least(2), nargs="+", default=[1000, 2000, 4096, 8192, 16384])
    parser.add_argument("--processes", type=at_least(1), nargs="+", default=[1], help="that share the anchors (1)")
    parser.add_argument("--repeats", type=at_least(1), default=3, help="of each measurement (3)")
    args = parser.parse_args(arguments)
    shares = [(n_views, processes) for n_views in args.views for processes in args.processes]
    with console.clear_errors():
        for n_views, processes in shares:
            if n_views % processes:
                raise ValueError(f"--processes must divide --views, got {processes} and {n_views}")
        name = "cpu" if args.device == "auto" and not torch.cuda.is_available() else args.device
        device = use_device(name, workers=0)
    print(f"Eq. 5, forward and backward, on {device}: views of 128 numbers in 125 classes, medians of {args.repeats}")
    print("the share of one of the processes, which compares its part of the views with all of them")
    print(f"{'':>18} {'plain':>19} {'chunked':>19} {'chunked / plain':>15}")
    print(f"{'views':>8} {'processes':>9} {'s':>9} {'MiB':>9} {'s':>9} {'MiB':>9} {'s':>7} {'MiB':>7}")
    for n_views, processes in shares:
        (plain_s, plain), (chunked_s, chunked) = (
            cost_in_new_process(n_views, processes, in_chunks, args.repeats, device.type) for in_chunks in (False, True)
        )
        costs = f"{plain_s:9.4f} {plain:9.1f} {chunked_s:9.4f} {chunked:9.1f}"
        ratios = f"{chunked_s / plain_s:7.2f} {chunked / (plain or math.nan):7.2f}"  # a few views take no new memory
        print(f"{n_views:8} {processes:9} {costs} {ratios}", flush=True)


if __name__ == "__main__":
    main()
