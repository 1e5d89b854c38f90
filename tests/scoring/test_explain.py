"""Explanations: the named distortion against softmax by hand, the map against crops one by one, what is drawn."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import softmax

from ssl_iqa.data.demo import demo_sources
from ssl_iqa.data.images import read_image
from ssl_iqa.scoring import explain, quality
from tests.models import RESULTS, reduced, save_model

CLASSES = [["jpeg", 1], ["jpeg", 4], ["lens_blur", 2], ["pristine", 0]]


def classifier_of(*rows: list[float]) -> dict:
    """A classifier whose logits for features [1, 0] and [0, 1] are the rows."""
    return {"weight": torch.tensor(rows).T.contiguous(), "bias": torch.zeros(4), "classes": CLASSES}


def test_a_types_probability_is_the_sum_of_its_levels_and_the_mean_over_crops() -> None:
    logits = [[1.0, 1.2, 1.9, 0.0], [0.3, 1.0, 0.9, 0.1]]
    by_hand = softmax(np.array(logits), axis=1).mean(axis=0)
    assert by_hand.argmax() == 2  # the likeliest class is a blur, the likeliest type JPEG
    found = explain.name_distortion(classifier_of(*logits), torch.eye(2))
    assert found == ("jpeg", 4, pytest.approx(by_hand[0] + by_hand[1], abs=1e-6))
    assert found.words() == f"jpeg, level 4 ({by_hand[:2].sum():.0%})"
    found = explain.name_distortion(classifier_of([0.0, 0.0, 9.0, 0.0], [0.0] * 4), torch.eye(2)[:1])
    assert found == ("lens_blur", 2, pytest.approx(softmax([0, 0, 9, 0])[2], abs=1e-6))
    assert explain.Named("pristine", 0, 0.5).words() == "pristine (50%)"
    assert explain.Named("lens_blur", 2, 0.996).words() == "lens blur, level 2 (100%)"


@pytest.mark.parametrize("reduce", [1, 2])
@pytest.mark.parametrize(("height", "width"), [(40, 50), (32, 32), (20, 70)])
def test_a_pixels_quality_is_the_mean_of_the_crops_that_hold_it(
    tmp_path: Path, reduce: int, height: int, width: int
) -> None:
    """Crops of 32 pixels, 8 or a little less apart."""
    long_side = max(height, width) if reduce > 1 else 0
    model = quality.load(save_model(tmp_path / "model.pt", long_side=long_side))
    picture = torch.randint(256, (3, height * reduce, width * reduce), generator=torch.Generator().manual_seed(3))
    picture[:, :, : width * reduce // 2] //= 4
    x = picture.double().numpy() / 255
    if reduce > 1:
        x = reduced(x.transpose(1, 2, 0), reduce).transpose(2, 0, 1)
    x = np.concatenate([x, x[:, -2::-1]], axis=1)[:, : max(height, 32)]  # reflected where it is smaller than a crop
    tops = {40: [0, 8], 32: [0], 20: [0]}[height]
    lefts = {50: [0, 6, 12, 18], 32: [0], 70: [0, 8, 15, 23, 30, 38]}[width]
    total, count = np.zeros(x.shape[1:]), np.zeros(x.shape[1:])
    for top, left in product(tops, lefts):
        crop = torch.from_numpy(x[None, :, top : top + 32, left : left + 32]).float()
        with torch.no_grad():
            total[top : top + 32, left : left + 32] += model.regressor(model.encoder(crop)).item()
        count[top : top + 32, left : left + 32] += 1
    found = explain.local_scores(model, picture.byte())
    assert found.shape == (height, width)
    np.testing.assert_allclose(found.numpy(), (total / count)[:height], atol=1e-3)


@pytest.mark.parametrize("side", [32, 33, 40, 100, 216, 217, 500, 768, 769, 1000, 20001])
def test_a_large_picture_has_few_crops_that_hold_all_of_it(side: int) -> None:
    places = explain._places(side, 32)
    assert places[0] == 0 and places[-1] == side - 32 and max(np.diff(places), default=0) <= 32
    assert len(places) <= max(24, np.ceil(side / 32))
    assert len(places) >= 24 or max(np.diff(places), default=0) <= 8


def test_the_map_of_a_large_picture_has_no_hole(tmp_path: Path) -> None:
    model = quality.load(save_model(tmp_path / "model.pt"))
    picture = torch.randint(256, (3, 40, 900), generator=torch.Generator().manual_seed(0)).byte()
    found = explain.local_scores(model, picture)
    assert found.shape == (40, 900) and found.isfinite().all()


def test_the_worst_place_is_red_and_the_best_blue() -> None:
    picture = torch.zeros(3, 100, 120, dtype=torch.uint8)
    picture[0] = 200  # its gray is 60
    scores = torch.full((50, 60), 3.0)
    scores[:, :20], scores[:, 40:] = 2.0, 4.0
    page = np.asarray(explain.draw(picture, scores, "title", "note")).astype(int)
    left, top = (24, 104)
    assert (page[top : top + 100, left : left + 120] == (200, 0, 0)).all()
    right = left + 120 + 16
    for column, color in ((5, (178, 24, 43)), (60, (247, 247, 247)), (115, (33, 102, 172))):
        assert np.abs(page[top + 50, right + column] - (np.array(color) + 60) / 2).max() <= 1
    bar = page[top + 100 + 16 + 7, right : right + 120]
    assert np.abs(bar[[0, -1]] - [(178, 24, 43), (33, 102, 172)]).max() <= 1


def test_little_difference_has_little_color() -> None:
    scores = torch.tensor([[5.0, 5.1]])
    page = np.asarray(explain.draw(torch.zeros(3, 20, 40, dtype=torch.uint8), scores, "t", "n")).astype(int)
    worst, best = page[104 + 10, 24 + 40 + 16], page[104 + 10, 24 + 40 + 16 + 39]
    wanted = [  # 0.45 and 0.55 of the way from red by white to blue, over black
        0.5 * (np.array((178, 24, 43)) * 0.1 + 0.9 * 247),
        0.5 * (np.array((33, 102, 172)) * 0.1 + 0.9 * 247),
    ]
    assert np.abs(np.array([worst, best]) - wanted).max() <= 1


def test_a_large_picture_is_drawn_smaller_and_whole() -> None:
    page = explain.draw(torch.zeros(3, 500, 1500, dtype=torch.uint8), torch.rand(50, 150), "title", "note")
    assert page.width == 2 * 480 + 16 + 2 * 24
    tiny = explain.draw(torch.zeros(3, 1, 1, dtype=torch.uint8), torch.ones(1, 1), "title", "note")
    assert isinstance(tiny, Image.Image) and tiny.height > 104


# --- how far the map can be trusted ---


def test_a_map_that_sees_the_distorted_half_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the picture's own error in place of a model's score the map is right unless a class changes nothing."""
    paths = list(demo_sources())[:2]
    numbers = iter(range(50))

    def error(model: object, picture: torch.Tensor) -> torch.Tensor:
        clean = read_image(paths[next(numbers) // 25])
        return -(picture.float() - clean).abs().mean(dim=0)

    monkeypatch.setattr(explain, "local_scores", error)
    told = explain.halves_told(None, paths, level=1)
    same = 3 / 25  # gaussian_blur, motion_blur and color_saturation_2 at level 1 change nothing: no half is lower
    assert 1 - same - 0.05 < told < 1 - same / 2 + 0.05
    numbers = iter(range(25))
    monkeypatch.setattr(explain, "local_scores", lambda *arguments: -error(*arguments))
    assert explain.halves_told(None, paths[:1], level=5) == 0


def test_the_command_has_a_line_a_level(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []
    monkeypatch.setattr(explain, "halves_told", lambda model, paths, level: seen.append(paths) or level / 10)
    tested = sorted(set(demo_sources().values()))[:2]
    results = {**RESULTS, "split": {"train": ["a"], "val": ["b"], "test": tested}}
    explain.main([str(save_model(tmp_path / "model.pt", {"results": results}, data="demo"))])
    photographs = [path for path, source in demo_sources().items() if source in tested]
    head, *lines = capsys.readouterr().out.splitlines()
    assert f" {len(photographs)} photographs " in head and seen == [photographs] * 5
    assert lines == [f"  level {level}: {level}0%" for level in range(1, 6)]
    explain.main([str(save_model(tmp_path / "model.pt"))])
    assert len(seen[-1]) == 67  # those of a model of another set are all new to it
