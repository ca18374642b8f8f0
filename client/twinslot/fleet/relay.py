"""The fleet process's way to the server: a relay (worker/relay.py) with the rules of the device's configuration.

Whoever asks it says where to connect and no more: the files of TLS, the token, pins and the proxy are the
configuration's. It runs as the user `twinslot-relay`, which alone may read them (S22).
"""

from __future__ import annotations

import socket
from typing import Final

from twinslot.config.options import Config
from twinslot.core.errors import TransportError
from twinslot.transport.http.options import HttpSettings
from twinslot.worker.protocol import GONE
from twinslot.worker.relay import Relay

METHODS: Final = frozenset({"GET", "POST", "PUT"})  # of the API


def serve(asking: socket.socket, config: Config) -> None:
    """Make connections until the fleet process hangs up.

    Raises:
        TwinslotError: The configuration cannot be used, or whoever asks does not speak this language.
    """
    settings = HttpSettings.from_dict(config.network)
    relay = Relay(asking, config.hawkbit.url, settings, METHODS)
    try:
        relay.run()
    except TransportError as e:
        if e.code != GONE:
            raise
    finally:
        relay.close()
