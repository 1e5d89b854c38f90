"""The benchmarks run, and their tables add up; how fast anything is, is no test."""

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks import distortions, loss, methods, scoring, shards, step, timing
from ssl_iqa.data.demo import demo_sources
from ssl_iqa.data.images import read_image
from ssl_iqa.data.sets import load_labeled
from ssl_iqa.data.shards import Members, ShardViews, list_shards
from ssl_iqa.distortions import KADIS, NAMES, DistortionClass

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def threads_stay() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


# --- timing ---


def test_the_median_is_taken_after_a_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0, 100, 200, 201, 300, 303, 400, 402])  # 100 to warm up, then 1, 3 and 2
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    assert timing.seconds(lambda: None, 3, CPU) == 2


def test_works_are_timed_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([1.0, 30.0, 2.0, 10.0, 6.0, 20.0])
    tried: list[str] = []

    def seconds(work: Callable[[], object], repeats: int, device: torch.device) -> float:
        work()
        return next(times)

    monkeypatch.setattr(timing, "seconds", seconds)
    works = {name: lambda name=name: tried.append(name) for name in "ab"}
    assert timing.in_turns(works, 3, CPU) == {"a": 2, "b": 20} and "".join(tried) == "ababab"


# --- distortions ---


def test_every_type_has_its_line_and_its_share(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried: list[DistortionClass] = []
    monkeypatch.setattr(distortions, "distort_as", lambda image, distortion, *_: tried.append(distortion))
    milliseconds = iter([*range(1, 126), 500])  # of the 125 classes in turn, and of the yardstick

    def seconds(work: Callable[[], object], repeats: int, device: torch.device) -> float:
        work()
        return next(milliseconds) / 1000

    monkeypatch.setattr(distortions, "seconds", seconds)
    monkeypatch.setattr(distortions, "pipeline_speed", lambda paths, workers, images: 10.0 * workers)
    distortions.main([])
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
    assert re.search(r"\n1 workers.* 10\.0 images/s\n2 workers.* 20\.0 images/s\n$", out)


def test_the_pipeline_and_the_device_are_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, photographs: Path
) -> None:
    monkeypatch.setattr(distortions, "cpu_cores", lambda: 0)  # workers
    flags = ["--images", "50", "--photographs", str(photographs), "--batch-size", "2", "--arch", "dct-mlp"]
    distortions.main(["--device", "cpu", "--repeats", "1", *flags])
    out = capsys.readouterr().out
    workers, distorting, encoding = map(float, re.findall(r" ([\d.]+) images/s\n", out))
    assert min(workers, distorting, encoding) > 0
    share = int(re.search(r"on the device: (\d+)%", out)[1]) / 100
    assert share == pytest.approx((1 / distorting) / (1 / distorting + 1 / encoding), abs=0.02)


# --- the loss ---


def test_the_loss_has_a_line_a_number_of_views_and_of_processes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    costs = {(64, False): (2.0, 0.0), (64, True): (3.0, 0.0), (128, False): (4.0, 80.0), (128, True): (5.0, 20.0)}

    def cost(n_views: int, processes: int, chunked: bool, repeats: int, device: str) -> tuple[float, ...]:
        assert (repeats, device) == (2, "cpu")
        return tuple(cost / processes for cost in costs[n_views, chunked])

    monkeypatch.setattr(loss, "cost_in_new_process", cost)
    loss.main(["--views", "64", "128", "--processes", "1", "4", "--repeats", "2", "--device", "cpu"])
    rows = capsys.readouterr().out.splitlines()[-4:]
    assert rows[0].split() == ["64", "1", "2.0000", "0.0", "3.0000", "0.0", "1.50", "nan"]
    assert rows[1].split() == ["64", "4", "0.5000", "0.0", "0.7500", "0.0", "1.50", "nan"]
    assert rows[2].split() == ["128", "1", "4.0000", "80.0", "5.0000", "20.0", "1.25", "0.25"]
    assert rows[3].split() == ["128", "4", "1.0000", "20.0", "1.2500", "5.0", "1.25", "0.25"]


