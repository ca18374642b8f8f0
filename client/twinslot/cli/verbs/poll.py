"""`poll`: what the repository has for this device."""

from __future__ import annotations

import argparse

from twinslot.cli.host import Host, require_root
from twinslot.cli.output import Output
from twinslot.cli.render import repository_lines
from twinslot.core.text import printable


def poll(arguments: argparse.Namespace, host: Host, output: Output) -> int:
    """Ask, and show what is known from here on.

    Raises:
        TwinslotError: Why there is no trusted, fresh answer.
    """
    require_root(host, "only root may ask the repository", "use 'sudo'; 'twinslot status' shows what is known")
    device = host.local(host.config(arguments.config_root))
    report = device.poll(if_due=arguments.if_due, service_workers=not arguments.no_service)
    if report.error is not None:
        raise report.error
    known = device.status()["repository"]
    if output.as_json:
        output.line({"type": "poll", "asked": report.asked, "wait": report.wait, "repository": known})
    elif report.asked:
        output.text(map(printable, repository_lines(known)))
    return 0
