"""Small parts of the lab: cache, deadline, bytecode, and the agent talking to its other end."""

from __future__ import annotations

import importlib.util
import os
import py_compile
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import cast

import pytest

import waits
from twinslot_lab.agent import Agent, Hello
from twinslot_lab.board import Board
from twinslot_lab.cache import alone, cached, fingerprint
from twinslot_lab.command import run
from twinslot_lab.deadline import Deadline
from twinslot_lab.errors import BoardError, BuildError, GuestError
from twinslot_lab.growing import GrowingLines
from twinslot_lab.rootfs import ROOTFS, make_bytecode_independent


def writer(name: str, text: str) -> Callable[[Path], None]:
    def write(work: Path) -> None:
        (work / name).write_text(text)

    return write


def test_a_build_that_fails_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    def fail(work: Path) -> None:
        (work / "half").write_text("x")
        raise BuildError("broken")

    with pytest.raises(BuildError):
        cached("thing", "k", fail, base=tmp_path)
    made = cached("thing", "k", writer("whole", "x"), base=tmp_path)
    assert [path.name for path in made.iterdir()] == ["whole"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    (tmp_path / "disk").mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=1m", "none", tmp_path / "disk")
    try:
        yield tmp_path / "disk"
    finally:
        run("umount", tmp_path / "disk")


def writes(work: Path) -> None:
    (work / "large").write_bytes(bytes(2 << 20))


def runs_a_program_that_writes(work: Path) -> None:
    run("dd", "if=/dev/zero", f"of={work / 'large'}", "bs=1M", "count=2")


@pytest.mark.root
@pytest.mark.parametrize("make", [writes, runs_a_program_that_writes])
def test_a_build_on_a_full_disk_says_so_with_what_is_free_and_what_to_do(
    small_disk: Path, make: Callable[[Path], None]
) -> None:
    with pytest.raises(BuildError, match=rf"0 MiB are free in '{small_disk}', and 'thing-k' needs more") as caught:
        cached("thing", "k", make, base=small_disk)
    assert caught.value.hint == "make clean-cache, or a larger disk"


def test_the_first_build_of_a_fresh_checkout_makes_the_cache_too(tmp_path: Path) -> None:
    made = cached("thing", "k", writer("x", "1"), base=tmp_path / "build" / "cache")
    assert (made / "x").read_text() == "1"


def test_what_was_built_is_not_built_again(tmp_path: Path) -> None:
    first = cached("thing", "k", writer("x", "1"), base=tmp_path)
    again = cached("thing", "k", writer("x", "2"), base=tmp_path)
    assert first == again
    assert (again / "x").read_text() == "1"


def test_two_boards_that_are_built_at_once_do_the_same_thing_to_the_host_one_after_the_other(tmp_path: Path) -> None:
    lock, told = tmp_path / "made" / "lock", list[str]()

    def change(name: str) -> None:
        with alone(lock):
            told.append(name)
            time.sleep(0.05)
            told.append(name)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(change, "abcd"))
    assert all(told[at] == told[at + 1] for at in range(0, 8, 2)), told


def in_another_process(name: str, key: str, home: Path) -> Path:
    """A version in the cache that a process made which has ended."""
    program = f"""
from pathlib import Path
from twinslot_lab.cache import cached
print(cached({name!r}, {key!r}, lambda work: None, base=Path({str(home)!r})))
"""
    run(sys.executable, "-c", program)
    return home / f"{name}-{key}"


def test_versions_unused_for_hours_go_and_those_used_lately_and_of_other_names_stay(tmp_path: Path) -> None:
    ages = {("snapshot-x", 0): 0, ("snapshot-x", 7): 7, ("snapshot-x-tall", 7): 7, ("other", 7): 7}
    made = {which: in_another_process(which[0], fingerprint(*which), tmp_path) for which in ages}
    for which, folder in made.items():
        os.utime(folder, (time.time() - ages[which] * 3600,) * 2)
    cached("snapshot-x", fingerprint("now"), writer("x", "1"), base=tmp_path, keep=6 * 3600)
    assert [which for which, folder in made.items() if not folder.exists()] == [("snapshot-x", 7)]