def test_the_memory_of_the_loss_is_that_of_its_similarities() -> None:
    taken, mebibytes = loss.cost_in_new_process(1024, 1, False, 1, "cpu")
    assert taken > 0 and 8 <= mebibytes <= 64  # one [1024, 1024] takes 4


def test_the_loss_is_measured_all_at_once_and_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def stand_in(p: Tensor, classes: Tensor, anchors: tuple[int, int], **settings: int) -> Tensor:
        asked.append((len(p), len(classes.unique()), anchors, settings))
        return p.sum()

    peaks = iter([100.0, 164.0, 300.0, 300.5])
    monkeypatch.setattr(loss, "supervised_nt_xent", stand_in)
    monkeypatch.setattr(loss, "peak_memory", lambda device: next(peaks))
    assert loss.loss_cost(300, 1, chunked=False, repeats=1, device_name="cpu")[1] == 64
    whole = {"max_similarities": 300**2}
    assert asked == [(16, 16, (0, 16), whole)] + 2 * [(300, 125, (0, 300), whole)]
    asked.clear()
    assert loss.loss_cost(300, 3, chunked=True, repeats=2, device_name="cpu")[1] == 0.5
    assert asked == [(48, 48, (0, 16), {})] + 3 * [(300, 125, (0, 100), {})]


# --- shards and scoring ---


def test_tars_and_files_hold_the_same_images(tmp_path: Path) -> None:
    paths, spec = shards.write_images(tmp_path, 70)
    views = ShardViews(Members(list_shards(spec)), size=32)
    assert [Path(name).name for name in views.paths] == [Path(path).name for path in paths]
    in_tars = [views.encoded(i) for i in range(70)]
    assert in_tars == [Path(path).read_bytes() for path in paths]
    assert len({*in_tars}) == 67  # the demo's photographs, three of them twice
    assert read_image(paths[69]).shape == (3, 384, 512)


def test_shards_and_files_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    shards.main(["--images", "8", "--repeats", "1"])
    out = capsys.readouterr().out
    assert out.startswith("8 JPEG images of 512x384")
    size = int(re.search(r"(\d+) bytes each", out)[1])
    rows = re.findall(r"^(\w+: [\w, ]+?) +(\d+) images/s +([\d.]+) MB/s$", out, flags=re.MULTILINE)
    assert [row[0] for row in rows] == [f"shards: {what}" for what in ("headers", "read", "read, decode")] + [
        *("files: read", "files: read, decode")
    ]
    assert all(float(megabytes) == pytest.approx(int(speed) * size / 1e6, abs=0.1) for _, speed, megabytes in rows)


def test_scoring_is_beside_the_bare_encoder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    times = iter([4.0, 5.0, 0.5])
    monkeypatch.setattr(
        scoring, "in_turns", lambda works, *_: {name: work() and next(times) for name, work in works.items()}
    )
    monkeypatch.setattr(timing, "SIZE", (240, 230))
    scoring.main(["--arch", "dct-mlp", "--images", "10", "--device", "cpu"])
    out = capsys.readouterr().out
    assert re.search(r"the bare encoder +4.000 +2.5\n", out)
    assert re.search(r"scoring files +5.000 +2.0\n", out)
    assert re.search(r"reading them alone +0.500 +20.0\nscoring files has 80% of the bare encoder's speed\n", out)


# --- the step ---


