"""Scores from Python: against the mean over crops worked out one by one, for every kind of image; the card."""

import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ssl_iqa
from ssl_iqa.data import images, views
from ssl_iqa.data.demo import demo_sources
from ssl_iqa.data.images import UnreadableImage, read_image, reduced
from ssl_iqa.engine import device
from ssl_iqa.model import Regressor
from ssl_iqa.scoring import quality
from tests.models import RESIDUALS, RESULTS, SETTINGS, by_hand, save_model
from tests.processes import run_process

ROOT = Path(__file__).parents[2]


@pytest.fixture
def model(tmp_path: Path) -> quality.QualityModel:
    return quality.load(save_model(tmp_path / "run" / "model.pt"))


def test_a_score_is_the_mean_over_five_crops(model: quality.QualityModel, photographs: Path) -> None:
    paths = sorted(photographs.iterdir())
    found = model.score(paths)
    assert found == pytest.approx([by_hand(model, path) for path in paths], abs=1e-4)
    assert isinstance(found, list) and len(found) == 10 and np.ptp(found) > 0.01
    alone = model.score(str(paths[3]))
    assert isinstance(alone, float) and alone == pytest.approx(found[3], abs=1e-5)
    assert model.score([]) == []


def test_every_kind_of_image_has_the_same_score(model: quality.QualityModel, photographs: Path) -> None:
    path = photographs / "0.png"
    image = Image.open(path).convert("RGB")
    array = np.asarray(image)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    same: list[Any] = [path, str(path), image, array, array / 255, (array / 255).astype(np.float32), tensor]
    same += [tensor / 255, tensor.double() / 255, array[:, ::-1][:, ::-1]]
    assert model.score(same) == pytest.approx([by_hand(model, path)] * len(same), abs=1e-3)


def test_gray_images_are_gray_in_all_channels(model: quality.QualityModel, photographs: Path) -> None:
    gray = np.asarray(Image.open(photographs / "0.png").convert("L"))
    wanted = by_hand(model, np.repeat(gray[..., None] / 255, 3, axis=2))
    same = [gray, gray[..., None], gray / 255, torch.from_numpy(gray.copy())[None], Image.fromarray(gray)]
    assert model.score(same) == pytest.approx([wanted] * len(same), abs=1e-3)


@pytest.mark.parametrize(
    ("image", "wanted"),
    [
        (np.zeros((40, 40, 4)), "shape [40, 40, 4]"),
        (np.zeros((40, 40, 3, 1)), "shape [40, 40, 3, 1]"),
        (torch.zeros(40, 40, 3), "shape [40, 40, 3]"),
        (torch.zeros(2, 3, 40, 40), "shape [2, 3, 40, 40]"),
        (np.zeros((0, 40, 3)), "shape [0, 40, 3]"),
        (np.zeros((40, 40, 3), dtype=np.int64), "torch.int64"),
        (np.zeros((40, 40, 3), dtype=np.uint16), "got torch.uint16"),
        (np.zeros((40, 40, 3), dtype=complex), "got torch.complex128"),
        (np.array([["a", "b"]]), "got <U1"),
        (torch.zeros(3, 40, 40, dtype=torch.int64), "got torch.int64"),
        (torch.zeros(3, 40, 40).to_sparse(), "sparse"),
        (torch.zeros(3, 40, 40, device="meta"), "meta"),
        (Image.new("RGB", (0, 0)), "got size 0 x 0"),
        (np.full((40, 40, 3), 255.0), "got torch.float64, 255 to 255"),
        (np.full((40, 40, 3), np.nan), "got torch.float64, nan to nan"),
        (np.full((40, 40, 3), -0.1), "got torch.float64, -0.1 to -0.1"),
        (7, "got int"),
        (None, "got NoneType"),
    ],
)
def test_what_is_no_image_is_refused_in_a_line(model: quality.QualityModel, image: Any, wanted: str) -> None:
    with pytest.raises(ValueError) as caught:
        model.score(image)
    assert wanted in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("long_side", [-1, 1.5, True, "5"])
