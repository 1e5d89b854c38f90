"""An encoder halfway between the weights that finetuning began with and those that it ended with.

    python recipe/average.py DIR/resnet50.pth runs/real/lp-ft/model.pt encoder.pt

Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022: it keeps what the first encoder knew of other
images, and has what the second has learned. LP then trains a regressor on it. BatchNorm's running means and variances
are averaged as the weights are.
"""

import argparse
from pathlib import Path

from ssl_iqa.engine import console, model_file, run_folder
from ssl_iqa.engine.weights import encoder_from_state, encoder_state, load_encoder
from ssl_iqa.model import Encoder


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("start", type=Path, help="the encoder that finetuning began with")
    parser.add_argument("model", type=Path, help="model.pt of finetune.py")
    parser.add_argument("out", type=Path, help="the encoder to write")
    args = parser.parse_args(arguments)
    with console.clear_errors():
        end = encoder_from_state(model_file.read(args.model)["encoder"], str(args.model))
        start = load_encoder(args.start, end.arch)
    run_folder.save(encoder_state(average(start, end)), args.out)


def average(start: Encoder, end: Encoder) -> Encoder:
    """`end` with the mean of both encoders' weights; it has seen what `end` has."""
    first = start.state_dict()
    mean = {
        name: first[name].lerp(now, 0.5) if now.is_floating_point() else now for name, now in end.state_dict().items()
    }
    end.load_state_dict(mean)
    return end


if __name__ == "__main__":
    main()
