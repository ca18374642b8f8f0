"""The product is told that the running system is on trial, and when it is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from twinslot.core.lifecycle import State
from twinslot.core.model import Release, SlotName
from twinslot.core.transaction import Transaction
from twinslot.policy.trial import TrialFile

UPDATE = Transaction("ab" * 16, State.TRIAL, SlotName.B, Release("2026.11", 20))


@pytest.mark.verifies("S20")
def test_a_file_says_which_release_is_on_trial_and_the_commit_starts_what_waits_for_it(tmp_path: Path) -> None:
    started: list[str] = []
    path = tmp_path / "trial"
    told = TrialFile(path, started.append)
    told.begins(UPDATE)
    assert json.loads(path.read_text()) == {"release": "2026.11", "sequence": 20, "transaction": "ab" * 16}
    assert path.stat().st_mode & 0o777 == 0o644
    told.committed()
    assert (path.exists(), started) == (False, ["twinslot-committed.target"])
    told.is_none()


def test_a_place_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    told = TrialFile(tmp_path / "none/trial", lambda _: None)
    told.begins(UPDATE)
    assert "cannot be changed" in caplog.text
