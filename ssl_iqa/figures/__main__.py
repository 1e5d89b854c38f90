"""Pictures for papers and pages.

    python -m ssl_iqa.figures tsne --encoders random,cl=RUN,ssl=RUN -o figure2.png
    python -m ssl_iqa.figures tsne --encoders random,cl=RUN,ssl=RUN --scores koniq10k:DIR -o figure3.png
    python -m ssl_iqa.figures ranking MODEL FOLDER -o figure4.png
    python -m ssl_iqa.figures distortions PHOTO -o figure5.png
    python -m ssl_iqa.figures curves RUN RUN ... -o curves.png
    python -m ssl_iqa.figures scatter RUN RUN ... -o scatter.png
    python -m ssl_iqa.figures types RUN RUN ... -o types.png

`tsne`: the features of several encoders in a plane, a panel each; Figure 2, distorted photographs colored by family and
type, or with --scores Figure 3, the pictures of a labeled set colored by score. A table of numbers goes with it:
silhouettes and linear probes of types and levels, or the scores' SROCC along the best linear direction.

`ranking`: Figure 4, the pictures of a folder, or with --data of a labeled set's test part, in the order of the score
that a model.pt of finetune.py predicts.

`distortions`: Appendix A's Figure 5, a photograph in every type and level of distortion, or with --type in one of them,
large. What is shown are pixels as the distortion left them, since to resize them would hide noise, JPEG's blocks and
small blurs: each cell holds the central part of the photograph that was distorted as a whole.

`curves`: how one or several runs of train_joint.py went, from their logs.

`scatter`, `types`: predicted against true scores of finetune.py runs with the fitted logistic, and their SROCC by type
of distortion, from the predictions.csv of each.

All but the distortions and the ranking are drawn with matplotlib; t-SNE is scikit-learn's (the extra `[figures]`).
"""

import argparse
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from ssl_iqa.distortions import load_distortions
from ssl_iqa.engine import console, run_folder
from ssl_iqa.engine.device import use_device
from ssl_iqa.engine.settings import Parser
from ssl_iqa.evaluation.predictions import read_predictions
from ssl_iqa.figures import curves, plots, ranking, scatter, tsne
from ssl_iqa.figures.gallery import SMALLEST, gallery, read_photograph, type_page
from ssl_iqa.model import ARCHS
from ssl_iqa.scoring import pages, quality


def draw_distortions(args: argparse.Namespace) -> tuple[bytes, str]:
    """The page that `distortions` asks for, encoded, and its size. Raises OSError or ValueError for bad input."""
    if args.out.exists() and args.photo.exists() and args.out.samefile(args.photo):
        raise ValueError(f"--out {args.out}: the photograph itself, which stays as it is; another name is wanted")
    for name, low, high in (("side", SMALLEST, 10_000), ("quality", 1, 100), ("seed", 0, 2**63 - 1)):
        if not low <= getattr(args, name) <= high:
            raise ValueError(f"--{name} {getattr(args, name)}: {low} to {high} is wanted")
    distortions = load_distortions(args.distortions)
    names = list(dict.fromkeys(distortion.name for distortion in distortions))
    if args.type is not None and args.type not in names:
        near = get_close_matches(args.type, names, n=1, cutoff=0)[0]
        raise ValueError(f"--type {args.type}: not in {args.distortions}; the nearest name is {near}")
    image, size = read_photograph(args.photo, args.side)
    shown = f"({Path(args.distortions).name}): {args.photo.name}, {size}"
    if args.type is None:
        head = f"{len(names)} types of distortion, {len(distortions)} classes {shown}"
        page = gallery(image, distortions, args.seed, head)
    else:
        chosen = [distortion for distortion in distortions if distortion.name == args.type]
        page = type_page(image, chosen, args.seed, f"{args.type} {shown}")
    return pages.encode(page, args.out.suffix.lower(), args.quality)


