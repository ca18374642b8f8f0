"""Where the drives of an emulated board come from: its own raw copies unless somebody says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from twinslot_lab.build import BoardFiles
from twinslot_lab.command import run
from twinslot_lab.description import BoardDescription

# Everything that the guest was told is written has reached a file of the host: what a killed emulator leaves is what
# the guest was promised (docs/safety.md). QEMU keeps nothing of a raw file to itself; "writethrough" has the host put
# each write on its medium as well, and tells the guest that nothing needs a flush.
RAW = "format=raw,cache=writethrough"
# An SD card is written by blocks of 512 bytes: the host would flush its file behind each of them.
_SD = "format=raw,cache=writeback"


def own_copies(files: BoardFiles, folder: Path) -> tuple[Path, Path]:
    """Disk and card of a board as files of its own, made if they are not there yet.

    A board that has everything on one card gets the same path twice.
    """
    sources = files.disk, files.card
    copies = folder / files.disk.name, folder / files.card.name
    for source, copy in zip(sources, copies, strict=True):
        if not copy.exists():
            run("cp", "--sparse=always", "--reflink=auto", source, copy)
    return copies


def drive_options(disk: Path, card: Path, other: Mapping[str, str]) -> dict[str, str]:
    """What stands behind `-drive if=none,id=<name>,`.

    Args:
        disk: Raw image.
        card: Raw image of the SD card; the same as `disk` if the board has everything on it.
        other: Replaces the options of `disk` or `card`, for example by an NBD server or by blkdebug.
    """
    mode = _SD if disk == card else RAW
    return {"disk": f"{mode},file={disk}", "card": f"{_SD},file={card}"} | dict(other)


def drive_arguments(board: BoardDescription, options: Mapping[str, str]) -> list[str]:
    """QEMU's arguments that plug the drives in; `options` as from `drive_options`."""
    if board.machine.disk == "sd":
        return ["-drive", f"if=sd,id=disk,{options['disk']}"]
    disk, card = (f"if=none,id={name},{options[name]}" for name in ("disk", "card"))
    virtio = ["-drive", disk, "-device", "virtio-blk-pci,drive=disk"]
    return [*virtio, "-device", "sdhci-pci", "-drive", card, "-device", "sd-card,drive=card"]
