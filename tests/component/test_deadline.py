"""The deadline: a trial that nobody committed ends, with the real fw_setenv and without Python."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from deadline_bench import ARMED, BEFORE, COMMITTED, ENDED, GIVE_UP, SCRIPT, Bench

import waits
from fakes.rigs import HOOK, REPOSITORY
from twinslot.core.boot_variables import give_up, read_state
from twinslot.core.model import SlotName
from twinslot.storage.lock import UpdateLock

UNIT = REPOSITORY / "systemd/twinslot-deadline.service"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Slot b on trial, as arming leaves it: one copy is new, the other still says the old decision."""
    made = Bench(tmp_path)
    made.set(ARMED)
    assert made.copies()[0] != made.copies()[1]
    yield made
    made.switch_off()


def after(changes: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in (BEFORE | ARMED | changes).items() if value}


# Ends the trial.


def test_a_trial_that_was_not_committed_ends_in_both_copies_and_the_machine_is_reset(bench: Bench) -> None:
    assert bench.run() is None
    assert bench.copies() == [after(ENDED), after(ENDED)]
    assert bench.rig.seen() == after(ENDED)
    assert bench.asked() == ["reboot --force"]
    assert "back to slot 'a'" in bench.said()


def test_it_decides_what_the_client_would_decide(bench: Bench) -> None:
    before = read_state(bench.rig.seen())
    bench.run()
    wanted = give_up(before, SlotName.B, before.transaction, before.trial_sequence, "deadline")
    assert {name: bench.rig.seen().get(name, "") for name in wanted} == wanted


def test_it_ends_the_trial_of_slot_a_too(bench: Bench) -> None:
    bench.boot_line("twinslot.slot=a")
    bench.set({"slot": "a", "slot_a": "trial", "slot_b": "good"})
    assert bench.run() is None
    seen = bench.rig.seen()
    assert (seen["slot"], seen["slot_a"], seen["slot_b"], seen["ts_failed"]) == ("b", "bad", "good", "42")


def test_now_does_not_wait_and_gives_its_own_reason(bench: Bench) -> None:
    assert bench.run("--now", "unhealthy", TWINSLOT_DEADLINE="1000") is None
    assert bench.copies() == [after(ENDED | {"ts_reason": "unhealthy"})] * 2
    assert bench.asked() == ["reboot --force"]


def test_it_waits_for_the_deadline(bench: Bench) -> None:
    waited, real = bench.calls.with_name("waited"), shutil.which("sleep")
    bench.program("sleep", f'{real} "$1" && echo "$1" >>{waited}')
    bench.program("systemctl", f"cat {waited} >{bench.calls}")
    (bench.bin / "cat").symlink_to(shutil.which("cat") or "")
    assert bench.run(TWINSLOT_DEADLINE="1") is None
    assert bench.asked() == ["1"], "slept for so many seconds, and then asked"


def test_a_deadline_that_is_no_number_is_five_minutes(bench: Bench) -> None:
    bench.program("sleep", f'echo "sleep $1" >>{bench.calls}; exit 0')
    bench.run(TWINSLOT_DEADLINE="5 min")
    assert bench.asked()[0] == "sleep 300"


@pytest.mark.parametrize(("stands", "becomes"), [("0", "1"), ("9", "10"), ("0017", "18"), ("", ""), ("x9", "x9")])
def test_the_generation_rises_by_one_in_decimal(bench: Bench, stands: str, becomes: str) -> None:
    bench.set({"ts_generation": stands})
    bench.run()
    assert bench.rig.seen().get("ts_generation", "") == becomes


@pytest.mark.parametrize("release", ["", "4\\2", "42x", "9" * 40])
def test_a_release_that_is_no_number_is_not_carried_on(bench: Bench, release: str) -> None:
    bench.set({"ts_release": release, "ts_failed": "7"})
    bench.run()
    assert bench.rig.seen()["slot_b"] == "bad"
    assert "ts_failed" not in bench.rig.seen()


def test_one_damaged_copy_does_not_save_the_trial(bench: Bench) -> None:
    stale = next(n for n, copy in enumerate(bench.copies()) if copy.get("slot_b") == "bad")
    bench.rig.damage(stale)
    assert bench.run() is None
    assert bench.copies() == [after(ENDED)] * 2


