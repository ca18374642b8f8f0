"""`decryption-key`: the public half of the key that opens encrypted images, or making the key."""

from __future__ import annotations

import argparse

from twinslot.cli.host import Host, require_root
from twinslot.cli.output import Output


def decryption_key(arguments: argparse.Namespace, host: Host, output: Output) -> int:
    """Show it; with `init` make it first where there is none."""
    require_root(host, "only root reads or makes the decryption key", "use 'sudo'")
    found = host.local(host.config(arguments.config_root)).decryption_key(make=arguments.action == "init")
    if output.as_json:
        output.line({"type": "decryption-key"} | found)
        return 0
    if found["made"]:
        output.aside("twinslot: the decryption key was made\n")
    output.aside(f"{found['kind']} {found['key']}\n")  # standard output is a PEM file that can be used
    output.text([found["public"].rstrip()])
    return 0
