"""Images from tar shards: finding, dividing and reading them, and both streams from them."""

import io
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

import train_joint
from ssl_iqa.data.datasets import LabeledCrops, UnlabeledViews, first_readable
from ssl_iqa.data.images import UnreadableImage, is_shards, read_image, reduced
from ssl_iqa.data.joint_run import find_images
from ssl_iqa.data.sets import load_labeled
from ssl_iqa.data.shards import Members, Shard, ShardViews, list_shards
from ssl_iqa.data.streams import Streams
from ssl_iqa.distortions import KADIS

COUNTS = {"a": 7, "b": 1, "c": 12, "d": 5, "e": 9}  # 34 images, numbered in this order
TOTAL = sum(COUNTS.values())


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


def contents(shard: Shard) -> list[tuple[str, bytes]]:
    """The names and bytes of its images, by their places."""
    content, names = Path(shard.path).read_bytes(), Members([shard])
    return [(names[i], content[first : first + size]) for i, (first, size) in enumerate(shard.places.tolist())]


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
    assert [(path, len(places)) for path, places in found] == [(f"photos-{x}.tar", COUNTS[x]) for x in letters]


@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("length", [10, 120, 240])
def test_names_of_any_length_in_any_layout(tmp_path: Path, layout: int, length: int) -> None:
    names = [f"{'long/' * (length // 5)}{i}.jpg" for i in range(5)]
    write_tar(tmp_path / "a.tar", {name: bytes([i]) * (600 + i) for i, name in enumerate(names)}, layout)
    path = str(tmp_path / "a.tar")
    (shard,) = list_shards(path)
    assert contents(shard) == [(f"{path}/{name}", bytes([i]) * (600 + i)) for i, name in enumerate(names)]


def test_tars_of_the_tar_command(photographs: Path, tmp_path: Path) -> None:
    subprocess.run(["tar", "cf", tmp_path / "a.tar", "-C", photographs, "."], check=True)  # with its folder in it
    (shard,) = list_shards(f"{tmp_path}/*.tar")
    assert sorted(image for _, image in contents(shard)) == sorted(p.read_bytes() for p in photographs.iterdir())


def test_links_and_folders_are_no_images(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for kind, name in ((tarfile.DIRTYPE, "x.png"), (tarfile.SYMTYPE, "y.png"), (tarfile.LNKTYPE, "z.png")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "a.png"
            archive.addfile(member)
        member = tarfile.TarInfo("__a__/b.png")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"abc"))
    path = str(tmp_path / "a.tar")
    (shard,) = list_shards(path)
    assert contents(shard) == [(f"{path}/__a__/b.png", b"abc")]


def test_members_are_told_by_the_suffixes_of_files(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"a.GIF": b"a", "b.jfif": b"bc", "c.json": b"{}", "d.cls": b"1"})
    (shard,) = list_shards(str(tmp_path / "a.tar"))
    assert [image for _, image in contents(shard)] == [b"a", b"bc"]


