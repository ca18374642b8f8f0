"""What a row of the audit says to a server. Pure.

Rules:

1. A report leaves only from a row (S23). No word of the service, of a job or of the environment makes one: not even
   that a slot was armed.
2. Only `committed` is a success (S10). `rolled-back` is a failure; so is what was given up before it was started,
   unless the server itself asked for that, or there are tries left and network or power were at fault, or another
   order of the server took its place: with several at once it comes behind that.
3. What passes by itself ends no action: another update is under way, the system is on trial, the network is away.
4. An image that runs and was committed already is a success, if that is all that speaks against it.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from twinslot.core.errors import RefusedError, TwinslotError
from twinslot.core.events import AuditEvent
from twinslot.core.model import Reason
from twinslot.core.origin import OriginKind
from twinslot.core.stored import Kept
from twinslot.core.text import printable

DETAIL_MAX: Final = 500  # characters; hawkBit cuts at 512
_PASSES: Final = frozenset(
    {
        *("refused.busy", "refused.leaving", "refused.locked", "refused.on-trial", "refused.not-allowed"),
        *("refused.in-use", "refused.not-asked", "refused.clock-unknown", "refused.window-closed", "cancelled.stopped"),
        *("refused.power", "refused.battery", "refused.no-room", "refused.fallback-unproven", "refused.metered"),
        *("refused.held", "refused.not-approved", "refused.notice"),
    }
)
_RUNS_ALREADY: Final = "refused.already-installed"  # this sequence with this content is the committed one
_CUT: Final = (Reason.INTERRUPTED, Reason.STOPPED)  # power went while it was written, or the device was shut down
_TRIED_AGAIN: Final = ("transport.", "device.")  # while nothing was written; later only the network is


class Closing(enum.StrEnum):
    """How an action ended, as the server was told."""

    OPEN = ""
    SUCCESS = "success"
    FAILURE = "failure"
    CANCELLED = "cancelled"
    GONE = "gone"  # the server does not want to know any more


@dataclass(frozen=True, slots=True)
class ServerAction(Kept):
    """One order of a server, and how far it came.

    Attributes:
        id: Of hawkBit's action.
        name: In our audit: id and mark of the order.
        link: Of the order; feedback goes below it.
        transactions: Ids of the updates that it led to, oldest first.
        tries: How often an install was begun for it.
        failed_checks: Names, from the last row that had some.
        stopping: The server asked to stop it.
        closed: How it ended.
        first: Number of the first row about it; 0: none yet.
        dropped: Number of the row that says that the last update for it was dropped; 0: it was not.
        fetch_only: The server wants it written and no more, so for the server `downloaded` is the end of it.
    """

    id: str
    name: str
    link: str
    transactions: tuple[str, ...] = ()
    tries: int = 0
    failed_checks: tuple[str, ...] = ()
    stopping: bool = False
    closed: Closing = Closing.OPEN
    first: int = 0
    dropped: int = 0
    fetch_only: bool = False

    @property
    def stopped(self) -> bool:
        """Whether nothing of it is under way, by the audit."""
        return self.dropped > 0 or not self.transactions


@dataclass(frozen=True, slots=True)
class Feedback:
    """One feedback.

    Attributes:
        execution: DDI's word.
        finished: DDI's word: `none`, `success` or `failure`.
        details: For people.
        row: Number of the row that it leaves from.
    """

    execution: str
    finished: str
    details: tuple[str, ...]
    row: int

    @property
    def closes(self) -> bool:
        """Whether the action is over with it."""
        return self.execution == "closed"

    def ends(self, action: ServerAction) -> bool:
        """Whether the action is over with it for the server, where it may stay open here."""
        return self.closes or (action.fetch_only and self.execution == _STEPS[AuditEvent.VERIFIED])

    def body(self, progress: int | None = None) -> dict[str, Any]:
        """As DDI wants it.

        Args:
            progress: Hundredths of the phase that are done.
        """
        result: dict[str, Any] = {"finished": self.finished}
        if progress is not None:
            result["progress"] = {"cnt": progress, "of": 100}
        return {"status": {"execution": self.execution, "result": result, "details": list(self.details)}}


_STEPS: Final[Mapping[str, str]] = {
    AuditEvent.ACCEPTED: "download",
    AuditEvent.VERIFIED: "downloaded",
    AuditEvent.FAILED: "proceeding",
    AuditEvent.ACTIVATE: "proceeding",
    AuditEvent.RECHECK: "proceeding",
    AuditEvent.BOOTED_NEW: "proceeding",
    AuditEvent.CHECKED: "proceeding",
    AuditEvent.HEALTHY: "proceeding",
    AuditEvent.UNHEALTHY: "proceeding",
    AuditEvent.GO_BACK: "proceeding",
}
_UNSTARTED: Final = frozenset({AuditEvent.REFUSED, AuditEvent.VERB_FAILED})


def is_about(action: ServerAction, row: Mapping[str, Any]) -> bool:
    """Whether a row is about this action: of an update that came of it, or a request that came to none.

    Who asks stands in each row; the update that an order replaced is none of its own.
    """
    transaction = row["fields"].get("transaction")
    if transaction in action.transactions:
        return True
    return named(row) == action.name and (not transaction or row["event"] == AuditEvent.ACCEPTED)


def named(row: Mapping[str, Any]) -> str:
    """The server's action that a row names; empty: none."""
    origin = row["fields"].get("origin")
    if not isinstance(origin, dict) or origin.get("kind") != OriginKind.SERVER:
        return ""
    return str(origin.get("action", ""))


