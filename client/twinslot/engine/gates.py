"""Asks policy at a gate, by what is true of the device now. Every caller of a verb passes the same gates."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace

from twinslot.core.boot_variables import BootState
from twinslot.core.errors import DeviceError, RefusedError
from twinslot.core.events import AuditEvent
from twinslot.core.fallback import judge_fallback
from twinslot.core.inhibitors import NOT_ASKED
from twinslot.core.lifecycle import ON_TRIAL
from twinslot.core.model import SlotName
from twinslot.core.policy import Gate, Go, PolicyFacts, Question, Refuse, Verdict, Wait, Wish, decide
from twinslot.core.slotset import slots_from
from twinslot.core.waiting import Waiting
from twinslot.engine.edges import Device
from twinslot.engine.open_update import OpenUpdate, timestamp

log = logging.getLogger(__name__)


# keeps: S7, S20
def require(
    gate: Gate, wish: Wish, device: Device, update: OpenUpdate, state: BootState, *, obstacles: bool = True
) -> None:
    """Go on only if the step may be done now.

    Args:
        gate: Before which step.
        wish: What the caller asked for.
        device: The edges.
        update: Where the open update stands.
        state: The environment as this step goes by it.
        obstacles: Ask what else stands against it; False: that was asked for this step already.

    Raises:
        RefusedError: It may not, or has to wait.
    """
    verdict = _ask(gate, wish, device, update, state, obstacles=obstacles)
    if not isinstance(verdict, Go):
        raise RefusedError(verdict.why)


# keeps: S20
def may(gate: Gate, wish: Wish, device: Device, update: OpenUpdate, state: BootState | None = None) -> bool:
    """Whether the step may be done now; False: the update waits, and journal, audit and status say for what.

    Args:
        gate: As for `require`, and the others.
        wish: See there.
        device: See there.
        update: See there.
        state: None where the step must not wait for the environment to be read.

    Raises:
        RefusedError: Policy is against it.
    """
    verdict = _ask(gate, wish, device, update, state)
    if isinstance(verdict, Refuse):
        raise RefusedError(verdict.why)
    if isinstance(verdict, Wait):
        log.info("the update waits: %s", RefusedError(verdict.why))
    _tell(gate, verdict, device, update)
    return isinstance(verdict, Go)


def _tell(gate: Gate, verdict: Verdict, device: Device, update: OpenUpdate) -> None:
    """What waits for something that may pass is told to who looks; a row and a line come when the reasons change."""
    if not isinstance(verdict, Wait) or not verdict.passes:
        device.waits.tell(None)
        return
    now = timestamp(device.now())
    told, waiting = device.waits.told(), Waiting.of(gate, verdict.why, verdict.until, now)
    device.waits.tell(waiting)
    if told is None or told.codes != waiting.codes or update.unsaved:
        update.save(AuditEvent.WAITS, {"gate": str(gate)} | RefusedError(verdict.why).as_dict())
    if NOT_ASKED.why in verdict.why:
        device.ask_elsewhere()


def _ask(
    gate: Gate, wish: Wish, device: Device, update: OpenUpdate, state: BootState | None, *, obstacles: bool = True
) -> Verdict:
    running = device.running
    on_trial = update.state in ON_TRIAL or (state is not None and not state.is_kept(running))
    way_back = state.way_back(running) if state else slots_from(running).back()
    facts = PolicyFacts(running, on_trial, way_back, update.state, device.restarts)
    verdict = decide(gate, wish, facts)
    if not isinstance(verdict, Go) or not obstacles:
        return verdict
    transaction = update.transaction  # asked last, since programs of the product take their time
    release, change = (transaction.release.name, transaction.change) if transaction else ("", "")
    question = Question(gate, wish, release, change, _verified_date(update), _proven(way_back, state, update))
    return decide(gate, wish, replace(facts, obstacles=device.obstacles(question)))


def _proven(way_back: SlotName, state: BootState | None, update: OpenUpdate) -> str:
    """When the way back was last read whole, as far as environment and record say."""
    known = None
    with contextlib.suppress(DeviceError):
        known = update.record.slot(way_back) if update.record and state else None
    proven = judge_fallback(way_back, state.states[way_back] if state else None, known).proven
    return timestamp(proven) if proven else ""


def _verified_date(update: OpenUpdate) -> str:
    """As the record has it; a record that cannot be read knows of none."""
    with contextlib.suppress(DeviceError):
        return (update.record.document("verified-date") if update.record else None) or ""
    return ""