def test_another_boot_loader_is_reached_through_its_hook(bench: Bench, tmp_path: Path) -> None:
    store = {"TWINSLOT_HOOK_DIR": str(tmp_path), "PATH": os.environ["PATH"]}
    script = "".join(f"{name}={value}\n" for name, value in (BEFORE | ARMED).items())
    subprocess.run([HOOK, "set-environment"], input=script.encode(), env=store, check=True)
    untouched = bench.rig.raw()
    bench.run(TWINSLOT_HOOK=str(HOOK), TWINSLOT_HOOK_DIR=str(tmp_path), PATH=f"{bench.bin}:{store['PATH']}")
    printed = subprocess.run([HOOK, "get-environment"], env=store, capture_output=True, text=True, check=True).stdout
    assert dict(line.split("=", 1) for line in printed.splitlines()) == after(ENDED)
    assert bench.rig.raw() == untouched
    assert bench.asked() == ["reboot --force"]


# Leaves alone what is not on trial.


@pytest.mark.parametrize("arguments", [(), ("--now", "unhealthy")])
def test_a_committed_slot_is_left_alone(bench: Bench, arguments: tuple[str, ...]) -> None:
    bench.set(COMMITTED)
    before = bench.rig.raw()
    assert bench.run(*arguments) == 0
    assert (bench.rig.raw(), bench.asked(), bench.sysrq.read_text()) == (before, [], "")
    assert "not on trial" in bench.said()


def test_the_old_slot_is_left_alone_while_the_new_one_waits_for_its_trial(bench: Bench) -> None:
    bench.boot_line("twinslot.slot=a")
    before = bench.rig.raw()
    assert bench.run() == 0
    assert (bench.rig.raw(), bench.asked()) == (before, [])


@pytest.mark.parametrize("line", ["quiet", "twinslot.slot=c", "twinslot.slot=", "nottwinslot.slot=b", ""])
def test_without_a_slot_on_the_command_line_nothing_is_decided(bench: Bench, line: str) -> None:
    bench.boot_line(line)
    before = bench.rig.raw()
    assert bench.run() == 1
    assert (bench.rig.raw(), bench.asked()) == (before, [])


@pytest.mark.parametrize("arguments", [("--now",), ("--now", "because"), ("later", "unhealthy"), ("--now", "a", "b")])
def test_a_wrong_call_is_refused(bench: Bench, arguments: tuple[str, ...]) -> None:
    before = bench.rig.raw()
    assert bench.run(*arguments) == 2
    assert (bench.rig.raw(), bench.asked()) == (before, [])


# The race with a commit (S12).


@pytest.mark.verifies("S12")
def test_a_commit_that_holds_the_lock_wins_and_nothing_is_reset(bench: Bench) -> None:
    with UpdateLock("commit", bench.lock):
        bench.start()
        waits.until(lambda: waits_for(bench.lock))
        bench.set(COMMITTED)
        committed = bench.rig.raw()
    assert bench.ended() == 0
    assert (bench.rig.raw(), bench.asked(), bench.sysrq.read_text()) == (committed, [], "")
    assert "decided meanwhile" in bench.said()


def test_a_lock_that_is_never_released_does_not_save_the_trial(bench: Bench) -> None:
    before = bench.rig.raw()
    with UpdateLock("a client that hangs", bench.lock):
        assert bench.run(TWINSLOT_LOCK_WAIT="1") is None
    assert bench.rig.raw() == before, "without the lock nothing may be written; the reset counts as a try"
    assert bench.asked() == ["reboot --force"]


def test_a_commit_whose_holder_hangs_afterwards_stays_committed(bench: Bench) -> None:
    with UpdateLock("commit", bench.lock):
        bench.start(TWINSLOT_LOCK_WAIT="1")
        waits.until(lambda: waits_for(bench.lock))
        bench.set(COMMITTED)
        assert bench.ended() == 0
    assert bench.asked() == []


def waits_for(lock: Path) -> bool:
    """Somebody is blocked on the lock: `1: -> FLOCK ...` in /proc/locks, proc_locks(5)."""
    inode = f":{lock.stat().st_ino} "
    return any("->" in line and inode in line for line in Path("/proc/locks").read_text().splitlines())


# Resets whatever fails.


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [
        pytest.param("exit 1", id="fails"),
        pytest.param("exit 0", id="lies"),
        pytest.param("exec sleep 1000", id="hangs"),
        pytest.param("trap '' TERM; while :; do sleep 1000; done", id="ignores-signals"),
        pytest.param(None, id="is-missing"),
    ],
)
def test_a_broken_fw_setenv_still_ends_in_a_reset(bench: Bench, body: str | None) -> None:
    bench.program("fw_setenv", body)
    before = bench.rig.raw()
    assert bench.run(TWINSLOT_STEP="1") is None
    assert bench.rig.raw() == before
    assert bench.asked() == ["reboot --force"]


@pytest.mark.slow
def test_a_systemd_that_does_not_answer_is_reset_by_the_kernel(bench: Bench) -> None:
    bench.program("systemctl", f'echo "$*" >>{bench.calls}; exec sleep 1000')
    bench.start()
    waits.until(lambda: bench.sysrq.read_text() == "b\n")
    assert bench.asked() == ["reboot --force", "reboot --force --force"]


