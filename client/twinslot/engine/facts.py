"""What is true of this device now: running slot, boot environment, record. Looking changes nothing (S26).

One snapshot, and one reading of it, for all who ask: the verbs that change the device gather it under the update lock
and then recover (`engine.recover`); the queries gather it with `look`, without a lock, as any user.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from twinslot.bootloader.base import Bootloader, ConfiguredBootloader, Environment
from twinslot.bootloader.select import open_bootloader
from twinslot.config.options import Config
from twinslot.core.boot_outcome import BootFacts, classify_boot, disagreements
from twinslot.core.boot_variables import BootState, read_state
from twinslot.core.errors import DeviceError
from twinslot.core.fallback import Fallback, judge_fallback
from twinslot.core.lifecycle import ON_TRIAL, Event, State, step
from twinslot.core.model import UBOOT, Floors, LoaderTraits, SlotName, SlotRecord, SlotState
from twinslot.core.slotset import slots_from
from twinslot.core.transaction import Transaction
from twinslot.storage.lock import this_boot
from twinslot.storage.record.published import Published
from twinslot.storage.record.record import FILE_NAME, Record
from twinslot.storage.running_slot import RunningSlot, find_running_slot


@dataclass(frozen=True, slots=True)
class RecordFacts:
    """What the record says, read at one moment.

    Attributes:
        current: The open update; None when there is none.
        slots: What each known slot holds.
        floors: As the record has them.
        failed: Sequences of releases that rolled back here, with the reason.
        generation: The highest of the boot environment that the record saw.
    """

    current: Transaction | None
    slots: Mapping[SlotName, SlotRecord]
    floors: Floors
    failed: Mapping[int, str]
    generation: int

    @staticmethod
    def read(record: Record | Published) -> RecordFacts:
        """Ask the record; nothing of it is changed.

        Raises:
            DeviceError: `device.record`: it cannot be read now.
        """
        slots = {name: known for name in SlotName if (known := record.slot(name)) is not None}
        return RecordFacts(record.current(), slots, record.floors(), record.failed(), record.generation())


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of this device at one moment, and what follows from it.

    Attributes:
        running: The slot whose partition holds the root file system (S1); None: not known.
        environment: Both copies, read past the cache; None: they could not be read.
        record: What the record says; None: it could not be read.
        notes: What else, such as the kernel's command line, says that another slot runs; one sentence each.
        boot_id: The kernel's id of this boot.
        traits: What the boot loader does by itself.
    """

    running: SlotName | None
    environment: Environment | None
    record: RecordFacts | None
    notes: tuple[str, ...] = ()
    boot_id: str = ""
    traits: LoaderTraits = UBOOT

    @property
    def state(self) -> BootState | None:
        """What the environment says; None when it cannot be read or both copies are lost."""
        return read_state(self.environment.variables) if self.environment and not self.environment.lost else None

    @property
    def decided(self) -> BootState | None:
        """As `state`; None also when U-Boot has saved its built-in default since both copies were lost."""
        state = self.state
        return state if state is not None and state.generation > 0 else None

    @property
    def found(self) -> Transaction | None:
        """The open update as the record has it, unless the environment has gone on without it."""
        return None if self.overtaken else self.record.current if self.record else None

    @property
    def transaction(self) -> Transaction | None:
        """As `found`, in a state of this version's table (S18)."""
        found = self.found
        return found.in_known_state() if found else None

    @property
    def overtaken(self) -> bool:
        """The environment tells of another update than the one that the record has open."""
        current, state = self.record.current if self.record else None, self.decided
        if current is None or state is None or self.running is None:
            return False
        return _overtaken(current.in_known_state(), state, self.running)

    @property
    def event(self) -> Event | None:
        """What a start of the client would find (S12); None when it is not known which slot runs."""
        boot, transaction = self._boot, self.transaction
        if boot is None:
            return None
        if transaction is None:
            return classify_boot(boot, None, "", self.traits)
        armed_in = transaction.boot_id if transaction.armed else ""
        return classify_boot(boot, transaction.target, transaction.id, self.traits, armed_in)

    @property
    def under_way(self) -> State:
        """Where a start of the client would find the open update, by the table."""
        transaction, event = self.transaction, self.event
        state = transaction.state if transaction else State.IDLE
        return step(state, event)[0] if event else state

    @property
    def disagreements(self) -> tuple[str, ...]:
        """Sentences: where running slot, environment and record contradict each other."""
        boot, transaction = self._boot, self.transaction
        if boot is None:
            return ()
        return disagreements(boot, transaction.target if transaction else None, self.traits) + self._went_back

    # keeps: S7
    @property
    def on_trial(self) -> bool:
        """The running system is on trial or given up, by the environment or by the record: the other is needed (S7)."""
        kept = self.running is None or self.state is None or self.state.is_kept(self.running)
        return not kept or self.under_way in ON_TRIAL

    # keeps: S8
    @property
    def floors(self) -> Floors:
        """The higher of environment and record (S8)."""
        known = self.record.floors if self.record else Floors()
        return self.state.floors.highest(known) if self.state else known

    # keeps: S13
    @property
    def failed(self) -> frozenset[int]:
        """Sequences that rolled back here; one is remembered in two places (S13)."""
        in_environment = self.state.failed_sequence if self.state else None
        in_record = frozenset(self.record.failed) if self.record else frozenset()
        return in_record | ({in_environment} if in_environment is not None else set())

    @property
    def target(self) -> SlotName:
        """The slot that the next update is written to; where it is not known which one runs, one as large as any."""
        slots = slots_from(self.running or next(iter(SlotName)))
        return slots.target(self.state.states, self.state.back) if self.state else slots.target()

    @property
    def way_back(self) -> SlotName | None:
        """Where the running system goes back to; None: not known."""
        return self.state.way_back(self.running) if self.state and self.running else None

    @property
    def fallback(self) -> Fallback:
        """Whether that way is proven: read whole, and started from."""
        back = self.way_back
        return judge_fallback(back, self.state.states[back] if self.state and back else None, self.holds(back))

    def holds(self, slot: SlotName | None) -> SlotRecord | None:
        """What the record knows of a slot."""
        return self.record.slots.get(slot) if self.record and slot else None

    @property
    def _boot(self) -> BootFacts | None:
        return BootFacts(self.running, self.boot_id, self.decided) if self.running else None

    @property
    def _went_back(self) -> tuple[str, ...]:
        state, record = self.decided, self.record
        if record is None or state is None or state.generation >= record.generation:
            return ()
        return (f"the environment went back from generation {record.generation} to {state.generation}",)


