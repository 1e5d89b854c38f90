"""When a fit's epoch is saved."""

from pathlib import Path

import pytest
import torch
from torch import nn

from ssl_iqa.evaluation.task import Best, Task, save_epoch
from tests.conftest import as_process, load


def test_an_epoch_is_saved_half_a_minute_after_the_last_one_that_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    task = Task(None, {}, torch.device("cpu"), None, saved={"digest": "it"}, saved_at=now)
    now = 1031.0
    assert not task.is_save_due  # without a file
    task.last = tmp_path / "new" / "last.pt"
    assert task.is_save_due
    with as_process(1, 2):
        assert not task.is_save_due
    layer = nn.Linear(1, 1)
    save_epoch("ft", 3, (layer, layer, torch.optim.Adam(layer.parameters())), Best(), task, least=0.5)
    saved = load(task.last)
    assert (saved["phase"], saved["epochs"], saved["least"], saved["digest"]) == ("ft", 3, 0.5, "it")
    now = 1060.9
    assert not task.is_save_due
    now = 1061.0
    assert task.is_save_due
