"""A finetuned model for other programs, and its weights for other times.

    ssl-iqa export model.onnx                                   the model in the package, for ONNX runtimes
    ssl-iqa export runs/finetune/model.pt model.onnx            another
    ssl-iqa export runs/finetune/model.pt model.safetensors     for ssl_iqa.load and ssl-iqa
    ssl-iqa export runs/joint/encoder.pt backbone.safetensors   the encoder alone, in torchvision's names

An ONNX graph takes `pictures`, float32 [B, 3, H, W], RGB in [0, 1], B of one size that may be any, and gives `scores`,
[B], 1 (worst) to 10 (best): the crops are within. Images larger than the model's `--long-side` must be reduced to it
before; with `--crops full` they need 33 pixels a side or more. The new graph is first run on images of several sizes:
where a score differs by more than 1e-4 from PyTorch's, nothing is written, and the exit code is 1.
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

from ssl_iqa.data import views
from ssl_iqa.data.demo import demo_sources
from ssl_iqa.data.images import read_image
from ssl_iqa.engine import console, model_file, run_folder
from ssl_iqa.engine.device import use_device
from ssl_iqa.engine.weights import ENCODER_FORMAT, load_encoder
from ssl_iqa.scoring import quality

TOLERANCE = 1e-4  # of scores, on the scale of 1 to 10
SUFFIXES = (".onnx", model_file.SAFETENSORS)
Run = Callable[[Tensor], Tensor]  # images [B, 3, H, W] -> scores [B]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    text = "model.pt of finetune.py, a .safetensors of it, or encoder.pt (the model in the package)"
    parser.add_argument("model", nargs="?", type=Path, default=quality.PACKAGED, metavar="MODEL", help=text)
    parser.add_argument("out", type=Path, metavar="OUT", help=f"ends in {' or '.join(SUFFIXES)}; replaced if it exists")


def run(args: argparse.Namespace) -> None:
    with console.clear_errors():
        if args.out.suffix not in SUFFIXES:
            raise ValueError(f"OUT must end in {' or '.join(SUFFIXES)}, got {args.out}")
        run_folder.check_out(args.out, "OUT")
        use_device("cpu", workers=0)
        if args.out.suffix == ".onnx":
            write_onnx(quality.load(args.model), args.out)
        elif is_encoder(args.model):
            model_file.write_backbone(load_encoder(args.model), args.out)
        else:
            quality.load(args.model)  # only a whole model becomes a file
            model_file.write(model_file.read(args.model), args.out)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB")


def is_encoder(path: Path) -> bool:
    """Whether a file is train_joint.py's encoder.pt."""
    if not path.is_file() or path.suffix == model_file.SAFETENSORS:
        return False
    content = run_folder.load(path)
    return isinstance(content, Mapping) and content.get("format") == ENCODER_FORMAT


def write_onnx(model: quality.QualityModel, path: Path) -> None:
    """Writes a .onnx file; where its scores are not the model's a line says so, with exit code 1."""
    file, run_file = to_onnx(model)
    difference = largest_difference(model, run_file)
    if not difference <= TOLERANCE:
        sys.exit(f"error: {path}: not written, since its scores differ by {difference:.1g} from PyTorch's")
    run_folder.write_atomic(path, lambda out: out.write(file))
    print(f"{path}: its scores are PyTorch's to {difference:.1g}")


def to_onnx(model: quality.QualityModel) -> tuple[bytes, Run]:
    """A .onnx file, and what runs it. Raises ValueError where a library of the extra is not installed."""
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  (torch.onnx's)
    except ImportError as error:
        raise ValueError(f".onnx files need the library {error.name}: pip install 'ssl_iqa[export]'") from error

    least = least_side(model)
    sides = {0: Dim("batch"), 2: Dim("height", min=least), 3: Dim("width", min=least)}
    example = torch.rand(2, 3, least + 39, least + 46)
    with torch.no_grad():
        program = torch.export.export(graph_of(model), (example,), dynamic_shapes=(sides,))
    exported = torch.onnx.export(program, dynamo=True, input_names=["pictures"], output_names=["scores"], verbose=False)
    graph = exported.model_proto
    known = {"card": model.card(), "long_side": str(model.long_side), "least_side": str(least)}
    onnx.helper.set_model_props(graph, known)
    file = graph.SerializeToString()  # in one piece, with the weights
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return file, lambda images: torch.from_numpy(session.run(["scores"], {"pictures": images.numpy()})[0])


def graph_of(model: quality.QualityModel) -> nn.Module:
    """`model.module`, its scores clipped, for images that are no larger than its long side."""
    module = model.module
    module.long_side = 0
    return nn.Sequential(module, nn.Hardtanh(quality.LOW, quality.HIGH)).eval()


def least_side(model: quality.QualityModel) -> int:
    """Pixels a side of the smallest image that a graph takes: of whole images it cannot reflect smaller ones."""
    return views.LEAST + 1 if model.settings["crops"] == "full" else 1


@torch.no_grad()
def largest_difference(model: quality.QualityModel, run: Run) -> float:
    """Between the scores of an exported file and the model's own, of several sizes; NaN where one is none."""
    differences = [run(x) - torch.tensor(model.score([*x])) for x in check_images(model)]
    return torch.cat(differences).abs().max().item()


def check_images(model: quality.QualityModel) -> Iterator[Tensor]:
    """Batches [B, 3, H, W] of several H and W, even and odd ones, no larger than the graph takes: of a photograph."""
    photograph = views.to_float(read_image(next(iter(demo_sources()))))[None]
    side, least, most = model.settings["crop"], least_side(model), model.long_side or math.inf
    for sides in (side, side), (side + 37, side + 6), (side + 1, 2 * side + 3), (side // 2 + 1, side // 3):
        x = F.interpolate(photograph, [min(max(pixels, least), most) for pixels in sides])
        yield torch.cat([x, x / 2, 1 - x])
