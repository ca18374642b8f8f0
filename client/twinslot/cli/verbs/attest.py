"""`attest`: what this device says of itself, signed."""

from __future__ import annotations

import argparse
import contextlib
import json

from twinslot.cli.host import Host, require_root
from twinslot.cli.output import Output


def attest(arguments: argparse.Namespace, host: Host, output: Output) -> int:
    """Print the envelope, on one line: root asks this process, others the service."""
    nonce = arguments.nonce or ""
    if host.is_root() or arguments.no_service:
        require_root(host, "only root may have something signed", "use 'sudo', or leave out '--no-service'")
        found = host.local(host.config(arguments.config_root)).attest(nonce)
    else:
        with contextlib.closing(host.service()) as device:
            found = device.attest(nonce)
    if output.as_json:
        output.line({"type": "attestation"} | found)
    else:
        output.data(json.dumps(found, sort_keys=True, separators=(",", ":")).encode() + b"\n")
    return 0
