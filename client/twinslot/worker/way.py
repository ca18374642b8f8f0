"""The way from a fetching worker to servers: a relay, and a socket between both, which the engine hands out."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from twinslot.core.circumstance import shortage
from twinslot.worker.launch import Worker
from twinslot.worker.protocol import Kind

START: Final = 120.0  # seconds until a relay takes its task; starting Python takes many on a slow core
_OF_THE_RELAY: Final = (
    *("ca_file", "client_cert", "client_key", "pins", "proxy", "no_proxy"),
    *("credential_for", "credential_kind", "credential_file"),
)


# keeps: S22
@contextlib.contextmanager
def relay_for(
    get: Callable[[str], Worker], url: str, http: Mapping[str, Any], nice: int = 0
) -> Iterator[tuple[Worker, int]]:
    """A relay for downloads that begin at this address, and a descriptor of the way to it, for the worker.

    The relay is the caller's to close, unless the block fails; the descriptor is closed with the block.

    Args:
        get: A fresh worker by its kind.
        url: The first address; what redirects may do is measured by it.
        http: Of the device, as `HttpSettings` has them.
        nice: CPU priority.

    Raises:
        DeviceError: `device.worker`, `device.resources`: no relay can be had.
        TransportError: It died at once.
    """
    relay = get("relay")
    try:
        with _socket_pair() as (ours, theirs):
            relay.channel.silence = START
            asked = {"url": url, "http": dict(http), "nice": nice}
            relay.send(Kind.OPEN, json.dumps(asked).encode(), descriptor=ours.fileno())
            ours.close()  # so that the worker notices when the relay is gone
            yield relay, theirs.fileno()
    except BaseException:
        relay.close()
        raise


# keeps: S22
def for_the_worker(http: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without what is the relay's alone: who is believed, our key and token, the proxy."""
    return {name: value for name, value in http.items() if name not in _OF_THE_RELAY}


@contextlib.contextmanager
def _socket_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends, closed here once others have them.

    Raises:
        DeviceError: `device.resources`.
    """
    try:
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as e:
        raise shortage("relay and worker cannot be connected", e) from e
    with pair[0], pair[1]:
        yield pair
