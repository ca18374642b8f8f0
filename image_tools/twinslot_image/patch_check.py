"""Applies a patch as a device would, and holds every group that it makes to its digest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from twinslot.bundle.patch import PATCH_HEADER_SIZE, PatchDecoder, PatchHead, parse_patch_head, patch_head_length
from twinslot.core.errors import BundleError
from twinslot.core.model import DIGEST_SIZE
from twinslot_image.patch_sources import Content

_CHUNK = 64 * 1024  # bytes


def read_patch_head(file: BinaryIO) -> PatchHead:
    """Read the head from the start of a patch file, and hold the file to the length that it says.

    Raises:
        BundleError: Not a patch, damaged, or cut off.
    """
    data = file.read(PATCH_HEADER_SIZE)
    head = parse_patch_head(data + file.read(patch_head_length(data) - len(data)))
    size = os.fstat(file.fileno()).st_size
    if size != head.total:
        raise BundleError("the length of the patch", code="length", expected=head.total, found=size)
    return head


def check_patch(
    path: Path, pairs: Sequence[tuple[Content, Content]], report: Callable[[str, int, int], None] = lambda *_: None
) -> None:
    """Make the new contents out of the old ones.

    Raises:
        BundleError: `bundle.patch-check`: it does not; the tool that made it is at fault.
    """
    with path.open("rb") as file:
        head = read_patch_head(file)
        total, done = sum(len(part.changed) * part.group_size for part in head.payloads), 0
        for part, (base, target) in zip(head.payloads, pairs, strict=True):
            new_list = part.new_plain_list(base.plain_list)
            if new_list != target.plain_list:
                raise _failed(f"the plain list of payload '{part.name}'", part.plain_list, hashlib.sha256(new_list))
            with base.file.open("rb") as source:
                decoder = PatchDecoder(part, new_list, _reader(source.fileno()))
                length = sum(piece.length for piece in part.pieces)
                count = 0
                for index, plain in decoder.groups(_chunks(file, length)):
                    if plain is None:
                        raise _failed(f"payload '{part.name}', group {index}", _digest(new_list, index), None)
                    count, done = count + 1, done + len(plain)
                    report("checking", done, total)
            if count != len(part.changed):
                raise _failed(f"groups of payload '{part.name}'", str(len(part.changed)), None)


def _reader(descriptor: int) -> Callable[[int, int], bytes]:
    return lambda offset, size: os.pread(descriptor, size, offset)


def _digest(plain_list: bytes, index: int) -> str:
    return plain_list[index * DIGEST_SIZE : (index + 1) * DIGEST_SIZE].hex()


def _chunks(file: BinaryIO, length: int) -> Iterator[bytes]:
    """Exactly as many bytes, so that the next payload's pieces start where this one's end."""
    while length and (chunk := file.read(min(_CHUNK, length))):
        length -= len(chunk)
        yield chunk


def _failed(what: str, expected: str, found: object) -> BundleError:
    return BundleError(f"the patch does not make the image: {what}", code="patch-check", expected=expected, found=found)
