"""The verbs. Each recovers first, then feeds the event that it stands for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from twinslot.core.errors import Refusal, RefusedError, TwinslotError
from twinslot.core.events import AuditEvent
from twinslot.core.health import failed, failed_checks, judged
from twinslot.core.lifecycle import ON_TRIAL, Event, State
from twinslot.core.model import CheckResult, Reason
from twinslot.core.policy import Gate, Wish
from twinslot.core.progress import Meter, Observer, Phase, quiet
from twinslot.core.requests import InstallOptions
from twinslot.core.stream import ImageStream
from twinslot.core.text import printable
from twinslot.core.transaction import Transaction
from twinslot.core.waiting import Waiting
from twinslot.engine.edges import Device
from twinslot.engine.fallback import ScrubReport, note_start, scrub
from twinslot.engine.gates import require
from twinslot.engine.install import install
from twinslot.engine.recover import Session, recovered
from twinslot.engine.retire import RetirePlan, retire
from twinslot.engine.revert import begin_revert
from twinslot.engine.sealing import SealReport, seal
from twinslot.engine.waiting import activate, approve, go_on, hold, waits
from twinslot.engine.watch import watch
from twinslot.system.cancellation import Cancellation

if TYPE_CHECKING:  # whoever needs no signature loads no library for it
    from twinslot.trust.device_key import DeviceKey


@dataclass(frozen=True, slots=True)
class BootReport:
    """What a start of the client found.

    Attributes:
        event: The boot event.
        state: Where things stand now.
        transaction: The update that is still open; None when there is none.
        notes: Disagreements that were found, one sentence each; audited.
    """

    event: Event
    state: State
    transaction: Transaction | None
    notes: tuple[str, ...]


_WHY_MAX: Final = 300  # characters that a row keeps of why an order was declined
_NO_TRIAL: Final = (State.IDLE, State.WRITTEN, State.ARMED)  # none of them is left without another boot


class Engine:
    """What a device can be asked to do. Blocking; one at a time (S17). Holds nothing between calls.

    Args:
        device: The edges.
    """

    def __init__(self, device: Device) -> None:
        self._device = device

    def install(
        self,
        stream: ImageStream,
        options: InstallOptions,
        observer: Observer = quiet,
        cancelled: Cancellation | None = None,
    ) -> Transaction:
        """Stream an image into the slot that does not run; unless told otherwise, arm it and reboot.

        Args:
            stream: The image; closed in any case.
            options: See there.
            observer: Told of progress, from this thread.
            cancelled: Set from another thread to stop; the target then stays unbootable.

        Raises:
            TwinslotError: Of any family; the running slot is untouched, and the record says how far it came.
        """
        try:
            with self._device.expecting(), recovered(self._device, "install") as session:
                session.refuse_if_retired()
                return install(session, stream, options, observer, cancelled or Cancellation())
        finally:
            stream.close()

    def activate(self, *, reboot: bool | None = None, outside_window: bool = False) -> Transaction:
        """Arm what was written: see `engine.waiting.activate`."""
        return activate(self._device, reboot=reboot, outside_window=outside_window)

    def approve(self, release: str) -> Transaction:
        """Somebody agrees to the update that waits: see `engine.waiting.approve`."""
        return approve(self._device, release)

    def hold(self, seconds: float) -> Transaction:
        """Somebody puts the update that waits off: see `engine.waiting.hold`."""
        return hold(self._device, seconds)

    def go_on(self) -> Transaction | None:
        """Ask policy again for an update that waits: see `engine.waiting.go_on`."""
        return go_on(self._device)

    def boot(self) -> BootReport:
        """After each start of the system: find out what happened, repair, record. Safe to repeat.

        Raises:
            DeviceError: The boot environment can neither be read nor repaired.
        """
        with recovered(self._device, "boot") as session:
            on_trial = session.environment().trial is self._device.running
            self._device.tell_no_trial(session.update.state in _NO_TRIAL and not on_trial)
            note_start(session)
            self._device.waits.tell(Waiting() if waits(session.update.transaction) else None)
            self._tell_trial(session.update.transaction)
            self._device.watch.mark(on=True)
            return BootReport(session.event, session.update.state, session.update.transaction, session.notes)

    # keeps: S20
    def _tell_trial(self, transaction: Transaction | None) -> None:
        """The product may ask whether it runs on trial before it serves anybody."""
        if transaction is not None and transaction.state in ON_TRIAL:
            self._device.trial.begins(transaction)
        else:
            self._device.trial.is_none()

    # keeps: S6
    def check(self, observer: Observer = quiet) -> Transaction | None:
        """Run the health checks. On trial, a failed required check leaves the new system at once.

        Returns:
            The transaction with the results; None when nothing is on trial.
        """
        with recovered(self._device, "check") as session:
            if session.update.state is not State.TRIAL:
                return None
        results = self._checked(observer)  # without the lock: the deadline must be able to take it
        with recovered(self._device, "check") as session:  # and may have decided meanwhile
            if session.update.state is not State.TRIAL:
                return session.update.transaction
            return _judge(session, results)

    def tell(self, event: AuditEvent, what: str, **fields: Any) -> None:
        """Leave a row and a line of something that was found beside the updates.

        Args:
            event: Its name.
            what: The verb, for whoever loses the lock.
            fields: Those of the event.

        Raises:
            RefusedError: `refused.locked`: another process holds the lock; tell it later.
            DeviceError: There is no place for it now.
        """
        with recovered(self._device, what) as session:
            session.update.announcer.announce(event, None, **fields)

    def seal(self, key: DeviceKey) -> SealReport:
        """Have the device's key vouch for the audit: see `engine.sealing.seal`."""
        return seal(self._device, key)

    def retire(self, plan: RetirePlan, open_key: Callable[[], DeviceKey], reason: str) -> Mapping[str, Any]:
        """Take the device out of service: see `engine.retire.retire`."""
        return retire(self._device, plan, open_key, reason)

    def scrub(self, observer: Observer = quiet) -> ScrubReport:
        """Read the way back whole: see `engine.fallback.scrub`."""
        return scrub(self._device, observer)

    def examine(self, observer: Observer = quiet) -> tuple[CheckResult, ...]:
        """Run the health checks of this device and say what they found; nothing is stored and nothing follows."""
        return self._checked(observer)

    # keeps: S6
    def commit(
        self, *, force: str = "", if_trial: bool = False, may_check: bool = True, observer: Observer = quiet
    ) -> Transaction | None:
        """Keep the system on trial, after its checks.

        Args:
            force: A reason to commit without the checks; audited.
            if_trial: For the unit: no trial is fine, and checks that passed in this boot count.
            may_check: False: they are not run in this process, whatever the device says.
            observer: Told of progress.

        Raises:
            RefusedError: Nothing is on trial; a required check failed (the trial is being left); or the checks have not
                passed in this boot and cannot be run in this process (the trial goes on).
            DeviceError: The commit write did not land; the system stays on trial.
        """
        with recovered(self._device, "commit") as session:
            if session.update.state is not State.TRIAL and if_trial:
                return None
            _require_trial(session)
            if force or self._passed(session, if_trial=if_trial, may_check=may_check and self._device.may_check):
                return _keep(session, force)
        results = self._checked(observer)  # without the lock: the deadline must be able to take it
        with recovered(self._device, "commit") as session:
            _require_trial(session)
            checks = _judge(session, results).checks
            if failed(checks):
                hint = "the system goes back; see 'twinslot history' in the old slot"
                found = failed_checks(checks)
                raise RefusedError(Refusal("unhealthy", "a required health check failed", found=found, hint=hint))
            return _keep(session, "")

    def rollback(self, *, reason: str = "", reboot: bool = True) -> Transaction:
        """On trial: leave it at once. After a commit: read the other slot back and boot it as a trial.

        Args:
            reason: For the audit.
            reboot: False leaves the reboot to the caller.

        Raises:
            RefusedError: The other slot is bad, unknown or below the epoch.
            DeviceError: The other slot no longer holds what was installed.
        """
        with recovered(self._device, "rollback") as session:
            session.refuse_if_retired()
            wish = session.effects.wish = Wish(restart=reboot, revert=True)
            update, machine = session.update, session.machine
            if update.state is State.TRIAL:
                if reboot:
                    require(Gate.RESTART, wish, self._device, update, session.environment())
                update.change(reason=Reason.OPERATOR)
                machine.feed(Event.GO_BACK, why=reason)
                return update.open
            begin_revert(session, wish)
            machine.feed(Event.REVERT, why=reason)
            return update.open

    def watch(self) -> tuple[CheckResult, ...]:
        """Look at the product's signals of the release that was committed last: see `engine.watch.watch`."""
        return watch(self._device)

    def cancel(self) -> Transaction:
        """Drop an installed or armed update that was not booted yet; the target stays unbootable."""
        with recovered(self._device, "cancel") as session:
            if session.update.state not in (State.WRITTEN, State.ARMED):
                raise RefusedError(Refusal("nothing-written", "nothing to cancel", hint="see 'twinslot status'"))
            session.update.change(reason=Reason.CANCELLED)
            dropped = session.update.open
            session.machine.feed(Event.CANCELLED)
            self._device.waits.tell(None)
            return _finished(session, dropped)

    # keeps: S19
    def decline(self, action: str, why: str) -> None:
        """Leave a row of a server's order that cannot be carried out as it stands.

        Args:
            action: Name of the order; it stands in the origin already.
            why: A sentence; one line of it is kept, bounded.

        Raises:
            RefusedError: `refused.order`, with the sentence.
        """
        with recovered(self._device, "order"):
            hint = "correct the order at the server"
            raise RefusedError(Refusal("order", printable(why)[:_WHY_MAX], found=action, hint=hint))

    # keeps: S6
    def _passed(self, session: Session, *, if_trial: bool, may_check: bool) -> bool:
        """Checks that passed in this boot count for the unit, and where they cannot be run (see `Device.may_check`).

        The record says so, or, where it could not keep it, what was noted for this boot.

        Raises:
            RefusedError: `refused.not-checked`: they have not, and cannot be run in this process.
        """
        if not if_trial and may_check:
            return False
        update = session.update.open
        kept = update.boots.get(self._device.boot_id) == "checks"
        passed = not failed(update.checks) if kept else self._device.passed.noted(self._device.boot_id)
        if not passed and not may_check:
            hint = "'systemctl start twinslot-check.service' runs them, or 'twinslot --no-service commit'"
            raise RefusedError(Refusal("not-checked", "the health checks have not passed in this boot", hint=hint))
        return passed

    def _checked(self, observer: Observer) -> tuple[CheckResult, ...]:
        Meter(observer, self._device.monotonic).begin(Phase.CHECK)
        return self._device.run_checks(observer)


