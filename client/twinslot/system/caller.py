"""Who started this process: for the audit (S19). Nothing here decides anything."""

from __future__ import annotations

import contextlib
import os
import pwd
from pathlib import Path
from typing import Final

from twinslot.core.origin import Origin, OriginKind

_PROC: Final = Path("/proc/self")
_NO_LOGIN: Final = 2**32 - 1  # nobody logged in: AUDIT_UID_UNSET of include/uapi/linux/audit.h


# keeps: S19
def this_process(proc: Path = _PROC) -> Origin:
    """The unit whose process this is, when nobody logged in; otherwise the user, by the name that logged in.

    Args:
        proc: The process's directory of procfs.
    """
    user, login = os.getuid(), _login(proc)
    unit = _unit(proc) if login is None else ""
    if unit:
        return Origin(OriginKind.UNIT, uid=user, unit=unit)
    return Origin(OriginKind.CLI, uid=user, login=name_of(user if login is None else login))


def name_of(user: int) -> str:
    """The user's name; empty when there is none."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return ""


def _login(proc: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):  # a kernel without CONFIG_AUDIT has no such file
        user = int((proc / "loginuid").read_text())
        return None if user == _NO_LOGIN else user
    return None


def _unit(proc: Path) -> str:
    """The service of the system manager in whose control group the process is (cgroup v2, or systemd's own of v1)."""
    with contextlib.suppress(OSError, ValueError):
        for line in (proc / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            names = path.strip("/").split("/")
            if controllers in ("", "name=systemd") and names[0] == "system.slice" and names[-1].endswith(".service"):
                return names[-1]
    return ""
