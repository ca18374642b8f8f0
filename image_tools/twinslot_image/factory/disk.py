"""The disk of a new device as a file: partition table, contents, data partition. The same gives the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from twinslot.core.errors import ImageError
from twinslot_image.factory.environment import RawEnvironment
from twinslot_image.factory.layout import MIB, DeviceLayout, DiskLayout, EnvironmentLayout, fixed_id
from twinslot_image.factory.programs import TIME, run

RECORD_AT: Final = ("lib", "twinslot")  # directories on the data partition, which becomes /var
_BLOCK: Final = 1 << 20


def assemble(
    layout: DeviceLayout,
    disk: Path,
    card: Path,
    contents: Mapping[str, Path],
    variables: Mapping[str, str],
    firmware: Path | None = None,
) -> RawEnvironment:
    """A whole disk, with the card that holds the environment where that has one of its own.

    Args:
        layout: Where things go.
        disk: The file to make; replaced if it exists.
        card: The same for the card; not touched if the environment stands on the disk.
        contents: Images of partitions, by name; the others stay blank.
        variables: What both copies of the environment get.
        firmware: The boot loader, where it stands on the disk.

    Returns:
        The environment as it was written.

    Raises:
        ImageError: `image.description`: something does not fit.
        DeviceError: `device.disk-tool`.
        OSError: A file cannot be read or written.
    """
    make_disk(layout.disk, disk, contents)
    if firmware is not None and layout.firmware_at is not None:
        layout.check_firmware(firmware.stat().st_size)
        write_at(disk, layout.firmware_at, firmware)
    return put_environment(layout.environment, disk, card, variables)


def make_disk(layout: DiskLayout, out: Path, contents: Mapping[str, Path]) -> Path:
    """A sparse disk; partitions named in `contents` get that image from their first byte, the others stay blank.

    Raises:
        ImageError: `image.description`: an image is larger than its partition.
        DeviceError: `device.disk-tool`.
    """
    places = layout.partitions()
    for name, image in contents.items():
        found, room = image.stat().st_size, places[name][1]
        if found > room:
            what = f"the content of partition '{name}' is too large"
            raise ImageError(what, code="description", expected=f"{room} bytes or less", found=f"{found} bytes")
    _blank(out, layout.size())
    run("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", out, stdin=layout.script().encode())
    for name, image in contents.items():
        write_at(out, places[name][0], image)
    return out


def put_environment(layout: EnvironmentLayout, disk: Path, card: Path, variables: Mapping[str, str]) -> RawEnvironment:
    """Both copies with the same content: on a new card, or on the disk if that is where they stand."""
    if layout.card_mib:
        _blank(card, layout.card_mib * MIB)
    environment = RawEnvironment(card if layout.card_mib else disk, layout.places)
    environment.write_both(variables)
    return environment


def write_at(disk: Path, start: int, image: Path) -> None:
    """Copy an image to a byte offset; blocks of zeros are left as they are."""
    with image.open("rb") as source, disk.open("r+b") as target:
        while block := source.read(_BLOCK):
            if block.count(0) != len(block):
                target.seek(start)
                target.write(block)
            start += len(block)


def make_data(out: Path, size_mib: int, record: Path | None = None) -> Path:
    """A fresh ext4 data partition, so that the first start need not make one; with a record, where the client looks.

    Args:
        out: The image; replaced if it exists.
        size_mib: Its size in MiB.
        record: The database; its name must be free of white space and quotes, which debugfs(8) would take apart.

    Raises:
        DeviceError: `device.disk-tool`.
    """
    _blank(out, size_mib * MIB)
    ids = f"hash_seed={fixed_id('hash')},lazy_itable_init=0,lazy_journal_init=0"
    time = {"E2FSPROGS_FAKE_TIME": str(TIME)}
    run("mke2fs", "-q", "-t", "ext4", "-L", "data", "-U", fixed_id("data-fs"), "-E", ids, out, env=time)
    if record is not None:
        folders = ["/".join(RECORD_AT[: depth + 1]) for depth in range(len(RECORD_AT))]
        commands = [f"mkdir {folder}" for folder in folders] + [f"write {record} {folders[-1]}/record.sqlite"]
        run("debugfs", "-w", "-f", "-", out, stdin="\n".join([*commands, ""]).encode(), env=time)
    return out


def _blank(out: Path, size: int) -> None:
    out.unlink(missing_ok=True)
    with out.open("wb") as file:
        file.truncate(size)
