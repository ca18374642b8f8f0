"""Cuts and what follows them, on a board that only talks: the next install, bricks that are kept, boards that hang."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from twinslot.bootloader.base import Place
from twinslot_image.factory.environment import RawEnvironment
from twinslot_lab.agent import CommandResult, Hello
from twinslot_lab.deadline import Deadline
from twinslot_lab.description import BoardDescription
from twinslot_lab.errors import BoardError, GuestError
from twinslot_lab.powercut import campaign, cut, recovery
from twinslot_lab.powercut.campaign import CampaignSetup
from twinslot_lab.powercut.cut import Report
from twinslot_lab.powercut.plan import WARM, draw
from twinslot_lab.powercut.recovery import Boot, Recovery
from twinslot_lab.powercut.starting_point import StartingPoint
from twinslot_lab.powercut.verdict import SlotContents
from twinslot_lab.qemu_board import QemuBoard
from twinslot_lab.release import Image, LabRelease
from twinslot_lab.snapshot import Snapshot


@dataclass
class TalkingBoard:
    """Starts as often as there are starts to come, and answers as a device at rest.

    Attributes:
        starts: Slots, one for each start to come; each is told once.
        digests: What runs in each slot.
        history: Of the client.
        state: What it says of itself.
        hasty: The same while it comes to rest, if that is not the same.
        leaves: Slots that it leaves by itself while its digest is taken.
    """

    starts: deque[str]
    digests: dict[str, str]
    history: list[dict[str, Any]]
    state: str = '{"state": "idle"}'
    hasty: str = ""
    leaves: str = ""
    timeout_factor: int = 1
    hello: Hello | None = None
    card: Any = field(default_factory=lambda: SimpleNamespace(variables=lambda: {"upgrade_available": "0"}))

    @property
    def agent(self) -> TalkingBoard:
        return self

    def power_on(self) -> None:
        """On."""

    def reboot(self) -> None:
        """It starts."""

    def wait_hello(self, deadline: Deadline) -> Hello:
        if not self.starts:
            raise deadline.failure()
        self.hello = Hello(str(len(self.starts)), self.starts.popleft())
        return self.hello

    def run(self, *argv: str, timeout: float = 60, text: str = "") -> CommandResult:
        words = " ".join(argv)
        if "findmnt" in words:
            return CommandResult(0, "/dev/vda2\n" if "SOURCE" in words else "ext4\n", "")
        if "sha256sum" in words:
            assert self.hello is not None
            if self.hello.slot in self.leaves:
                self.wait_hello(Deadline(1, "the next start"))
                raise BoardError("the guest started anew")
            return CommandResult(0, f"{self.digests[self.hello.slot]}  -\n", "")
        if "doctor" in words:
            told = [json.loads(self.state), {"transactions": self.history}, {"healthy": True, "findings": []}]
            return CommandResult(0, "".join(json.dumps(line) + "\n" for line in told), "")
        return CommandResult(0, "[]" if argv[0] == "python3" else self.hasty or self.state, "")

    def check(self, *argv: str, timeout: float = 60, text: str = "") -> str:
        return self.run(*argv).stdout

    def get(self, path: str, offset: int = 0) -> bytes:
        return b'{"type": "result", "transaction": {}}\n'[offset:]


@pytest.fixture
def system(tmp_path: Path) -> SlotContents:
    for name in "ab":
        (tmp_path / name).write_bytes(name.encode())
    old, new = (Image(LabRelease(v, n), tmp_path, tmp_path / f) for v, n, f in (("1.0", 10, "a"), ("2.0", 20, "b")))
    return SlotContents(old, new)


def next_install(system: SlotContents, outcome: str, *starts: str, runs: str = "") -> tuple[list[str], str]:
    """After a cut from which slot a came back; what is wrong with the next install, and how it is told."""
    digests = {"a": system.a.digest, "b": runs or system.b.digest}
    board = TalkingBoard(deque(starts), digests, [{"outcome": outcome}])
    report = Report(draw(1, 0), recovery=Recovery([Boot("a", system.a.digest, 1.0)]))
    return cut._again(cast("QemuBoard", board), system, report), report.again


def test_the_next_install_is_seen_to_its_commit_in_the_one_start_that_it_takes(system: SlotContents) -> None:
    assert next_install(system, "committed", "b") == ([], "b: committed")


@pytest.mark.parametrize(
    ("outcome", "starts", "runs", "said"),
    [
        ("committed", "", "", "the next install fails: waited"),
        ("committed", "a", "", "into slot b ended in slot a"),
        ("rolled-back", "b", "", "into slot b ended in slot b: rolled-back"),
        ("committed", "b", "0" * 64, "something runs that nobody signed"),
    ],
)
def test_a_next_install_that_does_not_end_in_its_slot_is_a_brick(
    system: SlotContents, outcome: str, starts: str, runs: str, said: str
) -> None:
    found, _ = next_install(system, outcome, *starts, runs=runs)
    assert len(found) == 1
    assert said in found[0]


def test_a_device_that_leaves_a_slot_while_its_digest_is_taken_is_measured_where_it_rests(system: SlotContents) -> None:
    board = TalkingBoard(deque("ba"), {"a": "whole"}, [], leaves="b")
    found = recovery.recover(cast("QemuBoard", board), system.sizes)
    assert [(boot.slot, boot.digest) for boot in found.boots] == [("b", ""), ("a", "whole")]
    assert found.account is not None


def test_a_status_from_the_middle_of_a_commit_is_not_what_counts(system: SlotContents) -> None:
    half = json.dumps({"state": "idle", "environment": {"settled": False}})
    whole = json.dumps({"state": "idle", "environment": {"settled": True}})
    board = TalkingBoard(deque("b"), {"b": "x"}, [], state=whole, hasty=half)
    found = recovery.recover(cast("QemuBoard", board), system.sizes)
    assert found.account is not None
    assert found.account.status["environment"]["settled"]


def test_a_device_whose_answers_make_no_sense_does_not_come_to_rest(system: SlotContents) -> None:
    board = TalkingBoard(deque("b"), {"b": "x"}, [], state="not JSON")
    found = recovery.recover(cast("QemuBoard", board), system.sizes)
    assert "its answers make no sense" in found.failure
    nowhere = TalkingBoard(deque([""]), {}, [])
    assert "its answers make no sense" in recovery.recover(cast("QemuBoard", nowhere), system.sizes).failure


def test_an_aimed_cut_waits_for_the_environment_and_for_nothing_else_on_its_card(tmp_path: Path) -> None:
    path = tmp_path / "card"
    path.write_bytes(bytes(8192))
    card = RawEnvironment(path, (Place("card", 0, 2048), Place("card", 2048, 2048)))
    card.write_both({"slot": "a"})
    board = cast("QemuBoard", SimpleNamespace(card=card))
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"what else is on the card")
    assert not cut._await_card(board, 0.05)
    original, asked = card.copies, []

    def copies() -> Any:
        asked.append(1)
        if len(asked) == 3:
            card.write_copy(1, b"torn")
        return original()

    board.card.copies = copies  # type: ignore[method-assign]
    assert cut._await_card(board, 600)
    assert len(asked) == 3, "it ends with the write, not with its seconds"


def test_a_board_that_hangs_before_its_cut_is_not_left_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuts: list[int] = []

    def hangs() -> None:
        raise BoardError("Kernel panic")

    board = SimpleNamespace(wait_up=hangs, cut=lambda: cuts.append(1))
    monkeypatch.setattr(Snapshot, "load", lambda *_: SimpleNamespace(start=lambda _: board))
    starting_point = StartingPoint("cold-install", "cold", "install", warm=False, seconds=1.0, rows=())
    with pytest.raises(BoardError, match="Kernel panic"):
        starting_point.start(cast("BoardDescription", None), tmp_path / "new", tmp_path)
    assert cuts == [1]


def test_of_many_bricks_the_newest_keep_their_drives_and_all_keep_their_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: SlotContents
) -> None:
    monkeypatch.setattr(campaign, "BRICKS", tmp_path / "bricks")

    def perform(_: object, found: Any, folder: Path) -> Report:
        folder.mkdir()
        (folder / "disk.img").write_bytes(b"x")
        return Report(found, problems=["nothing boots"])

    monkeypatch.setattr(CampaignSetup, "perform", perform)
    monkeypatch.setattr(CampaignSetup, "system", lambda *_: system)
    lines = [
        campaign.one(CampaignSetup("b", WARM, {}, {}), 3, number, tmp_path / f"cut-{number}") for number in range(13)
    ]
    kept = [Path(line["kept"]) for line in lines]
    assert all(json.loads((folder / "cut.json").read_text())["kept"] == str(folder) for folder in kept)
    assert [(folder / "disk.img").exists() for folder in kept] == [False] * 3 + [True] * 10


def test_a_lab_that_fails_before_a_cut_is_tried_once_more_and_then_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []

    def perform(*_: object) -> Report:
        tries.append(1)
        raise GuestError("no answer")

    monkeypatch.setattr(CampaignSetup, "perform", perform)
    with pytest.raises(GuestError):
        campaign.one(CampaignSetup("b", WARM, {}, {}), 3, 0, tmp_path / "cut-0")
    assert len(tries) == 2
