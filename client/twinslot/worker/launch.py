"""Getting a worker: from systemd's sockets, or by starting one and taking its privileges away.

Under systemd each connection to /run/twinslot/fetch.sock or one of its neighbours starts a sandboxed instance
(systemd/twinslot-fetch@.service, read, relay, verify, decrypt). Without it (`--no-service`: a factory), root starts
the worker through setpriv(1): a user of its own, no groups, no capabilities, no new privileges; all but the relay also
without network, through unshare(1). Both programs are util-linux's, which every Debian has. The rest a worker takes
from itself (worker/__main__.py), before it reads a byte.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

import twinslot
from twinslot.core.circumstance import is_shortage, shortage
from twinslot.core.errors import DeviceError, TransportError
from twinslot.worker.error_codec import printable
from twinslot.worker.protocol import GONE, Channel, Frame, Kind, make_room

log = logging.getLogger(__name__)

SOCKETS: Final = Path("/run/twinslot")
KINDS: Final = ("fetch", "read", "relay", "verify", "decrypt")
# Where the package's users are missing, as in a rescue system: numbers without an account, at the end of the range that
# systemd gives to users that live as long as a process (systemd.io/UIDS-GIDS). Not `nobody`, whom many share: what one
# of them does to a kernel's count for each user, such as descriptors on their way (unix(7), ETOOMANYREFS), all feel.
PRIVATE_USERS: Final = 65_510
CONNECT: Final = 20.0  # seconds for systemd to take a connection
END: Final = 5.0  # seconds for the kernel to collect a killed worker; longer means that it hangs in a device
WORDS: Final = 16 * 1024  # bytes read of what a worker said on its standard error
CAP_SYS_ADMIN: Final = 1 << 21  # include/uapi/linux/capability.h; unshare(2) asks for it


class Worker:
    """A running worker and the channel to it. `close` ends both; it may be called from any thread, and twice.

    Args:
        channel: Owned.
        process: The child, with its standard error in a pipe; None: systemd's, who collects it.
    """

    def __init__(self, channel: Channel, process: subprocess.Popen[bytes] | None) -> None:
        self.channel = channel
        self._process = process
        self._guard = threading.Lock()
        self._closed = False

    def send(self, kind: Kind, *parts: bytes, descriptor: int = -1) -> None:
        """As `Channel.send`; when the worker is gone, the error says how it ended."""
        try:
            self.channel.send(kind, *parts, descriptor=descriptor)
        except TransportError as e:
            raise self._explained(e) from e

    def receive(self, *expected: Kind) -> Frame:
        """As `Channel.receive`; when the worker is gone, the error says how it ended."""
        try:
            return self.channel.receive(*expected)
        except TransportError as e:
            raise self._explained(e) from e

    def close(self) -> None:
        """Hang up, and kill and collect the process if it is ours; it has nothing to put in order."""
        with self._guard:
            self._closed = True
            self.channel.close()
            process, self._process = self._process, None
            if process is None:
                return
            process.kill()
            _collect(process)
            if process.stderr is not None:
                process.stderr.close()

    def _explained(self, error: TransportError) -> TransportError:
        with self._guard:
            if error.code != GONE or self._closed or self._process is None:
                return error
            status = _collect(self._process)
            words = _last_words(self._process)
        log.warning("a worker %s: %s", _how(status), words or "it said nothing")
        found = f"it {_how(status)}" + (f": {words.splitlines()[-1]}" if words else "")
        return TransportError(error.message, code=GONE.partition(".")[2], found=found, hint="install again")


_ahead: Final[dict[str, Worker]] = {}  # started, and taken by nobody yet


def connect(kind: str) -> Worker:
    """A worker of this kind (`fetch`, `read`, `relay`, `verify`, `decrypt`) from systemd.

    Raises:
        DeviceError: `device.worker`: the socket unit does not listen.
    """
    path = SOCKETS / f"{kind}.sock"
    try:
        sock = _connected(path)
    except OSError as e:
        if is_shortage(e):
            raise shortage(f"no worker can be asked for at '{path}'", e) from e
        raise DeviceError(
            f"no worker answers at '{path}'",
            code="worker",
            found=e.strerror or e,
            hint=f"systemctl start twinslot-{kind}.socket",
        ) from e
    return Worker(Channel(sock), None)


def _connected(path: Path) -> socket.socket:
    """A connection to the socket.

    Raises:
        OSError: As the system says it; the caller names what was meant.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.settimeout(CONNECT)
        sock.connect(str(path))
    except BaseException:
        sock.close()
        raise
    return sock