def _overtaken(transaction: Transaction, state: BootState, running: SlotName) -> bool:
    if state.trial is not None and state.trial is not transaction.target:
        return True
    if state.transaction == transaction.id:
        return False
    decided = transaction.state in (State.ARMED, State.TRIAL, State.COMMITTING, State.LEAVING)
    # Or its first write never landed, and the target runs as what it still is: a good slot.
    untouched = transaction.target is running and state.states[running] is SlotState.GOOD
    return (decided and bool(state.transaction)) or untouched


@dataclass(frozen=True, slots=True)
class View:
    """The facts as a query sees them, and why a part of them is missing. Changes nothing; see `look`.

    Attributes:
        where: The running slot, with the evidence.
        facts: Everything that is known.
        bootloader: As local configuration names it; not to be written with (S26).
        loader_problem: Why it is not known what the boot loader does, so that it counts as U-Boot; empty: it is known.
        record: Open for reading, for what is not in the facts; None: see `record_problem`.
        environment_problem: Why the environment is not known; empty: it is.
        record_problem: Why the record is not known; empty: it is.
    """

    where: RunningSlot
    facts: Facts
    bootloader: ConfiguredBootloader
    record: Record | Published | None
    environment_problem: str = ""
    record_problem: str = ""
    loader_problem: str = ""

    @property
    def retired(self) -> bool:
        """The device was taken out of service: environment or record say so, and either may be lost."""
        state = self.facts.state
        return (state is not None and state.retired) or (self.record is not None and self.record.is_retired())


# keeps: S26
@contextlib.contextmanager
def look(config: Config, find: Callable[..., RunningSlot] | None = None) -> Iterator[View]:
    """Gather the facts for a query: no lock, any user; the record stays open for reading within the block.

    Args:
        config: Of this device.
        find: Finds the running slot; None: asks this machine.
    """
    bootloader = open_bootloader(config.boot)
    environment, environment_problem = _read_environment(bootloader)
    traits, loader_problem = _describe(bootloader)
    with contextlib.ExitStack() as stack:
        record, known, record_problem = _read_record(config, stack)
        slots = {name: config.slots.of(name) for name in SlotName}
        where = (find or find_running_slot)(slots, environment.variables.get("slot") if environment else None)
        facts = Facts(where.slot, environment, known, where.disagreements, this_boot(), traits)
        yield View(where, facts, bootloader, record, environment_problem, record_problem, loader_problem)


# keeps: S26
def open_record(config: Config) -> Record | Published:
    """The record, for reading; for whoever may not read it, what is published of it.

    Raises:
        DeviceError: There is none yet, or it cannot be read.
    """
    directory = config.record.directory
    database = directory / FILE_NAME
    if database.exists() and not os.access(database, os.R_OK, effective_ids=True):
        return Published(directory)
    return Record(directory, lambda: "", read_only=True)


def _read_environment(bootloader: Bootloader) -> tuple[Environment | None, str]:
    try:
        return bootloader.read(), ""
    except DeviceError as e:
        return None, str(e)


def _describe(bootloader: Bootloader) -> tuple[LoaderTraits, str]:
    try:
        return bootloader.describe(), ""
    except DeviceError as e:
        return UBOOT, str(e)


def _read_record(
    config: Config, stack: contextlib.ExitStack
) -> tuple[Record | Published | None, RecordFacts | None, str]:
    try:
        record = open_record(config)
        stack.callback(record.close)
        return record, RecordFacts.read(record), ""
    except DeviceError as e:
        return None, None, str(e)
