"""A finetuned model for other programs, and its weights for other times.

    ssl-iqa export runs/finetune/model.pt model.onnx            for ONNX runtimes
    ssl-iqa export runs/finetune/model.pt model.safetensors     for ssl_iqa.load and ssl-iqa

An ONNX graph takes `pictures`, float32 [B, 3, H, W], RGB in [0, 1], B of one size that may be any, and gives `scores`,
[B], 1 (worst) to 10 (best): the crops are within. Images larger than the model's `--long-side` must be reduced to it
before; with `--crops full` they need 33 pixels a side or more. The new graph is first run on images of several sizes:
where a score differs by more than 1e-4 from PyTorch's, nothing is written, and the exit code is 1.
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterator
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
from ssl_iqa.scoring import quality

TOLERANCE = 1e-4  # of scores, on the scale of 1 to 10
SUFFIXES = (".onnx", model_file.SAFETENSORS)
Run = Callable[[Tensor], Tensor]  # images [B, 3, H, W] -> scores [B]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="model.pt of finetune.py, or a .safetensors of it")
    parser.add_argument("out", type=Path, metavar="OUT", help=f"ends in {' or '.join(SUFFIXES)}; replaced if it exists")


def run(args: argparse.Namespace) -> None:
    with console.clear_errors():
        if args.out.suffix not in SUFFIXES:
            raise ValueError(f"OUT must end in {' or '.join(SUFFIXES)}, got {args.out}")
        run_folder.check_out(args.out, "OUT")
        use_device("cpu", workers=0)
        model = quality.load(args.model)
        if args.out.suffix == ".onnx":
            write_onnx(model, args.out)
        else:
            model_file.write(model_file.read(args.model), args.out)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB")


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
        program = torch.export.export(Scores(model).eval(), (example,), dynamic_shapes={"pictures": sides})
    exported = torch.onnx.export(program, dynamo=True, input_names=["pictures"], output_names=["scores"], verbose=False)
    graph = exported.model_proto
    known = {"card": model.card(), "long_side": str(model.long_side), "least_side": str(least)}
    onnx.helper.set_model_props(graph, known)
    file = graph.SerializeToString()  # in one piece, with the weights
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return file, lambda images: torch.from_numpy(session.run(["scores"], {"pictures": images.numpy()})[0])


class Scores(nn.Module):
    """`QualityModel.score` (Eq. 6, mean over the test crops) as a graph: images [B, 3, H, W] -> scores [B].

    The sides are not known when it is traced, so that crops are taken by the places of their pixels, which are tensors.
    """

    def __init__(self, model: quality.QualityModel) -> None:
        super().__init__()
        self.encoder, self.regressor = model.encoder, model.regressor
        self.mode, self.crop = model.settings["crops"], model.settings["crop"]

    def forward(self, pictures: Tensor) -> Tensor:
        crops = [pictures]
        if self.mode in views.PLACES:
            height, width = pictures.shape[2:]
            places = [(self.seen(height, down), self.seen(width, across)) for down, across in views.PLACES[self.mode]]
            crops = [pictures.index_select(2, rows).index_select(3, columns) for rows, columns in places]
        x = torch.cat(crops)  # [crops * B, 3, h, w]
        y_hat = self.regressor(self.encoder(x)).view(len(crops), -1).mean(dim=0)
        return y_hat.clamp(quality.LOW, quality.HIGH)

    def seen(self, side: int, place: int) -> Tensor:
        """The pixels along a side that a crop at a place of `views.PLACES` takes; beyond its end, reflected ones."""
        room = torch.sym_max(side, self.crop) - self.crop
        return views.turned_back(torch.arange(self.crop) + room * place // 2, side)


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
