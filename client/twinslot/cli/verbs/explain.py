"""`explain`: what an update was, replayed from its rows by the table."""

from __future__ import annotations

import argparse

from twinslot.cli.host import Host, require_root
from twinslot.cli.output import Output
from twinslot.cli.render import account_lines
from twinslot.core.errors import DeviceError
from twinslot.core.text import printable


def explain(arguments: argparse.Namespace, host: Host, output: Output) -> int:
    """Show each row with what the table says of it; ends with 6 where they differ."""
    require_root(host, "only root may read the audit", "use 'sudo'; 'twinslot history' says how updates ended")
    account = host.local(host.config(arguments.config_root)).explain(arguments.transaction)
    if output.as_json:
        output.line({"type": "account"} | account.as_dict())
    else:
        output.text(map(printable, account_lines(account)))
    return DeviceError.exit_status if account.differences else 0
