"""Scores as distortions grow: by hand from files that are scored one by one, and shares worked out on paper."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ssl_iqa
from ssl_iqa.data.images import read_image
from ssl_iqa.data.views import to_float
from ssl_iqa.distortions import NAMES, distort
from ssl_iqa.scoring import severity
from tests.models import save_model

Command = Callable[..., tuple[str, str, int]]


def test_scores_are_those_of_distorted_files(photographs: Path, tmp_path: Path, one_thread: None) -> None:
    model = ssl_iqa.load(save_model(tmp_path / "model.pt"))
    path = photographs / "3.png"
    scores = severity.scores_by_type(model, read_image(path))
    assert scores.shape == (25, 6)
    for kind in (0, 10, 18, 24):  # blur, noise, jitter, contrast
        expected = [model.score(path)]
        for level in range(1, 6):
            x_d = distort(to_float(read_image(path)), NAMES[kind], level, torch.Generator().manual_seed(level))
            pixels = (x_d * 255).round().byte().permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(tmp_path / "distorted.png")
            expected.append(model.score(tmp_path / "distorted.png"))
        assert scores[kind].tolist() == pytest.approx(expected, abs=1e-4)


def test_shares_count_steps_from_level_2_and_versions_from_level_3() -> None:
    scores = np.tile([9.0, 2, 8, 7, 6, 5], (2, 25, 1))  # level 1 is below and rises: neither counts
    falls, below = severity.shares(scores)
    assert falls.tolist() == below.tolist() == [1.0] * 25
    scores[0, 4] = [7.0, 9, 8, 7, 7.5, 6]  # one step of three rises, two versions of three are not below
    scores[:, 17] = [5.0, 9, 4, 5, 6, 7]  # mean_shift
    falls, below = severity.shares(scores)
    assert falls[4] == pytest.approx(5 / 6) and below[4] == pytest.approx(4 / 6) and below[17] == 0
    lines = severity.table(scores).splitlines()
    assert lines[6] == "| color_shift | 83% | 67% |" and lines[19] == "| mean_shift | - | 0% |"
    share = (22 + 5 / 6) / 23, (22 + 4 / 6) / 23
    assert lines[-1] == "| **all**, of 2 photographs | {:.1%} | {:.1%} |".format(*share)


def test_the_command_prints_the_table(photographs: Path, tmp_path: Path, one_thread: None, command: Command) -> None:
    path = save_model(tmp_path / "model.pt")
    out, err, code = command("severity", path, photographs, "--count", "2")
    assert code == 0 and out.count("\n") == 28 and "of 2 photographs" in out
    model = ssl_iqa.load(path)
    scores = [severity.scores_by_type(model, read_image(photographs / f"{i}.png")) for i in (0, 9)]
    assert out == severity.table(np.stack(scores)) + "\n"


def test_what_cannot_be_read_is_named_and_the_others_count(
    photographs: Path, tmp_path: Path, one_thread: None, command: Command
) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    (folder / "a.png").write_bytes((photographs / "0.png").read_bytes())
    (folder / "b.png").write_text("no image")
    out, err, code = command("severity", save_model(tmp_path / "model.pt"), folder)
    assert "of 1 photographs" in out and f"error: {folder / 'b.png'}" in err and code == 1


def test_bad_input_is_one_line(photographs: Path, tmp_path: Path, one_thread: None, command: Command) -> None:
    model = save_model(tmp_path / "model.pt")
    for words, wanted in (
        ([tmp_path / "none.pt", photographs], "none.pt: no such file"),
        ([model, tmp_path / "none"], "none: no such folder"),
        ([model, photographs, "--count", "0"], "--count must be a whole number 1 to"),
    ):
        out, err, code = command("severity", *words)
        assert out == "" and err.count("\n") == 1 and wanted in err and code == 2
