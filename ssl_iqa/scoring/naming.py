"""Which distortion an image has: a linear classifier of distortion classes on the features of a finetuned encoder.

    ssl-iqa learn-names runs/finetune/model.pt

learns it from the demo's photographs, distorted in all ways, and puts it into that file, for `ssl-iqa explain` and
`ssl-iqa report`. Seconds with the demo's encoder; a ResNet-50 takes minutes on a CPU.
"""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_iqa.data import sets, views
from ssl_iqa.data.datasets import UnlabeledViews
from ssl_iqa.data.demo import demo_sources
from ssl_iqa.data.images import read_image
from ssl_iqa.data.seen import divide, known_parts
from ssl_iqa.distortions import distort_as
from ssl_iqa.distortions.chosen import load_distortions
from ssl_iqa.engine import console, model_file
from ssl_iqa.engine.device import use_device
from ssl_iqa.evaluation import probe
from ssl_iqa.scoring import explain, quality

PRISTINE = "pristine"
PER_CLASS, PER_CLASS_TEST = 16, 4
PRISTINE_PER_ROUND = 4  # pristine images for each one of every class
PRISTINE_SHARE = 0.2  # of images in use: an assumption; docs/model.md has what it changes
DECAY = 3e-3  # with it the mean probability is about the share of images that are named rightly


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="model.pt of finetune.py, or a .safetensors of it")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="(auto)")


def run(args: argparse.Namespace) -> None:
    with console.clear_errors():
        model = quality.load(args.model).to(use_device(args.device, workers=0))
        write_names(learn_to_name(model), args.model)


def all_classes() -> list[list[Any]]:
    """The 121 of the 125 classes that change an image, and one more: the other four and pristine images."""
    return [[distortion.name, distortion.level] for distortion in load_distortions("distinct")] + [[PRISTINE, 0]]


def learn_to_name(
    model: quality.QualityModel, more: tuple[Tensor, Tensor] | None = None, decay: float = DECAY
) -> explain.Classifier:
    """A classifier, and in its `right` how often it is right on photographs held out.

    It learns from 16 crops of each class and 64 pristine ones of the demo's photographs, whatever the encoder was
    trained with, but for those that the model was tested with; for a model of another set a fifth is drawn. `more` are
    features of other images, [M, d], and their places in `all_classes`, [M], to learn from as well.

    Its probabilities hold where `PRISTINE_SHARE` of all images are pristine, whatever share of them it learns from. It
    is tested with 4 photographs a class, looked at as `explain` does.
    """
    tested = held_out(model)
    z, classes = _features(model, [path for path in demo_sources() if path not in tested])
    if more:
        z, classes = torch.cat([z, more[0]]), torch.cat([classes, more[1]])
    kinds = all_classes()  # pristine is the last
    classifier = {**fit_softmax(z, classes, decay), "classes": kinds}
    learned_from = (classes == len(kinds) - 1).double().mean()
    classifier["bias"][-1] += math.log(PRISTINE_SHARE / (1 - PRISTINE_SHARE)) - torch.logit(learned_from)
    named = [(explain.name_distortion(classifier, seen.z), true) for seen, true in _test_images(model, tested)]
    is_level = [answer.level == level for answer, (name, level) in named if answer.distortion == name]
    shares = {"type": len(is_level) / len(named), "level": sum(is_level) / max(len(is_level), 1)}
    return classifier | {"right": shares | {"photographs": len(tested)}}


def write_names(classifier: explain.Classifier, path: Path) -> None:
    """Puts a classifier into a model's file, and says so."""
    model_file.write(model_file.read(path) | {"naming": classifier}, path)
    print(f"{path} names distortions now: {quality.naming_text(classifier['right'])}")


def held_out(model: quality.QualityModel) -> list[str]:
    """The demo's photographs of a model's test part; for a model that has seen none of them those of seed 0."""
    sources, demo = demo_sources(), sets.load_labeled("demo")
    known = known_parts(demo, model.encoder.seen or ())
    names = {name for name, part in known.items() if part == "test"} or {*divide(demo, {}, seed=0)["test"]}
    return [path for path, source in sources.items() if source in names]


def _features(model: quality.QualityModel, paths: list[str]) -> tuple[Tensor, Tensor]:
    """z of distorted and pristine crops of photographs, [N, d], and their places in `all_classes`, [N]."""
    crop = model.settings["crop"]
    dataset = UnlabeledViews(paths, crop, load_distortions("distinct"), long_side=model.long_side)
    crops, classes, _ = probe.draw_crops(dataset, PER_CLASS, seed=0)
    draws, count = torch.Generator().manual_seed(0), PRISTINE_PER_ROUND * PER_CLASS
    pristine = [views.random_view(dataset.read(i % len(paths)), crop, draws) for i in range(count)]
    crops = torch.cat([crops, torch.stack(pristine)])
    classes = torch.cat([classes, torch.full((len(pristine),), len(dataset.distortions))])
    return probe.features(model.encoder, crops), classes


def _test_images(model: quality.QualityModel, paths: list[str]) -> Iterator[tuple[quality.Seen, list[Any]]]:
    """What the model sees of distorted and pristine photographs, and the type and level of each."""
    makes = [*load_distortions("distinct"), *[None] * PRISTINE_PER_ROUND] * PER_CLASS_TEST
    for number, distortion in enumerate(console.bar(makes, "test photographs")):
        x, true = quality.at_its_size(model, read_image(paths[number % len(paths)])), [PRISTINE, 0]
        if distortion:
            x = views.to_bytes(distort_as(views.to_float(x), distortion, torch.Generator().manual_seed(number)))
            true = [distortion.name, distortion.level]
        yield quality.look(model, [quality.crops_of(model, x)])[0], true


def fit_softmax(z: Tensor, classes: Tensor, decay: float = DECAY) -> dict[str, Tensor]:
    """Softmax regression of classes [N] on features [N, d], float64, standardized: the least cross-entropy with weight
    decay. What it returns takes features as they are, in float32.
    """
    mean, std = z.mean(0), z.std(0).clamp_min(1e-6)
    x = (z - mean) / std
    weight = x.new_zeros(int(classes.max()) + 1, x.shape[1], requires_grad=True)
    bias = x.new_zeros(len(weight), requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(x, weight, bias), classes) + decay / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    weight, bias = weight.detach() / std, bias.detach()
    return {"weight": weight.float(), "bias": (bias - weight @ mean).float()}
