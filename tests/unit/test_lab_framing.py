"""The agent on a serial console that everybody writes on: frames, noise between and inside them, lost bytes."""

from __future__ import annotations

import json
import os
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import waits
from twinslot_lab.agent import Hello
from twinslot_lab.console import Console
from twinslot_lab.console_link import ConsoleLink
from twinslot_lab.console_server import ConsoleServer
from twinslot_lab.deadline import Deadline
from twinslot_lab.errors import BoardError, GuestError
from twinslot_lab.framing import PART, START, ConsoleFrame, Splitter, decode, frames_of

words = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)
printable = st.text(st.characters(min_codepoint=32, max_codepoint=126))
frames = st.builds(
    lambda kind, id_, part, more, data: ConsoleFrame(kind, id_, part, part + more, data),
    st.sampled_from("HKQARGBNW"),
    words,
    st.integers(0, 99),
    st.integers(1, 99),
    printable,
)
noise = st.binary(max_size=40).filter(lambda raw: START not in raw)


def split(raw: bytes, cuts: list[int]) -> tuple[list[ConsoleFrame], bytes]:
    """What a splitter makes of bytes that come in pieces."""
    splitter, found, text = Splitter(), list[ConsoleFrame](), b""
    for at, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        for item in splitter.feed(raw[at:end]):
            if isinstance(item, ConsoleFrame):
                found.append(item)
            else:
                text += item
    return found, text


@given(st.data(), st.lists(st.tuples(noise, frames), max_size=6), noise)
def test_frames_and_the_text_between_them_come_apart_in_whatever_pieces_they_come(
    data: st.DataObject, spoken: list[tuple[bytes, ConsoleFrame]], last: bytes
) -> None:
    raw = b"".join(text + frame.encode() for text, frame in spoken) + last
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    found, text = split(raw, cuts)
    assert found == [frame for _, frame in spoken]
    assert text == b"".join(said for said, _ in spoken) + last


@given(frames, st.data())
def test_a_frame_that_the_kernel_wrote_into_is_text_and_the_next_one_counts(
    one: ConsoleFrame, data: st.DataObject
) -> None:
    raw, two = one.encode(), ConsoleFrame("B", "next")
    message = b"[   12.345678] mmc0: error -110\r\n"
    at = data.draw(st.integers(1, len(raw) - 1))
    found, text = split(raw[:at] + message + raw[at:] + two.encode(), [])
    assert found == [two]
    assert message in text, "it stays readable"


@given(frames, st.data())
def test_a_frame_that_was_cut_short_by_a_reset_ends_with_the_next_one(one: ConsoleFrame, data: st.DataObject) -> None:
    raw, two = one.encode(), ConsoleFrame("H", "boot", data='{"hello": "x"}')
    at = data.draw(st.integers(1, len(raw) - 1))
    found, text = split(raw[:at] + two.encode(), [])
    assert found == [two]
    assert text == raw[1:at]


@given(frames, st.data())
def test_a_frame_with_one_wrong_byte_is_none(frame: ConsoleFrame, data: st.DataObject) -> None:
    raw = bytearray(frame.encode()[1:-1])
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    assert decode(bytes(raw)) is None


@given(st.binary())
def test_anything_at_all_may_come(raw: bytes) -> None:
    found, _ = split(raw, [])
    assert decode(raw) is None or found is not None


def test_what_cannot_become_a_frame_any_more_is_not_held_back() -> None:
    raw = b"%c" % START + b"x" * 3000
    found, text = split(raw, [])
    assert (found, text) == ([], raw[1:])


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=5 * PART))
def test_a_message_is_the_sum_of_its_parts(message: str) -> None:
    parts = frames_of("Q", "1", message)
    assert "".join(part.data for part in parts) == message
    assert [part.part for part in parts] == list(range(len(parts)))
    assert {part.parts for part in parts} == {len(parts)}
    assert max(len(part.encode()) for part in parts) < 4096 // 2


ROOTFS = Path(__file__).parents[2] / "qemu" / "rootfs"


class Guest:
    """A guest's agent behind a serial line over TCP; what goes over the line may be spoilt on the way.

    Args:
        boot: Its boot id.
        spoil: Gets each piece that is sent in one direction or the other, returns what arrives.
    """

    def __init__(self, boot: str = "one", spoil: Callable[[bytes], bytes] = bytes) -> None:
        self._spoil = spoil
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"socket://127.0.0.1:{self._listener.getsockname()[1]}"
        self.done: list[dict[str, Any]] = []
        self.shells = 0
        self._line: socket.socket | None = None
        self.start(boot)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def start(self, boot: str) -> None:
        """The agent of a (further) start."""
        self.server = ConsoleServer(self._say, self._answer, {"hello": boot, "slot": "a"})

    def greet(self) -> None:
        """Once."""
        self._say(ConsoleFrame("H", "x", data=json.dumps({"hello": "one", "slot": "a"})).encode())

    def _answer(self, line: bytes) -> dict[str, Any]:
        request = json.loads(line)
        self.done.append(request)
        if "get" in request:
            return {"data": request["get"]}
        if request.get("run") == ["broken"]:
            return {"error": "no such program"}
        return {"exit": 0, "stdout": "".join(request.get("run", [])), "stderr": ""}

    def _say(self, data: bytes) -> None:
        self.say(self._spoil(data))

    def say(self, data: bytes) -> None:
        """What the line carries, by whoever."""
        assert self._line is not None
        with suppress(OSError):  # an answer that nobody waits for any more; the test may be over
            self._line.sendall(data)

    def _serve(self) -> None:
        self._line, _ = self._listener.accept()
        with self._line as line, suppress(OSError):  # the host may be gone in the middle of a word
            while data := line.recv(4096):
                self.shells += self.server.feed(self._spoil(data))

    def close(self) -> None:
        self._thread.join()
        self._listener.close()


