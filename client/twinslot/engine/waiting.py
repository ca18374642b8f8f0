"""The update that is written and waits: people agree to it or put it off, policy is asked again, and it is armed."""

from __future__ import annotations

from twinslot.core.errors import Refusal, RefusedError
from twinslot.core.events import AuditEvent, origin_text
from twinslot.core.lifecycle import WAITING, Event, State
from twinslot.core.policy import Gate, Wish
from twinslot.core.transaction import Transaction
from twinslot.engine.edges import Device
from twinslot.engine.gates import may
from twinslot.engine.recover import Session, recovered


# keeps: REQ-POL-06
def activate(device: Device, *, reboot: bool | None = None, outside_window: bool = False) -> Transaction:
    """Arm a slot that was written but not activated; read back first when that was in an earlier boot.

    What is armed stays so; then only the reboot is asked for. Where policy has it wait, it stays written.

    Args:
        device: The edges.
        reboot: Into the trial; None: as local configuration says.
        outside_window: No window is waited for by this request; the audit says so.

    Raises:
        RefusedError: Nothing was written.
    """
    with recovered(device, "activate") as session:
        session.refuse_if_retired()
        if session.update.state in WAITING:
            session.update.change(activate=True, restart=reboot)
            if outside_window:
                release = session.update.open.release.name
                session.update.announcer.announce(AuditEvent.OVERRIDDEN, options=["outside_window"], release=release)
        return _gone_on(session, Wish(restart=reboot, outside_window=outside_window))


# keeps: REQ-POL-02
def approve(device: Device, release: str) -> Transaction:
    """Somebody agrees to the update that waits; it goes on at once if nothing else stands against it.

    Args:
        device: The edges.
        release: Its name, so that nobody agrees to another one than they mean.

    Raises:
        RefusedError: `refused.not-waiting`: another one waits, or none; `refused.no-consent`: nobody is asked.
    """
    with recovered(device, "approve") as session:
        transaction = _named(session, release)
        device.consent.approve(release, origin_text(device.origin.as_dict()))
        session.update.announcer.note(AuditEvent.APPROVED, None, release=release)
        if not transaction.activate:
            return transaction
        wish = Wish(restart=transaction.restart, revert=transaction.kind == "rollback")
        return _gone_on(session, wish)


# keeps: REQ-POL-02
def hold(device: Device, seconds: float) -> Transaction:
    """Somebody puts the update that waits off, at most for as long as this device allows in all.

    Args:
        device: The edges.
        seconds: For how long.

    Raises:
        RefusedError: `refused.not-waiting`: none waits to be armed; `refused.no-consent`; `refused.hold-over`.
    """
    with recovered(device, "hold") as session:
        transaction = _named(session, None)
        by = origin_text(device.origin.as_dict())
        held = device.consent.hold(transaction.release.name, transaction.change, seconds, by)
        name = transaction.release.name
        session.update.announcer.note(AuditEvent.HELD, None, release=name, seconds=round(held))
        if transaction.activate:
            may(Gate.ACTIVATE, Wish(restart=transaction.restart), device, session.update)
        return transaction


# keeps: S20, REQ-POL-05
def go_on(device: Device) -> Transaction | None:
    """Ask policy again for an update that waits by it, and do what may be done now. Safe to repeat at any time.

    Args:
        device: The edges.

    Returns:
        The open update; None when there is none.
    """
    with recovered(device, "continue") as session:
        session.refuse_if_retired()
        update = session.update
        if not waits(update.transaction):
            device.waits.tell(None)
            return update.transaction
        wish = Wish(restart=update.open.restart, revert=update.open.kind == "rollback")
        return _gone_on(session, wish)


# keeps: REQ-POL-05
def waits(transaction: Transaction | None) -> bool:
    """An update that is to go on by itself once policy lets it."""
    return transaction is not None and transaction.activate and transaction.state in WAITING


def _gone_on(session: Session, wish: Wish) -> Transaction:
    """Arm what was written, as far as policy goes; of what is armed already, only the restart is asked for."""
    session.effects.wish = wish
    if session.update.state is State.ARMED:
        session.effects.reboot()
    elif may(Gate.ACTIVATE, wish, session.device, session.update):
        fresh = session.update.open.boot_id == session.device.boot_id
        session.machine.feed(Event.ACTIVATE if fresh else Event.RECHECK)
    return session.update.open


def _named(session: Session, release: str | None) -> Transaction:
    """The update that is written and not armed, if it has this name; None: any."""
    update = session.update
    waiting = update.open if update.state is State.WRITTEN else None
    if waiting is None or release not in (None, waiting.release.name):
        found = waiting.release.name if waiting else "none"
        hint = "'twinslot status' shows what waits; what is armed, 'twinslot cancel' drops"
        raise RefusedError(Refusal("not-waiting", "this update does not wait to be armed", release, found, hint))
    return waiting
