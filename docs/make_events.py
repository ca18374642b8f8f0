"""Prints docs/events.md and, with `catalog`, systemd/twinslot.catalog from the events of core/events.py."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

from twinslot.core.errors import FIELDS
from twinslot.core.events import COMMON, AuditEvent

PREFACE = """\
# Events

Printed from `client/twinslot/core/events.py` by `make docs`; a test holds this page to the table.

Whatever Twinslot does to a device is announced once, in two places with the same names: a row of the audit table
(`twinslot log`, [D-Bus](dbus.md) `GetLog`) and an entry of the system's journal. Names and fields are never changed;
later versions add some.

    twinslot log --since 2026-11-01
    twinslot log --json --follow
    journalctl -t twinslot -p warning
    journalctl TWINSLOT_TRANSACTION=6e1f... -o verbose
    journalctl -x MESSAGE_ID=...

## The row

`twinslot log --json` prints one object on each line: `number` (ascending, without gaps), `at` (UTC by the device's
clock, which may be wrong), `boot` (the kernel's id of the boot), `event`, `fields`, `message` (a sentence made of
them), `level`, and `hash`, which covers the row and the hash before it. These fields can stand in every row:

| field | meaning |
|---|---|
{common}

A refusal, or a request that failed, may be repeated without end by whoever offers the same image again. The first has
a row, and then the second, the fourth, the eighth and so on in the same boot, with the number in `times`; 32 different
ones are told apart, further ones by their codes. Each has its line in the journal. A refusal before the device is
opened (a caller without rights, a job that is running, the update lock held by another process) has its line only,
and so has `device-key-made`: the key waits for no device to be opened.

## The entry of the journal

`MESSAGE` (the same sentence), `PRIORITY` (6 for `info`, 4 for `warning`, 3 for `error`), `MESSAGE_ID`,
`SYSLOG_IDENTIFIER=twinslot`, `TWINSLOT_EVENT`, and where known `TWINSLOT_TRANSACTION`, `TWINSLOT_STATE`,
`TWINSLOT_SLOT`, `TWINSLOT_RELEASE`, `TWINSLOT_ORIGIN`. Of an error, the fields of the row in capitals: {errors}; the
reasons are JSON, as many as 8 KiB have room for. At the end of an update also what it took: `TWINSLOT_SECONDS_` and the
phase in capitals (wall seconds), and `TWINSLOT_BYTES_FETCHED`, `_WRITTEN`, `_COPIED`, `_SKIPPED` and `_ZEROED`.
No value has control characters. `journalctl -x` explains each from
`/usr/lib/systemd/catalog/twinslot.catalog`. Without a journal the lines go to standard error, each with its priority in
front (sd-daemon(3)).

## The events
"""

CATALOG = """\
# Printed from client/twinslot/core/events.py by 'make docs'. Installed as /usr/lib/systemd/catalog/twinslot.catalog.
"""


def page() -> str:
    """The page as Markdown."""
    common = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in COMMON.items())
    named = ", ".join(f"`TWINSLOT_{name.upper()}`" for name in FIELDS)
    lines = [PREFACE.format(common=common, errors=named)]
    for event in AuditEvent:
        lines += [f"### `{event}`", "", f"{_level(event)}: {event.meaning}.", ""]
        lines += [f"`MESSAGE_ID={event.message_id}`", ""]
        lines += [f"- `{name}`: {meaning}" for name, meaning in event.fields.items()]
        lines += [""] if event.fields else []
    return "\n".join(lines).rstrip() + "\n"


def catalog() -> str:
    """The catalog in the form of https://systemd.io/CATALOG."""
    return CATALOG + "\n".join(line for event in AuditEvent for line in _entry(event)) + "\n"


def _entry(event: AuditEvent) -> Iterator[str]:
    yield ""
    yield f"-- {event.message_id}"
    yield f"Subject: {event.meaning[0].upper()}{event.meaning[1:]}"
    yield "Defined-By: Twinslot"
    yield "Documentation: man:twinslot(1)"
    yield ""
    yield "Update:  @TWINSLOT_TRANSACTION@"
    yield "Release: @TWINSLOT_RELEASE@, slot @TWINSLOT_SLOT@"
    yield "Asked by: @TWINSLOT_ORIGIN@"
    if "code" in event.fields:
        yield "Error:   @TWINSLOT_CODE@"
    yield ""
    if event is AuditEvent.DEVICE_KEY_MADE:  # before any record is opened
        yield "'twinslot device-key show' prints its public part."
        return
    yield f"The audit keeps this as event '{event}': 'twinslot log' shows it with all its fields."
    if event.level > logging.INFO:
        yield "'twinslot status' says what runs now, 'twinslot doctor' what is wrong with the device."


def _level(event: AuditEvent) -> str:
    return logging.getLevelName(event.level).lower()


if __name__ == "__main__":
    print(catalog() if sys.argv[1:] == ["catalog"] else page(), end="")
