"""What a patch says of itself, for people and for programs. Nothing here is verified; a patch is not signed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO

from twinslot.core.errors import ImageError
from twinslot.image.patch import PATCH_HEADER_SIZE, PatchHead, PayloadPatch, parse_patch_head, patch_head_length
from twinslot.image.wire_patch import PATCH_MAGIC
from twinslot_image.progress import size_text


def is_patch(path: Path) -> bool:
    """Whether a file is a patch, by its first bytes."""
    with path.open("rb") as file:
        return file.read(len(PATCH_MAGIC)) == PATCH_MAGIC


def read_patch_head(file: BinaryIO) -> PatchHead:
    """Read the head from the start of a patch file, and hold the file to the length that it says.

    Raises:
        ImageError: Not a patch, damaged, or cut off.
    """
    data = file.read(PATCH_HEADER_SIZE)
    head = parse_patch_head(data + file.read(patch_head_length(data) - len(data)))
    size = os.fstat(file.fileno()).st_size
    if size != head.total:
        raise ImageError("the length of the patch", code="length", expected=head.total, found=size)
    return head


def describe_patch(head: PatchHead) -> dict[str, Any]:
    """The patch as JSON-ready data; stable keys, sizes in bytes."""
    payloads = [_describe_payload(part) for part in head.payloads]
    return {"format": head.version, "size": head.total, "head": head.length, "payloads": payloads}


def _describe_payload(part: PayloadPatch) -> dict[str, Any]:
    lengths = [piece.length for piece in part.pieces]
    return {
        "name": part.name,
        "base": part.base,
        "base_size": part.base_size,
        "plain_list": part.plain_list,
        "size": part.size,
        "group_size": part.group_size,
        "groups": part.groups,
        "changed": len(part.changed),
        "pieces": len(lengths),
        "largest_piece": max(lengths, default=0),
        "stored_size": sum(lengths),
    }


def render_patch(data: dict[str, Any]) -> list[str]:
    """The same for people, line by line; a name in it may still hold anything."""
    lines = [f"patch of {size_text(data['size'])}, format {data['format']}"]
    for part in data["payloads"]:
        lines += [
            f"  payload '{part['name']}', {size_text(part['size'])}",
            f"    from base    {part['base']}, {size_text(part['base_size'])}",
            f"    changes      {part['changed']} of {part['groups']} groups of {size_text(part['group_size'])}",
        ]
    return [*lines, "  A patch is not signed: the image's manifest vouches for what comes out of it."]
