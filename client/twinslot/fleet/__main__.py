"""`python3 -m twinslot.fleet poll|relay`: one run of the fleet process, or the relay that makes its connections.

Exit status as of `twinslot`; 0 where no server is configured.
"""

from __future__ import annotations

import argparse
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

from twinslot.core.errors import DeviceError, LifecycleError, TwinslotError
from twinslot.core.events import error_fields
from twinslot.system import logs

SOCKET: Final = Path("/run/twinslot/fleet.sock")
_log: Final = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python3 -m twinslot.fleet", description=__doc__.split("\n", 1)[0])
    parser.add_argument("what", choices=("poll", "relay"))
    parser.add_argument("--config-root", default="/", help="directory below which the configuration stands")
    parser.add_argument("--bus", default=None, help="address of a message bus; without it the system's")
    parser.add_argument("--start-relay", action="store_true", help="start the relay as a child, without its unit")
    arguments = parser.parse_args(argv)
    logs.set_up(worker=arguments.what == "relay")
    try:
        return _relay(arguments) if arguments.what == "relay" else _poll(arguments)
    except TwinslotError as e:
        _log.error("%s", e, extra={"journal": error_fields(e.as_dict())})
        return e.exit_status
    except OSError as e:
        what = f"'{e.filename}' cannot be used" if e.filename else "the fleet process cannot go on"
        error = DeviceError(what, code="system", found=e.strerror or "no words of the system")
        _log.error("%s", error, extra={"journal": error_fields(error.as_dict())})
        return error.exit_status
    except Exception as e:  # noqa: BLE001 - a fault of ours, told as one
        fault = LifecycleError("a fault in the program", code="fault", found=repr(e), hint="please report it")
        _log.exception("%s", fault)
        return fault.exit_status


def _poll(arguments: argparse.Namespace) -> int:
    from twinslot.bus.client.client import connect
    from twinslot.config.options import load
    from twinslot.fleet.assemble import run_once

    config = load(arguments.config_root)
    if not config.hawkbit.url:
        return 0
    sock = _started(arguments.config_root) if arguments.start_relay else _connected(SOCKET)
    with sock:
        run_once(config, sock, lambda: connect(arguments.bus))
    return 0


def _relay(arguments: argparse.Namespace) -> int:
    from twinslot.transport.http.lookup import prepare
    from twinslot.worker.__main__ import drop, leave_with

    def threads() -> None:
        leave_with(0)
        prepare()

    if os.geteuid() == 0:
        raise DeviceError("a worker was started as root", code="worker", hint="set User= in its unit")
    asking = socket.socket(fileno=os.dup(0))
    drop(threads)
    from twinslot.config.options import load
    from twinslot.fleet.relay import serve

    with asking:
        serve(asking, load(arguments.config_root))
    return 0


def _connected(path: Path) -> socket.socket:
    """A connection to the relay's socket.

    Raises:
        DeviceError: `device.worker`.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.connect(str(path))
    except OSError as e:
        sock.close()
        hint = "systemctl start twinslot-fleet-relay.socket"
        raise DeviceError(f"no relay answers at '{path}'", code="worker", found=e.strerror, hint=hint) from e
    return sock


def _started(config_root: str) -> socket.socket:
    """A relay as a child, as another user if we are root; it ends when the socket is closed."""
    from twinslot.worker.launch import without_privileges

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with theirs:
        python = [*without_privileges("relay"), sys.executable, "-s", "-P"]
        argv = [*python, "-m", "twinslot.fleet", "relay", "--config-root", config_root]
        subprocess.Popen(argv, stdin=theirs.fileno())
    return ours


if __name__ == "__main__":
    sys.exit(main())
