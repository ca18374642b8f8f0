"""Who keeps logind from shutting down: the device counts as in use for us, too.

Asked by busctl(1), which comes with systemd; `ListInhibitors` is part of logind's interface
(org.freedesktop.login1(5)). Inhibitors of the mode `delay` only want to hear of a shutdown, which logind tells them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from twinslot.core.inhibitors import Inhibitor, shown
from twinslot.system import process

TIMEOUT: Final = 10.0  # seconds; logind answers from memory
_DIRECTORY: Final = Path("run/systemd/inhibit")  # made by logind; without it no logind has run in this boot
_ASK: Final = (
    *("busctl", "--json=short", "--no-pager", "call", "org.freedesktop.login1", "/org/freedesktop/login1"),
    *("org.freedesktop.login1.Manager", "ListInhibitors"),
)


# keeps: S20
def logind_inhibitors(root: Path = Path("/")) -> tuple[Inhibitor, ...]:
    """Those that block a shutdown. A logind that is there and does not answer counts as one.

    Args:
        root: Where the files of the system stand.
    """
    try:
        begun = dict(_begun(path) for path in sorted((root / _DIRECTORY).iterdir()))
    except OSError:
        return ()
    if not begun:
        return ()
    try:
        ended = process.run(_ASK, timeout=TIMEOUT)
    except OSError as e:
        return (_silent(f"'busctl' cannot be started ({e.strerror})"),)
    if ended.status != 0:
        return (_silent(ended.complaint()),)
    try:
        listed = json.loads(ended.stdout)["data"][0]
        return tuple(_inhibitor(entry[1], entry[2], begun.get(entry[5])) for entry in listed if _blocks(entry))
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return (_silent("its answer cannot be read"),)


def _blocks(entry: Any) -> bool:
    """Of what, who, why, mode, user and process."""
    return "shutdown" in str(entry[0]).split(":") and str(entry[3]).startswith("block")


def _inhibitor(who: str, why: str, since: float | None) -> Inhibitor:
    return Inhibitor(shown(str(who)), shown(str(why)), source="logind", since=since)


def _begun(path: Path) -> tuple[int, float | None]:
    """The process that holds one, and when logind wrote its file, which it does when one begins; 0, None: not known."""
    try:
        if not path.is_file():  # beside each file stands the pipe that is held
            return 0, None
        lines, since = path.read_text(errors="replace").splitlines(), path.stat().st_mtime
    except OSError:
        return 0, None
    number = next((line.removeprefix("PID=") for line in lines if line.startswith("PID=")), "")
    return (int(number), since) if number.isdecimal() else (0, None)


def _silent(why: str) -> Inhibitor:
    return Inhibitor("logind", shown(f"who keeps it from shutting down cannot be told: {why}"), source="logind")
