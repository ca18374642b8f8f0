"""`install`: an image into the slot that does not run; with `--dry-run` only what it would fetch."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from twinslot.app.updater import JsonObject
from twinslot.cli.host import Host, require_root, updater
from twinslot.cli.options import chosen, reboots
from twinslot.cli.output import Output
from twinslot.cli.progress import Reporter, duration_text, size_text
from twinslot.cli.render import slot_table
from twinslot.cli.result import show
from twinslot.core.errors import CancelledError, TwinslotError
from twinslot.core.lifecycle import State
from twinslot.core.progress import Phase
from twinslot.core.requests import InstallOptions
from twinslot.core.text import printable
from twinslot.core.transaction import Transaction

if TYPE_CHECKING:
    from twinslot.cli.job import Ended
    from twinslot.config.options import Config


def install(arguments: argparse.Namespace, host: Host, output: Output) -> int:
    """Write an image into the slot that does not run. Ctrl-C and SIGTERM stop it in a defined state."""
    from twinslot.cli.job import run_job
    from twinslot.cli.source import opened
    from twinslot.system.cancellation import Cancellation

    config = host.config(arguments.config_root)
    options = chosen(InstallOptions, arguments, reboot=reboots(arguments, config))
    if arguments.dry_run:
        return _dry_run(arguments, options, host, config, output)
    cancelled, reporter = Cancellation(), Reporter(output)

    def stop(first: bool) -> None:
        if not output.as_json:
            output.aside("\ntwinslot: stopping\n" if first else "twinslot: still stopping\n")
        cancelled.set()

    with opened(arguments.image) as source, updater(arguments, host, config) as device:
        ended = run_job(lambda: device.install(source, options, reporter, cancelled), stop)
    reporter.end()
    if ended.signal:
        return _stopped(ended, host, config, output)
    if ended.error is not None:
        raise ended.error
    return show(ended.value, output, more=functools.partial(_after_install, rebooting=bool(options.reboot)))


def _dry_run(arguments: argparse.Namespace, options: InstallOptions, host: Host, config: Config, output: Output) -> int:
    """Say what an install would fetch; nothing is changed."""
    from twinslot.cli.source import opened

    require_root(host, "only root may read what the slots hold", "use 'sudo'")
    with opened(arguments.image) as source:
        found = host.local(config).forecast(source, options)
    if output.as_json:
        output.line({"type": "result", "forecast": found})
    else:
        output.text(map(printable, _forecast_lines(found, config.delta.budget)))
    return 0


def _forecast_lines(found: JsonObject, budget: int) -> Iterator[str]:
    yield f"release {found['release']}, {size_text(found['size'])}"
    parts = [f"{size_text(found[name])} of the {name}" for name in ("patch", "image") if found[name]]
    parts.append(f"{size_text(found['head'])} of heads and lists")
    yield f"  to fetch: {size_text(found['fetch'])}: {', '.join(parts)}"
    yield f"  held by the running slot: {size_text(found['running'])}"
    yield f"  held by the target: {size_text(found['target'])}"
    yield f"  all zero: {size_text(found['zero'])}"
    yield f"  to write: {size_text(found['write'])}"
    yield from _unused_lines(found["unused"])
    if budget:
        yield f"  budget: {size_text(budget)}{', which is not enough' if found['fetch'] > budget else ''}"


def _stopped(ended: Ended[Transaction], host: Host, config: Config, output: Output) -> int:
    """Say how it ended and what the slots hold now."""
    if ended.error is not None and not isinstance(ended.error, TwinslotError):
        raise ended.error
    try:
        status: JsonObject | None = host.local(config).status()
    except TwinslotError:
        status = None
    if ended.error is None:
        hint = "'twinslot cancel' drops it"
        error: TwinslotError = CancelledError(
            "it was too late to stop: the update is complete", code="too-late", hint=hint
        )
    else:
        error = ended.error
    data = ended.value.as_dict() if ended.value else None
    output.error(error, ended.exit_status, slots=status["slots"] if status else None, transaction=data)
    if status and not output.as_json:
        output.text(map(printable, slot_table(status)))
    return ended.exit_status


def _unused_lines(unused: Mapping[str, str]) -> Iterator[str]:
    """What would have saved a part of the download."""
    for what, why in unused.items():
        yield f"  {what} not used: {why}"


def _after_install(transaction: Transaction, *, rebooting: bool) -> Iterator[str]:
    """What was not used, what moved, how long it took, and what comes next."""
    yield from _unused_lines(transaction.unused)
    if transaction.bytes_written or transaction.bytes_skipped:
        order = [str(phase) for phase in Phase]
        phases = sorted(transaction.seconds.items(), key=lambda item: order.index(item[0]) if item[0] in order else 99)
        times = ", ".join(f"{name} {duration_text(seconds)}" for name, seconds in phases)
        counts = [("fetched", transaction.bytes_fetched), ("wrote", transaction.bytes_written)]
        held = [("copied", transaction.bytes_copied), ("left in place", transaction.bytes_skipped)]
        counts += [each for each in (*held, ("zeroed", transaction.bytes_zeroed)) if each[1]]
        yield f"  {', '.join(f'{how} {size_text(count)}' for how, count in counts)}; {times}"
    if transaction.state is State.ARMED and not rebooting:
        yield "reboot to start the trial, or: twinslot activate --reboot"
