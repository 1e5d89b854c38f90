"""The import direction of the package, read from the source."""

import ast
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
DEPENDENCIES = {"torch", "torchvision", "numpy", "scipy", "PIL", "tqdm", "tomli"}  # setup.py's install_requires
EXTRAS = {
    "matplotlib",
    "onnx",
    "onnxruntime",
    "openpyxl",
    "pillow_heif",
    "safetensors",
    "sklearn",
    "webdataset",
}  # imported where they are used, so that the rest goes without


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def dotted(path: Path) -> str:
    """ssl_iqa/data.py -> ssl_iqa.data; ssl_iqa/distortions/__init__.py -> ssl_iqa.distortions."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Every name that a file imports, at any depth, in full: `from . import blur` is ssl_iqa.distortions.blur."""
    package = dotted(path) if path.name == "__init__.py" else dotted(path).rpartition(".")[0]
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            yield from (".".join([*above, *filter(None, [node.module]), alias.name]) for alias in node.names)


def within(name: str, module: str) -> bool:
    return name == module or name.startswith(module + ".")


def own_imports(path: Path) -> list[str]:
    return [name for name in imports(path) if within(name, "ssl_iqa")]


def test_every_folder_of_modules_is_a_package() -> None:
    """Else an installation, unlike a checkout, lacks it: find_packages asks for an __init__.py."""
    assert {path.parent for path in MODULES} == {path.parent for path in PACKAGE.rglob("__init__.py")}


@pytest.mark.parametrize("module", ["model", "losses", "lars", "metrics", "data", "brisque"])
def test_these_import_nothing_of_the_package(module: str) -> None:
    assert own_imports(PACKAGE / f"{module}.py") == []


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
assert load.__module__ == QualityModel.__module__ == "ssl_iqa.quality"
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


def test_sets_import_data_and_the_distortions_only() -> None:
    names = own_imports(PACKAGE / "sets.py")
    assert names and all(within(name, "ssl_iqa.data") or within(name, "ssl_iqa.distortions") for name in names)


def test_the_package_imports_no_script_and_no_test() -> None:
    outside = {path.stem for path in SCRIPTS} | {"tests", "setup"}
    assert {"train_joint", "finetune"} <= outside
    for path in MODULES:
        assert not {name.partition(".")[0] for name in imports(path)} & outside, path


def is_command(path: Path) -> bool:
    """Whether a file is run as a command: it has a `main` and calls it."""
    tree = parse(path)
    ends_in_main = any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in tree.body)
    return ends_in_main and any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)


def test_argparse_is_in_cli_and_the_commands_only() -> None:
    with_argparse = [path for path in MODULES if any(within(name, "argparse") for name in imports(path))]
    assert PACKAGE / "cli.py" in with_argparse
    assert all(path == PACKAGE / "cli.py" or is_command(path) for path in with_argparse)
    assert all(is_command(path) or path.name == "hubconf.py" for path in SCRIPTS)
    libraries = ("model", "losses", "lars", "metrics", "data", "views", "runs", "checkpoint", "report")
    libraries += ("distributed", "samplers", "sets", "streams", "brisque", "baselines", "protocol", "resampling")
    libraries += ("results", "tables", "plots", "pages", "curves", "tsne", "ranking", "scatter", "quality")
    libraries += ("learning", "calibration", "album", "modelfile")
    assert not {PACKAGE / f"{name}.py" for name in libraries} & set(with_argparse)


def test_the_package_needs_its_dependencies_only() -> None:
    for path in [*MODULES, *SCRIPTS]:
        top = {name.partition(".")[0] for name in imports(path)}
        assert top <= DEPENDENCIES | EXTRAS | sys.stdlib_module_names | {"ssl_iqa"}, path


def test_extras_are_imported_where_they_are_used() -> None:
    for path in [*MODULES, *SCRIPTS]:
        at_once = [ast.unparse(node) for node in parse(path).body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert not any(extra in statement for statement in at_once for extra in (*EXTRAS, "tensorboard")), path


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
