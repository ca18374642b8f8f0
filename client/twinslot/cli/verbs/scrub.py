"""`scrub`: is the way back sound?"""

from __future__ import annotations

import argparse

from twinslot.cli.host import Host, require_root
from twinslot.cli.output import Output
from twinslot.cli.progress import Reporter
from twinslot.core.text import printable


def scrub(arguments: argparse.Namespace, host: Host, output: Output) -> int:
    """Read the slot, and show what was found.

    Raises:
        DeviceError: It does not hold what was installed, or cannot be read.
    """
    require_root(host, "only root may read a slot", "use 'sudo'; 'twinslot status' shows when it was read last")
    reporter = Reporter(output)
    report = host.local(host.config(arguments.config_root)).scrub(reporter)
    reporter.end()
    if not report.kept:
        text = f"slot {report.slot} was taken by an update meanwhile: nothing was found out"
    elif report.error is not None:
        report.error.announced = True
        raise report.error
    else:
        text = f"slot {report.slot} holds {report.release} as it was installed"
    if output.as_json:
        output.line({"type": "scrub", "slot": report.slot, "release": report.release, "kept": report.kept})
    else:
        output.text([printable(text)])
    return 0
