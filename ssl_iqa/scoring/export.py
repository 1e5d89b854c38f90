"""A finetuned model for other programs, and its weights for other times.

    ssl-iqa export runs/finetune/model.pt model.onnx            for ONNX runtimes
    ssl-iqa export runs/finetune/model.pt model.safetensors     for ssl_iqa.load and ssl-iqa

An ONNX graph takes `pictures`, float32 [B, 3, H, W], RGB in [0, 1], B of one size that may be any, and gives `scores`,
[B], 1 (worst) to 10 (best): the crops are within. Images larger than the model's `--long-side` must be reduced to it
before; with `--crops full` they need 33 pixels a side or more. The new graph is first run on images of several sizes:
where a score differs by more than 1e-4 from PyTorch's, nothing is written, and the exit code is 1.
"""

import argparse
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim

from ssl_iqa.data import views
from ssl_iqa.data.demo import demo_sources
from ssl_iqa.data.images import read_image, reduced
from ssl_iqa.engine import console, model_file, run_folder
from ssl_iqa.engine.device import use_device
from ssl_iqa.scoring import quality

TOLERANCE = 1e-4  # of scores, on the scale of 1 to 10
NEEDED = {".onnx": ("onnx", "onnxscript", "onnxruntime"), model_file.SAFETENSORS: ("safetensors",)}  # of `[export]`
Run = Callable[[Tensor], Tensor]  # images [B, 3, H, W] -> scores [B]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="model.pt of finetune.py, or a .safetensors of it")
    parser.add_argument("out", type=Path, metavar="OUT", help=f"ends in {' or '.join(NEEDED)}; replaced if it is there")


def run(args: argparse.Namespace) -> None:
    with console.clear_errors():
        check_out(args.out)
        use_device("cpu", workers=0)
        model = quality.load(args.model)
        if args.out.suffix == ".onnx":
            write_onnx(model, args.out)
        else:
            model_file.write(model_file.read(args.model), args.out)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB")


def check_out(path: Path) -> None:
    if path.suffix not in NEEDED:
        raise ValueError(f"OUT must end in {' or '.join(NEEDED)}, got {path}")
    run_folder.check_out(path, "OUT")
    missing = [name for name in NEEDED[path.suffix] if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"{path}: needs {' and '.join(missing)}: pip install 'ssl_iqa[export]'")


def write_onnx(model: quality.QualityModel, path: Path) -> None:
    """Writes a .onnx file, unless torch cannot make it or its scores are not the model's: a line and exit code 1."""
    try:
        file, run_file = to_onnx(model)
        difference = largest_difference(model, run_file)
    except Exception as error:  # of what they cannot trace torch.export and torch.onnx raise almost anything
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        sys.exit(f"error: {path}: not written, since torch {torch.__version__} cannot export it ({reason})")
    if not difference <= TOLERANCE:
        sys.exit(f"error: {path}: not written, since its scores differ by {difference:.1g} from PyTorch's")
    run_folder.write_atomic(path, lambda out: out.write(file))
    print(f"{path}: its scores are PyTorch's to {difference:.1g}")


def to_onnx(model: quality.QualityModel) -> tuple[bytes, Run]:
    """A .onnx file, and what runs it."""
    import onnx
    import onnxruntime

    least = least_side(model)
    sides = {0: Dim("batch"), 2: Dim("height", min=least), 3: Dim("width", min=least)}
    example = torch.rand(2, 3, least + 39, least + 46)
    with torch.no_grad():
        program = torch.export.export(Scores(model).eval(), (example,), dynamic_shapes={"pictures": sides})
    exported = torch.onnx.export(program, dynamo=True, input_names=["pictures"], output_names=["scores"], verbose=False)
    graph = exported.model_proto
    onnx.helper.set_model_props(graph, facts(model))
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


def facts(model: quality.QualityModel) -> dict[str, str]:
    """What an exported file says of itself."""
    size = f"larger ones area-averaged to a long side of {model.long_side}" if model.long_side else "not resized"
    known = {
        "pictures": f"RGB in [0, 1], float32 [B, 3, H, W], {size}",
        "scores": "float32 [B], 1 (worst) to 10 (best)",
        "direction": "higher is better",
        "crops": model.settings["crops"],
        "crop": str(model.settings["crop"]),
        "long_side": str(model.long_side),
        "least_side": str(least_side(model)),
        "card": model.card(),
    }
    return {name: text.encode("utf-8", "backslashreplace").decode() for name, text in known.items()}


@torch.no_grad()
def largest_difference(model: quality.QualityModel, run: Run) -> float:
    """Between the scores of an exported file and the model's own; NaN where one is none."""
    differences = [run(x) - torch.tensor(model.score([*x])) for x in check_images(model)]
    return torch.cat(differences).abs().max().item()


def check_images(model: quality.QualityModel) -> Iterator[Tensor]:
    """Batches [B, 3, H, W] of several B, H and W, even and odd ones: parts of a photograph."""
    photograph = read_image(next(iter(demo_sources())))
    side, least = model.settings["crop"], least_side(model)
    sizes = (1, side, side), (3, side + 37, side + 6), (2, side + 1, 2 * side + 3), (1, side // 2 + 1, side // 3)
    for count, *sides in sizes:
        height, width = (max(side, least) for side in sides)
        large = views.pad_to(photograph, max(height, width) + 10 * count)
        parts = [large[:, 10 * i : 10 * i + height, 7 * i : 7 * i + width] for i in range(count)]
        yield torch.stack([views.to_float(reduced(part, model.long_side)) for part in parts])
