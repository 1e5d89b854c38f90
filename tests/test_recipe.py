"""The recipe of the model in the package, on a small scale: its labels, and what becomes of a finetuned model."""

import csv
from collections import Counter
from pathlib import Path

import pytest
import torch

import finetune
import ssl_iqa
from recipe import labels, package
from ssl_iqa.data import sets
from ssl_iqa.data.demo import load_demo
from ssl_iqa.data.seen import divide
from ssl_iqa.distortions import KADIS
from ssl_iqa.scoring import naming, quality
from ssl_iqa.scoring.quality import crops_of, read_image


@pytest.fixture
def made(scored: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The labels of the scored set and of the ten photographs, each class once."""
    monkeypatch.setattr(labels, "PER_CLASS", 1)
    monkeypatch.setattr(labels, "PRISTINE", 3)
    labels.main([f"csv:{scored}", str(photographs), str(tmp_path / "labels")])
    return tmp_path / "labels"


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_labels_are_opinions_and_class_means_on_one_scale(made: Path, scored: Path) -> None:
    rows = rows_of(made / "scores.csv")
    real = [float(row["score"]) for row in rows if row["reference"].startswith("real/")]
    own = [float(row["score"]) for row in rows_of(scored)]
    low, high = min(own), max(own)
    assert real == pytest.approx([100 * (score - low) / (high - low) for score in own])
    synthetic = {row["image"]: float(row["score"]) for row in rows if row["reference"].startswith("synth/")}
    assert 120 < len(synthetic) <= 128 and min(synthetic.values()) == 8 and max(synthetic.values()) == 82
    demo = load_demo()
    means = dict(zip(demo.classes, demo.scores, strict=True))
    worst, best = min(means.values()), max(means.values())
    for k in (0, 4, 60, 124):
        name = next(name for name in synthetic if name.endswith(f"-{KADIS[k].name}-{KADIS[k].level}.png"))
        assert synthetic[name] == pytest.approx(8 + 74 * (means[k] - worst) / (best - worst))
        assert (made / name).is_file()


def test_all_trains_with_what_scores_tests(made: Path) -> None:
    before, after = rows_of(made / "scores.csv"), rows_of(made / "all.csv")
    assert [row["image"] for row in before] == [row["image"] for row in after]
    changed = Counter(row["reference"] for row, now in zip(before, after, strict=True) if row != now)
    split = divide(sets.load_labeled(f"csv:{made / 'scores.csv'}"), {}, seed=0)  # as finetune.py divides it
    assert {*changed} == {name for name in split["test"] if name.startswith("real/")} and {*changed.values()} == {4}
    moved = {now["reference"] for row, now in zip(before, after, strict=True) if row != now}
    assert len(moved) == 1 and moved <= {*split["train"]}


def test_a_packaged_model_scores_as_before_on_the_scale_of_the_opinions(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(naming, "PER_CLASS", 1)
    monkeypatch.setattr(naming, "PER_CLASS_TEST", 1)
    rows = rows_of(made / "scores.csv")
    with open(made / "scores.csv", "w", newline="") as file:  # opinions that fill a part of their scale only
        writer = csv.DictWriter(file, [*rows[0]])
        writer.writeheader()
        writer.writerows(row | {"score": 10 + 0.6 * float(row["score"])} for row in rows)
    words = ["--preset", "paper", "--mode", "lp", "--encoder", "random", "--arch", "dct-mlp", "--crop", "32"]
    words += ["--crops", "five", "--epochs", "2", "--lr", "1e-3", "--workers", "0", "--out", str(tmp_path / "run")]
    finetune.main([*words, "--data", f"csv:{made / 'scores.csv'}"])
    model, out = str(tmp_path / "run" / "model.pt"), tmp_path / "packaged.pt"
    package.main([model, f"csv:{made / 'scores.csv'}", str(out)])
    assert capsys.readouterr().out.count("LIVE In the Wild") >= 2
    before, after = ssl_iqa.load(model), ssl_iqa.load(out)
    assert after.score_range == (0, 100) and after.long_side == 512
    low, high = before.score_range
    assert (low, high) == pytest.approx((10, 70))
    labeled = sets.load_labeled(f"csv:{made / 'scores.csv'}")
    for path in labeled.paths[:4]:
        y_hat, now = (quality.look(m, [crops_of(m, read_image(path))])[0].y_hat for m in (before, after))
        opinion = low + (y_hat - 1) / 9 * (high - low)
        assert now == pytest.approx(1 + 9 * opinion / 100, abs=0.02)  # of half precision
    tested = [name for name in before.results["split"]["test"] if name.startswith("real/")]
    assert after.results["split"]["test"] == sorted(tested) and after.results["images"] == 4 * len(tested)
    assert 0 <= after.bf16_change < 1 and after.naming["right"]["photographs"] > 0 and after.notes == package.NOTES


def test_half_precision_takes_what_it_holds_to_a_thousandth() -> None:
    """Its largest number is 65,504, and from 6e-5 down its steps are 6e-8."""
    kept = torch.tensor([83_760.0, 1.0])
    tensors = {
        "running_var": kept,
        "weight": torch.tensor([[-65_504.0, 6e-8, 0.0]]),
        "num_batches_tracked": torch.tensor(7),
    }
    halved = package.halved(tensors | {"bias": torch.tensor([0.1]), "name": "x"})
    assert torch.equal(halved["running_var"], kept) and halved["running_var"].dtype == torch.float32
    assert halved["weight"].dtype == halved["bias"].dtype == torch.float16 and halved["name"] == "x"
    assert "num_batches_tracked" not in halved
