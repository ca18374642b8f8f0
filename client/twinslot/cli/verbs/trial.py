"""`boot` and `check`: what the units ask after each start of the system."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from twinslot.app.updater import JsonObject
from twinslot.cli.host import Host, config_on_trial, require_root
from twinslot.cli.output import Output
from twinslot.cli.progress import Reporter
from twinslot.cli.render import check_lines, ended_lines, transaction_text
from twinslot.cli.result import show
from twinslot.core import stored
from twinslot.core.errors import Refusal, RefusedError, TwinslotError
from twinslot.core.health import failed_checks
from twinslot.core.lifecycle import Event
from twinslot.core.model import CheckResult
from twinslot.core.text import printable
from twinslot.core.transaction import Transaction

if TYPE_CHECKING:
    from twinslot.config.options import Config

EVENTS: Final = {
    Event.BOOTED_OLD: "the committed system runs",
    Event.BOOTED_NEW: "the new system runs on trial",
    Event.STILL_ARMED: "the next boot tries the other slot",
    Event.ROLLED_BACK: "the new system was left; the old one runs",
    Event.BOOTED_COMMITTED: "the new system runs and is committed",
    Event.GIVEN_UP: "the new system was given up and still runs; the next boot is the old one",
}


def check(arguments: argparse.Namespace, host: Host, output: Output) -> int:
    """Run the health checks: on trial they decide, otherwise they are only reported.

    Raises:
        RefusedError: `refused.unhealthy`: a required one failed; on trial the new system is being left.
    """
    require_root(host)
    config, reporter = config_on_trial(host, arguments), Reporter(output)
    device = host.local(config)
    try:
        found = device.check(reporter)
    except TwinslotError:  # a refused reboot, perhaps: what was found is told nevertheless
        reporter.end()
        _show_last_checks(host, config, output)
        raise
    if found is None and not arguments.if_trial:
        return _report_checks(device.examine(reporter), reporter, output)
    reporter.end()
    show(found, output, nothing="nothing is on trial")
    if found and (failed := failed_checks(found.checks)):
        hint = "the system goes back; see 'twinslot history' in the old slot"
        raise RefusedError(Refusal("unhealthy", "a required health check failed", found=failed, hint=hint))
    return 0


def _report_checks(results: Sequence[CheckResult], reporter: Reporter, output: Output) -> int:
    """Outside of a trial nothing follows from them but the exit status."""
    reporter.end()
    if output.as_json:
        output.line({"type": "result", "transaction": None, "checks": list(map(stored.write, results))})
    else:
        summary = "nothing is on trial; the health checks say:" if results else "no health check is configured"
        output.text(map(printable, (summary, *check_lines(results))))
    if failed := failed_checks(results):
        hint = "on trial, this would end the trial"
        raise RefusedError(Refusal("unhealthy", "a required health check failed", found=failed, hint=hint))
    return 0


def _show_last_checks(host: Host, config: Config, output: Output) -> None:
    with contextlib.suppress(TwinslotError):
        status = host.local(config).status()
        under_way = status["transaction"]
        if under_way and output.as_json:
            output.line({"type": "result", "transaction": under_way})
        elif under_way:
            output.text(map(printable, check_lines(Transaction.from_dict(under_way).checks)))


def boot(arguments: argparse.Namespace, host: Host, output: Output) -> int:
    """After each start: find out what happened, repair, record."""
    require_root(host)
    config = config_on_trial(host, arguments)
    found = host.local(config).boot()
    if output.as_json:
        transaction = found.transaction.as_dict() if found.transaction else None
        result: JsonObject = {"type": "result", "event": found.event, "state": found.state, "notes": found.notes}
        output.line(result | {"transaction": transaction})
    else:
        lines = [EVENTS[found.event], *(f"  note: {note}" for note in found.notes)]
        lines += [transaction_text(found.transaction)] if found.transaction else []
        if found.event is Event.ROLLED_BACK:
            lines += _why_left(host, config)
        output.text(map(printable, lines))
    return 0


def _why_left(host: Host, config: Config) -> Iterator[str]:
    """How the update ended that this start closed."""
    with contextlib.suppress(TwinslotError):
        for data in host.local(config).history(1):
            yield from ended_lines(Transaction.from_dict(data))
