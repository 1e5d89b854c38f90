"""Images from tar shards: counting, dividing, reading, going on amid an epoch, and both streams from them."""

import io
import os
import subprocess
import sys
import tarfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from webdataset import TarWriter

import train_joint
from ssl_iqa.data import shards
from ssl_iqa.data.datasets import LabeledCrops
from ssl_iqa.data.images import is_shards, read_image, reduced
from ssl_iqa.data.sets import load_labeled
from ssl_iqa.data.shards import Piece, Shard, ShardBatches, ShardViews, list_shards, plan, split_shards
from ssl_iqa.data.streams import Streams
from tests.conftest import as_process

COUNTS = {"a": 7, "b": 1, "c": 12, "d": 5, "e": 9}  # 34 images, numbered in this order
TOTAL = sum(COUNTS.values())

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker")  # the order, not the speed


def png(number: int, side: int = 16) -> bytes:
    """An image of one color that tells its number."""
    file = io.BytesIO()
    Image.new("RGB", (side, side), (number // 256, number % 256, 7)).save(file, "PNG")
    return file.getvalue()


def write_tar(path: Path, members: dict[str, bytes], layout: int = tarfile.PAX_FORMAT) -> None:
    with tarfile.open(path, "w", format=layout) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos-a.tar .. photos-e.tar, images under nested names, among them what is none."""
    folder = tmp_path_factory.mktemp("shards")
    number = 0
    for letter, count in COUNTS.items():
        members = {}
        for i in range(count):
            members[f"./of {letter}/more.of/{number:03d}.{'PNG' if i % 2 else 'png'}"] = png(number)
            members[f"./of {letter}/more.of/{number:03d}.txt"] = b"no image"
            members[f"./of {letter}/.hidden/{number:03d}.png"] = members[f"of {letter}/._{number:03d}.png"] = png(999)
            number += 1
        write_tar(folder / f"photos-{letter}.tar", members)
    return folder


@pytest.fixture
def found(folder: Path) -> list[Shard]:
    return list_shards(f"{folder}/photos-{{a..e}}.tar")


def as_it_is(image: Tensor, draw: object) -> Tensor:
    return image


@pytest.fixture
def batches(found: list[Shard]) -> Callable[..., ShardBatches]:
    """Batches of 8 in parts of 3, 3 and 2; their images come as they are."""

    def make(
        in_order: bool = False,
        chosen: list[Shard] | None = None,
        process: int = 0,
        processes: int = 1,
        **changes: int,
    ) -> ShardBatches:
        dataset = ShardViews(chosen or found, size=16, in_order=in_order)
        dataset.make = as_it_is
        settings = {"epoch_size": 0, "batch_size": 8, "images_per_class": 2, "seed": 0, "part_size": 3}
        with as_process(process, processes):
            return ShardBatches(dataset, **settings | changes)

    return make


def drawn(batches: ShardBatches, epoch: int = 0, start: int = 0, workers: int = 0) -> list[list[tuple]]:
    """The samples (number of the image, class, seed, skipped) of each part."""
    batches.epoch, batches.start = epoch, start
    loader = DataLoader(batches, batch_size=None, num_workers=workers, collate_fn=partial(map, numbered))
    return [list(part) for part in loader]


def numbered(sample: tuple) -> tuple[int, int, int, list[str]]:
    image, draw, skipped = sample
    return int(image[0, 0, 0]) * 256 + int(image[1, 0, 0]), draw.distortion_class, draw.seed, skipped


def numbers(parts: list[list[tuple]]) -> list[int]:
    return [number for part in parts for number, *_ in part]


def error_of(error_type: type[Exception], call: Callable, *arguments: object) -> str:
    """The message of the error that a call raises: always one line."""
    with pytest.raises(error_type) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- which shards there are, and how many images they hold ---


@pytest.mark.parametrize(
    ("spec", "is_one"),
    [("photos-{0000..1399}.tar", True), ("a/{x.tar,y.tar}", True), ("a.tar,b.tar", True), ("*.tar", True)]
    + [("demo", False), ("photos", False), ("photos.tar.gz", False), ("tar", False)],
)
def test_shards_are_told_by_the_spec(spec: str, is_one: bool) -> None:
    assert is_shards(spec) == is_one


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("spec", "letters"),
    [
        ("photos-{a..e}.tar", "abcde"),
        ("photos-c.tar", "c"),
        ("photos-*.tar", "abcde"),
        ("photos-{d,a}.tar,photos-[bd].tar", "abd"),
        ("{photos-e.tar,photos-b.tar}", "be"),
    ],
)
def test_every_form_of_a_spec_finds_its_shards(
    folder: Path, monkeypatch: pytest.MonkeyPatch, spec: str, letters: str, workers: int
) -> None:
    monkeypatch.chdir(folder)
    found = list_shards(spec, workers)
    assert [(shard.path, shard.images) for shard in found] == [(f"photos-{x}.tar", COUNTS[x]) for x in letters]


@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("length", [10, 120, 240])
def test_names_of_any_length_in_any_layout(tmp_path: Path, layout: int, length: int) -> None:
    names = [f"{'long/' * (length // 5)}{i}.jpg" for i in range(5)]
    write_tar(tmp_path / "a.tar", {name: bytes(600 + i) for i, name in enumerate(names)}, layout)
    path = str(tmp_path / "a.tar")
    assert list_shards(path) == [Shard(path, 5, 3010)]
    assert list(shards.read_shard(path)) == [(f"{path}/{name}", bytes(600 + i)) for i, name in enumerate(names)]


def test_tars_of_the_tar_command_and_of_webdataset(photographs: Path, tmp_path: Path) -> None:
    subprocess.run(["tar", "cf", tmp_path / "a.tar", "-C", photographs, "."], check=True)  # with its folder in it
    with TarWriter(str(tmp_path / "b.tar")) as writer:
        for path in sorted(photographs.iterdir()):
            writer.write({"__key__": path.stem, "png": path.read_bytes(), "cls": 3, "json": {"a": 1}})
    size = sum(path.stat().st_size for path in photographs.iterdir())
    assert [shard[1:] for shard in list_shards(f"{tmp_path}/*.tar")] == [(10, size)] * 2
    for name in "ab":
        contents = sorted(content for _, content in shards.read_shard(f"{tmp_path}/{name}.tar"))
        assert contents == sorted(path.read_bytes() for path in photographs.iterdir())


def test_links_and_folders_are_no_images(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for kind, name in ((tarfile.DIRTYPE, "x.png"), (tarfile.SYMTYPE, "y.png"), (tarfile.LNKTYPE, "z.png")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "a.png"
            archive.addfile(member)
        member = tarfile.TarInfo("__a__/b.png")  # a name that webdataset's own pipeline takes for metadata
        member.size = 3
        archive.addfile(member, io.BytesIO(b"abc"))
    path = str(tmp_path / "a.tar")
    assert list_shards(path) == [Shard(path, 1, 3)]
    assert list(shards.read_shard(path)) == [(f"{path}/__a__/b.png", b"abc")]


def test_members_are_told_by_the_suffixes_of_files(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"a.GIF": b"a", "b.jfif": b"bc", "c.json": b"{}", "d.cls": b"1"})
    assert list_shards(str(tmp_path / "a.tar")) == [Shard(str(tmp_path / "a.tar"), 2, 3)]


def test_a_fifo_is_no_tar(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.tar")
    said: list[str] = []
    # in a thread that does not keep the tests, since opening a FIFO waits for one who writes
    call = partial(error_of, ValueError, list_shards, str(tmp_path / "a.tar"))
    reader = threading.Thread(target=lambda: said.append(call()), daemon=True)
    reader.start()
    reader.join(10)
    assert said == [f"{tmp_path / 'a.tar'}: must be a regular file, got a FIFO"]


def test_what_is_missing_or_no_tar_is_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "photos-f.tar: no such file" in error_of(FileNotFoundError, list_shards, f"{folder}/photos-{{e..f}}.tar")
    assert "nothing-*.tar: no such file" in error_of(FileNotFoundError, list_shards, f"{folder}/nothing-*.tar")
    write_tar(tmp_path / "texts.tar", {"a.txt": b"a"})
    assert "texts.tar: no images" in error_of(ValueError, list_shards, str(tmp_path / "texts.tar"))
    write_tar(tmp_path / "none.tar", {})
    assert "none.tar: no images" in error_of(ValueError, list_shards, str(tmp_path / "none.tar"))
    for name, content in (("text.tar", b"no tar" * 200), ("nothing.tar", b""), ("short.tar", b"no")):
        (tmp_path / name).write_bytes(content)
        assert f"{name}: must be a whole tar" in error_of(ValueError, list_shards, str(tmp_path / name))
        assert f"{name}: must be a whole tar" in error_of(ValueError, list_shards, str(tmp_path / name), 2)
    for address in ("http://a/b-{0..3}.tar", "s3://a/b.tar", "pipe:cat b.tar"):
        assert "shards must be files" in error_of(ValueError, list_shards, address)
    assert "Unbalanced braces" in error_of(ValueError, list_shards, "photos-{0..3.tar")
    for module in ("webdataset", "webdataset.shardlists"):
        monkeypatch.setitem(sys.modules, module, None)
    assert "pip install 'ssl_iqa[shards]'" in error_of(ValueError, list_shards, f"{folder}/photos-a.tar")


@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_cut_anywhere_is_damaged(tmp_path: Path, layout: int) -> None:
    whole, cut = tmp_path / "whole.tar", tmp_path / "cut.tar"
    write_tar(whole, {f"{'é' if layout == tarfile.PAX_FORMAT else 'e'}{i}.png": bytes(700) for i in range(3)}, layout)
    with tarfile.open(whole) as archive:
        archive.getmembers()
        end = archive.offset
    for length in range(0, end + 512, 100):  # in headers, in contents
        cut.write_bytes(whole.read_bytes()[:length])
        assert "cut.tar: must be a whole tar" in error_of(ValueError, list_shards, str(cut))
    for length in range(0, end + 1, 512):  # and between blocks
        cut.write_bytes(whole.read_bytes()[:length])
        assert "cut.tar: must be a whole tar" in error_of(ValueError, list_shards, str(cut))
    cut.write_bytes(whole.read_bytes()[: end + 512])
    assert list_shards(str(cut))[0].images == 3


def test_whole_shards_train_or_validate(found: list[Shard]) -> None:
    train, val = split_shards(found, seed=0)
    assert (len(train), len(val)) == (4, 1) and sorted(train + val) == found
    assert len({split_shards(found, seed)[1][0] for seed in range(20)}) == 5
    assert "must have 2 or more images or tars" in error_of(ValueError, split_shards, found[:1], 0)


# --- who reads which images ---


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.data())
def test_the_pieces_of_ranges_are_the_images_in_them(counts: list[int], data: st.DataObject) -> None:
    every = [(str(i), place) for i, count in enumerate(counts) for place in range(count)]
    bound = st.integers(0, len(every))
    ranges = [range(*sorted(pair)) for pair in data.draw(st.lists(st.tuples(bound, bound), max_size=5))]
    pieces = plan([Shard(str(i), count, 1) for i, count in enumerate(counts)], ranges)
    read = [(piece.path, place) for piece in pieces for place in range(piece.first, piece.stop)]
    assert read == [image for images in ranges for image in every[images.start : images.stop]]
    assert all(piece.first < piece.stop for piece in pieces)


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    processes=st.integers(1, 4),
    share=st.integers(1, 9),
    workers=st.integers(1, 5),
    part_size=st.integers(1, 5),
    epoch_size=st.one_of(st.just(0), st.integers(1, 300)),
    in_order=st.booleans(),
)
def test_together_all_workers_read_each_image_as_often(
    counts: list[int], processes: int, share: int, workers: int, part_size: int, epoch_size: int, in_order: bool
) -> None:
    dataset = ShardViews([Shard(str(i), count, 1) for i, count in enumerate(counts)], size=16, in_order=in_order)
    times: Counter = Counter()
    for process in range(processes):
        with as_process(process, processes):
            batches = ShardBatches(dataset, epoch_size, processes * share, 0, 0, part_size)
        assert sum(map(len, batches.parts)) == share and max(map(len, batches.parts)) <= part_size
        for worker in range(workers):
            pieces = batches.pieces(worker, workers)
            wanted = sum(
                len(batches.parts[number % len(batches.parts)]) for number in batches.part_numbers(worker, workers)
            )
            assert sum(piece.stop - piece.first for piece in pieces) == wanted
            times.update((piece.path, place) for piece in pieces for place in range(piece.first, piece.stop))
    assert len(batches) == max(1, (epoch_size or sum(counts)) // (processes * share))
    assert times.total() == len(batches) * processes * share
    rounds = times.total() // sum(counts)
    assert {times[str(i), place] for i, count in enumerate(counts) for place in range(count)} <= {rounds, rounds + 1}


@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize(("processes", "workers"), [(1, 0), (1, 1), (1, 2), (1, 3), (2, 2), (4, 0), (4, 3)])
def test_every_image_comes_once_an_epoch(
    batches: Callable[..., ShardBatches], processes: int, workers: int, in_order: bool
) -> None:
    came = []
    for process in range(processes):
        parts = drawn(batches(in_order, process=process, processes=processes), workers=workers)
        assert [len(part) for part in parts] == {1: [3, 3, 2], 2: [3, 1], 4: [2]}[processes] * 4
        came += numbers(parts)
    assert len(came) == len(set(came)) == 32 and set(came) <= set(range(TOTAL))


def test_the_order_is_the_seeds_and_the_epochs(batches: Callable[..., ShardBatches], found: list[Shard]) -> None:
    one, again = batches(), batches()
    orders = [drawn(one, epoch, workers=2) for epoch in range(3)]
    assert orders == [drawn(again, epoch, workers=2) for epoch in range(3)]
    orders.append(drawn(batches(seed=1), workers=2))
    for i, order in enumerate(orders):
        assert all(numbers(order) != numbers(other) for other in orders[:i])
        assert all(set(numbers(order)) != set(numbers(other)) for other in orders[:i])  # also what is left over
    single = partial(batches, chosen=[max(found, key=lambda shard: shard.images)], batch_size=2)
    orders = [tuple(numbers(drawn(single(seed=seed), epoch))) for seed in (0, 1) for epoch in range(3)]
    assert len(set(orders)) == 6 and len(set(map(frozenset, orders))) == 1  # a shard's own images, too


def test_shards_and_their_images_are_shuffled(
    batches: Callable[..., ShardBatches], found: list[Shard], monkeypatch: pytest.MonkeyPatch
) -> None:
    shuffled = [numbers(drawn(batches(batch_size=2), epoch)) for epoch in range(20)]
    assert len({order[0] for order in shuffled}) > 8
    monkeypatch.setattr(shards, "BUFFER_BYTES", 1)  # images too large for a buffer: one at a time
    orders = [numbers(drawn(batches(batch_size=2), epoch)) for epoch in range(20)]
    starts = {0: "a", 7: "b", 8: "c", 20: "d", 25: "e"}
    assert {order[0] for order in orders} == set(starts)  # a shard's first image first
    for order in orders:
        assert sum(two != one + 1 for one, two in zip(order, order[1:], strict=False)) <= 4
    monkeypatch.setattr(shards, "BUFFER_BYTES", 5 * found[0].size // found[0].images)
    order = numbers(drawn(batches(batch_size=2, chosen=found[2:3])))
    places = [number - 8 for number in order]  # an image waits as long as it may, and comes at most 5 places early
    assert sorted(places) == list(range(12)) != places and all(place - 5 < now for now, place in enumerate(places))


def test_more_images_than_there_are_come_round(batches: Callable[..., ShardBatches]) -> None:
    counts = Counter(numbers(drawn(batches(epoch_size=100), workers=3)))
    assert counts.total() == 96 and {counts[number] for number in range(TOTAL)} == {2, 3}
    counts = Counter(numbers(drawn(batches(batch_size=50))))
    assert counts.total() == 50 and {counts[number] for number in range(TOTAL)} == {1, 2}


def flat_draws(batches: Callable[..., ShardBatches], processes: int, workers: int, in_order: bool) -> list[list[tuple]]:
    """All processes' samples of each step, in the order of their global batch."""
    of_processes = []
    for process in range(processes):
        samples = iter(sum(drawn(batches(in_order, process=process, processes=processes), workers=workers), []))
        of_processes.append([list(islice(samples, 8 // processes)) for _ in range(4)])
    return [sum(step, []) for step in zip(*of_processes, strict=True)]


@pytest.mark.parametrize("in_order", [False, True])
def test_classes_are_the_same_for_any_processes_and_workers(
    batches: Callable[..., ShardBatches], in_order: bool
) -> None:
    """And in order also the images."""
    single = flat_draws(batches, 1, 0, in_order)
    seeds = [seed for step in single for _, _, seed, _ in step]
    assert len(set(seeds)) == 32 and all(len({klass for _, klass, *_ in step}) == 4 for step in single)
    assert single[0] != single[1]
    for processes, workers in ((1, 2), (2, 0), (2, 3), (4, 1)):
        several = flat_draws(batches, processes, workers, in_order)
        assert [[sample[1:] for sample in step] for step in several] == [[s[1:] for s in step] for step in single]
        assert (several == single) == in_order


@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_an_epoch_goes_on_as_if_it_had_not_stopped(
    batches: Callable[..., ShardBatches], workers: int, in_order: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = drawn(batches(in_order), epoch=5, workers=workers)
    for start in range(5):
        assert drawn(batches(in_order), epoch=5, start=start, workers=workers) == whole[3 * start :]
    decoded = []
    once = batches(in_order)
    monkeypatch.setattr(once.dataset, "decode", lambda *encoded: decoded.append(encoded) or torch.zeros(3, 16, 16))
    drawn(once, start=3)
    assert len(decoded) == 8  # nothing that is passed over


# --- what cannot be read ---


@pytest.fixture
def damaged(tmp_path: Path) -> Shard:
    """Eight images: a text, then two good ones, a truncated one, one of 10 x 10, a good one, two texts."""
    contents = [b"no image", png(1), png(2), png(3)[:50], png(4, side=10), png(5), b"none", b""]
    write_tar(tmp_path / "damaged.tar", {f"{i}.png": content for i, content in enumerate(contents)})
    return list_shards(str(tmp_path / "damaged.tar"))[0]


def test_the_next_image_stands_in_for_a_damaged_one(batches: Callable[..., ShardBatches], damaged: Shard) -> None:
    def came(part_size: int) -> list[tuple[int, str]]:
        parts = drawn(batches(True, [damaged], part_size=part_size), workers=2)
        assert {len(part) for part in parts} == {part_size}
        skipped = [[name.removeprefix(f"{damaged.path}/") for name in sample[3]] for part in parts for sample in part]
        return [
            (number, "".join(name[0] for name in names)) for number, names in zip(numbers(parts), skipped, strict=True)
        ]

    alone = [(1, ""), (2, "")]
    assert came(8) == [(1, "0"), *alone, (5, "34"), (5, "4"), (5, ""), (1, "670"), (1, "70")]
    # with two workers the one has images 0 to 3, the other 4 to 7
    assert came(4) == [(1, "0"), *alone, (1, "30"), (5, "4"), (5, ""), (5, "674"), (5, "74")]
    # 0 and 1, 4 and 5; then 2 and 3, 6 and 7: a worker's neighboring part helps out
    assert came(2) == [(1, "0"), (1, ""), (2, ""), (2, "367"), (5, "4"), (5, ""), (2, "67"), (2, "7")]


def test_a_sample_of_images_is_held(found: list[Shard], damaged: Shard) -> None:
    dataset = ShardViews([damaged, *found[1:3]], size=16)
    held = dataset.sample(6)
    names = [Path(path).name.lower() for path in held.paths]
    assert names == ["007.png", "008.png", "1.png", "009.png", "2.png", "010.png"]  # from each in turn
    assert [int(held.read(i)[1, 0, 0]) for i in range(6)] == [7, 8, 1, 9, 2, 10]
    assert len(dataset.sample(1000).paths) == 3 + 1 + 12
    assert dataset.sample(1).paths == [f"{damaged.path}/1.png"]


def test_a_shard_without_a_usable_image_is_named_at_once(tmp_path: Path, streams: Callable[..., Streams]) -> None:
    write_tar(tmp_path / "bad.tar", {"a.png": b"no image", "b.png": png(1, side=8)})
    message = error_of(ValueError, streams, list_shards(str(tmp_path / "bad.tar")))
    assert message == f"{tmp_path}/bad.tar: must have a usable image, got none"


def test_a_shard_that_has_changed_is_named(damaged: Shard) -> None:
    assert len(list(shards.read_pieces([Piece(damaged.path, 1, 3), Piece(damaged.path, 5, 8)]))) == 5
    for piece in (Piece(damaged.path, 6, 9), Piece(damaged.path, 20, 30)):
        with pytest.raises(ValueError, match="damaged.tar: must keep the images that were counted"):
            list(shards.read_pieces([piece]))


# --- both streams ---


@pytest.fixture
def streams(scored: Path) -> Callable[..., Streams]:
    def make(chosen: list[Shard], labeled: bool = True, workers: int = 0, **changes: int) -> Streams:
        settings = {"batch_size": 4, "labeled_batch_size": 3, "images_per_class": 2, "workers": workers} | changes
        return Streams(
            ShardViews(chosen, size=32),
            LabeledCrops(load_labeled(f"csv:{scored}"), range(0, 40, 3), size=32) if labeled else None,
            replace(train_joint.PRESETS["paper"], **settings),
            torch.device("cpu"),
        )

    return make


@pytest.fixture(scope="session")
def photo_shards(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Shard]:
    """Ten photographs in shards of 1, 3 and 6."""
    folder, paths = tmp_path_factory.mktemp("photo shards"), sorted(photographs.iterdir())
    for i, few in enumerate((paths[:1], paths[1:4], paths[4:])):
        write_tar(folder / f"{i}.tar", {path.name: path.read_bytes() for path in few})
    return list_shards(f"{folder}/{{0..2}}.tar")


def tensors(batches: Iterator) -> list[Tensor]:
    return [tensor for pair in batches for batch in pair for tensor in batch]


def equal(one: list[Tensor], two: list[Tensor]) -> bool:
    return len(one) == len(two) and all(map(torch.equal, one, two))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_labeled_batch_comes_with_every_batch_from_shards(
    streams: Callable[..., Streams], photo_shards: list[Shard], workers: int
) -> None:
    both = streams(photo_shards, workers=workers)
    epochs = [list(both.batches(epoch)) for epoch in (0, 1)]
    for epoch in epochs:
        assert len(epoch) == len(both) == 2
        for (x_d, classes), (x, y) in epoch:
            assert (x_d.shape, classes.shape, x.shape, y.shape) == ((8, 3, 32, 32), (8,), (3, 3, 32, 32), (3,))
            assert torch.equal(classes[:4], classes[4:]) and len(classes.unique()) == 2
    again = streams(photo_shards, workers=workers)
    assert equal(tensors(again.batches(1)), tensors(epochs[1])) and equal(tensors(again.batches(0)), tensors(epochs[0]))
    assert equal(tensors(again.batches(1, start=1)), tensors(epochs[1][1:]))
    assert not equal(tensors(epochs[0]), tensors(epochs[1]))
    assert all(labeled is None for _, labeled in streams(photo_shards, labeled=False).batches(0))


def test_views_are_of_the_images_in_the_shards(
    streams: Callable[..., Streams], photo_shards: list[Shard], photographs: Path
) -> None:
    both = streams(photo_shards, labeled=False, batch_size=10)
    both.dataset.make = as_it_is
    (samples,) = list(both.unlabeled.dataset)
    images = [read_image(path) for path in sorted(photographs.iterdir())]
    found = [[torch.equal(sample[0], image) for image in images].index(True) for sample in samples]
    assert sorted(found) == list(range(10))


def test_images_skipped_are_named_once_and_gathered(
    streams: Callable[..., Streams], damaged: Shard, capsys: pytest.CaptureFixture[str]
) -> None:
    both = streams([damaged], workers=1)
    for epoch in range(2):
        list(both.batches(epoch))
    wanted = {f"{damaged.path}/{i}.png" for i in (0, 3, 4, 6, 7)}
    assert both.skipped == wanted
    assert sorted(capsys.readouterr().err.splitlines()) == [
        f"warning: {name}: cannot be read, skipped" for name in sorted(wanted)
    ]


def test_images_of_shards_are_reduced_to_the_long_side(photographs: Path) -> None:
    path = photographs / "0.png"  # 64 x 48
    views = ShardViews([], size=16, long_side=32)
    assert torch.equal(views.decode("0.png", path.read_bytes()), reduced(read_image(path), 32))
