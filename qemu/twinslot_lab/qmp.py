"""The door to QEMU's monitor: commands and events of one emulator, from ordinary (not asyncio) code."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from qemu.qmp import EventListener, ExecuteError, QMPClient, QMPError

from twinslot_lab.errors import BoardError

T = TypeVar("T")
_ANSWER = 30  # seconds for any monitor command


@dataclass(frozen=True, slots=True)
class QmpEvent:
    """Something QEMU reported, such as RESET or WATCHDOG (QEMU QMP reference, "Events").

    Attributes:
        name: QMP's name.
        data: Its fields.
        at: When it arrived, on the monotonic clock.
    """

    name: str
    data: dict[str, Any] = field(default_factory=dict)
    at: float = 0.0


class Monitor:
    """A QMP session over a connected socket, which it owns. Its event loop runs in a thread of its own.

    Raises:
        BoardError: QEMU did not answer.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.events: list[QmpEvent] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="qmp", daemon=True)
        self._thread.start()
        self._listening: asyncio.Task[None] | None = None
        self._client = QMPClient("board")
        self._wait(self._open(connection))

    async def _open(self, connection: socket.socket) -> None:
        listener = EventListener()
        self._client.register_listener(listener)
        self._listening = asyncio.create_task(self._listen(listener))
        await self._client.connect(connection)

    async def _listen(self, listener: EventListener) -> None:
        async for message in listener:
            data = message.get("data")
            self.events.append(
                QmpEvent(str(message["event"]), data if isinstance(data, dict) else {}, time.monotonic())
            )

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result(_ANSWER)
        except ExecuteError as e:
            raise BoardError(f"QEMU refused: {e}") from e
        except (QMPError, TimeoutError, OSError) as e:
            raise BoardError(f"QEMU's monitor does not answer: {e}") from e

    def execute(self, command: str, **arguments: object) -> object:
        """Run a QMP command and return its result.

        Raises:
            BoardError: QEMU refused it, or is gone.
        """
        return self._wait(self._client.execute(command, arguments))

    def count(self, name: str) -> int:
        """How many events of this name have arrived so far."""
        return sum(event.name == name for event in self.events)

    def close(self) -> None:
        """End the session; QEMU may be gone already."""
        try:
            self._wait(self._shut())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _shut(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        with suppress(QMPError, EOFError, OSError):  # how the session ended does not matter any more
            await self._client.disconnect()
