"""The engine's end of decryption: one process for the private key, another for the units of the image (S22)."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from twinslot.core.circumstance import is_shortage, shortage
from twinslot.core.device_key import pem_of
from twinslot.core.errors import DeviceError, TwinslotError
from twinslot.core.pkcs11_provider import point_pem
from twinslot.core.pkcs11_uri import is_pkcs11
from twinslot.system.token import Token
from twinslot.worker.launch import Worker, start
from twinslot.worker.protocol import Kind

START: Final = 120.0  # seconds until a worker answers: importing cryptography takes some on a slow core


@dataclass(frozen=True, slots=True)
class Unlocked:
    """What opens the units of one image; owned by whoever receives it.

    Attributes:
        worker: The process.
        descriptor: Of the socket over which it is asked.
    """

    worker: Worker
    descriptor: int


@dataclass(frozen=True, slots=True)
class Decryption:
    """How this device opens encrypted images.

    Attributes:
        get_worker: A fresh worker of a kind.
        key: File with the private key, or the URI of one in a token; empty: there is none.
    """

    get_worker: Callable[[str], Worker]
    key: str = ""

    def started(self) -> list[Worker]:
        """The two workers that `unlock` takes, so that they start while the head of the image is verified.

        They know nothing yet. The caller's to close, as far as `unlock` left them.
        """
        ready: list[Worker] = []
        with contextlib.suppress(TwinslotError):  # what is wrong is told when they are needed
            ready.extend(self.get_worker("decrypt") for _ in range(2))
        return ready

    # keeps: S22
    def unlock(self, envelope: bytes, ready: list[Worker] | None = None) -> Unlocked:
        """Have the envelope opened, and start what opens the units.

        Args:
            envelope: As it stands in the image.
            ready: Workers of `started`, which are taken out of the list first.

        Raises:
            RefusedError: `refused.recipient`: the image is for other keys.
            DeviceError: `device.decryption-key`, `device.pkcs11-...`: this device has none, or it cannot be used.
            ImageError: The envelope is damaged.
            TransportError: A worker died.
        """
        ready = [] if ready is None else ready
        content = self._content_key(envelope, ready)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with theirs:
                worker = ready.pop() if ready else self.get_worker("decrypt")
                try:
                    worker.channel.silence = START
                    worker.send(Kind.SERVE, content, descriptor=theirs.fileno())
                except BaseException:
                    worker.close()
                    raise
            return Unlocked(worker, ours.detach())
        finally:
            ours.close()

    def _content_key(self, envelope: bytes, ready: list[Worker]) -> bytes:
        """As the worker says it; this process only hands it on."""
        if not self.key:
            what, hint = "the image is encrypted, and this device has no decryption key", "set '[decryption] key'"
            raise DeviceError(what, code="decryption-key", hint=hint)
        token = Token.of(self.key) if is_pkcs11(self.key) else None
        descriptor = open_private(Path(self.key)) if token is None else _public_file(token)
        try:
            worker = ready.pop() if ready else self.get_worker("decrypt")
            try:
                worker.channel.silence = START
                worker.send(Kind.UNWRAP, envelope, descriptor=descriptor)
                if token is not None:
                    shares = worker.receive(Kind.EXCHANGE).payload
                    worker.send(Kind.SHARED, token.exchange(point_pem(shares)))
                return worker.receive(Kind.CONTENT_KEY).payload
            finally:
                worker.close()
        finally:
            os.close(descriptor)


NO_KEY: Final = Decryption(start)


def _public_file(token: Token) -> int:
    """A file without a name that holds the public half of a key in a token; the caller's."""
    pem = pem_of(token.public()).encode()
    try:
        descriptor = os.memfd_create("public", os.MFD_CLOEXEC)
        os.write(descriptor, pem)
        os.lseek(descriptor, 0, os.SEEK_SET)
    except OSError as e:
        raise shortage("the decryption key cannot be asked now", e) from e
    return descriptor


# keeps: S22
def open_private(path: Path) -> int:
    """The file of a private key, open for reading; the caller's.

    Raises:
        DeviceError: `device.decryption-key`: it cannot be read, or others may read it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError as e:
        if is_shortage(e):
            raise shortage(f"the decryption key '{path}' cannot be read now", e) from e
        what = f"the decryption key '{path}' cannot be read"
        raise DeviceError(what, code="decryption-key", found=e.strerror or e, hint="see '[decryption] key'") from e
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) and not mode & 0o077:
        return descriptor
    os.close(descriptor)
    found = f"mode {stat.S_IMODE(mode):04o}" if stat.S_ISREG(mode) else "no regular file"
    what, hint = f"the decryption key '{path}' is not kept secret", f"chmod 0400 '{path}'"
    raise DeviceError(what, code="decryption-key", expected="a file of mode 0400 or 0600", found=found, hint=hint)
