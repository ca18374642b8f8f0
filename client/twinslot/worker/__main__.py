"""`python3 -m twinslot.worker fetch|read|relay|verify|decrypt`, with the engine's socket as standard input.

`fetch` reads from servers, to which `relay` makes the connections; `read` reads from a descriptor, `verify` judges
signatures, `decrypt` opens what is encrypted. Only the relay has a network, and our TLS key.

What a worker must not be able to do is taken away before any input is read and before a parser is imported, whoever
started it. Only what needs root (another user, no network) is the starter's task, and a worker that is still root
refuses to work.

Two threads are started before that becomes impossible. One leaves as soon as the engine hangs up, whatever this process
waits for: nobody else would end it under systemd. The other looks up names, which cannot be interrupted.
"""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING, Final

from twinslot.system import logs

if TYPE_CHECKING:
    from collections.abc import Callable

    from twinslot.worker.protocol import Channel

PR_SET_DUMPABLE: Final = 4  # include/uapi/linux/prctl.h
PR_SET_NO_NEW_PRIVS: Final = 38
LIMITS: Final = {
    resource.RLIMIT_AS: 512 * 1024 * 1024,  # bytes of address space; a worker needs a tenth of it
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_FSIZE: 0,  # bytes: no file can be written
    resource.RLIMIT_NOFILE: 32,  # the standard three, the channel, the source, a connection and its look-up
    resource.RLIMIT_NPROC: 0,  # no child, no thread
}
KINDS: Final = ("fetch", "read", "relay", "verify", "decrypt")
USAGE: Final = f"usage: python3 -m twinslot.worker {'|'.join(KINDS)}, with a socket as standard input"
STACK: Final = 128 * 1024  # bytes of a thread that only waits


# keeps: S9 (in the worker's process)
def drop(start: Callable[[], None] = lambda: None) -> None:
    """No new privileges, no tracing, no core dumps, no files, no children, bounded memory.

    Args:
        start: Called where privileges are gone and threads can still be made.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((PR_SET_NO_NEW_PRIVS, 1), (PR_SET_DUMPABLE, 0)):
        if libc.prctl(option, value, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")
    start()
    for which, limit in LIMITS.items():
        _, hard = resource.getrlimit(which)
        lower = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(which, (lower, lower))
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the engine decides what Ctrl-C means


# keeps: S28 (in the worker's process)
def leave_with(descriptor: int) -> None:
    """End this process as soon as the other end of a socket is closed; there is nothing to put in order."""

    def watch() -> None:
        poll = select.poll()
        poll.register(descriptor, select.POLLRDHUP)
        while not poll.poll():
            pass
        os._exit(0)

    before = threading.stack_size(STACK)
    threading.Thread(target=watch, name="leave", daemon=True).start()
    threading.stack_size(before)


def main() -> int:
    """Serve one conversation."""
    try:
        sock = socket.socket(fileno=os.dup(0))
    except OSError:
        sock = None
    good = sock is not None and len(sys.argv) == 2 and sys.argv[1] in KINDS
    drop(_threads if good else lambda: None)
    logs.set_up(worker=True)
    if not good or sock is None:
        sys.stderr.write(USAGE + "\n")
        return 2
    from twinslot.worker.guard import serve
    from twinslot.worker.protocol import Channel, make_room

    make_room(sock)
    channel = Channel(sock)
    try:
        return serve(channel, _work)
    finally:
        channel.close()


def _threads() -> None:
    leave_with(0)
    if sys.argv[1] == "relay":
        from twinslot.transport.http.lookup import prepare

        prepare()


def _work(channel: Channel) -> None:
    from twinslot.core.errors import DeviceError

    if os.geteuid() == 0:
        raise DeviceError("a worker was started as root", code="worker", hint="set User= in its unit")
    if sys.argv[1] == "verify":
        from twinslot.worker import verify

        verify.answer(channel)
    elif sys.argv[1] == "decrypt":
        from twinslot.worker import decrypt

        decrypt.answer(channel)
    elif sys.argv[1] == "relay":
        from twinslot.worker import relay

        relay.answer(channel)
    else:
        from twinslot.worker import fetch

        fetch.answer(channel, addresses=sys.argv[1] == "fetch")


if __name__ == "__main__":
    sys.exit(main())
