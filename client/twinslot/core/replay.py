"""What an update was, from its rows alone: the decisions replayed by the table that made them. Pure.

Each row with a transaction names the event and the state that it led to. So `core.lifecycle.step` can be asked again,
by whoever has the rows, and where rows and table differ, one of the two is not what it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from twinslot.core.errors import LifecycleError
from twinslot.core.events import AuditEvent
from twinslot.core.lifecycle import TABLE, Effect, Event, State, step
from twinslot.core.stored import is_known, word
from twinslot.core.transaction import Outcome

# How an update may end, and the effects of the table that store such an end.
_ENDS: Final[Mapping[str, frozenset[Effect]]] = {
    Outcome.COMMITTED: frozenset({Effect.CLOSE_COMMITTED}),
    Outcome.ROLLED_BACK: frozenset({Effect.CLOSE_ROLLED_BACK}),
    Outcome.ABANDONED: frozenset({Effect.ABANDON, Effect.CLOSE_ROLLED_BACK}),
}
_BEGINNINGS: Final = frozenset({Event.ACCEPTED, Event.REVERT})


@dataclass(frozen=True, slots=True)
class UpdateRow:
    """A row that tells of an update.

    Attributes:
        number: Of the row.
        at: By the device's clock.
        event: As stored.
        fields: As stored.
    """

    number: int
    at: str
    event: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ReplayedRow:
    """One row, replayed.

    Attributes:
        row: The row.
        before: Where the update stood.
        after: Where the row says that it stood then.
        effects: What the table has done on the way, in order.
        differs: Where row and table differ, in a sentence; empty: they agree.
    """

    row: UpdateRow
    before: State
    after: State
    effects: tuple[Effect, ...] = ()
    differs: str = ""


@dataclass(frozen=True, slots=True)
class UpdateAccount:
    """An update, replayed.

    Attributes:
        transaction: Its id.
        steps: Every row of it, in order.
        outcome: How it ended, by the rows; empty: it is open.
        state: Where it stands, by the rows.
    """

    transaction: str
    steps: tuple[ReplayedRow, ...]
    outcome: str
    state: State

    @property
    def accepted(self) -> Mapping[str, Any] | None:
        """What the row says by which an image was accepted: `manifest`, `release`, `sequence`; None: no row says."""
        return next((each.row.fields for each in self.steps if each.row.event == Event.ACCEPTED), None)

    @property
    def differences(self) -> tuple[str, ...]:
        """Sentences: where rows and table differ."""
        return tuple(f"row {each.row.number}: {each.differs}" for each in self.steps if each.differs)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        steps = [
            {
                "number": each.row.number,
                "at": each.row.at,
                "event": each.row.event,
                "before": str(each.before),
                "after": str(each.after),
                "effects": [str(effect) for effect in each.effects],
                "differs": each.differs or None,
                "fields": dict(each.row.fields),
            }
            for each in self.steps
        ]
        head = {"transaction": self.transaction, "outcome": self.outcome or None, "state": str(self.state)}
        return head | {"steps": steps, "differences": list(self.differences)}


def transactions(rows: Iterable[UpdateRow]) -> tuple[str, ...]:
    """Ids of the updates that the rows tell of, in the order in which they began."""
    return tuple(dict.fromkeys(str(row.fields["transaction"]) for row in rows if row.fields.get("transaction")))


# keeps: REQ-AUD-03
def replay(transaction: str, rows: Iterable[UpdateRow]) -> UpdateAccount:
    """Ask the table again for each row of an update.

    Args:
        transaction: Its id.
        rows: Of an audit, in order; those of other updates are passed over.
    """
    own = [row for row in rows if row.fields.get("transaction") == transaction]
    state, armed, outcome, steps = State.IDLE, False, "", []
    for row in own:
        if outcome:
            steps.append(ReplayedRow(row, state, state, differs=f"the update had ended as '{outcome}'"))
            continue
        made = _replayed(row, state, armed=armed, first=not steps)
        steps.append(made)
        state, armed = made.after, armed or made.after is State.ARMED
        outcome = str(row.fields["outcome"]) if _is_end(row) else ""
    return UpdateAccount(transaction, tuple(steps), outcome, state)


def _is_end(row: UpdateRow) -> bool:
    return bool(row.fields.get("outcome")) or row.event == AuditEvent.OVERTAKEN


def _replayed(row: UpdateRow, before: State, *, armed: bool, first: bool) -> ReplayedRow:
    after = word(State, str(row.fields.get("state")))
    if not is_known(after):
        return ReplayedRow(row, before, before, differs=f"state '{after}' is none of this version's table")
    if row.event == AuditEvent.ADOPTED:  # the record had lost what came before: it goes on from here
        return ReplayedRow(row, before, after)
    if row.event == AuditEvent.OVERTAKEN:
        return ReplayedRow(row, before, after)
    if _is_end(row):
        return _ended(row, before, after, armed=armed)
    if row.event not in Event.__members__.values():  # told beside the steps: `checked`, `waits`
        told = "" if after is before else f"event '{row.event}' leads nowhere, and the row says '{after}'"
        return ReplayedRow(row, before, after, differs=told)
    event = Event(row.event)
    if first and event not in _BEGINNINGS:
        return ReplayedRow(row, before, after, differs=f"the rows before event '{event}' are not there")
    try:
        expected, effects = step(before, event)
    except LifecycleError:
        return ReplayedRow(row, before, after, differs=f"event '{event}' cannot happen in state '{before}'")
    differs = "" if expected is after else f"event '{event}' leads to '{expected}', and the row says '{after}'"
    return ReplayedRow(row, before, after, effects, differs)


def _ended(row: UpdateRow, before: State, after: State, *, armed: bool) -> ReplayedRow:
    """The end is stored by the effect that closes: some event of this state must have such an effect."""
    outcome = str(row.fields["outcome"])
    wanted = _ENDS.get(outcome, frozenset())
    ways = [effects for state, effects in TABLE[before].values() if state is State.IDLE and wanted & set(effects)]
    if not ways:
        return ReplayedRow(row, before, after, differs=f"no event ends state '{before}' as '{outcome}'")
    if after is not State.IDLE:
        return ReplayedRow(
            row, before, after, differs=f"an update that ended is '{State.IDLE}', and the row says '{after}'"
        )
    if row.event != outcome:
        return ReplayedRow(row, before, after, differs=f"event '{row.event}' tells of the end '{outcome}'")
    if outcome == Outcome.ROLLED_BACK and not armed:
        return ReplayedRow(row, before, after, ways[0], "what was never armed is abandoned, not rolled back")
    return ReplayedRow(row, before, after, ways[0])


def image_differences(account: UpdateAccount, manifest: str, release: str, sequence: int) -> tuple[str, ...]:
    """Where the rows tell of another image than this one.

    Args:
        account: The update.
        manifest: SHA-256 of the image's manifest.
        release: Its name.
        sequence: Its sequence.
    """
    said = account.accepted
    if said is None:
        return ("no row says which image was accepted",)
    told = {"manifest": manifest, "release": release, "sequence": sequence}
    if not any(name in said for name in told):
        return ("the rows are of a client that did not store which image was accepted",)
    wrong = [name for name, value in told.items() if said.get(name) != value]
    return tuple(f"{name} of the image is '{told[name]}', the rows say '{said.get(name)}'" for name in wrong)
