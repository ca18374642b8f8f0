"""The service seen by a caller: the verbs as blocking calls, with the errors that the engine itself would raise."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, Self

from twinslot.bus import names
from twinslot.bus.client.link import Finished, Gone, Link
from twinslot.bus.descriptors import duplicate
from twinslot.bus.library import Variant
from twinslot.core.errors import CancelledError, DeviceError, Refusal, RefusedError, TwinslotError
from twinslot.core.outcome import UNSUCCESSFUL
from twinslot.core.progress import Observer

JsonObject = dict[str, Any]
LOG_ROWS: Final = 1000  # as the service
POLL: Final = 0.2  # seconds until a wish to cancel is noticed


def quiet(_: object) -> None:
    """An observer that does not care."""


def connect(address: str | None = None) -> ServiceClient:
    """Find the service; the bus starts it when it does not run.

    Args:
        address: D-Bus server address; None is the system bus.

    Raises:
        DeviceError: `device.bus`: no bus, or no service on it.
    """
    return ServiceClient(Link(address))


class ServiceClient:
    """A connection to the service. Use from one thread; `cancel` and `close` also from others and from signal handlers.

    An interrupted call leaves the job running, unless its image came through a pipe.

    Every verb waits for the end of its job and returns the transaction as `Transaction.as_dict`. All raise
    `TwinslotError`, of the family and with the reasons of the service, or `DeviceError` `device.bus` when the bus or
    the service is away, `device.service-gone` when it went away in the middle.

    Args:
        link: Owned by the client from here on.
    """

    def __init__(self, link: Link) -> None:
        self._link = link

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._link.close()

    def install(
        self,
        source: str | int,
        options: Mapping[str, object],
        observer: Observer = quiet,
        cancelled: threading.Event | None = None,
    ) -> JsonObject:
        """Install an image.

        Args:
            source: URL, or a descriptor open for reading, which stays the caller's.
            options: Fields of `InstallOptions`; None means left out.
            observer: Told of progress, from this thread.
            cancelled: Set from elsewhere to stop.
        """
        given = _as_variants(options)
        if isinstance(source, int):
            # Ours until the call is over: the caller may close its own from a signal handler.
            descriptor = duplicate(source, "the image's descriptor")
            try:
                start = lambda: self._start("InstallFile", "ha{sv}", [0, given], [descriptor])  # noqa: E731
                return self._needed(self._watch(start, observer, cancelled))
            finally:
                os.close(descriptor)
        url = names.text(source)
        return self._needed(self._watch(lambda: self._start("Install", "sa{sv}", [url, given]), observer, cancelled))

    def activate(self, options: Mapping[str, object], observer: Observer = quiet) -> JsonObject:
        """Arm what was written; `options`: `reboot`."""
        return self._needed(self._verb("Activate", _as_variants(options), observer))

    def commit(self, options: Mapping[str, object], observer: Observer = quiet) -> JsonObject | None:
        """Keep the system on trial; `options`: `force`, `if_trial`. None: nothing was on trial, and that was fine."""
        return self._verb("Commit", _as_variants(options), observer)

    def rollback(self, options: Mapping[str, object], observer: Observer = quiet) -> JsonObject:
        """Go back; `options`: `reason`, `reboot`."""
        return self._needed(self._verb("Rollback", _as_variants(options), observer))

    def cancel(self) -> JsonObject | None:
        """Stop the job that runs, or drop what waits; None when a running job was stopped."""
        try:
            return self._watch(lambda: self._start("Cancel", "", []), quiet, None)
        except CancelledError:
            return None

    def log(self, after: int, since: str, limit: int) -> JsonObject:
        """Rows of the audit, as `engine.log.LogPage.as_dict`; the service gives at most 1000."""
        limit = limit or LOG_ROWS
        reply = self._link.call(names.PATH, names.UPDATE, "GetLog", "tsu", [after, names.text(since), limit], [])
        found: JsonObject = json.loads(reply.body[0])
        return found

    def _verb(self, member: str, options: dict[str, Variant], observer: Observer) -> JsonObject | None:
        return self._watch(lambda: self._start(member, "a{sv}", [options]), observer, None)

    def _start(
        self, member: str, signature: str, body: list[Any], descriptors: list[int] | None = None
    ) -> tuple[str, str]:
        """Call a method that gives a job: its path, and who answered."""
        reply = self._link.call(names.PATH, names.UPDATE, member, signature, body, descriptors or [])
        return str(reply.body[0]), str(reply.sender)

    def _watch(
        self, start: Callable[[], tuple[str, str]], observer: Observer, cancelled: threading.Event | None
    ) -> JsonObject | None:
        with self._link.events() as events:  # before the start, since a job may be over before its path is known
            path, service = start()
            asked = False
            while True:
                if cancelled is not None and cancelled.is_set() and not asked:
                    asked = True
                    self._cancel_job(path)
                try:
                    event = events.get(timeout=POLL if cancelled is not None and not asked else None)
                except queue.Empty:
                    continue
                if isinstance(event, Gone):
                    if event.owner in (service, None):
                        raise _gone(event.reason)
                elif (event.owner, event.path) != (service, path):
                    continue
                elif isinstance(event, Finished):
                    return _result(event)
                else:
                    observer(event.progress)

    def _cancel_job(self, path: str) -> None:
        with contextlib.suppress(RefusedError):  # it has just finished
            self._link.call(path, names.JOB, "Cancel", "", [], [])

    @staticmethod
    def _needed(transaction: JsonObject | None) -> JsonObject:
        if transaction is None:
            raise DeviceError("the service told no transaction", code="bus", hint="do client and service differ?")
        return transaction


def _result(event: Finished) -> JsonObject | None:
    if event.outcome in UNSUCCESSFUL:
        raise TwinslotError.from_dict(json.loads(event.error or "{}"))
    transaction: JsonObject | None = json.loads(event.transaction or "null")
    return transaction


def _gone(reason: str) -> DeviceError:
    hint = "'twinslot status' says how far it came; 'journalctl -u twinslot' says why"
    return DeviceError("the update service went away in the middle", code="service-gone", found=reason, hint=hint)


def _as_variants(options: Mapping[str, object]) -> dict[str, Variant]:
    """Plain values for the bus; None means left out.

    Raises:
        RefusedError: `refused.option-type`: neither boolean nor string.
    """
    return {name: _variant(name, value) for name, value in options.items() if value is not None}


def _variant(name: str, value: object) -> Variant:
    if isinstance(value, bool):
        return Variant("b", value)
    if isinstance(value, str):
        return Variant("s", names.text(value))
    found = type(value).__name__
    raise RefusedError(Refusal("option-type", f"option '{name}' has the wrong type", "boolean, string", found))
