"""The engine's end of decryption: one process for the private key, another for the units of the image (S22)."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from twinslot.core.circumstance import is_shortage, shortage
from twinslot.core.errors import DeviceError
from twinslot.worker.launch import Worker, start
from twinslot.worker.protocol import Kind

KEY_MAX: Final = 16 * 1024  # bytes of a key file; the longest in use have some hundred
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
        key: File with the private key; None: there is none.
    """

    get_worker: Callable[[str], Worker]
    key: Path | None = None

    # keeps: S22
    def unlock(self, envelope: bytes) -> Unlocked:
        """Have the envelope opened, and start what opens the units.

        Raises:
            RefusedError: `refused.recipient`: the image is for other keys.
            DeviceError: `device.decryption-key`: this device has none, or it cannot be used.
            ImageError: The envelope is damaged.
            TransportError: A worker died.
        """
        content = self._content_key(envelope)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with theirs:
                worker = self.get_worker("decrypt")
                try:
                    worker.channel.silence = START
                    worker.send(Kind.SERVE, content, descriptor=theirs.fileno())
                except BaseException:
                    worker.close()
                    raise
            return Unlocked(worker, ours.detach())
        finally:
            ours.close()

    def _content_key(self, envelope: bytes) -> bytes:
        """As the worker says it; this process only hands it on."""
        if self.key is None:
            what, hint = "the image is encrypted, and this device has no decryption key", "set '[decryption] key'"
            raise DeviceError(what, code="decryption-key", hint=hint)
        descriptor = open_private(self.key)
        try:
            worker = self.get_worker("decrypt")
            try:
                worker.channel.silence = START
                worker.send(Kind.UNWRAP, envelope, descriptor=descriptor)
                return worker.receive(Kind.CONTENT_KEY).payload
            finally:
                worker.close()
        finally:
            os.close(descriptor)


NO_KEY: Final = Decryption(start)


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
