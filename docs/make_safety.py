"""Prints the rules of docs/safety.md: texts of docs/requirements/safety.toml, marks in the code, in the tests, mutants.

What stands outside of the two lines of comment in the page is written by hand and stays.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from twinslot_lab.matrix.load import load
from twinslot_lab.matrix.marks import find_marks
from twinslot_lab.matrix.model import Mark

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs/safety.md"
SOURCES: Final = ("bootloader_hooks", "client", "image_tools", "qemu", "systemd")
BEGIN: Final = "<!-- The rules: printed by docs/make_safety.py from docs/requirements/safety.toml and from marks. -->"
END: Final = "<!-- The end of the rules. -->"
WIDTH: Final = 118  # columns of a list


def main() -> None:
    """Write the page anew, in its place."""
    PAGE.write_text(page())


def page() -> str:
    """The page as it must be."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{''.join(rules())}{END}{after}"


def rules() -> Iterator[str]:
    """One section for each rule."""
    marks, tests, mutants = marks_by_rule(), tests_by_rule(), mutants_by_rule()
    for rule in load(ROOT / "docs/requirements").requirements.values():
        if rule.file.name == "safety.toml":
            lists = (("Code", marks[rule.id]), ("Mutants", mutants[rule.id]), ("Tests", tests[rule.id]))
            items = "".join(listed(name, values) for name, values in lists if values)
            yield f"### {rule.id} {rule.title}\n\n{rule.text}\n\n{items}\n"


def listed(name: str, values: list[str]) -> str:
    """One item of a list, in lines of at most `WIDTH` columns, but for a first word that is longer."""
    lines = [f"- {name}:"]
    for at, value in enumerate(values):
        word = f"`{value}`{',' if at < len(values) - 1 else '.'}"
        if at and len(lines[-1]) + 1 + len(word) > WIDTH:
            lines.append(" ")
        lines[-1] += f" {word}"
    return "\n".join(lines) + "\n"


def marks_by_rule() -> dict[str, list[str]]:
    """Places as the page names them: `file:function` below the client's modules, else the file."""
    found: dict[str, list[str]] = defaultdict(list)
    for mark in find_marks(ROOT, [ROOT / source for source in SOURCES]):
        place = named(mark)
        if place not in found[mark.id]:
            found[mark.id].append(place)
    return found


def named(mark: Mark) -> str:
    """A mark in the words of the page."""
    inside = mark.file.removeprefix("client/twinslot/")
    return (
        f"{inside}:{mark.function}" if mark.function and mark.file.endswith(".py") and inside != mark.file else inside
    )


def tests_by_rule() -> dict[str, list[str]]:
    """Tests marked `verifies`, as `file::test`, in the order of their files."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text = path.read_text()
        if "mark.verifies(" not in text:
            continue
        name = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                for id_ in ids_of(node):
                    found[id_].append(f"{name}::{node.name}")
    return found


def ids_of(node: ast.FunctionDef) -> Iterator[str]:
    """What a test's own markers say."""
    for each in node.decorator_list:
        if isinstance(each, ast.Call) and ast.unparse(each.func) == "pytest.mark.verifies":
            yield from (ast.literal_eval(argument) for argument in each.args)


def mutants_by_rule() -> dict[str, list[str]]:
    """Files of tests/mutants by the rule in their first line."""
    found: dict[str, list[str]] = defaultdict(list)
    for patch in sorted((ROOT / "tests/mutants").glob("*.patch")):
        first = patch.read_text().partition("\n")[0]
        found[first.removeprefix("Rule: ").split()[0]].append(patch.name)
    return found


if __name__ == "__main__":
    main()
