"""`twinslot`: the command of a device. See docs/man/twinslot.1.

Exit status: that of the error's class (`core.errors`); 0 done, 2 wrong command line, 128 + signal when interrupted.
Whatever happens is said in a sentence; `TWINSLOT_DEBUG=1` adds the traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import keyword
import logging
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Final

from twinslot.cli.output import Output
from twinslot.cli.parser import parse
from twinslot.cli.trial import UNDECIDED, left_to_the_deadline, of_a_unit, patiently
from twinslot.core.errors import CancelledError, DeviceError, LifecycleError, TwinslotError, UsageError
from twinslot.core.events import error_fields
from twinslot.core.text import printable
from twinslot.system import logs

if TYPE_CHECKING:
    from twinslot.cli.host import Host

_ANSWERING: Final = (  # without their output they were of no use; `_answers` adds what depends on more than the verb
    *("attest", "decryption-key", "device-key", "doctor", "explain", "history", "info", "log", "metrics", "retire"),
    "status",
)
_VERBS: Final = {  # module below `cli.verbs` -> verbs in it; imported when one of them is asked for
    "look": ("status", "history", "doctor"),
    "info": ("info",),
    "log": ("log",),
    "device_key": ("device-key",),
    "decryption_key": ("decryption-key",),
    "install": ("install",),
    "poll": ("poll",),
    "report": ("report", "metrics"),
    "scrub": ("scrub",),
    "policy": ("continue", "approve", "hold", "watch"),
    "audit": ("audit",),
    "attest": ("attest",),
    "explain": ("explain",),
    "retire": ("retire",),
    "operate": ("activate", "commit", "rollback", "cancel"),
    "trial": ("boot", "check"),
    "service": ("service",),
}
_MODULES: Final = {verb: f"twinslot.cli.verbs.{module}" for module, verbs in _VERBS.items() for verb in verbs}

_log: Final = logging.getLogger(__name__)


class _Terminated(KeyboardInterrupt):
    """SIGTERM, treated as Ctrl-C is."""


def main(argv: list[str] | None = None, host: Host | None = None) -> int:
    """Run one verb and say how it ended.

    Args:
        argv: Without the program's name; the process's own unless given.
        host: What it takes from this process and machine; these unless given.
    """
    try:
        arguments = parse(argv)
    except SystemExit as e:  # help or version
        return e.code if isinstance(e.code, int) else 1
    except UsageError as e:
        given = sys.argv[1:] if argv is None else argv
        Output(as_json="--json" in given).error(e, e.exit_status)
        return e.exit_status
    if host is None:
        logs.set_up()
    output = Output(as_json=arguments.json)
    with _sigterm_as_interrupt():
        status = _guarded(arguments, host, output)
    if host is None:
        gc.freeze()  # this process ends now: Python would look through all that was imported once more
    if output.lost is not None and _answers(arguments):
        return output.lost_status()
    return status


def _answers(arguments: argparse.Namespace) -> bool:
    """Whether the call was for what it prints; any other did its work, whoever reads what it says of it."""
    match arguments.verb:
        case "audit":
            return bool(arguments.action != "seal")
        case "install":
            return bool(arguments.dry_run)
        case verb:
            return verb in _ANSWERING


def _guarded(arguments: argparse.Namespace, host: Host | None, output: Output) -> int:
    """The verb; every way in which it may fail becomes a sentence and a status."""
    try:
        return _run(arguments, host, output)
    except TwinslotError as e:
        return _report(e, UNDECIDED if left_to_the_deadline(e, arguments) else e.exit_status, output)
    except KeyboardInterrupt as e:
        number = signal.SIGTERM if isinstance(e, _Terminated) else signal.SIGINT
        error = CancelledError("interrupted", code="interrupted", hint="see 'twinslot status'")
        return _report(error, 128 + number, output)
    except OSError as e:
        what = f"'{e.filename}' cannot be used" if e.filename else f"'{arguments.verb}' cannot go on"
        status = UNDECIDED if left_to_the_deadline(e, arguments) else DeviceError.exit_status
        return _report(DeviceError(what, code="system", found=e.strerror or "no words of the system"), status, output)
    except MemoryError:
        status = UNDECIDED if of_a_unit(arguments) else DeviceError.exit_status
        return _report(DeviceError("there is not enough memory", code="resources"), status, output)
    except Exception as e:  # noqa: BLE001 - a fault of ours, told as one
        hint = "TWINSLOT_DEBUG=1 shows where; please report it"
        fault = LifecycleError("a fault in the program", code="fault", found=repr(e), hint=hint)
        return _report(fault, fault.exit_status, output)


def _run(arguments: argparse.Namespace, host: Host | None, output: Output) -> int:
    from twinslot.cli.host import Host

    here = host or Host()

    def verb() -> int:
        module = importlib.import_module(_MODULES[arguments.verb])
        name = arguments.verb.replace("-", "_")
        status: int = getattr(module, f"{name}_" if keyword.iskeyword(name) else name)(arguments, here, output)
        return status

    return patiently(verb, arguments, here) if of_a_unit(arguments) else verb()


def _report(error: TwinslotError, exit_status: int, output: Output) -> int:
    if os.environ.get("TWINSLOT_DEBUG") == "1":
        import traceback

        output.aside("".join(f"{printable(line)}\n" for line in traceback.format_exc().splitlines()))
    if logs.started_by_systemd() and not output.as_json:  # as a line of its priority, unless it was announced
        if not error.announced:
            _log.error("%s", error, extra={"journal": error_fields(error.as_dict())})
    else:
        output.error(error, exit_status)
    return exit_status


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    def stop(_number: int, _frame: FrameType | None) -> None:
        raise _Terminated

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread: whoever called us minds the signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
