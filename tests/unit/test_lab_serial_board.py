"""What a user says of a real board, and what is made of it: lines that come and go, power commands that fail."""

from __future__ import annotations

import select
import shlex
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import waits
from twinslot_lab.console import Console
from twinslot_lab.deadline import Deadline
from twinslot_lab.device import RealDevice, open_board
from twinslot_lab.errors import BoardError, LabError
from twinslot_lab.harness_reset import HarnessReset
from twinslot_lab.serial_board import SerialBoard, parse
from waits import until


class Line:
    """A serial line over TCP: what the board says, and whether anybody listens."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"socket://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        self.listening = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            self.listening.set()

    def say(self, text: str) -> None:
        assert self.listening.wait(waits.HANG)
        self._open[-1].sendall(text.encode())

    def wait_for(self, count: int) -> None:
        """Until so many have listened, one after the other."""
        until(lambda: len(self._open) >= count)

    @property
    def connection(self) -> socket.socket:
        return self._open[-1]

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for connection in (self._listener, *self._open):
            connection.close()


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    yield line
    line.close()


def board_on(line: Line, tmp_path: Path, **more: Any) -> dict[str, Any]:
    """TOML data of a board whose power commands write down that they were called."""
    power = {verb: f"sh -c 'echo {verb} >> {tmp_path}/power'" for verb in ("on", "cut", "reset")}
    return {"name": "x", "kind": "real", "console": {"url": line.url}, "power": power} | more


def power_of(tmp_path: Path) -> list[str]:
    return (tmp_path / "power").read_text().split()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"console": {}}, r"table \[console\] has unknown or missing keys: url"),
        ({"console": {"url": "x", "baud": 1}}, r"table \[console\] has unknown or missing keys: baud"),
        ({"power": {"on": "x"}}, r"table \[power\] has unknown or missing keys: cut"),
        ({"colour": "red"}, "the board has unknown or missing keys: colour"),
        ({"quirks": {"rest": "x"}}, r"table \[quirks\] has unknown or missing keys: rest"),
        ({"console": "/dev/ttyS0"}, r"\[console\] is not a table"),
        ({"power": {"on": 1, "cut": "x"}}, r"\[power\] on is not a text"),
    ],
)
def test_a_board_with_a_missing_or_unknown_key_is_refused_by_name(change: dict[str, Any], said: str) -> None:
    whole = {"name": "x", "kind": "real", "console": {"url": "x"}, "power": {"on": "x", "cut": "x"}}
    with pytest.raises(LabError, match=said):
        parse(whole | change)


def test_the_line_is_open_before_the_power_is_on_and_stays_when_it_goes(line: Line, tmp_path: Path) -> None:
    with SerialBoard.open(board_on(line, tmp_path), tmp_path) as board:
        board.power_on()
        line.say("U-Boot 2023.01\r\n")
        board.console.wait_for("U-Boot", Deadline(waits.HANG, "banner"))
        with pytest.raises(BoardError, match="the board is on already"):
            board.power_on()
        board.cut()
        with pytest.raises(BoardError, match="the board is off"):
            board.wait_up(5)
        board.power_on()
        line.say("U-Boot again\r\n")
        board.console.wait_for("again", Deadline(waits.HANG, "banner"))
        board.reset()
    assert power_of(tmp_path) == ["on", "cut", "on", "reset", "cut"]
    assert board.log.read_bytes() == b"U-Boot 2023.01\r\nU-Boot again\r\n"


def test_a_board_without_a_reset_button_loses_its_power_and_gets_it_back(line: Line, tmp_path: Path) -> None:
    data = board_on(line, tmp_path)
    del data["power"]["reset"]
    with SerialBoard.open(data, tmp_path) as board:
        board.power_on()
        board.reset()
    assert power_of(tmp_path) == ["on", "cut", "on", "cut"]


@pytest.mark.slow
def test_a_board_that_cannot_reset_itself_is_reset_when_it_says_so(line: Line, tmp_path: Path) -> None:
    with SerialBoard.open(board_on(line, tmp_path, quirks={"reset": "harness"}), tmp_path) as board:
        board.power_on()
        line.say("[  99.9] reboot: Restarting system\r\n")
        Deadline(waits.HANG, "reset").poll(lambda: "reset" in power_of(tmp_path))
    assert power_of(tmp_path) == ["on", "reset", "cut"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("said", "resets"),
    [
        ("Kernel panic - not syncing: x\r\n[  9.9] Rebooting in 1 seconds..\r\n", 1),
        ("resetting ...\r\n", 1),
        ("reboot: Power down\r\n", 0),
    ],
)
def test_the_harness_resets_once_for_each_end_of_a_system(line: Line, said: str, resets: int) -> None:
    console, pressed = Console(line.url), list[int]()
    watch = HarnessReset(console, lambda: pressed.append(1))
    line.say(said)
    console.wait_for(said[-6:-2], Deadline(waits.HANG, "text"))
    if resets:
        Deadline(waits.HANG, "reset").poll(lambda: bool(pressed))
    watch.close()
    console.close()
    assert (len(pressed), watch.count) == (resets, resets)


def test_a_board_that_does_not_come_up_is_switched_off_and_its_line_let_go(line: Line, tmp_path: Path) -> None:
    device = RealDevice("x", tmp_path / "x.toml", board_on(line, tmp_path))
    panic = threading.Timer(0.2, line.say, ["Kernel panic - not syncing: no init\r\n"])
    panic.start()
    with pytest.raises(BoardError, match="Kernel panic - not syncing: no init"):
        open_board(device, tmp_path, running=True)
    panic.join()
    assert power_of(tmp_path) == ["on", "cut"]
    line.connection.settimeout(waits.HANG)
    assert line.connection.recv(1) == b"", "nobody listens any more"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (f"{shlex.quote(sys.executable)} -c 'import sys; sys.exit(\"no relay\")'", "ended with status 1: no relay"),
        ("/no/such/program on", "No such file"),
    ],
)
def test_a_power_command_that_fails_is_named_with_what_it_said(
    line: Line, tmp_path: Path, command: str, said: str
) -> None:
    data = board_on(line, tmp_path)
    data["power"]["on"] = command
    with SerialBoard.open(data, tmp_path) as board, pytest.raises(BoardError, match=said):
        board.power_on()


def test_what_a_board_says_while_its_line_is_being_opened_is_not_lost(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect_and_be_spoken_to(address: tuple[str, int], timeout: float) -> socket.socket:
        connection = connect(address, timeout)
        line.say("hi")
        assert select.select([connection], [], [], waits.HANG)[0]
        return connection

    connect = socket.create_connection
    monkeypatch.setattr(socket, "create_connection", connect_and_be_spoken_to)
    console = Console(line.url)
    console.wait_for("hi", Deadline(waits.HANG, "a word"))
    console.close()


def test_a_line_that_comes_with_the_power_is_opened_then(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    says = (
        f'import socket; s = socket.create_server(("127.0.0.1", {port})); c, _ = s.accept(); c.send(b"hi"); c.recv(1)'
    )
    on = shlex.join(["sh", "-c", '"$0" -c "$1" & ', sys.executable, says])
    power = {"on": on, "cut": "true"}
    data = {"name": "x", "kind": "real", "console": {"url": f"socket://127.0.0.1:{port}"}, "power": power}
    with SerialBoard.open(data, tmp_path) as board:
        board.power_on()
        board.console.wait_for("hi", Deadline(waits.HANG, "a word"))


def test_a_line_that_went_with_the_power_is_opened_anew_however_late_that_is_seen(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, may_look = threading.Event(), threading.Event()

    def looks_late(console: Console) -> bytes:
        late.set()
        may_look.wait()
        return look(console)

    look = Console._some
    with SerialBoard.open(board_on(line, tmp_path), tmp_path) as board:
        board.power_on()
        line.say("first\r\n")
        board.console.wait_for("first", Deadline(waits.HANG, "a word"))
        monkeypatch.setattr(Console, "_some", looks_late)
        first = board.console
        late.wait()
        board.cut()
        line.connection.shutdown(socket.SHUT_RDWR)
        threading.Timer(0.3, may_look.set).start()
        board.power_on()
        assert board.console is not first
        line.wait_for(2)
        line.say("second\r\n")
        board.console.wait_for("second", Deadline(waits.HANG, "a word"))
