"""The disk of a new device as a file: partition table, contents, data partition. The same gives the same bytes."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from twinslot.core.errors import DeviceError, ImageError
from twinslot.storage.record.database import MODE
from twinslot.storage.record.record import FILE_NAME
from twinslot_image.factory.environment import RawEnvironment
from twinslot_image.factory.layout import MIB, DeviceLayout, DiskLayout, EnvironmentLayout, fixed_id
from twinslot_image.factory.programs import TIME, run
from twinslot_image.fs_tree import FileSystemImage
from twinslot_image.rootfs import open_tree

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
        record: The database. Its own name, without the directories, must be one word: debugfs(8) takes it apart.

    Raises:
        DeviceError: `device.disk-tool`.
    """
    _blank(out, size_mib * MIB)
    ids = f"hash_seed={fixed_id('hash')},lazy_itable_init=0,lazy_journal_init=0"
    time = {"E2FSPROGS_FAKE_TIME": str(TIME)}
    run("mke2fs", "-q", "-t", "ext4", "-L", "data", "-U", fixed_id("data-fs"), "-E", ids, out, env=time)
    if record is not None:
        folders = ["/".join(RECORD_AT[: depth + 1]) for depth in range(len(RECORD_AT))]
        inside = f"{folders[-1]}/{FILE_NAME}"
        commands = [f"mkdir {folder}" for folder in folders] + [f"write {record.name} {inside}"]
        commands += [f"set_inode_field {inside} mode 0{stat.S_IFREG | MODE:o}", ""]
        script = "\n".join(commands).encode()
        run("debugfs", "-w", "-f", "-", out.absolute(), cwd=record.parent, stdin=script, env=time)
        _require_record(out, inside, record)
    return out


def _require_record(data: Path, inside: str, record: Path) -> None:
    """Read it back: debugfs(8) ends with status 0 whatever became of its commands."""
    with data.open("rb") as file:
        tree = open_tree(FileSystemImage(file, str(data)))
        node = tree.look_up(inside)
        found = tree.open(node).read() if node is not None else b""
        if node is None or found != record.read_bytes() or node.mode != stat.S_IFREG | MODE:
            what = "the record could not be put into the data partition"
            raise DeviceError(what, code="disk-tool", expected=f"{record.stat().st_size} bytes", found=len(found))


def _blank(out: Path, size: int) -> None:
    """A file of holes; one that is there keeps its name and mode."""
    with out.open("wb") as file:
        file.truncate(size)
