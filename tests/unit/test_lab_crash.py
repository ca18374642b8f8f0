"""Crash states: a log replayed piece by piece is what naive replaying makes of it; the plan asks for what may be."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinslot_lab.crash import explore
from twinslot_lab.crash.judge import CrashVerdict
from twinslot_lab.crash.life import FinalState
from twinslot_lab.crash.log import ENTRY, Drive, DriveOp, Entry, Log
from twinslot_lab.crash.record import Recording
from twinslot_lab.crash.replay import Drives
from twinslot_lab.crash.states import BLIND, SECTOR, CrashState, plan, unflushed
from twinslot_lab.errors import LabError

DISK_SIZE, CARD_SIZE = 32 * SECTOR, 8 * SECTOR
PART, UNIT = 4 * SECTOR, 8 * SECTOR  # the region begins behind the first sectors, as a partition does


@dataclass(frozen=True)
class Request:
    """What a guest asks."""

    drive: Drive
    op: DriveOp
    sector: int = 0
    sectors: int = 0
    fill: int = 0
    fua: bool = False

    @property
    def data(self) -> bytes:
        return b"".join(bytes([self.fill, n]) * (SECTOR // 2) for n in range(self.sectors))


def requests(drive: Drive, size: int) -> st.SearchStrategy[Request]:
    limit = size // SECTOR
    flush = st.just(Request(drive, DriveOp.FLUSH))
    change = st.builds(
        lambda op, sector, sectors, fill, fua: Request(drive, op, sector, min(sectors, limit - sector), fill, fua),
        st.sampled_from([DriveOp.WRITE, DriveOp.WRITE, DriveOp.ZERO, DriveOp.TRIM]),
        st.integers(0, limit - 1),
        st.integers(1, 12),
        st.integers(1, 255),
        st.booleans() if drive is Drive.DISK else st.just(False),
    )
    return flush | change | change


STORIES = st.lists(requests(Drive.DISK, DISK_SIZE) | requests(Drive.CARD, CARD_SIZE), max_size=30)


def write_log(folder: Path, story: Sequence[Request]) -> Log:
    """As nbd_plugin.py leaves it, over drives full of ones."""
    log, data = b"", b""
    for request in story:
        length = request.sectors * SECTOR
        log += ENTRY.pack(request.drive, request.op, int(request.fua), request.sector * SECTOR, length, len(data), 0.0)
        data += request.data if request.op is DriveOp.WRITE else b""
    (folder / "log").write_bytes(log)
    (folder / "data").write_bytes(data)
    (folder / "disk").write_bytes(b"\1" * DISK_SIZE)
    (folder / "card").write_bytes(b"\1" * CARD_SIZE)
    return Log(folder)


def naive(story: Sequence[Request], drive: Drive, state: CrashState) -> bytes:
    """Everything before the point, one after the other, as far as it arrived."""
    drives = {Drive.DISK: bytearray(b"\1" * DISK_SIZE), Drive.CARD: bytearray(b"\1" * CARD_SIZE)}
    for number, request in enumerate(story[: state.point]):
        if number in state.lost or request.op is DriveOp.FLUSH:
            continue
        new = request.data if request.op is DriveOp.WRITE else bytes(request.sectors * SECTOR)
        new = new[: state.kept] if number == state.torn else new
        at = request.sector * SECTOR
        drives[request.drive][at : at + len(new)] = new
    return bytes(drives[drive])


@given(STORIES, st.integers(0, 5))
def test_every_planned_state_is_what_naive_replaying_leaves(story: list[Request], seed: int) -> None:
    with TemporaryDirectory() as folder:
        log = write_log(Path(folder), story)
        drives = Drives(log, Path(folder) / "disk", Path(folder) / "card")
        region = drives.disk.region(PART, 3 * UNIT, UNIT)
        for state in plan(log.entries, 150, seed):
            drives.go_to(state.point)
            wanted = naive(story, Drive.DISK, state)
            units = [wanted[PART + n * UNIT : PART + (n + 1) * UNIT] for n in range(region.count)]
            assert [region.content(n, state) for n in range(region.count)] == units
            assert [region.digest(n, state) for n in range(region.count)] == [
                hashlib.sha256(unit).digest() for unit in units
            ]
            whole = bytearray(drives.disk.flushed[:])
            for offset, data in drives.disk.whole(state):
                whole[offset : offset + len(data)] = data
            assert bytes(whole) == wanted
            assert drives.card.read(0, CARD_SIZE, state) == naive(story, Drive.CARD, state)


@given(STORIES)
def test_only_what_is_not_flushed_can_be_lost_and_only_one_write_is_torn(story: list[Request]) -> None:
    with TemporaryDirectory() as folder:
        entries = write_log(Path(folder), story).entries
    pending = {point: {entry.number for entry in lossy} for point, lossy in unflushed(entries)}
    for state in plan(entries, 400):
        assert state.lost <= pending[state.point]
        assert not any(entries[number].fua for number in state.lost)
        if state.torn >= 0:
            torn = entries[state.torn]
            assert torn.op is DriveOp.WRITE
            assert state.torn == state.point - 1 if torn.drive is Drive.CARD else state.torn in pending[state.point]
            assert 0 < state.kept < torn.length
            assert state.kept % SECTOR == 0


@given(STORIES)
def test_a_write_that_is_lost_is_one_since_the_last_flush_of_the_disk(story: list[Request]) -> None:
    with TemporaryDirectory() as folder:
        entries = write_log(Path(folder), story).entries
    for point, lossy in unflushed(entries):
        flushes = [e.number for e in entries[:point] if e.drive is Drive.DISK and e.op is DriveOp.FLUSH]
        since = flushes[-1] if flushes else -1
        disk = [e.number for e in entries[since + 1 : point] if e.drive is Drive.DISK and not e.fua]
        assert [entry.number for entry in lossy] == disk


@given(STORIES, st.integers(0, 3))
def test_the_same_seed_draws_the_same_states_each_once(story: list[Request], seed: int) -> None:
    with TemporaryDirectory() as folder:
        entries = write_log(Path(folder), story).entries
    states = plan(entries, 200, seed)
    assert states == plan(entries, 200, seed)
    assert [state.point for state in states] == sorted(state.point for state in states)
    drawn = [state for state in states if state.kind not in ("kept", "all lost", "card torn", BLIND)]
    assert len(drawn) == len({(state.point, state.lost, state.torn, state.kept) for state in drawn})
    assert {state.point for state in states} == set(range(len(entries) + 1)), "every point of the log"


def test_a_torn_card_write_is_asked_for_at_each_sector(tmp_path: Path) -> None:
    log = write_log(tmp_path, [Request(Drive.CARD, DriveOp.WRITE, 0, 4, 9)])
    torn = [state.kept for state in plan(log.entries, 100) if state.kind == "card torn"]
    assert torn == [512, 1024, 1536]


def test_points_near_the_card_are_kept_when_few_states_are_asked_for(tmp_path: Path) -> None:
    far = [Request(Drive.DISK, DriveOp.WRITE, 0, 1, 3)] * 500
    log = write_log(tmp_path, [*far, Request(Drive.CARD, DriveOp.WRITE, 0, 1, 9), *far])
    states = plan(log.entries, 60)
    assert len(states) == 60 + 60 // 8
    near = [state for state in states if abs(state.point - 500) < 12]
    assert 20 <= len(near) <= 40


def test_few_states_still_lose_single_writes_and_some_and_tear_one(tmp_path: Path) -> None:
    writes = [Request(Drive.DISK, DriveOp.WRITE, n, 4, 3) for n in range(8)]
    log = write_log(tmp_path, [*writes, Request(Drive.DISK, DriveOp.FLUSH)] * 40)
    kinds = Counter(state.kind for state in plan(log.entries, 300))
    assert len(log.entries) > 300, "fewer than there are points"
    assert kinds["one lost"] + kinds["some lost"] + kinds["disk torn"] == 100
    assert min(kinds[kind] for kind in ("one lost", "some lost", "disk torn", "kept", "all lost")) > 10


def test_a_bad_state_is_judged_again_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = CrashState(7, BLIND, frozenset({3, 5}), 6, 512, blind=True)
    told = explore._told(CrashVerdict(state, "install", "slot a would start", "clean", FinalState(""), b""))
    again: list[CrashState] = []
    monkeypatch.setattr(explore, "Judge", lambda _: nullcontext(SimpleNamespace(judge=again.append)))
    explore.one(cast("Recording", None), json.loads(json.dumps(told)))
    assert again == [state]


def test_a_write_over_a_superblock_is_torn_at_each_sector_with_the_environment_lost(tmp_path: Path) -> None:
    log = write_log(
        tmp_path, [Request(Drive.DISK, DriveOp.WRITE, 8, 4, 9), Request(Drive.DISK, DriveOp.WRITE, 16, 4, 9)]
    )
    over = [state for state in plan(log.entries, 0, marks=(10 * SECTOR,)) if state.blind]
    assert [(state.point, state.torn, state.kept) for state in over] == [(1, 0, 512), (1, 0, 1024), (1, 0, 1536)]


def test_a_log_that_ends_within_an_entry_is_refused(tmp_path: Path) -> None:
    write_log(tmp_path, [Request(Drive.CARD, DriveOp.FLUSH)])
    (tmp_path / "log").write_bytes((tmp_path / "log").read_bytes()[:-1])
    with pytest.raises(LabError, match="ends within an entry"):
        Log(tmp_path)


def test_a_recording_that_is_not_there_is_told_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no log in"):
        Log(tmp_path / "nowhere")


def test_an_entry_of_the_plugin_is_read_with_all_its_fields(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(ENTRY.pack(0, 1, 1, 4096, 3, 0, 1.5))
    (tmp_path / "data").write_bytes(b"abc")
    log = Log(tmp_path)
    assert log.entries == (Entry(0, Drive.DISK, DriveOp.WRITE, True, 4096, 3, 0, 1.5),)
    assert log.content(log.entries[0]) == b"abc"
