"""What a run of the tests leaves in memory: the directories of tests that failed, and not more than fits."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("serial", reason="the lab, whose plugin tests/conftest.py names, is not installed here")

CONFTEST = Path(__file__).parents[1] / "conftest.py"
MEMORY = Path("/dev/shm")
TESTS = """
import pytest

@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    (folder / "image").write_bytes(bytes(1000))

def test_good(tmp_path, shared):
    (tmp_path / "file").write_text("good")

def test_bad(tmp_path, shared):
    (tmp_path / "file").write_text("bad")
    assert GOOD

def test_large(tmp_path):
    (tmp_path / "file").write_bytes(bytes(257 << 20))
    assert GOOD
"""


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory in memory, for a run of its own."""
    if not os.access(MEMORY, os.W_OK) or shutil.disk_usage(MEMORY).free < 1 << 30:
        pytest.skip("there is no room in memory")
    folder = Path(tempfile.mkdtemp(dir=MEMORY))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize(("good", "left"), [(True, set()), (False, {"bad"})])
def test_a_run_leaves_the_directories_of_tests_that_failed_and_no_other(
    tmp_path: Path, memory: Path, workers: str, good: bool, left: set[str]
) -> None:
    shutil.copy(CONFTEST, tmp_path)
    (tmp_path / "test_it.py").write_text(TESTS.replace("GOOD", str(good)))
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    env |= {"PYTEST_DEBUG_TEMPROOT": str(memory), "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", workers, "--rootdir", str(tmp_path)]
    ran = subprocess.run([*argv, str(tmp_path)], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert ran.returncode == (0 if good else 1), ran.stdout + ran.stderr
    assert ("3 passed" if good else "2 failed, 1 passed") in ran.stdout
    files = [path for path in memory.rglob("*") if path.is_file() and path.name != ".lock"]
    assert {path.read_text() for path in files} == left