def test_a_version_that_a_process_uses_stays_however_old_until_that_process_ends(tmp_path: Path) -> None:
    key, newer = fingerprint("used"), iter(map(fingerprint, range(2)))
    program = "from pathlib import Path; import sys; from twinslot_lab.cache import cached\n"
    program += "cached('x', sys.argv[1], lambda work: None, base=Path(sys.argv[2])); print(); sys.stdin.read()"
    argv = [sys.executable, "-c", program, key, str(tmp_path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as user:
        assert user.stdout is not None
        while user.stdout.readline().strip():
            pass
        cached("x", next(newer), writer("x", "1"), base=tmp_path, keep=0)
        assert (tmp_path / f"x-{key}").exists()
        user.communicate()
    cached("x", next(newer), writer("x", "2"), base=tmp_path, keep=0)
    assert {folder.name for folder in tmp_path.glob("x-*")} == {f"x-{fingerprint(at)}" for at in range(2)}


def test_what_a_maker_left_that_was_killed_goes_and_what_is_being_made_stays(tmp_path: Path) -> None:
    making, left = (tmp_path / f".x-{fingerprint(name)}.new" for name in ("making", "left"))
    left.mkdir()

    def make(_: Path) -> None:
        cached("x", fingerprint("other"), writer("x", "1"), base=tmp_path)
        assert making.exists()

    cached("x", fingerprint("making"), make, base=tmp_path)
    assert not left.exists()


@pytest.mark.parametrize("change", ["content", "name", "mode", "link"])
def test_a_fingerprint_sees_any_change_below_a_directory(tmp_path: Path, change: str) -> None:
    file = tmp_path / "d" / "x"
    file.parent.mkdir()
    file.write_text("1")
    (file.parent / "link").symlink_to("x")
    before = fingerprint(tmp_path / "d")
    if change == "content":
        file.write_text("2")
    elif change == "name":
        file.rename(file.with_name("y"))
    elif change == "mode":
        file.chmod(0o755)
    else:
        (file.parent / "link").unlink()
        (file.parent / "link").symlink_to("y")
    assert fingerprint(tmp_path / "d") != before


def test_a_missing_program_is_named_with_what_to_do() -> None:
    with pytest.raises(BuildError, match=r"'no-such-program' is not installed \(hint: .*apt-packages"):
        run("no-such-program")


def test_a_failing_program_is_shown_with_what_it_said() -> None:
    with pytest.raises(BuildError, match=r"ended with status 3: because"):
        run("sh", "-c", "echo because >&2; exit 3")


def test_a_deadline_says_what_was_waited_for() -> None:
    with pytest.raises(BoardError, match=r"waited 0.05 s in vain: the moon"):
        Deadline(0.05, "the moon").poll(lambda: False, every=0.01)


@pytest.mark.parametrize("mode", list(py_compile.PycInvalidationMode))
def test_independent_bytecode_is_used_whatever_the_times_are(
    tmp_path: Path, mode: py_compile.PycInvalidationMode
) -> None:
    source = tmp_path / "m.py"
    source.write_text("import sys\nsys.stdout.write('compiled')\n")
    compiled = Path(str(py_compile.compile(str(source), doraise=True, invalidation_mode=mode)))
    make_bytecode_independent(compiled)
    settled = compiled.read_bytes()
    source.write_text("import sys\nsys.stdout.write('from source')\n")
    os.utime(source, (0, 0))
    argv = [sys.executable, "-c", "import m"]
    said = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert said == "compiled"
    assert compiled.read_bytes() == settled


@pytest.fixture(scope="module")
def guest() -> ModuleType:
    path = ROOTFS / "lab" / "usr" / "lib" / "twinslot-lab" / "agent.py"
    spec = importlib.util.spec_from_file_location("guest_agent", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, two = socket.socketpair()
    with one, two:
        yield one, two


@pytest.fixture
def agent(guest: ModuleType, ends: tuple[socket.socket, socket.socket]) -> Iterator[Agent]:
    """The host's end, with the guest's real code behind the other end of a socket."""
    host, far = ends

    def serve() -> None:
        port = far.makefile("rwb", buffering=0)
        guest.serve(port)
        port.close()

    thread = threading.Thread(target=serve)
    thread.start()
    agent = Agent(host, lambda: None)
    assert agent.wait_hello(Deadline(waits.HANG, "hello")).boot
    yield agent
    host.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_the_agent_runs_commands_and_says_how_they_ended(agent: Agent) -> None:
    result = agent.run("sh", "-c", "cat; echo oops >&2; exit 7", text="input")
    assert (result.exit, result.stdout, result.stderr) == (7, "input", "oops\n")


def test_a_command_that_takes_too_long_is_killed_with_its_children(agent: Agent, tmp_path: Path) -> None:
    child, seconds = tmp_path / "child", 0.5
    while not (child.exists() and child.read_text()):  # until the time is enough for a shell to say who its child is
        result = agent.run("sh", "-c", f"sleep 1000 & echo $! >{child}; exec sleep 1000", timeout=seconds)
        assert result.exit == 124
        seconds *= 2
    waits.until(lambda: waits.is_gone(int(child.read_text())))


def test_a_command_that_cannot_start_is_an_error_of_the_guest(agent: Agent) -> None:
    with pytest.raises(GuestError, match="FileNotFoundError"):
        agent.run("/no/such/program")


def test_files_go_there_and_back_in_pieces(agent: Agent, tmp_path: Path) -> None:
    data = os.urandom(700_000)
    agent.put(f"{tmp_path}/new/file", data, mode=0o600)
    assert agent.get(f"{tmp_path}/new/file") == data
    assert (tmp_path / "new" / "file").stat().st_mode & 0o777 == 0o600
    agent.put(f"{tmp_path}/empty", b"")
    assert agent.get(f"{tmp_path}/empty") == b""


def test_a_restart_in_the_middle_of_a_command_is_an_error_and_the_new_boot_is_known(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    host, far = ends
    far.sendall(b'{"id": 1, "ex\n{"hello": "two", "slot": "b"}\n')
    agent = Agent(host, lambda: None)
    with pytest.raises(BoardError, match="started anew"):
        agent.run("true")
    assert agent.hello == Hello("two", "b")


@pytest.mark.parametrize("cause", ["", "QEMU ended"])
def test_a_channel_whose_other_end_is_gone_is_a_broken_board_with_its_cause(cause: str) -> None:
    def check() -> None:
        if cause:
            raise BoardError(cause)

    def asks(agent: Agent) -> None:
        agent.run("true")

    def begins(agent: Agent) -> None:
        agent.start("reboot")

    def goes_on(agent: Agent) -> None:
        agent.resume(Hello("boot", "a"))

    for act in (asks, begins, goes_on):
        host, far = socket.socketpair()
        far.close()
        with host, pytest.raises(BoardError, match=cause or "the agent's channel ended before"):
            act(Agent(host, check))


def test_a_channel_that_is_reset_while_its_answer_is_awaited_is_a_broken_board(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    threading.Timer(0.2, ends[1].close).start()
    with pytest.raises(BoardError, match="the agent's channel ended before: answer to 'true'"):
        Agent(ends[0], lambda: None).run("true")


def test_a_board_that_breaks_is_noticed_while_waiting(ends: tuple[socket.socket, socket.socket]) -> None:
    def broken() -> None:
        raise BoardError("Kernel panic")

    with pytest.raises(BoardError, match="Kernel panic"):
        Agent(ends[0], broken).run("true", timeout=waits.HANG)


class FileOfLines:
    """A board with one file, or without it."""

    def __init__(self) -> None:
        self.data: bytes | None = None
        self.asked: list[int] = []

    def get(self, path: str, offset: int = 0) -> bytes:
        self.asked.append(offset)
        if self.data is None:
            raise GuestError(f"reading '{path}' in the guest: FileNotFoundError: {path}")
        return self.data[offset:]


def test_lines_of_a_growing_file_are_told_once_and_only_when_they_are_whole() -> None:
    board = FileOfLines()
    lines = GrowingLines(cast("Board", board), "/run/x")
    assert lines.new() == []
    board.data = b'{"n": 1}\n{"n": '
    assert lines.new() == [{"n": 1}]
    board.data += b'2}\n{"n": 3}\n'
    assert lines.new() == [{"n": 2}, {"n": 3}]
    assert lines.new() == []
    assert board.asked == [0, 0, 15, 27], "what was read is not read again"
