"""`activate`, `commit`, `rollback`, `cancel`: what becomes of an update that was written or is on trial."""

from __future__ import annotations

import argparse

from twinslot.cli.host import Host, config_on_trial, require_root, updater
from twinslot.cli.options import chosen, reboots
from twinslot.cli.output import Output
from twinslot.cli.progress import Reporter
from twinslot.cli.result import show
from twinslot.core.requests import ActivateOptions, CommitOptions, RollbackOptions


def activate(arguments: argparse.Namespace, host: Host, output: Output) -> int:
    """Start the written slot at the next boot."""
    config, reporter = host.config(arguments.config_root), Reporter(output)
    with updater(arguments, host, config) as device:
        found = device.activate(chosen(ActivateOptions, arguments, reboot=reboots(arguments, config)), reporter)
    reporter.end()
    return show(found, output)


def rollback(arguments: argparse.Namespace, host: Host, output: Output) -> int:
    """Leave the trial, or try the other slot again."""
    config, reporter = host.config(arguments.config_root), Reporter(output)
    with updater(arguments, host, config) as device:
        found = device.rollback(chosen(RollbackOptions, arguments), reporter)
    reporter.end()
    return show(found, output)


def cancel(arguments: argparse.Namespace, host: Host, output: Output) -> int:
    """Drop an update that was not booted yet, or stop an install of the service."""
    with updater(arguments, host, host.config(arguments.config_root)) as device:
        found = device.cancel()
    return show(found, output, nothing="the install was stopped")


def commit(arguments: argparse.Namespace, host: Host, output: Output) -> int:
    """Keep the system on trial. `--if-trial` is the unit's, and never uses the bus."""
    config = config_on_trial(host, arguments) if arguments.if_trial else host.config(arguments.config_root)
    options, reporter = chosen(CommitOptions, arguments), Reporter(output)
    if arguments.if_trial:
        require_root(host)
        found = host.local(config).commit(options, reporter)
    else:
        with updater(arguments, host, config) as device:
            found = device.commit(options, reporter)
    reporter.end()
    return show(found, output, nothing="nothing is on trial")