def draw_curves(args: argparse.Namespace) -> tuple[bytes, str]:
    """The figure that `curves` asks for, encoded, and its size. Raises OSError or ValueError for bad input."""
    logs = [curves.read_log(folder) for folder in args.runs]
    figure = curves.draw(dict(zip(plots.run_names(args.runs), logs, strict=True)))
    return plots.encode(figure, args.out.suffix.lower())


def draw_tsne(args: argparse.Namespace) -> tuple[bytes, str]:
    """The figure that `tsne` asks for, encoded, and its size; prints its table."""
    for name, low, high in (("count", 250 if args.scores is None else 3, 10**6), ("seed", 0, 2**31 - 1)):
        if not low <= getattr(args, name) <= high:
            raise ValueError(f"--{name} {getattr(args, name)}: {low} to {high} is wanted")
    if args.crop is not None and args.crop < 32:
        raise ValueError(f"--crop {args.crop}: 32 or more is wanted")
    if args.part and args.scores is None:
        raise ValueError(f"--part {args.part}: of --scores only")
    tsne.check_extras()
    encoders, folders = tsne.read_encoders(args.encoders, args.arch, args.seed)
    size = args.crop or tsne.crop_size(folders)
    device = use_device(args.device, workers=0)
    if args.scores is None:
        shown = tsne.distorted_pictures(args.types, folders, size, args.count, args.seed)
    else:
        shown = tsne.scored_pictures(args.scores, [*encoders.values()], args.part, size, args.count, args.seed)
    print(shown.words)
    figure, table = tsne.draw(encoders, shown, device, args.perplexity, args.seed)
    print(table)
    return plots.encode(figure, args.out.suffix.lower())


def draw_ranking(args: argparse.Namespace) -> tuple[bytes, str]:
    """The page that `ranking` asks for, encoded, and its size. Raises OSError or ValueError for bad input."""
    for name in ("columns", "count"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name} {getattr(args, name)}: 1 or more is wanted")
    if not 1 <= args.quality <= 100:
        raise ValueError(f"--quality {args.quality}: 1 to 100 is wanted")
    if (args.folder is None) == (args.data is None):
        raise ValueError("ranking: either a FOLDER or --data is wanted")
    model = quality.load(args.model)
    use_device("cpu", workers=0)
    if args.data is None:
        shown, ranked = ranking.rank_folder(model, args.folder, args.count)
        title = f"{args.folder.name or args.folder} by {args.model}"
    else:
        shown, ranked = ranking.rank_test_part(model, args.data, args.count)
        title = f"Test part of {args.data} by {args.model}"
    return pages.encode(ranking.page(shown, ranked, args.columns, title), args.out.suffix.lower(), args.quality)


def draw_predictions(args: argparse.Namespace) -> tuple[bytes, str]:
    """The figure that `scatter` or `types` asks for, encoded, and its size. Raises OSError or ValueError."""
    predictions = [read_predictions(folder) for folder in args.runs]
    figure = args.of_predictions(dict(zip(plots.run_names(args.runs), predictions, strict=True)))
    return plots.encode(figure, args.out.suffix.lower())


def check_out(path: Path, formats: Iterable[str]) -> None:
    """Raise unless a file can be written there, in one of the formats: told before the work, not after it."""
    if path.suffix.lower() not in formats:
        raise ValueError(f"--out {path}: a name that ends in {', '.join(formats)} is wanted")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"--out {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise IsADirectoryError(f"--out {path}: a folder; the name of a file is wanted")


