"""The benchmarks run, and their tables add up; how fast anything is, is no test."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ssl_iqa import bench
from ssl_iqa.distortions import KADIS, NAMES, DistortionClass


@pytest.fixture(autouse=True)
def threads_stay() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_the_median_is_taken_after_a_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0, 100, 200, 201, 300, 303, 400, 402])  # 100 to warm up, then 1, 3 and 2
    monkeypatch.setattr(bench.time, "perf_counter", lambda: next(clock))
    assert bench.seconds(lambda: None, 3, torch.device("cpu")) == 2


def test_every_type_has_its_line_and_its_share(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried: list[DistortionClass] = []
    monkeypatch.setattr(bench, "distort_as", lambda image, distortion, *_: tried.append(distortion) or image.shape)
    milliseconds = iter([*range(1, 126), 500])  # of the 125 classes in turn, and of the yardstick

    def seconds(work: object, repeats: int, device: torch.device) -> float:
        work()
        return next(milliseconds) / 1000

    monkeypatch.setattr(bench, "seconds", seconds)
    monkeypatch.setattr(bench, "bench_pipeline", lambda paths, workers, pictures: 10.0 * workers)
    bench.main(["distortions"])
    out = capsys.readouterr().out
    assert tried == [*KADIS, *KADIS] and out.startswith("one thread of ")
    rows = re.findall(r"^(\w+) +([\d.]+) +([\d.]+) +([\d.]+)%$", out, flags=re.MULTILINE)
    assert [row[0] for row in rows] == list(NAMES)
    assert [float(row[1]) for row in rows] == [5 * i + 3 for i in range(25)]
    assert [float(row[2]) for row in rows] == [5 * i + 5 for i in range(25)]
    assert sum(float(row[3]) for row in rows) == pytest.approx(100, abs=1)
    assert re.search(r"mean of the 25 types +63.00\n", out)  # of 1 .. 125
    assert re.search(rf"without jpeg2000 +{(125 * 63 - 5 * 43) / 120:.2f}\n", out)
    assert re.search(r"sigma 2 +500.00 ", out)
    assert re.search(r"1 worker +10\.0 pictures/s.*\n2 workers +20\.0 pictures/s", out)


def test_the_pipeline_and_the_device_are_measured(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    paths = bench.photographs(tmp_path, 2)
    assert bench.data.read_image(paths[1]).shape == (3, 384, 512)
    assert bench.bench_pipeline(paths, workers=0, pictures=50) > 0
    bench.main(["device", "--device", "cpu", "--batch-size", "2", "--arch", "dct-mlp", "--repeats", "1"])
    out = capsys.readouterr().out
    assert out.startswith("2 pictures of 512x384 on cpu") and "pictures/s" in out and "of it" in out


@pytest.mark.parametrize(
    "flags", [["distortions", "--repeats", "0"], ["distortions", "--pictures", "20"], ["device", "--batch-size", "-1"]]
)
def test_numbers_too_small_to_measure_are_refused(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        bench.main(flags)
    assert caught.value.code == 2 and capsys.readouterr().err.startswith(f"error: {flags[1]} {flags[2]}: ")