def test_a_steps_parts_are_shares(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    times = {"the bare encoder": 0.9, "the full step": 1.0, "unlabeled pass": 0.6, "labeled pass": 0.2}
    times |= {"loss, Eq. 5": 0.15, "optimizer": 0.05}
    monkeypatch.setattr(step, "in_turns", lambda works, *_: {name: times[name] for name in works})
    step.main(["--images", "0", "--device", "cpu", "--arch", "dct-mlp"])  # 64 + 64 images
    out = capsys.readouterr().out
    assert re.search(r"the bare encoder +0\.9000 +142\.2\n", out)
    assert re.search(r"the full step +1\.0000 +128\.0 +90% of the bare encoder\n", out)
    assert re.findall(r"^  (\w+).* ([\d.]+)% of the parts$", out, flags=re.MULTILINE) == [
        *(("unlabeled", "60.0"), ("labeled", "20.0"), ("loss", "15.0"), ("optimizer", "5.0"))
    ]


@pytest.mark.parametrize("accumulate", ["1", "2"])
def test_the_step_of_the_script_is_measured(
    accumulate: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    photographs: Path,
    scored: Path,
) -> None:
    asked = []
    monkeypatch.setattr(
        step.subprocess, "run", lambda command, **_: asked.append(command[1:]) or write_log(Path(command[-1]))
    )
    data = ["--preset", "paper", "--unlabeled", str(photographs), "--labeled", f"csv:{scored}", "--crop", "32"]
    small = ["--arch", "dct-mlp", "--init", "random", "--batch-size", "4", "--labeled-batch-size", "4"]
    flags = [*data, *small, "--workers", "0", "--device", "cpu", "--accumulate", accumulate]
    step.main(["--repeats", "1", "--images", "9", *flags])
    out = capsys.readouterr().out
    assert out.startswith(f"dct-mlp, 4 + 4 images of 32 pixels, --amp off, --accumulate {accumulate}, on cpu")
    speeds = [float(speed) for speed in re.findall(r"^the .*? +[\d.]+ +([\d.]+)", out, flags=re.MULTILINE)]
    assert len(speeds) == 2 and min(speeds) > 0
    assert out.endswith("the loop, 0 workers: 12.5 images/s, 25% of the time waiting for images\n")
    assert asked[0][0].endswith("train_joint.py") and asked[0][1 : 1 + len(flags)] == flags
    assert asked[0][1 + len(flags) : -1] == ["--epochs", "2", "--epoch-size", "8", "--validation-size", "4", "--out"]


def write_log(out: Path) -> object:
    out.mkdir()
    second = '{"pictures_per_second": 12.5, "data_wait": 0.25}'
    (out / "log.jsonl").write_text(f'{{"pictures_per_second": 1, "data_wait": 1}}\n{second}\n')
    return type("Done", (), {"returncode": 0})


# --- methods ---


def test_a_method_has_its_time_and_memory(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    measured, found = methods.measured, []

    def noted(name: str, spec: str, out: Path) -> tuple[float, float]:
        measured(name, spec, out)
        labeled = load_labeled(spec)
        found.extend([len(labeled.paths), labeled.read(19).shape, len({*labeled.paths})])
        found.append([json.loads(path.read_text())["name"] for path in (out / name).rglob("results.json")])
        return 90.0, 1024.0

    monkeypatch.setattr(methods, "measured", noted)
    monkeypatch.setattr(methods, "ProcessPoolExecutor", lambda workers, context: ThreadPoolExecutor(workers))
    methods.main(["biqi", "--images", "20"])
    assert found == [20, (3, 500, 500), 20, ["biqi"]]
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "20 images of 500x500" and out[2].split() == ["biqi", "1.5", "4500", "1024"] and len(out) == 3


# --- wrong flags ---


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (distortions, ["--repeats", "0"], "--repeats must be a whole number 1 to 1000000, got '0'"),
        (distortions, ["--images", "20"], "--images must be a whole number 50 to 1000000, got '20'"),
        (shards, ["--images", "x"], "--images must be a whole number 4 to 1000000, got 'x'"),
        (loss, ["--views", "1"], "--views must be a whole number 2 to 1000000, got '1'"),
        (loss, ["--views", "64", "--processes", "2", "3"], "--processes must divide --views, got 3 and 64"),
        (scoring, ["--unknown"], "unrecognized arguments: --unknown"),
        (
            methods,
            ["nope"],
            "a method must be one of brisque, biqi, bliinds-ii, cornia, diivine, hosa, random, got nope",
        ),
        (step, ["--batch-size", "1"], "--batch-size"),
        (step, ["--alpha", "1"], "--alpha must be below 1 (the step of both losses is timed), got 1"),
    ],
)
def test_a_wrong_flag_is_one_line(
    command: object, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(arguments)
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.startswith(f"error: {message}") and error.count("\n") == 1


def test_the_demos_photographs_are_of_kadis_size(tmp_path: Path) -> None:
    paths = timing.photographs(tmp_path, 2, demo_sources())
    assert [read_image(path).shape for path in paths] == 2 * [(3, 384, 512)]