def main(arguments: list[str] | None = None) -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    figures = parser.add_subparsers(dest="figure", metavar="FIGURE", required=True)
    one = figures.add_parser("distortions", help="a photograph in all types and levels, or in one type")
    one.set_defaults(draw=draw_distortions, formats=pages.FORMATS)
    one.add_argument("photo", type=Path, metavar="PHOTO", help="a photograph, at best pristine")
    one.add_argument("-o", "--out", type=Path, default=Path("figure5.png"), help="a .png, .jpg or .webp (figure5.png)")
    one.add_argument("--type", help="one type's levels, large; without it all types")
    one.add_argument("--distortions", metavar="SPEC", default="kadis", help="kadis, distinct, imgaug or a file (kadis)")
    one.add_argument(
        "--side", type=int, default=768, help="reduce a photograph whose longer side is over it first (768)"
    )
    one.add_argument("--quality", type=int, default=90, help="of a .jpg or .webp, 1 to 100 (90)")
    one.add_argument("--seed", type=int, default=0, help="of the distortions (0)")
    one = figures.add_parser("curves", help="losses, SROCC, learning rates and speed of train_joint.py runs, by epoch")
    one.set_defaults(draw=draw_curves, formats=plots.FORMATS)
    one.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a folder that train_joint.py wrote")
    one.add_argument("-o", "--out", type=Path, default=Path("curves.png"), help="a .png, .pdf or .svg (curves.png)")
    one = figures.add_parser("tsne", help="Figures 2 and 3: features by t-SNE, colored by distortion or by score")
    one.set_defaults(draw=draw_tsne, formats=plots.FORMATS)
    one.add_argument(
        "--encoders", required=True, help="random, imagenet or name=RUN, a joint run's folder or encoder, with commas"
    )
    pictures = one.add_mutually_exclusive_group()
    pictures.add_argument(
        "--types", metavar="PHOTOS", help="demo or a folder of photographs to distort (those that no RUN trained with)"
    )
    pictures.add_argument("--scores", metavar="SPEC", help="a labeled set, to be colored by score")
    one.add_argument("--part", choices=("train", "val", "test", "all"), help="of SPEC (test if a RUN split it, or all)")
    one.add_argument("--arch", choices=tuple(ARCHS), help="of random and imagenet (the first RUN's)")
    one.add_argument("--crop", type=int, help="side of the crops, pixels (the first RUN's, else 224)")
    one.add_argument("--count", type=int, default=2500, help="pictures; types: as many of each class (2500)")
    one.add_argument("--perplexity", type=float, default=30, help="of t-SNE, about the neighbors that count (30)")
    one.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="of the encoders (auto)")
    one.add_argument("--seed", type=int, default=0, help="of the pictures, of random weights and of t-SNE (0)")
    one.add_argument("-o", "--out", type=Path, default=Path("tsne.png"), help="a .png, .pdf or .svg (tsne.png)")
    one = figures.add_parser("ranking", help="Figure 4: pictures in the order of their predicted score")
    one.set_defaults(draw=draw_ranking, formats=pages.FORMATS)
    one.add_argument("model", type=Path, metavar="MODEL", help="the model.pt of a finetune.py run")
    one.add_argument("folder", type=Path, nargs="?", metavar="FOLDER", help="a folder of pictures")
    one.add_argument("--data", metavar="SPEC", help="instead: the test part of MODEL's labeled set")
    one.add_argument("--columns", type=int, default=4, help="pictures side by side (4)")
    one.add_argument("--count", type=int, default=12, help="pictures shown, evenly spaced along the ranking (12)")
    one.add_argument("--quality", type=int, default=90, help="of a .jpg or .webp, 1 to 100 (90)")
    one.add_argument("-o", "--out", type=Path, default=Path("figure4.png"), help="a .png, .jpg or .webp (figure4.png)")
    for name, of_predictions, words in (
        ("scatter", scatter.draw_scatter, "predicted against true scores of finetune.py runs"),
        ("types", scatter.draw_types, "SROCC by type of distortion, finetune.py runs side by side"),
    ):
        one = figures.add_parser(name, help=words)
        one.set_defaults(draw=draw_predictions, of_predictions=of_predictions, formats=plots.FORMATS)
        one.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a folder that finetune.py wrote")
        out = Path(f"{name}.png")
        one.add_argument("-o", "--out", type=Path, default=out, help=f"a .png, .pdf or .svg ({out})")
    args = parser.parse_args(arguments)
    with console.clear_errors():
        check_out(args.out, args.formats)
        encoded, size = args.draw(args)  # whole before any of it is written
        run_folder.write_atomic(args.out, lambda file: file.write(encoded))
    print(f"{args.out}: {size}, {len(encoded)} bytes")


if __name__ == "__main__":
    main()
