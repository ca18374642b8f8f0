"""The linters are tests, so that one command tells the truth."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE_MAX = 400  # lines; tests are lists of situations, and may be longer
FUNCTION_MAX = 60  # lines
SHIPPED = ("bench", "bootloader_hooks", "client", "debian", "docs", "image_tools", "qemu", "systemd")


def run(*command: str) -> None:
    """Run a linter in the checkout and show what it says."""
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout}{result.stderr}"


def tracked(*patterns: str) -> list[str]:
    """Files under version control (and new ones that are not ignored)."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return [name for name in names if (ROOT / name).is_file()]


def tool(name: str) -> str:
    """A tool of the virtual environment."""
    return str(Path(sys.executable).with_name(name))


def test_ruff_finds_nothing() -> None:
    run(tool("ruff"), "check", "--quiet")


def test_the_code_is_formatted() -> None:
    run(tool("ruff"), "format", "--check", "--quiet")


@pytest.mark.slow
def test_mypy_is_strict_and_content() -> None:
    run(tool("mypy"))


def test_shellcheck_finds_nothing() -> None:
    scripts = [
        name
        for name in tracked()
        if name.endswith((".sh", ".bash-completion"))
        or (ROOT / name).read_bytes()[:64].split(b"\n")[0].startswith((b"#!/bin/sh", b"#!/bin/bash"))
    ]
    assert scripts
    run("shellcheck", "--external-sources", *scripts)


def test_manual_pages_are_clean() -> None:
    pages = tracked("docs/man/*.[1-8]")
    assert pages
    run("mandoc", "-Tlint", "-Wwarning", *pages)


def code(*folders: str) -> list[str]:
    """Python files, and scripts of the shell, in these folders."""
    found = tracked(*folders)
    return [name for name in found if name.endswith(".py") or (ROOT / name).read_bytes()[:2] == b"#!"]


def long_functions(path: Path) -> list[str]:
    """Those of a Python file that are longer than they may be, with their length."""
    nodes = ast.walk(ast.parse(path.read_bytes()))
    functions = (node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    lengths = {f.name: (f.end_lineno or 0) - f.lineno + 1 for f in functions}
    return [f"{path}: {name}: {length}" for name, length in lengths.items() if length > FUNCTION_MAX]


def test_no_file_of_code_is_longer_than_a_reader_can_hold() -> None:
    files = code(*SHIPPED)
    assert len(files) > 400
    lengths = {name: (ROOT / name).read_bytes().count(b"\n") for name in files}
    assert {name: length for name, length in lengths.items() if length > FILE_MAX} == {}, "which noun is missing?"


def test_no_function_is_longer_than_a_reader_can_hold() -> None:
    files = [name for name in code(*SHIPPED, "tests") if name.endswith(".py")]
    assert [each for name in files for each in long_functions(ROOT / name)] == [], "which noun is missing?"


@pytest.mark.parametrize(("length", "long"), [(FUNCTION_MAX, False), (FUNCTION_MAX + 1, True)])
def test_a_function_is_measured_from_its_first_to_its_last_line(tmp_path: Path, length: int, long: bool) -> None:
    (tmp_path / "one.py").write_text("def one():\n" + "    pass\n" * (length - 1))
    assert bool(long_functions(tmp_path / "one.py")) is long
