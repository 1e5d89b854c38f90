"""The benchmarks run, and their tables add up; how fast anything is, is no test."""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
from torch import Tensor

from benchmarks import bench
from ssl_iqa.data import images
from ssl_iqa.data.datasets import UnlabeledViews
from ssl_iqa.data.shards import Shard, ShardViews, list_shards, read_shard
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
    monkeypatch.setattr(bench, "bench_pipeline", lambda dataset, workers, pictures: 10.0 * workers)
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
    assert bench.read_image(paths[1]).shape == (3, 384, 512)
    assert bench.bench_pipeline(UnlabeledViews(paths, size=224), workers=0, pictures=50) > 0
    bench.main(["device", "--device", "cpu", "--batch-size", "2", "--arch", "dct-mlp", "--repeats", "1"])
    out = capsys.readouterr().out
    assert out.startswith("2 pictures of 512x384 on cpu") and "pictures/s" in out and "of it" in out


def test_each_batch_of_the_pipeline_is_the_same_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = []
    dataset = UnlabeledViews(bench.photographs(tmp_path, 2), size=32, distortions=KADIS[2::5])
    monkeypatch.setattr(dataset, "make", lambda picture, draw: made.append(draw[2]) or torch.zeros(2, 3, 32, 32))
    bench.bench_pipeline(dataset, workers=0, pictures=75)
    batches = [sorted(made[first : first + 25]) for first in (0, 25, 50)]
    assert batches == 3 * [list(range(25))] and not dataset.kept


def test_the_loss_has_a_line_a_number_of_views_and_of_processes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    costs = {(64, False): (2.0, 0.0), (64, True): (3.0, 0.0), (128, False): (4.0, 80.0), (128, True): (5.0, 20.0)}
    asked = []

    def in_new_process(work: object, n_views: int, processes: int, chunked: bool, *others: object) -> tuple[float, ...]:
        asked.append((work, *others))
        return tuple(cost / processes for cost in costs[n_views, chunked])

    monkeypatch.setattr(bench, "in_new_process", in_new_process)
    bench.main(["loss", "--views", "64", "128", "--processes", "1", "4", "--repeats", "2", "--device", "cpu"])
    title, _, _, columns, *rows = capsys.readouterr().out.splitlines()
    assert title.startswith("Eq. 5") and "on cpu" in title and columns.split()[:2] == ["views", "processes"]
    assert rows[0].split() == ["64", "1", "2.0000", "0.0", "3.0000", "0.0", "1.50", "nan"]
    assert rows[1].split() == ["64", "4", "0.5000", "0.0", "0.7500", "0.0", "1.50", "nan"]
    assert rows[2].split() == ["128", "1", "4.0000", "80.0", "5.0000", "20.0", "1.25", "0.25"]
    assert rows[3].split() == ["128", "4", "1.0000", "20.0", "1.2500", "5.0", "1.25", "0.25"]
    assert asked == 8 * [(bench.loss_cost, 2, "cpu")]


def test_a_share_of_the_loss_is_measured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bench, "in_new_process", lambda work, *arguments: work(*arguments))  # which takes seconds each
    bench.main(["loss", "--views", "64", "--processes", "2", "--repeats", "1", "--device", "cpu"])
    views, processes, plain, _, chunked, *_ = capsys.readouterr().out.splitlines()[-1].split()
    assert (views, processes) == ("64", "2") and float(plain) > 0 and float(chunked) > 0


def test_the_memory_of_the_loss_is_that_of_its_similarities() -> None:
    taken, mebibytes = bench.in_new_process(bench.loss_cost, 1024, 1, False, 1, "cpu")
    assert taken > 0 and 8 <= mebibytes <= 64  # one [1024, 1024] takes 4


def test_the_loss_is_measured_all_at_once_and_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def loss(p: Tensor, classes: Tensor, anchors: tuple[int, int], **settings: int) -> Tensor:
        asked.append((len(p), len(classes.unique()), anchors, settings))
        return p.sum()

    peaks = iter([100.0, 164.0, 300.0, 300.5])
    monkeypatch.setattr(bench, "supervised_nt_xent", loss)
    monkeypatch.setattr(bench, "peak_memory", lambda device: next(peaks))
    assert bench.loss_cost(300, 1, chunked=False, repeats=1, device_name="cpu")[1] == 64
    whole = {"max_similarities": 300**2}
    assert asked == [(16, 16, (0, 16), whole)] + 2 * [(300, 125, (0, 300), whole)]
    asked.clear()
    assert bench.loss_cost(300, 3, chunked=True, repeats=2, device_name="cpu")[1] == 0.5
    assert asked == [(48, 48, (0, 16), {})] + 3 * [(300, 125, (0, 100), {})]


