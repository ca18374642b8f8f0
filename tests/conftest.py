"""What every test shares."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = ["twinslot_lab.plugin"]  # for those who name it, in this project as in others

# The machines are shared and slow at times; a test is wrong for what it finds, not for how long it takes.
settings.register_profile("twinslot", deadline=None)
settings.load_profile("twinslot")

MEMORY = Path("/dev/shm")  # a file system in memory, on every Linux
ENOUGH = 6 << 30  # bytes: three times what all tests but the boards' leave behind


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


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """What went well leaves nothing in memory; not before the end, or a path would come twice, for two files."""
    if exitstatus == 0 and not hasattr(session.config, "workerinput"):
        used = session.config._tmp_path_factory._basetemp  # type: ignore[attr-defined]
        if used is not None and MEMORY in used.parents:
            shutil.rmtree(used, ignore_errors=True)
