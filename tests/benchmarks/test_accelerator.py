"""accelerator.sh on the CPU: a part that fails or hangs does not end the others, and the encoder comes in pieces."""

import hashlib
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ssl_iqa.engine.weights import load_encoder

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "accelerator.sh"
# Stands for python3: the first part hangs, compiling fails, other benchmarks say their arguments. Joint training and
# the encoder's part are real; the first gets its signal when an epoch has ended, and not after a time.
PYTHON = f"""#!/usr/bin/env bash
case "$*" in
    *is_bf16_supported*) echo cpu off ;;
    *platform*) exec sleep 100 ;;
    *--compile*) echo 'error: "no" compiler' >&2; exit 1 ;;
    "-m benchmarks."*) echo "$*" ;;
    train_joint.py*)
        [[ "$*" =~ --out\\ ([^ ]+) ]] && log="${{BASH_REMATCH[1]}}/log.jsonl"
        {shlex.quote(sys.executable)} "$@" & child=$!
        while [ ! -s "$log" ] && kill -0 $child; do sleep 0.1; done
        kill -TERM $child; wait $child ;;
    *) exec {shlex.quote(sys.executable)} "$@" ;;
esac
"""


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, *map(str, arguments)], capture_output=True, text=True, env=os.environ | environment, timeout=240
    )


@pytest.mark.parametrize("arguments", [[], ["out"], ["out", "nowhere"], ["out", ".", "soon"], ["out", ".", "1", "2"]])
def test_wrong_arguments_give_the_usage(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "usage: benchmarks/accelerator.sh OUT FOLDER_OF_IMAGES [SECONDS]\n"


def test_each_part_ends_alone_and_the_encoder_is_written(photographs: Path, scored: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").write_text(PYTHON)
    (tmp_path / "bin" / "python3").chmod(0o755)
    start, out = tmp_path / "start.pt", tmp_path / "out"
    torch.save({"format": "ssl_iqa.encoder", "version": 1, **start_state()}, start)
    parts = "machine accumulate-2 compile joint encoder"
    done = run(
        *(out, photographs, 120),
        PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        TINY="1",
        PARTS=parts,
        START=str(start),
        LABELED=f"csv:{scored}",
        JOINT="--crop 32 --batch-size 4 --labeled-batch-size 4 --validation-size 4",
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert [part["part"] for part in summary] == parts.split()
    assert [part["status"] for part in summary] == ["timed out", "ok", "failed", "ok", "ok"]
    assert summary[3]["last"].startswith("ended after epoch ") and summary[2]["last"] == "error: no compiler"
    text = (out / "results.txt").read_text()
    assert "--accumulate 2\n" in text and "== compile: failed (exit code 1, " in text
    assert text.splitlines()[-6].startswith("== summary: ")
    assert {path.name for path in out.iterdir()} == {
        *("results.txt", "summary.json", "joint.jsonl", "encoder.txt", "encoder.pt.aa")
    }
    assert all(json.loads(line)["L"] > 0 for line in (out / "joint.jsonl").open())
    command, _, checksum = (out / "encoder.txt").read_text().partition("#")
    subprocess.run(command, shell=True, check=True, cwd=out)
    assert (out / "encoder.pt").read_bytes() == (out / "encoder.pt.aa").read_bytes()  # small enough for one piece
    assert checksum.split() == ["sha256:", hashlib.sha256((out / "encoder.pt").read_bytes()).hexdigest()]
    weights, before = load_encoder(out / "encoder.pt").state_dict(), start_state()["weights"]
    assert (out / "encoder.pt").stat().st_size < 0.6 * start.stat().st_size
    moved = [name for name, w in weights.items() if w.ndim > 1 and not torch.equal(w, before[name].half().float())]
    assert moved and all((weights[name] - before[name]).norm() < 0.5 * before[name].norm() for name in moved)


def start_state() -> dict[str, object]:
    encoder = load_encoder("random", "dct-mlp", seed=3)
    return {"arch": "dct-mlp", "weights": encoder.state_dict(), "seen": None}
