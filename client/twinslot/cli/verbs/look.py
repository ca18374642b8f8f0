"""The verbs that only look: `status`, `history`, `doctor`. No bus, no lock, any user."""

from __future__ import annotations

import argparse
from typing import Final

from twinslot.cli.host import Host
from twinslot.cli.output import Output
from twinslot.cli.render import doctor_lines, history_lines, status_lines
from twinslot.core.text import printable

FAULTY: Final = 6  # `doctor` found a fault: as DeviceError


def status(arguments: argparse.Namespace, host: Host, output: Output) -> int:
    """Slots, releases, and what is under way."""
    data = host.local(host.config(arguments.config_root)).status()
    if output.as_json:
        output.line({"type": "status"} | data)
    else:
        output.text(map(printable, status_lines(data)))
    return 0


def history(arguments: argparse.Namespace, host: Host, output: Output) -> int:
    """Past updates, newest first."""
    transactions = host.local(host.config(arguments.config_root)).history(arguments.number)
    if output.as_json:
        output.line({"type": "history", "transactions": transactions})
    else:
        output.text(map(printable, history_lines(transactions)))
    return 0


def doctor(arguments: argparse.Namespace, host: Host, output: Output) -> int:
    """All evidence; ends with 6 when something is broken."""
    diagnosis = host.local(host.config(arguments.config_root)).doctor()
    if output.as_json:
        output.line({"type": "doctor"} | diagnosis.as_dict())
    else:
        output.text(map(printable, doctor_lines(diagnosis.as_dict())))
    return 0 if diagnosis.healthy else FAULTY
