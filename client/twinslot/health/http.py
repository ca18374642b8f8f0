"""A check that asks a web service of this device."""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import socket
import threading
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from twinslot.core.circumstance import is_shortage
from twinslot.core.errors import DeviceError
from twinslot.health.base import CheckOptions, CheckVerdict, NotAskedError

# Names are not looked up: a resolver could lead elsewhere.
LOOPBACK: Final = {"localhost": "127.0.0.1", "127.0.0.1": "127.0.0.1", "::1": "::1"}


@dataclass(frozen=True, slots=True)
class HttpCheck:
    """A GET on the loopback interface answers with the expected status; redirects are not followed.

    Raises:
        DeviceError: `device.config-value`: the URL leaves the device or is none.
    """

    name: str
    url: str
    status: int = 200
    terms: CheckOptions = field(default_factory=CheckOptions)

    def __post_init__(self) -> None:
        _split(self.url)

    def probe(self, seconds: float) -> CheckVerdict:
        """Ask once.

        Raises:
            NotAskedError: This process lacks what it needs to ask.
        """
        host, port, target = _split(self.url)
        connection = http.client.HTTPConnection(host, port, timeout=seconds)
        # The timeout of a socket starts anew with each byte; the timer bounds the whole.
        late = threading.Event()
        timer = threading.Timer(seconds, _hang_up, (connection, late))
        timer.daemon = True
        try:
            _start(timer)
            connection.request("GET", target, headers={"Connection": "close"})
            found = connection.getresponse().status
        except (OSError, http.client.HTTPException) as e:
            if isinstance(e, OSError) and is_shortage(e):
                raise NotAskedError(e) from e
            return CheckVerdict(
                passed=False, detail=f"no answer within {seconds:g} s" if late.is_set() else f"no answer: {e}"
            )
        finally:
            timer.cancel()
            connection.close()
        detail = f"status {found}" if found == self.status else f"expected status '{self.status}', found '{found}'"
        return CheckVerdict(found == self.status, detail)


def _start(timer: threading.Timer) -> None:
    try:
        timer.start()
    except RuntimeError as e:  # "can't start new thread": pthread_create(3) says EAGAIN
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from e


def _hang_up(connection: http.client.HTTPConnection, late: threading.Event) -> None:
    late.set()
    with contextlib.suppress(OSError, AttributeError):  # not connected yet: then the connect timeout counts
        connection.sock.shutdown(socket.SHUT_RDWR)


def _split(url: str) -> tuple[str, int, str]:
    try:
        parts = urlsplit(url)
        host, port = LOOPBACK.get(parts.hostname or ""), parts.port or 80
    except ValueError:
        host, port, parts = None, 0, urlsplit("")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if parts.scheme != "http" or host is None or parts.username or not target.isascii() or " " in target:
        raise DeviceError(
            "the URL of a health check must stay on this device",
            code="config-value",
            expected="http://127.0.0.1[:PORT]/PATH",
            found=url,
        )
    return host, port, target
