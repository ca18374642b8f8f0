"""Going back after a commit: the other, committed slot is tried again like an update."""

from __future__ import annotations

import secrets
from dataclasses import replace

from twinslot.core.errors import Refusal, RefusedError
from twinslot.core.lifecycle import State
from twinslot.core.model import SlotState
from twinslot.core.policy import Gate, Wish
from twinslot.core.transaction import Transaction
from twinslot.engine.gates import require
from twinslot.engine.open_update import timestamp
from twinslot.engine.recover import Session


def begin_revert(session: Session, wish: Wish) -> None:
    """Begin the update that tries the other slot; `Event.REVERT` is for the caller to feed.

    Args:
        session: Of this request; nothing is on trial in it.
        wish: As policy is asked.

    Raises:
        RefusedError: The device is retired, it may not be done now, or the other slot is bad, unknown or too old.
    """
    session.refuse_if_retired()
    require(Gate.ACTIVATE, wish, session.device, session.update, session.environment())
    session.update.begin(replace(_revert(session), activate=True, restart=wish.restart))


def _revert(session: Session) -> Transaction:
    """The transaction that tries the other, committed slot again."""
    device, facts, state = session.device, session.facts(), session.environment()
    other = state.way_back(device.running)
    known = facts.holds(other)
    if state.states[other] is not SlotState.GOOD or known is None or not known.payloads:
        what = f"slot '{other}' holds no release that was committed"
        raise RefusedError(Refusal("no-other-slot", what, found=session.update.state, hint="see 'twinslot status'"))
    floor = facts.floors.epoch
    if known.release.epoch < floor:
        raise RefusedError(
            Refusal("epoch", f"slot '{other}' is below the security epoch", str(floor), str(known.release.epoch))
        )
    return Transaction(
        id=secrets.token_hex(16),
        state=State.IDLE,
        target=other,
        release=known.release,
        payloads=known.payloads,
        kind="rollback",
        started=timestamp(device.now()),
        origin=device.origin,
    )
