"""The interface `org.twinslot.Update1`: what a caller may ask of the service."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import stat
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, TypeVar

import twinslot
from twinslot.app.updater import JsonObject, Updater
from twinslot.bus import names
from twinslot.bus.descriptors import duplicate
from twinslot.bus.library import Variant
from twinslot.bus.options import unpack
from twinslot.bus.server.callers import Callers
from twinslot.bus.server.calls import SharedLook
from twinslot.bus.server.jobs import Jobs
from twinslot.bus.server.objects import Call, Exporter, Method
from twinslot.core.attestation import NONCE
from twinslot.core.errors import Refusal, RefusedError, TwinslotError
from twinslot.core.lifecycle import ON_TRIAL
from twinslot.core.manifest import Attachment
from twinslot.core.origin import NOBODY, Origin, OriginKind
from twinslot.core.progress import Observer
from twinslot.core.requests import ActivateOptions, CommitOptions, InstallOptions, RollbackOptions, overriding
from twinslot.core.rights import Right
from twinslot.core.text import printable
from twinslot.core.transaction import Transaction
from twinslot.system.cancellation import Cancellation

HISTORY: Final = 1000  # most transactions, or rows of the audit, in one answer
_ACTION_MAX: Final = 100  # characters of the name of a server's order
_ROWS: Final = (1 << 63) - 1  # the highest number that SQLite knows; a caller's may be higher

T = TypeVar("T")
UpdaterOf = Callable[[Origin], Updater]

_log: Final = logging.getLogger(__name__)


class Update:
    """The service's one lasting object.

    Args:
        updater_of: The device, asked for somebody; cheap, and called for each job.
        exporter: Where this object is exported.
        callers: Tells when a caller leaves.
    """

    interface = names.UPDATE

    def __init__(self, updater_of: UpdaterOf, exporter: Exporter, callers: Callers) -> None:
        self._updater_of, self._exporter, self._callers = updater_of, exporter, callers
        self._looking = updater_of(NOBODY)
        self.jobs = Jobs(exporter, self._jobs_changed)
        self._told: dict[str, Any] = {}
        self._telling = asyncio.Lock()
        self._status = SharedLook(lambda: asyncio.to_thread(self._looking.status))
        self._one_history = asyncio.Lock()
        self._one_inhibit = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        exporter.add(names.PATH, self)

    @property
    def methods(self) -> Mapping[str, Method]:
        """See `BusObject`."""
        return {
            "Install": self._install,
            "InstallFile": self._install_file,
            "Activate": self._activate,
            "Commit": self._commit,
            "Rollback": self._rollback,
            "Cancel": self._cancel,
            "Decline": self._decline,
            "Approve": self._approve,
            "Hold": self._hold,
            "Inhibit": self._inhibit,
            "GetStatus": self._get_status,
            "GetHistory": self._get_history,
            "GetLog": self._get_log,
            "GetRunningRelease": self._get_running_release,
            "ReadAttachment": self._read_attachment,
            "GetWaitingRelease": self._get_waiting_release,
            "ReadWaitingAttachment": self._read_waiting_attachment,
            "GetAttestation": self._get_attestation,
        }

    async def properties(self) -> dict[str, Any]:
        """See `BusObject`. Looked up anew each time, since others change the device as well."""
        return await self._of_the_device() | self._of_jobs()

    async def drain(self) -> None:
        """Wait until what changed was told."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _install(self, call: Call) -> list[Any]:
        url, given = call.body
        wanted = await _options(InstallOptions, given, call)
        origin = _behind(wanted.action, call.origin)
        updater, cancellation = self._updater_of(origin), Cancellation()
        work = lambda observer: updater.install(url, wanted, observer, cancellation)  # noqa: E731
        return [self.jobs.start("install", work, origin, cancellation).path]

    async def _install_file(self, call: Call) -> list[Any]:
        index, given = call.body
        wanted = await _options(InstallOptions, given, call)
        origin = _behind(wanted.action, call.origin)
        updater, cancellation = self._updater_of(origin), Cancellation()
        self.jobs.require_idle()
        descriptor = _duplicate(call.descriptors, index)
        lasting = stat.S_IFMT(os.fstat(descriptor).st_mode) in (stat.S_IFREG, stat.S_IFBLK)

        def work(observer: Observer) -> Transaction:
            try:
                return updater.install(descriptor, wanted, observer, cancellation)
            finally:
                os.close(descriptor)

        def finished() -> None:
            if not lasting:
                self._later(self._callers.forget(call.sender))

        job = self.jobs.start("install", work, origin, cancellation, finished)
        if not lasting:
            try:
                await self._callers.watch(call.sender, cancellation.set)
            except TwinslotError:
                cancellation.set()
                raise
        return [job.path]

    async def _activate(self, call: Call) -> list[Any]:
        options, updater = await _options(ActivateOptions, call.body[0], call), self._updater_of(call.origin)
        return [self.jobs.start("activate", lambda observer: updater.activate(options, observer), call.origin).path]

    async def _commit(self, call: Call) -> list[Any]:
        options, updater = await _options(CommitOptions, call.body[0], call), self._updater_of(call.origin)
        return [self.jobs.start("commit", lambda observer: updater.commit(options, observer), call.origin).path]

    async def _rollback(self, call: Call) -> list[Any]:
        options, updater = await _options(RollbackOptions, call.body[0], call), self._updater_of(call.origin)
        return [self.jobs.start("rollback", lambda observer: updater.rollback(options, observer), call.origin).path]

    async def _cancel(self, call: Call) -> list[Any]:
        running = self.jobs.current
        if running is not None:
            running.cancel(call.origin)
            return [running.path]
        updater = self._updater_of(call.origin)
        return [self.jobs.start("cancel", lambda _: updater.cancel(), call.origin).path]

    async def _approve(self, call: Call) -> list[Any]:
        (release,), updater = call.body, self._updater_of(call.origin)
        return [self.jobs.start("approve", lambda _: updater.approve(release), call.origin).path]

    async def _hold(self, call: Call) -> list[Any]:
        (seconds,), updater = call.body, self._updater_of(call.origin)
        return [self.jobs.start("hold", lambda _: updater.hold(seconds), call.origin).path]

    async def _inhibit(self, call: Call) -> list[Any]:
        what, who, why = call.body
        async with self._one_inhibit:  # one after the other, since each looks for the next free name
            call.answered.append(await asyncio.to_thread(self._updater_of(call.origin).inhibit, what, who, why))
        return [0]

    async def _decline(self, call: Call) -> list[Any]:
        action, why = call.body
        updater = self._updater_of(_behind(action, call.origin))
        self.jobs.require_idle()
        await asyncio.to_thread(updater.decline, action, why)
        return []

    async def _get_status(self, _: Call) -> list[Any]:
        return [json.dumps(await self._status(), default=str)]

    async def _get_history(self, call: Call) -> list[Any]:
        limit = min(call.body[0], HISTORY)
        async with self._one_history:
            return [json.dumps(await asyncio.to_thread(self._looking.history, limit), default=str)]

    async def _get_log(self, call: Call) -> list[Any]:
        after, since, limit = call.body
        async with self._one_history:
            page = await asyncio.to_thread(self._looking.log, min(after, _ROWS), since, min(limit or HISTORY, HISTORY))
            return [json.dumps(page)]

    async def _get_running_release(self, _: Call) -> list[Any]:
        async with self._one_history:
            return [json.dumps(await asyncio.to_thread(self._looking.running_release))]

    async def _read_attachment(self, call: Call) -> list[Any]:
        return await self._read(self._looking.running_attachment, call)

    async def _get_waiting_release(self, _: Call) -> list[Any]:
        async with self._one_history:
            return [json.dumps(await asyncio.to_thread(self._looking.waiting_release))]

    async def _read_waiting_attachment(self, call: Call) -> list[Any]:
        return await self._read(self._looking.waiting_attachment, call)

    async def _read(self, look: Callable[[str], tuple[Attachment, bytes]], call: Call) -> list[Any]:
        async with self._one_history:  # one after the other: each is up to 4 MiB
            attachment, content = await asyncio.to_thread(look, call.body[0])
            return [attachment.name, attachment.media_type, content]

    async def _get_attestation(self, call: Call) -> list[Any]:
        nonce = str(call.body[0]).lower()
        if nonce and not NONCE.fullmatch(nonce):
            expected = "2 to 128 hex digits, an even number"
            raise RefusedError(Refusal("nonce", "this cannot be a nonce", expected, nonce[:100]))
        async with self._one_history:
            return [json.dumps(await asyncio.to_thread(self._looking.attest, nonce))]

    async def _of_the_device(self) -> dict[str, Any]:
        status = await self._status()
        return {
            "Version": twinslot.__version__,
            "RunningSlot": str(status["running"] or ""),
            "State": str(status["state"]),
            "OnTrial": status["state"] in ON_TRIAL,
            "Slots": {name: _slot(slot) for name, slot in status["slots"].items()},
        }

    def _of_jobs(self) -> dict[str, Any]:
        jobs = self.jobs
        last = jobs.last.result() if jobs.last else ""
        return {"Busy": jobs.current is not None, "CurrentJob": jobs.current_path, "LastResult": last}

    def _jobs_changed(self) -> None:
        """What the job itself changed is told at once; what it changed of the device takes a look at the device."""
        self._tell(self._of_jobs())
        self._later(self._refresh())

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _refresh(self) -> None:
        async with self._telling:  # in the order in which the device was looked at
            try:
                self._tell(await self._of_the_device())
            except TwinslotError as e:
                _log.warning("the status cannot be told: %s", e)

    def _tell(self, now: dict[str, Any]) -> None:
        """Tell the properties that changed since they were told last."""
        changed = {name: value for name, value in now.items() if self._told.get(name) != value}
        self._told |= changed
        if changed:
            self._exporter.changed(names.PATH, names.UPDATE, changed)


