"""Scoring files, beside the bare encoder on crops that are in memory already.

python -m benchmarks.scoring
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.timing import MANY, SIZE, in_turns, photographs
from ssl_iqa.archs import ARCHS
from ssl_iqa.data.demo import demo_sources
from ssl_iqa.data.images import read_image
from ssl_iqa.engine import console
from ssl_iqa.engine.device import cpu_cores, use_device
from ssl_iqa.engine.settings import Parser, whole
from ssl_iqa.engine.weights import load_encoder
from ssl_iqa.model import Regressor
from ssl_iqa.scoring import quality


@torch.no_grad()
def main(arguments: list[str] | None = None) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    parser.add_argument("--arch", choices=tuple(ARCHS), default="resnet50")
    parser.add_argument("--images", type=whole(1, MANY), default=48, help="to be scored, each time (48)")
    parser.add_argument("--repeats", type=whole(1, MANY), default=5, help="of each measurement (5)")
    args = parser.parse_args(arguments)
    with console.clear_errors():
        device = use_device(args.device, workers=0)
    encoder = load_encoder("random", args.arch)
    settings, regressor = {"data": "", "crops": "five", "crop": 224}, Regressor(encoder.dim)
    model = quality.QualityModel(encoder.eval(), regressor.eval(), (1, 10), settings, {}, torch.empty(0), {}).to(device)
    with TemporaryDirectory() as folder:
        paths = (photographs(Path(folder), 12, demo_sources()) * args.images)[: args.images]
        crops = torch.cat([quality.crops_of(model, read_image(path)) for path in paths])
        batches = crops.to(device).split(quality.AT_ONCE_PIXELS // 224**2)
        works = {
            "the bare encoder": lambda: [model.encoder(batch).sum().item() for batch in batches],
            "scoring files": lambda: list(quality.score_files(model, paths, cpu_cores())),
            ".. reading them alone": lambda: [quality.crops_of(model, read_image(path)) for path in paths],
        }
        times = in_turns(works, args.repeats, device)
    print(f"{args.arch} on {device.type}, {cpu_cores()} cores, {args.images} JPEG files of {SIZE[0]}x{SIZE[1]}")
    print(f"medians of {args.repeats}\n{'':<22} seconds    images/s")
    for name, taken in times.items():
        print(f"{name:<22} {taken:7.3f} {args.images / taken:11.1f}")
    print(f"scoring files has {times['the bare encoder'] / times['scoring files']:.0%} of the bare encoder's speed")


if __name__ == "__main__":
    main()
