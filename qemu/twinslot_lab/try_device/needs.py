"""What this machine must have before a device can be made of it: each want is one sentence."""

from __future__ import annotations

import pwd
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Final

from twinslot_lab.errors import LabError

# Program -> Debian package, as in apt-packages.txt.
PROGRAMS: Final = {
    "e2fsck": "e2fsprogs",
    "mke2fs": "e2fsprogs",
    "fw_setenv": "libubootenv-tool",
    "hostname": "hostname",
    "losetup": "mount",
    "nsenter": "util-linux",
    "pivot_root": "util-linux",
    "setpriv": "util-linux",
    "unshare": "util-linux",
}


def check(venv: Path, user: int) -> None:
    """Look at all of it, the likeliest want first; changes nothing.

    Args:
        venv: The virtual environment that the device's client gets its libraries from.
        user: Whose process this is.

    Raises:
        LabError: What was expected, what was found, and what to do.
    """
    _check_root(user)
    for program, package in PROGRAMS.items():
        if shutil.which(program) is None:
            raise LabError(f"expected the program '{program}', found none", hint=f"apt install {package}")
    if not Path("/bin").is_symlink():
        raise LabError("expected /bin to be a link to /usr/bin, found a directory", hint="apt install usrmerge")
    base = Path(sys.base_prefix).resolve()
    if not base.is_relative_to("/usr"):
        hint = "make the environment with /usr/bin/python3: 'make venv PYTHON=/usr/bin/python3'"
        raise LabError(f"expected Python from below /usr, found '{base}'", hint=hint)
    if not stat.S_IMODE(venv.stat().st_mode) & stat.S_IXOTH:
        hint = f"the client's workers are another user: chmod -R o+rX '{venv}'"
        raise LabError(f"expected a '{venv}' that every user may read, found that only its owner may", hint=hint)
    _check_rights()


def _check_root(user: int) -> None:
    if user != 0:
        try:
            name = f"'{pwd.getpwuid(user).pw_name}'"
        except KeyError:
            name = f"number {user}"
        what = f"expected root, for loop devices and mounts, found user {name}"
        raise LabError(what, hint="sudo make try")


def _check_rights() -> None:
    """Root in a container is often not allowed to."""
    hint = "run it on the machine itself, or in a container with all rights: docker run --privileged"
    if not Path("/dev/loop-control").exists():
        raise LabError("expected '/dev/loop-control', found no loop devices", hint=f"modprobe loop; or {hint}")
    argv = ["unshare", "--mount", "--pid", "--uts", "--fork", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    tried = subprocess.run(argv, capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        raise LabError(f"expected the right to mount in a name space, found: {tried.stderr.strip()}", hint=hint)
