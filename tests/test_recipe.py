"""The recipe of the model in the package, on a small scale: its labels, and what becomes of a finetuned model."""

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import spearmanr

import finetune
import ssl_iqa
from recipe import head, labels, names, package
from ssl_iqa.data import sets
from ssl_iqa.data.demo import demo_sources, load_demo
from ssl_iqa.data.seen import divide, known_parts
from ssl_iqa.data.views import to_bytes, to_float
from ssl_iqa.distortions import KADIS, distort
from ssl_iqa.engine import model_file, run_folder
from ssl_iqa.engine.weights import encoder_state, load_encoder
from ssl_iqa.model import Regressor
from ssl_iqa.scoring import naming, quality
from ssl_iqa.scoring.quality import crops_of, read_image


@pytest.fixture(scope="module")
def made(scored: Path, photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The labels of the scored set and of the ten photographs, each class once."""
    out = tmp_path_factory.mktemp("recipe") / "labels"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels, "PER_CLASS", 1)
        patch.setattr(labels, "PRISTINE", 3)
        patch.setattr(labels, "WITH_ALL", 2)
        labels.main([f"csv:{scored}", str(photographs), str(out)])
    return out


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
    rows, spec = rows_of(made / "scores.csv"), f"csv:{tmp_path / 'scores.csv'}"
    with open(tmp_path / "scores.csv", "w", newline="") as file:  # opinions that fill a part of their scale only
        writer = csv.DictWriter(file, [*rows[0]])
        writer.writeheader()
        for row in rows:
            writer.writerow(row | {"image": made / row["image"], "score": 10 + 0.6 * float(row["score"])})
    words = ["--preset", "paper", "--mode", "lp", "--encoder", "random", "--arch", "dct-mlp", "--crop", "32"]
    words += ["--crops", "five", "--epochs", "2", "--lr", "1e-3", "--workers", "0", "--out", str(tmp_path / "run")]
    finetune.main([*words, "--data", spec])
    model, out = str(tmp_path / "run" / "model.pt"), tmp_path / "packaged.pt"
    package.main([model, spec, str(out)])
    assert capsys.readouterr().out.count("LIVE In the Wild") >= 2
    before, after = ssl_iqa.load(model), ssl_iqa.load(out)
    assert after.score_range == (0, 100) and after.long_side == 512
    low, high = before.score_range
    assert (low, high) == pytest.approx((10, 70))
    labeled = sets.load_labeled(spec)
    for path in labeled.paths[:4]:
        y_hat, now = (quality.look(m, [crops_of(m, read_image(path))])[0].y_hat for m in (before, after))
        opinion = low + (y_hat - 1) / 9 * (high - low)
        assert now == pytest.approx(1 + 9 * opinion / 100, abs=0.02)  # of half precision
    tested = [name for name in before.results["split"]["test"] if name.startswith("real/")]
    assert after.results["split"]["test"] == sorted(tested) and after.results["images"] == 4 * len(tested)
    assert 0 <= after.bf16_change < 1 and after.naming["right"]["photographs"] > 0 and after.notes == package.NOTES


def test_a_record_goes_where_a_later_one_has_all_that_it_was_trained_with() -> None:
    def record(train: str, val: str, test: str) -> dict[str, dict[str, list[str]]]:
        return {"images": {"train": [*train], "val": [*val], "test": [*test]}}

    joint, tuned, all_of_it, other = (
        record("ab", "c", "d"),
        record("ab", "c", "d"),
        record("abd", "c", ""),
        record("x", "", ""),
    )
    assert package.not_repeated([joint, tuned, other]) == [tuned, other]
    assert package.not_repeated([joint, all_of_it]) == [all_of_it]
    assert package.not_repeated([all_of_it, joint]) == [all_of_it, joint]  # the second says of d that it is tested
    assert package.not_repeated([joint, other]) == [joint, other]


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


def test_levels_are_of_photographs_that_are_trained_on_in_all_classes(made: Path, photographs: Path) -> None:
    rows, scores = rows_of(made / "levels.csv"), rows_of(made / "scores.csv")
    assert Counter(row["reference"] for row in rows).keys() <= {
        *divide(sets.load_labeled(f"csv:{made / 'scores.csv'}"), {}, seed=0)["train"]
    }
    assert len({row["reference"] for row in rows}) == 2 and len(rows) == 2 * 126
    for one in rows[:126]:
        kind, level = one["distortion"], one["image"].removesuffix(".png").rpartition("-")[2]
        assert (made / one["image"]).is_file()
        # the same class has the same score in both files
        same = [row["score"] for row in scores if row["image"].endswith(f"-{kind}-{level}.png")]
        assert kind == "pristine" or not same or {*same} == {one["score"]}
    path = next(path for path in photographs.iterdir() if f"synth/{path.stem}" == rows[0]["reference"])
    x = to_float(read_image(path))
    file = made / "levels" / f"{path.stem}-jpeg-3.png"
    assert torch.equal(read_image(file), to_bytes(distort(x, "jpeg", 3, torch.Generator().manual_seed(3))))


def test_of_two_images_of_a_series_the_better_one_is_to_be_ahead() -> None:
    y = torch.tensor([[9.0, 7, 7, 5, 3, 1], [1, 2, 3, 4, 5, 6]])
    y_hat = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    by_hand = [
        max(0.0, head.MARGIN - (y_hat[b, i] - y_hat[b, j]).item())
        for b in range(2)
        for i in range(6)
        for j in range(6)
        if y[b, i] > y[b, j]
    ]
    assert len(by_hand) == 14 + 15
    assert head.series_loss(y_hat, y).item() == pytest.approx(sum(by_hand) / len(by_hand), rel=1e-5)
    assert head.series_loss(y, y) == 0


def taught_by_levels(file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What recipe/names.py puts into a model's file; told of images that it learns from what it says of them."""

    def test_images(model: quality.QualityModel, _: list[str]) -> Iterator[tuple[quality.Seen, list[Any]]]:
        for path in sorted((folder / "levels").iterdir())[::17]:
            kind, level = [*path.stem.split("-"), "0"][1:3]
            if [kind, int(level)] in naming.all_classes():
                yield quality.look(model, [crops_of(model, read_image(path))])[0], [kind, int(level)]

    def crops(model: quality.QualityModel, paths: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        assert {*paths} == {*demo_sources()} - {*naming.held_out(model)}
        return torch.zeros(1, model.encoder.dim).double(), torch.tensor([len(naming.all_classes()) - 1])

    monkeypatch.setattr(naming, "_test_images", test_images)
    monkeypatch.setattr(naming, "_features", crops)
    names.main([str(file), *(f"csv:{folder / name}.csv" for name in ("scores", "levels"))])
    return run_folder.load(file)["naming"]


def test_classes_are_known_by_the_names_of_files(made: Path) -> None:
    rows = rows_of(made / "scores.csv") + rows_of(made / "levels.csv")
    specs = [f"csv:{made / name}.csv" for name in ("scores", "levels")]
    found = torch.cat([names.places(sets.load_labeled(spec)) for spec in specs]).tolist()
    kinds = [tuple(kind) for kind in naming.all_classes()] + [None]  # -1 is the last
    same = {("gaussian_blur", 1), ("motion_blur", 1), ("color_saturation_2", 1), ("mean_shift", 3)}
    for row, place in zip(rows, found, strict=True):
        kind = row["distortion"]
        shown = (kind, int(row["image"][-5])) if kind not in ("", "pristine") else None  # the digit before .png
        expected = ("pristine", 0) if kind == "pristine" or shown in same else shown
        assert kinds[place] == expected, row
    assert {None, ("pristine", 0), ("jpeg", 5)} <= {kinds[place] for place in found}


def test_names_need_distortions(made: Path) -> None:
    plain = made / "plain.csv"
    plain.write_text(
        "".join(
            f"{row['image']},{row['score']}\n"
            for row in [{"image": "image", "score": "score"}, *rows_of(made / "levels.csv")]
        )
    )
    with pytest.raises(ValueError, match="plain.csv: there must be a column distortion"):
        names.places(sets.load_labeled(f"csv:{plain}"))
    other = made / "other.csv"
    other.write_text(
        "image,score,distortion\n"
        + "".join(f"{row['image']},{row['score']},blur\n" for row in rows_of(made / "levels.csv"))
    )
    with pytest.raises(ValueError, match="must end with a level of blur"):
        names.places(sets.load_labeled(f"csv:{other}"))


def test_features_are_left_out_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were all left out, the first layer would stay as it began."""
    draws = torch.Generator().manual_seed(0)
    z, y = torch.randn(80, 9, generator=draws), torch.rand(80, generator=draws) * 9 + 1
    val = {"opinions": [*range(64, 80)]}
    data = head.Data(z, y, torch.ones(80), [*range(64)], val, z[:60].view(10, 6, 9), y[:60].view(10, 6))
    monkeypatch.setattr(head, "EPOCHS", 2)
    torch.manual_seed(0)
    began = Regressor(9, hidden_dim=head.HIDDEN)[0].weight
    std = z[:64].std(dim=0) + head.LEAST_STD
    changes = {}
    for share in (0.0, 1.0):
        monkeypatch.setattr(head, "DROPOUT", share)
        changes[share] = (head.fit(data)[0][0].weight * std - began).abs().max().item()
    assert changes[1.0] < 1e-6 < 1e-4 < changes[0.0]


def test_a_head_learns_both_kinds_of_labels_and_is_packaged(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(head, "EPOCHS", 3)
    run_folder.save(encoder_state(load_encoder("random", "resnet18", seed=3)), tmp_path / "encoder.pt")
    words = [str(tmp_path / "encoder.pt"), *(f"csv:{made / name}.csv" for name in ("scores", "levels"))]
    head.main([*words, str(tmp_path / "runs" / "a")])
    assert "test SROCC" in capsys.readouterr().out
    model = ssl_iqa.load(tmp_path / "runs" / "a" / "model.pt")
    labeled, levels = (sets.load_labeled(spec, head.LONG_SIDE) for spec in words[1:])
    assert model.encoder.arch == "resnet18-moments" and model.regressor[0].weight.shape == (40, 1920)
    split = divide(labeled, {}, seed=0)
    assert model.results["split"] == split and [record["by"] for record in model.encoder.seen] == ["finetuning"] * 2
    seen = package.packaged(model_file.read(tmp_path / "runs" / "a" / "model.pt"))["encoder"]["seen"]
    assert known_parts(labeled, seen) == {name: part for part, names in split.items() for name in names}
    assert {*known_parts(levels, seen).values()} == {"train"} and [one["data"] for one in seen] == [
        "csv:scores.csv",
        "csv:levels.csv",
    ]
    tested = [i for i, name in enumerate(labeled.references) if name in split["test"] and name.startswith("real/")]
    y_hat = [quality.look(model, [crops_of(model, read_image(labeled.paths[i]))])[0].y_hat for i in tested]
    assert model.results["srocc"] == pytest.approx(spearmanr(y_hat, [labeled.scores[i] for i in tested])[0], abs=0.02)

    data = head.gather(model.encoder, labeled, levels, split, tmp_path / "runs" / "features")
    best = next(score for score, kind in zip(labeled.scores, labeled.distortions, strict=True) if kind == "pristine")
    assert data.y_series.shape == (2 * 25, 6) and data.y_series[:, 0].tolist() == pytest.approx([best] * 50, abs=1e-5)
    assert data.z_series.shape == (50, 6, 1920) and (data.y_series[:, 1:] <= best).all()

    head.main([*words, str(tmp_path / "runs" / "b")])  # from the features that were kept
    weights = [torch.load(tmp_path / "runs" / name / "model.pt")["regressor"] for name in "ab"]
    assert all(torch.equal(*pair) for pair in zip(*(each.values() for each in weights), strict=True))
    features = sorted((tmp_path / "runs" / "features").iterdir())
    taught = taught_by_levels(tmp_path / "runs" / "a" / "model.pt", made, monkeypatch)
    assert taught["right"]["type"] > 0.7 and taught["right"]["level"] > 0.7  # by chance 0.04 and 0.2
    assert sorted((tmp_path / "runs" / "features").iterdir()) == features  # which recipe/head.py has kept
    package.main([str(tmp_path / "runs" / "a" / "model.pt"), words[1], str(tmp_path / "packaged.pt")])
    packaged = ssl_iqa.load(tmp_path / "packaged.pt")
    assert packaged.naming["right"] == taught["right"]
    torch.testing.assert_close(packaged.naming["weight"], taught["weight"], rtol=1e-3, atol=1e-6)
    assert packaged.settings["crops"] == "full" and packaged.regressor[0].weight.dtype == torch.float32

    other = [str(tmp_path / "encoder.pt"), words[1], words[1]]  # whose photographs are not all trained on
    with pytest.raises(SystemExit) as caught:
        head.main([*other, str(tmp_path / "runs" / "c")])
    assert caught.value.code == 2 and "must be of the training part" in capsys.readouterr().err


def test_features_are_standardized_by_the_regressor_itself() -> None:
    z = 5 + 3 * torch.randn(50, 9, generator=torch.Generator().manual_seed(0))
    regressor, mean, std = Regressor(9, hidden_dim=head.HIDDEN), z.mean(dim=0), z.std(dim=0)
    with torch.no_grad():
        expected = regressor((z - mean) / std)
        torch.testing.assert_close(head.of_plain_features(regressor, mean, std)(z), expected, rtol=1e-4, atol=1e-5)
