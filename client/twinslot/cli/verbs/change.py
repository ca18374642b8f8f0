"""The verbs that change something: through the service, or with `--no-service` in this process."""

from __future__ import annotations

import argparse
import contextlib
import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from twinslot.cli.output import Output
from twinslot.cli.progress import Reporter, duration_text, size_text
from twinslot.cli.render import check_lines, ended_lines, slot_table, transaction_text
from twinslot.cli.world import JsonObject, ServiceClient, World, require_root
from twinslot.core import stored
from twinslot.core.errors import CancelledError, DeviceError, Refusal, RefusedError, TwinslotError
from twinslot.core.health import failed_checks
from twinslot.core.lifecycle import Event, State
from twinslot.core.model import CheckResult
from twinslot.core.outcome import outcome_of
from twinslot.core.progress import Phase
from twinslot.core.text import printable
from twinslot.core.transaction import Transaction

if TYPE_CHECKING:
    from twinslot.cli.job import Ended
    from twinslot.config.options import Config

log = logging.getLogger(__name__)

EVENTS: Final = {
    Event.BOOTED_OLD: "the committed system runs",
    Event.BOOTED_NEW: "the new system runs on trial",
    Event.STILL_ARMED: "the next boot tries the other slot",
    Event.ROLLED_BACK: "the new system was left; the old one runs",
    Event.BOOTED_COMMITTED: "the new system runs and is committed",
    Event.GIVEN_UP: "the new system was given up and still runs; the next boot is the old one",
}


def install(arguments: argparse.Namespace, world: World, output: Output) -> int:
    """Write an image into the slot that does not run. Ctrl-C and SIGTERM stop it in a defined state."""
    from twinslot.cli.job import run_job
    from twinslot.cli.source import opened
    from twinslot.engine.cancellation import Cancellation

    config = world.config(arguments.config_root)
    options = {
        "activate": not arguments.no_activate,
        "reboot": _reboot(arguments, config),
        "retry": arguments.retry,
        "reinstall": arguments.reinstall,
        "ignore_expiry": arguments.ignore_expiry,
    }
    if arguments.dry_run:
        return _dry_run(arguments, options, world, config, output)
    cancelled, reporter = Cancellation(), Reporter(output)

    def stop(first: bool) -> None:
        if not output.as_json:
            output.aside("\ntwinslot: stopping\n" if first else "twinslot: still stopping\n")
        cancelled.set()

    with opened(arguments.image) as source, _client(arguments, world, config) as client:
        ended = run_job(lambda: client.install(source, options, reporter, cancelled), stop)
    reporter.end()
    if ended.signal:
        return _stopped(ended, world, config, output)
    if ended.error is not None:
        raise ended.error
    return _show(ended.value, output, more=functools.partial(_after_install, rebooting=bool(options["reboot"])))


def _dry_run(arguments: argparse.Namespace, options: JsonObject, world: World, config: Config, output: Output) -> int:
    """Say what an install would fetch; nothing is changed."""
    from twinslot.cli.source import opened
    from twinslot.engine.install import InstallOptions

    require_root(world, "only root may read what the slots hold", "use 'sudo'")
    with opened(arguments.image) as source:
        found = world.forecast(config, source, InstallOptions(**options))
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


def _stopped(ended: Ended[JsonObject], world: World, config: Config, output: Output) -> int:
    """Say how it ended and what the slots hold now."""
    if ended.error is not None and not isinstance(ended.error, TwinslotError):
        raise ended.error
    try:
        status: JsonObject | None = world.status(config)
    except TwinslotError:
        status = None
    if ended.error is None:
        hint = "'twinslot cancel' drops it"
        error: TwinslotError = CancelledError(
            "it was too late to stop: the update is complete", code="too-late", hint=hint
        )
    else:
        error = ended.error
    output.error(error, ended.exit_status, slots=status["slots"] if status else None, transaction=ended.value)
    if status and not output.as_json:
        output.text(map(printable, slot_table(status)))
    return ended.exit_status


def activate(arguments: argparse.Namespace, world: World, output: Output) -> int:
    """Start the written slot at the next boot."""
    config, reporter = world.config(arguments.config_root), Reporter(output)
    with _client(arguments, world, config) as client:
        data = client.activate({"reboot": _reboot(arguments, config)}, reporter)
    reporter.end()
    return _show(data, output)


def rollback(arguments: argparse.Namespace, world: World, output: Output) -> int:
    """Leave the trial, or try the other slot again."""
    config, reporter = world.config(arguments.config_root), Reporter(output)
    with _client(arguments, world, config) as client:
        data = client.rollback({"reason": arguments.reason, "reboot": arguments.reboot}, reporter)
    reporter.end()
    return _show(data, output)


def cancel(arguments: argparse.Namespace, world: World, output: Output) -> int:
    """Drop an update that was not booted yet, or stop an install of the service."""
    with _client(arguments, world, world.config(arguments.config_root)) as client:
        data = client.cancel()
    return _show(data, output, nothing="the install was stopped")


