"""The shell deadline and the client read the same environment alike: one table of odd and hostile values for both."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from deadline_bench import ARMED, BEFORE, Bench

import waits
from fakes.rigs import HOOK, SIZE
from twinslot.bootloader.hook import Hook
from twinslot.bootloader.uboot import rawenv
from twinslot.core.boot_variables import BootState, read_state
from twinslot.core.model import SlotName, SlotState
from twinslot.core.slotset import SlotSet

TRIAL = BEFORE | ARMED
LEFT = TRIAL | {"slot": "a", "slot_b": "bad"}
LOOKS_COMMITTED = "run this\nslot_b=good\nupgrade_available=0\nslot=b\nrun that"
BYTE = b"\xff".decode("utf-8", "surrogateescape")

# What stands beside or instead of a plain trial; a value of None takes the variable away.
CASES: dict[str, dict[str, str | None]] = {
    "as-it-should-be": {},
    "a-foreign-value-of-several-lines": {"zz_script": LOOKS_COMMITTED},
    "several-lines-before-ours": {"aa_script": LOOKS_COMMITTED},
    "a-name-that-begins-like-ours": {"slot_b2": "good", "xslot_b": "good", "upgrade_available_": "0"},
    "our-state-in-two-lines": {"slot_b": "trial\nslot_b=trial"},
    "our-state-with-a-newline-at-its-end": {"slot_b": "trial\n"},
    "our-state-with-a-return-at-its-end": {"slot_b": "trial\r"},
    "our-state-with-blanks": {"slot_b": " trial"},
    "our-state-in-capitals": {"slot_b": "TRIAL"},
    "our-state-of-another-kind": {"slot_b": "trial*"},
    "our-state-is-a-pattern": {"slot_b": "*"},
    "our-state-is-missing": {"slot_b": None},
    "counting-with-a-newline": {"upgrade_available": "1\n"},
    "counting-in-another-way": {"upgrade_available": "01"},
    "counting-is-missing": {"upgrade_available": None},
    "the-other-state-is-missing": {"slot_a": None},
    "the-other-state-in-two-lines": {"slot_a": "good\nbad"},
    "a-generation-of-two-lines": {"ts_generation": "7\n9"},
    "a-generation-with-a-newline-at-its-end": {"ts_generation": "7\n"},
    "a-release-of-two-lines": {"ts_release": "42\nslot_b=good"},
    "a-release-with-a-sign": {"ts_release": "+42"},
    "a-release-in-other-digits": {"ts_release": "٤٢"},
    "a-release-with-blanks": {"ts_release": " 42"},
    "a-command-as-a-value": {"ts_release": "$(reboot)", "ts_txn": "`reboot`; reboot"},
    "quotes-and-backslashes": {"zz": "'\"\\'\\\nslot_b=good\\", "ts_txn": "\\"},
    "a-very-long-value": {"zz": "slot_b=good " * 500},
    "bytes-that-are-no-text": {"zz": BYTE + "\nslot_b=good" + BYTE, "ts_txn": "ü" + BYTE},
    "blank-values": {"ts_release": None, "ts_generation": None, "ts_txn": None},
    "the-slot-is-missing": {"slot": None},
    "back-is-the-other-slot": {"ts_back": "a"},
    "back-is-the-slot-itself": {"ts_back": "b"},
    "back-is-no-slot": {"ts_back": "c", "slot_c": "good", "slot_a": "bad"},
    "back-is-a-pattern": {"ts_back": "*"},
    "back-in-two-lines": {"ts_back": "a\nb"},
    "back-is-blank": {"ts_back": " "},
    "the-slot-in-two-lines": {"slot": "b\nx"},
    "a-slot-with-a-blank-in-its-name": {"slot_x a": "good", "slot_a": "bad"},
    "committed": {"slot_b": "good", "upgrade_available": "0", "zz": "x\nslot_b=trial\nupgrade_available=1"},
}
LEFT_CASES: dict[str, dict[str, str | None]] = {
    "left": {},
    "left-and-the-slot-is-missing": {"slot": None},
    "left-and-the-slot-is-no-slot": {"slot": "a\nb"},
    "left-and-our-state-is-missing": {"slot_b": None},
    "left-and-back-is-no-slot": {"ts_back": "*"},
    "left-and-the-slot-in-two-lines": {"slot": "a\nb", "ts_back": "a"},
    "left-and-the-other-is-no-longer-good": {"slot_a": "good\n"},
    "the-slot-is-ours": {"slot": "b", "zz": "\nslot=a"},
}
TABLE = [pytest.param(TRIAL, changes, id=name) for name, changes in CASES.items()]
TABLE += [pytest.param(LEFT, changes, id=name) for name, changes in LEFT_CASES.items()]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.switch_off()


def applied(base: dict[str, str], changes: dict[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in (base | changes).items() if value is not None}


def what_the_client_reads(state: BootState) -> str:
    mine, other = state.states[SlotName.B], state.states[state.way_back(SlotName.B)]
    if mine is SlotState.TRIAL and state.counting:
        return "end" if other is SlotState.GOOD else "another try"
    left = mine is SlotState.BAD and state.counting and state.slot is SlotName.A and other is SlotState.GOOD
    return "reset" if left else "nothing"


def what_the_deadline_did(bench: Bench, status: int | None, *, written: bool) -> str:
    if status is not None:
        assert (status, written, bench.asked()) == (0, False, [])
        return "nothing"
    if written:
        return "end"
    return "another try" if "another try" in bench.said() else "reset"


@pytest.mark.parametrize(("base", "changes"), TABLE)
def test_the_deadline_reads_an_environment_as_the_client_does(
    bench: Bench, base: dict[str, str], changes: dict[str, str | None]
) -> None:
    for copy, flags in ((0, 5), (1, 4)):
        bench.rig.put(copy, rawenv.encode(applied(base, changes), SIZE, flags))
    before, raw = read_state(bench.rig.boot.read().variables), bench.rig.raw()
    status = bench.run()
    written = bench.rig.raw() != raw
    assert what_the_deadline_did(bench, status, written=written) == what_the_client_reads(before)
    if written:
        after = read_state(bench.rig.boot.read().variables)
        assert (after.slot, after.states[SlotName.B], after.states[SlotName.A]) == ("a", "bad", "good")
        assert after.failed_sequence == before.trial_sequence
        if before.generation:
            assert after.generation == before.generation + 1


THREE: Final = ("a", "b", "c")


@pytest.mark.parametrize("back", ["", "a", "b", "c", "d", "a b", "*"])
@pytest.mark.parametrize("running", THREE)
def test_with_three_slots_the_deadline_goes_back_where_the_client_would(bench: Bench, running: str, back: str) -> None:
    states = {f"slot_{name}": "trial" if name == running else "good" for name in THREE}
    variables = TRIAL | states | {"slot": running} | ({"ts_back": back} if back else {})
    for copy, flags in ((0, 5), (1, 4)):
        bench.rig.put(copy, rawenv.encode(variables, SIZE, flags))
    bench.boot_line(f"twinslot.slot={running} twinslot.state=trial")
    assert bench.run(TWINSLOT_SLOTS=" ".join(THREE)) is None
    seen = bench.rig.seen()
    assert seen["slot"] == SlotSet(THREE, running).back(back)
    assert seen[f"slot_{running}"] == "bad"
    assert [seen[f"slot_{name}"] for name in THREE if name != running] == ["good", "good"]


def test_a_slot_that_only_a_third_name_would_be_is_none_for_two(bench: Bench) -> None:
    bench.boot_line("twinslot.slot=c twinslot.state=trial")
    assert bench.run() == 1
    assert "names no slot" in bench.said()


HOOK_CASES = (  # its values have one line each
    "as-it-should-be",
    "our-state-with-a-return-at-its-end",
    "our-state-is-a-pattern",
    "our-state-is-missing",
    "back-is-the-other-slot",
    "back-is-no-slot",
    "a-release-in-other-digits",
    "a-command-as-a-value",
)
FORM_FEED = {"zz": "x\x0cslot_b=good\u2028slot_b=good", "ts_txn": "ü"}


@pytest.mark.parametrize("changes", [*(pytest.param(CASES[name], id=name) for name in HOOK_CASES), FORM_FEED])
def test_it_reads_a_hook_as_the_client_does(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str | None]
) -> None:
    monkeypatch.setenv("TWINSLOT_HOOK_DIR", str(tmp_path))
    variables = applied(TRIAL, changes)
    script = "".join(f"{name}={value}\n" for name, value in variables.items()).encode("utf-8", "surrogateescape")
    subprocess.run([HOOK, "set-environment"], input=script, check=True)
    before = read_state(Hook(HOOK, timeout=waits.HANG).read().variables)
    path = f"{bench.bin}:{os.environ['PATH']}"
    status = bench.run(TWINSLOT_HOOK=str(HOOK), TWINSLOT_HOOK_DIR=str(tmp_path), PATH=path)
    after = read_state(Hook(HOOK, timeout=waits.HANG).read().variables)
    written = after != before
    assert what_the_deadline_did(bench, status, written=written) == what_the_client_reads(before)
    assert not written or after.failed_sequence == before.trial_sequence


HOSTILE = {
    "IFS": "abdeglost=_ ",
    "CDPATH": "/tmp",
    "ENV": "/nowhere",
    "BASH_ENV": "/nowhere",
    "POSIXLY_CORRECT": "1",
    "TMPDIR": "/nowhere",
    "LC_ALL": "tr_TR.UTF-8",
    "LANG": "C.UTF-8",
    "LANGUAGE": "de",
    "TWINSLOT_STEP": "soon",
    "TWINSLOT_LOCK_WAIT": "-1",
    "TWINSLOT_GRACE": "1h",
    "PS4": "$(reboot)",
    "guard": "1",
    "now": "1",
    "mine": "good",
}


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_numbers_with_zeros_in_front_are_decimal(bench: Bench, shell: str) -> None:
    bench.shell = (f"/bin/{shell}",)
    bench.set(ARMED)
    bench.start(TWINSLOT_STEP="08", TWINSLOT_LOCK_WAIT="0009", TWINSLOT_GRACE="00", TWINSLOT_DEADLINE="00")
    assert bench.ended() is None, "the machine is reset"
    assert (bench.rig.seen()["slot"], bench.rig.seen()["slot_b"]) == ("a", "bad")


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_what_the_environment_says_about_shells_and_languages_changes_nothing(bench: Bench, shell: str) -> None:
    bench.shell = (f"/bin/{shell}",)
    bench.set(ARMED)
    bench.boot_line("twinslot.slot=b twinslot.state=trial")
    bench.start(**HOSTILE)
    assert bench.ended() is None
    assert (bench.rig.seen()["slot"], bench.rig.seen()["slot_b"]) == ("a", "bad")
