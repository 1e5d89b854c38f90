"""What a model's scores mean, and how good it was on images that it had not seen."""

import argparse

from ssl_iqa.engine import console
from ssl_iqa.scoring import quality, score


def add_arguments(parser: argparse.ArgumentParser) -> None:
    score.add_model(parser)


def run(args: argparse.Namespace) -> None:
    with console.clear_errors():
        print(quality.load(args.model).card())