def commit(arguments: argparse.Namespace, world: World, output: Output) -> int:
    """Keep the system on trial. `--if-trial` is the unit's, and never uses the bus."""
    config = _config_on_trial(world, arguments) if arguments.if_trial else world.config(arguments.config_root)
    reporter, force = Reporter(output), arguments.force or ""
    if arguments.if_trial:
        require_root(world)
        kept = world.engine(config).commit(force=force, if_trial=True, observer=reporter)
        data = kept.as_dict() if kept else None
    else:
        with _client(arguments, world, config) as client:
            data = client.commit({"force": force}, reporter)
    reporter.end()
    return _show(data, output, nothing="nothing is on trial")


def check(arguments: argparse.Namespace, world: World, output: Output) -> int:
    """Run the health checks: on trial they decide, otherwise they are only reported.

    Raises:
        RefusedError: `refused.unhealthy`: a required one failed; on trial the new system is being left.
    """
    require_root(world)
    config, reporter = _config_on_trial(world, arguments), Reporter(output)
    engine = world.engine(config)
    try:
        found = engine.check(reporter)
    except TwinslotError:  # a refused reboot, perhaps: what was found is told nevertheless
        reporter.end()
        _show_last_checks(world, config, output)
        raise
    if found is None and not arguments.if_trial:
        return _report_checks(engine.examine(reporter), reporter, output)
    reporter.end()
    _show(found.as_dict() if found else None, output, nothing="nothing is on trial")
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


def _show_last_checks(world: World, config: Config, output: Output) -> None:
    with contextlib.suppress(TwinslotError):
        status = world.status(config)
        under_way = status["transaction"]
        if under_way and output.as_json:
            output.line({"type": "result", "transaction": under_way})
        elif under_way:
            output.text(map(printable, check_lines(Transaction.from_dict(under_way).checks)))


def boot(arguments: argparse.Namespace, world: World, output: Output) -> int:
    """After each start: find out what happened, repair, record."""
    require_root(world)
    config = _config_on_trial(world, arguments)
    found = world.engine(config).boot()
    if output.as_json:
        transaction = found.transaction.as_dict() if found.transaction else None
        result: JsonObject = {"type": "result", "event": found.event, "state": found.state, "notes": found.notes}
        output.line(result | {"transaction": transaction})
    else:
        lines = [EVENTS[found.event], *(f"  note: {note}" for note in found.notes)]
        lines += [transaction_text(found.transaction)] if found.transaction else []
        if found.event is Event.ROLLED_BACK:
            lines += _why_left(world, config)
        output.text(map(printable, lines))
    return 0


def _why_left(world: World, config: Config) -> Iterator[str]:
    """How the update ended that this start closed."""
    with contextlib.suppress(TwinslotError):
        for data in world.history(config, 1):
            yield from ended_lines(Transaction.from_dict(data))


def service(arguments: argparse.Namespace, world: World, output: Output) -> int:  # noqa: ARG001 - as all verbs
    """Be the service until it is idle."""
    require_root(world)
    return world.serve(world.config(arguments.config_root))


def _config_on_trial(world: World, arguments: argparse.Namespace) -> Config:
    """The configuration, or what of it a trial needs: a fault in the rest is told, and ends no good trial."""
    try:
        return world.config(arguments.config_root)
    except DeviceError as e:
        if not e.code.startswith("device.config-"):
            raise
        from twinslot.config.trial import load_for_trial

        config, faults = load_for_trial(arguments.config_root)
        for fault in faults:
            log.error("going on without a part of the configuration: %s", fault)  # noqa: TRY400 - it is told in a line
        return config


@contextlib.contextmanager
def _client(arguments: argparse.Namespace, world: World, config: Config) -> Iterator[ServiceClient]:
    """Whoever does it: the service, or with `--no-service` this process."""
    if arguments.no_service:
        require_root(world)
        from twinslot.cli.direct import DirectClient

        yield DirectClient(world, config)
        return
    with contextlib.closing(world.service()) as client:
        yield client


def _reboot(arguments: argparse.Namespace, config: Config) -> bool:
    """What the caller said; otherwise the configuration."""
    return config.install.reboot == "automatic" if arguments.reboot is None else bool(arguments.reboot)


def _show(
    data: JsonObject | None,
    output: Output,
    *,
    nothing: str = "nothing is under way",
    more: Callable[[Transaction], Iterator[str]] = lambda _: iter(()),
) -> int:
    transaction = Transaction.from_dict(data) if data else None
    if output.as_json:
        output.line({"type": "result", "outcome": outcome_of(transaction), "transaction": data})
    elif transaction is None:
        output.text([nothing])
    else:
        lines = (transaction_text(transaction), *check_lines(transaction.checks), *more(transaction))
        output.text(map(printable, lines))
    return 0


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
