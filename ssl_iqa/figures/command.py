"""Figures for papers and pages, of your own runs.

    ssl-iqa figure tsne --encoders random,cl=RUN,ssl=RUN -o figure2.png
    ssl-iqa figure tsne --encoders random,cl=RUN,ssl=RUN --scores koniq10k:DIR -o figure3.png
    ssl-iqa figure ranking MODEL FOLDER -o figure4.png
    ssl-iqa figure distortions PHOTO -o figure5.png
    ssl-iqa figure curves RUN RUN ... -o curves.png
    ssl-iqa figure scatter RUN RUN ... -o scatter.png
    ssl-iqa figure types RUN RUN ... -o types.png

All but the distortions and the ranking are drawn with matplotlib; t-SNE is scikit-learn's (the extra `[figures]`).
`ssl-iqa figure FIGURE --help` says more of one.
"""

import argparse
from pathlib import Path

from ssl_iqa.engine import console, run_folder
from ssl_iqa.figures import curves, gallery, plots, ranking, scatter, tsne
from ssl_iqa.scoring import pages

# Each module has `add_arguments(parser)` and `run(args)`, which draws what plots or pages `save`.
FIGURES = {
    "distortions": (gallery, pages, "a photograph in all types and levels of distortion, or in one type"),
    "curves": (curves, plots, "losses, SROCC, learning rates and speed of train_joint.py runs, by epoch"),
    "tsne": (tsne, plots, "Figures 2 and 3: features by t-SNE, colored by distortion or by score"),
    "ranking": (ranking, pages, "Figure 4: images in the order of their predicted score"),
    "scatter": (scatter, plots, "predicted against true scores of finetune.py runs"),
    "types": (scatter, plots, "SROCC by type of distortion, finetune.py runs side by side"),
}
NUMBERED = {"ranking": "figure4.png", "distortions": "figure5.png"}  # in the paper; the others have their own name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    figures = parser.add_subparsers(dest="figure", metavar="FIGURE", required=True)
    for name, (module, library, text) in FIGURES.items():
        figure = figures.add_parser(
            name, help=text, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(figure)
        out, formats = NUMBERED.get(name, f"{name}.png"), ", ".join(library.FORMATS)
        figure.add_argument("-o", "--out", type=Path, default=Path(out), help=f"one of {formats} ({out})")


def run(args: argparse.Namespace) -> None:
    module, library, _ = FIGURES[args.figure]
    suffix = args.out.suffix.lower()
    with console.clear_errors():
        if suffix not in library.FORMATS:
            raise ValueError(f"--out must end in {', '.join(library.FORMATS)}, got {args.out}")
        run_folder.check_out(args.out)
        try:
            drawn = module.run(args)
        except ImportError as error:
            raise ValueError(f"an extra is required: pip install 'ssl_iqa[figures]' ({error})") from error
        run_folder.write_atomic(args.out, lambda file: library.save(drawn, suffix, file))
    print(f"{args.out}: {args.out.stat().st_size} bytes")