@pytest.mark.slow
def test_a_program_that_cannot_be_killed_is_ended_by_the_last_resort(bench: Bench) -> None:
    bench.boot_line("twinslot.slot=b twinslot.state=trial")
    bench.program("timeout", "exec sleep 1000")  # as it waits for a program that the kernel does not let go
    bench.start(TWINSLOT_LOCK_WAIT="0", TWINSLOT_STEP="0", TWINSLOT_GRACE="1")
    waits.until(lambda: bench.sysrq.read_text() == "b\n")


def test_the_last_resort_is_called_off_with_the_deadline(bench: Bench) -> None:
    bench.boot_line("twinslot.slot=b twinslot.state=trial")
    bench.set(COMMITTED)
    settings = bench.settings | {"TWINSLOT_GRACE": "100"}
    # The pipe ends when its last holder does, so this returns only if nothing was left behind.
    ended = subprocess.run([SCRIPT], env=settings, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=GIVE_UP)
    assert (ended.returncode, bench.sysrq.read_text()) == (0, "")


def test_with_no_other_good_slot_the_trial_gets_another_try(bench: Bench) -> None:
    bench.set({"slot_a": "bad"})
    before = bench.rig.raw()
    assert bench.run() is None
    assert bench.rig.raw() == before, "two bad slots would never start again"
    assert bench.asked() == ["reboot --force"]


def test_a_slot_that_was_given_up_and_still_runs_is_reset(bench: Bench) -> None:
    bench.set(ENDED)
    before = bench.rig.raw()
    assert bench.run() is None
    assert (bench.rig.raw(), bench.asked()) == (before, ["reboot --force"])


def test_a_reset_that_the_client_has_asked_for_is_not_hurried(bench: Bench) -> None:
    bench.set(ENDED)
    assert bench.run("--now", "unhealthy") == 0
    assert bench.asked() == []


# An environment that cannot be read.


def lose(bench: Bench) -> None:
    for copy in (0, 1):
        bench.rig.damage(copy)


def test_a_lost_environment_in_a_trial_boot_ends_in_a_reset(bench: Bench) -> None:
    bench.boot_line("twinslot.slot=b twinslot.state=trial")
    lose(bench)
    before = bench.rig.raw()
    assert bench.run() is None
    assert (bench.rig.raw(), bench.asked()) == (before, ["reboot --force"])


@pytest.mark.parametrize("line", ["twinslot.slot=b", "twinslot.slot=b twinslot.state=good"])
def test_a_lost_environment_does_not_reset_a_device_at_work(bench: Bench, line: str) -> None:
    bench.boot_line(line)
    lose(bench)
    before = bench.rig.raw()
    assert bench.run() == 1
    assert (bench.rig.raw(), bench.asked()) == (before, [])
    assert "cannot be read" in bench.said()


@pytest.mark.root
@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_run_without_room_does_not_save_the_trial(bench: Bench, how: str) -> None:
    run = bench.lock.parent
    run.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k,mode=755", "tmpfs", run], check=True)
    try:
        bench.lock.touch(0o600)  # as systemd makes it
        (run / "fill").write_bytes(bytes(4096))
        if how == "read-only":
            subprocess.run(["mount", "-o", "remount,ro", run], check=True)
        assert bench.run() is None
        assert bench.copies() == [after(ENDED), after(ENDED)]
    finally:
        bench.switch_off()
        subprocess.run(["umount", "--lazy", run], check=True)  # what the script started may go a moment later


@pytest.mark.root
def test_it_ends_the_trial_with_the_capabilities_that_its_unit_leaves(bench: Bench) -> None:
    """A stranger's lock with no rights for root is in the way, which who may override rights would not notice."""
    (allowed,) = re.findall(r"^CapabilityBoundingSet=(.*)$", UNIT.read_text(), re.MULTILINE)
    assert allowed == "CAP_SYS_BOOT"
    tools = Path(bench.settings["TWINSLOT_TOOL_LOCKS"])
    tools.mkdir(parents=True)
    tools.chmod(0o1777)
    lock = tools / "fw_printenv.lock"
    lock.touch(0)
    os.chown(lock, 65534, 65534)
    bench.shell = (
        shutil.which("setpriv") or "",
        "--bounding-set=-all,+sys_boot",
        "--inh-caps=-all",
        "--no-new-privs",
        "--",
    )
    assert bench.run() is None
    assert bench.copies() == [after(ENDED), after(ENDED)]
    assert bench.asked() == ["reboot --force"]
