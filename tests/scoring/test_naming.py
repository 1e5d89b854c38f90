"""Learning to name distortions: the classes, the photographs that are held out, the file that it is written to."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ssl_iqa.__main__ import main
from ssl_iqa.data import views
from ssl_iqa.data.demo import demo_sources
from ssl_iqa.data.images import read_image, reduced
from ssl_iqa.distortions import distort
from ssl_iqa.distortions.table import NAMES
from ssl_iqa.evaluation import probe
from ssl_iqa.scoring import explain, naming, quality
from tests.models import save_model


def test_the_classes_are_those_that_change_an_image_and_pristine() -> None:
    found = {tuple(one) for one in naming.all_classes()}
    every = {(name, level) for name in NAMES for level in range(1, 6)}
    assert len(found) == len(naming.all_classes()) == 122 and found - every == {("pristine", 0)}
    same = {("gaussian_blur", 1), ("motion_blur", 1), ("color_saturation_2", 1), ("mean_shift", 3)}
    assert every - found == same  # docs/distortions.md


Watched = tuple[list[set[str]], list[tuple[quality.Seen, list[Any]]]]


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """The sources of the photographs that are learned from and of those that are tested with, few a class; and what is
    seen of the latter.
    """
    parts, seen, real_draw, real_test, sources = [], [], probe.draw_crops, naming._test_images, demo_sources()

    def draw_crops(dataset: Any, per_class: int, seed: int) -> Any:
        parts.append({sources[path] for path in dataset.paths})
        return real_draw(dataset, per_class, seed)

    def test_images(model: quality.QualityModel, paths: list[str]) -> Any:
        parts.append({sources[path] for path in paths})
        seen.extend(real_test(model, paths))
        return seen

    monkeypatch.setattr(probe, "draw_crops", draw_crops)
    monkeypatch.setattr(naming, "_test_images", test_images)
    monkeypatch.setattr(naming, "PER_CLASS", 2)
    monkeypatch.setattr(naming, "PER_CLASS_TEST", 1)
    return parts, seen


def test_a_model_learns_to_name_and_says_how_often_it_is_right(
    tmp_path: Path, watched: Watched, one_thread: None, capsys: pytest.CaptureFixture[str]
) -> None:
    held_out = sorted(set(demo_sources().values()))[3:8]
    results = quality.load(save_model(tmp_path / "with.pt")).results
    split = {"train": ["a"], "val": ["b"], "test": [*held_out, "of another set"]}
    path = save_model(tmp_path / "model.pt", {"results": {**results, "split": split}}, data="demo")
    before = torch.load(path, weights_only=True)
    main(["learn-names", str(path)])

    (train, test), tested = watched
    assert test == {*held_out} and train == {*demo_sources().values()} - test
    after = torch.load(path, weights_only=True)
    classifier = after.pop("naming")
    assert (
        after.pop("notes") == {}
        and after.keys() == before.keys()
        and torch.equal(after["residuals"], before["residuals"])
    )
    model = quality.load(path)
    right = model.naming["right"]
    assert right["photographs"] == sum(source in held_out for source in demo_sources().values())
    assert 0.06 < right["type"] < 1  # chance is 0.04, with features of random weights more
    line = model.card().splitlines()[-1]
    assert line == f"distortions {quality.naming_text(right)}" and f"{right['type']:.0%} of types right" in line
    assert capsys.readouterr().out == f"{path} names distortions now: {quality.naming_text(right)}\n"

    # again by hand: the probabilities of an image's crops are averaged
    assert len(tested) == 125 and {tuple(true) for _, true in tested} == {*map(tuple, classifier["classes"])}
    names = [name for name, _ in classifier["classes"]]
    said = []
    for seen, _ in tested:
        logits = seen.z.double() @ classifier["weight"].double().T + classifier["bias"].double()
        by_type = dict.fromkeys(names, 0.0)
        for name, probability in zip(names, logits.softmax(dim=1).mean(dim=0).tolist(), strict=True):
            by_type[name] += probability
        said.append(max(by_type, key=by_type.__getitem__))
    assert right["type"] == pytest.approx(
        sum(name == true[0] for name, (_, true) in zip(said, tested, strict=True)) / 125
    )


def test_images_are_tested_as_the_model_looks_at_them(tmp_path: Path, one_thread: None) -> None:
    """A level, a type and a photograph looked up by hand; a model of five crops sees five, one of the whole sees it."""
    path = next(iter(demo_sources()))
    for crops, count in (("five", 5), ("full", 1)):
        model = quality.load(save_model(tmp_path / f"{crops}.pt", crops=crops, long_side=100))
        seen, true = next(naming._test_images(model, [path]))
        kind = naming.all_classes()[0]
        image = views.to_float(reduced(read_image(path), 100))
        x_d = views.to_bytes(distort(image, *kind, torch.Generator().manual_seed(0)))
        x = x_d[None] if crops == "full" else views.test_crops(x_d, "five", model.settings["crop"])
        assert true == kind and seen.z.shape[0] == count
        torch.testing.assert_close(seen.z, model.encoder(views.to_float(x)), rtol=1e-4, atol=1e-5)


def test_without_the_demos_photographs_among_those_held_out_a_fifth_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn_from, sources = [], demo_sources()

    def draw_crops(dataset: Any, per_class: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, None]:
        drawn_from.append({sources[path] for path in dataset.paths})
        return torch.zeros(121, 3, 32, 32, dtype=torch.uint8), torch.arange(121), None

    def test_images(model: quality.QualityModel, paths: list[str]) -> list[tuple[quality.Seen, list[Any]]]:
        drawn_from.append({sources[path] for path in paths})
        return [(quality.Seen(5.0, torch.zeros(1, model.encoder.dim)), ["jpeg", 1])]

    monkeypatch.setattr(probe, "draw_crops", draw_crops)
    monkeypatch.setattr(naming, "_test_images", test_images)
    monkeypatch.setattr(naming, "PER_CLASS", 1)
    zeros = {"weight": torch.zeros(122, 256), "bias": torch.zeros(122)}
    monkeypatch.setattr(naming, "fit_softmax", lambda z, classes, decay: zeros)  # the longest part, of no matter here
    main(["learn-names", str(save_model(tmp_path / "model.pt"))])
    train, test = drawn_from
    assert len(test) == 8 and len(train) == 32 and not train & test


def test_a_fifth_of_images_are_taken_to_be_pristine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features that say nothing leave that share, whatever is learned from: here 9 of 170 are pristine."""
    z, classes = torch.zeros(170, 4, dtype=torch.float64), torch.arange(170) % 122
    classes[122:130] = 121
    monkeypatch.setattr(naming, "_features", lambda model, paths: (z[:130], classes[:130]))
    tested = [(quality.Seen(5.0, torch.zeros(1, 4)), ["jpeg", 1])]
    monkeypatch.setattr(naming, "_test_images", lambda model, paths: tested)
    classifier = naming.learn_to_name(quality.load(save_model(tmp_path / "model.pt")), (z[130:], classes[130:]))
    named = explain.name_distortion(classifier, torch.zeros(1, 4))
    assert named == ("pristine", 0, pytest.approx(0.2, abs=1e-4)) and classifier["right"]["type"] == 0


def test_softmax_regression_finds_what_separates() -> None:
    z = torch.randn(200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * torch.tensor(
        [1, 50, 1e-3]
    )
    classes = (z[:, 1] > 20).long() + (z[:, 1] > -20).long()
    found = naming.fit_softmax(z, classes)
    assert {name: value.dtype for name, value in found.items()} == {"weight": torch.float32, "bias": torch.float32}
    said = [
        explain.name_distortion({**found, "classes": [["a", 1], ["b", 1], ["c", 1]]}, one[None]) for one in z.float()
    ]
    assert sum("abc".index(one.distortion) == kind for one, kind in zip(said, classes.tolist(), strict=True)) >= 190


def test_no_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["learn-names", str(tmp_path / "none.pt")])
    err = capsys.readouterr().err
    assert (
        caught.value.code == 2 and err.startswith(f"error: {tmp_path}/none.pt: no such file") and err.count("\n") == 1
    )
