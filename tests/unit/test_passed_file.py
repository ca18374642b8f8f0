"""The note that checks passed in this boot: of one boot, for root alone, and never in the way."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from twinslot.policy.passed import PassedFile


def test_it_counts_for_its_boot_alone_and_can_be_taken_back(tmp_path: Path) -> None:
    note = PassedFile(tmp_path)
    assert not note.noted("one")
    note.note("one", passed=True)
    assert PassedFile(tmp_path).noted("one")
    assert not note.noted("two")
    (path,) = tmp_path.iterdir()
    assert (path.stat().st_size, path.stat().st_mode & 0o077) == (0, 0)
    note.note("one", passed=False)
    note.note("one", passed=False)
    assert not note.noted("one")


def test_where_it_cannot_be_made_the_checks_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    note = PassedFile(tmp_path / "missing")
    with caplog.at_level(logging.WARNING):
        note.note("one", passed=True)
    assert not note.noted("one")
    assert "cannot be changed" in caplog.text
