"""When is it a brick, and what is told of it: verdicts, the table, and a campaign that was interrupted."""

from __future__ import annotations

import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import waits
from twinslot_lab import inputs
from twinslot_lab.__main__ import main as lab
from twinslot_lab.powercut import campaign, cli, verdict
from twinslot_lab.powercut.account import Account
from twinslot_lab.powercut.campaign import Campaign, CampaignSetup
from twinslot_lab.powercut.drive_state import DriveState
from twinslot_lab.powercut.plan import WARM
from twinslot_lab.powercut.recovery import Boot, Recovery
from twinslot_lab.powercut.verdict import SlotContents
from twinslot_lab.release import Image, LabRelease

GOOD_COPY = {"good": True, "flags": 1, "variables": {}}
TORN_COPY = {"good": False, "flags": 0, "variables": {}}


@pytest.fixture
def system(tmp_path: Path) -> SlotContents:
    for name in "ab":
        (tmp_path / name).write_bytes(name.encode())
    old, new = (Image(LabRelease(v, n), tmp_path, tmp_path / f) for v, n, f in (("1.0", 10, "a"), ("2.0", 20, "b")))
    return SlotContents(old, new)


def account(slot: str = "b", outcome: str | None = "committed", reason: str = "", **changes: Any) -> Account:
    """What a device in order tells."""
    names = {"a": "1.0", "b": "2.0"}
    states = {"a": "good", "b": "good" if slot == "b" else "bad"}
    status = {
        "running": slot,
        "state": "idle",
        "slots": {name: {"state": states[name], "release": {"name": names[name]}} for name in "ab"},
        "environment": {"settled": True},
    }
    history = [{"release": {"name": "2.0"}, "outcome": outcome, "reason": reason}]
    doctor = {"healthy": True, "findings": [{"text": "the audit chain holds", "severity": "fine"}]}
    return Account(status | changes, history, doctor, ((1, "x"), (2, "y")), ("one", "two"))


def judged(
    system: SlotContents,
    told: Account,
    *boots: Boot,
    says: str = "b",
    story: str = "good",
    copy: Any = None,
    b: str = "bad",
) -> str:
    drive_state = DriveState((GOOD_COPY, copy or GOOD_COPY), {"slot_b": b}, says)
    return "; ".join(verdict.problems(story, system, drive_state, Recovery(list(boots), told)))


def boot(system: SlotContents, slot: str, digest: str | None = None) -> Boot:
    return Boot(slot, system.of(slot).digest if digest is None else digest, 20.0)


def test_a_device_in_order_is_no_brick_also_with_one_copy_torn(system: SlotContents) -> None:
    assert judged(system, account(), boot(system, "b")) == ""
    assert judged(system, account(), boot(system, "b"), copy=TORN_COPY) == ""
    told = account("a", "abandoned", "interrupted")
    assert judged(system, told, boot(system, "a"), says="a") == ""
    sick = account("a", "rolled-back", "unhealthy")
    assert judged(system, sick, boot(system, "b", ""), boot(system, "a"), story="bad") == ""


def test_what_was_not_signed_is_a_brick(system: SlotContents) -> None:
    assert "nobody signed" in judged(system, account(), boot(system, "b", "0" * 64))


def test_another_slot_than_the_environment_says_is_a_brick(system: SlotContents) -> None:
    assert "the environment says 'a'" in judged(system, account(), boot(system, "b"), says="a")


def test_both_copies_lost_is_a_brick(system: SlotContents) -> None:
    drive_state = DriveState((TORN_COPY, TORN_COPY), {}, "a")
    assert verdict.problems("good", system, drive_state, Recovery()) == ["both copies of the environment are lost"]


def test_a_board_that_never_rests_is_a_brick_with_its_first_cause(system: SlotContents) -> None:
    drive_state = DriveState((GOOD_COPY, GOOD_COPY), {}, "a")
    found = verdict.problems("good", system, drive_state, Recovery([], None, "Kernel panic\nlong tail"))
    assert found == ["it does not come to rest: Kernel panic"]


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (account("a", "committed"), "ended 'committed'"),
        (account("a", "rolled-back", "unhealthy"), "because of 'unhealthy'"),
        (account("a", None), "the update is open in state 'idle'"),
        (account("a", "abandoned", "interrupted", running="b"), "the client says that slot 'b' runs"),
        (account("a", "abandoned", "interrupted", environment={"settled": False}), "not settled"),
    ],
)
def test_a_record_that_disagrees_is_a_brick(system: SlotContents, told: Account, says: str) -> None:
    assert says in judged(system, told, boot(system, "a"), says="a")


def test_a_sick_release_that_was_kept_is_a_brick(system: SlotContents) -> None:
    assert "was kept" in judged(system, account(), boot(system, "b"), story="bad")


def test_a_commit_that_had_landed_and_is_undone_is_a_brick(system: SlotContents) -> None:
    back = account("a", "rolled-back", "deadline")
    boots = boot(system, "b"), boot(system, "a")
    assert judged(system, back, *boots, b="trial") == "", "on trial the deadline may pass"
    assert judged(system, back, *boots, b="good") == "the commit had landed, and slot a runs"


@pytest.mark.parametrize("story", ["bad", "tries"])
def test_a_trial_that_the_record_does_not_tell_as_rolled_back_is_a_brick(system: SlotContents, story: str) -> None:
    for told in (account("a", "abandoned", "interrupted"), account("a", None, state="written")):
        assert "the trial's outcome is" in judged(system, told, boot(system, "a"), says="a", story=story)
    silent = replace(account("a"), history=[])
    assert "the trial's outcome is 'None'" in judged(system, silent, boot(system, "a"), says="a", story=story)


