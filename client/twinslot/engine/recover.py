"""One turn at the device: lock taken, facts gathered, and record and environment brought to agree with them (S12, S17).

Every verb that changes the device begins with `recovered`, once each time that it takes the lock; no query does (S26).
What it finds is the same whether the client starts after a power cut or is asked a second time in the same boot; all
of it may be repeated.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from twinslot.bootloader.base import CopyState
from twinslot.core import boot_variables as bootenv
from twinslot.core.boot_variables import BootState, read_state
from twinslot.core.errors import DeviceError, Refusal, RefusedError, TwinslotError
from twinslot.core.events import AuditEvent
from twinslot.core.lifecycle import Event, State
from twinslot.core.model import Floors, Reason, Release, SlotName, SlotState
from twinslot.core.slotset import slots_from
from twinslot.core.transaction import Outcome, Transaction
from twinslot.engine.anchor import audit_end, tell_break
from twinslot.engine.announce import Announcer
from twinslot.engine.edges import Device
from twinslot.engine.effects import Effects
from twinslot.engine.facts import Facts, RecordFacts
from twinslot.engine.known_environment import KnownEnvironment
from twinslot.engine.machine import Machine
from twinslot.engine.open_update import OpenUpdate, timestamp
from twinslot.storage.record.record import Record

log = logging.getLogger(__name__)


def out_of_service() -> RefusedError:
    """`refused.retired`."""
    hint = "its keys and data were destroyed; make it anew, as in the factory"
    return RefusedError(Refusal("retired", "this device was taken out of service", hint=hint))


@dataclass(slots=True)
class Session:
    """A turn at the device, facts and record in agreement.

    Attributes:
        device: The edges; its boot environment remembers what was read or written last.
        update: The open one, if there is one.
        machine: Drives it.
        effects: What the machine does.
        event: What was found.
        notes: Disagreements that were found, one sentence each.
    """

    device: Device
    update: OpenUpdate
    machine: Machine
    effects: Effects
    event: Event
    notes: tuple[str, ...]
    _known: KnownEnvironment

    @property
    def record(self) -> Record:
        """The record.

        Raises:
            DeviceError: It cannot be opened; only what must not wait for it goes on without.
        """
        if self.update.record is None:
            raise DeviceError("the record is not available", code="record", hint="see 'twinslot doctor'")
        return self.update.record

    def environment(self) -> BootState:
        """The boot environment, as it was read or written last under this lock."""
        return read_state(self._known.last.variables)

    def forget_environment(self) -> None:
        """Time went by under the lock: what is decided next starts from what stands there then."""
        self._known.forget()

    def decide(self, changes: Mapping[str, str]) -> None:
        """Write a decision that belongs to no update, in both copies.

        Raises:
            DeviceError: It did not land.
        """
        self.effects.decide(changes)

    def is_retired(self) -> bool:
        """The device was taken out of service: the environment or the record says so."""
        return self.environment().retired or (self.update.record is not None and self.update.record.is_retired())

    # keeps: REQ-AUD-04
    def refuse_if_retired(self) -> None:
        """A device that was taken out of service takes no update.

        Raises:
            RefusedError: `refused.retired`.
        """
        if self.is_retired():
            raise out_of_service()

    def facts(self) -> Facts:
        """What is true now, the environment as `environment` has it.

        Raises:
            DeviceError: The record cannot be read any more.
        """
        return _gather(self.device, self._known, self.update.record)


# keeps: S3, S17, S19, S26
@contextlib.contextmanager
def recovered(device: Device, what: str) -> Iterator[Session]:
    """Take the lock, gather the facts, and bring record and environment forward.

    A leaving that was cut short asks for its reboot now.

    Args:
        device: The edges.
        what: The verb, for whoever loses the lock.

    Raises:
        RefusedError: `refused.locked`: another process holds the lock.
        DeviceError: The environment cannot be read or repaired.
    """
    announcer, known = Announcer(device.origin), KnownEnvironment(device.bootloader)
    device = replace(device, bootloader=known)
    with _announcing(announcer, what), device.lock(what):
        decided = Facts(device.running, known.read(), None).decided
        record = _open_record(device, announcer, on_trial=decided is None or decided.on_trial(device.running))
        known.audit_end = lambda: audit_end(announcer)
        with contextlib.nullcontext() if record is None else record, _announcing(announcer, what):
            yield _recovered(device, announcer, known)


@contextlib.contextmanager
def _announcing(announcer: Announcer, what: str) -> Iterator[None]:
    """A request that ends with an error leaves a row while the record is open, otherwise a line (S19)."""
    try:
        yield
    except TwinslotError as e:
        announcer.ended(what, e)
        raise


def _open_record(device: Device, announcer: Announcer, *, on_trial: bool) -> Record | None:
    try:
        announcer.record = device.open_record(on_trial)
    except DeviceError as e:  # expected on a full or lost data partition
        announcer.tolerated(e)
    else:
        announcer.told_by_the_record()
    return announcer.record


def _gather(device: Device, known: KnownEnvironment, record: Record | None) -> Facts:
    said = RecordFacts.read(record) if record else None
    return Facts(device.running, known.last, said, device.running_notes, device.boot_id, known.describe())


# keeps: S12
def _recovered(device: Device, announcer: Announcer, known: KnownEnvironment) -> Session:
    """With the record, or where it opens and then cannot be read, without it: it only explains (S12)."""
    try:
        return _recover(device, announcer, known)
    except DeviceError as e:
        if announcer.record is None or not e.code.startswith("device.record"):
            raise
        announcer.record = None  # expected of a medium that fails
        announcer.tolerated(e)
    known.read()
    return _recover(device, announcer, known)


def _recover(device: Device, announcer: Announcer, known: KnownEnvironment) -> Session:
    facts = _gather(device, known, announcer.record)
    found, transaction, event, notes = facts.found, facts.transaction, facts.event, device.running_notes
    assert event is not None  # it is known which slot runs
    update = OpenUpdate(announcer, transaction, device.now)
    effects = Effects(device, update, known)
    machine = Machine(update, effects.table())
    notes += facts.disagreements
    tell_break(announcer, facts.state)
    _close_overtaken(announcer, facts)
    if facts.decided is None:
        _rebuild(device, update, facts)
    elif transaction is None and event in _ADOPTED_AS and not _fell_back(facts.decided, event, device):
        update.begin(_adopt(device, announcer.record, facts.decided, event))
        update.save(AuditEvent.ADOPTED, {"found": event})
    log.debug("found event '%s', state '%s', environment %s", event, update.state, facts.decided)
    _count_boot(device, update, event)
    if transaction is not found and event is Event.BOOTED_OLD:  # nothing else tells why it ended
        update.change(reason=update.open.reason or Reason.NEWER_CLIENT)
    machine.feed(event)
    _bring_forward(known, update)
    for note in notes:  # whatever verb found it; what stays true is told once in each boot (S1, S12)
        announcer.once_in_boot(AuditEvent.DISAGREEMENT, note=note)
    return Session(device, update, machine, effects, event, notes, known)


def _close_overtaken(announcer: Announcer, facts: Facts) -> None:
    """The environment has gone on without the open update."""
    if facts.overtaken and facts.record and facts.record.current:
        closed = replace(facts.record.current, state=State.IDLE, outcome=Outcome.ABANDONED, reason=Reason.OVERTAKEN)
        announcer.note(AuditEvent.OVERTAKEN, closed)


# The state in which an update is taken over when the record has lost it.
_ADOPTED_AS: Final = {
    Event.BOOTED_NEW: State.TRIAL,
    Event.STILL_ARMED: State.ARMED,
    Event.ROLLED_BACK: State.LEAVING,
    Event.GIVEN_UP: State.LEAVING,
}


def _fell_back(state: BootState, event: Event, device: Device) -> bool:
    """That is no update's story.

    Either a committed slot did not start and the script handed over to the other good one; or U-Boot's default started
    a slot that nothing vouches for, and the reboot out of it is still to come.
    """
    left = state.states[_left(state, device.running)]
    handed_over = event is Event.ROLLED_BACK and left is SlotState.GOOD
    return handed_over or (event is Event.GIVEN_UP and not state.reason)


def _adopt(device: Device, record: Record | None, state: BootState, event: Event) -> Transaction:
    """The record was lost: what the environment still tells about the update under way."""
    runs = event in (Event.BOOTED_NEW, Event.GIVEN_UP)
    target = device.running if runs else _left(state, device.running)
    left = event in (Event.ROLLED_BACK, Event.GIVEN_UP) and not state.ended_untold
    sequence = state.failed_sequence if left else state.trial_sequence
    known = next((t for t in record.history() if t.id == state.transaction), None) if record else None
    if known is not None and known.target is target:  # closed in the record, alive in the environment (S12)
        return replace(known, state=_ADOPTED_AS[event], outcome=None, ended="", armed=True)
    return Transaction(
        id=state.transaction if state.transaction and known is None else secrets.token_hex(16),
        state=_ADOPTED_AS[event],
        armed=bool(sequence),
        target=target,
        release=Release("", sequence or 0, state.trial_epoch),
        started=timestamp(device.now()),
        reason=state.reason,
    )


def _left(state: BootState, running: SlotName) -> SlotName:
    """The slot that was armed or left, as the slots' states tell it; of two the other one."""
    order = (SlotState.TRIAL, SlotState.BAD, SlotState.GOOD)
    return min(slots_from(running).others, key=lambda name: order.index(state.states[name]))


