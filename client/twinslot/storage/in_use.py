"""Is a device in use? Asked of the kernel's mount table and device tree before anything is opened for writing (S1)."""

from __future__ import annotations

from pathlib import Path

from twinslot.core.errors import Refusal, RefusedError
from twinslot.storage import mounts
from twinslot.storage.mounts import Device


# keeps: S1
def refuse_in_use(path: Path, device: Device, forbidden: frozenset[Device]) -> None:
    """Refuse a device that is, holds or stands on a forbidden one, and one that is mounted or carries a mount.

    Devices that share a disk with the running slot are no reason; those that share blocks are.

    Raises:
        RefusedError: `refused.target-running` or `refused.target-mounted`.
    """
    touched = mounts.above(device)
    stands_on = mounts.below(device)
    disk_parts = frozenset[Device]().union(*(mounts.partitions(each) for each in stands_on - {device}))
    running = (touched | stands_on | disk_parts) & forbidden
    if running:
        raise RefusedError(
            Refusal(
                "target-running",
                f"the target '{path}' holds the running system",
                "a device that the running system does not use",
                ", ".join(sorted(map(mounts.name, running))),
                "install into the other slot; 'twinslot doctor' shows which one runs",
            )
        )
    for mount in mounts.parse_mountinfo(mounts.read_text(mounts.MOUNTINFO)):
        if mount.device in touched or (mount.device[0] == 0 and _is_source(mount.source, touched)):
            raise RefusedError(
                Refusal(
                    "target-mounted",
                    f"the target '{path}' is mounted",
                    "not mounted",
                    f"{mount.source} on {mount.point}",
                    f"umount {mount.point}",
                )
            )


def _is_source(source: str, touched: frozenset[Device]) -> bool:
    return source.startswith("/dev/") and mounts.device_of(Path(source)) in touched
