"""docs/terminology.md and the code use the same words: one class for a name, no word that the page rules out."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/terminology.md").read_text()
WORDS = re.findall(r"^\| \*\*([^|]+?)\*\*[^|]* \|", PAGE, flags=re.MULTILINE)
RULED_OUT = dict(re.findall(r"^\| ~~([\w-]+)~~ \| ([^|]+?) \|", PAGE, flags=re.MULTILINE))
CLIENT = ROOT / "client/twinslot"
USERS = (ROOT / "qemu/twinslot_lab", ROOT / "bench")  # of the other two: what they name stands beside what those do
CODE = (CLIENT, ROOT / "image_tools/twinslot_image", *USERS)


def modules(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        yield from sorted(folder.rglob("*.py"))


def names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every name that a module gives: classes, functions, parameters, variables, attributes."""
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name, node.lineno
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name, node.lineno
            case _:
                pass


def parts(name: str) -> list[str]:
    """`GroupSource` and `group_source` have the words group and source."""
    return re.findall(r"[a-z]+", re.sub(r"([A-Z])", r"_\1", name).lower())


def test_a_class_name_stands_once_in_each_distribution_and_lab_and_bench_take_none_of_the_others() -> None:
    found = [
        (node.name, folder, f"{path.relative_to(ROOT)}:{node.lineno}")
        for folder in CODE
        for path in modules(folder)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    inside = Counter((name, folder) for name, folder, _ in found)
    everywhere = Counter(name for name, _, _ in found)
    assert len(everywhere) > 400
    assert [f"{place}: {name}" for name, folder, place in found if inside[name, folder] > 1] == []
    assert [f"{place}: {name}" for name, folder, place in found if folder in USERS and everywhere[name] > 1] == []


def test_no_name_of_the_code_has_a_word_that_the_page_rules_out() -> None:
    assert len(RULED_OUT) > 10
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {name}: {RULED_OUT[part]}"
        for path in modules(*CODE)
        for name, line in names(ast.parse(path.read_text()))
        for part in parts(name)
        if part in RULED_OUT
    ]
    assert not wrong, "\n".join(wrong)


def test_no_module_is_named_by_a_word_that_the_page_rules_out() -> None:
    assert not [path for path in modules(*CODE) if RULED_OUT.keys() & {*parts(path.stem)}]


def test_each_word_of_the_page_is_one_that_code_or_units_use() -> None:
    words = [one for entry in WORDS for one in re.split(r"\*\*, \*\*", entry)]
    assert len(words) > 50
    files = (path for path in (*modules(*CODE), *(ROOT / "systemd").iterdir()) if path.is_file())
    text = "\n".join(path.read_text() for path in files)
    said = {word: re.compile(rf"(?i)(?<![a-z]){re.sub(r'[ -]', '[ _-]?', word)}") for word in words}
    unused = [word for word in words if not said[word].search(text)]
    assert not unused, "nothing is called so: take them from the page, or use them"


def test_no_test_is_named_by_a_word_that_the_page_rules_out_nor_by_how_its_situation_was_found() -> None:
    words = RULED_OUT.keys() | {"review", "reviews", "regression", "issue"}
    wrong = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        tests = [node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
        named = [path.stem, *(name for name in tests if name.startswith("test_"))]
        wrong += [f"{path.relative_to(ROOT)}: {name}" for name in named if words & {*name.split("_")}]
    assert not wrong, "\n".join(wrong)
