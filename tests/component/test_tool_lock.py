"""The lock of fw_setenv: no other user holds up a decision with it, and no link in its place has a file truncated."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from deadline_bench import ARMED, COMMITTED, ENDED, Bench

import waits
from fakes.rigs import REPOSITORY
from twinslot.bootloader.uboot import tool_lock as toollock

pytestmark = pytest.mark.root
STRANGER = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
HOLD = (*STRANGER, "flock", "--exclusive", "--no-fork")
# A /run/lock of its own, open to everybody as on Debian; "$0" is what happens there before the command.
ALONE = """
set -eu
mount --make-rprivate /
mount -t tmpfs -o mode=1777 tmpfs /run/lock
[ /var/lock -ef /run/lock ] || mount --bind /run/lock /var/lock
eval "$0"
"$@"
"""  # process 1 there: what is left behind ends with it
WRITE = """
import sys, pathlib
from twinslot.bootloader.uboot.backend import UBoot
UBoot(pathlib.Path(sys.argv[1]), timeout=5).write({"slot_b": "good"})
"""


def alone(before: str, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run a command where /run/lock is new, after a piece of shell."""
    return subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--", "sh", "-c", ALONE, before, *argv],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "client")},
        capture_output=True,
        text=True,
        timeout=waits.HANG,
    )


# A stranger opened the file while a tool had left it open to all, and holds the lock.
HELD_BY_A_STRANGER = """
(umask 022; fw_printenv -c /nowhere || :; : >/run/lock/fw_printenv.lock) 2>/dev/null
mkfifo -m 666 /run/held
setpriv --reuid=65534 --regid=65534 --clear-groups flock --no-fork /run/lock/fw_printenv.lock \
    sh -c 'echo held >/run/held; exec sleep 1000' >/dev/null 2>&1 &
read -r _ </run/held
rm /run/held
"""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    made.set(ARMED)
    yield made
    made.switch_off()


def write(bench: Bench, before: str) -> subprocess.CompletedProcess[str]:
    return alone(before, sys.executable, "-c", WRITE, str(bench.rig.config))


@pytest.mark.slow
@pytest.mark.verifies("S27")
def test_a_decision_lands_while_a_stranger_holds_the_lock_of_the_tool(bench: Bench) -> None:
    done = write(bench, HELD_BY_A_STRANGER)
    assert done.returncode == 0, done.stderr
    assert bench.rig.seen()["slot_b"] == "good"


def test_the_deadline_ends_a_trial_while_a_stranger_holds_the_lock_of_the_tool(bench: Bench) -> None:
    settings = bench.settings | {"TWINSLOT_TOOL_LOCKS": "/run/lock /var/lock", "TWINSLOT_GRACE": "0"}
    words = [f"{name}={value}" for name, value in settings.items()]
    alone(HELD_BY_A_STRANGER, "env", "-i", *words, str(REPOSITORY / "systemd/deadline"))
    assert {name: bench.rig.seen().get(name) for name in ENDED} == ENDED
    assert bench.asked()[0] == "reboot --force"


@pytest.mark.verifies("S27")
@pytest.mark.parametrize("made_by", ["client", "deadline", "tmpfiles"])
def test_a_stranger_cannot_open_the_lock_of_the_tool(bench: Bench, made_by: str) -> None:
    deadline = f"TWINSLOT_CMDLINE={bench.cmdline} TWINSLOT_DEADLINE=0 TWINSLOT_FW_ENV_CONFIG={bench.rig.config}"
    makers = {
        "client": f"'{sys.executable}' -c '{WRITE}' '{bench.rig.config}'",
        "deadline": f"env -i {deadline} sh '{REPOSITORY}/systemd/deadline' 2>/dev/null",
        "tmpfiles": f"systemd-tmpfiles --create --prefix=/run/lock '{REPOSITORY}/systemd/twinslot.tmpfiles'",
    }
    bench.set(COMMITTED)
    tried = alone(makers[made_by], *HOLD, "--nonblock", "/run/lock/fw_printenv.lock", "true")
    assert (tried.returncode, "Permission denied" in tried.stderr) == (66, True), tried.stderr  # EX_NOINPUT


@pytest.mark.verifies("S27")
@pytest.mark.parametrize("half", ["client", "deadline"])
def test_a_link_in_place_of_the_lock_is_not_followed(bench: Bench, tmp_path: Path, half: str) -> None:
    (tmp_path / "victim").write_text("precious")
    link = f"{' '.join(STRANGER)} ln -s '{tmp_path}/victim' /run/lock/fw_printenv.lock"
    bench.set(COMMITTED)
    if half == "client":
        done = write(bench, link)
    else:
        settings = (f"TWINSLOT_CMDLINE={bench.cmdline}", f"TWINSLOT_FW_ENV_CONFIG={bench.rig.config}")
        argv = ("env", "-i", "TWINSLOT_DEADLINE=0", *settings, "sh", str(REPOSITORY / "systemd/deadline"))
        done = alone(link, *argv)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "victim").read_text() == "precious"


# One file, without the tool.


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    tmp_path.chmod(0o1777)
    return tmp_path / "fw_printenv.lock"


def private(lock: Path) -> bool:
    return toollock.fault(lock) is None and lock.is_file() and not lock.is_symlink()


@pytest.mark.parametrize("what", ["open-to-all", "of-a-stranger", "link", "pipe", "directory", "second-name"])
def test_what_stands_in_its_place_is_told_and_replaced(lock: Path, tmp_path: Path, what: str) -> None:
    if what == "link":
        lock.symlink_to(tmp_path / "nowhere")
    elif what == "pipe":
        os.mkfifo(lock)
    elif what == "directory":
        (lock / "full").mkdir(parents=True)
    else:
        lock.touch(0o644 if what == "open-to-all" else 0o600)
    if what == "of-a-stranger":
        os.chown(lock, 65534, 65534)
    if what == "second-name":
        os.link(lock, tmp_path / "second-name")
    assert toollock.fault(lock)
    toollock.make_private((lock,))
    assert private(lock)


@pytest.mark.verifies("S27")
def test_a_private_file_is_left_as_it_is(lock: Path) -> None:
    lock.touch(0o600)
    before = lock.stat().st_ino
    toollock.make_private((lock,))
    assert lock.stat().st_ino == before


def test_a_tool_that_runs_now_is_waited_for_and_no_longer_than_that(lock: Path) -> None:
    lock.touch(0o644)
    now, looked = [0.0], []

    def sleep(seconds: float) -> None:
        now[0] += seconds
        looked.append(lock.stat().st_ino)

    with lock.open("rb") as held:
        subprocess.run(["flock", "--exclusive", str(held.fileno())], pass_fds=[held.fileno()], check=True)
        toollock.make_private((lock,), wait=3, clock=lambda: now[0], sleep=sleep)
        assert 3 <= now[0] < 3.2
        assert set(looked) == {os.fstat(held.fileno()).st_ino}, "not replaced while it was waited for"
    assert private(lock)


def test_without_its_directory_there_is_nothing_to_make(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    toollock.make_private((tmp_path / "none/fw_printenv.lock",))
    assert caplog.text == ""
