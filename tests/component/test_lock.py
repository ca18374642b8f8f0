"""The update lock against real other processes: Python, shell, and one that dies."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from twinslot.core.circumstance import may_pass
from twinslot.core.errors import DeviceError, RefusedError
from twinslot.storage.lock import UpdateLock

HOLD = """
import sys, pathlib
from twinslot.storage.lock import UpdateLock
with UpdateLock("install of 2026.11", pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "lock"


@pytest.fixture
def python_holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    yield from holder([sys.executable, "-c", HOLD, str(path)])


@pytest.fixture
def shell_holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    path.parent.mkdir()
    # No fork: then the holder is the flock program, as when a unit's shell takes the lock on its own descriptor.
    yield from holder(["flock", "--no-fork", str(path), "sh", "-c", "echo held; read _"])


def holder(argv: list[str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        if process.poll() is None:
            process.communicate("\n")


def loser(path: Path, wait: float = 0.0) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        with UpdateLock("rollback", path, wait=wait):
            pass
    return caught.value


@pytest.mark.verifies("S17")
def test_the_loser_is_told_who_holds_the_lock_and_what_for(path: Path, python_holder: subprocess.Popen[str]) -> None:
    error = loser(path)
    assert error.code == "refused.locked"
    assert f"install of 2026.11 (process {python_holder.pid}, for " in str(error.found)


def test_a_shell_that_holds_the_lock_is_named_by_the_kernel(path: Path, shell_holder: subprocess.Popen[str]) -> None:
    assert loser(path).found == f"sh (process {shell_holder.pid})"


@pytest.mark.verifies("S17")
def test_a_shell_cannot_take_the_lock_that_we_hold(path: Path) -> None:
    with UpdateLock("install", path):
        assert subprocess.run(["flock", "--nonblock", path, "true"]).returncode == 1
    assert subprocess.run(["flock", "--nonblock", path, "true"]).returncode == 0


def test_what_a_dead_holder_wrote_is_not_blamed_on_the_next_one(path: Path) -> None:
    for process in holder([sys.executable, "-c", HOLD, str(path)]):
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert "install of 2026.11" in path.read_text()  # left behind
    for shell in holder(["flock", "--no-fork", str(path), "sh", "-c", "echo held; read _"]):
        assert loser(path).found == f"sh (process {shell.pid})"


@pytest.mark.verifies("S17")
def test_a_killed_holder_leaves_no_lock(path: Path, python_holder: subprocess.Popen[str]) -> None:
    python_holder.send_signal(signal.SIGKILL)
    python_holder.wait()
    with UpdateLock("install", path):
        assert "install" in path.read_text()


def test_the_lock_is_free_and_its_file_empty_after_an_error(path: Path) -> None:
    with pytest.raises(ValueError, match="inside"):
        with UpdateLock("install", path):
            raise ValueError("inside")
    assert path.read_text() == ""
    with UpdateLock("again", path):
        pass


def test_waiting_ends_when_the_holder_ends(path: Path, python_holder: subprocess.Popen[str]) -> None:
    def let_go(_seconds: float) -> None:
        if python_holder.poll() is None:
            python_holder.communicate("\n")

    with UpdateLock("rollback", path, wait=30, sleep=let_go):
        assert "rollback" in path.read_text()


@pytest.mark.verifies("S17")
def test_waiting_gives_up_at_its_time(path: Path, python_holder: subprocess.Popen[str]) -> None:
    now = [100.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    with pytest.raises(RefusedError):
        with UpdateLock("rollback", path, wait=5, clock=lambda: now[0], sleep=sleep):
            pass
    assert 105 <= now[0] < 105.3


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}', "\x00\xff", '{"pid": 1}'])
def test_nonsense_in_the_file_does_not_break_the_message(
    path: Path, shell_holder: subprocess.Popen[str], text: str
) -> None:
    path.write_text(text)
    assert f"process {shell_holder.pid}" in str(loser(path).found)


@pytest.mark.verifies("S27")
def test_only_root_can_open_the_file_and_so_only_root_can_lock_it(path: Path) -> None:
    old = os.umask(0)
    try:
        with UpdateLock("install", path):
            pass
    finally:
        os.umask(old)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o755)


def test_a_link_in_place_of_the_lock_is_not_followed(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    (tmp_path / "victim").write_text("precious")
    path.symlink_to(tmp_path / "victim")
    with pytest.raises(DeviceError) as caught:
        with UpdateLock("install", path):
            pass
    assert caught.value.code == "device.lock"
    assert (tmp_path / "victim").read_text() == "precious"


@pytest.fixture
def small_run(path: Path) -> Iterator[Path]:
    """The lock's directory is a file system of one page, full; the lock file is there, as systemd makes it."""
    path.parent.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k,mode=755", "tmpfs", path.parent], check=True)
    try:
        path.touch(0o600)
        (path.parent / "fill").write_bytes(bytes(4096))
        yield path
    finally:
        subprocess.run(["umount", path.parent], check=True)


@pytest.mark.root
@pytest.mark.parametrize("how", ["rw", "ro"])
def test_where_no_name_can_be_left_the_lock_is_still_a_lock(small_run: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", small_run.parent], check=True)
    for process in holder([sys.executable, "-c", HOLD, str(small_run)]):
        assert f"(process {process.pid})" in str(loser(small_run).found)
    with UpdateLock("commit", small_run):
        assert small_run.read_bytes() == b""


@pytest.mark.root
def test_a_run_without_inodes_is_told_as_what_it_is_and_may_pass(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    with tiny(path.parent):
        with pytest.raises(DeviceError) as error, UpdateLock("test", path):
            pass
        assert (error.value.code, error.value.found) == ("device.lock", "No space left on device")
        assert str(path) in error.value.message
        assert may_pass(error.value)


@contextlib.contextmanager
def tiny(directory: Path) -> Iterator[None]:
    """A tmpfs whose inodes are all taken."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=2", "tmpfs", directory], check=True)
    try:
        (directory / "last").touch()
        yield
    finally:
        subprocess.run(["umount", directory], check=True)


@pytest.mark.root
def test_a_stranger_cannot_open_the_lock_to_hold_it() -> None:
    with tempfile.TemporaryDirectory() as directory:  # pytest's own are closed to others
        Path(directory).chmod(0o755)
        lock = Path(directory) / "lock"
        lock.touch(0o644)  # as a careless program left it
        with UpdateLock("install", lock):
            pass
        stranger = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        tried = subprocess.run([*stranger, "flock", "--nonblock", lock, "true"], capture_output=True, text=True)
    assert "Permission denied" in tried.stderr