# keeps: S21 (in the service's process)
async def _options(kind: type[T], given: Mapping[str, Variant], call: Call) -> T:
    """The options of a call, if the caller may choose them: those that override a check need a right of their own."""
    options = unpack(kind, given)
    if overriding(options):
        await call.require(Right.OVERRIDE)
    return options


# keeps: S19 (in the service's process)
def _behind(action: str, caller: Origin) -> Origin:
    """Who asks, where a caller hands on what a server wants.

    The caller's name on the bus, another one each time, is left out: one order that is refused again and again
    counts as one.
    """
    if not action:
        return caller
    return Origin(OriginKind.SERVER, uid=caller.uid, login=caller.login, action=printable(action)[:_ACTION_MAX])


def _duplicate(descriptors: list[int], index: int) -> int:
    """A descriptor of our own; the received ones are closed once the call was answered."""
    if index >= len(descriptors):
        raise RefusedError(Refusal("no-descriptor", "the message carries no descriptor", str(index + 1), "0"))
    return duplicate(descriptors[index], "the descriptor of the message")


def _slot(known: JsonObject) -> dict[str, Variant]:
    """One slot of `engine.report.status`; what is not known is left out."""
    release = known.get("release") or {}
    told = {
        "running": ("b", known.get("running")),
        "state": ("s", known.get("state")),
        "release": ("s", release.get("name")),
        "sequence": ("t", release.get("sequence")),
        "epoch": ("t", release.get("epoch")),
        "installed-at": ("s", known.get("installed_at")),
    }
    return {name: Variant(kind, _plain(value)) for name, (kind, value) in told.items() if value is not None}


def _plain(value: object) -> object:
    return names.text(str(value)) if isinstance(value, str) else value
