"""What a power cut could leave of an update of two payloads, judged without booting; recorded on this machine.

`make crash` looks at many more states.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from twinslot_lab.crash import explore
from twinslot_lab.crash.here import record_here
from twinslot_lab.crash.judge import Judge
from twinslot_lab.crash.log import ENTRY, Drive, DriveOp, Entry, Log
from twinslot_lab.crash.record import Recording
from twinslot_lab.crash.replay import Drives
from twinslot_lab.crash.states import CrashState, unflushed

pytestmark = [pytest.mark.root, pytest.mark.slow]

STATES = int(os.environ.get("TWINSLOT_CRASH_STATES", "1000"))
PAYLOADS = {"rootfs", "voices"}


@pytest.fixture(scope="module")
def recording() -> Recording:
    """An update and its commit, then one that is not well and its rollback."""
    return record_here()


def payload_of(recording: Recording, entry: Entry) -> str:
    """The partition that a write of the disk begins in, with its slot; empty: another one."""
    for slot in "ab":
        for payload, (start, size) in recording.files.board.disk.payloads(slot).items():
            if entry.drive is Drive.DISK and entry.op is not DriveOp.FLUSH and start <= entry.offset < start + size:
                return f"{payload}_{slot}"
    return ""


def test_the_whole_log_replayed_is_byte_for_byte_what_the_drives_held(recording: Recording) -> None:
    log = Log(recording.folder)
    drives = Drives(log, recording.disk, recording.card)
    drives.go_to(len(log.entries))
    whole = bytearray(drives.disk.flushed[:])
    for offset, data in drives.disk.whole(CrashState(len(log.entries), "kept")):
        whole[offset : offset + len(data)] = data
    assert whole == (recording.folder / "disk.img").read_bytes()
    assert drives.card.data == (recording.folder / "card.img").read_bytes()


@pytest.mark.parametrize("slot", ["a", "b"])
def test_writes_of_both_payloads_wait_for_one_flush(recording: Recording, slot: str) -> None:
    entries = Log(recording.folder).entries
    waiting = [{payload_of(recording, entry) for entry in pending} for _, pending in unflushed(entries)]
    assert any({f"{payload}_{slot}" for payload in PAYLOADS} <= at for at in waiting), (
        "one may be lost without the other"
    )


@pytest.mark.verifies("S5")
def test_no_state_that_a_cut_could_leave_is_bad(recording: Recording, tmp_path: Path) -> None:
    report = explore.explore(recording, STATES, seed=1, out=tmp_path / "report.json")
    assert report["bad"] == 0, json.dumps(report["found"], indent=2)
    assert report["states"] >= STATES
    assert {"kept", "all lost", "one lost", "some lost", "disk torn", "card torn"} < report["kinds"].keys()
    assert set(report["record"]) == {"opened"}, "SQLite and the file system keep what they promise"
    runs = set(report["runs"])
    for phase, release in {
        "2.0 install": "1.0 in slot a",
        "2.0 armed": "2.0 in slot b",
        "2.0 kept": "2.0 in slot b",
    }.items():
        assert {run for run in runs if run.startswith(phase)} == {f"{phase}: {release}"}
    for phase in ("3.0 install", "3.0 armed", "3.0 trial", "3.0 rollback"):
        assert {run for run in runs if run.startswith(phase)} == {f"{phase}: 2.0 in slot b"}


@pytest.mark.parametrize(
    ("lose", "held"),
    [
        (lambda entries: entries, "voices of 1.0"),  # what stood there before the update
        (lambda entries: entries[2:3], "voices of no release"),
    ],
    ids=["all", "one"],
)
def test_without_the_flushes_of_the_client_the_same_judge_finds_a_new_root_beside_another_payload(
    recording: Recording, tmp_path: Path, lose: Callable[[list[Entry]], list[Entry]], held: str
) -> None:
    entries = Log(recording.folder).entries
    kept = [entry for entry in entries if entry.drive is Drive.CARD or entry.op is not DriveOp.FLUSH]
    packed = [ENTRY.pack(e.drive, e.op, e.fua, e.offset, e.length, e.place, e.seconds) for e in kept]
    (tmp_path / "log").write_bytes(b"".join(packed))
    for name in ("data", "marks.json"):
        (tmp_path / name).symlink_to(recording.folder / name)
    bare = replace(recording, folder=tmp_path)
    point = next(at for at, what in recording.marks if what == "restart into 3.0")
    cut = sum(entry.number < point for entry in kept)
    written = [entry for entry in Log(tmp_path).entries[:cut] if payload_of(bare, entry) == "voices_a"]
    lost = frozenset(entry.number for entry in lose(written))
    with Judge(bare) as judge:
        verdict = judge.judge(CrashState(cut, "some lost", lost))
    assert verdict.bad == f"slot a would start and is not what was signed: rootfs of 3.0, {held}"
