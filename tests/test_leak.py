"""No leak: with every labeled set, neither an image nor a score of the test part has any influence before the test.

Two runs are compared bit for bit. Before the second, the test part's scores and image files are changed: whatever
used them in between, to train or to choose the epoch, would show in the weights.
"""

import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from torch import Tensor

import finetune
import train_joint
from ssl_iqa.data import demo, images, sets
from ssl_iqa.data.demo import DEMO_FOLDER
from ssl_iqa.data.images import decode_image
from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.data.splits import part_indices
from ssl_iqa.evaluation import probe
from tests import layouts
from tests.conftest import flags, load, photograph, same, smallest_finetune, smallest_joint, write

TENS = range(10)
IMAGES = {f"{i}.jpg": 20.0 + 5 * i for i in TENS}  # sets without references: each image is its own
SETS: dict[str, Callable[[Path], str]] = {
    "kadid10k": lambda folder: layouts.kadid10k(
        folder, {f"I{i:02}_{kind:02}_03.png": 1.1 + 0.3 * i + 0.1 * kind for i in TENS for kind in (1, 10)}
    ),
    "koniq10k": lambda folder: layouts.koniq10k(folder, IMAGES),
    "tid2013": lambda folder: layouts.tid2013(
        folder, {f"i{i:02}_{kind:02}_4.bmp": 1 + 0.5 * i + 0.1 * kind for i in TENS for kind in (1, 8)}
    ),
    "live": lambda folder: layouts.live(
        folder,
        {f"{kind}/img{i + 1}.bmp": 7.0 * i + len(kind) for i in TENS for kind in ("jp2k", "wn")},
        {f"{kind}/img{i + 1}.bmp": f"{i}.bmp" for i in TENS for kind in ("jp2k", "wn")},
    ),
    "csiq": lambda folder: layouts.csiq(
        folder, [(f"image{i}", kind, 3, 0.05 * i + 0.01 * len(kind)) for i in TENS for kind in ("noise", "blur")]
    ),
    "clive": lambda folder: layouts.clive(folder, IMAGES),
    "spaq": lambda folder: layouts.spaq(folder, IMAGES),
    "csv": lambda folder: layouts.own(folder, IMAGES),
}


def small_demo(folder: Path) -> None:
    """What is in `demo_photos`, but of ten sources with one photograph each, and the first three classes only."""
    for i in TENS:
        photograph(3000 + i).save(folder / f"{i}.png")
    write(folder / "CREDITS.csv", "\n".join(["image,source", *(f"{i}.png,source {i}" for i in TENS)]))
    means = (DEMO_FOLDER / "kadid_class_means.csv").read_text().splitlines()
    write(folder / "kadid_class_means.csv", "\n".join(means[:4]))


@pytest.fixture(scope="module", params=["demo", *SETS])
def first(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, photographs: Path) -> Iterator:
    """A small set of ten references in each layout, and the folder of joint training and finetuning with it."""
    folder, out = tmp_path_factory.mktemp(request.param), tmp_path_factory.mktemp("first")
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "demo":
            small_demo(folder)
            patch.setattr(demo, "DEMO_FOLDER", folder)
        shares = {"linear": 0.5, "neighbor": 0.5}  # the probe comes after training, takes long and trains nothing
        patch.setattr(probe, "probe_types", lambda encoders, *others: dict.fromkeys(encoders, shares))
        torch.set_num_threads(1)  # so that sums are added up in one order
        patch.setattr(torch, "set_num_threads", lambda threads: None)
        spec = "demo" if request.param == "demo" else SETS[request.param](folder)
        train_jointly(spec, out / "joint", photographs)
        finetune_and_test(spec, out / "finetune", out / "joint" / "encoder.pt")
        yield spec, out
    torch.set_num_threads(threads)


def train_jointly(spec: str, out: Path, photographs: Path) -> None:
    changes = {"unlabeled": "demo" if spec == "demo" else photographs, "labeled": spec, "out": out}
    changes["near_duplicates"] = "ignore"  # its search reads every labeled image, to leave photographs out
    train_joint.main(flags(smallest_joint(photographs, Path()) | changes))


def finetune_and_test(spec: str, out: Path, encoder: Path) -> None:
    """With another seed than joint training's: the split must be its own all the same."""
    changes = {"mode": "lp-ft", "encoder": encoder, "data": spec, "seed": 1, "out": out}
    finetune.main(flags(smallest_finetune(Path()) | changes))


