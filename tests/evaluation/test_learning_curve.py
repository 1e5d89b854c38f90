"""The learning curve: which images a share of the labels is, what is measured with it, and what is said of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import finetune
from ssl_iqa.data import sets
from ssl_iqa.engine import run_folder
from ssl_iqa.engine.weights import encoder_state, load_encoder
from ssl_iqa.evaluation.learning_curve import curve_parts, curve_text


def rows_of(*by_share: list[float]) -> list[dict]:
    return [{"labels": 4.0 * 2**i, "srocc": found} for i, found in enumerate(by_share)]


def test_the_text_has_means_and_deviations_and_says_whether_more_would_help() -> None:
    half, full = [0.5, 0.3] * 5, [0.6, 0.4] * 4 + [0.6, 0.2]
    text = curve_text(rows_of([0.1] * 10, [0.2] * 10, half, full), has_seen=False)
    lines = text.splitlines()
    assert lines[2].split() == ["4", "0.100", "+-", "0.000"]
    assert lines[4].split() == ["16", "0.400", "+-", f"{np.std([0.5, 0.3] * 5, ddof=1):.3f}"]
    assert lines[5].split()[:2] == ["32", f"{np.mean(full):.3f}"]
    assert lines[6] == "The second half of the labels brings +0.080; SROCC rises in 9 of 10 splits."
    assert lines[7] == "More labels would very likely help."


@pytest.mark.parametrize(
    ("better", "wanted"), [(10, "very likely"), (9, "very likely"), (8, "may well"), (7, "may well"), (6, "hardly")]
)
def test_more_labels_are_advised_by_the_number_of_better_splits(better: int, wanted: str) -> None:
    full = [0.5 + 0.01] * better + [0.5 - 0.01] * (10 - better)
    text = curve_text(rows_of([0.5] * 10, full), has_seen=False)
    assert wanted in text.splitlines()[-1] and f"in {better} of 10" in text
    # the numbers in SURE and LIKELY's comment
    assert stats.binomtest(9, 10, alternative="greater").pvalue == pytest.approx(1 / 93, rel=0.01)
    assert stats.binomtest(7, 10, alternative="greater").pvalue == pytest.approx(1 / 6, rel=0.04)


def test_an_encoder_that_knows_the_labels_is_said_to() -> None:
    assert "too flat" in curve_text(rows_of([0.5] * 10, [0.6] * 10), has_seen=True).splitlines()[-1]


def test_undefined_correlations_are_left_out() -> None:
    text = curve_text(rows_of([None] * 5 + [0.2] * 5, [None] + [0.4] * 9), has_seen=False)
    assert "0.200" in text and "0.400" in text and "+0.200; SROCC rises in 5 of 10" in text


Run = tuple[Path, list[tuple[int, list[str]]]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, scored: Path) -> Run:
    """A finetuning with a curve: its folder, and of each probing in it the steps an epoch and the references."""
    folder, seen = tmp_path_factory.mktemp("curve"), []
    labeled, real, real_parts = sets.load_labeled(f"csv:{scored}"), finetune.probe_linearly, curve_parts
    started: list[float] = []
    parts: list[Any] = []

    def watched(*arguments: Any) -> Any:
        regressor, train, task = arguments[1], arguments[3], arguments[5]
        started.append(regressor[-1].bias.item() - np.mean([labeled.scores[i] for i in train]))
        seen.append((len(task.sampler(len(train))), [labeled.references[i] for i in train]))
        return real(*arguments)

    def twice(planned: Any) -> Any:
        parts.extend([real_parts(planned), real_parts(planned)])
        return parts[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "probe_linearly", watched)
        patch.setattr(finetune, "curve_parts", twice)
        patch.setattr(torch, "set_num_threads", lambda threads: None)
        words = ["--mode", "lp", "--encoder", "random", "--data", f"csv:{scored}", "--crop", "32", "--epochs", "1"]
        words += ["--batch-size", "4", "--workers", "0", "--seed", "5", "--learning-curve"]
        finetune.main([*words, "--out", str(folder / "run")])
    assert len(parts) == 2 and parts[0] == parts[1]  # from the seed alone
    assert np.abs(started).max() < 1e-5  # a head starts at the mean of the labels that it is given
    return folder / "run", seen


def test_a_share_is_of_references_and_part_of_the_larger_one(run: Run) -> None:
    *curve, _ = run[1]  # the last one is the run itself
    assert len(curve) == 40
    for split in range(10):
        found = [references for _, references in curve[4 * split : 4 * split + 4]]
        assert [len({*references}) for references in found] == [1, 2, 3, 6]  # of 6: 0.75, 1.5, 3, 6
        assert {*found[0]} < {*found[1]} < {*found[2]} < {*found[3]}
        assert all(len(references) == 4 * len({*references}) for references in found)  # all images of each
    assert len({frozenset(references) for _, references in curve[3::4]}) > 5  # the splits differ


def test_each_share_takes_as_many_steps_as_all_labels(run: Run) -> None:
    assert {steps for steps, _ in run[1]} == {6}  # 24 images, 4 a step


def test_the_curve_is_in_the_results(run: Run) -> None:
    rows = json.loads((run[0] / run_folder.RESULTS).read_text())["learning_curve"]
    assert [row["labels"] for row in rows] == pytest.approx([4, 8, 12, 24])
    assert all(len(row["srocc"]) == 10 and np.abs(row["srocc"]).max() <= 1 for row in rows)


def test_the_tenth_number_at_all_labels_is_that_of_a_run_by_itself(
    run: Run, scored: Path, tmp_path: Path, one_thread: None
) -> None:
    """Of the seed of the last split, with all of its labels: the curve is of runs as users make them."""
    words = ["--mode", "lp", "--encoder", "random", "--arch", "dct-mlp", "--data", f"csv:{scored}", "--crop", "32"]
    words += ["--epochs", "1", "--batch-size", "4", "--workers", "0"]
    encoder = load_encoder("random", "dct-mlp", seed=5)  # the curve's
    run_folder.save(encoder_state(encoder), tmp_path / "encoder.pt")
    words[3] = str(tmp_path / "encoder.pt")
    finetune.main([*words, "--seed", "14", "--out", str(tmp_path / "run")])
    alone = json.loads((tmp_path / "run" / run_folder.RESULTS).read_text())["srocc"]
    curve = json.loads((run[0] / run_folder.RESULTS).read_text())["learning_curve"]
    assert curve[-1]["srocc"][-1] == pytest.approx(alone, abs=1e-6)


def test_what_cannot_have_a_curve_is_refused(scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--encoder", "random", "--data", f"csv:{scored}", "--out", str(tmp_path / "run"), "--learning-curve"]
    with pytest.raises(SystemExit) as caught:
        finetune.main([*words, "--splits", "2"])
    assert caught.value.code == 2 and capsys.readouterr().err.startswith(
        "error: --learning-curve must have one encoder"
    )
    assert not (tmp_path / "run").exists()
