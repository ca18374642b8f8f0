"""What a block list says of itself, for people and for programs. Nothing is verified: a block list is not signed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO

from twinslot.core.bounds import PAYLOADS_MAX
from twinslot.core.errors import ImageError
from twinslot.image.wire_blocks import (
    BLOCKS_ENTRY_SIZE,
    BLOCKS_HEADER_SIZE,
    BLOCKS_MAGIC,
    BlocksHead,
    parse_blocks_head,
)
from twinslot_image.progress import size_text


def is_blocks(path: Path) -> bool:
    """Whether a file is a block list, by its first bytes."""
    with path.open("rb") as file:
        return file.read(len(BLOCKS_MAGIC)) == BLOCKS_MAGIC


def read_blocks_head(file: BinaryIO) -> BlocksHead:
    """Read the head from the start of a block list, and hold the file to the length that it says.

    Raises:
        ImageError: Not a block list, damaged, or cut off.
    """
    head = parse_blocks_head(file.read(BLOCKS_HEADER_SIZE + PAYLOADS_MAX * BLOCKS_ENTRY_SIZE))
    size = os.fstat(file.fileno()).st_size
    if size != head.total:
        raise ImageError("the length of the block list", code="length", expected=head.total, found=size)
    return head


def describe_blocks(head: BlocksHead) -> dict[str, Any]:
    """The block list as JSON-ready data; stable keys, sizes in bytes."""
    payloads = [
        {"groups": entry.groups, "group_size": entry.group_size, "packed": entry.packed} for entry in head.entries
    ]
    return {"size": head.total, "lists": head.lists.hex(), "payloads": payloads}


def render_blocks(data: dict[str, Any]) -> list[str]:
    """The same for people, line by line; a name in it may still hold anything."""
    lines = [f"block list of {size_text(data['size'])}"]
    for part in data["payloads"]:
        groups = f"{part['groups']} groups of {size_text(part['group_size'])}"
        lines.append(f"  a payload of  {groups}, packed {size_text(part['packed'])}")
    return [*lines, "  A block list is not signed: the image's manifest vouches for what comes out of it."]
