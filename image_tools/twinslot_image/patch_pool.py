"""A few processes that do the heavy steps of a patch. They end with this one, and signals reach them through it alone.

Each gets one task at a time through a socket pair. When the other end is gone, whatever the reason, it ends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any

from twinslot.core.errors import DeviceError
from twinslot_image.stop import SIGNALS

_AHEAD = 8  # results for each process that may wait for an earlier one
Map = Callable[[Callable[..., Any], Sequence[Any]], Iterator[Any]]


@contextmanager
def process_pool(count: int) -> Iterator[Map]:
    """A map over processes, in order; on any exception they are killed at once.

    Raises:
        DeviceError: `device.patch-worker`: one of them ended by itself, for lack of memory perhaps.
    """
    workers: dict[Connection, subprocess.Popen[bytes]] = {}
    try:
        for _ in range(count):
            _start(workers)
        yield lambda function, tasks: _map(list(workers), function, tasks)
    finally:
        for connection, process in workers.items():
            process.kill()
            process.wait()
            connection.close()


def _start(workers: dict[Connection, subprocess.Popen[bytes]]) -> None:
    """With the signals blocked, so that ^C on a terminal is for this process to handle."""
    ours, theirs = Pipe()
    command = [sys.executable, "-m", __name__, str(theirs.fileno())]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        workers[ours] = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment)
    finally:
        theirs.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _map(connections: Sequence[Connection], function: Callable[..., Any], tasks: Sequence[Any]) -> Iterator[Any]:
    results, busy, following = dict[int, Any](), dict[Connection, int](), 0
    idle = list(connections)
    for number in range(len(tasks)):
        while number not in results:
            while idle and following < min(len(tasks), number + len(connections) * _AHEAD):
                busy[idle[-1]] = following
                idle.pop().send((function, tasks[following]))
                following += 1
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                results[busy.pop(connection)] = _receive(connection)
                idle.append(connection)
        yield results.pop(number)


def _receive(connection: Connection) -> Any:
    try:
        good, result = connection.recv()
    except (EOFError, OSError) as e:
        hint = "is there enough memory?"
        raise DeviceError(
            "a process that makes the patch has ended", code="patch-worker", found="no result", hint=hint
        ) from e
    if not good:
        raise result
    return result


def serve(connection: Connection) -> None:
    """Do tasks until the other end is gone."""
    while True:
        try:
            function, task = connection.recv()
        except (EOFError, OSError):
            return
        try:
            answer = True, function(task)
        except Exception as e:  # noqa: BLE001 - raised again where the result is awaited
            answer = False, e
        try:
            connection.send(answer)
        except OSError:
            return


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
