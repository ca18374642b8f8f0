"""Asks policy at a gate, by what is true of the device now. Every caller of a verb passes the same gates."""

from __future__ import annotations

import logging

from twinslot.core.boot_variables import BootState
from twinslot.core.errors import RefusedError
from twinslot.core.lifecycle import ON_TRIAL, State
from twinslot.core.policy import Gate, Go, PolicyFacts, Refuse, Verdict, Wait, Wish, decide
from twinslot.core.slotset import slots_from
from twinslot.engine.edges import Device

log = logging.getLogger(__name__)


# keeps: S7
def require(gate: Gate, wish: Wish, device: Device, under_way: State, state: BootState) -> None:
    """Go on only if the step may be done now.

    Args:
        gate: Before which step.
        wish: What the caller asked for.
        device: The edges.
        under_way: Where the open update stands.
        state: The environment as this step goes by it.

    Raises:
        RefusedError: It may not, or has to wait.
    """
    verdict = _ask(gate, wish, device, under_way, state)
    if not isinstance(verdict, Go):
        raise RefusedError(verdict.why)


def may(gate: Gate, wish: Wish, device: Device, under_way: State, state: BootState | None = None) -> bool:
    """Whether the step may be done now; False: the update waits, and the journal says for what.

    Args:
        gate: As for `require`, and the others.
        wish: See there.
        device: See there.
        under_way: See there.
        state: None where the step must not wait for the environment to be read.

    Raises:
        RefusedError: Policy is against it.
    """
    verdict = _ask(gate, wish, device, under_way, state)
    if isinstance(verdict, Refuse):
        raise RefusedError(verdict.why)
    if isinstance(verdict, Wait):
        log.info("the update waits: %s", verdict.why)
    return isinstance(verdict, Go)


def _ask(gate: Gate, wish: Wish, device: Device, under_way: State, state: BootState | None) -> Verdict:
    running = device.running
    on_trial = under_way in ON_TRIAL or (state is not None and not state.is_kept(running))
    way_back = state.way_back(running) if state else slots_from(running).back()
    return decide(gate, wish, PolicyFacts(running, on_trial, way_back, under_way, device.restarts))
