"""Applies a patch as a device would, and holds every group that it makes to its digest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from twinslot.core.bounds import DIGEST_SIZE
from twinslot.core.errors import ImageError
from twinslot.image.patch import PatchDecoder, PatchHead, PayloadPatch
from twinslot_image.patch_inspect import read_patch_head
from twinslot_image.patch_sources import Content

_CHUNK = 64 * 1024  # bytes


def check_patch(
    path: Path, pairs: Sequence[tuple[Content, Content]], report: Callable[[str, int, int], None] = lambda *_: None
) -> PatchHead:
    """Make the new contents out of the old ones.

    Returns:
        The patch's head.

    Raises:
        ImageError: `image.patch-check`: it does not; the tool that made it is at fault.
    """
    with path.open("rb") as file:
        head = read_patch_head(file)
        total, done = sum(len(part.changed) * part.group_size for part in head.payloads), 0
        for part, (base, target) in zip(head.payloads, pairs, strict=True):
            for plain in _make(part, base, target, file):
                done += len(plain)
                report("checking", done, total)
    return head


def _make(part: PayloadPatch, base: Content, target: Content, file: BinaryIO) -> Iterator[bytes]:
    new_list, count = part.new_plain_list(base.plain_list), 0
    if new_list != target.plain_list:
        raise _failed(f"the plain list of payload '{part.name}'", part.plain_list, hashlib.sha256(new_list).hexdigest())
    length = sum(piece.length for piece in part.pieces)
    with base.file.open("rb") as source:
        for index, plain in PatchDecoder(part, new_list, _reader(source.fileno())).groups(_chunks(file, length)):
            if plain is None:
                digest = new_list[index * DIGEST_SIZE : (index + 1) * DIGEST_SIZE]
                raise _failed(f"payload '{part.name}', group {index}", digest.hex(), "another content")
            count += 1
            yield plain
    if count != len(part.changed):
        raise _failed(f"groups of payload '{part.name}'", str(len(part.changed)), count)


def _reader(descriptor: int) -> Callable[[int, int], bytes]:
    return lambda offset, size: os.pread(descriptor, size, offset)


def _chunks(file: BinaryIO, length: int) -> Iterator[bytes]:
    """Exactly as many bytes, so that the next payload's pieces start where this one's end."""
    while length and (chunk := file.read(min(_CHUNK, length))):
        length -= len(chunk)
        yield chunk


def _failed(what: str, expected: str, found: object) -> ImageError:
    return ImageError(f"the patch does not make the image: {what}", code="patch-check", expected=expected, found=found)
