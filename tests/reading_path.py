"""The functions that one step of the demo enters, by file: what a reader of train_joint.py has to follow.

    python -m tests.reading_path

The second step of joint training with the demo's settings and no workers. Functions of the repository's own files count
once each, without the distortions' types and the optimizer's update; comprehensions and lambdas do not count.
"""

import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import torch

import train_joint
from ssl_iqa.data import joint_run
from ssl_iqa.data.labeled import LabeledSet

ROOT = Path(train_joint.__file__).parent
ASIDE = ("ssl_iqa/distortions/", "ssl_iqa/lars.py")  # but for how a type is applied
KEPT = "ssl_iqa/distortions/apply.py"


def place(code: CodeType) -> tuple[str, str] | None:
    """(file, function) of code that counts."""
    path, name = Path(code.co_filename), getattr(code, "co_qualname", f"{code.co_name}, line {code.co_firstlineno}")
    if not path.is_relative_to(ROOT) or code.co_name.startswith("<"):
        return None
    file = path.relative_to(ROOT).as_posix()
    is_own = file == "train_joint.py" or file.startswith("ssl_iqa/")
    return (file, name) if is_own and (file == KEPT or not file.startswith(ASIDE)) else None


def black(labeled: LabeledSet, indices: Sequence[int], _: int) -> None:
    """In place of the demo's labeled images, which are distorted once before training, in a minute."""
    labeled.kept.update(dict.fromkeys(indices, torch.zeros(3, 144, 192, dtype=torch.uint8)))


def second_step(out: Path) -> dict[str, set[str]]:
    """The functions entered between the first step's end and the second's, by file."""
    entered: dict[str, set[str]] = {"train_joint.py": {"train_epoch"}}  # the loop itself
    real: Callable[..., Any] = train_joint.joint_step
    real_make_all, joint_run.make_all = joint_run.make_all, black
    steps = 0

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and (found := place(frame.f_code)):
            entered.setdefault(found[0], set()).add(found[1])

    def joint_step(*args: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 3:
            sys.setprofile(None)
            raise KeyboardInterrupt
        values = real(*args)
        if steps == 1:
            sys.setprofile(profile)
        return values

    train_joint.joint_step = joint_step
    try:
        train_joint.main(["--workers", "0", "--device", "cpu", "--out", str(out)])
    except KeyboardInterrupt:
        pass
    finally:
        sys.setprofile(None)
        train_joint.joint_step, joint_run.make_all = real, real_make_all
    return entered


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        functions = second_step(Path(folder) / "run")
    for file, names in sorted(functions.items()):
        print(f"{file}: {', '.join(sorted(names))}")
    print(f"{sum(map(len, functions.values()))} functions in {len(functions)} files")