class Desk:
    """A guest, and the host's console and link to it."""

    def __init__(self, spoil: Callable[[bytes], bytes] = bytes) -> None:
        self.guest = Guest(spoil=spoil)
        self.console = Console(self.guest.url)
        self.link = ConsoleLink(self.console, lambda: None, again=0.1, gap=0.05)

    def close(self) -> None:
        self.console.close()
        self.guest.close()


@pytest.fixture
def desk() -> Iterator[Callable[..., Desk]]:
    with ExitStack() as stack:

        def make(spoil: Callable[[bytes], bytes] = bytes) -> Desk:
            made = Desk(spoil)
            stack.callback(made.close)
            made.link.attach(Deadline(waits.HANG, "hello"))
            return made

        yield make


def spoiler(seed: int) -> Callable[[bytes], bytes]:
    """Every third piece loses a byte, is cut short, or gets a line of the kernel's into its middle."""
    draw = random.Random(seed)

    def spoil(data: bytes) -> bytes:
        at = draw.randrange(len(data))
        match draw.randrange(9):
            case 0:
                return data[:at] + data[at + 1 :]
            case 1:
                return data[:at]
            case 2:
                return data[:at] + b"[    1.234567] random: crng init done\r\n" + data[at:]
            case _:
                return data

    return spoil


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_over_a_bad_line_every_command_is_done_once_and_every_answer_is_whole(
    desk: Callable[..., Desk], seed: int
) -> None:
    bad = desk(spoiler(seed))
    long = "x" * 3000
    for number in range(5):
        assert bad.link.run("echo", str(number), long).stdout == f"echo{number}{long}"
    assert [request["run"][1] for request in bad.guest.done] == [str(number) for number in range(5)]


def test_files_go_there_in_pieces_that_each_arrive(desk: Callable[..., Desk]) -> None:
    good, data = desk(), os.urandom(40_000)
    good.link.put("/file", data, 0o600)
    assert [request["append"] for request in good.guest.done] == [False, True, True, True]
    assert all(request["mode"] == 0o600 for request in good.guest.done)


def test_no_frame_stands_in_the_console_text_and_everything_else_does(desk: Callable[..., Desk]) -> None:
    good = desk()
    good.guest.say(b"U-Boot 2023.01\r\nhalf a line")
    good.link.run("true")
    good.guest.say(b" and the rest\r\n")
    good.console.wait_for("the rest\r\n", Deadline(waits.HANG, "text"))
    assert good.console.text() == "U-Boot 2023.01\r\nhalf a line and the rest\r\n"


def test_a_greeting_that_is_repeated_is_one_start_and_another_boot_is_a_new_one(desk: Callable[..., Desk]) -> None:
    good = desk()
    good.guest.greet()
    good.guest.greet()
    assert good.link.run("true").exit == 0
    good.guest.say(ConsoleFrame("H", "y", data=json.dumps({"hello": "two", "slot": "b"})).encode())
    with pytest.raises(BoardError, match=r"the guest started anew \(slot 'b'\) before: answer to 'true'"):
        good.link.run("true")
    assert good.link.hello == Hello("two", "b")


def test_waiting_for_a_start_passes_over_the_one_that_is_known(desk: Callable[..., Desk]) -> None:
    good = desk()
    good.guest.greet()
    good.guest.say(ConsoleFrame("H", "y", data=json.dumps({"hello": "two", "slot": "b"})).encode())
    assert good.link.wait_hello(Deadline(waits.HANG, "start")).boot == "two"


def test_an_agent_that_was_started_anew_and_forgot_the_request_is_an_error(desk: Callable[..., Desk]) -> None:
    good = desk()
    work = good.guest.server

    def forget(id_: str, text: str) -> None:
        good.guest.start("one")

    work._work = forget  # type: ignore[method-assign]  # the agent dies between the request and its work
    with pytest.raises(BoardError, match="the agent was started anew before: answer to 'true'"):
        good.link.run("true")


def test_a_command_that_cannot_start_is_an_error_of_the_guest(desk: Callable[..., Desk]) -> None:
    with pytest.raises(GuestError, match="no such program"):
        desk().link.run("broken")


def test_a_line_that_ends_is_an_error_at_once(desk: Callable[..., Desk]) -> None:
    good = desk()
    assert good.guest._line is not None
    good.guest._line.shutdown(socket.SHUT_RDWR)
    with pytest.raises(BoardError, match=r"the console ended \(.+\) before: answer|the serial line is gone"):
        good.link.run("true")


def test_a_board_that_breaks_is_noticed_while_waiting(desk: Callable[..., Desk]) -> None:
    def broken() -> None:
        raise BoardError("Kernel panic")

    with pytest.raises(BoardError, match="Kernel panic"):
        ConsoleLink(desk().console, broken).wait_hello(Deadline(waits.HANG, "start"))


def test_a_person_who_types_shell_gets_one_and_other_words_do_nothing(desk: Callable[..., Desk]) -> None:
    good = desk()
    good.console.send("help\rshell")
    good.console.send("\r")
    good.link.run("true")
    assert good.guest.shells == 1


def test_a_line_that_is_not_there_is_named() -> None:
    with pytest.raises(BoardError, match="cannot open the serial line '/dev/no-such-line'"):
        Console("/dev/no-such-line")
