"""The device over the bus: the verbs as blocking calls, with the errors that the engine itself would raise."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import threading
from collections.abc import Callable
from typing import Any, Final, Self

from twinslot.app.updater import JsonObject
from twinslot.bus import names
from twinslot.bus.client.link import JobEnded, JobGone, Link
from twinslot.bus.descriptors import duplicate
from twinslot.bus.options import pack
from twinslot.core.errors import CancelledError, DeviceError, RefusedError, TwinslotError
from twinslot.core.manifest import Attachment
from twinslot.core.outcome import UNSUCCESSFUL
from twinslot.core.progress import Observer, quiet
from twinslot.core.requests import ActivateOptions, CommitOptions, InstallOptions, RollbackOptions
from twinslot.core.transaction import Transaction

LOG_ROWS: Final = 1000  # as the service
POLL: Final = 0.2  # seconds until a wish to cancel is noticed


def connect(address: str | None = None) -> BusUpdater:
    """Find the service; the bus starts it when it does not run.

    Args:
        address: D-Bus server address; None is the system bus.

    Raises:
        DeviceError: `device.bus`: no bus, or no service on it.
    """
    return BusUpdater(Link(address))


class BusUpdater:
    """Implements `app.Updater`: a connection to the service.

    An interrupted call leaves the job running, unless its image came through a pipe.

    Use from one thread; `cancel` and `close` also from others and from signal handlers. Every verb waits for the end of
    its job. All raise `TwinslotError`, of the family and with the reasons of the service, or `DeviceError` `device.bus`
    when the bus or the service is away, `device.service-gone` when it went away in the middle.

    Args:
        link: Owned by this from here on.
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

    def status(self) -> JsonObject:
        """See `Updater`."""
        found: JsonObject = self._asked("GetStatus")
        return found

    def history(self, limit: int) -> list[JsonObject]:
        """See `Updater`; the service gives at most 1000."""
        found: list[JsonObject] = self._asked("GetHistory", "u", limit)
        return found

    def log(self, after: int, since: str, limit: int) -> JsonObject:
        """See `Updater`; the service gives at most 1000 rows."""
        found: JsonObject = self._asked("GetLog", "tsu", after, names.text(since), limit or LOG_ROWS)
        return found

    def running_release(self) -> JsonObject:
        """See `Updater`."""
        found: JsonObject = self._asked("GetRunningRelease")
        return found

    def running_attachment(self, wanted: str) -> tuple[Attachment, bytes]:
        """See `Updater`; the caller needs the right `offer`."""
        return self._read("ReadAttachment", wanted)

    def waiting_release(self) -> JsonObject:
        """See `Updater`."""
        found: JsonObject = self._asked("GetWaitingRelease")
        return found

    def waiting_attachment(self, wanted: str) -> tuple[Attachment, bytes]:
        """See `Updater`; the caller needs the right `offer`."""
        return self._read("ReadWaitingAttachment", wanted)

    def _read(self, member: str, wanted: str) -> tuple[Attachment, bytes]:
        asked = [names.text(wanted)]
        name, media_type, content = self._link.call(names.PATH, names.UPDATE, member, "s", asked, []).body
        data = bytes(content)
        return Attachment(name, len(data), hashlib.sha256(data).hexdigest(), media_type), data

    def attest(self, nonce: str) -> JsonObject:
        """See `Updater`."""
        found: JsonObject = self._asked("GetAttestation", "s", names.text(nonce))
        return found

    def install(
        self,
        source: str | int,
        options: InstallOptions,
        observer: Observer = quiet,
        cancelled: threading.Event | None = None,
    ) -> Transaction:
        """See `Updater`; the observer is called from this thread."""
        given = pack(options)
        if isinstance(source, int):
            # Ours until the call is over: the caller may close its own from a signal handler.
            descriptor = duplicate(source, "the image's descriptor")
            try:
                start = lambda: self._start("InstallFile", "ha{sv}", [0, given], [descriptor])  # noqa: E731
                return _needed(self._watch(start, observer, cancelled))
            finally:
                os.close(descriptor)
        url = names.text(source)
        return _needed(self._watch(lambda: self._start("Install", "sa{sv}", [url, given]), observer, cancelled))

    def activate(self, options: ActivateOptions, observer: Observer = quiet) -> Transaction:
        """See `Updater`."""
        return _needed(self._verb("Activate", options, observer))

    def commit(self, options: CommitOptions, observer: Observer = quiet) -> Transaction | None:
        """See `Updater`."""
        return self._verb("Commit", options, observer)

    def rollback(self, options: RollbackOptions, observer: Observer = quiet) -> Transaction:
        """See `Updater`."""
        return _needed(self._verb("Rollback", options, observer))

    def cancel(self) -> Transaction | None:
        """See `Updater`."""
        try:
            return self._watch(lambda: self._start("Cancel", "", []), quiet, None)
        except CancelledError:
            return None

    def approve(self, release: str) -> Transaction:
        """See `Updater`."""
        return _needed(self._watch(lambda: self._start("Approve", "s", [names.text(release)]), quiet, None))

    def hold(self, seconds: float) -> Transaction:
        """See `Updater`."""
        return _needed(self._watch(lambda: self._start("Hold", "t", [int(seconds)]), quiet, None))

    def inhibit(self, what: str, who: str, why: str) -> int:
        """See `Updater`."""
        texts = [names.text(each) for each in (what, who, why)]
        reply = self._link.call(names.PATH, names.UPDATE, "Inhibit", "sss", texts, [])
        index = reply.body[0] if reply.body else 0
        if index >= len(reply.unix_fds):
            raise DeviceError("the bus passes no descriptors", code="bus", hint="do client and service differ?")
        return int(reply.unix_fds.pop(index))

    def decline(self, action: str, why: str) -> None:
        """See `Updater`."""
        body = [names.text(action), names.text(why)]
        self._link.call(names.PATH, names.UPDATE, "Decline", "ss", body, [])

    def _asked(self, member: str, signature: str = "", *body: object) -> Any:
        """What a method answers in JSON."""
        return json.loads(self._link.call(names.PATH, names.UPDATE, member, signature, list(body), []).body[0])

    def _verb(self, member: str, options: object, observer: Observer) -> Transaction | None:
        return self._watch(lambda: self._start(member, "a{sv}", [pack(options)]), observer, None)

    def _start(
        self, member: str, signature: str, body: list[Any], descriptors: list[int] | None = None
    ) -> tuple[str, str]:
        """Call a method that gives a job: its path, and who answered."""
        reply = self._link.call(names.PATH, names.UPDATE, member, signature, body, descriptors or [])
        return str(reply.body[0]), str(reply.sender)

    def _watch(
        self, start: Callable[[], tuple[str, str]], observer: Observer, cancelled: threading.Event | None
    ) -> Transaction | None:
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
                if isinstance(event, JobGone):
                    if event.owner in (service, None):
                        raise _gone(event.reason)
                elif (event.owner, event.path) != (service, path):
                    continue
                elif isinstance(event, JobEnded):
                    return _result(event)
                else:
                    observer(event.progress)

    def _cancel_job(self, path: str) -> None:
        with contextlib.suppress(RefusedError):  # it has just finished
            self._link.call(path, names.JOB, "Cancel", "", [], [])


def _needed(transaction: Transaction | None) -> Transaction:
    if transaction is None:
        raise DeviceError("the service reported no transaction", code="bus", hint="do client and service differ?")
    return transaction


def _result(event: JobEnded) -> Transaction | None:
    if event.outcome in UNSUCCESSFUL:
        raise TwinslotError.from_dict(json.loads(event.error or "{}"))
    if not event.transaction:
        return None
    try:
        return Transaction.from_dict(json.loads(event.transaction))
    except ValueError as e:
        hint = "do client and service differ?"
        raise DeviceError(
            "the service reported no transaction", code="bus", found=event.transaction[:80], hint=hint
        ) from e


def _gone(reason: str) -> DeviceError:
    hint = "'twinslot status' says how far it came; 'journalctl -u twinslot' says why"
    return DeviceError("the update service went away in the middle", code="service-gone", found=reason, hint=hint)
