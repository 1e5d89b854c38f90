"""A finetuned model for other programs, and its weights for other times.

    python -m ssl_iqa.scoring.export runs/finetune/model.pt model.onnx            for ONNX runtimes
    python -m ssl_iqa.scoring.export runs/finetune/model.pt model.pt2             for torch.export.load
    python -m ssl_iqa.scoring.export runs/finetune/model.pt model.safetensors     for ssl_iqa.load and `ssl-iqa`

The first two take `pictures`, float32 [B, 3, H, W], RGB in [0, 1], B of one size that may be any, and give `scores`,
[B], 1 (worst) to 10 (best): the crops are within. Only what sees whole pictures (`--crops full`) wants 33 pixels a side
or more. Images larger than the model's `--long-side` are to be reduced to it before. What was made is first run on
photographs of several sizes: where a score differs by more than 1e-4 from PyTorch's, nothing is written, and the exit
code is 1.
"""

import argparse
import importlib.util
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ssl_iqa.data import views
from ssl_iqa.data.demo import demo_sources
from ssl_iqa.data.images import read_image, reduced
from ssl_iqa.engine import console, model_file, run_folder
from ssl_iqa.engine.device import use_device
from ssl_iqa.engine.settings import Parser
from ssl_iqa.engine.weights import encoder_state
from ssl_iqa.scoring import quality

TOLERANCE = 1e-4  # of scores, on the scale of 1 to 10
Run = Callable[[Tensor], Tensor]  # pictures [B, 3, H, W] -> scores [B]


class Scores(nn.Module):
    """`QualityModel.score` (Eq. 6, mean over the test crops) as a graph: pictures [B, 3, H, W] -> scores [B].

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
    """Pixels a side that pictures have at least. What is smaller than a crop is continued by reflection, but a model
    that looks at the whole picture is traced for those that need not be.
    """
    return views.LEAST + 1 if model.settings["crops"] == "full" else 1


def traced(model: quality.QualityModel) -> ExportedProgram:
    least = least_side(model)
    sides = {0: Dim("batch"), 2: Dim("height", min=least), 3: Dim("width", min=least)}
    example = torch.rand(2, 3, least + 39, least + 46)  # a .pt2 holds it, too
    with torch.no_grad():
        return torch.export.export(Scores(model).eval(), (example,), dynamic_shapes={"pictures": sides})


def facts(model: quality.QualityModel) -> dict[str, str]:
    """What travels in an exported file beside the graph."""
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


def to_onnx(model: quality.QualityModel) -> tuple[bytes, Run]:
    """A .onnx file, and what runs it."""
    import onnx
    import onnxruntime

    graph = torch.onnx.export(
        traced(model), dynamo=True, input_names=["pictures"], output_names=["scores"], verbose=False
    ).model_proto
    onnx.helper.set_model_props(graph, facts(model))
    file = graph.SerializeToString()  # in one piece, with the weights
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return file, lambda pictures: torch.from_numpy(session.run(["scores"], {"pictures": pictures.numpy()})[0])


def to_pt2(model: quality.QualityModel) -> tuple[bytes, Run]:
    """A .pt2 file, and what runs it."""
    file = io.BytesIO()
    torch.export.save(traced(model), file, extra_files={f"{name}.txt": text for name, text in facts(model).items()})
    return file.getvalue(), torch.export.load(io.BytesIO(file.getvalue())).module()


def to_safetensors(model: quality.QualityModel) -> tuple[bytes, Run]:
    """A .safetensors file, and what runs it."""
    known = {name: getattr(model, name) for name in ("score_range", "settings", "results", "residuals", "naming")}
    state = {"encoder": encoder_state(model.encoder), "regressor": model.regressor.state_dict()}
    file = model_file.to_safetensors(state | known)
    name = "the new file"
    again = quality.from_content(model_file.checked(model_file.from_safetensors(file, name), name), name)
    return file, lambda pictures: torch.tensor(again.score([*pictures]))


MAKERS: dict[str, Callable[[quality.QualityModel], tuple[bytes, Run]]] = {
    ".onnx": to_onnx,
    ".pt2": to_pt2,
    model_file.SAFETENSORS: to_safetensors,
}
NEEDED = {".onnx": ("onnx", "onnxscript", "onnxruntime"), model_file.SAFETENSORS: ("safetensors",)}  # of `[export]`


def check_pictures(model: quality.QualityModel) -> Iterator[Tensor]:
    """Batches [B, 3, H, W] of several B, H and W, even and odd ones: parts of a photograph."""
    photograph = read_image(next(iter(demo_sources())))
    side, least = model.settings["crop"], least_side(model)
    sizes = (1, side, side), (3, side + 37, side + 6), (2, side + 1, 2 * side + 3), (1, side // 2 + 1, side // 3)
    for count, *sides in sizes:
        height, width = (max(side, least) for side in sides)
        large = views.pad_to(photograph, max(height, width) + 10 * count)
        parts = [large[:, 10 * i : 10 * i + height, 7 * i : 7 * i + width] for i in range(count)]
        yield torch.stack([views.to_float(reduced(part, model.long_side)) for part in parts])


@torch.no_grad()
def largest_difference(model: quality.QualityModel, run: Run) -> float:
    """Between the scores of an exported file and the model's own; NaN where one is none."""
    off = [run(x) - torch.tensor(model.score([*x])) for x in check_pictures(model)]
    return torch.cat(off).abs().max().item()


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", help="the model.pt of a finetune.py run, or a .safetensors of it")
    parser.add_argument("out", type=Path, metavar="OUT", help=f"ends in {', '.join(MAKERS)}; replaced if it is there")
    args = parser.parse_args(arguments)
    with console.clear_errors():
        if args.out.suffix not in MAKERS:
            raise ValueError(f"{args.out}: a name that ends in {', '.join(MAKERS)} is wanted")
        if not args.out.parent.is_dir():
            raise FileNotFoundError(f"{args.out}: there is no folder {args.out.parent}")
        if args.out.is_dir():
            raise IsADirectoryError(f"{args.out}: a folder; the name of a file is wanted")
        missing = [name for name in NEEDED.get(args.out.suffix, ()) if importlib.util.find_spec(name) is None]
        if missing:
            raise ValueError(f"{args.out}: takes {' and '.join(missing)}: pip install 'ssl_iqa[export]'")
    return args


def main(arguments: list[str] | None = None) -> None:
    args = parse_arguments(arguments)
    with console.clear_errors():
        use_device("cpu", workers=0)
        model = quality.load(args.model)
        try:
            file, run = MAKERS[args.out.suffix](model)
            off = largest_difference(model, run)
        except Exception as error:  # of what they cannot trace torch.export and torch.onnx raise almost anything
            why = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
            sys.exit(f"error: {args.out}: not written, since torch {torch.__version__} cannot export it ({why})")
        if not off <= TOLERANCE:
            sys.exit(f"error: {args.out}: not written, since its scores differ by {off:.1g} from PyTorch's")
        run_folder.write_atomic(args.out, lambda out: out.write(file))
    print(f"{args.out}: {len(file) / 1e6:.1f} MB; its scores are PyTorch's to {off:.1g}")


if __name__ == "__main__":
    main()
