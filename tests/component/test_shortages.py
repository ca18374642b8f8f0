"""This process without a free descriptor, with a limit of the kernel's: each door names what it could not open."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import waits
from fakes import rigs
from fakes.rigs import FAKE_BIN, SIZE, UBootRig
from twinslot.bootloader.hook import Hook
from twinslot.bootloader.uboot import medium, rawenv
from twinslot.bootloader.uboot import tool_lock as toollock
from twinslot.core.circumstance import may_pass
from twinslot.core.errors import DeviceError
from twinslot.core.model import SlotName
from twinslot.health.base import CheckOptions, Runner
from twinslot.health.command import CommandCheck
from twinslot.health.directory import discover
from twinslot.health.http import HttpCheck
from twinslot.health.systemd import NoFailedUnits, UnitCheck
from twinslot.storage import mounts
from twinslot.storage.blockdev import open_target
from twinslot.storage.lock import UpdateLock
from twinslot.storage.running_slot import find_running_slot
from twinslot.storage.slot_reader import open_reader
from twinslot.worker import launch

BEFORE = {"slot": "b", "slot_b": "trial"}
CHANGES = {"slot_b": "good"}
MOST = 16  # descriptors that a decision needs, at most


@contextlib.contextmanager
def descriptors(left: int = 0) -> Iterator[None]:
    """As if the limit of open files were reached but for so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[int] = []
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (max(int(each.name) for each in Path("/proc/self/fd").iterdir()) + MOST + 2, hard)
    )
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        for _ in range(left):
            os.close(held.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for each in held:
            os.close(each)


def take_lock(directory: Path) -> None:
    with UpdateLock("test", directory / "lock"):
        pass


TERMS = CheckOptions(timeout=2.0, delay=0.5)
DOORS: dict[str, tuple[Callable[[Path], object], str]] = {
    "update lock": (take_lock, "lock"),
    "slot for writing": (lambda d: open_target(d / "slot", (), allow_files=True), "slot"),
    "slot for reading": (lambda d: open_reader(d / "slot"), "slot"),
    "running slot": (lambda _: find_running_slot({name: {} for name in SlotName}), "/proc/"),
    "devices": (lambda d: mounts.partitions((7, 0), d), "7:0"),
    "socket of a worker": (lambda _: launch.connect("verify"), "verify.sock"),
    "worker": (lambda _: launch.start("verify"), "verify"),
    "hook": (lambda d: Hook(d / "hook").read(), "hook"),
    "health directory": (lambda d: discover([d], TERMS), "of health checks"),
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "7:0").mkdir()
    (tmp_path / "slot").write_bytes(bytes(8192))
    (tmp_path / "hook").write_text("#!/bin/sh\n")
    (tmp_path / "hook").chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("door", DOORS)
def test_without_a_descriptor_each_door_names_what_it_could_not_open(directory: Path, door: str) -> None:
    go, named = DOORS[door]
    with pytest.raises(DeviceError) as error, descriptors():
        go(directory)
    assert named in error.value.message, error.value.message
    assert error.value.found == os.strerror(errno.EMFILE)
    assert may_pass(error.value), "a want of ours counts as the release's"


@pytest.fixture
def rig(tmp_path: Path) -> UBootRig:
    return filled(UBootRig(tmp_path, rigs.blank_file(tmp_path), f"{FAKE_BIN}/"))


def filled(rig: UBootRig) -> UBootRig:
    """The older copy says that another slot is next."""
    rig.put(0, rawenv.encode(BEFORE, SIZE, 5))
    rig.put(1, rawenv.encode({"slot": "a"}, SIZE, 4))
    return rig


@pytest.mark.verifies("S6")
def test_a_decision_lands_or_does_not_with_any_number_of_descriptors(rig: UBootRig) -> None:
    outcomes = set()
    for left in range(MOST):
        filled(rig)
        try:
            with descriptors(left):
                now = rig.boot.write(CHANGES)
        except DeviceError as e:
            passing = may_pass(e) or e.code == "device.env-write"
            assert passing, f"{left} left: {e}"  # noqa: PT017 - either end is right, each in its own way
            assert rig.boot.read().variables in (BEFORE, BEFORE | CHANGES), left
            outcomes.add("not")
        else:
            assert now.variables == rig.boot.read().variables == BEFORE | CHANGES, left
            outcomes.add("landed")
    assert outcomes == {"landed", "not"}


@pytest.fixture
def fails_once(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let the first read past the page cache fail: that of the current copy."""

    def fail(number: int) -> None:
        real, failed = medium.read_direct, list[int]()

        def read(fd: int, offset: int, size: int) -> bytes:
            if not failed:
                failed.append(offset)
                raise OSError(number, os.strerror(number))
            return real(fd, offset, size)

        monkeypatch.setattr(medium, "read_direct", read)

    return fail


def test_one_read_error_of_a_copy_does_not_make_the_older_one_current(
    rig: UBootRig, fails_once: Callable[[int], None]
) -> None:
    whole = rig.boot.read()
    fails_once(errno.EIO)
    assert rig.boot.read() == whole


@pytest.mark.verifies("S6")
@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN])
def test_a_copy_that_only_we_cannot_read_does_not_make_the_older_one_current(
    rig: UBootRig, fails_once: Callable[[int], None], number: int
) -> None:
    fails_once(number)
    with pytest.raises(DeviceError) as error:
        rig.boot.read()
    assert error.value.code == "device.resources"


def test_a_lock_of_the_tool_that_only_we_cannot_open_is_left_where_it_is(tmp_path: Path) -> None:
    lock = tmp_path / "fw_printenv.lock"
    lock.touch(0o600)
    number = lock.stat().st_ino
    with descriptors():
        toollock.make_private((lock,), wait=0)
    assert lock.stat().st_ino == number, "whoever holds it and whoever comes next hold different locks"


class Passing:
    """A clock that lets descriptors come free after so many pauses."""

    def __init__(self, pauses: int, stack: contextlib.ExitStack) -> None:
        self.seconds, self._pauses, self._stack = 0.0, pauses, stack

    def clock(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        self._pauses -= 1
        if not self._pauses:
            self._stack.close()


def test_a_check_that_cannot_be_started_for_a_moment_has_not_failed(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinslot.system.process.time", waits.Stopped(lambda: False))  # Python may take its time
    with contextlib.ExitStack() as stack:
        time = Passing(2, stack)
        runner = Runner([CommandCheck("pump", (sys.executable, "-c", ""), TERMS)], time.clock, time.sleep)
        stack.enter_context(descriptors())
        (result,) = runner.run(100.0)
    assert (result.passed, result.tries) == (True, 1)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert "pump" in caplog.text
    assert os.strerror(errno.EMFILE) in caplog.text


@pytest.mark.verifies("S6")
@pytest.mark.parametrize(
    "check",
    [
        CommandCheck("pump", ("/bin/true",), TERMS),
        UnitCheck("pump.service", TERMS),
        NoFailedUnits(TERMS),
        HttpCheck("pump", "http://127.0.0.1:1/", terms=TERMS),
    ],
    ids=lambda check: type(check).__name__,
)
def test_a_check_that_can_never_be_asked_is_no_verdict(
    check: CommandCheck | UnitCheck | NoFailedUnits | HttpCheck,
) -> None:
    with contextlib.ExitStack() as stack:
        time = Passing(1000, stack)
        runner = Runner([check], time.clock, time.sleep)
        stack.enter_context(descriptors())
        with pytest.raises(DeviceError) as error:
            runner.run(100.0)
    assert error.value.code == "device.resources"
    assert check.name in error.value.message
    assert time.seconds < TERMS.timeout, "longer than its tries may take"
