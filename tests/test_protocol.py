"""Which encoders, and on which split."""

from pathlib import Path

import pytest

from ssl_iqa import data, protocol, runs, sets

NAMED = ("imagenet", "random", "brisque")


@pytest.fixture
def labeled(scored: Path) -> sets.LabeledSet:
    return sets.load_labeled(f"csv:{scored}")


def joint_run(folder: Path, labeled: sets.LabeledSet, seed: int) -> str:
    """A folder with an encoder, which is not read, and the split of a seed."""
    folder.mkdir()
    (folder / "encoder.pt").touch()
    split = data.split_references(labeled.references, seed)
    runs.write_json({"labeled": {"spec": labeled.name, **split}}, folder / "splits.json")
    return str(folder / "encoder.pt")


def test_encoders_are_names_and_runs() -> None:
    found = protocol.parse_encoders("imagenet, cl=runs/cl,ssl=runs/ssl-{seed}", NAMED)
    assert found == {"imagenet": "imagenet", "cl": "runs/cl", "ssl": "runs/ssl-{seed}"}
    assert list(protocol.parse_encoders("ssl=a,random,cl=b", NAMED)) == ["ssl", "random", "cl"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("resnet", "'resnet'"),
        ("cl=", "'cl='"),
        ("=runs/cl", "'=runs/cl'"),
        ("random,,cl=x", "''"),
        ("a/b=x", "'a/b=x'"),
        ("cl=a,cl=b", "cl comes twice"),
    ],
)
def test_other_encoders_are_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(ValueError, match="--encoders") as caught:
        protocol.parse_encoders(text, NAMED)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_an_encoder_is_a_file_or_a_runs_folder(tmp_path: Path) -> None:
    (tmp_path / "ssl-3").mkdir()
    assert protocol.encoder_file(str(tmp_path / "ssl-{seed}"), 3) == str(tmp_path / "ssl-3" / "encoder.pt")
    assert protocol.encoder_file(str(tmp_path / "own-{seed}.pt"), 4) == str(tmp_path / "own-4.pt")
    assert protocol.encoder_file("imagenet", 3) == "imagenet"


def test_the_split_is_joint_trainings_where_any_encoder_has_one(labeled: sets.LabeledSet, tmp_path: Path) -> None:
    file = joint_run(tmp_path / "ssl", labeled, seed=9)
    split = data.split_references(labeled.references, 9)
    assert protocol.split_of(["random", file], labeled, 0) == split != data.split_references(labeled.references, 0)
    assert protocol.split_of(["random"], labeled, 0) == data.split_references(labeled.references, 0)


def test_encoders_of_two_splits_are_not_compared(labeled: sets.LabeledSet, tmp_path: Path) -> None:
    files = [joint_run(tmp_path / name, labeled, seed) for name, seed in (("cl", 1), ("ssl", 2))]
    with pytest.raises(ValueError, match=r"ssl/encoder.pt: was trained by another split .* than .*cl/encoder.pt"):
        protocol.split_of(files, labeled, 0)


def test_the_official_split_is_taken_on_request_only(labeled: sets.LabeledSet, tmp_path: Path) -> None:
    from dataclasses import replace

    names = sorted(set(labeled.references))
    official = {"train": names[:4], "val": names[4:6], "test": names[6:]}
    published = replace(labeled, official_split=official)
    assert protocol.split_of(["random"], published, 0, "official") == official
    assert protocol.split_of(["random"], published, 0) == data.split_references(labeled.references, 0)
    with pytest.raises(ValueError, match="--split official: .* has none"):
        protocol.split_of(["random"], labeled, 0, "official")
    file = joint_run(tmp_path / "ssl", labeled, seed=9)
    with pytest.raises(ValueError, match="another split .* than the official one"):
        protocol.split_of([file], published, 0, "official")


def test_several_splits_take_a_joint_run_each(labeled: sets.LabeledSet, tmp_path: Path) -> None:
    joint_run(tmp_path / "ssl", labeled, seed=0)
    joint_run(tmp_path / "ssl-0", labeled, seed=0)
    seeded = str(tmp_path / "ssl-{seed}")
    protocol.check_runs({"random": "random", "ssl": seeded}, labeled, 0)
    with pytest.raises(ValueError, match=r"--splits: .*ssl was trained by one split .*ssl-\{seed\}"):
        protocol.check_runs({"random": "random", "ssl": str(tmp_path / "ssl")}, labeled, 0)