def _count_boot(device: Device, update: OpenUpdate, event: Event) -> None:
    """Remember that the client came up in this try, to tell innocent resets from a system that never starts."""
    if event is Event.BOOTED_NEW and update.transaction and device.boot_id not in update.transaction.boots:
        update.change(boots=update.transaction.boots | {device.boot_id: "client"})


# keeps: S8
def _rebuild(device: Device, update: OpenUpdate, facts: Facts) -> None:
    """Write a new environment from the record and from what runs (boot contract, section 3, built-in default)."""
    transaction, record, running = update.transaction, facts.record, device.running
    on_trial = transaction is not None and transaction.target is running
    trial = transaction.release if transaction and on_trial else None
    failed = max(record.failed, default=None) if record else None
    keep, other = running, _other_state(facts, transaction, running)
    if transaction is None and other is SlotState.GOOD and not _vouched_for(facts, running):
        # U-Boot's default could not know: what runs is too old (S8), or was never committed (S6, S13).
        keep, other = slots_from(running).back(), SlotState.BAD
    changes = bootenv.rebuild(
        keep,
        other,
        transaction.id if transaction else "",
        (record.generation if record else 0) + 1,
        record.floors if record else Floors(),
        trial=trial,
        failed=failed,
    )
    if update.record is not None and update.record.is_retired():
        changes["ts_retired"] = "1"
    if facts.state is None:
        device.bootloader.reset(changes)
    else:  # U-Boot has saved its built-in default since
        device.bootloader.write(changes)
        device.bootloader.settle()
    update.announcer.note(AuditEvent.ENVIRONMENT_REBUILT, running=running, kept=keep, on_trial=on_trial)
    if keep is not running:
        device.reboot()