def test_a_long_side_is_a_whole_number(tmp_path: Path, long_side: Any) -> None:
    with pytest.raises(ValueError, match=f"long_side must be a whole number, 0 or more, got {long_side!r}"):
        quality.load(save_model(tmp_path / "model.pt"), long_side=long_side)


def test_a_model_of_the_demo_sees_its_photographs_at_half_size(tmp_path: Path) -> None:
    model = quality.load(save_model(tmp_path / "model.pt", data="demo"))
    path = Path(next(iter(demo_sources())))
    array = np.asarray(Image.open(path).convert("RGB"))
    wanted = by_hand(model, path, reduce=2)
    Image.open(path).save(tmp_path / "a.png")
    assert model.score([tmp_path / "a.png", array, array / 255]) == pytest.approx([wanted] * 3, abs=1e-3)
    assert model.score(path) == pytest.approx(wanted, abs=0.02)  # a JPEG, decoded at half its size
    assert abs(wanted - by_hand(model, path)) > 0.01
    assert np.isfinite(model.score(np.zeros((1, 1, 3), dtype=np.uint8)))


@pytest.mark.parametrize(("settings", "long_side"), [({"data": "demo"}, 192), ({}, 0), ({"long_side": 40}, 40)])
def test_images_are_reduced_to_the_long_side_that_a_file_says(
    tmp_path: Path, settings: dict[str, Any], long_side: int
) -> None:
    """In files from before there was one, the demo's 192."""
    model = quality.load(save_model(tmp_path / "model.pt", **settings))
    assert model.long_side == long_side
    assert (f"reduced to {long_side} pixels" in model.card()) == (long_side > 0)
    image = torch.randint(256, (3, 50, 400), generator=torch.Generator().manual_seed(0)).byte()
    for x in (image, image / 255):
        found = quality.at_its_size(model, x)
        assert torch.equal(views.to_float(found), views.to_float(reduced(image, long_side)))
    small = torch.rand(3, 40, 40)
    assert torch.equal(quality.at_its_size(model, small), small)


def test_the_crops_are_those_that_the_model_was_tested_with(tmp_path: Path, photographs: Path) -> None:
    path = photographs / "0.png"  # 64 x 48
    x = torch.from_numpy(np.asarray(Image.open(path)) / 255).permute(2, 0, 1).float()[None]
    padded = torch.cat([x, x.flip(2)[:, :, 1:]], dim=2)[:, :, :48]
    for mode, crop in (("center", x[:, :, 8:40, 16:48]), ("full", padded)):
        model = quality.load(save_model(tmp_path / "model.pt", crops=mode))
        with torch.no_grad():
            assert model.score(path) == pytest.approx(model.regressor(model.encoder(crop)).item(), abs=1e-4)


@pytest.mark.parametrize("mode", ["five", "center", "full"])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (7, 5), (33, 31)])
def test_small_images_have_scores(tmp_path: Path, mode: str, size: tuple[int, int]) -> None:
    model = quality.load(save_model(tmp_path / "model.pt", crops=mode))
    assert np.isfinite(model.score(np.zeros((*size, 3), dtype=np.uint8)))


def test_images_of_several_sizes_keep_their_places(
    tmp_path: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = quality.load(save_model(tmp_path / "model.pt", crops="full"))
    image = Image.open(photographs / "0.png")
    images = [image.resize(size) for size in ((40, 50), (64, 48), (40, 50), (50, 40), (64, 48), (64, 48)) * 4]
    alone = [model.score(image) for image in images]
    assert model.score(images) == pytest.approx(alone, abs=1e-4)
    monkeypatch.setattr(quality, "AT_ONCE_PIXELS", 1)  # each passes the encoder alone
    assert model.score(images) == pytest.approx(alone, abs=1e-4)


def test_features_are_those_of_the_images_own_crops(model: quality.QualityModel, photographs: Path) -> None:
    crops = [quality.crops_of(model, images.read_image(path)) for path in sorted(photographs.iterdir())[:3]]
    for seen, own in zip(quality.look(model, crops), crops, strict=True):
        with torch.no_grad():
            torch.testing.assert_close(seen.z, model.encoder(own), atol=1e-4, rtol=0)


# --- files, decoded ahead ---


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 7, 8, 16, 40])
def test_files_come_back_in_order_with_their_scores(
    model: quality.QualityModel, photographs: Path, damaged: list[str], threads: int, count: int
) -> None:
    good = [str(photographs / f"{i}.png") for i in range(10)]
    paths = [(good + damaged)[(7 * i) % 16] for i in range(count)]
    found = list(quality.score_files(model, paths, threads))
    assert [path for path, _ in found] == paths
    for path, seen in found:
        score = seen if isinstance(seen, Exception) else seen.score
        if path in good:
            assert score == pytest.approx(by_hand(model, Path(path)), abs=1e-4)
        else:
            try:
                wanted = model.score(path)
            except (OSError, UnreadableImage) as error:
                assert type(score) is type(error) and str(score) == str(error)
            else:
                assert score == pytest.approx(wanted, abs=1e-4)


