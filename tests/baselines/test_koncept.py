"""KonCept: its head and images by their definition, its stages, its rows; the network of timm."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import finetune
from ssl_iqa import baselines
from ssl_iqa.baselines import koncept
from ssl_iqa.baselines.finetuning import Finetuning, Fit
from ssl_iqa.data.datasets import labeled_image
from ssl_iqa.data.in_order import make_all
from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.data.sets import load_labeled
from ssl_iqa.engine import run_folder
from ssl_iqa.engine.weights import load_encoder
from ssl_iqa.evaluation import cells, tables, tuning
from ssl_iqa.evaluation.metrics import srocc
from ssl_iqa.evaluation.predictions import read_measured
from ssl_iqa.evaluation.task import Task
from tests.conftest import error_of, same


class Flat(nn.Flatten):
    """In place of an encoder: an image's numbers."""

    arch, seen, dim = "flat", (), 6


def test_the_head_by_its_layers() -> None:
    torch.manual_seed(0)
    network = koncept.KonCept(Flat(), mean_score=5.5).double().eval()
    norms = [layer for layer in network.score if isinstance(layer, nn.BatchNorm1d)]
    for norm in norms:
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        norm.weight.data.normal_()
    x = torch.randn(3, 3, 1, 2, dtype=torch.float64)
    h = x.flatten(1).numpy()
    linear = [layer for layer in network.score if isinstance(layer, nn.Linear)]
    for layer, norm in zip(linear, [*norms, None], strict=True):
        h = h @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        if norm is not None:
            deviation = np.sqrt(norm.running_var.numpy() + norm.eps)
            h = (np.maximum(h, 0) - norm.running_mean.numpy()) / deviation * norm.weight.detach().numpy()
    np.testing.assert_allclose(network(x).detach().numpy(), h, rtol=1e-10)
    assert [layer.out_features for layer in linear] == [2048, 1024, 256, 1] and linear[-1].bias.item() == 5.5
    kinds = [type(layer) for layer in network.score]
    assert kinds == 3 * [nn.Linear, nn.ReLU, nn.BatchNorm1d, nn.Dropout] + [nn.Linear]
    assert [layer.p for layer in network.score if isinstance(layer, nn.Dropout)] == [0.25, 0.25, 0.5]


def test_the_authors_stages_and_loss() -> None:
    stages = koncept.fits(finetune.PRESETS["paper"].epochs)
    assert [(stage.rate, stage.epochs, stage.goes_on) for stage in stages] == [
        *((1e-4, 40, False), (2e-5, 20, True), (1e-5, 10, True)),
    ]
    assert [[stage.epochs for stage in koncept.fits(epochs)] for epochs in (1, 6)] == [[1, 1, 1], [5, 2, 1]]
    outputs, y = torch.tensor([[2.0], [5.0]]), torch.tensor([1.0, 8.0])
    assert [stage.loss(outputs, y).item() for stage in stages] == [(1 + 9) / 2] * 3


def test_a_training_image_is_whole_and_mirrored_every_other_time() -> None:
    image = torch.arange(24).view(3, 2, 4)
    views = [koncept.mirrored(image, 4, torch.Generator().manual_seed(seed)) for seed in range(100)]
    flipped = [torch.equal(view, image[:, :, [3, 2, 1, 0]]) for view in views]
    assert all(flip or torch.equal(view, image) for flip, view in zip(flipped, views, strict=True))
    assert 30 < sum(flipped) < 70


def test_images_are_resized_as_pillow_does(scored: Path) -> None:
    labeled = replace(load_labeled(f"csv:{scored}"), size=(30, 50))
    expected = Image.open(labeled.paths[3]).resize((50, 30), Image.Resampling.LANCZOS)
    assert np.array_equal(labeled_image(labeled, 3).permute(1, 2, 0), np.asarray(expected))
    sizes = [baselines.finetuning_of(name).size for name in ("koncept224", "koncept512")]
    assert sizes == [(224, 224), (384, 512)]


def test_the_demos_images_are_distorted_once_for_all_sizes() -> None:
    demo = load_labeled("demo", long_side=32)
    small = replace(demo, size=(20, 20))
    make_all(small, [7], 0)
    assert torch.equal(demo.kept[7], demo.read(7)) and demo.kept[7].shape[2] == 32
    assert labeled_image(small, 7).shape == (3, 20, 20) and labeled_image(demo, 7) is demo.kept[7]


