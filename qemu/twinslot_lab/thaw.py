"""What QEMU needs to go on from a frozen moment: its memory, and registers that its stream leaves out.

QEMU's sdhci-pci saves its own state but not its PCI configuration (QEMU 7.2, hw/sd/sdhci-pci.c: the vmsd is that of
the common part, without VMSTATE_PCI_DEVICE). After loading, the controller has no address and answers all ones. So
its base address and its command register are noted when the board is frozen, and written into its configuration space
before the processors run, over QEMU's test channel (QEMU docs/devel/qtest.rst), which reaches physical addresses.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinslot_lab.errors import BoardError
from twinslot_lab.qmp import Monitor

_SDHCI_PCI = (0x1B36, 0x0007)  # vendor, device: QEMU docs/specs/pci-ids.rst
_COMMAND, _BAR0 = 0x04, 0x10  # offsets in the configuration space: PCI Local Bus Specification 3.0, 6.1
_ON = 0x06  # memory space and bus master enabled: the same, 6.2.2
_ECAM = re.compile(r"([0-9a-f]{16})-[0-9a-f]{16} [^\n]*alias pcie-ecam\w* @pcie-mmcfg")
_ANSWER = 20  # seconds

Register = tuple[int, int]  # physical address, value of 32 bits


@dataclass(frozen=True, slots=True)
class Thaw:
    """How a board goes on: the migration stream, packed by zstd, and registers to write before the processors run."""

    memory: Path
    registers: tuple[Register, ...]


def forgotten(monitor: Monitor) -> tuple[Register, ...]:
    """The registers to note when a board is frozen; none if it has no such controller, or it has no address yet."""
    found: list[Register] = []
    for bus in _list(monitor.execute("query-pci")):
        for device in bus["devices"]:
            addresses = [region["address"] for region in device["regions"] if region["bar"] == 0]
            if (device["id"]["vendor"], device["id"]["device"]) != _SDHCI_PCI or -1 in addresses:
                continue
            space = _configuration_space(monitor) + (device["bus"] << 20 | device["slot"] << 15)
            found += [(space + _BAR0, addresses[0]), (space + _COMMAND, _ON)]
    return tuple(found)


def write(connection: socket.socket, registers: tuple[Register, ...]) -> None:
    """Write the registers over QEMU's test channel and read them back.

    Raises:
        BoardError: QEMU did not take one.
    """
    connection.settimeout(_ANSWER)
    with connection.makefile("rw", encoding="ascii") as channel:

        def ask(line: str) -> str:
            channel.write(line + "\n")
            channel.flush()
            return channel.readline().strip()

        try:
            for address, value in registers:
                ask(f"writel {address:#x} {value:#x}")
                said = ask(f"readl {address:#x}").split()
                if len(said) != 2 or said[0] != "OK" or int(said[1], 16) & value != value:
                    raise BoardError(f"QEMU did not take {value:#x} at {address:#x}: {said}")
        except (OSError, ValueError) as e:
            raise BoardError(f"QEMU's test channel does not answer: {e}") from e


def _configuration_space(monitor: Monitor) -> int:
    """Physical address of the PCI Express configuration space ("info mtree" of QEMU's human monitor)."""
    text = str(monitor.execute("human-monitor-command", **{"command-line": "info mtree"}))
    match = _ECAM.search(text)
    if match is None:
        raise BoardError("QEMU's memory map shows no PCI Express configuration space")
    return int(match.group(1), 16)


def _list(found: object) -> list[dict[str, Any]]:
    return found if isinstance(found, list) else []