def test_no_more_than_a_few_images_are_in_memory(
    model: quality.QualityModel, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, read, most, scored = threading.Lock(), 0, 0, 0
    read_image = images.read_image

    def count(path: str, least_side: int) -> torch.Tensor:
        nonlocal read, most
        with lock:
            read += 1
            most = max(most, read - scored)
        return read_image(path, least_side)

    monkeypatch.setattr(quality, "read_image", count)
    for _ in quality.score_files(model, [str(photographs / "0.png")] * 100, 2):
        scored += 1
    assert read == scored == 100 and 8 < most <= 3 * quality.A_FEW


# --- the file ---


def test_the_card_says_what_the_score_means(model: quality.QualityModel) -> None:
    lines = model.card().splitlines()
    assert lines == [
        "score       1 (worst) to 10 (best); on the labels' scale 0 and 100",
        "trained on  csv:own.csv",
        "by          LP-FT of runs/joint/encoder.pt (dct-mlp)",
        "looks at    five crops of 32x32 pixels, in the corners and the center",
        "references  6 to train, 1 to choose the epoch",
        "tested on   30 images of 2 other references",
        "SROCC       0.810 (95 % interval 0.700 to 0.900)",
        "PLCC        0.800",
        "interval    score +- 1.80 for 90 %; held for 87% of the test images",
    ]
    assert model.score_range == (0.0, 100.0) and model.settings == SETTINGS
    assert not model.encoder.training and not model.regressor.training


def test_the_margin_is_of_the_validation_parts_residuals(model: quality.QualityModel) -> None:
    assert model.margin() == pytest.approx(1.8) and model.margin(0.5) == pytest.approx(float(RESIDUALS[9]))


def test_the_share_that_an_interval_held_is_told_with_the_margin_that_was_tested(tmp_path: Path) -> None:
    other = quality.load(save_model(tmp_path / "other.pt", {"results": {**RESULTS, "margin": 2.04}}))
    assert "score +- 1.80 for 90 %; +- 2.04 held for 87% of the test images" in other.card()


def test_a_file_without_residuals_loads_and_says_what_it_lacks(tmp_path: Path, photographs: Path) -> None:
    lacks = ("format", "version", "results", "residuals")
    old = quality.load(save_model(tmp_path / "old.pt", dict.fromkeys(lacks)))
    new = quality.load(save_model(tmp_path / "new.pt"))
    path = photographs / "0.png"
    assert old.score(path) == new.score(path)
    assert old.card() == "\n".join(new.card().splitlines()[:4])
    with pytest.raises(ValueError, match="older version"):
        old.margin()


class Evil:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("done",)


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (None, "no such file"),
        (b"text", "damaged, or no checkpoint"),
        (b"", "damaged, or no checkpoint"),
        ({"a": 1}, "must be the model.pt of a finetune.py run"),
        ([1], "must be the model.pt of a finetune.py run"),
        (Evil(), "damaged, or no checkpoint"),
        ("cut", "damaged, or no checkpoint"),
    ],
)
def test_a_file_that_is_no_model_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any, wanted: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("model.pt")
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "cut":
        whole = save_model(path).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif content is not None:
        torch.save(content, path)
    with pytest.raises((ValueError, FileNotFoundError), match=wanted) as caught:
        ssl_iqa.load("model.pt")
    assert str(caught.value).startswith("model.pt: ") and "\n" not in str(caught.value)
    assert not Path("done").exists()  # no code of the file has run


