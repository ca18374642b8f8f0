"""`python3 -m twinslot.worker fetch|verify`, with the engine's socket as standard input.

What a worker must not be able to do is taken away before any input is read, whoever started it.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import sys
from typing import Final

PR_SET_NO_NEW_PRIVS: Final = 38  # include/uapi/linux/prctl.h
PR_SET_DUMPABLE: Final = 4
MEMORY: Final = 512 * 1024 * 1024  # bytes of address space; a worker needs a tenth of it


def drop() -> None:
    """No new privileges, no core dumps, no files, bounded memory."""
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((PR_SET_NO_NEW_PRIVS, 1), (PR_SET_DUMPABLE, 0)):
        if libc.prctl(option, value, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the engine decides what Ctrl-C means


def main() -> int:
    """Serve one conversation."""
    drop()
    from twinslot.worker.frames import Channel

    channel = Channel(socket.socket(fileno=os.dup(0)))
    if sys.argv[1:] == ["fetch"]:
        from twinslot.worker.fetch import serve
    elif sys.argv[1:] == ["verify"]:
        from twinslot.worker.verify import serve
    else:
        print("usage: python3 -m twinslot.worker fetch|verify", file=sys.stderr)  # noqa: T201
        return 2
    try:
        serve(channel)
    finally:
        channel.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
