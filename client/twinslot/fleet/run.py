"""One run: report what happened, ask the server, do what it wants as far as the device's policy lets it, report again.

Rules:

1. Reports first: what an earlier run, or a start of the device, left in the audit leaves before anything new is begun.
2. The server is polled when its `sleep` is over. What it asked for with `Retry-After`, or a pause after failures,
holds for all. Pauses grow while the server does nothing that it is asked: a run that got anything done and then failed
is the first failure again, since on a bad network each run loses some request.
3. Wishes to stop are answered first, one after the other; a wish that comes too late is rejected, and the order goes
on.
4. An order leads to one step at most (decide.py). While an install runs, the server is polled as before, so it can be
stopped.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from twinslot.app.updater import Updater
from twinslot.core.backoff import LONGEST, Moment, Pause, left_of, pause_after
from twinslot.core.errors import DeviceError, RefusedError, TransportError, TwinslotError
from twinslot.core.progress import Phase
from twinslot.core.requests import ActivateOptions, InstallOptions
from twinslot.fleet.attributes import attributes, fingerprint
from twinslot.fleet.ddi import Cancel, Home, Order, Polled, parse_cancel, parse_order, parse_poll
from twinslot.fleet.decide import NextStep, Wishes, confirms, decide, may_stop
from twinslot.fleet.job import InstallJob
from twinslot.fleet.outbox import Outbox, refusal
from twinslot.fleet.reports import DETAIL_MAX, Closing, Feedback, ServerAction, passes
from twinslot.fleet.server import HeardServer, Server
from twinslot.fleet.state import ACTIONS_MAX, FleetState

log = logging.getLogger(__name__)

STOPS_MAX: Final = 64  # wishes to stop that one run answers; hawkBit gives one at a time
EARLY: Final = 0.9  # a poll may come so much before its time, since the timer does not know the server's
LOOK: Final = 5.0  # seconds between two looks at an install that runs
_NO_TRY_LEFT: Final = "the last try for this order has failed"
_NOT_FOUND: Final = 404
STEP: Final = 10  # hundredths between two reports of progress: hawkBit takes a thousand in all


@dataclass(frozen=True, slots=True)
class Setting:
    """What a run depends on beside device and server.

    Attributes:
        home: This controller.
        wishes: See there.
        confirmation: `confirm`, `deny` or `wait`.
        compatible: Names of this type of device.
        attributes: The product's own, for the server.
        moment: Now.
        jitter: From 0 to 1, drawn for this run.
        look: Seconds between two looks at an install that runs.
        clock: Seconds that only go up.
    """

    home: Home
    wishes: Wishes
    confirmation: str
    compatible: tuple[str, ...]
    attributes: dict[str, str]
    moment: Moment
    jitter: float
    look: float = LOOK
    clock: Callable[[], float] = time.monotonic


class FleetRun:
    """One run.

    Args:
        setting: See there.
        connect: Gives a connection to the service, the caller's to close.
        server: Where to ask.
        save: Keeps the state, durably.
    """

    def __init__(
        self, setting: Setting, connect: Callable[[], Updater], server: Server, save: Callable[[FleetState], None]
    ) -> None:
        self._setting, self._connect, self._server, self._save = setting, connect, HeardServer(server), save
        self._device = connect()
        self._outbox = Outbox(self._device, self._server, setting.wishes.tries, self._keep)
        self._state = FleetState(setting.home.url)
        self._told = 0  # hundredths of the install that runs, as last reported
        self._due = 0.0  # when the server may be polled again while an install runs

    def run(self, state: FleetState) -> tuple[FleetState, TwinslotError | None]:
        """Do it, and say what is known from here on, which is kept already, and what went wrong."""
        self._state, error = state, None
        try:
            if not left_of(state.pause, self._setting.moment):
                self._do()
        except TwinslotError as e:
            error = e
            failures = 1 if self._server.good else self._state.failures + 1
            pause = pause_after(failures, self._server.wait, self._setting.jitter, self._setting.moment)
            self._keep(replace(self._state, failures=failures, pause=pause))
        finally:
            self._device.close()
        return self._state, error

    # keeps: REQ-FLT-03
    def _do(self) -> None:
        self._outbox.deliver(self._state)
        self._hold_stopped()
        if left_of(self._state.sleep, self._setting.moment):
            return
        polled = self._polled()
        self._tell_attributes(polled)
        polled = self._stopped(polled)
        self._consent(polled)
        if polled.deployment:
            self._follow(polled.deployment)
        moment, seconds = self._setting.moment, max(polled.sleep * EARLY, min(self._server.wait, LONGEST))
        sleep = Pause(seconds, moment.clock, moment.boot_id, moment.uptime)
        self._keep(replace(self._state, failures=0, pause=Pause(), sleep=sleep))

    def _polled(self) -> Polled:
        """Ask what there is to do.

        Raises:
            TransportError: No answer, none that can be used, or one that refuses.
        """
        home = self._setting.home
        answer = self._server.ask("GET", home.url)
        if not answer.good:
            raise _unknown(home) if answer.status == _NOT_FOUND else refusal("poll", answer)
        polled = parse_poll(home, answer.body)
        self._due = self._setting.clock() + polled.sleep
        return polled

    def _tell_attributes(self, polled: Polled) -> None:
        """Once in each boot, on each change, and whenever the server asks."""
        where, boot = polled.config_data or self._state.config_data, self._setting.moment.boot_id
        told = attributes(self._device.status(), self._setting.compatible, self._setting.attributes)
        known = self._state.told == fingerprint(told) and self._state.told_boot == boot
        if not where or (known and not polled.config_data):
            return
        self._keep(replace(self._state, config_data=where))
        answer = self._server.ask("PUT", where, {"id": "", "mode": "merge", "data": told})
        if not answer.good:
            log.warning("the server does not take this device's attributes: status %d", answer.status)
        if answer.good or answer.final:  # what it cannot take now leaves with the next poll
            self._keep(replace(self._state, told=fingerprint(told), told_boot=boot))

    def _hold_stopped(self) -> None:
        """What the server was told is stopped stays so: an install may have outlived the run that began it."""
        for action in self._state.actions:
            status = self._device.status()
            if action.closed is Closing.CANCELLED and not action.stopped and may_stop(action, status):
                self._stop(action)

    def _stopped(self, polled: Polled) -> Polled:
        """Answer wishes to stop, until there is none; hawkBit shows the oldest alone."""
        for _ in range(STOPS_MAX):
            if not polled.cancel:
                return polled
            if not self._answer_cancel(polled.cancel):
                return replace(polled, cancel="")
            polled = replace(self._polled(), config_data="")
        return polled

    # keeps: REQ-FLT-04
    def _answer_cancel(self, link: str) -> bool:
        """Stop an order, or say that it is too late; whether the server took the answer."""
        answer = self._server.ask("GET", link)
        if not answer.good:
            return False
        cancel = parse_cancel(link, answer.body)
        action = self._find(cancel.stop)
        if action is not None and not action.stopped and may_stop(action, self._device.status()):
            action = self._stop(action)
        if action is None or action.stopped:
            why = f"stopped; row {action.dropped} of the audit" if action and action.dropped else "it was not begun"
            return self._close_cancel(cancel, action, Feedback("closed", "success", (why,), 0))
        why = "it is too late: the update was started, or has ended"
        return self._close_cancel(cancel, action, Feedback("rejected", "none", (why,), 0))

    def _stop(self, action: ServerAction) -> ServerAction:
        """Have the service drop it; the audit says whether it did."""
        self._change(replace(action, stopping=True))
        try:
            self._device.cancel()
        except RefusedError as e:
            log.info("the update cannot be dropped: %s", e)
        self._outbox.deliver(self._state)
        return self._known(action.name)

    def _close_cancel(self, cancel: Cancel, action: ServerAction | None, report: Feedback) -> bool:
        answer = self._server.ask("POST", f"{cancel.link}/feedback", report.body() | {"id": cancel.id})
        if answer.status >= 500:
            raise refusal("feedback", answer)
        if action is not None:
            ended = action.closed or (Closing.CANCELLED if report.closes else Closing.OPEN)
            self._change(replace(action, stopping=False, closed=ended))
        return answer.good or answer.status in (404, 410)

    def _consent(self, polled: Polled) -> None:
        """Consent to an order that waits for it, or deny it, as the configuration says."""
        word = confirms(self._setting.confirmation)
        if not polled.confirmation or word is None:
            return
        answer = self._server.ask("GET", polled.confirmation)
        if not answer.good:
            return
        order = parse_order(self._setting.home, polled.confirmation, answer.body, "confirmation")
        if not word and self._state.denied == order.action:
            return
        body = {"confirmation": "confirmed" if word else "denied", "details": ["as this device is configured"]}
        if self._server.ask("POST", f"{order.link}/feedback", body).good:
            self._keep(replace(self._state, denied="" if word else order.action))

    def _follow(self, link: str) -> None:
        """An order: take it on, report on it if it has ended already, and do its next step."""
        answer = self._server.ask("GET", link)
        if answer.status in (404, 410):
            return  # it was withdrawn meanwhile
        if not answer.good:
            raise refusal("deployment", answer)
        order = parse_order(self._setting.home, link, answer.body)
        action = next((each for each in self._state.actions if each.name == order.action), None)
        if action is None:
            action = ServerAction(order.id, order.action, order.link, fetch_only=order.fetch_only)
            self._keep(replace(self._state, actions=(*self._state.actions, action)[-ACTIONS_MAX:]))
        elif action.closed:
            self._outbox.again(self._state, action)
        self._outbox.deliver(self._state)
        self._carry_out(order, self._known(action.name))

    def _carry_out(self, order: Order, action: ServerAction) -> None:
        step = decide(order, action, self._device.status(), self._setting.wishes)
        if step is NextStep.NOTHING:
            if not action.closed and action.stopped and action.tries >= self._setting.wishes.tries:
                self._decline(action, _NO_TRY_LEFT)
        elif step is NextStep.ACTIVATE:
            self._activate()
        elif (image := order.image())[0]:
            self._install(image[0], action, activate=step is NextStep.INSTALL)
            return
        else:
            self._decline(action, image[1])
        self._outbox.deliver(self._state)

    def _activate(self) -> None:
        try:
            self._device.activate(ActivateOptions(), lambda _: None)
        except RefusedError as e:
            log.info("the update waits: %s", e)

    def _decline(self, action: ServerAction, why: str) -> None:
        """Leave a row of an order that cannot be one of ours: the report leaves from it (S19, S23)."""
        try:
            self._device.decline(action.name, why)
        except RefusedError as e:
            log.info("the order is declined: %s", e)

    # keeps: S21
    def _install(self, url: str, action: ServerAction, *, activate: bool) -> None:
        """Have the service install; nothing that overrides a check can be asked for here."""
        self._change(replace(action, tries=action.tries + 1))
        self._told = 0
        job = InstallJob(self._connect, url, InstallOptions(activate=activate, action=action.name))
        while not job.ended(self._setting.look):
            try:
                self._meanwhile(job, action.name)
            except (TransportError, DeviceError) as e:  # a record that is locked just now, too
                log.info("nothing can be reported while an update runs, and it goes on: %s", e)
        self._outbox.deliver(self._state)
        if job.error is not None:
            log.warning("the update did not come to its end: %s", job.error)
            self._see_to(self._known(action.name), job.error)

    def _see_to(self, action: ServerAction, error: TwinslotError) -> None:
        """Decline an order that failed before an update of it began, where no row says so.

        Rows of what comes again and again are counted (S19), and without a row there is no report (S23).
        """
        last = action.tries >= self._setting.wishes.tries
        if action.closed or action.stopping or not action.stopped:
            return
        if passes(error):  # this was no try
            self._change(replace(action, tries=action.tries - 1))
            return
        if last or isinstance(error, RefusedError):
            self._decline(action, f"{_NO_TRY_LEFT}: {error}" if last else str(error))
            self._outbox.deliver(self._state)

    def _meanwhile(self, job: InstallJob, name: str) -> None:
        """Feedback, and see whether the server has thought better of it."""
        self._outbox.deliver(self._state)
        action = self._known(name)
        if action.closed or action.stopping:
            return
        self._report_progress(job, action)
        if self._setting.clock() < self._due:
            return
        polled = self._polled()
        if polled.cancel:
            answer = self._server.ask("GET", polled.cancel)
            if answer.good and parse_cancel(polled.cancel, answer.body).stop == action.id:
                self._change(replace(action, stopping=True))
                job.stop()

    # keeps: S23
    def _report_progress(self, job: InstallJob, action: ServerAction) -> None:
        """How much of what the audit says is under way is done; no word of it before that row."""
        progress = job.progress
        if not action.transactions or progress is None or progress.phase is not Phase.WRITE or not progress.total:
            return
        done = 100 * progress.done // progress.total
        if done >= self._told + STEP:
            self._told = done
            detail = f"{progress.done} of {progress.total} bytes written"[:DETAIL_MAX]
            self._outbox.post(action, Feedback("download", "none", (detail,), action.first), done)

    def _find(self, identity: str) -> ServerAction | None:
        """The newest order of this id."""
        return next((each for each in reversed(self._state.actions) if each.id == identity), None)

    def _known(self, name: str) -> ServerAction:
        return next(each for each in self._state.actions if each.name == name)

    def _change(self, action: ServerAction) -> None:
        actions = tuple(action if each.name == action.name else each for each in self._state.actions)
        self._keep(replace(self._state, actions=actions))

    def _keep(self, state: FleetState) -> None:
        if state != self._state:
            self._save(state)
        self._state = state


def _unknown(home: Home) -> TransportError:
    hint = "make the target at the server, or correct 'hawkbit.controller' and 'hawkbit.tenant'"
    return TransportError("the server knows no such target", code="ddi-target", found=home.url, hint=hint)
