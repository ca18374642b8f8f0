"""Checks that stand as files in the health.d directories: every executable is one, whatever its name is.

Nothing is left out without a word. A directory entry is asked, masked by a link to /dev/null, hidden by an executable
or a mask of the same name in an earlier directory, or it becomes a `NotAsked`, which each run reports as failed with
the reason. The rules are in docs/guide-device.md, "Health checks".
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from twinslot.core.circumstance import is_shortage, shortage
from twinslot.health.base import Check, CheckOptions, CheckVerdict
from twinslot.health.command import CommandCheck

# What editors, dpkg (dpkg(1), conffiles), rpm, ucf(1), patch(1) and NFS leave behind: old versions of a check.
LEFTOVER: Final = re.compile(
    r".*(~|\.dpkg-[a-z]+|\.rpm(new|save|orig)|\.ucf-[a-z]+|\.bak|\.orig|\.rej|\.swp|\.disabled)|#.*#|\.#.*|\.nfs[0-9a-f]+",
    re.DOTALL,
)
_MASKED: Final = ""
_RUNS: Final = "runs"


@dataclass(frozen=True, slots=True)
class NotAsked:
    """A file that looks like a check and is none; its result is a failure with the reason.

    Attributes:
        name: Of the file.
        why: One clause.
        terms: Required where a check was certainly meant; otherwise the failure is only reported.
    """

    name: str
    why: str
    terms: CheckOptions

    def probe(self, seconds: float) -> CheckVerdict:  # noqa: ARG002 - as every check
        """Say why there is nothing to ask."""
        return CheckVerdict(passed=False, detail=f"not asked: {self.why}")


# keeps: S6
def discover(directories: Iterable[Path], terms: CheckOptions, optional: Iterable[Path] = ()) -> tuple[Check, ...]:
    """One check per entry of the directories, sorted by name.

    Args:
        directories: An executable or a link to /dev/null in an earlier one hides the same name in a later one.
        terms: For each program.
        optional: Directories that need not exist.

    Raises:
        DeviceError: `device.resources`: this process lacks what it needs to look.
    """
    wanted = replace(terms, required=False)
    decided: set[str] = set()  # names that an earlier directory runs or masks
    found: list[Check] = []
    for directory in directories:
        try:
            entries = sorted(directory.iterdir())
        except FileNotFoundError:
            if directory.is_symlink():  # its programs are somewhere, and that is not there
                found.append(NotAsked(str(directory), "the directory is a link that leads nowhere", terms))
            elif directory not in optional:
                found.append(NotAsked(str(directory), "the directory does not exist", wanted))
            continue
        except OSError as e:
            if is_shortage(e):
                raise shortage(f"the directory '{directory}' of health checks cannot be listed now", e) from e
            found.append(NotAsked(str(directory), f"the directory cannot be listed ({e.strerror})", terms))
            continue
        here = [(path, _judge(path)) for path in entries if path.name not in decided]
        found += _checks(here, terms, wanted)
        decided |= {path.name for path, why in here if why in (_RUNS, _MASKED)}
    return tuple(sorted(found, key=lambda check: check.name))


def _checks(entries: Iterable[tuple[Path, str]], terms: CheckOptions, wanted: CheckOptions) -> Iterator[Check]:
    for path, why in entries:
        if why == _RUNS:
            yield CommandCheck(shown(path.name), (str(path),), terms)
        elif why != _MASKED:
            certain = path.is_symlink() and not LEFTOVER.fullmatch(path.name)  # a check whose program is gone
            yield NotAsked(shown(path.name), why, terms if certain else wanted)


def _judge(path: Path) -> str:
    """Whether it runs, is masked, or why neither."""
    if path.is_symlink() and os.path.realpath(path) == os.devnull:
        return _MASKED
    if LEFTOVER.fullmatch(path.name):
        return "the name is that of a leftover of an editor or a package"
    try:
        mode = path.stat().st_mode
    except OSError as e:
        return f"the file cannot be looked at ({e.strerror})"
    if not stat.S_ISREG(mode):
        return "it is no regular file"
    return _RUNS if mode & 0o111 else "the file is not executable"


def shown(name: str) -> str:
    """A file's name as text: bytes that are not UTF-8, and control characters, as escapes."""
    text = os.fsencode(name).decode(errors="backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
