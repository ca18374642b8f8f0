"""Boards that go on from a frozen moment: they answer at once, know the time, and lose their power like any other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from twinslot_lab import snapshot
from twinslot_lab.build import BoardFiles
from twinslot_lab.snapshot import Snapshot

pytestmark = pytest.mark.board


@pytest.fixture
def place(artifacts: Path) -> Iterator[Path]:
    """A directory for boards; disks are large, so none stays."""
    yield artifacts
    for disk in artifacts.rglob("disk.img"):
        disk.unlink()


@pytest.fixture(scope="module")
def frozen(board_files: BoardFiles) -> Snapshot:
    return snapshot.booted(board_files)


def test_a_thawed_board_answers_in_the_same_start_and_knows_the_time(frozen: Snapshot, place: Path) -> None:
    with frozen.start(place / "one") as board:
        assert board.slot() == "a"
        before = time.time()
        told = float(board.check("date", "+%s"))
        assert before - 60 < told < time.time() + 2, "set when it went on; a busy machine takes a while to do it"
        assert board.check("cat", "/proc/sys/kernel/random/boot_id").strip() == frozen.hello.boot  # type: ignore[union-attr]
        board.check("fw_setenv", "ts_reason", "operator")
        assert board.card.variables()["ts_reason"] == "operator", "the card answers, too"
        board.put("/var/lib/x", bytes(600_000))
        assert board.get("/var/lib/x") == bytes(600_000)


def test_two_boards_from_one_moment_do_not_see_each_other_and_survive_a_cut(frozen: Snapshot, place: Path) -> None:
    with frozen.start(place / "one") as one, frozen.start(place / "two") as two:
        one.check("sh", "-c", "echo one > /var/lib/who; sync")
        assert two.run("cat", "/var/lib/who").exit != 0
        two.cut()
        one.cut()
        one.power_on()
        hello = one.wait_up()
        assert frozen.hello is not None
        assert hello.boot != frozen.hello.boot, "a cold start, not the frozen one again"
        assert one.check("cat", "/var/lib/who") == "one\n"


def test_a_board_goes_on_after_it_was_frozen_again(frozen: Snapshot, place: Path) -> None:
    with frozen.start(place / "one") as board:
        board.check("touch", "/run/before")
        later = Snapshot.take(board, place / "later")
        board.check("touch", "/run/after")
    with Snapshot.load(later.board, later.folder).start(place / "two") as again:
        assert again.run("ls", "/run/before").exit == 0
        assert again.run("ls", "/run/after").exit != 0
