"""The hook for GRUB and what GRUB does with its files: one try, and power that goes at each step of a decision."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

import waits
from fakes.rigs import HOOKS, ONE_SHOT, write_default
from twinslot.bootloader.hook import Hook
from twinslot.core import boot_variables as bootenv
from twinslot.core.boot_outcome import BootFacts, classify_boot
from twinslot.core.boot_variables import BootState, read_state
from twinslot.core.lifecycle import Event
from twinslot.core.model import Release, SlotName

pytestmark = pytest.mark.slow

A, B = SlotName.A, SlotName.B
ID = "ab" * 16


@pytest.fixture
def hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hook:
    """Slot a is committed, slot b was written."""
    monkeypatch.setenv("TWINSLOT_HOOK_DIR", str(tmp_path))
    made = Hook(ONE_SHOT, default_env=write_default(tmp_path), timeout=waits.HANG)
    made.reset({"slot_b": "bad", "upgrade_available": "0", "ts_generation": "3", "ts_txn": ID})
    return made


def block(path: Path) -> dict[str, str]:
    """What GRUB's load_env takes from a file; empty when it is none."""
    listed = subprocess.run(["grub-editenv", path, "list"], capture_output=True, text=True, check=False)
    return dict(line.split("=", 1) for line in listed.stdout.splitlines()) if listed.returncode == 0 else {}


def grub(directory: Path) -> str:
    """One start as bootloader_hooks/grub-once/grub.cfg decides it; every slot loads."""
    read = block(directory / "twinslot.env")
    read = read if "ts_sum" in read else block(directory / "twinslot.copy")
    once = read.get("ts_once", "-")
    if once in ("a", "b"):
        path, before = directory / "twinslot.env", (directory / "twinslot.env").read_bytes()
        subprocess.run(["grub-editenv", path, "set", "ts_once=-"], check=True)
        changed = [at for at, byte in enumerate(path.read_bytes()) if byte != before[at]]
        assert len(changed) == 1, "one byte, so that no torn write damages another variable"
        if read.get(f"slot_{once}") == "trial":
            return once
    chosen = read.get("slot", "a")
    order = sorted("ab", key=lambda slot: slot != chosen)
    return next(slot for slot in order if read.get(f"slot_{slot}") == "good")


def state(hook: Hook) -> BootState:
    return read_state(hook.read().variables)


def arm(hook: Hook) -> None:
    hook.write(bootenv.arm(state(hook), B, ID, Release("2.0", 20), A))


def found(hook: Hook, running: str) -> Event:
    facts = BootFacts(SlotName(running), "now", state(hook))
    return classify_boot(facts, B, ID, hook.describe(), "before")


def test_grub_reads_and_checks_what_the_hook_writes(hook: Hook, tmp_path: Path) -> None:
    arm(hook)
    assert hook.settle().settled
    for name in ("twinslot.env", "twinslot.copy"):
        read = block(tmp_path / name)
        assert (read["slot"], read["ts_once"], read["slot_b"], read["ts_back"]) == ("a", "b", "trial", "a")
    subprocess.run(["grub-script-check", HOOKS / "grub-once/grub.cfg"], check=True)


def test_a_trial_starts_once_and_a_reset_is_the_end_of_it(hook: Hook, tmp_path: Path) -> None:
    arm(hook)
    assert found(hook, "a") is Event.STILL_ARMED, "GRUB would say if the try were used up"
    assert grub(tmp_path) == "b"
    assert found(hook, "b") is Event.BOOTED_NEW
    assert hook.read().settled, "a try that is used up damages nothing"
    assert grub(tmp_path) == "a"
    assert found(hook, "a") is Event.ROLLED_BACK
    hook.write(bootenv.stop_counting(state(hook), A, ID))
    assert hook.settle().settled
    assert (state(hook).failed_sequence, state(hook).reason, state(hook).states[B]) == (20, "not-booted", "bad")
    assert [grub(tmp_path) for _ in range(3)] == ["a"] * 3


def test_a_commit_makes_the_new_slot_the_one_that_starts(hook: Hook, tmp_path: Path) -> None:
    arm(hook)
    assert grub(tmp_path) == "b"
    before = state(hook)
    hook.write(bootenv.commit(before, B, ID, before.floors, {A: 0}, 20))
    assert [grub(tmp_path) for _ in range(3)] == ["b"] * 3
    assert found(hook, "b") is Event.BOOTED_COMMITTED


def test_giving_up_or_disarming_takes_the_try_back(hook: Hook, tmp_path: Path) -> None:
    arm(hook)
    hook.write(bootenv.disarm(state(hook), B, A, ID, whole=False))
    assert grub(tmp_path) == "a"
    arm(hook)
    assert grub(tmp_path) == "b"
    hook.write(bootenv.give_up(state(hook), B, ID, 20, "unhealthy"))
    assert grub(tmp_path) == "a"


def test_settling_in_a_trial_does_not_arm_it_again(hook: Hook, tmp_path: Path) -> None:
    arm(hook)
    assert grub(tmp_path) == "b"
    (tmp_path / "twinslot.copy").write_bytes(b"torn")
    assert hook.settle().settled
    assert grub(tmp_path) == "a"


# The power goes at the call of this program with this number.
CUT = """#!/bin/sh
echo >>"{calls}"
if [ "$(wc -l <"{calls}")" -ge "$CUT_AT" ]; then kill -KILL "$PPID"; exit 1; fi
exec /usr/bin/{name} "$@"
"""


def visible(directory: Path) -> Mapping[str, str]:
    """What decides, as GRUB would read it."""
    read = block(directory / "twinslot.env")
    return read if "ts_sum" in read else block(directory / "twinslot.copy")


def test_power_that_goes_inside_a_decision_leaves_the_old_one_or_the_new_one(
    hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs, calls = tmp_path / "bin", tmp_path / "calls"
    programs.mkdir()
    for name in ("head", "sync", "mv"):
        (programs / name).write_text(CUT.format(calls=calls, name=name))
        (programs / name).chmod(0o755)
    before = dict(visible(tmp_path))
    changes = bootenv.arm(state(hook), B, ID, Release("2.0", 20), A)
    script = "".join(f"{name}={value}\n" for name, value in changes.items())
    seen, cut, ended = set(), 0, -9
    while ended != 0:
        cut += 1
        calls.write_text("")
        with monkeypatch.context() as patch:
            patch.setenv("PATH", f"{programs}:/usr/bin:/bin")
            patch.setenv("CUT_AT", str(cut))
            ended = subprocess.run([ONE_SHOT, "set-environment"], input=script, text=True, check=False).returncode
        assert hook.read().variables, f"cut {cut}"
        now = dict(visible(tmp_path))
        armed = now.get("slot_b") == "trial"
        assert (now == before) != armed, f"cut {cut}: neither old nor new"
        assert not armed or (now["ts_once"], now["ts_release"], now["upgrade_available"]) == ("b", "20", "1")
        seen.add(armed)
        hook.write({name: before.get(name, "") for name in changes} | {"slot": "a"})
        hook.settle()
        assert dict(visible(tmp_path)) == before
    assert seen == {False, True}
    assert cut == 10, "a look at the first file, four programs for each, and one time to the end"
