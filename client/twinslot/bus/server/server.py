"""The service's life on the bus: take the name, answer, leave when idle or when told to."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import Final

from twinslot.bus import names
from twinslot.bus.library import (
    LARGEST,
    MessageBus,
    NameFlag,
    RequestNameReply,
    ask_daemon,
    close_bus,
    open_bus,
    until_lost,
)
from twinslot.bus.server.callers import Callers
from twinslot.bus.server.interface import Update, UpdaterOf
from twinslot.bus.server.objects import Exporter
from twinslot.core.errors import DeviceError
from twinslot.core.model import Reason
from twinslot.system.caller import this_process

IDLE: Final = 60.0  # seconds without a job and without a call, then the service leaves
GRACE: Final = 45.0  # seconds for a job to stop; the unit's TimeoutStopSec= (60) is longer

_log: Final = logging.getLogger(__name__)


def serve(updater_of: UpdaterOf, *, address: str | None = None, idle: float = IDLE, grace: float = GRACE) -> None:
    """Be the service until it is idle, or until SIGTERM or SIGINT: then the running job is cancelled and its end told.

    Args:
        updater_of: The device, asked for a caller.
        address: D-Bus server address; None is the system bus.
        idle: Seconds without a job and without a call.
        grace: Seconds that a job gets to stop before the service leaves without it; a power cut could do no worse.

    Raises:
        DeviceError: `device.bus`: no bus, the name is taken or not allowed, or the bus went away.
    """
    asyncio.run(_Server(updater_of, idle, grace).run(address))


class _Server:
    def __init__(self, updater_of: UpdaterOf, idle: float, grace: float) -> None:
        self._updater_of, self._idle, self._grace = updater_of, idle, grace
        self._stop = asyncio.Event()
        self._active = 0.0  # loop time of the last call, or of the last end of a job

    async def run(self, address: str | None) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        bus = await open_bus(address, LARGEST)
        callers = Callers(bus)
        exporter = Exporter(bus, callers, self._touch)
        update = Update(self._updater_of, exporter, callers)
        self._touch()
        lost = loop.create_task(self._until_lost(bus))
        try:
            await _take_name(bus)
            while not await self._told_to_stop(update) and not await self._left_idle(bus, exporter):
                pass
            await self._end(update)
            if lost.done():
                raise DeviceError("the message bus went away", code="bus")
            await update.drain()
            await exporter.drain()
            await ask_daemon(bus, "GetId")  # its answer comes after everything we sent
        finally:
            lost.cancel()
            await close_bus(bus)

    def _touch(self) -> None:
        self._active = asyncio.get_running_loop().time()

    async def _until_lost(self, bus: MessageBus) -> None:
        try:
            await until_lost(bus)
        except (OSError, EOFError) as e:
            _log.warning("the message bus went away: %s", e)
        self._stop.set()

    async def _told_to_stop(self, update: Update) -> bool:
        """Wait until the service is idle (False) or told to stop (True)."""
        loop = asyncio.get_running_loop()
        while not self._stop.is_set():
            job = update.jobs.current
            left = self._idle if job else self._active + self._idle - loop.time()
            if left <= 0:
                return False
            try:
                await asyncio.wait_for(self._stop.wait(), left)
            except TimeoutError:
                if job:
                    self._touch()
        return True

    async def _left_idle(self, bus: MessageBus, exporter: Exporter) -> bool:
        """Give the name back; a call that came in meanwhile makes us take it again."""
        before = self._active
        await ask_daemon(bus, "ReleaseName", "s", names.SERVICE)
        await exporter.drain()
        if self._active == before:
            return True
        await _take_name(bus)
        return False

    async def _end(self, update: Update) -> None:
        jobs = update.jobs
        jobs.close()
        job = jobs.current
        if job is None:
            return
        if job.cancellable:
            job.cancel(this_process(), Reason.STOPPED)  # systemd wants the service gone; nobody meant this install
        try:
            await asyncio.wait_for(job.done.wait(), self._grace)
        except TimeoutError:
            _log.warning("job '%s' did not stop; leaving without it", job.path)
            job.give_up()


async def _take_name(bus: MessageBus) -> None:
    (reply,) = await ask_daemon(bus, "RequestName", "su", names.SERVICE, NameFlag.DO_NOT_QUEUE.value)
    if reply != RequestNameReply.PRIMARY_OWNER.value:
        raise DeviceError(
            f"another process owns '{names.SERVICE}' on the bus", code="bus", hint="is the service running?"
        )
