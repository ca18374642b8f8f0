"""The release that was committed last is watched: what the product's signals say, and what follows from it."""

from __future__ import annotations

from twinslot.core.events import AuditEvent
from twinslot.core.health import failed
from twinslot.core.lifecycle import Event, State
from twinslot.core.model import CheckResult, Reason
from twinslot.core.policy import Wish
from twinslot.core.transaction import Outcome, Transaction
from twinslot.core.watch import WatchStep
from twinslot.engine.edges import Device
from twinslot.engine.recover import Session, recovered
from twinslot.engine.revert import begin_revert


# keeps: REQ-POL-04
def watch(device: Device) -> tuple[CheckResult, ...]:
    """Look at the product's signals of the release that was committed last, and do what follows from them.

    Args:
        device: The edges.

    Returns:
        What they said; empty: nothing is watched.

    Raises:
        RefusedError: It is to be left, and that may not be done now: the next look tries again.
    """
    edge = device.watch
    with recovered(device, "watch") as session:
        watched = _watched(session)
    if watched is None or edge.is_over(watched.id):
        edge.mark(on=False)
        return ()
    results = edge.signals()  # without the lock
    step, first = edge.judge(watched.id, failed=bool(failed(results)))
    if step is WatchStep.NOTHING:
        return results
    with recovered(device, "watch") as session:
        if _watched(session) == watched:  # nothing else happened meanwhile
            _watch_failed(session, watched, results, first=first, leave=step is WatchStep.LEAVE)
    return results


def _watched(session: Session) -> Transaction | None:
    """The update whose release runs and was committed last; one that was reached by going back is not watched."""
    nothing: list[Transaction] = []
    newest = next(iter(session.effects.asked(lambda record: record.history(1), nothing)), None)
    if newest is None or session.update.state is not State.IDLE or newest.target is not session.device.running:
        return None
    return newest if newest.outcome is Outcome.COMMITTED and newest.kind == "install" else None


def _watch_failed(
    session: Session, watched: Transaction, results: tuple[CheckResult, ...], *, first: bool, leave: bool
) -> None:
    """Tell it once; and where the configuration says so, try the other slot, unless something stands against it."""
    names = [each.name for each in failed(results)]
    if first:
        action = "rollback" if leave else "tell"
        session.update.announcer.note(
            AuditEvent.WATCH_FAILED, None, failed=names, release=watched.release.name, action=action
        )
    if not leave:
        return
    wish = session.effects.wish = Wish(restart=True, revert=True)
    begin_revert(session, wish)
    session.record.add_failed(watched.release.sequence, Reason.WATCH, watched.id)
    session.machine.feed(Event.REVERT, why=f"signals failed after the commit: {', '.join(names)}")
