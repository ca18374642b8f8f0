"""`service`: what the bus starts."""

from __future__ import annotations

import argparse

from twinslot.cli.host import Host, require_root
from twinslot.cli.output import Output


def service(arguments: argparse.Namespace, host: Host, output: Output) -> int:  # noqa: ARG001 - as all verbs
    """Be the service until it is idle."""
    require_root(host)
    return host.serve(host.config(arguments.config_root), arguments.config_root)
