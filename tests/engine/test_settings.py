"""Settings from presets and flags, and the flags that both scripts promise."""

import argparse
import dataclasses
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

import finetune
import ssl_iqa
import train_joint
from benchmarks import loss
from ssl_iqa import __main__ as command
from ssl_iqa.data.joint_run import finetune_command
from ssl_iqa.engine.settings import flag, presets, script_parser, setting, settings_from


@dataclass(frozen=True)
class Settings:
    batch_size: int = setting(1000, "data", "images a step", low=2, demo=8)
    alpha: float = setting(0.9, "loss", "weight, 100 % at 1", low=0, high=1)
    lr: float = setting(0.01, "loss", "learning rate", above=0)
    mode: str = setting("a", "data", "which", choices=("a", "b"))


PRESETS = presets(Settings) | {"other": Settings(lr=5.0)}


def parse(line: str, **forced: object) -> Settings:
    parser = script_parser("", PRESETS, Path("out"))
    return settings_from(parser.parse_args(line.split()), PRESETS, **forced)


def test_nothing_given_is_the_demo() -> None:
    assert parse("") == Settings(batch_size=8)


def test_a_preset_is_what_flags_change() -> None:
    assert parse("--preset other --alpha 0.5") == Settings(alpha=0.5, lr=5.0)
    assert parse("--preset paper --batch-size 30 --mode b") == Settings(batch_size=30, mode="b")


def test_a_value_equal_to_a_falsy_one_is_still_given() -> None:
    assert parse("--alpha 0").alpha == 0


def test_what_is_forced_changes_the_preset_but_no_flag() -> None:
    assert parse("", lr=3.0).lr == 3.0 and parse("--lr 2", lr=3.0).lr == 2.0


def test_values_have_the_types_of_their_fields() -> None:
    settings = parse("--batch-size 4 --alpha 1 --lr 1e-3 --mode b")
    assert [type(value) for value in dataclasses.astuple(settings)] == [int, float, float, str]


