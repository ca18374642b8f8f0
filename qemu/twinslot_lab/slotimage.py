"""Slot and disk images: the same tree gives the same bytes."""

from __future__ import annotations

import uuid
from pathlib import Path

from twinslot_lab.command import run
from twinslot_lab.description import MIB, PARTITIONS, BoardDescription
from twinslot_lab.errors import BuildError

ROOT_PAYLOAD = "rootfs"  # the payload from which the board starts
_EPOCH = 1700000000  # seconds; every file in a slot has this time
_SPACE = uuid.UUID("6f2e6a0c-3c4e-5b0a-9a0e-7a1f0d2b8c11")  # name space for fixed ids; any constant
_BLOCK = 1 << 20
_SLOT_TYPE = {  # "Linux filesystem data" (UAPI discoverable partitions), "Linux" (sfdisk --list-types)
    "gpt": "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
    "dos": "83",
}


def fixed_id(name: str) -> str:
    """A UUID that is always the same for a name."""
    return str(uuid.uuid5(_SPACE, name))


def build(tree: Path, out: Path, *, limit_mib: int = 0) -> Path:
    """An uncompressed erofs image of a tree: sorted, fixed id, fixed times, owners and modes kept.

    erofs has no journal and no place to write to, so a mounted slot stays byte-identical (S14); not compressed, so
    that U-Boot loads from it and a patch finds unchanged blocks.

    Args:
        tree: The root file system.
        out: The image, replaced if it exists; a multiple of 4096 bytes.
        limit_mib: Size of the slot in MiB; 0: any.

    Raises:
        BuildError: The tree could not be read, or the image is larger than the slot.
    """
    out.unlink(missing_ok=True)
    run("mkfs.erofs", "--quiet", "-x-1", f"-T{_EPOCH}", f"-U{fixed_id('slot')}", out, tree)
    size = out.stat().st_size
    if limit_mib and size > limit_mib * MIB:
        raise BuildError(f"the slot image has {size} bytes, the slot {limit_mib * MIB}")
    return out


def slot_offsets(board: BoardDescription) -> dict[str, tuple[int, int]]:
    """Partition name -> start and size in bytes, in the order of the table."""
    disk = board.disk
    sizes = dict(zip(PARTITIONS, (disk.slot_mib, disk.slot_mib, disk.data_mib), strict=True))
    sizes |= {f"{payload}_{slot}": mib for payload, mib in disk.beside.items() for slot in "ab"}
    places, at = dict[str, tuple[int, int]](), disk.first_mib * MIB
    for name, mib in sizes.items():
        places[name] = (at, mib * MIB)
        at += mib * MIB
    return places


def payload_offsets(board: BoardDescription, slot: str) -> dict[str, tuple[int, int]]:
    """Payload name -> start and size in bytes of its partition in a slot, `a` or `b`; the root file system first."""
    places = slot_offsets(board)
    return {ROOT_PAYLOAD: places[f"slot_{slot}"]} | {name: places[f"{name}_{slot}"] for name in board.disk.beside}


def disk_size(board: BoardDescription) -> int:
    """Bytes of the whole disk: what the description says, or the partitions and one MiB behind them for a second GPT.

    Raises:
        BuildError: The partitions do not fit.
    """
    last_start, last_size = max(slot_offsets(board).values())
    needed = last_start + last_size + (MIB if board.disk.table == "gpt" else 0)
    size = board.disk.size_mib * MIB or needed
    if size < needed:
        raise BuildError(f"the partitions need {needed} bytes, the disk has {size}")
    return size


def table_script(board: BoardDescription) -> str:
    """The partition table in the language of sfdisk(8), in sectors of 512 bytes."""
    kind = board.disk.table
    label = fixed_id("disk") if kind == "gpt" else f"{board.disk.id:#010x}"
    lines = [f"label: {kind}", f"label-id: {label}"]
    for name, (start, size) in slot_offsets(board).items():
        named = f", uuid={fixed_id(name)}, name={name}" if kind == "gpt" else ""
        lines.append(f"start={start // 512}, size={size // 512}, type={_SLOT_TYPE[kind]}{named}")
    return "\n".join(lines) + "\n"


def make_disk(board: BoardDescription, out: Path, contents: dict[str, Path]) -> Path:
    """A sparse disk; partitions named in `contents` get that image from their first byte, the others stay blank."""
    out.unlink(missing_ok=True)
    with out.open("wb") as disk:
        disk.truncate(disk_size(board))
    run("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", out, stdin=table_script(board).encode())
    for name, image in contents.items():
        start, size = slot_offsets(board)[name]
        if image.stat().st_size > size:
            raise BuildError(f"'{image}' does not fit into {name}")
        write_at(out, start, image)
    return out


def put_firmware(board: BoardDescription, disk: Path, image: Path) -> None:
    """Write the firmware where the machine looks for it on the disk; nothing to do where QEMU loads it.

    Raises:
        BuildError: It would reach into the environment or a partition.
    """
    if board.firmware.place != "disk":
        return
    end = board.firmware.offset + image.stat().st_size
    behind = [board.disk.first_mib * MIB]
    if not board.environment.card_mib:
        behind += board.environment.offsets
    if end > min(behind):
        raise BuildError(f"the firmware ends at byte {end}, what follows begins at {min(behind)}")
    write_at(disk, board.firmware.offset, image)


def write_at(disk: Path, start: int, image: Path) -> None:
    """Copy an image to a byte offset; blocks of zeros are left as they are."""
    with image.open("rb") as source, disk.open("r+b") as target:
        while block := source.read(_BLOCK):
            if block.count(0) != len(block):
                target.seek(start)
                target.write(block)
            start += len(block)


def make_data(out: Path, size_mib: int) -> Path:
    """A fresh ext4 data partition, so that the first start need not make one."""
    out.unlink(missing_ok=True)
    with out.open("wb") as image:
        image.truncate(size_mib * MIB)
    ids = f"hash_seed={fixed_id('hash')},lazy_itable_init=0,lazy_journal_init=0"
    env = {"E2FSPROGS_FAKE_TIME": str(_EPOCH)}
    run("mke2fs", "-q", "-t", "ext4", "-L", "data", "-U", fixed_id("data-fs"), "-E", ids, out, env=env)
    return out
