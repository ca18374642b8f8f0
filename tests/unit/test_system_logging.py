"""Where log lines go, and that no text from outside forges one."""

from __future__ import annotations

import logging
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import waits
from twinslot.core.journal_entry import encode_entry
from twinslot.system import logs

HOSTILE = "HTTP/1.1 200\r\n<3>twinslot: forged\x1b[2J\x9b31m\u202e"


def decode(data: bytes) -> dict[str, str]:
    """A datagram of the native protocol, as the journal reads it."""
    fields, rest = {}, data
    while rest:
        line, _, rest = rest.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack("<Q", rest[:8])
            value, rest = rest[8 : 8 + length], rest[8 + length + 1 :]
        fields[name.decode()] = value.decode()
    return fields


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "journal"))
        listening.settimeout(waits.HANG)
        yield listening


def record(level: int, message: str, *arguments: object, **more: object) -> logging.LogRecord:
    made = logging.LogRecord("twinslot.x", level, __file__, 7, message, arguments, None, "here")
    made.__dict__ |= more
    return made


def test_an_entry_has_its_fields_and_no_empty_ones() -> None:
    fields = {"MESSAGE": "slot 'b' is armed", "PRIORITY": "6", "TWINSLOT_CODE": ""}
    assert encode_entry(fields) == b"MESSAGE=slot 'b' is armed\nPRIORITY=6\n"


def test_text_with_line_breaks_makes_no_field_of_its_own() -> None:
    data = encode_entry({"MESSAGE": "one\nPRIORITY=0", "PRIORITY": "6"})
    assert decode(data) == {"MESSAGE": "one\nPRIORITY=0", "PRIORITY": "6"}


@pytest.mark.parametrize("name", ["", "_PID", "message", "A=B", "A\nB", "1A"])
def test_a_name_that_the_journal_does_not_take_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="has no field"):
        encode_entry({name: "x"})


def test_a_record_reaches_the_journal_with_priority_and_fields(journal: socket.socket) -> None:
    handler = logs.JournalHandler(Path(journal.getsockname()))
    handler.emit(record(logging.WARNING, "'%s' stays", "a", journal={"TWINSLOT_CODE": "device.record"}))
    handler.close()
    found = decode(journal.recv(1 << 16))
    assert found["MESSAGE"] == "'a' stays"
    assert (found["PRIORITY"], found["SYSLOG_IDENTIFIER"]) == ("4", "twinslot")
    assert (found["TWINSLOT_CODE"], found["CODE_FUNC"], found["CODE_LINE"]) == ("device.record", "here", "7")


def test_what_a_server_said_is_one_line_of_the_journal_without_control_characters(journal: socket.socket) -> None:
    handler = logs.JournalHandler(Path(journal.getsockname()))
    handler.emit(record(logging.INFO, "found '%s'", HOSTILE, journal={"TWINSLOT_RELEASE": HOSTILE}))
    handler.close()
    found = decode(journal.recv(1 << 16))
    for value in (found["MESSAGE"], found["TWINSLOT_RELEASE"].replace("\n", "")):
        assert value.isprintable()


@pytest.mark.parametrize("formatter", [logs.Prefixed(), logs.Named()])
def test_what_a_server_said_is_one_line_on_standard_error(formatter: logging.Formatter) -> None:
    line = formatter.format(record(logging.WARNING, "found '%s'", HOSTILE))
    assert line.isprintable()
    assert line.startswith(("<4>found", "twinslot: warning: found"))


def test_each_line_of_a_traceback_has_the_priority() -> None:
    try:
        raise KeyError("a\n<0>b")
    except KeyError:
        made = record(logging.ERROR, "a fault", exc_info=sys.exc_info())
    assert all(line.startswith("<3>") for line in logs.Prefixed().format(made).split("\n"))


def test_without_a_journal_the_line_goes_to_standard_error(tmp_path: Path) -> None:
    kept: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append(record.getMessage())

    handler = logs.JournalHandler(tmp_path / "nothing", Kept())
    handler.emit(record(logging.ERROR, "no"))
    assert kept == ["no"]


def test_a_journal_that_hangs_holds_nothing_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as full:
        full.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        full.bind(str(tmp_path / "journal"))
        handler = logs.JournalHandler(tmp_path / "journal")
        for _ in range(5000):
            handler.emit(record(logging.INFO, "x" * 1000))
        handler.close()


PROGRAM = """
import logging
from twinslot.system import logs
logs.set_up(worker={worker})
log = logging.getLogger("twinslot.somewhere")
log.debug("debug")
log.info("info")
log.warning("found '%s'", {hostile!r})
"""


def run(*, worker: bool, **environment: str) -> list[str]:
    clean = {name: os.environ[name] for name in os.environ if name not in ("JOURNAL_STREAM", "INVOCATION_ID")}
    command = [sys.executable, "-c", PROGRAM.format(worker=worker, hostile=HOSTILE)]
    result = subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=True)
    return result.stderr.splitlines()


def test_a_worker_of_systemd_gives_each_line_its_priority() -> None:
    info, warning = run(worker=True, JOURNAL_STREAM="8:1")
    assert (info, warning[:10]) == ("<6>info", "<4>found '")


def test_debug_asks_for_the_lines_of_that_level() -> None:
    assert run(worker=True, JOURNAL_STREAM="8:1", TWINSLOT_DEBUG="1")[0] == "<7>debug"


def test_a_person_sees_warnings_only() -> None:
    (line,) = run(worker=True)
    assert line.startswith("twinslot: warning: found '")


def test_a_unit_that_fails_says_so_once_and_as_an_error(tmp_path: Path) -> None:
    """As systemd starts it: without a configuration nothing is announced, so the command says it."""
    environment = {name: value for name, value in os.environ.items() if name != "TWINSLOT_DEBUG"}
    command = [sys.executable, "-m", "twinslot", "--config-root", str(tmp_path), "status"]
    result = subprocess.run(
        command, env=environment | {"JOURNAL_STREAM": "8:1"}, capture_output=True, text=True, check=False
    )
    (line,) = result.stderr.splitlines()
    assert (result.returncode, line[:3]) == (6, "<3>")
    assert "config.toml" in line
