"""The rooms of the package and the direction of its imports, read from the source."""

import ast
import graphlib
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ssl_iqa
from tests.processes import run_process

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ssl_iqa"
MODULES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = [path for path in sorted(ROOT.glob("*.py")) if path.name != "setup.py"]
FRONT = {PACKAGE / "__init__.py", PACKAGE / "__main__.py"}  # they hand out what the rooms hold
METHOD = {
    "model",
    "archs",
    "losses",
    "lars",
    "schedule",
    "dct_mlp",
}  # they lie open at the top, the distortions beside them
ROOMS = ("method", "engine", "data", "baselines", "evaluation", "scoring", "figures")  # each may import those before it
# Table 3's regressor is chosen by SROCC, and what metrics imports cannot lead back: nothing.
EXCEPTIONS = {(PACKAGE / "baselines" / "regressor.py", PACKAGE / "evaluation" / "metrics.py")}
DEPENDENCIES = {"torch", "torchvision", "numpy", "scipy", "PIL", "tqdm"}  # setup.py's install_requires
EXTRAS = {
    "matplotlib",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "openpyxl",
    "piq",
    "pillow_heif",
    "safetensors",
    "pywt",
    "sklearn",
    "timm",
    "braceexpand",
}  # imported where they are used, so that the rest goes without


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def dotted(path: Path) -> str:
    """ssl_iqa/data/sets.py -> ssl_iqa.data.sets; ssl_iqa/distortions/__init__.py -> ssl_iqa.distortions."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, at_once: bool = False) -> Iterator[str]:
    """Every name that a file imports, in full: `from . import blur` is ssl_iqa.distortions.blur.

    At any depth, or only what is imported with the file itself.
    """
    package = dotted(path) if path.name == "__init__.py" else dotted(path).rpartition(".")[0]
    for node in parse(path).body if at_once else ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            yield from (".".join([*above, *filter(None, [node.module]), alias.name]) for alias in node.names)


def within(name: str, module: str) -> bool:
    return name == module or name.startswith(module + ".")


def own_imports(path: Path, at_once: bool = False) -> list[str]:
    return [name for name in imports(path, at_once) if within(name, "ssl_iqa")]


def test_every_folder_of_modules_is_a_package() -> None:
    """Else an installation, unlike a checkout, lacks it: find_packages asks for an __init__.py."""
    assert {path.parent for path in MODULES} == {path.parent for path in PACKAGE.rglob("__init__.py")}


def room(path: Path) -> str:
    name = path.relative_to(PACKAGE).parts[0]
    return name if name in ROOMS else "method"


def own_modules(path: Path, at_once: bool = False) -> set[Path]:
    """The modules of the package that a file imports, without the front."""
    known = {dotted(module): module for module in MODULES}
    modules = set()
    for name in own_imports(path, at_once):
        while name not in known:
            name = name.rpartition(".")[0]
        modules.add(known[name])
    return modules - FRONT


def test_each_file_has_its_room() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == {"__init__", "__main__", *METHOD}
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == {"distortions", *ROOMS} - {"method"}


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_imports_itself_and_those_before_it(name: str) -> None:
    paths = [path for path in MODULES if room(path) == name and path not in FRONT]
    assert paths
    for path in paths:
        for module in own_modules(path):
            is_before = ROOMS.index(room(module)) <= ROOMS.index(name)
            assert is_before or (path, module) in EXCEPTIONS, (path, module)


def test_metrics_import_nothing_of_the_package() -> None:
    assert own_imports(PACKAGE / "evaluation" / "metrics.py") == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {path: own_modules(path) for path in MODULES if path not in FRONT}
    assert len([*graphlib.TopologicalSorter(graph).static_order()]) == len(graph)  # raises CycleError


def imported_at_once(path: Path) -> set[Path]:
    """The modules of the package that are imported with a file, by themselves or by others."""
    left, met = [path], set()
    while left:
        new = own_modules(left.pop(), at_once=True) - met
        met |= new
        left += new
    return met


def test_what_only_some_users_need_is_not_on_a_readers_way() -> None:
    met = imported_at_once(ROOT / "train_joint.py")
    assert {PACKAGE / "losses.py", PACKAGE / "data" / "streams.py"} <= met
    assert not {PACKAGE / "data" / "shards.py", PACKAGE / "data" / "near_duplicates.py"} & met
    assert not {"scoring", "figures"} & {room(path) for path in met}


def test_finetuning_an_encoder_imports_no_other_methods_networks() -> None:
    met = imported_at_once(ROOT / "finetune.py")
    assert PACKAGE / "baselines" / "regressor.py" in met
    assert not {PACKAGE / "baselines" / f"{name}.py" for name in ("meon", "koncept", "pretrain")} & met


def test_distortions_import_nothing_else_of_the_package() -> None:
    for path in (PACKAGE / "distortions").rglob("*.py"):
        assert all(within(name, "ssl_iqa.distortions") for name in own_imports(path)), path


def test_distortions_are_imported_without_what_they_do_not_need() -> None:
    """Nor does the package bring the rest in, which it has ready all the same."""
    code = """
