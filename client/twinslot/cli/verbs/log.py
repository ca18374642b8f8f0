"""`log`: what was done to this device, by whom, and what was refused. Root reads the record; others ask the service."""

from __future__ import annotations

import argparse
import contextlib
import signal
import time
from collections.abc import Iterable
from typing import Final

from twinslot.app.updater import JsonObject
from twinslot.cli.host import Host, require_root
from twinslot.cli.output import Output
from twinslot.core.errors import DeviceError
from twinslot.core.text import printable

DEFAULT: Final = 20  # rows, when nothing says how many
EVERY: Final = 1.0  # seconds between two looks of `--follow`


def log(arguments: argparse.Namespace, host: Host, output: Output) -> int:
    """Show the audit, oldest row first.

    Raises:
        DeviceError: `device.audit-chain`: a row was changed or removed after it was written.
    """
    after, since = arguments.since or (0, "")
    limit = arguments.number or (0 if arguments.since else DEFAULT)
    found = _rows(arguments, host, after, since, limit)
    _show(found["rows"], output)
    if found["broken"] is not None:
        raise _broken(int(found["broken"]))
    if arguments.follow:
        try:
            _follow(arguments, host, output, found["rows"][-1]["number"] if found["rows"] else after)
        except KeyboardInterrupt:
            return 128 + signal.SIGINT
    return 0


def _rows(arguments: argparse.Namespace, host: Host, after: int, since: str, limit: int) -> JsonObject:
    if host.is_root() or arguments.no_service:
        require_root(host, "only root may read the audit", "use 'sudo', or leave out '--no-service'")
        return host.local(host.config(arguments.config_root)).log(after, since, limit)
    with contextlib.closing(host.service()) as device:
        return device.log(after, since, limit)


def _follow(arguments: argparse.Namespace, host: Host, output: Output, last: int) -> None:
    """Until interrupted, or until nobody reads."""
    while output.lost is None:
        time.sleep(EVERY)
        rows = _rows(arguments, host, last, "", 0)["rows"]
        _show(rows, output)
        last = rows[-1]["number"] if rows else last


def _show(rows: Iterable[JsonObject], output: Output) -> None:
    if output.as_json:
        for row in rows:
            output.line({"type": "event"} | row)
    elif rows:
        output.text(printable(f"{row['at']} {row['number']:>5}  {row['event']:<20} {row['message']}") for row in rows)


def _broken(number: int) -> DeviceError:
    return DeviceError(
        "the chain of the audit rows is broken",
        code="audit-chain",
        expected="each row follows from the row before it",
        found=f"row {number} does not",
        hint="rows were changed or removed after they were written; keep a copy of the data partition",
    )
