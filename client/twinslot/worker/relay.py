"""The relay: connections to servers, for a fetching worker that has no network and no key.

It looks names up, connects, asks a proxy for a tunnel and does TLS, with the rules of transport/http/dial.py, which
come from the engine and not from the worker: which kinds of addresses, which authorities, to whom our certificate is
shown, and that nothing elsewhere leads to this device. The worker gets a socket with the plain bytes. So the key of
`http.client_key` is never in a process that parses what a server or an image says (S22); this one parses TLS, by
OpenSSL, and a proxy's answer.

| from | kind | payload |
|---|---|---|
| engine | OPEN | JSON: first address and `[http]`; a socket rides along, over which the worker asks |
| worker | DIAL | JSON: address, seconds to connect, seconds until the deadline |
| relay | LINE | JSON: number, whether requests name the whole address; a socket rides along |
| relay | BROKEN | JSON: why there is no connection, and whether there is no such server |
| relay | ERROR | JSON of the error; another try does not help |
| worker | WHY | number of a line that ended (4 bytes) |
| relay | BROKEN | as above; empty when it ended as it should |
"""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from twinslot.core.address import parse_address
from twinslot.core.errors import DeviceError, TransportError, TwinslotError
from twinslot.system.priority import lower_priority
from twinslot.transport.http.credential import FETCHES, editor_for
from twinslot.transport.http.dial import Dialer
from twinslot.transport.http.options import HttpSettings
from twinslot.transport.http.places import Near
from twinslot.transport.http.retry import Broken, RetryPolicy
from twinslot.worker.protocol import GONE, LINE_NUMBER, Channel, Kind, unpack
from twinslot.worker.relay_pairs import LinePair

LINES_MAX: Final = 8  # open at once; a download has two, and a file beside the image one


def answer(channel: Channel) -> None:
    """One download: wait for OPEN, then make connections until the worker hangs up.

    Raises:
        TwinslotError: The request is not one of ours; `serving` reports it.
    """
    opened = channel.receive(Kind.OPEN)
    if opened.descriptor < 0:
        raise DeviceError("the request to the relay has no socket", code="worker", found="no descriptor")
    with socket.socket(fileno=opened.descriptor) as asking:
        fields = _fields(opened.payload)
        lower_priority(int(fields.get("nice", 0)))
        relay = Relay(asking, str(fields["url"]), HttpSettings.from_dict(fields["http"]))
        try:
            relay.run()
        except TransportError as e:
            if e.code != GONE:  # the worker has all that it wanted
                raise
        finally:
            relay.close()


class Relay:
    """The connections of one download.

    Args:
        asking: Over which the worker asks; the caller's.
        url: The first address, by which what redirects may do is measured.
        settings: Of the device.
        methods: Of requests that may have the credential.
    """

    def __init__(
        self, asking: socket.socket, url: str, settings: HttpSettings, methods: frozenset[str] = FETCHES
    ) -> None:
        self._first, self._settings, self._methods = parse_address(url), settings, methods
        self._asking, self._channel = asking, Channel(asking)
        self._near = {Near.ELSEWHERE}
        self._pairs: dict[int, LinePair] = {}
        self._number = 0

    def run(self) -> None:
        """Serve until the worker hangs up.

        Raises:
            TransportError: `transport.worker-gone`.
            DeviceError: `device.worker`: the worker does not speak this language.
        """
        while True:
            ready, watched = self._wait()
            for number in {watched[each] for each in ready if each in watched}:
                if not self._pairs[number].move():
                    self._drop(number)
            if self._asking.fileno() in ready:
                self._answer()

    def close(self) -> None:
        """Drop all connections."""
        for number in list(self._pairs):
            self._drop(number)

    def _wait(self) -> tuple[set[int], dict[int, int]]:
        """Descriptors that are ready, and the numbers of the pairs to which they belong."""
        poll, watched = select.poll(), {}
        poll.register(self._asking, select.POLLIN)
        for number, pair in self._pairs.items():
            for sock, events in zip((pair.near, pair.far), pair.wanted(), strict=True):
                if events:  # a side that ended would wake us for ever
                    poll.register(sock, events)
                    watched[sock.fileno()] = number
        return {descriptor for descriptor, _ in poll.poll()}, watched

    def _drop(self, number: int) -> None:
        self._pairs.pop(number).close()

    def _answer(self) -> None:
        frame = self._channel.receive(Kind.DIAL, Kind.WHY)
        if frame.kind is Kind.WHY:
            (number,) = unpack(LINE_NUMBER, frame.payload)
            pair = self._pairs.get(number)
            self._broken(pair.reason if pair else "", absent=False)
            return
        try:
            self._dial(_fields(frame.payload))
        except Broken as e:
            self._broken(str(e), absent=e.absent)
        except TwinslotError as e:
            self._channel.send_error(e)

    def _broken(self, found: str, *, absent: bool) -> None:
        self._channel.send(Kind.BROKEN, json.dumps({"found": found[:1000], "absent": absent}).encode())

    # keeps: S22 (in the relay's process)
    def _dial(self, fields: Mapping[str, Any]) -> None:
        """Connect, and hand the worker its end.

        Raises:
            Broken: Another try may help.
            TwinslotError: No other one does.
        """
        if len(self._pairs) >= LINES_MAX:
            raise DeviceError("the worker asks for too many connections", code="worker", expected=LINES_MAX)
        address = parse_address(str(fields["url"]))
        seconds = min(self._settings.connect_timeout, float(fields["seconds"]))
        settings = replace(self._settings, connect_timeout=seconds, deadline=max(float(fields["left"]), 0.001))
        policy = RetryPolicy(settings, self._first)
        policy.begin()
        editor = editor_for(address, settings, self._methods)
        line = Dialer(self._first, settings, policy, lambda: None, self._near).dial(address)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._number += 1
        # A proxy that reads requests would be given the credential, and take it wherever the request says.
        self._pairs[self._number] = LinePair(ours, line.socket.bare(), None if line.by_proxy else editor)
        told = json.dumps({"number": self._number, "by_proxy": line.by_proxy}).encode()
        with theirs:
            self._channel.send(Kind.LINE, told, descriptor=theirs.fileno())


def _fields(payload: bytes) -> dict[str, Any]:
    """What a request says.

    Raises:
        DeviceError: `device.worker`: not one of ours.
    """
    try:
        fields = json.loads(payload)
        if not isinstance(fields, dict):
            raise TypeError
    except (ValueError, TypeError, RecursionError) as e:
        raise DeviceError("the request to the relay cannot be read", code="worker", found="no JSON object") from e
    return fields
