"""`python3 -m twinslot.worker fetch|verify`, with the engine's socket as standard input.

What a worker must not be able to do is taken away before any input is read and before a parser is imported, whoever
started it. Only what needs root (another user, no network) is the starter's task, and a worker that is still root
refuses to work.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import sys
from typing import TYPE_CHECKING, Final

from twinslot import logs

if TYPE_CHECKING:
    from twinslot.worker.frames import Channel

PR_SET_DUMPABLE: Final = 4  # include/uapi/linux/prctl.h
PR_SET_NO_NEW_PRIVS: Final = 38
LIMITS: Final = {
    resource.RLIMIT_AS: 512 * 1024 * 1024,  # bytes of address space; a worker needs a tenth of it
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_FSIZE: 0,  # bytes: no file can be written
    resource.RLIMIT_NOFILE: 32,  # the standard three, the channel, the source, a connection and its look-up
    resource.RLIMIT_NPROC: 0,  # no child, no thread
}
USAGE: Final = "usage: python3 -m twinslot.worker fetch|verify, with a socket as standard input"


def drop() -> None:
    """No new privileges, no tracing, no core dumps, no files, no children, bounded memory."""
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((PR_SET_NO_NEW_PRIVS, 1), (PR_SET_DUMPABLE, 0)):
        if libc.prctl(option, value, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")
    for which, limit in LIMITS.items():
        _, hard = resource.getrlimit(which)
        lower = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(which, (lower, lower))
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the engine decides what Ctrl-C means


def main() -> int:
    """Serve one conversation."""
    drop()
    logs.set_up(worker=True)
    try:
        sock = socket.socket(fileno=os.dup(0))
    except OSError:
        sock = None
    if sys.argv[1:] not in (["fetch"], ["verify"]) or sock is None:
        sys.stderr.write(USAGE + "\n")
        return 2
    from twinslot.worker.frames import Channel, make_room
    from twinslot.worker.serving import serve

    make_room(sock)
    channel = Channel(sock)
    try:
        return serve(channel, _work)
    finally:
        channel.close()


def _work(channel: Channel) -> None:
    from twinslot.core.errors import DeviceError

    if os.geteuid() == 0:
        raise DeviceError("a worker was started as root", code="worker", hint="set User= in its unit")
    if sys.argv[1] == "fetch":
        from twinslot.worker.fetch import answer
    else:
        from twinslot.worker.verify import answer
    answer(channel)


if __name__ == "__main__":
    sys.exit(main())
