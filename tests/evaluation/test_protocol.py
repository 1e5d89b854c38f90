"""Which encoders, and on which split."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ssl_iqa.data import sets
from ssl_iqa.data.labeled import LabeledSet
from ssl_iqa.data.seen import known_parts, records_of, with_record
from ssl_iqa.engine import run_folder
from ssl_iqa.engine.weights import encoder_state, load_encoder
from ssl_iqa.evaluation import protocol
from tests.splits import split_references

NAMED = ("imagenet", "random", "brisque")


@pytest.fixture
def labeled(scored: Path) -> LabeledSet:
    return sets.load_labeled(f"csv:{scored}")


def known(labeled: LabeledSet, seed: int) -> dict[str, str]:
    """What an encoder knows of a set that its joint training split by a seed."""
    return known_parts(labeled, with_record([], labeled, split_references(labeled.references, seed), seed, "joint"))


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
        ("..=x", "'..=x'"),
        ("cl=a,cl=b", "each encoder once, got cl twice"),
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


def test_the_split_is_joint_trainings_where_any_encoder_has_one(labeled: LabeledSet) -> None:
    split = split_references(labeled.references, 9)
    either = protocol.known_to_all({"random": {}, "ssl.pt": known(labeled, 9)}, labeled)
    assert protocol.split_of(labeled, either, 0) == split != split_references(labeled.references, 0)
    assert protocol.known_to_all({"random": {}}, labeled) == {}
    assert protocol.split_of(labeled, {}, 0) == split_references(labeled.references, 0)


def test_encoders_of_two_splits_are_not_compared(labeled: LabeledSet) -> None:
    known_by = {"cl/encoder.pt": known(labeled, 1), "ssl/encoder.pt": known(labeled, 2)}
    with pytest.raises(ValueError, match=r"ssl/encoder.pt: was trained by another split .* than cl/encoder.pt"):
        protocol.known_to_all(known_by, labeled)


def test_the_official_split_is_taken_on_request_only(labeled: LabeledSet) -> None:
    names = sorted(set(labeled.references))
    official = {"train": names[:4], "val": names[4:6], "test": names[6:]}
    published = replace(labeled, official_split=official)
    assert protocol.split_of(published, {}, 0, "official") == official
    assert protocol.split_of(published, {}, 0) == split_references(labeled.references, 0)
    with pytest.raises(ValueError, match="--split official: .* has none"):
        protocol.split_of(labeled, {}, 0, "official")
    with pytest.raises(ValueError, match="another split .* than the official one"):
        protocol.split_of(published, known(published, 9), 0, "official")


def test_several_splits_take_a_joint_run_each(labeled: LabeledSet) -> None:
    protocol.check_runs("random", labeled, {})
    protocol.check_runs("runs/ssl-{seed}", labeled, known(labeled, 0))
    with pytest.raises(ValueError, match=r"--splits: runs/ssl was trained by one split .*runs/ssl-\{seed\}"):
        protocol.check_runs("runs/ssl", labeled, known(labeled, 0))


@pytest.mark.parametrize("has_splits", [True, False])
def test_a_file_of_an_earlier_version_has_its_splits_beside_it_or_says_that_it_does_not_know(
    labeled: LabeledSet, tmp_path: Path, capsys: pytest.CaptureFixture[str], has_splits: bool
) -> None:
    state = encoder_state(load_encoder("random", "dct-mlp"))
    del state["seen"]
    torch.save(state, tmp_path / "encoder.pt")
    split = split_references(labeled.references, 9)
    if has_splits:
        run_folder.write_json({"labeled": {"spec": labeled.name, **split}}, tmp_path / "splits.json")
    file = str(tmp_path / "encoder.pt")
    records = records_of(file, load_encoder(file))
    told = capsys.readouterr().err
    if has_splits:
        assert protocol.split_of(labeled, known_parts(labeled, records), 0) == split and not told
    else:
        assert records == [] and told.startswith(f"warning: {file} does not say") and told.count("\n") == 1