def score_by_hub(path: Path, image: Path) -> None:
    """In a process that has imported nothing of the package, nor would find it."""
    for name in [name for name in sys.modules if name.split(".")[0] == "ssl_iqa"]:
        del sys.modules[name]
    sys.path[:] = [place for place in sys.path if Path(place).resolve() != ROOT]
    os.chdir(path.parent)
    print(torch.hub.load(str(ROOT), "quality_model", str(path), source="local").score(image))


def test_torch_hub_finds_it(tmp_path: Path, photographs: Path) -> None:
    path = save_model(tmp_path / "model.pt")
    image = photographs / "0.png"
    done = run_process(score_by_hub, path, image)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(ssl_iqa.load(path).score(image), abs=1e-5)


# --- bfloat16 ---


@pytest.mark.parametrize(
    ("change", "has_it", "is_used"), [(0.05, True, True), (0.051, True, False), (0.0, False, False)]
)
def test_a_cpu_that_has_bfloat16_computes_in_it_where_that_changes_little(
    tmp_path: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch, change: float, has_it: bool, is_used: bool
) -> None:
    monkeypatch.setattr(quality, "has_bfloat16", lambda: has_it)
    model = quality.load(save_model(tmp_path / "model.pt", {"results": RESULTS | {"bf16_change": change}}))
    crops = [quality.crops_of(model, images.read_image(path)) for path in sorted(photographs.iterdir())]
    found = [seen.y_hat for seen in quality.look(model, crops)]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=is_used):
        z = [model.encoder(x).float() for x in crops]
    with torch.no_grad():
        wanted = [model.regressor(each).mean().item() for each in z]
        plain = [model.regressor(model.encoder(x)).mean().item() for x in crops]
    assert found == pytest.approx(wanted, abs=1e-5)
    assert (np.abs(np.array(found) - plain).max() > 1e-4) == is_used


def test_a_model_that_was_not_measured_computes_in_float32(model: quality.QualityModel) -> None:
    assert model.bf16_change == np.inf


def test_bfloat16_is_what_the_cpu_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for capabilities, has_it in (({"avx512_f": True, "amx_bf16": False}, False), ({"avx512_bf16": True}, True)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda named=capabilities: named, raising=False)
        assert device.has_bfloat16() == has_it


def test_a_large_jpeg_is_scored_from_a_fraction_of_its_pixels(tmp_path: Path) -> None:
    path, model = tmp_path / "a.jpg", quality.load(save_model(tmp_path / "model.pt", long_side=80))
    photograph = Image.open(next(iter(demo_sources()))).convert("RGB")
    photograph.save(path, quality=95)
    score = model.score(path)
    assert photograph.size == (384, 288) and read_image(path, 80).shape == (3, 72, 96)
    assert [seen.score for _, seen in quality.score_files(model, [str(path)], 1)] == [score]
    assert score == model.score(read_image(path, 80)) != model.score(read_image(path))
    assert score == pytest.approx(model.score(photograph), abs=0.1)
    as_it_is = quality.load(tmp_path / "model.pt", long_side=0)
    assert as_it_is.score(path) == as_it_is.score(read_image(path))


def test_a_regressor_has_as_many_hidden_units_as_its_file_says(tmp_path: Path) -> None:
    weights = Regressor(256, hidden_dim=7).state_dict()
    model = quality.load(save_model(tmp_path / "model.pt", {"regressor": weights}))
    z = torch.randn(2, 256, generator=torch.Generator().manual_seed(0))
    w, b, w_out, b_out = (value.double().numpy() for value in weights.values())
    expected = np.maximum(z.double().numpy() @ w.T + b, 0) @ w_out[0] + b_out
    with torch.no_grad():
        assert model.regressor(z).tolist() == pytest.approx(expected.tolist(), rel=1e-4)
