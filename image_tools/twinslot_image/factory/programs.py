"""Programs of the host that make partition tables and file systems (util-linux, e2fsprogs, erofs-utils)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from twinslot.core.errors import DeviceError

TIME: Final = 1700000000  # seconds; every file that is made here has this time, so that the same gives the same bytes
_ADMIN: Final = "/usr/sbin:/sbin"  # where Debian has these programs; not in everybody's PATH
_SAID: Final = 200  # bytes of its output that go into an error


def run(*argv: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None, stdin: bytes = b"") -> bytes:
    """Run a program to its end; what it wrote to standard output.

    Raises:
        DeviceError: `device.disk-tool`: it is missing, or ended with another status than 0.
    """
    words = [str(word) for word in argv]
    name, path = words[0], f"{os.environ.get('PATH', os.defpath)}:{_ADMIN}"
    program = shutil.which(name, path=path)
    if program is None:
        hint = "install fdisk, e2fsprogs and erofs-utils"
        raise DeviceError(f"the program '{name}' is not installed", code="disk-tool", hint=hint)
    environment = {**os.environ, **(env or {})}
    done = subprocess.run([program, *words[1:]], cwd=cwd, env=environment, input=stdin, capture_output=True)
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).decode(errors="replace").split())[-_SAID:]
        what = f"the program '{name}' ended with status {done.returncode}"
        raise DeviceError(what, code="disk-tool", expected="status 0", found=said or "no output")
    return done.stdout