import sys
for name in ("tqdm", "torchvision", "matplotlib", "sklearn", "imgaug"):
    sys.modules[name] = None  # whatever imports it fails
import ssl_iqa.distortions as distortions
assert {name for name in sys.modules if name.startswith("ssl_iqa.") and "distortions" not in name} == set()
distortions.load_distortions("distinct")
del sys.modules["tqdm"], sys.modules["torchvision"]
from ssl_iqa import QualityModel, load
assert load.__module__ == QualityModel.__module__ == "ssl_iqa.scoring.quality"
"""
    done = run_process(exec, code)
    assert done.returncode == 0, done.stderr


def test_the_version_stands_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {}
    monkeypatch.setattr("setuptools.setup", lambda **settings: given.update(settings))
    runpy.run_path(str(ROOT / "setup.py"))
    assert given["version"] == ssl_iqa.__version__
    with pytest.raises(AttributeError, match="^module 'ssl_iqa' has no attribute 'lod'$"):
        ssl_iqa.lod  # noqa: B018


def test_the_package_imports_no_script_and_no_test() -> None:
    outside = {path.stem for path in SCRIPTS} | {"tests", "setup"}
    assert {"train_joint", "finetune"} <= outside
    for path in MODULES:
        assert not {name.partition(".")[0] for name in imports(path)} & outside, path


def is_command(path: Path) -> bool:
    """Whether a file is run as a command: it has a `main`, or what `ssl-iqa` asks of a subcommand."""
    functions = {node.name for node in parse(path).body if isinstance(node, ast.FunctionDef)}
    return "main" in functions or {"add_arguments", "run"} <= functions


def test_argparse_is_in_the_settings_and_the_commands_only() -> None:
    with_argparse = [path for path in MODULES if any(within(name, "argparse") for name in imports(path))]
    settings = PACKAGE / "engine" / "settings.py"
    assert settings in with_argparse
    assert all(path == settings or is_command(path) for path in with_argparse)
    assert all(is_command(path) or path.name == "hubconf.py" for path in SCRIPTS)
    assert not {"method", "baselines"} & {room(path) for path in with_argparse if path not in FRONT}


def test_the_package_needs_its_dependencies_only() -> None:
    for path in [*MODULES, *SCRIPTS]:
        top = {name.partition(".")[0] for name in imports(path)}
        assert top <= DEPENDENCIES | EXTRAS | sys.stdlib_module_names | {"ssl_iqa"}, path


def test_extras_are_imported_where_they_are_used() -> None:
    for path in [*MODULES, *SCRIPTS]:
        at_once = [ast.unparse(node) for node in parse(path).body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert not any(extra in statement for statement in at_once for extra in EXTRAS), path


def test_imports_are_read_in_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "a" / "b").mkdir(parents=True)
    path = tmp_path / "a" / "b" / "__init__.py"
    lines = ("import x.y as z", "from . import c", "from .d import e", "from .. import f", "def g(): from h.i import j")
    path.write_text("\n".join(lines))
    assert list(imports(path)) == ["x.y", "a.b.c", "a.b.d.e", "a.f", "h.i.j"]
    module = tmp_path / "a" / "k.py"
    module.write_text("from . import l\nfrom .b import m\n")
    assert list(imports(module)) == ["a.l", "a.b.m"]
