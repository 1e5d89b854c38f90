"""README.md's map from the paper to the code names what is there; docs/distortions.md says what the code does."""

import ast
import re
from pathlib import Path

from ssl_iqa.distortions import DISTORTIONS, load_distortions
from ssl_iqa.distortions.imgaug_types import AUGMENTERS

ROOT = Path(__file__).parents[1]
ENTRY = re.compile(r"`([\w/.-]+\.py):([\w.]+)`")


def defined(tree: ast.Module | ast.ClassDef) -> dict[str, ast.AST]:
    """The functions, classes and assigned names of a module's or class's top level."""
    names: dict[str, ast.AST] = {}
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names[node.name] = node
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id: node for target in targets if isinstance(target, ast.Name)}
    return names


def missing(text: str, root: Path = ROOT) -> list[str]:
    """The entries of a text that name no file, or nothing that it defines; `Class.method` is one too."""
    wrong = []
    for file, name in ENTRY.findall(text):
        node: ast.AST | None = ast.parse((root / file).read_text(encoding="utf-8")) if (root / file).is_file() else None
        for part in name.split("."):
            node = defined(node).get(part) if isinstance(node, (ast.Module, ast.ClassDef)) else None
        if node is None:
            wrong.append(f"{file}:{name}")
    return wrong


def test_every_entry_of_the_readme_is_defined() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(ENTRY.findall(text)) >= 10 and missing(text) == []


def test_the_map_names_the_papers_equations() -> None:
    rows = [line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if ENTRY.search(line)]
    named = " ".join(rows)
    for entry in (
        *("ssl_iqa/losses.py:supervised_nt_xent", "ssl_iqa/model.py:Encoder", "ssl_iqa/model.py:ProjectionHead"),
        *("ssl_iqa/model.py:Regressor", "ssl_iqa/lars.py:LARS", "train_joint.py:joint_step"),
    ):
        assert f"`{entry}`" in named
    assert all(re.search(rf"\b{n}\b", named) for n in range(1, 9))  # Eqs. 1 to 8


def test_an_entry_that_is_not_there_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("import b\nX = 1\nY: int = 2\nclass C:\n    def m(self): ...\ndef f():\n    z = 1\n")
    rows = ("a.py:X", "a.py:Y", "a.py:C", "a.py:C.m", "a.py:f", "a.py:b", "a.py:z", "a.py:C.n", "a.py:m", "c.py:X")
    assert missing(" ".join(f"`{row}`" for row in rows), tmp_path) == list(rows[5:])


DISTORTIONS_PAGE = (ROOT / "docs" / "distortions.md").read_text(encoding="utf-8")


def test_the_page_of_distortions_has_the_published_types_and_levels() -> None:
    rows = re.findall(r"^\| (\d+) \| (\w+) \| ([-\d. ]+) \|", DISTORTIONS_PAGE, flags=re.MULTILINE)
    assert [int(number) for number, *_ in rows] == list(range(1, 26))
    assert [(name, tuple(map(float, levels.split()))) for _, name, levels in rows] == list(DISTORTIONS.items())
    assert ENTRY.search(DISTORTIONS_PAGE) and missing(DISTORTIONS_PAGE) == []


def test_the_pages_table_of_imgaug_has_the_types_that_are_there() -> None:
    rows = re.findall(r"^\| (\w+) \| `iaa\.", DISTORTIONS_PAGE, flags=re.MULTILINE)
    assert rows == list(AUGMENTERS)


def test_the_pages_example_is_a_file_of_distortions(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", DISTORTIONS_PAGE, flags=re.DOTALL)
    (tmp_path / "few.toml").write_text(example)
    chosen = load_distortions(str(tmp_path / "few.toml"))
    assert [(name, value, weight) for name, _, value, weight, _ in chosen] == [
        *(("gaussian_blur", value, 1) for value in DISTORTIONS["gaussian_blur"]),
        *(("jpeg", value, 2) for value in (60, 40, 20, 10)),
        *(("white_noise", value, 1) for value in DISTORTIONS["white_noise"]),
    ]
    assert {library for *_, library in chosen[-5:]} == {"imgaug"}
