"""The pages are held to the tree: links lead somewhere, and what the safety page names exists."""

from __future__ import annotations

import ast
import functools
import os
import re
import runpy
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SAFETY = ROOT / "docs" / "safety.md"
RULES = re.findall(r"^### (S\d+) ", SAFETY.read_text(), flags=re.MULTILINE)
NOT_OURS = {"build", "__pycache__", "node_modules"}
LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")
NODE = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
PLACE = re.compile(r"`([\w/]+\.py):([\w.]+)`")
FILE = re.compile(r"`((?:tests|qemu|systemd|bootloader_hooks|docs|debian)/[\w./-]*\w)`")
MUTANT = re.compile(r"`(s\d\d-[\w-]+\.patch)`")


@functools.cache
def pages() -> list[str]:
    """Every Markdown page of the project, as a path from the root."""
    found = []
    for folder, names, files in os.walk(ROOT):
        names[:] = [name for name in names if name not in NOT_OURS and not name.startswith(".")]
        found += [str(Path(folder, name).relative_to(ROOT)) for name in files if name.endswith(".md")]
    return sorted(found)


@functools.cache
def prose(page: Path) -> str:
    """The page without its code blocks: what stands there is no link."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


@functools.cache
def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ +(.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@functools.cache
def definitions(path: Path) -> frozenset[str]:
    """Functions, classes and methods of a module: `name`, `Class`, `Class.method`."""

    def inside(body: list[ast.stmt], prefix: str) -> Iterator[str]:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from inside(node.body, f"{prefix}{node.name}.")

    return frozenset(inside(ast.parse(path.read_text()).body, ""))


def sections() -> dict[str, str]:
    """The rules of the safety page, by number."""
    parts = re.split(r"^### (S\d+) ", SAFETY.read_text().split("\n## Follow ")[0], flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def named(section: str, what: str) -> str:
    """The text of one item of a rule's list: `Code`, `Mutants`, `Tests`."""
    found = re.search(rf"^- {what}: (.*?)(?=^- |^#|\Z)", section, flags=re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


@pytest.mark.parametrize("mutant", sorted((ROOT / "tests/mutants").glob("*.patch")), ids=lambda path: path.stem)
def test_each_mutant_applies_to_the_code_as_it_stands(mutant: Path) -> None:
    argv = ["patch", "-p1", "--forward", "--fuzz=0", "--dry-run", "-i", str(mutant)]  # as tests/mutants/run.py does
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"make it anew: {done.stdout}"


def test_each_mutant_breaks_a_rule_or_a_requirement_that_there_is() -> None:
    requirements = "".join(path.read_text() for path in (ROOT / "docs/requirements").glob("*.toml"))
    known = {*RULES, *re.findall(r'^id = "([\w-]+)"', requirements, re.MULTILINE)}
    assert {path.read_text().split()[1] for path in (ROOT / "tests/mutants").glob("*.patch")} <= known


def broken(page: str) -> Iterator[str]:
    """Its links to places inside the project that are not there."""
    path = ROOT / page
    for target in LINK.findall(prose(path)):
        name, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        there = (path.parent / name).resolve() if name else path
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors(there)):
            yield f"{page}: {target}"


def test_every_link_inside_the_project_leads_somewhere() -> None:
    assert len(pages()) > 100
    assert not [each for page in pages() for each in broken(page)]


def test_the_safety_page_has_each_rule_once_and_in_order() -> None:
    assert sorted(set(RULES), key=lambda rule: int(rule[1:])) == RULES
    assert RULES[:17] == [f"S{number}" for number in range(1, 18)]


def test_the_rules_are_printed_from_requirements_and_marks() -> None:
    make_safety = runpy.run_path(str(ROOT / "docs/make_safety.py"))
    assert SAFETY.read_text() == make_safety["page"](), "print it anew: make pages"


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_names_code_tests_and_mutants_of_its_own(rule: str) -> None:
    section = sections()[rule]
    mutants = MUTANT.findall(named(section, "Mutants"))
    assert PLACE.findall(named(section, "Code"))
    assert NODE.findall(named(section, "Tests"))
    assert mutants
    for mutant in mutants:
        first = (ROOT / "tests" / "mutants" / mutant).read_text().splitlines()[0]
        assert first.split()[:2] == ["Rule:", rule], mutant


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_names_a_test_from_the_files_that_its_mutants_run(rule: str) -> None:
    section = sections()[rule]
    files = {file for file, _ in NODE.findall(named(section, "Tests"))}
    for mutant in MUTANT.findall(named(section, "Mutants")):
        runs = (ROOT / "tests" / "mutants" / mutant).read_text().splitlines()[1].removeprefix("Test: ").split()
        assert files & {test.partition("::")[0] for test in runs}, mutant


def named_in_pages(pattern: re.Pattern[str]) -> list[tuple[str, Any]]:
    """What pages name so, with the page."""
    found = [(page, each) for page in pages() for each in pattern.findall((ROOT / page).read_text())]
    assert len(found) > 50
    return found


def test_every_test_that_a_page_names_exists() -> None:
    missing = [
        f"{page}: {file}::{name}"
        for page, (file, name) in named_in_pages(NODE)
        if not (ROOT / file).is_file() or name not in definitions(ROOT / file)
    ]
    assert not missing


def test_every_function_that_a_page_names_exists() -> None:
    client = ROOT / "client" / "twinslot"
    missing = [
        f"{page}: {file}:{name}"
        for page, (file, name) in named_in_pages(PLACE)
        if not (client / file).is_file() or name not in definitions(client / file)
    ]
    assert not missing


def test_every_file_that_a_page_names_exists() -> None:
    named_files = [
        (page, name) for page, name in named_in_pages(FILE) if page == "README.md" or page.startswith("docs/")
    ]
    assert not [each for each in named_files if "NAME" not in each[1] and not (ROOT / each[1]).exists()]
