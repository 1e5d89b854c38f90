"""The model in the package: commands without MODEL, a file that is missing or cut, and what the file holds."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ssl_iqa
from ssl_iqa.data.demo import demo_sources
from ssl_iqa.data.images import read_image
from ssl_iqa.data.views import to_bytes, to_float
from ssl_iqa.distortions import distort
from ssl_iqa.engine import run_folder
from ssl_iqa.scoring import explain, quality
from tests.models import save_model

Command = Callable[..., tuple[str, str, int]]
MOST = 50e6  # bytes of the file


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> Path:
    """A small model in the place of the package's."""
    path = save_model(tmp_path / "package" / "model.pt", {"notes": {"terms": "none"}})
    monkeypatch.setattr(quality, "PACKAGED", path)
    return path


# --- commands without MODEL ---


@pytest.mark.parametrize(
    "words",
    [
        ["score", "0.png", "3.png", "--json"],
        ["score", "."],
        ["severity", ".", "--count", "1"],
        ["card"],
    ],
)
def test_without_a_model_it_is_that_of_the_package(
    stand_in: Path, photographs: Path, command: Command, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(photographs)
    found = command(*words)
    assert found == command(words[0], stand_in, *words[1:]) and found[2] == 0 and found[0]
    another = save_model(stand_in.parents[1] / "another.pt", {"score_range": [0.0, 7.0]}, crops="center")
    assert command(words[0], another, *words[1:])[0] != found[0]


def test_a_report_and_an_export_are_of_the_packages_model(
    stand_in: Path, photographs: Path, command: Command, tmp_path: Path
) -> None:
    pages = [tmp_path / f"{i}.html" for i in range(2)]
    for page, model in zip(pages, ([], [stand_in]), strict=True):
        assert command("report", *model, photographs, "-o", page)[2] == 0
    assert pages[0].read_bytes() == pages[1].read_bytes() and b"terms" in pages[0].read_bytes()
    assert command("export", tmp_path / "copy.safetensors")[2] == 0
    copy = ssl_iqa.load(tmp_path / "copy.safetensors")
    assert copy.notes == {"terms": "none"} and copy.card() == ssl_iqa.load(stand_in).card()
    assert copy.score(photographs / "0.png") == ssl_iqa.load(stand_in).score(photographs / "0.png")


def test_options_may_stand_amid_images(stand_in: Path, photographs: Path, command: Command) -> None:
    first, second = photographs / "0.png", photographs / "3.png"
    wanted = command("score", stand_in, first, second, "--json")
    assert wanted[0].count("\n") == 2
    assert command("score", first, "--json", second) == command("score", stand_in, "--json", first, second) == wanted


@pytest.mark.parametrize(("left", "wanted"), [(None, "no such file"), (1000, "damaged, or no checkpoint")])
def test_a_file_that_is_missing_or_cut_says_how_to_get_it_again(
    stand_in: Path, photographs: Path, command: Command, left: int | None, wanted: str
) -> None:
    whole = stand_in.read_bytes()
    stand_in.unlink()
    if left:
        stand_in.write_bytes(whole[:left])
    for words in (["score", photographs], ["card"], ["explain", photographs, "-o", stand_in.parent / "out"]):
        out, err, code = command(*words)
        assert (out, code) == ("", 2) and err.count("\n") == 1
        assert err.startswith(f"error: {stand_in}: {wanted}")
        assert err.endswith("install ssl_iqa again, or in a clone `git checkout ssl_iqa/scoring/model.pt`\n")


# --- the file itself ---


@pytest.fixture(scope="module")
def model() -> quality.QualityModel:
    return ssl_iqa.load()


def plain_values(content: Any) -> Iterator[Any]:
    """All that is no container, keys as well."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from (key, *plain_values(value))
    elif isinstance(content, list | tuple):
        for value in content:
            yield from plain_values(value)
    else:
        yield content


def test_the_file_is_small_in_half_precision_and_names_no_folder() -> None:
    assert quality.PACKAGED.stat().st_size <= MOST
    content = run_folder.load(quality.PACKAGED)
    weights = [*content["encoder"]["weights"].values(), *content["regressor"].values()]
    whole = [w for w in weights if w.dtype != torch.float16]  # of which half precision would make infinities
    assert all(w.dtype == torch.float32 and w.ndim == 1 and w.abs().max() > 65_504 for w in whole)
    assert all(w.isfinite().all() for w in weights)
    words = [value for value in plain_values(content) if isinstance(value, str)]
    assert len(words) > 1000 and not [word for word in words if word.startswith("/") or ":/" in word]


def test_it_knows_what_it_has_seen() -> None:
    """All of LIVE In the Wild, what a file of 60 % of it is tested on by another reference's name, and all levels."""
    records = run_folder.load(quality.PACKAGED)["encoder"]["seen"]
    real = {part: [n for n in names if n.startswith("real/")] for part, names in records[0]["references"].items()}
    assert {part: len(names) for part, names in real.items()} == {"train": 698, "val": 239, "test": 0}
    assert sum(map(len, records[0]["images"].values())) > 3200 and len(records[1]["images"]["train"]) > 2500


def test_the_card_says_what_it_was_trained_on_and_how_good_it_is(model: quality.QualityModel) -> None:
    lines = dict(line.split(" ", 1) for line in model.card().splitlines())
    assert "LIVE In the Wild" in lines["trained"] and "512 pixels" in lines["looks"]
    assert float(lines["SROCC"].split()[0]) == pytest.approx(model.results["srocc"], abs=5e-4)
    assert model.results["images"] > 200 and 0.8 < model.results["coverage"] <= 1
    assert {"numbers", "knows", "not", "terms"} <= {*lines}
    assert model.naming["right"]["type"] > 0.5 and model.naming["right"]["photographs"] >= 5  # chance is 0.04


def test_its_mean_score_falls_as_distortions_grow_which_it_names(model: quality.QualityModel) -> None:
    paths = [sorted(demo_sources())[i] for i in (3, 10)]
    images = [to_float(read_image(path)) for path in paths]
    pristine, right = float(np.mean(model.score(paths))), []
    for name in ("gaussian_blur", "jpeg", "white_noise"):
        draws = torch.Generator().manual_seed(0)
        versions = [[to_bytes(distort(x, name, level, draws)) for x in images] for level in (2, 3, 5)]
        seen = [quality.look(model, [quality.crops_of(model, x_d) for x_d in level]) for level in versions]
        means = [pristine, *(float(np.mean([each.y_hat for each in level])) for level in seen)]
        assert means == sorted(means, reverse=True) and means[0] - means[-1] > 1, (name, means)
        right += [explain.name_distortion(model.naming, each.z).distortion == name for each in seen[-1]]
    assert sum(right) >= 4, right  # of six; by chance four or more once in 28,000 times


def test_a_large_photograph_is_scored_at_the_size_that_it_knows(model: quality.QualityModel, tmp_path: Path) -> None:
    small = Image.open(sorted(demo_sources())[3]).convert("RGB")
    large = small.resize((704, 528), Image.Resampling.BICUBIC)
    large.save(tmp_path / "large.png")
    at_its_size = quality.reduced(read_image(tmp_path / "large.png"), 512)
    assert max(at_its_size.shape) == 512
    found = model.score(tmp_path / "large.png")
    assert found == pytest.approx(model.score(at_its_size), abs=1e-6)
    as_it_is = ssl_iqa.load(long_side=0)
    assert abs(as_it_is.score(tmp_path / "large.png") - found) > 0.05