def test_an_account_that_makes_no_sense_is_a_brick_and_no_end_of_the_campaign(system: SlotContents) -> None:
    told = account(slots={})
    assert "the client's account makes no sense: KeyError" in judged(system, told, boot(system, "b"))


def test_rows_that_were_told_and_are_gone_are_counted() -> None:
    told = account()
    assert verdict.lost(((1, "x"), (2, "y")), told) == 0
    assert verdict.lost(((1, "x"), (2, "z"), (3, "w")), told) == 2
    assert verdict.lost(((1, "x"),), None) == 1


def line(number: int, **changes: Any) -> dict[str, Any]:
    told = {
        "number": number, "phase": "write", "second": 2.5, "second_cut": None, "outcome": "old, as before",
        "problems": [], "boot_seconds": [20.0], "audit_rows_lost": 0, "took": 40.0, "board": "b", "seed": 3,
    }  # fmt: skip
    return told | changes


def test_a_brick_tells_phase_seed_number_and_where_its_drives_are(capsys: pytest.CaptureFixture[str]) -> None:
    cli.tell(line(12, outcome="BRICK", problems=["nothing boots"], kept="/somewhere"))
    said = capsys.readouterr().out
    assert "phase 'write'" in said
    assert "--board b --seed 3 --only 12" in said
    assert "/somewhere" in said


def test_the_table_counts_by_phase_and_outcome() -> None:
    text = cli.table([line(0), line(1, second_cut=3.0), line(2, phase="arm", outcome="new committed")])
    rows = [row.split() for row in text.splitlines()]
    assert rows[1] == ["write", "0", "2", "1", "2"]
    assert rows[2] == ["arm", "1", "0", "0", "1"]
    assert text.splitlines()[-1] == "0 audit rows lost; 3 boots of 20.0 s; 40.0 s for a cut"


def test_a_campaign_goes_on_where_it_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []

    def one(setup: CampaignSetup, seed: int, number: int, folder: Path) -> dict[str, Any]:
        done.append(number)
        return line(number)

    monkeypatch.setattr(campaign, "HOME", tmp_path)
    monkeypatch.setattr(inputs, "gathered", lambda boards: {"boards": boards})  # what was fetched: not for this test
    monkeypatch.setattr(campaign, "one", one)
    setup = CampaignSetup("b", WARM, {}, {"client": "1"})
    Campaign(setup, 3, lambda _: None).run(range(3), 1)
    with (tmp_path / "b-3" / "cuts.jsonl").open("a") as file:
        file.write('{"number": 3, "pha')  # the machine went off here
    lines = Campaign(setup, 3, lambda _: None).run(range(5), 2)
    assert sorted(done) == [0, 1, 2, 3, 4], "each once"
    assert len((tmp_path / "b-3" / "cuts.jsonl").read_text().splitlines()) == 5, "the half line is gone"
    assert [found["number"] for found in lines] == [0, 1, 2, 3, 4]
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["bricks"], len(report["cuts"])) == (0, 5)

    (tmp_path / "report.json").unlink()
    Campaign(setup, 3, lambda _: None).run(range(5), 2)
    assert json.loads((tmp_path / "report.json").read_text()) == report, "also when nothing is left to do"

    Campaign(replace(setup, made_of={"client": "2"}), 3, lambda _: None).run(range(0), 1)
    assert json.loads((tmp_path / "report.json").read_text())["cuts"] == [], "nothing told of another client"
    Campaign(replace(setup, made_of={"client": "2"}), 3, lambda _: None).run(range(1), 1)
    assert done[5:] == [0], "another client: nothing of the old campaign counts"


def main_thread_sleeps() -> bool:
    return Path(f"/proc/self/task/{os.getpid()}/stat").read_text().rpartition(")")[2].split()[0] == "S"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("problems", "counted"), [([], [0]), (["QEMU ended: terminating on signal 2"], [])])
def test_a_campaign_that_is_told_to_stop_counts_what_ends_well_and_calls_no_ended_emulator_a_brick(
    number: signal.Signals,
    problems: list[str],
    counted: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stopping, pause = threading.Event(), threading.Event()

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            stopping.set()
            super().shutdown(wait)

    def one(setup: CampaignSetup, seed: int, number_of_cut: int, folder: Path) -> dict[str, Any]:
        waits.until(
            lambda: main_thread_sleeps() and pause.wait(0.05) is False and main_thread_sleeps()
        )  # it waits for this cut
        os.kill(os.getpid(), number)
        assert stopping.wait(waits.HANG)
        return line(number_of_cut, problems=problems)

    monkeypatch.setattr(campaign, "ThreadPoolExecutor", Pool)

    monkeypatch.setattr(campaign, "HOME", tmp_path)
    monkeypatch.setattr(inputs, "gathered", lambda boards: {})
    monkeypatch.setattr(campaign, "one", one)
    monkeypatch.setattr(cli, "prepare", lambda board: CampaignSetup(board, WARM, {}, {}))
    before = [signal.signal(each, signal.SIG_IGN) for each in (signal.SIGINT, signal.SIGTERM)]
    try:
        assert lab(["powercut", "--cuts", "9", "--jobs", "1", "--seed", "3"]) == 130
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        for each, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(each, handler)
    done = (tmp_path / "virt-arm64-3/cuts.jsonl").read_text().splitlines()
    assert [json.loads(said)["number"] for said in done] == counted
    assert "the same command goes on" in capsys.readouterr().out
