"""Gathers what stands against a step on this device: in use, no window. The one place that asks all of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from twinslot.config.options import Config
from twinslot.core.backoff import Moment
from twinslot.core.inhibitors import NOT_ASKED, WORDS, Inhibitor
from twinslot.core.inhibitors import obstacles as in_use
from twinslot.core.policy import Gate, Obstacle, Question
from twinslot.policy.clock import clock_is_known
from twinslot.policy.held import DIRECTORY as HELD
from twinslot.policy.held import HeldInhibitors
from twinslot.policy.inhibitors import DIRECTORY, file_inhibitors
from twinslot.policy.logind import logind_inhibitors
from twinslot.policy.moment import this_moment

if TYPE_CHECKING:
    from twinslot.core.windows import WindowState
    from twinslot.policy.consent import LocalConsent


@dataclass(frozen=True, slots=True)
class LocalPolicy:
    """The policy of this device.

    Attributes:
        config: Of this device.
        now: Its clock.
        may_ask: False in the sandboxed service, where a program of the product would fail and hold an update for ever:
            then it counts as in use until somebody else has asked.
        root: Where the files of the system stand.
    """

    config: Config
    now: Callable[[], datetime]
    may_ask: bool = True
    root: Path = Path("/")

    # keeps: S20
    def obstacles(self, question: Question) -> tuple[Obstacle, ...]:
        """What stands against a step now. What is cheap comes first: programs are asked when nothing else does."""
        found = (
            *in_use(self.inhibitors(), question.gate),
            *self._conditions(question),
            *self._windows(question),
            *self._people(question),
        )
        return found or (self._programs() if question.gate in WORDS["restart"] else ())

    def inhibitors(self) -> tuple[Inhibitor, ...]:
        """Who says that the device is in use, without asking a program."""
        held = HeldInhibitors(self._below(HELD)).inhibitors()
        logind = logind_inhibitors(self.root) if self.config.policy.in_use.logind else ()
        return (*held, *file_inhibitors(self._below(DIRECTORY)), *logind)

    def consent(self, verified: str = "") -> LocalConsent:
        """What people have said.

        Args:
            verified: As for `clock_known`.
        """
        from twinslot.policy.consent import LocalConsent

        return LocalConsent(self.config.policy.consent, self.config.record.directory, lambda: self.moment(verified))

    # keeps: REQ-POL-02
    def moment(self, verified: str = "") -> Moment:
        """Now, for counts that outlive a start: a clock that is not known must not make them jump once it is set.

        Args:
            verified: As for `clock_known`.
        """
        moment = this_moment()
        return moment if self.clock_known(verified) else replace(moment, clock=0.0)

    def metered(self) -> tuple[str, ...]:
        """The interfaces that lead out, if one of them is metered; empty: none is."""
        patterns = self.config.policy.network.metered
        if not patterns:
            return ()
        from twinslot.core.conditions import is_metered
        from twinslot.policy.conditions import ways_out

        names = ways_out(self.root)
        return names if is_metered(names, patterns) else ()

    def budget(self) -> int:
        """Bytes that one update may fetch now; 0: no bound."""
        bounds = [self.config.delta.budget]
        network = self.config.policy.network
        if network.on_metered == "budget" and network.budget and self.metered():
            bounds.append(network.budget)
        return min((bound for bound in bounds if bound), default=0)

    def _people(self, question: Question) -> tuple[Obstacle, ...]:
        if self.config.policy.consent.mode == "none" or question.gate not in WORDS["restart"] or question.wish.revert:
            return ()
        found = self.consent(question.verified).obstacle(question.release, question.change)
        return (found,) if found else ()

    # keeps: REQ-POL-03
    def _conditions(self, question: Question) -> tuple[Obstacle, ...]:
        policy, begins = self.config.policy, question.gate in (Gate.FETCH, Gate.WRITE)
        found: list[Obstacle | None] = []
        if question.gate is not Gate.FETCH and (policy.power.mains or policy.power.battery):
            from twinslot.core.conditions import power
            from twinslot.policy.conditions import supplies

            found.append(power(supplies(self.root), mains=policy.power.mains, battery=policy.power.battery))
        if begins and policy.free_space:
            from twinslot.core.conditions import room
            from twinslot.policy.conditions import free_bytes

            found.append(room(free_bytes(self.config.record.directory), policy.free_space))
        if begins and policy.fallback_proven:
            from twinslot.core.conditions import unproven
            from twinslot.core.fallback import parse_date

            found.append(unproven(parse_date(question.proven), self.now(), policy.fallback_proven))
        names = self.metered() if policy.network.on_metered == "wait" else ()
        if question.gate is Gate.FETCH and question.wish.remote and names:
            from twinslot.core.conditions import metered

            found.append(metered(names))
        return tuple(each for each in found if each)

    def _programs(self) -> tuple[Obstacle, ...]:
        from twinslot.policy.ready import busy, programs

        asked = self.config.policy.in_use
        if not self.may_ask and programs(asked.directories, asked.timeout):
            return (NOT_ASKED,)
        return in_use(busy(asked.directories, asked.timeout), Gate.RESTART)

    def _below(self, path: Path) -> Path:
        return self.root / path.relative_to("/")

    def clock_known(self, verified: str) -> bool:
        """Whether windows may go by the clock.

        Args:
            verified: The date that was verified last, ISO 8601; empty: none was.
        """
        known = [datetime.fromisoformat(verified)] if verified else []
        build = self.config.trust.build_time
        earliest = max([*known, *([build.astimezone(UTC)] if build else [])], default=None)
        synchronized = self.config.policy.clock == "synchronized"
        return clock_is_known(self.now(), earliest, synchronized=synchronized, root=self.root)

    def window(self, step: str, verified: str) -> WindowState | None:
        """Whether a window is open, by an unknown clock the configured side; None: there are none, it always is.

        Args:
            step: `fetch` or `restart`.
            verified: As for `clock_known`.
        """
        tables = self.config.policy.fetch_window if step == "fetch" else self.config.policy.restart_window
        if not tables:
            return None
        from twinslot.config.windows import windows_of
        from twinslot.core.windows import WindowState, window_state

        if not self.clock_known(verified):
            return WindowState(open=self.config.policy.clock_unknown == "open")
        return window_state(windows_of(tables, f"{step}_window"), self.now())

    # keeps: REQ-POL-01, REQ-POL-06
    def _windows(self, question: Question) -> tuple[Obstacle, ...]:
        if question.wish.outside_window:  # not gathered: where something stands in the way, programs are not asked
            return ()
        if question.gate is Gate.WRITE or (question.gate is Gate.FETCH and not question.wish.remote):
            return ()
        step = "fetch" if question.gate is Gate.FETCH else "restart"
        state = self.window(step, question.verified)
        if state is None or state.open:
            return ()
        from twinslot.core.windows import closed

        return (closed(step, state, known=self.clock_known(question.verified)),)
