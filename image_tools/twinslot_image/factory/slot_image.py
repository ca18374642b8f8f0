"""Slot images: the same tree gives the same bytes."""

from __future__ import annotations

from pathlib import Path

from twinslot.core.errors import ImageError
from twinslot_image.factory.layout import MIB, fixed_id
from twinslot_image.factory.programs import TIME, run


# keeps: S14 (where boards are built)
def make_slot_image(tree: Path, out: Path, *, limit_mib: int = 0) -> Path:
    """An uncompressed erofs image of a tree: sorted, fixed id, fixed times, owners and modes kept.

    erofs has no journal and no place to write to, so a mounted slot stays byte-identical (S14); not compressed, so
    that U-Boot loads from it and a patch finds unchanged blocks.

    Args:
        tree: The root file system.
        out: The image, replaced if it exists; a multiple of 4096 bytes.
        limit_mib: Size of the slot in MiB; 0: any.

    Raises:
        DeviceError: `device.disk-tool`: the tree could not be read.
        ImageError: `image.description`: the image is larger than the slot.
    """
    out.unlink(missing_ok=True)
    run("mkfs.erofs", "--quiet", "-x-1", f"-T{TIME}", f"-U{fixed_id('slot')}", out, tree)
    size = out.stat().st_size
    if limit_mib and size > limit_mib * MIB:
        what = "the slot image is larger than the slot"
        raise ImageError(what, code="description", expected=f"{limit_mib * MIB} bytes or less", found=f"{size} bytes")
    return out