def split_of(out: Path) -> dict[str, list[str]]:
    return json.loads((out / "joint" / "splits.json").read_text())["labeled"]


def without_test_images(encoder: dict[str, Any]) -> dict[str, Any]:
    """An encoder's state without what tells the changed images apart: the record of what it was not trained with."""
    for record in encoder["seen"]:
        assert record["images"].pop("test")
    return encoder


class Changed:
    """Gives a part's images other scores: another order, another mean. `paths` are their files, `read` all read."""

    def __init__(self, spec: str, names: list[str], patch: pytest.MonkeyPatch) -> None:
        self.names, self.read = set(names), set()
        self.load, self.decode = sets.load_labeled, decode_image
        labeled = sets.load_labeled(spec)
        self.paths = {labeled.paths[i] for i in part_indices(labeled.references, names)}
        patch.setattr(sets, "load_labeled", self.load_others)
        patch.setattr(images, "decode_image", self.decode_and_note)

    def load_others(self, spec: str, long_side: int = 0) -> LabeledSet:
        labeled = self.load(spec, long_side)
        of = zip(labeled.scores, labeled.references, strict=True)
        return replace(labeled, scores=[6 - score / 2 if name in self.names else score for score, name in of])

    def decode_and_note(self, file: BinaryIO, name: str, least_side: int) -> Tensor:
        self.read.add(str(name))
        return self.decode(file, name, least_side)

    def draw_others(self) -> None:
        for path in self.paths:
            photograph(zlib.crc32(path.encode())).save(path)  # no two alike, or they would count as one reference


def test_joint_training_meets_nothing_of_the_test_part(
    first: tuple[str, Path], photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, out = first
    changed = Changed(spec, split_of(out)["test"], monkeypatch)
    whole = {path: Path(path).read_bytes() for path in changed.paths}
    for path in changed.paths:
        Path(path).write_text(f"no image: {path}")
    train_jointly(spec, tmp_path, photographs)
    for path, content in whole.items():  # other tests of this process have the same files
        Path(path).write_bytes(content)
    assert changed.paths and changed.read and not changed.paths & changed.read
    assert split_of(out) == json.loads((tmp_path / "splits.json").read_text())["labeled"]
    assert same(
        without_test_images(load(out / "joint" / "encoder.pt")), without_test_images(load(tmp_path / "encoder.pt"))
    )
    before, after = load(out / "joint" / "last.pt"), load(tmp_path / "last.pt")
    without_test_images(before["encoder"]), without_test_images(after["encoder"])
    assert before.keys() == after.keys() and all(same(before[k], after[k]) for k in before if k != "minutes")


def test_finetuning_meets_nothing_of_the_test_part_before_the_test(
    first: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The epoch is chosen and the weights are final before a changed image or score can matter."""
    spec, out = first
    changed = Changed(spec, split_of(out)["test"], monkeypatch)
    changed.draw_others()
    finetune_and_test(spec, tmp_path, out / "joint" / "encoder.pt")
    before, after = (json.loads((run / "results.json").read_text()) for run in (out / "finetune", tmp_path))
    assert after["split"] == before["split"] and after["split"]["test"] == split_of(out)["test"]
    assert after["best_epoch"] == before["best_epoch"] and repr(after["val_srocc"]) == repr(before["val_srocc"])
    before, after = (load(run / "model.pt") for run in (out / "finetune", tmp_path))
    del before["results"], after["results"]  # which the test itself gave
    without_test_images(before["encoder"]), without_test_images(after["encoder"])
    assert same(before, after) and {"encoder", "regressor", "residuals"} < before.keys()
    assert changed.paths and changed.paths <= changed.read  # by the test


@pytest.mark.parametrize("first", ["csv"], indirect=True)
def test_what_is_trained_on_does_show(
    first: tuple[str, Path], photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same changes, of a single training image: else the tests above could not fail."""
    spec, out = first
    changed = Changed(spec, split_of(out)["train"][:1], monkeypatch)
    changed.draw_others()
    train_jointly(spec, tmp_path / "joint", photographs)
    finetune_and_test(spec, tmp_path / "finetune", out / "joint" / "encoder.pt")
    for name in ("joint/encoder.pt", "finetune/model.pt"):
        assert not same(load(out / name), load(tmp_path / name))
