"""The quick tests before a commit: what `make quick` runs, and git that runs it once `make hook` was asked."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
QUICK = """\
quick:
\t@test -z "$$GIT_INDEX_FILE$$GIT_DIR" && test ! -e wrong
"""
NOBODY = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "EMAIL": "nobody@invalid.test"}


def plan(target: str) -> list[str]:
    """The commands of a target of the Makefile, also where a `make` runs these tests."""
    environment = {
        name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}
    }
    argv = ["make", "-n", target]
    return subprocess.run(
        argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout.splitlines()


def git(folder: Path, *words: str) -> bool:
    """Whether git says yes."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | NOBODY
    return subprocess.run(["git", *words], cwd=folder, env=environment, capture_output=True).returncode == 0


def test_a_commit_is_made_only_when_the_quick_tests_pass(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "tests/hooks", tmp_path / "tests/hooks")
    (tmp_path / "Makefile").write_text(QUICK)
    (tmp_path / "wrong").touch()
    assert git(tmp_path, "init", "--quiet")
    (words,) = (shlex.split(line) for line in plan("hook"))
    assert git(tmp_path, *words[1:])
    assert git(tmp_path, "add", "Makefile")
    assert not git(tmp_path, "commit", "-m", "With a fault")
    (tmp_path / "wrong").unlink()
    assert git(tmp_path, "commit", "-m", "Without")


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/guide-developer.md"])
def test_the_pages_name_the_command_and_it_runs_each_test_of_the_house_rules_that_they_name(page: str) -> None:
    text = (ROOT / page).read_text()
    assert "make hook" in text
    assert "make quick" in text
    rules = text if page == "CONTRIBUTING.md" else text.partition("House rules that tests hold")[2].partition("\n\n")[0]
    named = set(re.findall(r"tests/(?:unit|component)/test_\w+\.py", rules))
    assert len(named) > 5
    (tests,) = (line for line in plan("quick") if "pytest" in line)
    assert named <= set(tests.split())
    assert all((ROOT / name).exists() for name in tests.split() if name.startswith("tests/"))
