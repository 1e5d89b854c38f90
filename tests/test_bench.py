"""The benchmarks run, and their tables add up; how fast anything is, is no test."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

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


def test_the_loss_has_a_line_a_number_of_views(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    costs = {(64, False): (2.0, 0.0), (64, True): (3.0, 0.0), (128, False): (4.0, 80.0), (128, True): (5.0, 20.0)}
    asked = []

    def in_new_process(work: object, n_views: int, chunked: bool, *others: object) -> tuple[float, float]:
        asked.append((work, *others))
        return costs[n_views, chunked]

    monkeypatch.setattr(bench, "in_new_process", in_new_process)
    bench.main(["loss", "--views", "64", "128", "--repeats", "2", "--device", "cpu"])
    title, _, columns, *rows = capsys.readouterr().out.splitlines()
    assert title.startswith("Eq. 5") and "on cpu" in title and columns.split()[0] == "views"
    assert rows[0].split() == ["64", "2.0000", "0.0", "3.0000", "0.0", "1.50", "nan"]
    assert rows[1].split() == ["128", "4.0000", "80.0", "5.0000", "20.0", "1.25", "0.25"]
    assert asked == 4 * [(bench.loss_cost, 2, "cpu")]


def test_the_memory_of_the_loss_is_that_of_its_similarities() -> None:
    taken, mebibytes = bench.in_new_process(bench.loss_cost, 1024, False, 1, "cpu")
    assert taken > 0 and 8 <= mebibytes <= 64  # one [1024, 1024] takes 4


def test_the_loss_is_measured_all_at_once_and_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def loss(p: Tensor, classes: Tensor, **settings: int) -> Tensor:
        asked.append((len(p), len(classes.unique()), settings))
        return p.sum()

    peaks = iter([100.0, 164.0, 300.0, 300.5])
    monkeypatch.setattr(bench, "supervised_nt_xent", loss)
    monkeypatch.setattr(bench, "peak_memory", lambda device: next(peaks))
    assert bench.loss_cost(300, chunked=False, repeats=1, device_name="cpu")[1] == 64
    assert asked == [(n, classes, {"max_similarities": 300**2}) for n, classes in ((16, 16), (300, 125), (300, 125))]
    asked.clear()
    assert bench.loss_cost(300, chunked=True, repeats=2, device_name="cpu")[1] == 0.5
    assert asked == [(16, 16, {})] + 3 * [(300, 125, {})]


@pytest.mark.parametrize(
    "flags",
    [
        ["distortions", "--repeats", "0"],
        ["distortions", "--pictures", "20"],
        ["device", "--batch-size", "-1"],
        ["loss", "--views", "1"],
        ["loss", "--repeats", "0"],
    ],
)
def test_numbers_too_small_to_measure_are_refused(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        bench.main(flags)
    assert caught.value.code == 2 and capsys.readouterr().err.startswith(f"error: {flags[1]} {flags[2]}: ")


SCRIPT = ["--script", str(Path(__file__).parents[1] / "train_joint.py")]


def test_a_steps_parts_are_shares_and_the_loop_is_beside_its_bound(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    times = {"the bare encoder": 0.9, "the full step": 1.0, "unlabeled pass": 0.6, "labeled pass": 0.2}
    times |= {"loss, Eq. 5": 0.15, "optimizer": 0.05}
    monkeypatch.setattr(bench, "step_times", lambda *_: dict(times))
    monkeypatch.setattr(bench, "loading_seconds", lambda *_: 3.0)
    monkeypatch.setattr(bench, "loop_record", lambda *_: {"pictures_per_second": 51.2, "data_wait": 0.25})
    monkeypatch.setattr(bench.runs, "cpu_cores", lambda: 2)
    bench.main(["step", *SCRIPT, "--device", "cpu", "--arch", "dct-mlp"])  # 64 + 64 pictures
    out = capsys.readouterr().out
    assert re.search(r"the bare encoder +0\.9000 +142\.2\n", out)
    assert re.search(r"the full step +1\.0000 +128\.0 +90% of the bare encoder\n", out)
    assert re.findall(r"^  (\w+).* ([\d.]+)% of the parts$", out, flags=re.MULTILINE) == [
        *(("unlabeled", "60.0"), ("labeled", "20.0"), ("loss", "15.0"), ("optimizer", "5.0"))
    ]
    assert re.search(r"what the cores allow +2\.0000 +64\.0 +\(3\.0000 s to load \+ 1\.0000 s a step", out)
    assert re.search(r"the loop as users run it +2\.5000 +51\.2 +80% of it, 25% of the time waiting", out)


def test_the_step_and_the_loop_of_the_script_are_measured(
    capsys: pytest.CaptureFixture[str], photographs: Path, scored: Path
) -> None:
    data_flags = ["--preset", "paper", "--unlabeled", str(photographs), "--labeled", f"csv:{scored}", "--crop", "32"]
    small = ["--arch", "dct-mlp", "--init", "random", "--batch-size", "4", "--labeled-batch-size", "4"]
    flags = [*data_flags, *small, "--workers", "0", "--device", "cpu"]
    bench.main(["step", *SCRIPT, "--repeats", "1", "--pictures", "8", *flags])
    out = capsys.readouterr().out
    assert out.startswith("dct-mlp, 4 + 4 pictures of 32 pixels, --amp off, on cpu")
    speeds = [float(speed) for speed in re.findall(r"^(?:the|what) .*? +[\d.]+ +([\d.]+)", out, flags=re.MULTILINE)]
    assert len(speeds) == 4 and min(speeds) > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["step", "--script", "nowhere.py"], "--script nowhere.py: no such file"),
        (["step", *SCRIPT, "--batch-size", "1"], "--batch-size 1: 2 or more is wanted"),
        (["step", *SCRIPT, "--repeats", "0"], "--repeats 0: 1 or more is wanted"),
        (["loss", "--unknown"], "unrecognized arguments: --unknown"),
    ],
)
def test_what_is_wrong_with_a_benchmark_is_said(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        bench.main(arguments)
    assert caught.value.code == 2 and message in capsys.readouterr().err
