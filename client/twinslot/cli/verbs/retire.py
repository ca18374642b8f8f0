"""`retire`: take this device out of service, for good."""

from __future__ import annotations

import argparse
import json

from twinslot.cli.host import Host, require_root
from twinslot.cli.output import Output
from twinslot.core.errors import UsageError


def retire(arguments: argparse.Namespace, host: Host, output: Output) -> int:
    """Print the receipt, on one line; nothing of it can be undone, so `--yes` is asked for."""
    require_root(host, "only root may take the device out of service", "use 'sudo'")
    if not arguments.yes:
        what = "keys and data of this device would be destroyed, and no update taken ever after"
        raise UsageError(what, code="missing", hint="give '--yes' if that is meant")
    receipt = host.local(host.config(arguments.config_root)).retire(arguments.reason)
    if output.as_json:
        output.line({"type": "retirement", **receipt})
    else:
        output.data(json.dumps(receipt, sort_keys=True, separators=(",", ":")).encode() + b"\n")
    return 0