def followed(action: ServerAction, row: Mapping[str, Any]) -> ServerAction:
    """The action with what a row about it tells."""
    fields = row["fields"]
    transaction = fields.get("transaction")
    first = action.first or int(row["number"])
    known = action.transactions
    if isinstance(transaction, str) and transaction not in known:
        known = (*known, transaction)
    failed = fields.get("failed")
    checks = tuple(map(str, failed)) if isinstance(failed, list) else action.failed_checks
    dropped = int(row["number"]) if row["event"] == AuditEvent.ABANDONED else action.dropped
    dropped = 0 if row["event"] == AuditEvent.ACCEPTED else dropped
    return replace(action, transactions=known, failed_checks=checks, first=first, dropped=dropped)


# keeps: S23
# keeps: S10
def report_of(action: ServerAction, row: Mapping[str, Any], tries_max: int) -> Feedback | None:
    """The feedback that a row about an action leads to; None: none.

    Args:
        action: As `followed` gave it.
        row: As `GetLog` gives it.
        tries_max: Installs that network, device or power may end before the action has failed.
    """
    event, fields = str(row["event"]), row["fields"]
    code = str(fields.get("code", ""))
    if event == AuditEvent.COMMITTED:
        return _report("closed", "success", action, row)
    if event == AuditEvent.ROLLED_BACK:
        return _report("closed", "failure", action, row)
    if event == AuditEvent.ABANDONED or (event in _UNSTARTED and not fields.get("transaction")):
        return _given_up(action, row, code, tries_max)
    word = _STEPS.get(event)
    return _report(word, "none", action, row) if word else None


def _given_up(action: ServerAction, row: Mapping[str, Any], code: str, tries_max: int) -> Feedback | None:
    reasons = row["fields"].get("reasons")
    if action.stopping or (code in _PASSES and not _others(reasons, _PASSES)):
        return None  # the wish to stop has its own feedback; the rest passes
    if code == _RUNS_ALREADY and not _others(reasons, {code}):
        return _report("closed", "success", action, row)
    again = _TRIED_AGAIN if row["event"] != AuditEvent.ABANDONED else _TRIED_AGAIN[:1]
    passed = code.startswith(again) or row["fields"].get("reason") in _CUT or _displaced(action, row)
    if passed and action.tries < tries_max:
        return _report("proceeding", "none", action, row)
    return _report("closed", "failure", action, row)


def _displaced(action: ServerAction, row: Mapping[str, Any]) -> bool:
    """Whether another order of the server took the place of its update."""
    return row["fields"].get("reason") == Reason.REPLACED and named(row) not in ("", action.name)


def _others(reasons: object, known: Collection[str]) -> bool:
    """Whether there are reasons beside these."""
    return isinstance(reasons, list) and any(str(each.get("code")) not in known for each in reasons)


def _report(execution: str, finished: str, action: ServerAction, row: Mapping[str, Any]) -> Feedback:
    details = [str(row.get("message", ""))]
    reasons = row["fields"].get("reasons")
    details += [str(each.get("message", "")) for each in reasons[1:5]] if isinstance(reasons, list) else []
    if finished == "failure" and action.failed_checks:
        details.append(f"checks that failed: {', '.join(action.failed_checks)}")
    details.append(f"row {row['number']} of the audit, {row.get('at', '')}")
    return Feedback(execution, finished, tuple(printable(each)[:DETAIL_MAX] for each in details), int(row["number"]))


def passes(error: TwinslotError) -> bool:
    """Whether all that stands in the way of an order ends by itself."""
    reasons = [f"{error.family}.{each.code}" for each in error.reasons] if isinstance(error, RefusedError) else []
    return set(reasons or [error.code]) <= _PASSES


def closing_of(report: Feedback) -> Closing:
    """How the action ended with this report."""
    if not report.closes:
        return Closing.OPEN
    return Closing.SUCCESS if report.finished == "success" else Closing.FAILURE
