"""`twinslot-image`: builds, signs, inspects and verifies update images. See docs/man/twinslot-image.1.

Exit status: that of the error's class (`twinslot.core.errors`); 0 done, 128 + signal when stopped by one. Errors and
JSON objects have the form that those of `twinslot` have.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from twinslot.cli.output import Output
from twinslot.core.errors import CancelledError, DeviceError, LifecycleError, TwinslotError
from twinslot.core.text import printable
from twinslot_image import INSTALL, PASSPHRASE, PIN, PROGRAM
from twinslot_image.output_place import STANDARD_OUTPUT
from twinslot_image.stop import Stopped, stopping_by_signals, undisturbed
from twinslot_image.system_errors import system_error


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is documented in the man page."""
    _open_missing_streams()
    given = list(sys.argv[1:] if argv is None else argv)
    output = Output(as_json="--json" in given, program=PROGRAM)
    status = _guarded(given, output)
    return output.lost_status() if output.lost is not None else status


def _open_missing_streams() -> None:
    """No file of ours gets the number of a standard stream that was closed: what is said there would go into it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - until the end
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - until the end


def _guarded(given: list[str], output: Output) -> int:
    """The command; every way in which it may fail becomes a sentence and a status."""
    try:
        with stopping_by_signals():
            return _run(given, output)
    except SystemExit as e:  # help or version
        return e.code if isinstance(e.code, int) else 1
    except Stopped as e:
        what = f"stopped by {signal.Signals(e.number).name}; an output is as it was before, or whole"
        return _report(CancelledError(what, code="interrupted"), e.exit_status, output)
    except TwinslotError as e:
        return _report(e, e.exit_status, output)
    except ImportError as e:
        what = f"the library '{(e.name or 'unknown').partition('.')[0]}' is missing or cannot be loaded"
        return _report(DeviceError(what, code="program", hint=INSTALL), DeviceError.exit_status, output)
    except OSError as e:
        if isinstance(e, BrokenPipeError):
            output.lost = e
            if e.filename == STANDARD_OUTPUT:  # no error that anybody wants to hear of
                return output.lost_status()
        error = system_error(e)
        return _report(error, error.exit_status, output)
    except Exception as e:  # noqa: BLE001 - a fault of ours, told as one
        hint = "TWINSLOT_DEBUG=1 shows where; please report it"
        fault = LifecycleError("a fault in the program", code="fault", found=str(e) or "no message", hint=hint)
        return _report(fault, fault.exit_status, output)


def _run(given: list[str], output: Output) -> int:
    with undisturbed():  # libraries take a while to load, and some make of a signal what it is not
        from twinslot_image.cli_parser import parse
        from twinslot_image.pkcs11_pin import Pins
        from twinslot_image.progress import be_quiet

    with _taken(PASSPHRASE) as passphrase, _taken(PIN) as pin:
        arguments = parse(given)
        be_quiet(arguments.quiet)
        arguments.passphrase, arguments.pins = passphrase, Pins(pin)
        arguments.run(arguments, output)
        return 0


def _report(error: TwinslotError, exit_status: int, output: Output) -> int:
    if os.environ.get("TWINSLOT_DEBUG") == "1":
        import traceback

        output.aside("".join(f"{printable(line)}\n" for line in traceback.format_exc().splitlines()))
    output.error(error, exit_status)
    return exit_status


@contextmanager
def _taken(name: str) -> Iterator[bytes | None]:
    """A secret, out of the environment as long as a command runs: programs that it starts must not inherit it."""
    secret = os.environb.pop(name.encode(), None)
    try:
        yield secret or None
    finally:
        if secret is not None:
            os.environb[name.encode()] = secret
