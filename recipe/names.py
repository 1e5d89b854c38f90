"""Names of distortions for the model in the package, learned from the distorted images of recipe/labels.py as well.

    python recipe/names.py runs/real/all/model.pt csv:DIR/labels/all.csv csv:DIR/labels/levels.csv

puts them into that file, as `ssl-iqa learn-names` does. Besides that command's crops of the demo's photographs they are
learned from whole images, as the model looks at one, of a thousand photographs and more: what `explain` names is to
hold for photographs of any kind. The demo's, of those that are not learned from, tell how often it is right.
"""

import argparse
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor

from ssl_iqa.data import sets
from ssl_iqa.data.demo import demo_sources
from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.engine import console, model_file, run_folder
from ssl_iqa.engine.device import use_device
from ssl_iqa.evaluation.features import frozen_features
from ssl_iqa.evaluation.task import Task
from ssl_iqa.scoring import naming, quality

DECAY = 0.03  # of the weights, chosen on eight photographs kept apart


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="model.pt of recipe/head.py, which has kept the images' features")
    parser.add_argument("labels", nargs="+", help="csv:DIR/labels/all.csv and csv:DIR/labels/levels.csv")
    args = parser.parse_args(arguments)
    with console.clear_errors():
        use_device("cpu", workers=0)
        model = quality.load(args.model)
        labeled = [sets.load_labeled(spec, model.long_side) for spec in args.labels]
        known = [places(each) for each in labeled]  # [M] each
    settings = SimpleNamespace(crop=224, crops="full", amp="off", workers=0, batch_size=64, seed=0)
    tasks = [Task(each, {}, torch.device("cpu"), settings) for each in labeled]
    folder, tested = args.model.parent.parent / run_folder.FEATURES, naming.held_out(model)
    z, classes = naming.crops_learned_from(model, [path for path in demo_sources() if path not in tested])
    for task, found in zip(tasks, known, strict=True):
        z = torch.cat([z, frozen_features(model.encoder, task, folder).z[found >= 0, 0]])  # [M, d]
        classes = torch.cat([classes, found[found >= 0]])  # [M]
    fitted = naming.fit_softmax(z.double(), classes, DECAY)
    classifier = naming.with_shares({**fitted, "classes": naming.all_classes()}, model, tested)
    model_file.write(model_file.read(args.model) | {"naming": classifier}, args.model)
    print(f"{args.model} names distortions now: {quality.naming_text(classifier['right'])}")


def places(labeled: LabeledSet) -> Tensor:
    """Where each image's class is among `naming.all_classes`, [M], by its file's name; -1 for one with an opinion.

    Raises ValueError for a set without distortions.
    """
    if not labeled.distortions:
        raise ValueError(f"{labeled.name}: there must be a column distortion, as recipe/labels.py writes it")
    place = {(name, level): number for number, (name, level) in enumerate(naming.all_classes())}
    found = []
    for path, distortion in zip(labeled.paths, labeled.distortions, strict=True):
        level = Path(path).stem.rpartition("-")[2]
        known = place.get((distortion, int(level)) if level.isdecimal() else None, place[naming.PRISTINE, 0])
        found.append(known if distortion else -1)  # four classes leave an image as it is
    return torch.tensor(found)


if __name__ == "__main__":
    main()
