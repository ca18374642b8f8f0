"""`report`: tell the maker what became of updates. `metrics`: figures for a monitoring system."""

from __future__ import annotations

import argparse
from typing import Any

from twinslot.cli.host import Host, require_root
from twinslot.cli.output import Output
from twinslot.core.text import printable


def report(arguments: argparse.Namespace, host: Host, output: Output) -> int:
    """Tell every destination what is new, or write it into a directory.

    Raises:
        TwinslotError: Why a destination did not take it.
    """
    require_root(host, "only root may read the audit and sign as this device", "use 'sudo'")
    device = host.local(host.config(arguments.config_root))
    if arguments.output is not None:
        run = device.report_to(arguments.output)
    else:
        run = device.report(if_due=arguments.if_due, service_workers=not arguments.no_service)
    if run.error is not None:
        raise run.error
    if output.as_json:
        found: dict[str, Any] = {"type": "report", "sent": run.sent, "wait": run.wait, "why": run.why or None}
        output.line(found)
        return 0
    output.text(printable(f"{name}: {_count(count)}") for name, count in run.sent.items())
    if run.why:
        output.text([run.why])
    return 0


def _count(count: int) -> str:
    return "nothing is new" if not count else "1 report" if count == 1 else f"{count} reports"


def metrics(arguments: argparse.Namespace, host: Host, output: Output) -> int:
    """Print the figures, or replace a file by them.

    Raises:
        DeviceError: `device.report-files`: the file cannot be written.
    """
    device = host.local(host.config(arguments.config_root))
    if arguments.output is not None:
        device.metrics_to(arguments.output)
        if output.as_json:
            output.line({"type": "metrics", "file": str(arguments.output)})
    elif output.as_json:
        output.line({"type": "metrics", "text": device.metrics()})
    else:
        output.text(device.metrics().splitlines())
    return 0
