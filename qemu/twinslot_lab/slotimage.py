"""Slot and disk images: the same tree gives the same bytes."""

from __future__ import annotations

import uuid
from pathlib import Path

from twinslot_lab.command import run
from twinslot_lab.description import MIB, BoardDescription
from twinslot_lab.errors import BuildError

_EPOCH = 1700000000  # seconds; every file in a slot has this time
_SPACE = uuid.UUID("6f2e6a0c-3c4e-5b0a-9a0e-7a1f0d2b8c11")  # name space for fixed ids; any constant
_BLOCK = 1 << 20
_SLOT_TYPE = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"  # GPT "Linux filesystem data" (UEFI discoverable partitions)


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
    slot, data = board.disk.slot_mib * MIB, board.disk.data_mib * MIB
    first = MIB
    return {"slot_a": (first, slot), "slot_b": (first + slot, slot), "data": (first + 2 * slot, data)}


def make_disk(board: BoardDescription, out: Path, contents: dict[str, Path]) -> Path:
    """A sparse GPT disk; partitions named in `contents` get that image from their first byte, the others stay blank."""
    places = slot_offsets(board)
    last_start, last_size = places["data"]
    out.unlink(missing_ok=True)
    with out.open("wb") as disk:
        disk.truncate(last_start + last_size + MIB)  # one MiB behind for the second GPT
    lines = ["label: gpt", f"label-id: {fixed_id('disk')}"]
    for name, (start, size) in places.items():
        place = f"start={start // 512}, size={size // 512}"
        lines.append(f"{place}, type={_SLOT_TYPE}, uuid={fixed_id(name)}, name={name}")
    run("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", out, stdin="\n".join(lines).encode() + b"\n")
    for name, image in contents.items():
        start, size = places[name]
        if image.stat().st_size > size:
            raise BuildError(f"'{image}' does not fit into {name}")
        write_at(out, start, image)
    return out


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