def start(kind: str) -> Worker:
    """A worker of this kind as a child without privileges: the one that was started ahead, or a new one.

    Raises:
        DeviceError: `device.worker`: it cannot be started.
    """
    if (ready := _ahead.pop(kind, None)) is not None:
        return ready
    try:
        return _started(kind)
    except OSError as e:
        if is_shortage(e):
            raise shortage(f"the worker '{kind}' cannot be started now", e) from e
        raise DeviceError(f"the worker '{kind}' cannot be started", code="worker", found=e) from e


def start_ahead(kind: str) -> None:
    """Start a worker that the next `start` of its kind takes; if that fails, it is told to whoever needs one.

    Whoever calls this calls `end_ahead` as well.
    """
    with contextlib.suppress(DeviceError):
        _ahead[kind] = start(kind)


def end_ahead() -> None:
    """End the workers that were started ahead and that nobody took."""
    while _ahead:
        _, worker = _ahead.popitem()
        worker.close()


def _started(kind: str) -> Worker:
    """Start the worker.

    Raises:
        OSError: As the system says it; the caller names what was meant.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.closing(theirs), contextlib.ExitStack() as stack:
        stack.callback(ours.close)
        make_room(theirs)
        process = subprocess.Popen(
            [*without_privileges(kind), sys.executable, "-s", "-P", "-m", "twinslot.worker", kind],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,  # never our terminal: what parses an image must not write there
            env=_environment(),
            cwd="/",
            start_new_session=True,
        )
        stack.pop_all()
    return Worker(Channel(ours), process)


# keeps: S22
def without_privileges(kind: str) -> list[str]:
    """The programs that take a worker's privileges away, when there are any to take.

    Raises:
        OSError: As the system says it; the caller names what was meant.
    """
    if os.geteuid() != 0:
        return []
    uid, gid = user_of(kind)
    no_network = ["unshare", "--net", "--"] if kind != "relay" and _may_unshare() else []
    user = [f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
    return [*no_network, "setpriv", *user, "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all", "--"]


def _may_unshare() -> bool:
    """Root in a container may lack the right; trust is then verified by another user all the same.

    Raises:
        OSError: As the system says it; the caller names what was meant.
    """
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return bool(found and int(found[1], 16) & CAP_SYS_ADMIN)


def user_of(kind: str) -> tuple[int, int]:
    """User and group of a worker: a pair for each kind, whether the package's users are there or not."""
    try:
        account = pwd.getpwnam(f"twinslot-{kind}")
    except KeyError:
        number = PRIVATE_USERS + KINDS.index(kind)
        return number, number
    return account.pw_uid, account.pw_gid


def _environment() -> dict[str, str]:
    """Nothing of ours but where the package is and how to find util-linux."""
    package = str(Path(twinslot.__file__).parents[1])
    return {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONPATH": package,
        "LC_ALL": "C.UTF-8",
        "MALLOC_ARENA_MAX": "1",
    }


def _collect(process: subprocess.Popen[bytes]) -> int | None:
    """Its exit status, or None when it does not end: then the next start of a program collects it."""
    try:
        return process.wait(END)
    except subprocess.TimeoutExpired:
        return None


def _how(status: int | None) -> str:
    if status is None:
        return "closed the connection"
    if status < 0:
        return f"was ended by signal {-status} ({signal.strsignal(-status)})"
    return f"ended with status {status}"


def _last_words(process: subprocess.Popen[bytes]) -> str:
    """What it said, the last lines; a worker that is gone writes no more, so this does not block."""
    assert process.stderr is not None
    os.set_blocking(process.stderr.fileno(), False)
    try:
        data = os.read(process.stderr.fileno(), WORDS)
    except OSError:
        return ""
    lines = [printable(line.strip()) for line in data.decode(errors="replace").splitlines() if line.strip()]
    return "\n".join(lines)
