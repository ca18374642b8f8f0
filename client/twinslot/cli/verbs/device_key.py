"""`device-key`: the public part of this device's own key, or making the key."""

from __future__ import annotations

import argparse

from twinslot.cli.host import Host, require_root
from twinslot.cli.output import Output


def device_key(arguments: argparse.Namespace, host: Host, output: Output) -> int:
    """Show it; with `init` make it first where there is none."""
    make = arguments.action == "init"
    if make:
        require_root(host, "only root may make the device key", "use 'sudo'")
    found = host.local(host.config(arguments.config_root)).device_key(make=make)
    if output.as_json:
        output.line({"type": "device-key"} | found)
        return 0
    if found["made"]:
        output.aside("twinslot: the device key was made\n")
    output.aside(f"{found['algorithm']} {found['fingerprint']}\n")  # standard output is a PEM file that can be used
    output.text([found["public"].rstrip()])
    return 0