@pytest.mark.parametrize("line", ["--batch-size 2", "--alpha 0", "--alpha 1", "--lr 1e-12"])
def test_the_ends_of_a_range_belong_to_it(line: str) -> None:
    parse(line)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--batch-size 1", "--batch-size must be at least 2, got 1"),
        ("--alpha -0.1", "--alpha must be at least 0, got -0.1"),
        ("--alpha 1.1", "--alpha must be at most 1, got 1.1"),
        ("--alpha nan", "--alpha must be at least 0, got nan"),
        ("--lr 0", "--lr must be more than 0, got 0.0"),
        ("--lr nan", "--lr must be more than 0, got nan"),
        ("--lr inf", "--lr must be finite, got inf"),
    ],
)
def test_a_value_out_of_range_names_its_flag(line: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse(line)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--mode c", ("--mode", "'c'", "choose from", "a", "b")),
        ("--batch-size 4.5", ("--batch-size", "int", "'4.5'")),
        ("--lr x", ("--lr", "float", "'x'")),
        ("--preset none", ("--preset", "'none'", "demo", "paper", "other")),
        ("--alhpa 1", ("--alhpa",)),
        ("--alhpa=1 --mode a", ("--alhpa",)),
        ("a b", ("a b",)),
        ("--lr", ("--lr: expected one argument",)),
    ],
)
def test_an_unknown_flag_or_value_is_one_line_and_exit_code_2(
    line: str, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """argparse's words are not the same in all versions of Python."""
    with pytest.raises(SystemExit) as caught:
        parse(line)
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.count("\n") == 1
    assert error.startswith("error: ") and error.endswith("; see --help\n") and all(word in error for word in words)


def test_a_wrong_argument_of_a_command_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for module, line, words in [
        (command, "figure tsne --encoders random --tipes demo", ("--tipes",)),
        (command, "figure pie", ("FIGURE", "'pie'", "distortions", "tsne")),
        (loss, "--views 0", ("--views must be a whole number", "got '0'; see --help")),
    ]:
        with pytest.raises(SystemExit):
            module.main(line.split())
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1 and all(word in error for word in words)


def test_of_several_processes_one_names_a_wrong_flag(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("RANK", 1), ("LOCAL_RANK", 1), ("WORLD_SIZE", 2), ("LOCAL_WORLD_SIZE", 2)):
        monkeypatch.setenv(name, str(value))
    with pytest.raises(SystemExit):
        parse("--mode c")
    assert capsys.readouterr().err == ""


def test_every_command_uses_this_parser() -> None:
    """argparse's own prints its whole usage."""
    for path in [
        *Path(train_joint.__file__).parent.glob("*.py"),
        *Path(ssl_iqa.__file__).parent.rglob("*.py"),
        *Path(loss.__file__).parent.glob("*.py"),
    ]:
        assert "argparse.ArgumentParser(" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("main", [train_joint.main, finetune.main])
def test_the_version_is_the_packages(main, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert not caught.value.code and capsys.readouterr().out == f"ssl_iqa {ssl_iqa.__version__}\n"


def test_help_groups_the_flags_and_shows_each_presets_value() -> None:
    parser = script_parser("", PRESETS, Path("runs/joint"))
    parser.formatter_class = argparse.RawTextHelpFormatter  # lines are not broken
    text = parser.format_help()
    assert "--out OUT" in text and "the run's folder (runs/joint)" in text
    _, text = text.split("\ndata:")  # after the usage
    assert text.index("--batch-size") < text.index("--mode") < text.index("loss:")
    assert "images a step (demo 8, paper 1000, other 1000)" in text
    assert "weight, 100 % at 1 (demo 0.9, paper 0.9, other 0.9)" in text and "--mode a|b" in text


# --- the scripts ---


def test_the_joint_scripts_paper_preset_is_section_4_2() -> None:
    paper = train_joint.PRESETS["paper"]
    assert (paper.batch_size, paper.labeled_batch_size, paper.epochs, paper.crop) == (1000, 32, 100, 224)
    assert (paper.lr, paper.regressor_lr, paper.weight_decay) == (1e-2, 1e-4, 1e-6)
    assert (paper.temperature, paper.alpha, paper.arch, paper.init) == (0.5, 0.9, "resnet50", "imagenet")
    assert (paper.schedule, paper.images_per_class, paper.average) == ("plateau", 0, "anchors")


def test_finetunes_paper_preset_is_section_4_2() -> None:
    paper = finetune.PRESETS["paper"]
    assert (paper.epochs, paper.batch_size, paper.lr, paper.crop, paper.arch) == (50, 32, 1e-5, 224, "resnet50")


@pytest.mark.parametrize("script", [train_joint, finetune])
def test_every_setting_has_its_flag_and_every_preset_is_within_its_limits(script) -> None:
    for preset in script.PRESETS:
        values = dataclasses.asdict(script.PRESETS[preset])
        needed = (
            {"unlabeled": "DIR", "labeled": "csv:FILE"} if script is train_joint else {"data": ("csv:FILE", "demo")}
        )
        values |= {name: value for name, value in needed.items() if not values[name]}
        line = []
        for name, value in values.items():
            several = value if isinstance(value, tuple) else (value,) if value not in ("", False) else ()
            line += [part for one in several for part in (flag(name), str(one))]
        settings, _ = script.parse_arguments(["--preset", preset, *line])
        assert dataclasses.asdict(settings) == values


@pytest.mark.parametrize(
    ("script", "promised"),
    [
        (
            train_joint,
            "preset unlabeled labeled arch init alpha temperature batch_size labeled_batch_size images_per_class crop"
            " epochs lr regressor_lr weight_decay trust_coefficient workers device seed out resume overwrite"
            " accumulate amp compile save_every",
        ),
        (finetune, "preset mode encoder data epochs batch_size lr crops seed out overwrite"),
    ],
)
def test_the_promised_flags_are_there(script, promised: str) -> None:
    _, args = script.parse_arguments([])
    assert set(promised.split()) <= set(vars(args))


def test_both_scripts_run_without_arguments_on_the_demo() -> None:
    settings, args = train_joint.parse_arguments([])
    assert (settings.unlabeled, settings.labeled, settings.init) == ("demo", "demo", "random")
    assert args.out == Path("runs/joint") and args.overwrite
    assert finetune.parse_arguments([])[0].data == ("demo",)


@pytest.mark.parametrize("line", ["--unlabeled DIR", "--unlabeled DIR --preset paper", "--unlabeled DIR --alpha 0.99"])
def test_own_images_want_own_scores(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        train_joint.parse_arguments(line.split())
    assert caught.value.code == 2 and "--labeled" in capsys.readouterr().err


def test_own_images_go_without_scores_at_alpha_1() -> None:
    settings, _ = train_joint.parse_arguments(["--unlabeled", "DIR", "--alpha", "1"])
    assert (settings.unlabeled, settings.labeled) == ("DIR", "")
    assert train_joint.parse_arguments(["--alpha", "1"])[0].unlabeled == "demo"


def test_images_per_class_divides_the_batch(capsys: pytest.CaptureFixture[str]) -> None:
    assert train_joint.parse_arguments(["--batch-size", "12", "--images-per-class", "4"])[0].images_per_class == 4
    with pytest.raises(SystemExit):
        train_joint.parse_arguments(["--batch-size", "12", "--images-per-class", "5"])
    assert capsys.readouterr().err == "error: --images-per-class must divide --batch-size, got 5\n"


def next_settings(*words: str, out: str = "runs/joint") -> finetune.Settings:
    """What finetune.py makes of the line that train_joint.py ends with, as a shell takes it apart."""
    settings, args = train_joint.parse_arguments([*words, "--out", out])
    command = finetune_command(settings, args, "--encoder", args.out / "encoder.pt")
    python, script, *flags = shlex.split(command)
    assert python == "python" and Path(script).resolve() == Path(finetune.__file__).resolve()
    return finetune.parse_arguments(flags)[0]


def test_the_next_command_finetunes_what_was_trained() -> None:
    assert next_settings() == finetune.PRESETS["demo"]
    own = ("--unlabeled", "my photos", "--labeled", "csv:my $scores'.csv")
    found = next_settings(*own, "--crop", "64", out="my runs/a")
    expected = {"data": ("csv:my $scores'.csv",), "crop": 64, "long_side": 0, "encoder": "my runs/a/encoder.pt"}
    assert found == dataclasses.replace(finetune.PRESETS["demo"], **expected)
    found = next_settings("--preset", "paper", "--unlabeled", "DIR", "--labeled", "kadid10k:DIR")
    assert found == dataclasses.replace(finetune.PRESETS["paper"], data=("kadid10k:DIR",))
    found = next_settings("--preset", "paper", "--unlabeled", "demo", "--labeled", "demo", "--crop", "96")
    assert found == dataclasses.replace(finetune.PRESETS["paper"], data=("demo",), crop=96)
    assert next_settings("--unlabeled", "DIR", "--alpha", "1").data == ("SPEC",)  # own images without scores
    for words, long_side in ((("--long-side", "100"), 100), (("--unlabeled", "DIR", "--labeled", "demo"), 0)):
        assert next_settings(*words) == dataclasses.replace(finetune.PRESETS["demo"], long_side=long_side)


def test_both_scripts_presets_have_the_same_crop_and_long_side() -> None:
    for name, preset in train_joint.PRESETS.items():
        other = finetune.PRESETS[name]
        assert (preset.crop, preset.long_side) == (other.crop, other.long_side)


def test_the_next_command_is_a_path_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    next_settings()
