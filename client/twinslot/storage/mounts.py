"""What the kernel says of block devices: mounts, and which device stands on which. Parsing is pure; I/O is thin.

Sources: proc_pid_mountinfo(5) for the fields of /proc/self/mountinfo; Documentation/ABI/stable/sysfs-block for
`holders`, `slaves` and the partition directories below /sys/dev/block/MAJOR:MINOR.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from twinslot.core.circumstance import is_shortage, shortage
from twinslot.core.errors import DeviceError
from twinslot.core.model import SECTOR

Device = tuple[int, int]  # major and minor number

MOUNTINFO: Final = Path("/proc/self/mountinfo")
SYS_BLOCK: Final = Path("/sys/dev/block")
_OCTAL: Final = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo.

    Attributes:
        device: Of the file system; major 0 means that it is not one block device (overlay, btrfs, tmpfs).
        point: Where it is mounted.
        fstype: Kind of file system.
        source: As given to mount(2); a path for block devices.
        options: Of the super block, as written there, with its escapes; `option_list` takes them apart.
    """

    device: Device
    point: str
    fstype: str
    source: str
    options: str


def parse_mountinfo(text: str) -> tuple[Mount, ...]:
    """Read /proc/self/mountinfo; a line that does not fit the format is left out.

    Only a newline ends a line: what else Unicode calls a line's end may stand in a path.
    """
    return tuple(mount for mount in map(_parse_line, text.split("\n")) if mount is not None)


def read_text(path: Path) -> str:
    """A file of /proc: paths in it are bytes, and need not be UTF-8.

    Raises:
        DeviceError: `device.system` or `device.resources`.
    """
    try:
        return _text(path)
    except OSError as e:
        if is_shortage(e):
            raise shortage(f"'{path}' cannot be read now", e) from e
        raise DeviceError(f"'{path}' cannot be read", code="system", found=e, hint="is /proc mounted?") from e


def _text(path: Path) -> str:
    """The file's text, any byte kept.

    Raises:
        OSError: As the system says it; the caller names what was meant.
    """
    return path.read_text(encoding="utf-8", errors="surrogateescape")


def option_list(mount: Mount) -> tuple[tuple[str, str], ...]:
    """The options of the super block in their order, each with its value; a key may stand several times."""
    parts = (part.partition("=") for part in mount.options.split(","))
    return tuple((_unescape(key), _unescape(value)) for key, _, value in parts)


def _parse_line(line: str) -> Mount | None:
    head, separator, tail = line.partition(" - ")
    fields, rest = head.split(" "), tail.split(" ")
    major, _, minor = fields[2].partition(":") if len(fields) > 5 else ("", "", "")
    if not separator or len(rest) < 3 or not (_is_number(major) and _is_number(minor)):
        return None
    return Mount((int(major), int(minor)), _unescape(fields[4]), rest[0], _unescape(rest[1]), rest[2])


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


def name(device: Device) -> str:
    """A device as the kernel writes it."""
    return f"{device[0]}:{device[1]}"


def size_of(path: Path) -> int | None:
    """Bytes of the block device at this path, as the kernel tells anyone; None when it does not."""
    device = device_of(path)
    try:
        # Documentation/ABI/stable/sysfs-block: `size` counts sectors of 512 bytes.
        return None if device is None else int((SYS_BLOCK / name(device) / "size").read_text()) * SECTOR
    except (OSError, ValueError):
        return None


def device_of(path: Path) -> Device | None:
    """The block device at this path, links followed; None when there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    number = status.st_rdev
    return (os.major(number), os.minor(number)) if stat.S_ISBLK(status.st_mode) else None


def partitions(device: Device, sys_block: Path = SYS_BLOCK) -> frozenset[Device]:
    """The partitions of a whole disk."""
    return _numbers(path for path in _entries(sys_block / name(device)) if (path / "partition").exists())


def holders(device: Device, sys_block: Path = SYS_BLOCK) -> frozenset[Device]:
    """Devices that stand on this one (device mapper, md, bcache)."""
    return _numbers(_entries(sys_block / name(device) / "holders"))


def slaves(device: Device, sys_block: Path = SYS_BLOCK) -> frozenset[Device]:
    """Devices on which this one stands."""
    return _numbers(_entries(sys_block / name(device) / "slaves"))


def _entries(directory: Path) -> list[Path]:
    """What stands in a directory of sysfs; nothing where it is not there."""
    try:
        return sorted(directory.iterdir())
    except OSError as e:
        _not_for_want(e, str(directory))
        return []


def _numbers(directories: Iterable[Path]) -> frozenset[Device]:
    found = set()
    for directory in directories:
        try:
            major, _, minor = (directory / "dev").read_text().strip().partition(":")
            found.add((int(major), int(minor)))
        except (OSError, ValueError) as e:  # a device that vanished while we looked
            _not_for_want(e, str(directory / "dev"))
            continue
    return frozenset(found)


def _not_for_want(error: Exception, path: str) -> None:
    """What could not be read for want of descriptors or memory is not missing: a device in use could look free."""
    if isinstance(error, OSError) and is_shortage(error):
        raise shortage(f"'{path}' cannot be read now", error) from error


def closure(device: Device, *steps: Callable[[Device], frozenset[Device]]) -> frozenset[Device]:
    """The device and everything reached from it by these steps."""
    seen: set[Device] = set()
    waiting = {device}
    while waiting:
        seen |= waiting
        waiting = {found for each in waiting for step in steps for found in step(each)} - seen
    return frozenset(seen)


def above(device: Device) -> frozenset[Device]:
    """Everything that a write to this device would change: itself, its partitions, and what stands on them."""
    return closure(device, partitions, holders)


def backing(device: Device, sys_block: Path = SYS_BLOCK) -> frozenset[Device]:
    """The device of the file system that holds a loop device's file, where its path can be followed."""
    try:
        path = _text(sys_block / name(device) / "loop/backing_file").rstrip("\n")
        number = os.stat(path).st_dev  # noqa: PTH116 - a path with any byte
    except (OSError, ValueError) as e:
        _not_for_want(e, str(sys_block / name(device)))
        return frozenset()
    found = (os.major(number), os.minor(number))
    return frozenset({found} if found[0] else ())  # major 0: not one block device


def below(device: Device) -> frozenset[Device]:
    """Itself and the devices on which it stands: what a write to it would change."""
    return closure(device, slaves)


def read_from(device: Device) -> frozenset[Device]:
    """Itself and what a verity, encrypted or loop-mounted root really reads: also the device of a loop's file."""
    return closure(device, slaves, backing)