def test_tars_and_files_hold_the_same_pictures(tmp_path: Path) -> None:
    paths, spec = bench.write_pictures(tmp_path, 70)
    shards = list_shards(spec)
    assert [shard.images for shard in shards] == [17, 18, 17, 18] and len(set(paths)) == 70
    pictures = [picture for shard in shards for picture in read_shard(shard.path)]
    assert [Path(name).name for name, _ in pictures] == [Path(path).name for path in paths]
    assert [content for _, content in pictures] == [Path(path).read_bytes() for path in paths]
    assert len({content for _, content in pictures}) == 67  # the demo's photographs, three of them twice
    assert bench.read_image(paths[69]).shape == (3, 384, 512)


def test_works_are_timed_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([1.0, 30.0, 2.0, 10.0, 6.0, 20.0])
    tried: list[str] = []

    def seconds(work: Callable[[], object], repeats: int, device: torch.device) -> float:
        work()
        return next(times)

    monkeypatch.setattr(bench, "seconds", seconds)
    works = {name: lambda name=name: tried.append(name) for name in "ab"}
    assert bench.in_turns(works, 3, torch.device("cpu")) == {"a": 2, "b": 20} and "".join(tried) == "ababab"


def test_shards_are_beside_the_same_pictures_as_files(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    files = []
    for i in range(4):
        (tmp_path / f"{i}.tar").write_bytes(bytes(500_000))
        files.append(Shard(str(tmp_path / f"{i}.tar"), 25, 400_000))
    monkeypatch.setattr(bench, "write_pictures", lambda folder, count: ([str(i) for i in range(count)], "spec"))
    monkeypatch.setattr(bench, "list_shards", lambda spec: files)
    monkeypatch.setattr(bench, "seconds", lambda *_: 0.5)  # to count 100 pictures
    times = iter([{"shards": 2.0, "files": 1.0}, {"shards": 4.0, "files": 5.0}])
    monkeypatch.setattr(bench, "in_turns", lambda works, repeats, device: next(times))
    asked = []

    def bench_pipeline(dataset: UnlabeledViews, workers: int, pictures: int) -> float:
        asked.append((type(dataset), workers, pictures))
        assert [distortion.name for distortion in dataset.distortions] == list(NAMES)
        noise = (1, 900, 2)[(len(asked) - 1) % 6 // 2]  # of three turns, whose median is 2
        return 10.0 * workers * noise * (3 if isinstance(dataset, ShardViews) else 1)

    monkeypatch.setattr(bench, "bench_pipeline", bench_pipeline)
    bench.main(["shards", "--pictures", "100"])
    out = capsys.readouterr().out
    assert out.startswith("100 JPEG pictures of 512x384, in 4 tars and as files\nthe page cache is warm")
    assert re.search(r"\nmedians of 3\nbytes a picture +16000, 20000 in a tar\n", out)
    assert re.search(r"\ncounting, 0 workers +200 headers/s\n", out)
    assert [re.split(r" {2,}", row) for row in out.splitlines()[-4:]] == [
        ["read", "0.8", "50.0", "1.6", "100.0", "0.50"],
        ["read, decode", "0.4", "25.0", "0.3", "20.0", "1.25"],
        ["views, 1 worker", "1.0", "60.0", "0.3", "20.0", "3.00"],
        ["views, 2 workers", "1.9", "120.0", "0.6", "40.0", "3.00"],
    ]
    both = [ShardViews, UnlabeledViews]
    assert asked == [(kind, workers, 100) for workers in (1, 2) for _ in range(3) for kind in both]


def test_shards_and_files_are_measured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    decoded: list[str] = []
    decode = images.decode_image

    def decode_image(file: BinaryIO, name: str) -> Tensor:
        decoded.append(name)
        return decode(file, name)

    for module in (bench, images):  # of the tars' pictures, and of read_image
        monkeypatch.setattr(module, "decode_image", decode_image)
    bench.main(["shards", "--pictures", "50", "--repeats", "1"])
    rows = [row.split()[-5:] for row in capsys.readouterr().out.splitlines()[-4:]]
    assert all(float(row[1]) > 0 and float(row[3]) > 0 and float(row[4]) > 0 for row in rows)
    from_tars = [name for name in decoded if ".tar/" in name]
    from_files = [name for name in decoded if ".tar/" not in name][:100]
    assert len(from_tars) == 100 and len({*from_tars}) == 50  # once to warm up; not where they are only read
    assert from_files[:50] == from_files[50:] and len({*from_files}) == 50
    in_order = [Path(name).name for name in from_tars[:50]]
    assert in_order == [f"picture{i}.jpg" for i in range(50)] != [Path(name).name for name in from_files[:50]]


def test_shards_need_webdataset(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "webdataset.shardlists", None)
    with pytest.raises(SystemExit) as caught:
        bench.main(["shards", "--pictures", "50"])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.endswith("pip install 'ssl_iqa[shards]'\n") and error.count("\n") == 1


@pytest.mark.parametrize(
    "flags",
    [
        ["distortions", "--repeats", "0"],
        ["distortions", "--pictures", "20"],
        ["device", "--batch-size", "-1"],
        ["shards", "--pictures", "49"],
        ["shards", "--repeats", "0"],
        ["loss", "--views", "1"],
        ["loss", "--processes", "0"],
        ["loss", "--repeats", "0"],
        ["score", "--pictures", "0"],
    ],
)
def test_numbers_too_small_to_measure_are_refused(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        bench.main(flags)
    assert caught.value.code == 2 and capsys.readouterr().err.startswith(f"error: {flags[1]} {flags[2]}: ")


def test_scoring_is_beside_the_bare_encoder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    times = iter([4.0, 5.0, 0.5])
    monkeypatch.setattr(
        bench, "in_turns", lambda works, *_: {name: work() and next(times) for name, work in works.items()}
    )
    monkeypatch.setattr(bench, "SIZE", (240, 230))
    bench.main(["score", "--arch", "dct-mlp", "--pictures", "10", "--device", "cpu"])
    out = capsys.readouterr().out
    assert "dct-mlp on cpu" in out and "10 JPEG files of 240x230" in out
    assert re.search(r"the bare encoder +4.000 +2.5\n", out)
    assert re.search(r"scoring files +5.000 +2.0   80% of the bare encoder\n", out)
    assert re.search(r"reading them alone +0.500 +20.0\n", out)


SCRIPT = ["--script", str(Path(__file__).parents[2] / "train_joint.py")]


def test_a_steps_parts_are_shares_and_the_loop_is_beside_its_bound(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    times = {"the bare encoder": 0.9, "the full step": 1.0, "unlabeled pass": 0.6, "labeled pass": 0.2}
    times |= {"loss, Eq. 5": 0.15, "optimizer": 0.05}
    monkeypatch.setattr(bench, "step_times", lambda *_: dict(times))
    monkeypatch.setattr(bench, "loading_seconds", lambda *_: 3.0)
    monkeypatch.setattr(bench, "loop_record", lambda *_: {"pictures_per_second": 51.2, "data_wait": 0.25})
    monkeypatch.setattr(bench, "cpu_cores", lambda: 2)
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
    capsys: pytest.CaptureFixture[str], photographs: Path, scored: Path, small_probe: None
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
        (["step", *SCRIPT, "--batch-size", "1"], "--batch-size must be at least 2, got 1"),
        (["step", *SCRIPT, "--alpha", "1"], "--alpha 1: the step of both losses is timed"),
        (["step", *SCRIPT, "--repeats", "0"], "--repeats 0: 1 or more is wanted"),
        (["loss", "--views", "64", "--processes", "2", "3"], "--processes 3: 64 views cannot be divided evenly"),
        (["loss", "--unknown"], "no such flag: --unknown"),
    ],
)
def test_what_is_wrong_with_a_benchmark_is_said(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        bench.main(arguments)
    assert caught.value.code == 2 and message in capsys.readouterr().err
