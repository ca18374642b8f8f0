"""Makes the block list of an image, for devices whose base nobody knows (docs/blocks-format.md)."""

from __future__ import annotations

import io
import os
import shutil
from array import array
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from twinslot.core.errors import ImageError
from twinslot.core.manifest import parse_manifest
from twinslot.image.block_index import block_sums
from twinslot.image.lzma2 import Unpacker, pack
from twinslot.image.wire_blocks import BlocksEntry, BlocksHead, build_blocks_head, fits, lists_digest
from twinslot_image.compose import read_front
from twinslot_image.encryption import content_key
from twinslot_image.outputs import Target
from twinslot_image.patch_sources import Content, unpack_image
from twinslot_image.recipients import LOCKED, Unlock
from twinslot_image.replacement import workspace
from twinslot_image.sealing import Chain, seal_file
from twinslot_image.threads import in_order

# Words as in code and tables, and text: a group takes what packs it best (docs/decisions/0080). Any reader knows both.
_BITS: Final = ({"lc": 0, "lp": 2, "pb": 2}, {"lc": 3, "lp": 0, "pb": 2})
_WAITING: Final = 64  # groups on their way through the threads; liblzma works without the interpreter's lock

Report = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class _Group:
    packed: bytes
    sums: bytes


def make_blocks(image: Path, target: Target, report: Report = lambda *_: None, unlock: Unlock = LOCKED) -> BlocksHead:
    """Make the block list of an image. The same image gives the same bytes; who signed it does not matter.

    Args:
        image: Finished; groups are held to their digests.
        target: Where it goes; devices look for it beside the image, under its name with another suffix.
        report: Called now and then.
        unlock: Opens an encrypted image. Its block list is sealed with its content key.

    Returns:
        The head of the finished list.

    Raises:
        ImageError: The image is damaged; `image.blocks-group-size`: its groups are too small.
    """
    with image.open("rb") as file:
        manifest = parse_manifest(read_front(file).manifest)
    for payload in manifest.payloads:
        if not fits(payload):
            raise ImageError(
                f"payload '{payload.name}' has groups too small for a block list",
                code="blocks-group-size",
                expected="group_size of 8192 or more",
                found=payload.group_size,
            )
    content = content_key(image, unlock)
    with workspace(target.folder) as folder:
        total = image.stat().st_size
        contents = unpack_image(image, folder, lambda done: report("unpacking", done, total), unlock)
        ordered = [contents[payload.name] for payload in manifest.payloads]
        with (folder / "tables").open("w+b") as tables, (folder / "packed").open("w+b") as packed:
            entries = tuple(_write_payload(content, tables, packed, report) for content in ordered)
            head = BlocksHead(lists_digest(manifest), entries)
            for spool in (tables, packed):
                spool.seek(0)
            whole = Chain([io.BytesIO(build_blocks_head(head)), tables, packed])
            with target.writing() as sink:
                if content:
                    sink.writelines(seal_file(content, whole, head.total))
                else:
                    shutil.copyfileobj(whole, sink)
    return head


def _write_payload(content: Content, tables: BinaryIO, packed: BinaryIO, report: Report) -> BlocksEntry:
    lengths, sums = array("I"), bytearray()
    with content.file.open("rb") as source:
        plain = iter(lambda: source.read(content.group_size), b"")
        pack_one = partial(_pack_group, group_size=content.group_size)
        with closing(in_order(pack_one, plain, os.cpu_count(), _WAITING)) as groups:
            for number, group in enumerate(groups, 1):
                packed.write(group.packed)
                lengths.append(len(group.packed))
                sums += group.sums
                report("packing", min(number * content.group_size, content.size), content.size)
    tables.write(b"".join(length.to_bytes(4, "little") for length in lengths))
    tables.write(sums)
    return BlocksEntry(sum(lengths), len(lengths), content.group_size)


def _pack_group(plain: bytes, group_size: int) -> _Group:
    sums = block_sums(plain.ljust(group_size, b"\0"))
    if not plain.strip(b"\0"):
        return _Group(b"", sums)
    packed = min((pack(plain, bits=bits) for bits in _BITS), key=len)
    if Unpacker(packed).take(len(plain)) != plain:  # never seen; a block list that lies would only waste time
        raise ImageError("liblzma does not give back what it was given", code="blocks-check")
    return _Group(packed, sums)