def _judge(session: Session, results: tuple[CheckResult, ...]) -> Transaction:
    update, machine = session.update, session.machine
    came_to = update.open.boots | {session.device.boot_id: "checks"}
    checks = judged(results, update.open.required_checks)
    update.change(checks=checks, boots=came_to)
    session.device.passed.note(session.device.boot_id, passed=not failed(checks))
    update.save(AuditEvent.CHECKED, {"well": not failed(checks)})
    if failed(checks):
        update.change(reason=Reason.UNHEALTHY)
        try:
            machine.feed(Event.UNHEALTHY, failed=[each.name for each in failed(checks)])
        except TwinslotError as e:
            e.unhealthy = True
            raise
    return update.open


def _require_trial(session: Session) -> None:
    if session.update.state is not State.TRIAL:
        raise RefusedError(Refusal("not-on-trial", "the running system is not on trial"))


def _keep(session: Session, force: str) -> Transaction:
    """The commit; `force` is the reason to go without checks, empty when they passed."""
    session.update.change(forced=bool(force))
    committed = session.update.open
    session.machine.feed(Event.HEALTHY, **({"force": force} if force else {}))
    session.device.tell_no_trial(True)
    session.device.trial.committed()
    session.device.watch.mark(on=True)
    return _finished(session, committed)


def _finished(session: Session, transaction: Transaction) -> Transaction:
    """The transaction as it was stored when it was closed."""
    nothing: list[Transaction] = []
    stored = session.effects.asked(lambda record: record.history(5), nothing)
    return next((each for each in stored if each.id == transaction.id), transaction)
