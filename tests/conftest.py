"""What every test shares."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = ["twinslot_lab.plugin"]  # for those who name it, in this project as in others

# The machines are shared and slow at times; a test is wrong for what it finds, not for how long it takes.
# What `make test` says depends on the tree alone; `make explore` looks for new examples, which then become `@example`s.
settings.register_profile("twinslot", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=500, print_blob=True)
settings.load_profile("twinslot")

MEMORY = Path("/dev/shm")  # a file system in memory, on every Linux
ENOUGH = 6 << 30  # bytes: three times what all tests but the boards' leave behind
KEPT = 256 << 20  # bytes of failed tests' directories that a run may leave in memory
FAILED: list[Path] = []


def pytest_configure(config: pytest.Config) -> None:
    """Temporary files go to memory where there is room for them; drives of boards, which take gigabytes, do not.

    Tests flush as much as the client does, which is what they waited for. What a flush is worth is shown by the
    simulation's disk and on boards, never by the disk of the machine that runs the tests. `--basetemp` and
    PYTEST_DEBUG_TEMPROOT go before.
    """
    if config.option.markexpr.startswith("board"):
        return
    if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= ENOUGH:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
        os.environ.setdefault("TMPDIR", str(MEMORY))
        tempfile.tempdir = None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is collected stays for the whole run: nothing of it is searched for garbage meanwhile.

    A second of each worker's five. It is not frozen afterwards: Debian 13's hypothesis asks the collector who refers to
    its random numbers, gets no answer of what is frozen, and warns in the first property test of each process.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A report carries its test's own directory, from a worker, too."""
    outcome = yield
    folder = getattr(item, "funcargs", {}).get("tmp_path")
    if folder is not None:
        outcome.get_result().folder = str(folder)  # type: ignore[attr-defined]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember the directories of tests that failed, in the order in which they did."""
    if report.failed and hasattr(report, "folder"):
        FAILED.append(Path(report.folder))


def size(folder: Path) -> int:
    """Bytes that files below it take."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


def remove_all_but(kept: set[Path], path: Path) -> None:
    """Remove a directory around what is kept; never what is mounted there, as a test that failed may have left it."""
    if any(path in each.parents for each in kept):
        for inner in path.iterdir():
            remove_all_but(kept, inner)
    elif path not in kept and not path.is_mount():
        subprocess.run(["rm", "-rf", "--one-file-system", path], stderr=subprocess.DEVNULL)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A run leaves nothing in memory but the own directories of tests that failed, up to KEPT bytes.

    Not before the end, or a path would come twice, for two files.
    """
    if hasattr(session.config, "workerinput"):
        return
    used = session.config._tmp_path_factory._basetemp  # type: ignore[attr-defined]
    if used is None or MEMORY not in used.parents:
        return
    kept: set[Path] = set()
    left = KEPT
    for folder in filter(Path.is_dir, dict.fromkeys(FAILED)):
        if (needed := size(folder)) <= left:
            kept.add(folder)
            left -= needed
    remove_all_but(kept, used)
