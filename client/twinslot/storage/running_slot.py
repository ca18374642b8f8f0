"""Which slot runs (S1): decided by the block device of the root mount, cross-checked by everything else.

The kernel command line and the boot environment are only compared: a wrong word there is reported, and never decides.
An overlay root is looked through to its lowest layer where that layer's mount is visible.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from twinslot.core.errors import DeviceError
from twinslot.core.model import SlotName
from twinslot.storage import mounts
from twinslot.storage.mounts import Device, Mount

CMDLINE: Final = Path("/proc/cmdline")
CMDLINE_KEY: Final = "twinslot.slot="  # boot contract section 4

SlotDevices = Mapping[SlotName, Mapping[str, Path]]
Lookup = Callable[[Path], Device | None]
Below = Callable[[Device], frozenset[Device]]


@dataclass(frozen=True, slots=True)
class RunningSlot:
    """Which slot runs, and why we think so.

    Attributes:
        slot: The decision; None: the root mount is none of the configured slots.
        devices: All devices that the running system uses: none of them may ever be a target.
        evidence: What was looked at, one sentence each.
        disagreements: What says otherwise; never decides, always worth an audit entry.
        root: The payload whose partition holds the root file system; empty when it is not known.
    """

    slot: SlotName | None
    devices: frozenset[Device]
    evidence: tuple[str, ...]
    disagreements: tuple[str, ...] = ()
    root: str = ""

    def require(self) -> SlotName:
        """The running slot.

        Raises:
            DeviceError: `device.running-slot`, with the evidence.
        """
        if self.slot is None:
            raise DeviceError(
                "it is not known which slot runs",
                code="running-slot",
                expected="the root mount on a device of [slots]",
                found="; ".join(self.evidence),
                hint="compare '[slots]' in the configuration with 'findmnt /'",
            )
        return self.slot


def find_running_slot(slots: SlotDevices, environment: str | None = None) -> RunningSlot:
    """Ask this machine; `environment` is the value of the variable `slot`, if it could be read."""
    cmdline = mounts.read_text(CMDLINE)
    return running_slot(
        slots,
        mounts.read_text(mounts.MOUNTINFO),
        mounts.device_of,
        mounts.read_from,
        cmdline=cmdline,
        environment=environment,
    )


# keeps: S1
def running_slot(
    slots: SlotDevices,
    mountinfo: str,
    lookup: Lookup,
    below: Below = lambda device: frozenset({device}),
    *,
    cmdline: str = "",
    environment: str | None = None,
) -> RunningSlot:
    """Decide which slot runs.

    Args:
        slots: Configured devices by slot and payload.
        mountinfo: Text of /proc/self/mountinfo.
        lookup: Device number of a path; None when there is none.
        below: A device with all those on which it stands (verity, encryption).
        cmdline: Text of /proc/cmdline, cross-check only.
        environment: Variable `slot` of the boot environment, cross-check only.
    """
    evidence: list[str] = []
    root = _root_device(mounts.parse_mountinfo(mountinfo), lookup, evidence)
    used = below(root) if root is not None else frozenset[Device]()
    matches = _matches(slots, used, lookup, evidence)
    slot = matches[0] if len(matches) == 1 else None
    if len(matches) > 1:
        evidence.append("both slots name the device of the root mount")
    devices = used | (_devices(slots[slot], lookup) if slot is not None else frozenset())
    roots = [payload for payload, path in slots[slot].items() if lookup(path) in used] if slot is not None else []
    differ = _disagreements(slot, cmdline, environment)
    return RunningSlot(slot, devices, tuple(evidence), differ, roots[0] if roots else "")


def _root_device(table: tuple[Mount, ...], lookup: Lookup, evidence: list[str]) -> Device | None:
    root = next((mount for mount in reversed(table) if mount.point == "/"), None)  # the last one lies on top
    if root is not None and root.fstype == "overlay":
        evidence.append("the root mount is an overlay")
        root = _lowest_layer(table, root, evidence)
    if root is None:
        evidence.append("no root mount with a block device was found")
        return None
    device = root.device
    if device[0] == 0:  # not one block device: btrfs tells it only by name
        found = lookup(Path(root.source)) if root.source.startswith("/dev/") else None
        if found is None:
            evidence.append(f"the root mount is a {root.fstype} without a block device")
            return None
        device = found
    evidence.append(f"the root mount is {root.source} ({mounts.name(device)}, {root.fstype})")
    return device


def _lowest_layer(table: tuple[Mount, ...], root: Mount, evidence: list[str]) -> Mount | None:
    """The mount that holds the lowest layer; an overlay there is looked through as well."""
    seen = {root}
    found: Mount | None = root
    while found is not None and found.fstype == "overlay":
        layers = overlay_layers(found)
        layer = layers[-1] if layers else ""
        found = _covering(table, layer, seen)
        evidence.append(f"its lowest layer is '{layer}'" + ("" if found else ", whose mount is not visible"))
        seen |= {found} if found else set()
    return found


def _covering(table: tuple[Mount, ...], layer: str, seen: set[Mount]) -> Mount | None:
    """The mount with the longest path above a directory, the topmost of several; never one that was looked through."""
    candidates = [
        (len(mount.point), number, mount)
        for number, mount in enumerate(table)
        if mount not in seen and mount.point != "/" and (layer + "/").startswith(mount.point.rstrip("/") + "/")
    ]
    return max(candidates, key=lambda each: each[:2])[2] if candidates else None


# keeps: S1
def overlay_layers(mount: Mount) -> tuple[str, ...]:
    """Directories of the lower layers, the topmost first, without those that hold only data.

    Kernel, Documentation/filesystems/overlayfs.rst and fs/overlayfs/params.c: `lowerdir=A:B::DATA`, where a backslash
    escapes a colon, a comma and itself; or since Linux 6.5 one `lowerdir+=` for each layer as it is, and `datadir+=`.
    """
    layers: list[str] = []
    for key, value in mounts.option_list(mount):
        if key == "lowerdir+":
            layers.append(value)
        elif key == "lowerdir":
            for part in _PART.findall(value):
                if part == "::":
                    break
                layers += [re.sub(r"\\(.)", r"\1", part)] if part != ":" else []
    return tuple(layers)


_PART: Final = re.compile(r"::|:|(?:[^:\\]|\\.)+", re.DOTALL)


def _matches(slots: SlotDevices, used: frozenset[Device], lookup: Lookup, evidence: list[str]) -> list[SlotName]:
    matches = []
    for slot, payloads in slots.items():
        hits = [(payload, path) for payload, path in payloads.items() if lookup(path) in used]
        if hits:
            matches.append(slot)
        evidence += [f"'{path}' is payload '{payload}' of slot {slot}" for payload, path in hits]
    if not matches and used:
        evidence.append("no configured slot is on " + ", ".join(sorted(map(mounts.name, used))))
    return matches


def _devices(payloads: Mapping[str, Path], lookup: Lookup) -> frozenset[Device]:
    return frozenset(device for device in map(lookup, payloads.values()) if device is not None)


ENVIRONMENT: Final = "the boot environment"  # as a disagreement begins


def _disagreements(slot: SlotName | None, cmdline: str, environment: str | None) -> tuple[str, ...]:
    words = [word.removeprefix(CMDLINE_KEY) for word in cmdline.split() if word.startswith(CMDLINE_KEY)]
    claims = [("the kernel command line", word) for word in words[-1:]]
    claims += [(ENVIRONMENT, environment)] if environment is not None else []
    runs = slot or "unknown"
    return tuple(f"{who} says slot '{said}', but '{runs}' runs" for who, said in claims if said != slot)
