"""What becomes of an order: the server's wish and the device's own policy come in, one step comes out. Pure.

A server may ask; the device decides (S21). `forced` is a wish as `attempt` is: neither overrides a check, nor
restarts a device that restarts itself not, nor begins anew what failed. The service asks its own gates again before
each step.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twinslot.core.lifecycle import State
from twinslot.fleet.ddi import Handling, Order
from twinslot.fleet.reports import Closing, ServerAction


class NextStep(enum.StrEnum):
    """What to ask of the service."""

    NOTHING = "nothing"
    WRITE = "write"  # fetch and write, do not arm
    INSTALL = "install"
    ACTIVATE = "activate"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the device's configuration says to a server's wishes.

    Attributes:
        soft: `install`: an order that is not forced is taken as a forced one; `write`: it is written, and an operator
            activates it.
        tries: Installs that network, device or power may end before the action has failed.
    """

    soft: str
    tries: int


# keeps: S21
def decide(order: Order, action: ServerAction, status: Mapping[str, Any], wishes: Wishes) -> NextStep:
    """The next step.

    Args:
        order: As the server gives it now.
        action: What came of it so far.
        status: The service's.
        wishes: See there.
    """
    if action.closed or action.stopping:
        return NextStep.NOTHING
    state, current = status.get("state"), status.get("transaction") or {}
    ours = current.get("id") in action.transactions
    if state in (State.WRITTEN, State.ARMED) and ours:
        return NextStep.ACTIVATE if state == State.WRITTEN and _installs(order, wishes) else NextStep.NOTHING
    if state not in (State.IDLE, State.WRITTEN, State.ARMED):
        return NextStep.NOTHING  # on trial, or something else is under way
    if order.download is Handling.SKIP or action.tries >= wishes.tries:
        return NextStep.NOTHING
    return NextStep.INSTALL if _installs(order, wishes) else NextStep.WRITE


def _installs(order: Order, wishes: Wishes) -> bool:
    if not order.in_window:
        return False
    return order.update is Handling.FORCED or (order.update is Handling.ATTEMPT and wishes.soft == "install")


def confirms(choice: str) -> bool | None:
    """Whether to consent to an order that waits for it; None: somebody else does."""
    return {"confirm": True, "deny": False}.get(choice)


def may_stop(action: ServerAction | None, status: Mapping[str, Any]) -> bool:
    """Whether an order can still be stopped without a start of the device having seen it."""
    if action is None:
        return True
    if action.closed in (Closing.SUCCESS, Closing.FAILURE):
        return False
    current = status.get("transaction") or {}
    if current.get("id") not in action.transactions:
        return True
    return status.get("state") in (State.WRITING, State.WRITTEN, State.ARMED)
