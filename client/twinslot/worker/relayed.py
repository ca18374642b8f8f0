"""The fetching worker's end of the relay: connections by asking, since this process has no network. See relay.py."""

from __future__ import annotations

import errno
import json
import os
import select
import socket
from collections.abc import Callable
from typing import Any, Final

from twinslot.core.address import Address
from twinslot.core.errors import DeviceError
from twinslot.transport.http.dial import Line
from twinslot.transport.http.options import HttpSettings
from twinslot.transport.http.retry import Broken, RetryPolicy
from twinslot.transport.http.timed_socket import TICK, TimedSocket
from twinslot.worker.protocol import LINE_NUMBER, Channel, Kind

_AGES: Final = 86_400.0 * 365  # seconds; what JSON has instead of a deadline that never comes


class RelayClient:
    """Asks the relay of one download. Used by one thread.

    Args:
        sock: The one that the engine handed out; the caller's to close.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket, self._channel = sock, Channel(sock)

    def dialer(
        self, _first: Address, settings: HttpSettings, policy: RetryPolicy, tick: Callable[[], None]
    ) -> RelayedDialer:
        """In the place of `Dialer`: the first address, by which rules are measured, the relay has from the engine."""
        return RelayedDialer(self, settings, policy, tick)

    def dial(
        self, address: Address, seconds: float, left: float, tick: Callable[[], None]
    ) -> tuple[dict[str, Any], int]:
        """What the relay says of a new line, and the descriptor, the caller's from here on.

        Raises:
            Broken: Another try may help.
            TwinslotError: What the relay reported.
        """
        # The query, where tokens stand, is the server's alone.
        asked = {"url": str(address), "seconds": seconds, "left": min(left, _AGES)}
        self._channel.send(Kind.DIAL, json.dumps(asked).encode())
        self._await(tick)
        frame = self._channel.receive(Kind.LINE, Kind.BROKEN)
        fields = _read(frame.payload)
        if frame.kind is Kind.BROKEN:
            broken = Broken(str(fields.get("found", "")))
            broken.absent = fields.get("absent") is True
            raise broken
        if frame.descriptor < 0:
            raise DeviceError("the relay sent no connection", code="worker", found="no descriptor")
        return fields, frame.descriptor

    def why(self, number: int) -> str:
        """Why this line ended; empty: as it should."""
        self._channel.send(Kind.WHY, LINE_NUMBER.pack(number))
        return str(_read(self._channel.receive(Kind.BROKEN).payload).get("found", ""))

    def _await(self, tick: Callable[[], None]) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        while not poll.poll(TICK * 1000):
            tick()


class RelayedDialer:
    """Does what `Dialer` does, by asking."""

    def __init__(
        self, relay: RelayClient, settings: HttpSettings, policy: RetryPolicy, tick: Callable[[], None]
    ) -> None:
        self._relay, self._settings, self._policy, self._tick = relay, settings, policy, tick

    # keeps: S22 (in the worker's process)
    def dial(self, address: Address) -> Line:
        """See `Dialer.dial`."""
        left = self._policy.left()
        fields, descriptor = self._relay.dial(address, self._settings.connect_timeout, left, self._tick)
        try:
            number, by_proxy = int(fields["number"]), fields["by_proxy"] is True
        except (KeyError, TypeError, ValueError) as e:
            os.close(descriptor)
            raise DeviceError("the relay's answer cannot be read", code="worker", found="other words") from e
        sock = socket.socket(fileno=descriptor)
        return Line(RelayedSocket(sock, self._policy.left, self._tick, lambda: self._relay.why(number)), by_proxy)


class RelayedSocket(TimedSocket):
    """A line of the relay. Where it ends, the relay is asked whether that was an end or a fault."""

    def __init__(
        self, sock: socket.socket, left: Callable[[], float], tick: Callable[[], None], why: Callable[[], str]
    ) -> None:
        super().__init__(sock, left, tick)
        self._why = why

    def receive_into(self, buffer: Any) -> int:
        """See `TimedSocket.receive_into`."""
        count = super().receive_into(buffer)
        if count == 0 and len(buffer) and (reason := self._why()):
            raise ConnectionResetError(errno.ECONNRESET, reason)
        return count


def _read(payload: bytes) -> dict[str, Any]:
    """What the relay says.

    Raises:
        DeviceError: `device.worker`.
    """
    try:
        fields = json.loads(payload)
    except (ValueError, RecursionError) as e:
        raise DeviceError("the relay's answer cannot be read", code="worker", found="other words") from e
    return fields if isinstance(fields, dict) else {}
