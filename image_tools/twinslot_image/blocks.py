"""Makes the block list of an image, for devices whose base nobody knows (docs/blocks-format.md)."""

from __future__ import annotations

import os
import shutil
import tempfile
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from twinslot.bundle.blocks import block_sums
from twinslot.bundle.lzma2 import Unpacker, pack
from twinslot.bundle.wire_blocks import BLOCKS_SUFFIX, BlocksEntry, BlocksHead, build_blocks_head, fits, lists_digest
from twinslot.core.errors import BundleError
from twinslot.core.manifest import parse_manifest
from twinslot_image.compose import read_front
from twinslot_image.files import replacing
from twinslot_image.patch_sources import Content, unpack_image

_WAITING: Final = 64  # groups on their way through the threads

Report = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class _Group:
    packed: bytes
    sums: bytes


def make_blocks(image: Path, output: Path | None = None, report: Report = lambda *_: None) -> tuple[Path, BlocksHead]:
    """Make the block list of an image. The same image gives the same bytes; who signed it does not matter.

    Args:
        image: Finished; groups are held to their digests.
        output: Where it goes; None: beside the image, under the name by which devices look for it.
        report: Called now and then.

    Returns:
        The finished list, and its head.

    Raises:
        BundleError: The image is damaged; `bundle.blocks-group-size`: its groups are too small.
    """
    path = output or image.with_suffix(BLOCKS_SUFFIX)
    with image.open("rb") as file:
        manifest = parse_manifest(read_front(file).manifest)
    for payload in manifest.payloads:
        if not fits(payload):
            raise BundleError(
                f"payload '{payload.name}' has groups too small for a block list",
                code="blocks-group-size",
                expected="group_size of 8192 or more",
                found=payload.group_size,
            )
    with tempfile.TemporaryDirectory(prefix=".blocks.", dir=path.parent) as name:
        folder = Path(name)
        total = image.stat().st_size
        contents = unpack_image(image, folder, lambda done: report("unpacking", done, total))
        ordered = [contents[payload.name] for payload in manifest.payloads]
        with (folder / "tables").open("w+b") as tables, (folder / "packed").open("w+b") as packed:
            entries = tuple(_write_payload(content, tables, packed, report) for content in ordered)
            head = BlocksHead(lists_digest(manifest), entries)
            with replacing(path) as sink:
                sink.write(build_blocks_head(head))
                for spool in (tables, packed):
                    spool.seek(0)
                    shutil.copyfileobj(spool, sink)
    return path, head


def _write_payload(content: Content, tables: BinaryIO, packed: BinaryIO, report: Report) -> BlocksEntry:
    lengths, sums = array("I"), bytearray()
    with content.file.open("rb") as source:
        for number, group in enumerate(_pack_groups(source, content.group_size), 1):
            packed.write(group.packed)
            lengths.append(len(group.packed))
            sums += group.sums
            report("packing", min(number * content.group_size, content.size), content.size)
    tables.write(b"".join(length.to_bytes(4, "little") for length in lengths))
    tables.write(sums)
    return BlocksEntry(sum(lengths), len(lengths), content.group_size)


def _pack_groups(source: BinaryIO, group_size: int) -> Iterator[_Group]:
    """In order, by as many threads as there are processors: liblzma works without the interpreter's lock."""
    waiting: deque[Future[_Group]] = deque()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for plain in iter(lambda: source.read(group_size), b""):
            waiting.append(pool.submit(_pack_group, plain, group_size))
            if len(waiting) >= _WAITING:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _pack_group(plain: bytes, group_size: int) -> _Group:
    sums = block_sums(plain.ljust(group_size, b"\0"))
    if not plain.strip(b"\0"):
        return _Group(b"", sums)
    packed = pack(plain)
    if Unpacker(packed).take(len(plain)) != plain:  # never seen; a block list that lies would only waste time
        raise BundleError("liblzma does not give back what it was given", code="blocks-check")
    return _Group(packed, sums)
