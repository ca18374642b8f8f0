"""Getting a worker: from systemd's sockets, or by starting one and taking its privileges away.

Under systemd each connection to /run/twinslot/fetch.sock or verify.sock starts a sandboxed instance
(systemd/twinslot-fetch@.service, twinslot-verify@.service). Without it (`--no-service`: factory, rescue), root starts
the worker through setpriv(1): another user, no groups, no capabilities, no new privileges; the verifying one also
without network, through unshare(1). Both programs are util-linux's, which every Debian has.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

import twinslot
from twinslot.core.errors import DeviceError
from twinslot.worker.frames import Channel

SOCKETS: Final = Path("/run/twinslot")
USERS: Final = ("twinslot-fetch", "nobody")  # the first that exists
TIMEOUT: Final = (
    120.0  # seconds of silence from a started worker before its first answer; tuf takes seconds on slow cores
)


class Worker:
    """A running worker and the channel to it. `close` ends both; it may be called from any thread, and twice."""

    def __init__(self, channel: Channel, process: subprocess.Popen[bytes] | None) -> None:
        self.channel = channel
        self._process = process

    def close(self) -> None:
        """Hang up, and collect the process if it is ours."""
        self.channel.close()
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def connect(kind: str) -> Worker:
    """A worker of this kind (`fetch`, `verify`) from systemd.

    Raises:
        DeviceError: `device.worker`: the socket unit does not listen.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    path = SOCKETS / f"{kind}.sock"
    try:
        sock.connect(str(path))
    except OSError as e:
        sock.close()
        raise DeviceError(
            f"no worker answers at '{path}'",
            code="worker",
            found=e.strerror,
            hint=f"systemctl start twinslot-{kind}.socket",
        ) from e
    return Worker(Channel(sock), None)


def start(kind: str) -> Worker:
    """Start a worker of this kind as a child without privileges.

    Raises:
        DeviceError: `device.worker`: it cannot be started.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.closing(theirs):
        try:
            process = subprocess.Popen(
                [*_without_privileges(kind), sys.executable, "-s", "-P", "-m", "twinslot.worker", kind],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env=_environment(),
                cwd="/",
                start_new_session=True,
            )
        except OSError as e:
            ours.close()
            raise DeviceError("a worker cannot be started", code="worker", found=e) from e
    return Worker(Channel(ours), process)


def _without_privileges(kind: str) -> list[str]:
    """The programs that take them away, when there are any to take."""
    if os.geteuid() != 0:
        return []
    account = next(filter(None, map(_account, USERS)), None)
    if account is None:
        raise DeviceError("no user for workers exists", code="worker", expected=" or ".join(USERS))
    no_network = ["unshare", "--net", "--"] if kind == "verify" else []
    user = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    return [*no_network, "setpriv", *user, "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all", "--"]


def _account(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _environment() -> dict[str, str]:
    """Nothing of ours but where the package is and how to find util-linux."""
    package = str(Path(twinslot.__file__).parents[1])
    return {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONPATH": package,
        "LC_ALL": "C.UTF-8",
        "MALLOC_ARENA_MAX": "1",
    }
