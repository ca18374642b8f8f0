"""What is handed to `fw_setenv -s`, and the default environment: `name=value` lines that every tool takes alike."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from twinslot.core.errors import DeviceError, LifecycleError

LINE_LIMIT: Final = 1022  # bytes without the newline: libubootenv LINE_LENGTH 1024, less NUL and newline
NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_BAD_IN_VALUE: Final = re.compile(r"[\x00-\x1f\x7f\\]")  # U-Boot takes a backslash as an escape, libubootenv does not


def make_script(changes: Mapping[str, str]) -> bytes:
    """The script for these changes; the comment keeps it from being empty.

    Raises:
        LifecycleError: `lifecycle.env-value`.
    """
    lines = [b"# twinslot"]
    for name, value in changes.items():
        line = f"{name}={value}".encode("utf-8", "replace")
        if not NAME.fullmatch(name) or _BAD_IN_VALUE.search(value) or len(line) > LINE_LIMIT:
            raise LifecycleError(
                "this cannot be written to the boot environment unchanged",
                code="env-value",
                expected=f"name=value, printable, no backslash, at most {LINE_LIMIT} bytes",
                found=f"{name}={value}"[:100],
            )
        lines.append(line)
    return b"\n".join(lines) + b"\n"


def read_default(path: Path) -> dict[str, str]:
    """Read a default environment as libubootenv does, but refuse what it would cut or skip.

    Raises:
        DeviceError: `device.env-default` with the line.
    """
    try:
        lines = path.read_bytes().decode("utf-8", "surrogateescape").split("\n")
    except OSError as e:
        raise DeviceError(
            f"the default environment '{path}' cannot be read", code="env-default", found=e.strerror or "an error"
        ) from e
    variables: dict[str, str] = {}
    for number, line in enumerate((line.rstrip("\r") for line in lines), 1):
        if not line or line.startswith("#"):
            continue
        name, separator, value = line.partition("=")
        if not separator or not name or len(line.encode("utf-8", "surrogateescape")) > LINE_LIMIT:
            raise DeviceError(
                f"the default environment '{path}', line {number}, cannot be used",
                code="env-default",
                expected=f"name=value, at most {LINE_LIMIT} bytes",
                found=line[:60],
            )
        variables[name] = value
    return {name: value for name, value in variables.items() if value}
