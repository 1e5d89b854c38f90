"""The source archive, from which others build and test."""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUILT = ("__pycache__", "*.pyc", "*.egg-info", ".*", "build", "dist", "runs")  # what a checkout may hold besides


def test_the_source_archive_holds_the_checkout(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    checkout = shutil.copytree(ROOT, tmp_path / "checkout", ignore=shutil.ignore_patterns(*BUILT))
    wanted = {str(path.relative_to(checkout)) for path in checkout.rglob("*") if path.is_file()}
    build = "from setuptools import build_meta; print(build_meta.build_sdist('dist'))"
    made = subprocess.run([sys.executable, "-c", build], cwd=checkout, check=True, capture_output=True, text=True)
    with tarfile.open(checkout / "dist" / made.stdout.split()[-1]) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert {"train_joint.py", "finetune.py", "hubconf.py", "LICENSE", "tests/conftest.py"} <= wanted
    assert wanted - held == set()
