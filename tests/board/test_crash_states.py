"""Every state that a power cut could leave during a real update: recorded once, then judged without booting.

`make crash` does the same with the whole story and many more states.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from twinslot_lab.crash import explore
from twinslot_lab.crash.judge import Judge
from twinslot_lab.crash.log import ENTRY, Drive, DriveOp, Log
from twinslot_lab.crash.record import SHORT, Recording, record
from twinslot_lab.crash.replay import Drives
from twinslot_lab.crash.states import CrashState
from twinslot_lab.progress import say

pytestmark = pytest.mark.board

STATES = int(os.environ.get("TWINSLOT_CRASH_STATES", "1500"))
PIECE = 1 << 20


@pytest.fixture(scope="module")
def recording() -> Recording:
    """Install, restart, trial, commit; from the cache, or some two minutes."""
    return record(SHORT)


def test_the_whole_log_replayed_is_byte_for_byte_what_the_drives_held(recording: Recording) -> None:
    log = Log(recording.folder)
    drives = Drives(log, recording.disk, recording.card)
    drives.go_to(len(log.entries))
    state = CrashState(len(log.entries), "kept")
    for offset, data in drives.disk.whole(state):
        drives.disk.flushed[offset : offset + len(data)] = data
    with (recording.folder / "disk.img").open("rb") as held:
        for at in range(0, len(drives.disk.flushed), PIECE):
            assert drives.disk.flushed[at : at + PIECE] == held.read(PIECE), f"differs after {at:#x}"
    assert drives.card.data == (recording.folder / "card.img").read_bytes()


def test_the_guest_flushes_its_disk_and_never_its_card(recording: Recording) -> None:
    entries = Log(recording.folder).entries
    assert sum(e.drive is Drive.DISK and e.op is DriveOp.FLUSH for e in entries) > 20
    assert not [e for e in entries if e.drive is Drive.CARD and e.op is DriveOp.FLUSH]
    assert {e.length for e in entries if e.drive is Drive.CARD} == {512}


def test_no_state_that_a_cut_could_leave_is_bad(recording: Recording) -> None:
    report = explore.explore(recording, STATES, seed=1)
    say(explore.table(report))
    assert report["bad"] == 0, json.dumps(report["found"], indent=2)
    assert report["states"] >= min(STATES, 1400)
    assert {"environment lost", "2.0 install", "2.0 armed", "2.0 trial", "2.0 kept"} <= report["phases"].keys()
    assert set(report["record"]) == {"opened"}, "SQLite and the file system keep what they promise"
    lost = "both copies of the boot environment are lost"
    assert set(report["notes"]) == {lost}, "nor has the client to note that record and environment disagree"
    runs = set(report["runs"])
    assert "2.0 install: 1.0 in slot a" in runs, "the old system until the update is armed"
    assert "2.0 armed: 2.0 in slot b" in runs, "an armed update that is well is kept"
    assert "2.0 kept: 2.0 in slot b" in runs
    assert "2.0 kept: 1.0 in slot a" not in runs, "no cut undoes a commit"


def test_without_the_flushes_of_the_client_the_same_judge_finds_a_brick(recording: Recording, tmp_path: Path) -> None:
    start, size = recording.files.board.disk.partitions()["slot_b"]
    kept = [e for e in Log(recording.folder).entries if e.drive is Drive.CARD or e.op is not DriveOp.FLUSH]
    packed = [ENTRY.pack(e.drive, e.op, e.fua, e.offset, e.length, e.place, e.seconds) for e in kept]
    (tmp_path / "log").write_bytes(b"".join(packed))
    for name in ("data", "marks.json"):
        (tmp_path / name).symlink_to(recording.folder / name)
    group = next(
        n for n, e in enumerate(kept) if e.op is DriveOp.WRITE and start + (16 << 20) < e.offset < start + size
    )
    with Judge(replace(recording, folder=tmp_path)) as judge:
        verdict = judge.judge(CrashState(len(kept), "one lost", frozenset({group})))
    assert verdict.bad == "slot b would start and is not what was signed"
