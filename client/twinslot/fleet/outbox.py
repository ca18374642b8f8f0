"""Reports on their way to the server: a cursor over the audit, no second queue.

Rules:

1. Rows are taken in their order, and each report leaves before the cursor passes its row: a power cut sends it again,
and never
   loses it (S23).
2. What the server does not want (410, 404) is over. What it has too many of (429) is left out, unless it ends the
action there.
3. What it cannot take now stops the outbox: the row stays the next one.
4. The cursor holds for one record. Where the row that it stands on is another one, the record was begun anew, and all
of it is
   taken from the start.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from twinslot.app.updater import Updater
from twinslot.core.errors import TransportError
from twinslot.fleet.reports import Closing, Feedback, ServerAction, closing_of, followed, is_about, report_of
from twinslot.fleet.server import Server, ServerAnswer
from twinslot.fleet.state import FleetState

log = logging.getLogger(__name__)

PAGE: Final = 200  # rows of one call
_OVER: Final = (404, 410)
_BUSY: Final = (429, 503)
_WRONG: Final = 400


class Outbox:
    """Sends what the audit has for the actions of a state.

    Args:
        device: Whose audit.
        server: Where reports go.
        tries: See `decide.Wishes`.
        save: Keeps a state, durably.
    """

    def __init__(self, device: Updater, server: Server, tries: int, save: Callable[[FleetState], None]) -> None:
        self._device, self._server, self._tries, self._save = device, server, tries, save

    # keeps: S23
    def deliver(self, state: FleetState) -> None:
        """Send all that is new; the state from here on is kept.

        Raises:
            TransportError: The server cannot take it now; what left is kept.
        """
        begun = state
        for row in self._rows(state):
            for number, action in enumerate(state.actions):
                if is_about(action, row):
                    state = _with(state, number, self._reported(followed(action, row), row))
            state = replace(state, cursor=int(row["number"]), cursor_hash=str(row.get("hash", "")))
            if state.actions != begun.actions:
                begun = state
                self._save(state)
        if state != begun:
            self._save(state)

    def again(self, state: FleetState, action: ServerAction) -> None:
        """Send the end of an action once more, since the server has lost it.

        Where the audit does not have it either, the action is as new.

        Raises:
            TransportError: The server cannot take it now.
        """
        fresh = replace(action, closed=Closing.OPEN, stopping=False)
        last = None
        for row in self._from(0) if action.first else ():
            if is_about(fresh, row) and int(row["number"]) <= state.cursor:
                fresh = followed(fresh, row)
                report = report_of(fresh, row, self._tries)
                last = report if report is not None and report.closes else last
        if last is None or action.closed is Closing.CANCELLED:
            fresh = ServerAction(action.id, action.name, action.link, fetch_only=action.fetch_only)
        else:
            fresh = self._sent(fresh, last)
        self._save(_with(state, state.actions.index(action), fresh))

    def _reported(self, action: ServerAction, row: Mapping[str, Any]) -> ServerAction:
        report = None if action.closed else report_of(action, row, self._tries)
        return action if report is None else self._sent(action, report)

    def _sent(self, action: ServerAction, report: Feedback) -> ServerAction:
        answer = self.post(action, report)
        if answer.status in _OVER:
            return replace(action, closed=closing_of(report) or Closing.GONE)
        if answer.good:
            return replace(action, closed=closing_of(report))
        ends = report.closes or (report.ends(action) and not answer.final)
        if ends or answer.status in (401, 403) or answer.status >= 500:
            raise refusal("feedback", answer)
        log.warning("the server does not take a report: status %d", answer.status)
        return action

    def post(self, action: ServerAction, report: Feedback, progress: int | None = None) -> ServerAnswer:
        """One report; a server that finds fault with its details gets it without them.

        Raises:
            TransportError: There is no answer.
        """
        url, body = f"{action.link}/feedback", report.body(progress) | {"id": action.id}
        answer = self._server.ask("POST", url, body)
        if answer.status == _WRONG and report.details:
            answer = self._server.ask("POST", url, replace(report, details=()).body() | {"id": action.id})
        return answer

    def _rows(self, state: FleetState) -> Iterator[Mapping[str, Any]]:
        """Rows behind the cursor, oldest first."""
        if state.cursor > 1:
            rows = self._device.log(state.cursor - 1, "", PAGE)["rows"]
            if rows and int(rows[0]["number"]) == state.cursor and rows[0].get("hash") == state.cursor_hash:
                yield from rows[1:]
                if len(rows) == PAGE:
                    yield from self._from(int(rows[-1]["number"]))
                return
            log.warning("the audit is another one than before; all of it is read")
        yield from self._from(0)

    def _from(self, after: int) -> Iterator[Mapping[str, Any]]:
        if after == 0:  # the newest, so that whether they begin with the first must be seen
            rows = self._device.log(0, "", PAGE)["rows"]
            if rows and int(rows[0]["number"]) > 1:
                rows = self._device.log(1, "", PAGE)["rows"]
        else:
            rows = self._device.log(after, "", PAGE)["rows"]
        while rows:
            yield from rows
            rows = self._device.log(int(rows[-1]["number"]), "", PAGE)["rows"]


def refusal(what: str, answer: ServerAnswer) -> TransportError:
    """What an answer means that is no good."""
    if answer.status in (401, 403):
        hint = "does the server know this device, and do 'hawkbit.authentication' and 'hawkbit.token' fit?"
        return TransportError(
            "the server does not let this device in", code="ddi-denied", found=answer.status, hint=hint
        )
    if answer.status in _BUSY:
        return TransportError("the server asks to wait", code="busy", found=f"status {answer.status}")
    return TransportError(f"the server refuses '{what}'", code="ddi-status", expected="200", found=answer.status)


def _with(state: FleetState, number: int, action: ServerAction) -> FleetState:
    actions = list(state.actions)
    actions[number] = action
    return replace(state, actions=tuple(actions))
