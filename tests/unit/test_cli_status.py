"""What `status`, `history` and `doctor` say to people, word for word, and what they cost."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes.command_line import write_config
from twinslot.bootloader.base import CopyState, Environment, EnvironmentCopy
from twinslot.cli.render import doctor_lines, history_lines, reason_text, status_lines, transaction_text
from twinslot.config.options import load
from twinslot.core import stored
from twinslot.core.fallback import Fallback, judge_fallback
from twinslot.core.lifecycle import State
from twinslot.core.model import CheckResult, Floors, Reason, Release, SlotName, SlotRecord, SlotState, StoredPayload
from twinslot.core.transaction import Outcome, Transaction
from twinslot.engine.facts import Facts
from twinslot.queries import status as report
from twinslot.queries.diagnosis import Diagnosis, Finding, Severity

OURS_MAX, MODULES_MAX = 98, 250  # of the client, and in all with those of Python 3.11 to 3.13
PATHS = f"import sys; sys.path[:] = {sys.path!r}\n"
HEAVY = {"asyncio", "dbus_next", "tuf", "securesystemslib", "construct", "zstandard", "cryptography", "http", "ssl"}

UPDATE = Transaction(
    id="0" * 32,
    state=State.WRITING,
    target=SlotName.B,
    release=Release("2026.11", 20),
    started="2026-11-20T10:00:00.123456+00:00",
)


def ended(outcome: Outcome, reason: str = "", **more: Any) -> dict[str, Any]:
    """The update, over."""
    over = replace(UPDATE, state=State.IDLE, outcome=outcome, reason=reason, ended="2026-11-20T10:09:08+00:00", **more)
    return over.as_dict()


def slot(state: str | None, *, running: bool = False, release: Release | None = None) -> dict[str, Any]:
    """One slot as `report.status` has it."""
    return {
        "state": state,
        "running": running,
        "release": stored.write(release) if release else None,
        "installed_at": "2026-05-04T03:02:01+00:00" if release else None,
        "read_at": None,
        "started_at": None,
        "unsound": None,
    }


def status(**changes: Any) -> dict[str, Any]:
    """A device on which nothing happens, changed."""
    quiet: dict[str, Any] = {
        "version": "0.1.0",
        "running": "a",
        "state": "idle",
        "slots": {
            "a": slot("good", running=True, release=Release("2026.05", 10)),
            "b": slot("bad"),
        },
        "floors": stored.write(Floors(10, 1, 2)),
        "transaction": None,
        "last": None,
        "failed": {},
        "environment": {"settled": True, "lost": False, "copies": []},
        "device_key": None,
        "fallback": Fallback(None, why="what runs, or the boot environment, is not known").as_dict(),
        "retired": False,
        "policy": {
            "waits": None,
            "inhibitors": [],
            "windows": {"fetch": None, "restart": None},
            "consent": None,
            "clock_known": True,
        },
        "repository": None,
    }
    return quiet | changes


def test_a_device_on_which_nothing_happens() -> None:
    assert list(status_lines(status())) == [
        "   slot  state  release  sequence  epoch  installed",
        "*  a     good   2026.05  10        0      2026-05-04 03:02:01 UTC",
        "   b     bad    -        -         -      -",
        "",
        "floors    sequence 10, security epoch 1, trust root 2",
        "update    nothing is under way",
    ]


def test_whether_the_way_back_is_proven_has_a_line() -> None:
    known = SlotRecord(SlotName.B, Release("2026.05", 10), {"rootfs": StoredPayload(1, 1, "0" * 64)})
    assert _fallback_line(known) == "fallback  not proven: slot b was never read whole"
    read = replace(known, read_at="2026-05-04T03:02:01Z")
    assert _fallback_line(read) == "fallback  not proven: no system is known to have started from slot b"
    proven = replace(read, started_at="2026-04-04T03:02:01Z")
    told = "slot b was read whole 2026-05-04 03:02:01 UTC, last start 2026-04-04 03:02:01 UTC"
    assert _fallback_line(proven) == f"fallback  {told}"
    unsound = replace(proven, unsound="payload 'rootfs' is another")
    assert _fallback_line(unsound).endswith("slot b was read and is not sound: payload 'rootfs' is another")
    assert _fallback_line(proven, SlotState.BAD) == "fallback  not proven: slot b is bad"
    damaged = replace(proven, read_at="2026-02-31T00:00:00Z")
    assert _fallback_line(damaged) == "fallback  not proven: slot b was never read whole"


def _fallback_line(known: SlotRecord, state: SlotState = SlotState.GOOD) -> str:
    return list(status_lines(status(fallback=judge_fallback(SlotName.B, state, known).as_dict())))[-1]


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        (State.WRITING, "2026.11 (sequence 20) is being written to slot b"),
        (State.WRITTEN, "2026.11 (sequence 20) waits in slot b; 'twinslot activate' makes it start"),
        (State.CHECKING, "2026.11 (sequence 20) in slot b is being read back"),
        (State.ARMED, "2026.11 (sequence 20) starts on trial from slot b at the next boot"),
        (State.TRIAL, "2026.11 (sequence 20) runs on trial in slot b"),
        (State.COMMITTING, "2026.11 (sequence 20) in slot b is being committed"),
        (State.LEAVING, "2026.11 (sequence 20) in slot b is being left; the next boot is slot a"),
        (State.IDLE, "nothing is under way"),
    ],
)
def test_what_is_under_way_in_each_state(state: State, sentence: str) -> None:
    lines = list(status_lines(status(transaction=replace(UPDATE, state=state).as_dict())))
    assert lines[-1] == f"update    {sentence}"


def test_an_update_that_waits_by_policy_goes_on_without_being_activated_and_the_sentence_says_so() -> None:
    waiting = replace(UPDATE, state=State.WRITTEN, activate=True)
    sentence = "2026.11 (sequence 20) waits in slot b and goes on by itself; 'twinslot status' says what for"
    assert list(status_lines(status(transaction=waiting.as_dict())))[-1] == f"update    {sentence}"
    assert transaction_text(waiting) == sentence


@pytest.mark.parametrize(
    ("running", "state", "sentence"),
    [
        (SlotName.B, State.TRIAL, "what the record does not know of runs on trial in slot b"),
        (SlotName.A, State.ARMED, "what the record does not know of starts on trial from slot b at the next boot"),
    ],
)
def test_a_trial_that_the_record_could_not_note_is_told_by_the_environment(
    running: SlotName, state: State, sentence: str
) -> None:
    variables = {"slot": "b", "slot_a": "good", "slot_b": "trial", "upgrade_available": "1"}
    copies = tuple(EnvironmentCopy(f"copy {n}", CopyState.CURRENT, n, variables) for n in (0, 1))
    facts = Facts(running, Environment(variables, copies), None)
    assert report.under_way(facts) is state
    slots = {"a": slot("good"), "b": slot("trial")}
    assert list(status_lines(status(slots=slots, state=state)))[-1] == f"update    {sentence}"
    settled = variables | {"slot_b": "good", "upgrade_available": "0"}
    assert report.under_way(replace(facts, environment=Environment(settled, copies))) is State.IDLE


def test_a_device_on_trial_marks_the_slot_that_runs() -> None:
    slots = {
        "a": slot("good", release=Release("2026.05", 10)),
        "b": slot("trial", running=True, release=Release("2026.11", 20, 3)),
    }
    assert list(status_lines(status(slots=slots, running="b")))[:3] == [
        "   slot  state  release  sequence  epoch  installed",
        "   a     good   2026.05  10        0      2026-05-04 03:02:01 UTC",
        "*  b     trial  2026.11  20        3      2026-05-04 03:02:01 UTC",
    ]


def test_after_a_rollback_the_reason_and_the_refused_release_are_told() -> None:
    last = ended(Outcome.ROLLED_BACK, Reason.DEADLINE)
    assert list(status_lines(status(last=last, failed={"20": "deadline"})))[-3:] == [
        "update    nothing is under way",
        (
            "last      2026.11 (sequence 20) rolled back from slot b to a: it did not commit in time, "
            "2026-11-20 10:09:08 UTC"
        ),
        "refused   sequence 20 (it did not commit in time): rolled back here; '--retry' allows it",
    ]


def test_what_was_committed_by_force_says_so() -> None:
    lines = list(status_lines(status(last=ended(Outcome.COMMITTED, forced=True))))
    assert lines[-1] == "last      2026.11 (sequence 20) was committed in slot b by force, 2026-11-20 10:09:08 UTC"


def test_for_a_user_who_may_not_read_the_environment_it_is_unknown() -> None:
    lines = list(status_lines(status(slots={"a": slot(None, running=True), "b": slot(None)}, environment=None)))
    assert lines[1:3] == [
        "*  a     unknown  -        -         -      -",
        "   b     unknown  -        -         -      -",
    ]
    assert lines[-1] == "boot      the environment could not be read; 'twinslot doctor' says why"


def test_lost_and_differing_environments_are_named() -> None:
    lost = list(status_lines(status(environment={"settled": False, "lost": True, "copies": []})))
    assert lost[-1] == "boot      both copies of the environment are lost; 'twinslot boot' repairs them"
    differ = list(status_lines(status(environment={"settled": False, "lost": False, "copies": []})))
    assert differ[-1].startswith("boot      the copies of the environment differ")


@pytest.mark.parametrize("state", [State.ARMED, State.TRIAL, State.LEAVING])
def test_copies_that_differ_on_purpose_raise_no_alarm_and_the_slot_shows_what_it_holds(state: State) -> None:
    slots = {"a": slot("good", running=True, release=Release("2026.05", 10)), "b": slot("trial")}
    differing = {"settled": False, "lost": False, "copies": []}
    update = replace(UPDATE, state=state).as_dict()
    lines = list(status_lines(status(slots=slots, state=state, transaction=update, environment=differing)))
    assert lines[2] == "   b     trial  2026.11  20        0      -"
    assert lines[-1].startswith("update    2026.11")


@pytest.mark.parametrize("state", [State.WRITING])
def test_a_slot_that_is_being_written_holds_nothing_yet(state: State) -> None:
    update = replace(UPDATE, state=state).as_dict()
    assert (
        list(status_lines(status(state=state, transaction=update)))[2] == "   b     bad    -        -         -      -"
    )


def test_a_machine_that_runs_no_configured_slot_is_told() -> None:
    slots = {"a": slot("good"), "b": slot("bad")}
    assert (
        list(status_lines(status(slots=slots)))[3]
        == "  no configured slot holds the root file system; see 'twinslot doctor'"
    )


def test_the_samples_have_the_keys_of_the_real_report(tmp_path: Path) -> None:
    real = report.status(load(write_config(tmp_path)))
    assert real.keys() == status().keys()
    assert real["slots"].keys() == status()["slots"].keys()
    assert real["slots"]["a"].keys() == slot("good").keys()
    assert list(status_lines(json.loads(json.dumps(real, default=str))))


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_words(reason: Reason) -> None:
    words = reason_text(reason)
    assert words != reason
    assert "(" not in words, "the word for programs is in the JSON"


def test_a_reason_that_this_version_does_not_know_is_shown_as_it_stands() -> None:
    assert reason_text("moonshine") == "moonshine"


def test_history_is_a_table_newest_first() -> None:
    checks = (
        CheckResult("pump", True, True),
        CheckResult("motor", True, False, "stuck"),
        CheckResult("fan", False, False),
    )
    rows = [ended(Outcome.ROLLED_BACK, Reason.UNHEALTHY, checks=checks), UPDATE.as_dict()]
    assert list(history_lines(rows)) == [
        "started                  release  sequence  slot  kind     outcome      reason",
        (
            "2026-11-20 10:00:00 UTC  2026.11  20        b     install  rolled-back  "
            "a required health check failed: motor: stuck"
        ),
        "2026-11-20 10:00:00 UTC  2026.11  20        b     install  writing ...",
    ]
    assert list(history_lines([])) == ["no update was ever begun"]


def test_doctor_names_every_finding_and_the_decision() -> None:
    findings = (
        Finding("running slot", Severity.FINE, "the root mount is /dev/vda1"),
        Finding("environment", Severity.FAULT, "copy is corrupt", "'twinslot boot' repairs it"),
    )
    diagnosis = Diagnosis(findings, "slot a runs; the next boot starts slot a")
    assert list(doctor_lines(diagnosis.as_dict())) == [
        "ok    running slot: the root mount is /dev/vda1",
        "FAULT environment: copy is corrupt",
        "        hint: 'twinslot boot' repairs it",
        "",
        "decision  slot a runs; the next boot starts slot a",
    ]


def test_doctor_on_this_machine_ends_with_6_since_no_slot_runs(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "twinslot", "--config-root", str(write_config(tmp_path)), "doctor"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 6
    assert "FAULT running slot: no configured slot holds the root file system" in done.stdout
    told = json.loads(subprocess.run([*argv, "--json"], capture_output=True, text=True, check=False).stdout)
    assert (told["type"], told["healthy"]) == ("doctor", False)
    assert {"area", "severity", "text", "hint", "name"} == told["findings"][0].keys()


# What it costs

MODULES = """
import sys
from twinslot.cli.main import main
main(["--config-root", {root!r}, {verb!r}])
print("\\n" + " ".join(sys.modules), file=sys.stderr)
"""


@pytest.mark.parametrize("verb", ["status", "history"])
def test_looking_imports_nothing_heavy(tmp_path: Path, verb: str) -> None:
    code = MODULES.format(root=str(write_config(tmp_path)), verb=verb)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    modules = {name.split(".")[0] for name in done.stderr.splitlines()[-1].split()}
    assert "twinslot" in modules
    assert not modules & HEAVY


def test_status_loads_few_modules(tmp_path: Path) -> None:
    """What it costs, as far as that can be counted; `make bench` measures the milliseconds."""
    code = MODULES.format(root=str(write_config(tmp_path)), verb="status")
    done = subprocess.run([sys.executable, "-S", "-E", "-c", PATHS + code], capture_output=True, text=True, check=False)
    modules = done.stderr.splitlines()[-1].split()
    ours = [name for name in modules if name.partition(".")[0] == "twinslot"]
    assert 10 < len(ours) <= OURS_MAX, ours
    assert len(modules) <= MODULES_MAX, modules


def test_that_the_device_is_retired_has_a_line() -> None:
    (line,) = (line for line in status_lines(status(retired=True)) if line.startswith("retired"))
    assert line == "retired   this device was taken out of service: it takes no update any more"