class Line(nn.Module):
    """y_hat is a multiple of an image's mean, which is the second output."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.score = nn.Flatten(), nn.Linear(1, 1)
        self.encoder.arch, self.encoder.seen = "line", []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert self.training and x.shape[2:] == (10, 14)
        mean = x.mean(dim=(1, 2, 3))[:, None]
        return torch.cat((self.score(mean), mean), dim=1)


def test_a_stage_goes_on_from_the_least_loss_and_the_best_srocc_is_tested(
    scored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of fit a the second epoch has the least loss and the third the best SROCC; b goes on from a, and c does not."""
    labeled = replace(load_labeled(f"csv:{scored}"), size=(10, 14))
    val, batches = [0, 1, 2, 3], []
    y = np.array([labeled.scores[i] for i in val])
    said = [y[::-1], y + [0.4, -0.4, 0.0, -0.2], y + 3, *[y[::-1]] * 3]
    losses = [np.mean((one - y) ** 2) for one in said]
    assert min(losses[:3]) == losses[1] and srocc(said[2], y) == 1 > srocc(said[1], y)
    after, answers = [], iter(said)

    def encode_part(network: nn.Module, task: Task, part: list[int]) -> tuple[list[int], torch.Tensor]:
        if part != val:
            return part, torch.zeros(len(part), 1, 1)
        network.eval()
        after.append([weights.clone() for weights in network.parameters()])
        return part, torch.tensor(next(answers).copy(), dtype=torch.float32).view(-1, 1, 1)

    def means(labeled: LabeledSet, _: nn.Module) -> torch.Tensor:
        return torch.stack([labeled_image(labeled, i).float().mean() / 255 for i in range(len(labeled.paths))])

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        torch.testing.assert_close(outputs[:, 1], targets)  # of the same images
        batches.append(targets.tolist())
        return (outputs[:, 0] - 5).square().mean()

    def restarted(_: nn.Module, mean_score: float) -> Line:
        assert mean_score == pytest.approx(np.mean(labeled.scores[8:24]))
        return Line()

    fits = [Fit("a", 0.1, 3, loss), Fit("b", 0.0, 1, loss, goes_on=True), Fit("c", 0.0, 1, loss)]
    method = Finetuning(
        *(lambda *_: None, lambda settings: settings, restarted, means, lambda _: fits, koncept.mirrored)
    )
    monkeypatch.setattr(baselines, "finetuning_of", lambda name: method)
    monkeypatch.setattr(tuning, "encode_part", encode_part)
    monkeypatch.setattr(tuning, "read_epoch", lambda *_: None)
    settings = SimpleNamespace(seed=1, epochs=1, batch_size=8, crop=12, workers=0, amp="off", encoder="", arch="line")
    task = Task(labeled, {"train": [*range(8, 24)], "val": val, "test": [5]}, torch.device("cpu"), settings)
    best, network, test, _ = tuning.tune("any", task, Path("last.pt"))
    torch.manual_seed(1)
    at_first = [*Line().parameters()]
    assert [*map(torch.equal, after[3], after[1])] == [True, True] and not torch.equal(after[2][0], after[1][0])
    assert all(map(torch.equal, after[4], at_first)) and not torch.equal(after[0][0], at_first[0])
    assert best.epoch == "3 at a" and all(map(torch.equal, network.parameters(), after[2])) and test == [5]
    assert len(batches) == 10 and len({*map(tuple, batches[:6])}) == 6  # other draws in each epoch
    assert best.residuals.tolist() == pytest.approx([3.0] * 4, abs=1e-5)
    answers = iter([np.full(4, np.nan)] * 5)
    with pytest.raises(SystemExit, match="^error: the predictions of any are not finite, at any learning rate$"):
        tuning.tune("any", task, Path("last.pt"))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """KonCept224 of smaller images and layers; each validation is worse than the one before by ten."""
    size, validated = (40, 48), []
    changed = koncept.FINETUNINGS["koncept224"]._replace(settings=partial(koncept.settings_at, size), size=size)
    monkeypatch.setitem(koncept.FINETUNINGS, "koncept224", changed)
    monkeypatch.setattr(koncept, "WIDTHS", (16, 8, 4))
    real = tuning.predict

    def predict(*args: Any) -> torch.Tensor:
        validated.append(args)
        return real(*args) + 10 * (len(validated) % 7)  # six epochs and a test

    monkeypatch.setattr(tuning, "predict", predict)


def test_the_row_in_table_3_and_a_run_that_goes_on_bit_for_bit(
    finetune_arguments: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: None
) -> None:
    saved, ends_after, real = [], 0, tuning.save_epoch

    def save_epoch(*args: Any, **more: Any) -> None:
        real(*args, **more)
        saved.append(run_folder.load(args[4].last))
        del saved[-1]["minutes"], saved[-1]["best"]["residuals"]
        if len(saved) == ends_after:
            raise KeyboardInterrupt

    monkeypatch.setattr(tuning, "save_epoch", save_epoch)
    monkeypatch.setattr("ssl_iqa.evaluation.task.SAVE_AFTER", 0.0)
    settings = {"encoder": None, "encoders": "koncept224=random", "mode": "all", "epochs": 4}
    finetune.main(finetune_arguments(out=tmp_path / "run", **settings))
    folder = tmp_path / "run" / "cells" / "csv" / "koncept224" / "-" / "split-0"
    measured, results = read_measured(folder), run_folder.read_json(folder / "results.json")
    named = {name: results["settings"][name] for name in ("arch", "crop", "crops", "encoder")}
    assert named == {"arch": "dct-mlp", "crop": 48, "crops": "full", "encoder": "random"}
    assert results["best_epoch"].split(" at ")[1] in ("0.0001", "2e-05", "1e-05")
    assert results["images"] == len(measured.tested.scores) and results["mode"] == "-"
    table = tables.table_3(tables.summarize([measured]))
    (row,) = (line for line in table.splitlines() if line.startswith("| koncept224 "))
    assert row.startswith("| koncept224 | 0.86 / 0.88 | not run | 0.80 / 0.81 | not run |")
    assert row.endswith("| {:.3f} / {:.3f} |".format(results["srocc"], results["plcc"]))

    whole, ends_after = [*saved], 4  # of six epochs: amid the second stage
    assert [(one["phase"], one["epochs"]) for one in whole[2:5]] == [("0.0001", 3), ("2e-05", 1), ("2e-05", 2)]
    assert whole[4]["least"] == whole[3]["least"]
    saved.clear()
    words = finetune_arguments(out=tmp_path / "part", **settings)
    with pytest.raises(SystemExit) as caught:
        finetune.main(words)
    part = tmp_path / "part" / folder.relative_to(tmp_path / "run")
    assert caught.value.code == 75 and (part / "last.pt").is_file()
    finetune.main([*words, "--resume"])
    assert len(saved) == 6 and all(map(same, saved, whole)) and not (part / "last.pt").exists()
    assert (part / "predictions.csv").read_bytes() == (folder / "predictions.csv").read_bytes()


