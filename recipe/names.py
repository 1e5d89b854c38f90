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
from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.distortions import KADIS
from ssl_iqa.engine import console, run_folder
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
        classes = torch.cat([places(each) for each in labeled])  # [M]
    settings = SimpleNamespace(crop=224, crops="full", amp="off", workers=0, batch_size=64, seed=0)
    tasks = [Task(each, {}, torch.device("cpu"), settings) for each in labeled]
    folder = args.model.parent.parent / run_folder.FEATURES
    z = torch.cat([frozen_features(model.encoder, task, folder).z[:, 0] for task in tasks])  # [M, d]
    naming.write_names(naming.learn_to_name(model, (z[classes >= 0], classes[classes >= 0]), DECAY), args.model)


def places(labeled: LabeledSet) -> Tensor:
    """Where each image's class is among `naming.all_classes`, [M], by its file's name; -1 for one with an opinion.

    Raises ValueError for a set without distortions, and for a name that recipe/labels.py does not give.
    """
    if not labeled.distortions:
        raise ValueError(f"{labeled.name}: there must be a column distortion, as recipe/labels.py writes it")
    distinct = {f"{name}-{level}": place for place, (name, level) in enumerate(naming.all_classes())}
    pristine = len(distinct) - 1  # as are the four classes that leave an image as it is
    place = {f"{each.name}-{each.level}": distinct.get(f"{each.name}-{each.level}", pristine) for each in KADIS}
    found = []
    for path, distortion in zip(labeled.paths, labeled.distortions, strict=True):
        kind = f"{distortion}-{Path(path).stem.rpartition('-')[2]}"
        if distortion and distortion != naming.PRISTINE and kind not in place:
            raise ValueError(f"{path}: the name must end with a level of {distortion}, as recipe/labels.py writes it")
        found.append(place.get(kind, pristine) if distortion else -1)
    return torch.tensor(found)


if __name__ == "__main__":
    main()
