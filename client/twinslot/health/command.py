"""Checks that are programs: entries of the configuration, and every executable in the health.d directories."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from twinslot import process
from twinslot.health.base import Terms, Verdict

# Names that run-parts(8) takes, and dots, so that `10-pump.sh` counts; not backups and package leftovers.
FILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
LEFTOVER: Final = re.compile(r".*(\.dpkg-[a-z]+|\.rpm[a-z]+|\.bak|\.orig|\.swp|\.disabled)")


@dataclass(frozen=True, slots=True)
class CommandCheck:
    """A program: exit status 0 means well; the last line it prints is the detail.

    It runs in its own process group and is killed with its children when its time is over.
    """

    name: str
    argv: tuple[str, ...]
    terms: Terms = field(default_factory=Terms)

    def probe(self, seconds: float) -> Verdict:
        """Run it once."""
        try:
            ended = process.run(self.argv, timeout=seconds)
        except OSError as e:
            return Verdict(passed=False, detail=f"cannot be started: {e.strerror}")
        words = process.last_line(ended.stdout) or process.last_line(ended.stderr)
        if ended.status == 0:
            return Verdict(passed=True, detail=words)
        if ended.status is None:
            return Verdict(passed=False, detail=f"did not end within {seconds:g} s" + (f": {words}" if words else ""))
        how = f"killed by signal {-ended.status}" if ended.status < 0 else f"exit status {ended.status}"
        return Verdict(passed=False, detail=f"{words} ({how})" if words else how)


def discover(directories: Iterable[Path], terms: Terms) -> tuple[CommandCheck, ...]:
    """One check per executable file, sorted by name.

    A name in an earlier directory hides the same name in a later one; a link to /dev/null there masks it. Files that
    are not executable, and leftovers of editors and packages, are no checks.
    """
    found: dict[str, Path] = {}
    for directory in directories:
        for path in directory.iterdir() if directory.is_dir() else ():
            found.setdefault(path.name, path)
    return tuple(CommandCheck(name, (str(path),), terms) for name, path in sorted(found.items()) if _counts(path))


def _counts(path: Path) -> bool:
    named = FILE_NAME.fullmatch(path.name) and not LEFTOVER.fullmatch(path.name)
    return named is not None and bool(named) and path.is_file() and os.access(path, os.X_OK)
