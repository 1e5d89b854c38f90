"""What a reader follows from train_joint.py to the loss: how many functions, files and lines."""

from pathlib import Path

from tests.reading_path import ROOT, second_step

METHOD = ("train_joint.py", *(f"ssl_iqa/{name}.py" for name in ("model", "losses", "lars", "schedule")))
DATA = tuple(f"ssl_iqa/data/{name}.py" for name in ("views", "datasets", "samplers", "streams"))
BESIDE = (
    "ssl_iqa/dct_mlp.py",
    "ssl_iqa/distortions/apply.py",
    "ssl_iqa/engine/console.py",
    "ssl_iqa/engine/distributed.py",
)


def test_a_step_of_the_demo_enters_few_functions_in_few_files(tmp_path: Path, one_thread: None) -> None:
    entered = second_step(tmp_path / "run")
    assert {"train_joint.py", *DATA, "ssl_iqa/losses.py", "ssl_iqa/model.py"} <= set(entered)  # it has looked
    assert set(entered) <= {*METHOD, *DATA, *BESIDE} and len(entered) <= 12
    assert sum(map(len, entered.values())) <= 60


def test_a_readers_path_is_short() -> None:
    lines = {path: (ROOT / path).read_text(encoding="utf-8").count("\n") for path in (*METHOD, *DATA)}
    assert sum(lines.values()) < 1300, lines
    assert sum(lines[path] for path in DATA) <= 540, lines