def test_a_fifo_is_no_tar(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.tar")
    said: list[str] = []
    # in a thread that does not keep the tests, since opening a FIFO waits for one who writes
    call = partial(error_of, ValueError, list_shards, str(tmp_path / "a.tar"))
    reader = threading.Thread(target=lambda: said.append(call()), daemon=True)
    reader.start()
    reader.join(10)
    assert said == [f"{tmp_path / 'a.tar'}: must be a regular file, got a pipe, a socket or a device"]


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
    assert "Unbalanced braces" in error_of(ValueError, list_shards, "photos-{0..3.tar")
    monkeypatch.setitem(sys.modules, "braceexpand", None)
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
    assert len(list_shards(str(cut))[0].places) == 3


def test_whole_shards_train_or_validate(folder: Path, found: list[Shard]) -> None:
    validated = set()
    for seed in range(20):
        settings = replace(train_joint.PRESETS["demo"], unlabeled=f"{folder}/photos-*.tar", labeled="", workers=0)
        images = find_images(replace(settings, seed=seed), KADIS)
        train, val = ([shard.path for shard in views.paths.shards] for views in (images.train, images.val))
        assert (len(train), len(val)) == (4, 1) and sorted(train + val) == [shard.path for shard in found]
        validated.update(val)
    assert len(validated) == 5
    one = replace(settings, unlabeled=found[0].path)
    assert "must have 2 or more images or tars" in error_of(ValueError, find_images, one, KADIS)


# --- reading ---


def test_images_lie_one_shard_after_the_other(folder: Path, found: list[Shard]) -> None:
    views = ShardViews(Members(found), size=16)
    assert len(views.paths) == TOTAL
    colors = [views.read(i)[:, 0, 0].tolist() for i in range(TOTAL)]
    assert colors == [[0, number, 7] for number in range(TOTAL)]
    assert (views.paths[0], views.paths[8]) == (
        f"{folder}/photos-a.tar/./of a/more.of/000.png",
        f"{folder}/photos-c.tar/./of c/more.of/008.png",
    )
    assert views.paths[TOTAL - 1] == f"{folder}/photos-e.tar/./of e/more.of/033.png"


def test_images_of_shards_are_reduced_to_the_long_side(photographs: Path, tmp_path: Path) -> None:
    path = photographs / "0.png"  # 64 x 48
    write_tar(tmp_path / "a.tar", {"0.png": path.read_bytes()})
    views = ShardViews(Members(list_shards(str(tmp_path / "a.tar"))), size=16, long_side=32)
    assert torch.equal(views.read(0), reduced(read_image(path), 32))


# --- what cannot be read ---


@pytest.fixture
def damaged(tmp_path: Path) -> Shard:
    """Eight images: a text, then two good ones, a truncated one, one of 10 x 10, a good one, two texts."""
    contents = [b"no image", png(1), png(2), png(3)[:50], png(4, side=10), png(5), b"none", b""]
    write_tar(tmp_path / "damaged.tar", {f"{i}.png": content for i, content in enumerate(contents)})
    return list_shards(str(tmp_path / "damaged.tar"))[0]


def test_the_next_image_stands_in_for_a_damaged_one(damaged: Shard) -> None:
    views = ShardViews(Members([damaged]), size=16)
    came = []
    for i in range(8):
        _, image, skipped = first_readable(views.read, views.paths, i)
        came.append((int(image[1, 0, 0]), [name.removeprefix(f"{damaged.path}/") for name in skipped]))
    assert came[:3] == [(1, ["0.png"]), (1, []), (2, [])]
    assert came[3:] == [
        *((5, ["3.png", "4.png"]), (5, ["4.png"]), (5, [])),
        *((1, ["6.png", "7.png", "0.png"]), (1, ["7.png", "0.png"])),
    ]


def test_shards_without_a_usable_image_are_named_at_once(tmp_path: Path, streams: Callable[..., Streams]) -> None:
    write_tar(tmp_path / "bad.tar", {"a.png": b"no image", "b.png": png(1, side=8)})
    message = error_of(ValueError, streams, list_shards(str(tmp_path / "bad.tar")))
    assert message == f"{tmp_path}/bad.tar/a.png: not a usable image, nor is any of the other 1"


def test_a_shard_that_is_gone_or_others_now_has_no_usable_images(damaged: Shard, tmp_path: Path) -> None:
    views = ShardViews(Members([damaged]), size=16)
    Path(damaged.path).write_bytes(bytes(20_000))
    with pytest.raises(UnreadableImage, match="damaged.tar: not an image"):
        views.read(1)
    assert views.paths[1] == f"{damaged.path}/image 1"
    Path(damaged.path).unlink()
    with pytest.raises(FileNotFoundError):
        views.read(1)
    assert views.paths[1] == f"{damaged.path}/image 1"


# --- both streams ---


@pytest.fixture
def streams(scored: Path) -> Callable[..., Streams]:
    def make(chosen: list[Shard], labeled: bool = True, workers: int = 0, files: Sequence[str] = ()) -> Streams:
        settings = {"batch_size": 4, "labeled_batch_size": 3, "images_per_class": 2, "workers": workers}
        return Streams(
            UnlabeledViews(files, size=32) if files else ShardViews(Members(chosen), size=32),
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
def test_batches_from_shards_are_those_from_a_folder(
    streams: Callable[..., Streams], photo_shards: list[Shard], photographs: Path, workers: int
) -> None:
    from_shards = streams(photo_shards, workers=workers)
    from_files = streams(photo_shards, workers=workers, files=sorted(map(str, photographs.iterdir())))
    for epoch, start in ((0, 0), (1, 0), (1, 1)):
        batches = list(from_shards.batches(epoch, start))
        assert len(batches) == 2 - start
        assert equal(tensors(batches), tensors(from_files.batches(epoch, start)))
    assert not equal(tensors(from_shards.batches(0)), tensors(from_shards.batches(1)))
    assert all(labeled is None for _, labeled in streams(photo_shards, labeled=False).batches(0))


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
