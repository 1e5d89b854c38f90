"""What the tests of several modules share: small photographs, scored sets, the scripts' smallest settings, helpers."""

import csv
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Before torch is imported, and for the processes that tests start: the tests run on all cores already, and threads that
# wait for a core take it from others.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from ssl_iqa.__main__ import main
from ssl_iqa.data.images import read_image, reduced
from ssl_iqa.engine import distributed
from ssl_iqa.evaluation import predictions, probe
from ssl_iqa.evaluation.metrics import plcc

REFERENCES = 10


def photograph(seed: int) -> Image.Image:
    """64 x 48, smooth colors under a little noise: no two places are alike."""
    rng = np.random.default_rng(seed)
    colors = Image.fromarray(rng.integers(30, 226, (6, 8, 3), dtype=np.uint8))
    noisy = np.asarray(colors.resize((64, 48), Image.Resampling.BICUBIC)) + rng.integers(-9, 10, (48, 64, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of ten photographs."""
    folder = tmp_path_factory.mktemp("photographs")
    for i in range(REFERENCES):
        photograph(i).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="session")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV file of ten references, blurred and pixelated at two levels each; the scores fall with the level."""
    folder = tmp_path_factory.mktemp("scored")
    rows = []
    for i in range(REFERENCES):
        image = photograph(100 + i)
        for level in (1, 4):
            coarse = image.resize((64 // (1 + level), 48 // (1 + level))).resize((64, 48), Image.Resampling.NEAREST)
            for kind, worse in (("blur", image.filter(ImageFilter.GaussianBlur(level))), ("pixelate", coarse)):
                name = f"{i}_{kind}_{level}.png"
                worse.save(folder / name)
                rows.append((name, 80 - 10 * level + 0.1 * i, f"reference {i}", kind))
    with open(folder / "scores.csv", "w", newline="") as file:
        csv.writer(file).writerows([("image", "score", "reference", "distortion"), *rows])
    return folder / "scores.csv"


@pytest.fixture
def damaged(photographs: Path, tmp_path: Path) -> list[str]:
    """Six paths: a text, a truncated image, none there, one of 10 x 10, and two good ones."""
    good = (photographs / "0.png").read_bytes()
    (tmp_path / "0.png").write_text("no image")
    (tmp_path / "1.png").write_bytes(good[: len(good) // 2])
    Image.new("RGB", (10, 10)).save(tmp_path / "3.png")
    for i in (4, 5):
        (tmp_path / f"{i}.png").write_bytes((photographs / f"{i}.png").read_bytes())
    return [str(tmp_path / f"{i}.png") for i in range(6)]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[str, str, int]]:
    """command(words) runs `ssl-iqa` with them: what it prints, its warnings and errors, its exit code."""

    def run(*words: object) -> tuple[str, str, int]:
        capsys.readouterr()
        code = 0
        try:
            main([*map(str, words)])
        except SystemExit as end:
            code = end.code
        return *capsys.readouterr(), code

    return run


@pytest.fixture
def device() -> torch.device:
    """Where tests/test_device.py computes: benchmarks/accelerator.sh says cuda."""
    return torch.device(os.environ.get("SSL_IQA_TEST_DEVICE", "cpu"))


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts leave torch's threads alone, so that sums are added up in one order."""
    torch.set_num_threads(1)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)


def flags(values: dict[str, Any]) -> list[str]:
    """{"batch_size": 4, "resume": True, "arch": None} -> --batch-size 4 --resume."""
    arguments = []
    for name, value in values.items():
        if value is not None:
            arguments += ["--" + name.replace("_", "-"), *([] if value is True else [str(value)])]
    return arguments


def smallest_joint(photographs: Path, scored: Path) -> dict[str, Any]:
    """train_joint's settings for two epochs of two steps."""
    return {
        "preset": "paper",
        "unlabeled": photographs,
        "labeled": f"csv:{scored}",
        "crop": 32,
        "arch": "dct-mlp",
        "init": "random",
        "batch_size": 4,
        "labeled_batch_size": 4,
        "images_per_class": 2,
        "epochs": 2,
        "lr": 0.1,
        "regressor_lr": 1e-3,
        "workers": 0,
        "device": "cpu",
    }


def smallest_finetune(scored: Path) -> dict[str, Any]:
    """finetune's settings for LP of two epochs from random weights."""
    return {
        "preset": "paper",
        "mode": "lp",
        "encoder": "random",
        "arch": "dct-mlp",
        "data": f"csv:{scored}",
        "crop": 32,
        "crops": "center",
        "epochs": 2,
        "batch_size": 8,
        "lr": 1e-3,
        "ft_lr": 1e-4,
        "workers": 0,
        "device": "cpu",
    }


@pytest.fixture
def joint_arguments(photographs: Path, scored: Path, one_thread: None) -> Callable[..., list[str]]:
    """joint_arguments(out=.., name=value ..): train_joint's smallest ones but for what is named."""
    return lambda **changes: flags(smallest_joint(photographs, scored) | changes)


@pytest.fixture
def no_logistic5(monkeypatch: pytest.MonkeyPatch) -> None:
    """PLCC in place of `plcc_logistic5`, whose nine fits take longer than the smallest training."""
    monkeypatch.setattr(predictions, "plcc_logistic5", plcc)


@pytest.fixture
def small_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """One crop a class in place of 8 and 4."""
    real = probe.distorted_crops
    monkeypatch.setattr(probe, "distorted_crops", lambda dataset, per_class, seed: real(dataset, 1, seed))


@pytest.fixture
def finetune_arguments(scored: Path, one_thread: None, no_logistic5: None) -> Callable[..., list[str]]:
    """finetune_arguments(out=.., name=value ..): finetune's smallest ones but for what is named."""
    return lambda **changes: flags(smallest_finetune(scored) | changes)


@contextmanager
def as_process(rank: int, size: int) -> Iterator[None]:
    """What is made within takes this process's part, as in a run of several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "rank", lambda: rank)
        patch.setattr(distributed, "size", lambda: size)
        yield


def save_reduced(folder: Path, out: Path, long_side: int) -> Path:
    """A copy of a folder whose images are reduced, each saved as PNG under its name."""
    shutil.copytree(folder, out)
    for path in out.glob("*.png"):
        Image.fromarray(reduced(read_image(path), long_side).permute(1, 2, 0).numpy()).save(path)
    return out


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def image(path: Path) -> None:
    """A image of 4 x 3 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3)).save(path)


def error_of(error_type: type[Exception], call: Callable, *args: Any) -> str:
    """The message of the error that a call raises: always one line."""
    with pytest.raises(error_type) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def load(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def log(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").open()]


def same(a: Any, b: Any) -> bool:
    """Whether two checkpoints are equal bit for bit."""
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def timeless(out: Path) -> list[dict[str, Any]]:
    times = ("minutes", "pictures_per_second", "data_wait")
    return [{k: v for k, v in record.items() if k not in times} for record in log(out)]
