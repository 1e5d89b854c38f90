"""`ssl-iqa report`: the page has every image with what the model says of it; what cannot be read; exit codes."""

import runpy
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from ssl_iqa import __main__ as installed
from ssl_iqa.scoring import explain, quality
from tests.models import save_model

CLASSES = [["jpeg", 4], ["lens_blur", 2], ["pristine", 0]]


class Images(HTMLParser):
    """What the page knows of each image, by its path."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: dict[str, dict[str, str]] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attributes}
        if "data-path" in known:
            self.found[known["data-path"]] = known


@pytest.fixture
def report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], one_thread: None
) -> Callable[..., tuple[str, str, int]]:
    """report(words) runs `ssl-iqa report` with them: what it prints, its errors, its exit code."""

    def run(*words: object) -> tuple[str, str, int]:
        monkeypatch.setattr(sys, "argv", ["ssl-iqa", "report", *map(str, words)])
        code = 0
        try:
            installed.main()
        except SystemExit as end:
            code = end.code
        return *capsys.readouterr(), code

    return run


Report = Callable[..., tuple[str, str, int]]


def test_the_page_has_what_the_model_says_of_each_image(report: Report, photographs: Path, tmp_path: Path) -> None:
    paths, page = sorted(str(path) for path in photographs.iterdir()), tmp_path / "page.html"
    file = save_model(tmp_path / "model.pt")
    z = torch.cat([seen.z for _, seen in quality.score_files(quality.load(file), paths, 1)])
    weight = torch.randn(3, z.shape[1], generator=torch.Generator().manual_seed(0)) * 20
    naming = {"weight": weight, "bias": -weight @ z.mean(dim=0), "classes": CLASSES}  # so that the images differ
    naming["right"] = {"type": 0.5, "level": 0.4, "photographs": 8}
    file = save_model(tmp_path / "model.pt", {"naming": naming})
    out, err, code = report(file, photographs, "-o", page)
    assert (err, code) == ("", 0) and out == f"{page}: 10 images, {page.stat().st_size / 1e6:.1f} MB\n"
    found, model = Images(page.read_text()).found, quality.load(file)
    assert sorted(found) == paths
    kinds = set()
    for path, seen in quality.score_files(model, paths, 1):
        image, score = found[path], model.score(path)
        kind, level, probability = explain.name_distortion(naming, seen.z)
        kinds.add(kind)
        assert float(image["data-score"]) == pytest.approx(score, abs=1e-3)
        low, high = float(image["data-low"]), float(image["data-high"])
        assert (low, high) == pytest.approx((max(score - 1.8, 1), min(score + 1.8, 10)), abs=1e-3)
        assert image["data-distortion"] == kind and image["data-size"] == "64 × 48"
        assert image.get("data-level") == (str(level) if level else None)
        assert float(image["data-probability"]) == pytest.approx(probability, abs=1e-3)
    assert len(kinds) > 1 and "pristine" in kinds
    assert model.card().splitlines()[0] in page.read_text().replace("&#x27;", "'")


def test_without_names_and_intervals_there_are_none(report: Report, photographs: Path, tmp_path: Path) -> None:
    file = save_model(tmp_path / "old.pt", {"results": None, "residuals": None})
    assert report(file, photographs / "0.png", photographs / "1.png", "-o", tmp_path / "page.html")[1:] == ("", 0)
    found = Images((tmp_path / "page.html").read_text()).found
    assert len(found) == 2 and not any({"data-low", "data-distortion"} & {*image} for image in found.values())


def test_what_cannot_be_read_is_on_the_page_and_the_exit_code_is_one(
    report: Report, damaged: list[str], tmp_path: Path
) -> None:
    file = save_model(tmp_path / "models" / "model.pt")
    out, err, code = report(file, Path(damaged[0]).parent, "-o", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert code == 1 and err.splitlines()[-1] == "2 could not be read" and ": 3 images, " in out
    assert {*Images(text).found} == {damaged[3], damaged[4], damaged[5]}
    assert f"{damaged[0]}: not an image" in text and f"{damaged[1]}: not a readable image" in text


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["none.pt", "."], "none.pt: no such file"),
        (["MODEL", "none"], "none: no such file or folder"),
        (["MODEL", "empty"], "empty: no images"),
        (["MODEL", ".", "-o", "page.pdf"], "--out must end in .html, got page.pdf"),
        (["MODEL", ".", "-o", "none/page.html"], "--out none/page.html: no such folder: none"),
        (["MODEL", ".", "--coverage", "0"], "--coverage must be more than 0 and less than 1, got 0"),
    ],
)
def test_bad_input_is_one_line(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], wanted: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    model = str(save_model(tmp_path / "run" / "model.pt"))
    out, err, code = report(*(word.replace("MODEL", model) for word in words))
    assert (out, code) == ("", 2) and err.startswith(f"error: {wanted}") and err.count("\n") == 1
    assert not list(tmp_path.glob("**/*.html*"))


def test_a_folder_in_the_pages_place_is_told_before_the_work(report: Report, tmp_path: Path) -> None:
    (tmp_path / "page.html").mkdir()
    out, err, code = report("none.pt", tmp_path, "-o", tmp_path / "page.html")
    assert (out, code) == ("", 2) and err == f"error: --out must be a file, got the folder {tmp_path / 'page.html'}\n"


def test_ctrl_c_ends_it_without_a_page(
    report: Report, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ssl_iqa.scoring.quality.score_files", stopped)
    file = save_model(tmp_path / "model.pt")
    assert report(file, photographs, "-o", tmp_path / "page.html") == ("", "", 130)
    assert not (tmp_path / "page.html").exists()


def test_installed_it_scores_as_well(
    photographs: Path,
    tmp_path: Path,
    one_thread: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The same name without `report`, as `python -m ssl_iqa`, too."""
    file = save_model(tmp_path / "model.pt")
    monkeypatch.setattr(sys, "argv", ["ssl_iqa", str(file), str(photographs / "0.png"), "--json"])
    monkeypatch.delitem(sys.modules, "ssl_iqa.__main__")
    runpy.run_module("ssl_iqa", run_name="__main__")
    score = round(quality.load(file).score(photographs / "0.png"), 4)
    assert f'"score": {score}' in capsys.readouterr().out
