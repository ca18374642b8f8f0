"""The linters are tests, so that one command tells the truth."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


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
