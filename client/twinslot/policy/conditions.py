"""The device's power, room and way out, as the kernel tells them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from twinslot.core.conditions import Supply

_SUPPLIES: Final = Path("sys/class/power_supply")
# Of the first process: a sandboxed service has a network of its own, without a way out.
_ROUTES: Final = (Path("proc/1/net/route"), Path("proc/1/net/ipv6_route"))
_LIMIT: Final = 1 << 20  # bytes of a table of routes that are looked at
_UP: Final = 0x1  # RTF_UP of include/uapi/linux/route.h


def supplies(root: Path = Path("/")) -> tuple[Supply, ...]:
    """Every supply of the device's own; what cannot be read is not told."""
    try:
        paths = sorted((root / _SUPPLIES).iterdir())
    except OSError:
        return ()
    return tuple(_supply(path) for path in paths if _text(path / "scope") != "Device")  # batteries of mice and the like


def _supply(path: Path) -> Supply:
    online, capacity = _text(path / "online"), _text(path / "capacity")
    return Supply(
        path.name,
        _text(path / "type"),
        online not in ("", "0") if online else None,
        int(capacity) if capacity.isdecimal() else None,
    )


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(100).decode(errors="replace").strip()
    except OSError:
        return ""


def free_bytes(directory: Path) -> int | None:
    """Room for root on the file system of a directory; None: it cannot be told."""
    try:
        found = os.statvfs(directory)
    except OSError:
        return None
    return found.f_bfree * found.f_frsize


def ways_out(root: Path = Path("/")) -> tuple[str, ...]:
    """Names of the interfaces that lead out: of each family of addresses the default route that is preferred."""
    found = []
    for path, routes in zip(_ROUTES, (_ipv4, _ipv6), strict=True):
        with contextlib.suppress(OSError), (root / path).open("rb") as file:
            best = min(routes(file.read(_LIMIT).decode(errors="replace").splitlines()), default=None)
            found += [best[1]] if best else []
    return tuple(dict.fromkeys(found))


def _ipv4(lines: list[str]) -> Iterator[tuple[int, str]]:
    """Metric and interface of default routes in /proc/net/route: the name comes first, the mask eighth."""
    for fields in (line.split() for line in lines[1:]):
        with contextlib.suppress(ValueError, IndexError):
            if int(fields[1], 16) == int(fields[7], 16) == 0 and int(fields[3], 16) & _UP:
                yield int(fields[6]), fields[0]


def _ipv6(lines: list[str]) -> Iterator[tuple[int, str]]:
    """The same of /proc/net/ipv6_route: destination and its length come first, the name last."""
    for fields in (line.split() for line in lines):
        with contextlib.suppress(ValueError, IndexError):
            if int(fields[0], 16) == int(fields[1], 16) == 0 and int(fields[8], 16) & _UP and fields[9] != "lo":
                yield int(fields[5], 16), fields[9]