def _other_state(facts: Facts, transaction: Transaction | None, running: SlotName) -> SlotState:
    """Good only if the record vouches for it: it holds a committed release that is not below the epoch."""
    if transaction is not None and transaction.target is running:
        return SlotState.GOOD  # the old system, which was running when the update began
    if transaction is not None:
        return SlotState.BAD
    return SlotState.GOOD if _vouched_for(facts, slots_from(running).back()) else SlotState.BAD


def _vouched_for(facts: Facts, slot: SlotName) -> bool:
    """The record knows a committed release in this slot, not below the epoch."""
    known = facts.holds(slot)
    return bool(known and facts.record and known.release.epoch >= facts.record.floors.epoch)


# keeps: S8
def _bring_forward(environment: KnownEnvironment, update: OpenUpdate) -> None:
    """Repair what can be repaired, and let the record learn what the environment knows."""
    broken = any(copy.state in (CopyState.CORRUPT, CopyState.UNREADABLE) for copy in environment.last.copies)
    behind = update.state in (State.IDLE, State.WRITTEN) and _catch_up(environment, update.record)
    if behind or broken or (update.state is State.IDLE and not environment.last.settled):
        environment.settle()
    if broken:
        update.announcer.note(AuditEvent.ENVIRONMENT_REPAIRED)
    state, record = read_state(environment.last.variables), update.record
    if record is None:
        return
    with contextlib.suppress(DeviceError):  # a full data partition must not stop a boot, a commit or a rollback
        record.saw_generation(state.generation)
        if update.state is State.IDLE:
            record.raise_floors(state.floors)


def _catch_up(environment: KnownEnvironment, record: Record | None) -> bool:
    """Write what the record knows better, into the copy that is older or damaged; whether there was anything."""
    if record is None:
        return False
    state, generation, floors = read_state(environment.last.variables), record.generation(), record.floors()
    behind = state.generation < generation or state.floors != state.floors.highest(floors)
    if behind:
        environment.write(bootenv.catch_up(state, generation, floors))  # told once, not at each start
    return behind
