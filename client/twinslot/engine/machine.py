"""Where the table meets the world: store the record, do the effects, feed back the event.

The loop is the same for every verb. What an effect does stands in `effects.py`; what follows from an event stands in
`core/lifecycle.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twinslot.core.errors import CancelledError, TwinslotError
from twinslot.core.lifecycle import CLOSING, TABLE, Effect, Event, State, step
from twinslot.core.model import Reason
from twinslot.engine.open_update import RECORD_NEEDED, OpenUpdate

Perform = Callable[[], Event | None]


class Machine:
    """Drives one update through the table. Used under the update lock.

    Args:
        update: The open transaction, if there is one, and where it is stored before its effects.
        effects: What does each effect of the table.
    """

    def __init__(self, update: OpenUpdate, effects: Mapping[Effect, Perform]) -> None:
        self._update, self._effects = update, effects

    # keeps: S3
    def feed(self, event: Event, **detail: Any) -> None:
        """Drive the table from one event until no effect reports another.

        Raises:
            TwinslotError: An effect failed. If the table knows `FAILED` (or `CANCELLED`) here, it was fed first, so the
                state that the error leaves behind is defined and stored.
        """
        pending: Event | None = event
        while pending is not None:
            state, effects = step(self._update.state, pending)
            self._update.enter(state, pending, detail, closing=not CLOSING.isdisjoint(effects), acts=bool(effects))
            pending = self._perform(effects)
            detail = {}

    def _perform(self, effects: tuple[Effect, ...]) -> Event | None:
        reported: Event | None = None
        doing: Effect | None = None
        try:
            for effect in effects:
                doing = effect
                reported = self._effects[effect]()
        except TwinslotError as e:
            event = self._event_of(e)
            # A refused reboot undoes nothing: the decision has landed, and somebody else may reboot.
            if doing is not Effect.REBOOT and event in TABLE[self._update.state]:
                self._feed_after(event, e)
            raise
        return reported

    def _event_of(self, error: TwinslotError) -> Event:
        """A committed slot that could not be read back for another reason than its content is not rotten."""
        stopped = isinstance(error, CancelledError) or (
            self._update.state is State.CHECKING and error.code not in ("device.slot-changed", "device.tail")
        )
        return Event.CANCELLED if stopped else Event.FAILED

    def _feed_after(self, event: Event, error: TwinslotError) -> None:
        """Leave the state behind that the table names; a second failure must not hide the first."""
        if self._update.state in RECORD_NEEDED:  # about to be closed: with the kind of failure as reason
            self._update.change(reason=_reason_of(error))
        try:
            self.feed(event, **error.as_dict())
            error.announced = True
        except TwinslotError as second:
            self._update.announcer.tolerated(second)


def _reason_of(error: TwinslotError) -> Reason:
    """What is stored of an install that ends with this error."""
    if not isinstance(error, CancelledError):
        return Reason.FAILED
    return Reason.STOPPED if error.code == "cancelled.stopped" else Reason.CANCELLED
