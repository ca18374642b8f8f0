"""What the device would do from a state on, without booting it: the boot model, and the verbs of the client's units."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NoReturn

from twinslot.config import options as config
from twinslot.core.boot_variables import read_state
from twinslot.core.errors import TwinslotError
from twinslot.core.events import AuditEvent
from twinslot.core.lifecycle import State as Step
from twinslot.core.model import CheckResult, SlotName, SlotRecord
from twinslot.core.progress import Observer
from twinslot.core.transaction import Outcome, Transaction
from twinslot.engine.anchor import break_of
from twinslot.engine.edges import Device, Verified
from twinslot.payloads.partition.handler import PartitionPlace
from twinslot.storage.record.record import Record
from twinslot_lab.crash import bootmodel
from twinslot_lab.crash.bootmodel import Card
from twinslot_lab.crash.cardloader import CardBootloader
from twinslot_lab.crash.images import Signed
from twinslot_lab.crash.units import Clock, VerbError, lab_host, run_units

ADOPTED: Final = "the record had lost an update that the environment knew"
_STARTS: Final = 12  # more than any story takes to come to rest


@dataclass(frozen=True, slots=True)
class Slot:
    """What a slot holds in a state: a signed release, or something else that loads or does not."""

    loads: bool
    signed: Signed | None


@dataclass(frozen=True, slots=True)
class FinalState:
    """Where the device came to rest.

    Attributes:
        wrong: What contradicts; empty: nothing.
        running: The slot that runs.
        release: Its release.
        record: `opened`, or `rebuilt`.
        notes: Disagreements that the client found and dealt with.
    """

    wrong: str
    running: str = ""
    release: str = ""
    record: str = ""
    notes: tuple[str, ...] = ()


class _Wrong(Exception):  # noqa: N818 - not an error of the lab's
    """The state is bad; the sentence says why."""


class Life:
    """One device from power-on to rest, in which nothing more goes wrong.

    Args:
        card: The environment.
        slots: What the slots hold; the client does not change them on this way.
        record: Directory of the record; changed.
    """

    def __init__(self, card: Card, slots: Mapping[str, Slot], record: Path) -> None:
        self._boot, self._slots, self._directory = CardBootloader(card), slots, record
        self._running, self._starts = "", 0
        self.wants_reboot = self.no_trial = False
        self._clock = Clock()
        self.host = lab_host(_config(record), self._device, self._clock)
        self._notes: list[str] = []
        self._rebuilt = False
        self._lost = card.now < 0  # then U-Boot cannot know which of two committed slots is the newer one

    def live(self) -> FinalState:
        """Start until nothing more happens, then compare what record, environment and slots say."""
        try:
            while self._starts < _STARTS:
                self._start()
                self._notes += run_units(self.host, self)
                if not self.wants_reboot:
                    return self._final_state()
            raise _Wrong("the device never comes to rest")
        except Exception as e:  # noqa: BLE001 - whatever the client raises here is a finding
            what = "" if isinstance(e, (_Wrong, VerbError, TwinslotError)) else f"{type(e).__name__}: "
            return replace(self._so_far(), wrong=f"{what}{e}")

    def _so_far(self) -> FinalState:
        found = self._slots[self._running].signed if self._running else None
        record = "rebuilt" if self._rebuilt else "opened"
        return FinalState("", self._running, found.name if found else "", record, tuple(self._notes))

    def _start(self) -> None:
        started = bootmodel.power_on(self._boot.card, lambda name: self._slots[name].loads)
        self._boot.card, self._starts = started.card, self._starts + 1
        self.wants_reboot = self.no_trial = False
        if started.slot is None:
            raise _Wrong("no slot can be started")
        self._running = started.slot
        if self._slots[started.slot].signed is None:
            raise _Wrong(f"slot {started.slot} starts and is not what was signed")

    def _final_state(self) -> FinalState:
        state = read_state(self._boot.read().variables)
        with self._open_record() as record:
            waiting, broken = record.current(), record.first_broken_link()
            known, floors = record.slot(SlotName(self._running)), record.floors()
            history = record.history()
            hidden = bool(state.anchor and break_of(record, state.anchor) and record.told_break() != state.anchor.text)
            lost_rows = any(row.event == AuditEvent.AUDIT_BROKEN for row in record.audit_rows(1000))
        signed = self._slots[self._running].signed
        assert signed is not None
        if state.slot != self._running or state.states[state.slot] != "good" or state.counting:
            raise _Wrong(f"slot {self._running} runs, but the environment says {dict(self._boot.card.variables)}")
        if waiting is not None and waiting.state is not Step.WRITTEN:
            raise _Wrong(f"the record still tells of an update that is {waiting.state}")
        if broken is not None:
            raise _Wrong(f"the audit chain is broken at row {broken}")
        if hidden or (lost_rows and not self._rebuilt):
            raise _Wrong(f"rows of the audit are not there that the environment knows of: {state.anchor}")
        if known is None and not self._rebuilt:
            raise _Wrong(f"the record does not know what slot {self._running} holds")
        if known is not None and known.release.name not in ("", signed.name):
            raise _Wrong(f"slot {self._running} holds {signed.name}, the record says {known.release.name}")
        if known is not None and known.payloads and (said := _other_payloads(known, signed)):
            raise _Wrong(f"slot {self._running} holds {signed.name}, and the record says otherwise of {said}")
        if floors != state.floors:
            raise _Wrong(f"the record has floors {floors}, the environment {state.floors}")
        if history and not self._lost and (said := _disagrees(history[0], self._running)):
            raise _Wrong(said)
        if not all(update.release.name for update in history):
            # What is stored before it is done should never be missing.
            self._notes.append(ADOPTED)
        return self._so_far()

    def _device(self) -> Device:
        return Device(
            running=SlotName(self._running),
            boot_id=f"{self._starts:032x}",
            bootloader=self._boot,
            open_record=lambda on_trial: self._open_record(on_trial=on_trial),
            places={slot: {"rootfs": PartitionPlace(Path("slot"), _not_opened, _not_opened)} for slot in SlotName},
            verify=_no_questions,
            run_checks=self._checks,
            may_check=True,
            reboot=self._reboot,
            lock=lambda _: contextlib.nullcontext(),
            compatible=("lab",),
            check_names=frozenset(),
            group_size_max=1 << 20,
            reinstall=False,
            monotonic=self._clock.monotonic,
            now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
            tell_no_trial=self._note_no_trial,
        )

    def _open_record(self, *, on_trial: bool = False) -> Record:
        record = Record(self._directory, lambda: "2026-01-01T00:00:00Z", f"{self._starts:032x}", on_trial=on_trial)
        self._rebuilt = self._rebuilt or record.fresh or bool(record.set_aside)
        return record

    def _checks(self, _: Observer) -> tuple[CheckResult, ...]:
        signed = self._slots[self._running].signed
        assert signed is not None  # otherwise it would not have come so far
        return tuple(CheckResult(name, required=True, passed=signed.well) for name in signed.checks)

    def _reboot(self) -> None:
        self.wants_reboot = True

    def _note_no_trial(self, no_trial: bool) -> None:
        self.no_trial = no_trial


def _disagrees(last: Transaction, running: str) -> str:
    """Whether the newest update ended otherwise than what runs says; empty: it did not."""
    if last.reason == "overtaken" or (last.outcome is Outcome.COMMITTED) == (last.target == running):
        return ""
    return f"slot {running} runs, and the record says of the last update, into slot {last.target}: {last.outcome}"


def _other_payloads(known: SlotRecord, signed: Signed) -> str:
    """The payloads of which the record has another digest than was signed; empty: none."""
    found = {name: payload.digest for name, payload in known.payloads.items()}
    names = sorted(found.keys() | signed.digests.keys())
    return ", ".join(name for name in names if found.get(name) != signed.digests.get(name))


def _config(record: Path) -> config.Config:
    """As much as the verbs ask of it: the edges stand in `Life._device`."""
    return config.Config(
        device=config.DeviceConfig(compatible=("lab",)),
        slots=config.SlotsConfig(a={}, b={}),
        trust=config.TrustConfig(root=Path("/nonexistent"), roles=("lab",)),
        record=config.RecordConfig(directory=record),
    )


def _not_opened(_: Path) -> NoReturn:
    raise _Wrong("the client opens a slot on its way to rest")


def _no_questions(*_: object, **__: object) -> Verified:
    raise _Wrong("the client verifies an image on its way to rest")


def starts_to_come(card: Card, slots: Mapping[str, Slot]) -> Iterator[str]:
    """Which slots start, one after the other, if no client ever comes up; ends when nothing starts."""
    for _ in range(2 * bootmodel.LIMIT + 3):
        started = bootmodel.power_on(card, lambda name: slots[name].loads)
        if started.slot is None:
            return
        card = started.card
        yield started.slot