def test_each_cell_has_its_methods_images(scored: Path, tmp_path: Path) -> None:
    settings = replace(
        finetune.PRESETS["demo"],
        data=(f"csv:{scored}",),
        test=("demo",),
        encoders="koncept512=random,random",
        mode="lp",
    )
    planned = cells.plan(settings, ("lp",), None, tmp_path / "out")
    sizes = [(cell.name, cell.settings.mode, cell.labeled.size, cell.others[0].size) for cell in planned]
    assert sizes == [("koncept512", "-", (384, 512), (384, 512)), ("random", "lp", None, None)]
    assert planned[0].settings.crop == 512 and planned[1].settings.crop == settings.crop


@pytest.mark.parametrize(
    ("encoders", "arch", "message"),
    [
        ("koncept224", "dct-mlp", "no ImageNet weights for arch 'dct-mlp': use 'random' or a file instead"),
        ("koncept224=none", None, "none: no such file"),
        ("koncept224=random", "inception_resnet_v2", "arch inception_resnet_v2 needs the library timm: pip install"),
        ("koncept512", "inception_resnet_v2", "arch inception_resnet_v2 needs the library timm: pip install"),
    ],
)
def test_bad_input_is_one_line(
    finetune_arguments: Callable,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    encoders: str,
    arch: str | None,
    message: str,
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(SystemExit) as caught:
        finetune.main(finetune_arguments(out=tmp_path / "out", encoder=None, encoders=encoders, arch=arch))
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.startswith(f"error: {message}") and error.count("\n") == 1


class Tiny(nn.Module):
    """In place of timm's network: a layer of its names, whose weights are 2 where they are ImageNet's."""

    def __init__(self, pretrained: bool) -> None:
        super().__init__()
        self.conv2d_1a, self.classif = nn.Conv2d(3, 5, 1), nn.Linear(5, 1000)
        if pretrained:
            nn.init.constant_(self.conv2d_1a.weight, 2.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classif(self.conv2d_1a(x).mean(dim=(2, 3)))


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A library in place of timm; the networks that were asked for."""
    asked = []

    def create_model(name: str, pretrained: bool = False) -> Tiny:
        asked.append(name)
        return Tiny(pretrained)

    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create_model))
    return asked


def test_timms_network_up_to_its_last_layer(timm: list[str], tmp_path: Path) -> None:
    encoder = load_encoder("imagenet", "inception_resnet_v2")
    x = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    bias = encoder.network.conv2d_1a.bias
    expected = (2 * (2 * x - 1)).sum(dim=1).mean(dim=(1, 2))[:, None] + bias  # of images in [-1, 1]
    torch.testing.assert_close(encoder(x), expected)
    assert encoder.dim == 5 and {*timm} == {"inception_resnet_v2"}
    torch.manual_seed(0)
    plain = Tiny(pretrained=False)
    torch.save({"state_dict": plain.state_dict()}, tmp_path / "timm.pt")
    from_file = load_encoder(tmp_path / "timm.pt", "inception_resnet_v2")
    assert torch.equal(from_file.network.conv2d_1a.weight, plain.conv2d_1a.weight)
    torch.save({"conv1.weight": torch.ones(1)}, tmp_path / "other.pt")
    message = error_of(ValueError, load_encoder, tmp_path / "other.pt", "inception_resnet_v2")
    assert "timm's inception_resnet_v2's names must be conv2d_1a.conv.weight .. conv2d_7b" in message


def test_weights_that_timm_cannot_fetch(timm: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, pretrained: bool) -> None:
        raise RuntimeError("no route to host")

    monkeypatch.setattr(sys.modules["timm"], "create_model", fail)
    message = error_of(ValueError, load_encoder, "imagenet", "inception_resnet_v2")
    assert message.startswith("the ImageNet weights of inception_resnet_v2 could not be read (no route to host): use ")
