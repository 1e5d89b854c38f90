"""README.md is short and names every room; links and entries of all pages lead somewhere; docs/distortions.md holds."""

import ast
import re
from pathlib import Path

import pytest

import finetune
from ssl_iqa import baselines
from ssl_iqa.distortions import DISTORTIONS, load_distortions
from ssl_iqa.distortions.imgaug_types import AUGMENTERS
from ssl_iqa.evaluation import tables
from ssl_iqa.evaluation.cells import NAMED
from ssl_iqa.evaluation.protocol import parse_encoders
from tests.readme_commands import check, commands, shell_lines

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
MOST_LINES = 160
ENTRY = re.compile(r"`([\w/.-]+\.py):([\w.]+)`")
PLACE = re.compile(r"`((?:ssl_iqa|tests|benchmarks)/[\w/.-]*)[`:]")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


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
    """The entries of a text that name no file, or nothing that it defines; `Class.method` is an entry, too."""
    wrong = []
    for file, name in ENTRY.findall(text):
        node: ast.AST | None = ast.parse((root / file).read_text(encoding="utf-8")) if (root / file).is_file() else None
        for part in name.split("."):
            node = defined(node).get(part) if isinstance(node, (ast.Module, ast.ClassDef)) else None
        if node is None:
            wrong.append(f"{file}:{name}")
    return wrong


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    """The links of a page that lead to no file or to no heading of one; those to other sites are not followed."""
    wrong = []
    for link in LINK.findall(read(page)):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.is_file() or (anchor and anchor not in anchors(read(target))):
            wrong.append(link)
    return wrong


def test_the_readme_is_short() -> None:
    assert len(read(README).splitlines()) <= MOST_LINES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_entry_of_a_page_is_defined(page: Path) -> None:
    assert missing(read(page)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_and_folder_of_a_page_is_there(page: Path) -> None:
    assert [place for place in PLACE.findall(read(page)) if not (ROOT / place).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    assert broken_links(page) == []


def test_the_readme_names_every_room_and_links_every_page() -> None:
    rooms = [path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "ssl_iqa").glob("*/__init__.py")]
    assert len(rooms) >= 7 and [room for room in rooms if f"`{room}/`" not in read(README)] == []
    links = LINK.findall(read(README))
    assert [page.name for page in PAGES[2:] if f"docs/{page.name}" not in links] == []


def test_the_map_names_the_papers_equations() -> None:
    rows = [line.split("|") for line in read(README).splitlines() if line.startswith("|") and ENTRY.search(line)]
    named = {
        int(n) for _, paper, *_ in rows for of in re.findall(r"Eqs?\. ([\d and]+)", paper) for n in of.split(" and ")
    }
    assert named == set(range(1, 9))


def test_every_row_of_table_3_that_can_be_measured_has_its_command() -> None:
    section = read(ROOT / "docs" / "tables.md").partition("\n## Table 3, a command a row\n")[2].partition("\n## ")[0]
    rows: dict[str, finetune.Settings] = {}
    for program, *arguments in commands(shell_lines(section)):
        check(program, *arguments)
        if program == "finetune.py":
            settings, _ = finetune.parse_arguments(arguments)
            (name,) = parse_encoders(settings.encoders, NAMED)
            rows[name] = settings
    assert {*rows} == {*tables.COMPARED} & {*NAMED, *baselines.PRETRAINED, "cl", "ssl"} and len(rows) >= 12
    assert {(settings.data, settings.splits) for settings in rows.values()} == {(("kadid10k:DIR/kadid10k",), 3)}
    assert {name for name, settings in rows.items() if settings.mode == "ridge"} == {"contrique-syn"}


def test_a_command_with_an_encoder_of_no_name_is_found() -> None:
    for words in ("--encoders brisk", "--encoders cl=runs/cl,cl=runs/cl2"):
        with pytest.raises(SystemExit, match="--encoders must"):
            check("finetune.py", *words.split())


def test_an_entry_that_is_not_there_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("import b\nX = 1\nY: int = 2\nclass C:\n    def m(self): ...\ndef f():\n    z = 1\n")
    rows = ("a.py:X", "a.py:Y", "a.py:C", "a.py:C.m", "a.py:f", "a.py:b", "a.py:z", "a.py:C.n", "a.py:m", "c.py:X")
    assert missing(" ".join(f"`{row}`" for row in rows), tmp_path) == list(rows[5:])


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("# What it's for\n```\n# no heading\n```\n")
    links = ("b.md", "b.md#what-its-for", "https://a.b/c", "#here", "c.md", "b.md#no-heading", "b.md#what-it's-for")
    page = tmp_path / "a.md"
    page.write_text("## Here\n" + " ".join(f"[x]({link})" for link in links))
    assert broken_links(page) == list(links[4:])


DISTORTIONS_PAGE = read(ROOT / "docs" / "distortions.md")


def test_the_page_of_distortions_has_the_published_types_and_levels() -> None:
    rows = re.findall(r"^\| (\d+) \| (\w+) \| ([-\d. ]+) \|", DISTORTIONS_PAGE, flags=re.MULTILINE)
    assert [int(number) for number, *_ in rows] == list(range(1, 26))
    assert [(name, tuple(map(float, levels.split()))) for _, name, levels in rows] == list(DISTORTIONS.items())


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
