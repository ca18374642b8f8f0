"""`continue`, `approve`, `hold`, `watch`: what becomes of an update that waits by the device's own policy."""

from __future__ import annotations

import argparse

from twinslot.cli.host import Host, require_root, updater
from twinslot.cli.output import Output
from twinslot.cli.render import check_lines
from twinslot.cli.result import show
from twinslot.core import stored
from twinslot.core.errors import RefusedError
from twinslot.core.text import printable
from twinslot.core.transaction import Transaction


def continue_(arguments: argparse.Namespace, host: Host, output: Output) -> int:
    """Arm or restart into what waits, if that may be done now. Never by the bus: programs of the product are asked."""
    require_root(host, "only root may let an update go on", "use 'sudo'")
    device = host.local(host.config(arguments.config_root))
    try:
        found: Transaction | None = device.go_on()
    except RefusedError as e:
        if not arguments.if_waiting or e.code != "refused.locked":
            raise
        return 0  # whoever holds the lock passes the gates, too
    return show(found, output)


def approve(arguments: argparse.Namespace, host: Host, output: Output) -> int:
    """Agree to the update that waits."""
    with updater(arguments, host, host.config(arguments.config_root)) as device:
        found = device.approve(arguments.release)
    return show(found, output)


def hold(arguments: argparse.Namespace, host: Host, output: Output) -> int:
    """Put the update that waits off."""
    with updater(arguments, host, host.config(arguments.config_root)) as device:
        found = device.hold(arguments.until)
    return show(found, output)


def watch(arguments: argparse.Namespace, host: Host, output: Output) -> int:
    """Look at the signals of the release that was committed last. Never by the bus: the product is asked."""
    require_root(host, "only root may watch a release", "use 'sudo'")
    results = host.local(host.config(arguments.config_root)).watch()
    if output.as_json:
        output.line({"type": "watch", "signals": [stored.write(each) for each in results]})
    else:
        output.text(map(printable, check_lines(results)))
    return 0
