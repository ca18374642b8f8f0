"""What each effect of the table does. Each may be done twice and leaves the same behind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any, TypeVar

from twinslot.core import boot_variables as bootenv
from twinslot.core.boot_outcome import why_left
from twinslot.core.boot_variables import BootState, read_state
from twinslot.core.errors import DeviceError, LifecycleError, TwinslotError
from twinslot.core.events import AuditEvent
from twinslot.core.lifecycle import Effect, Event
from twinslot.core.model import Floors, Reason, SlotName, SlotRecord, SlotState
from twinslot.core.policy import Gate, Wish
from twinslot.core.transaction import Outcome
from twinslot.engine.content import ImageInstall
from twinslot.engine.edges import Device
from twinslot.engine.gates import may, require
from twinslot.engine.known_environment import KnownEnvironment
from twinslot.engine.machine import Perform
from twinslot.engine.open_update import OpenUpdate, timestamp
from twinslot.engine.places import check_target
from twinslot.payloads.base import PayloadPlace
from twinslot.storage.record.record import Record

T = TypeVar("T")


class Effects:
    """The effects, bound to one device and one update.

    Args:
        device: The edges.
        update: Whose places and variables are meant.
        environment: What stands in the boot environment, and the means to decide.

    Attributes:
        job: The image being installed, for PREPARE and WRITE; None otherwise.
        wish: What the caller asked for.
    """

    def __init__(self, device: Device, update: OpenUpdate, environment: KnownEnvironment) -> None:
        self._device, self._update, self._known = device, update, environment
        self.job: ImageInstall | None = None
        self.wish = Wish()

    def table(self) -> Mapping[Effect, Perform]:
        """Each effect with what does it."""
        return {
            Effect.PREPARE: self.prepare,
            Effect.WRITE: self.write,
            Effect.CHECK_TARGET: self.check_target,
            Effect.ABANDON: self.abandon,
            Effect.ARM: self.arm,
            Effect.REBOOT: self.reboot,
            Effect.DISARM: self.disarm,
            Effect.COMMIT: self.commit,
            Effect.GIVE_UP: self.give_up,
            Effect.STOP_COUNTING: self.stop_counting,
            Effect.CLOSE_COMMITTED: self.close_committed,
            Effect.CLOSE_ROLLED_BACK: self.close_rolled_back,
        }

    # Filling the target

    # keeps: S4
    def prepare(self) -> None:
        """Mark the target bad in both copies, then wipe its first groups (S4, S5)."""
        transaction, job = self._update.open, self._need_job()
        if transaction.target is self._device.running:
            raise LifecycleError("the running slot was chosen as target", code="target", found=transaction.target)
        state = self._environment()
        require(Gate.WRITE, self.wish, self._device, self._update, state, obstacles=False)  # asked before
        self._decide(bootenv.prepare(state, transaction.target, transaction.id), settle=True)
        if self._update.record:  # only now: until the environment says bad, the old release there is the way back
            self._update.record.forget_slot(transaction.target)
        self._timed("prepare", job.wipe)

    def write(self) -> Event:
        """Stream the groups in, read everything back, write the first groups last."""
        job = self._need_job()
        try:
            self._timed("write", job.write)
            self._timed("read-back", job.read_back)
            self._timed("finish", job.finish)
        finally:
            moved = asdict(job.moved)
            self._update.change(unused=job.unused, **{f"bytes_{how}": count for how, count in moved.items()})
        self._update.change(boot_id=self._device.boot_id)
        return Event.VERIFIED

    def check_target(self) -> Event:
        """Read the target back against the digests that were stored when it was installed."""
        transaction = self._update.open
        self._timed("read-back", lambda: check_target(self._device, transaction))
        self._update.change(boot_id=self._device.boot_id)
        return Event.VERIFIED

    def abandon(self) -> None:
        """Close the transaction; the target stays as it is (bad, if it was being filled)."""
        reason = self._update.open.reason or Reason.INTERRUPTED
        self._revert()
        self._update.close(AuditEvent.ABANDONED, outcome=Outcome.ABANDONED, reason=reason)

    # Switching

    def arm(self) -> None:
        """The one write that makes the target next. Not settled: if this copy is lost, the other boots the old."""
        transaction = self._update.open
        for place in self._places():
            place.switch()
        target, back = transaction.target, self._device.running
        changes = bootenv.arm(self._environment(), target, transaction.id, transaction.release, back)
        self._timed("arm", lambda: self._decide(changes, settle=False))

    def disarm(self) -> None:
        """Nothing points at the target any more, and it is bad."""
        transaction, state = self._update.open, self._environment()
        whole = transaction.kind == "rollback" and transaction.armed
        self._decide(
            bootenv.disarm(state, transaction.target, self._device.running, transaction.id, whole=whole), settle=True
        )
        record = self._update.record
        if record is not None and not whole:
            self._tolerate(lambda: record.forget_slot(transaction.target))

    def reboot(self) -> None:
        """Ask for a reboot, unless policy says that it waits."""
        if may(Gate.RESTART, self.wish, self._device, self._update):
            self._device.reboot()

    # keeps: S8
    def commit(self) -> Event:
        """The one write that keeps the target and raises the floors (S6, S8), then the other copy."""
        transaction, state = self._update.open, self._environment(anew=True)
        if transaction.target is not self._device.running:
            raise LifecycleError("commit is only possible from inside the new system", code="commit")
        floors, sequence = self._floors_after(state), transaction.release.sequence
        changes = bootenv.commit(state, transaction.target, transaction.id, floors, self._epochs(), sequence)
        self._decide(changes, settle=False)
        self._try_settle()
        return Event.COMMITTED

    # keeps: S6
    def give_up(self) -> None:
        """Leave the target for good; the next boot is the other slot, its tries counted."""
        transaction, state = self._update.open, self._environment(anew=True)
        failed = transaction.release.sequence if transaction.armed else None
        reason = transaction.reason or Reason.ENVIRONMENT
        changes = bootenv.give_up(state, transaction.target, transaction.id, failed, reason)
        self._decide(changes, settle=True)

    def stop_counting(self) -> None:
        """The running slot stays; tries are no longer counted."""
        state = self._environment()
        if state.counting or state.slot is not self._device.running or state.ended_untold:
            changes = bootenv.stop_counting(state, self._device.running, state.transaction, self._why())
            self._decide(changes, settle=True)

    # Telling what happened

    # keeps: S10
    def close_committed(self) -> None:
        """Record what the slot now holds, raise the record's floors, migrate the record, forget old failures."""
        transaction, record = self._update.open, self._update.record
        if record is not None:
            state = self._environment()
            self._tolerate(lambda: record.save_slot(self._slot_record(record)))
            self._tolerate(lambda: record.raise_floors(state.floors.highest(transaction.floors)))
            self._tolerate(lambda: record.forgive(transaction.release.sequence))
            self._tolerate(lambda: record.keep_documents(self._pending_documents()))
        for place in self._places():
            self._tolerate(place.commit)
        self._update.close(AuditEvent.COMMITTED, outcome=Outcome.COMMITTED, reason="")
        if record is not None:
            self._tolerate(record.migrate)
        if transaction.kind == "install":
            self._device.consent.settle()

    # keeps: S6
    def close_rolled_back(self) -> None:
        """Record why the target was left, and never try that release again unasked (S13).

        Without a transaction it was no update: a committed slot did not start, and the other good one has its turn.
        """
        transaction, record = self._update.transaction, self._update.record
        reason = self._why()
        if transaction is None:
            self._update.announcer.note(AuditEvent.FELL_BACK, to=self._device.running, reason=reason)
            return
        if record is not None and transaction.armed and transaction.release.sequence:
            self._tolerate(lambda: record.add_failed(transaction.release.sequence, reason, transaction.id))
        self._revert()
        outcome = Outcome.ROLLED_BACK if transaction.armed else Outcome.ABANDONED
        self._update.close(AuditEvent(outcome), outcome=outcome, reason=reason)

    # Plumbing

    def _places(self) -> Iterable[PayloadPlace]:
        """Of the target, whatever types of payloads they keep."""
        return self._device.places[self._update.open.target].values()

    # keeps: S12
    def _revert(self) -> None:
        """Of a target that the environment calls bad: one that is good is the way back, and stays as it is."""
        target = self._update.open.target

        def revert() -> None:
            if self._environment().states[target] is SlotState.BAD:
                for place in self._places():
                    self._tolerate(place.revert)

        self._tolerate(revert)

    def _slot_record(self, record: Record) -> SlotRecord:
        """What the slot holds from now on. An older entry is still there only if the slot was not written (S18)."""
        transaction, before = self._update.open, record.slot(self._update.open.target)
        now = timestamp(self._device.now())
        return SlotRecord(
            transaction.target,
            transaction.release,
            transaction.payloads,
            transaction.id,
            now,
            read_at=transaction.started,  # it was read back since, before it was armed
            started_at=now,
            started_in=self._device.boot_id,
            unknown=before.unknown if before else {},
        )

    def _why(self) -> str:
        """The reason, stored or found (`why_left`)."""
        transaction, known = self._update.transaction, self._known
        stored, boots = (transaction.reason, len(transaction.boots)) if transaction else ("", 0)
        return why_left(read_state(known.last.variables), known.describe(), stored, boots)

    def _epochs(self) -> dict[SlotName, int]:
        """Security epoch of what each slot holds, as far as the record knows."""
        known = {name: self.asked(lambda record, name=name: record.slot(name), None) for name in SlotName}  # type: ignore[misc]
        return {name: slot.release.epoch for name, slot in known.items() if slot}

    def _floors_after(self, state: BootState) -> Floors:
        """Never lower than what any place says, nor than the release that is being kept."""
        release = self._update.open.release
        own = Floors(
            max(release.sequence, state.trial_sequence or 0) if self._update.open.kind == "install" else 0,
            max(release.epoch, state.trial_epoch),
        )
        floors = self._update.open.floors.highest(own)
        return floors.highest(self.asked(lambda record: record.floors(), Floors()))

    def _pending_documents(self) -> dict[str, str]:
        transaction = self._update.open.id
        return self.asked(lambda record: record.pending_documents(transaction), {})

    def asked(self, ask: Callable[[Record], T], otherwise: T) -> T:
        """What the record says; where it cannot be read any more, what holds without it (S12)."""
        if self._update.record is None:
            return otherwise
        try:
            return ask(self._update.record)
        except DeviceError as e:
            self._update.announcer.tolerated(e)
            return otherwise

    def _environment(self, *, anew: bool = False) -> BootState:
        """What stands there; `anew` for what ends a trial: it has to start from this very moment."""
        environment = self._known.read() if anew else self._known.last
        if environment.lost:
            raise DeviceError(
                "both copies of the boot environment are lost", code="env-lost", hint="run 'twinslot boot' to repair it"
            )
        return read_state(environment.variables)

    def decide(self, changes: Mapping[str, str]) -> None:
        """A decision that belongs to no update."""
        self._decide(changes, settle=True)

    def _decide(self, changes: Mapping[str, str], *, settle: bool) -> None:
        self._known.write(changes)
        record = self._update.record
        if record is not None:
            self._tolerate(lambda: record.saw_generation(int(changes["ts_generation"])))
        if settle:
            self._known.settle()

    def _try_settle(self) -> None:
        """After the decision has landed, a failure to settle is only worth a note: the next start settles."""
        self._tolerate(self._known.settle)

    # keeps: S12
    def _tolerate(self, do: Callable[[], object]) -> None:
        """The environment has decided; what only explains may fail (S12)."""
        try:
            do()
        except TwinslotError as e:
            self._update.announcer.tolerated(e)

    def _timed(self, phase: str, do: Callable[[], Any]) -> None:
        """What takes long: measured, and what was known of the environment before is not relied on after."""
        began = self._device.monotonic()
        try:
            do()
        finally:
            self._known.forget()
            seconds = self._device.monotonic() - began
            self._update.transaction = self._update.open.with_seconds(phase, seconds)

    def _need_job(self) -> ImageInstall:
        if self.job is None:
            raise LifecycleError("there is no image to write", code="job")
        return self.job
