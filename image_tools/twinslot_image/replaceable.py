"""What an output may replace without '--force': a file of its own kind, and never one that people signed."""

from __future__ import annotations

import os
from typing import BinaryIO

from twinslot.core.errors import ImageError
from twinslot.core.manifest import parse_manifest
from twinslot.image.sealed_file import SEALED_MAGIC
from twinslot.image.wire import MAGIC
from twinslot.image.wire_blocks import BLOCKS_MAGIC
from twinslot.image.wire_patch import PATCH_MAGIC
from twinslot_image.compose import read_front

_TO_SIGN = b'{"_type":"targets"'  # how the bytes begin that a signature covers: canonical JSON sorts by key
_PAE = b"DSSEv1 "
_ENVELOPE = b'{"payload":'  # DSSE, in the one form of ours
_PAGE = b"<!doctype html"
_TABLE = b"device,key,"  # how its first line begins
_SBOM_LOOK = 512  # bytes; ours say in the first hundred what they are


def nothing(_file: BinaryIO) -> str | None:
    """Nothing may be replaced: an attachment and a record are of no kind that shows."""
    return "a file"


def unsigned_image(file: BinaryIO) -> str | None:
    """An image may be replaced as long as it bears no signature."""
    if _first(file, len(MAGIC)) != MAGIC:
        return "a file that is no image"
    try:
        signatures = len(parse_manifest(read_front(file).manifest).key_ids)
    except ImageError:
        return "a damaged image"
    return f"an image with {signatures} signature{'s' if signatures > 1 else ''}" if signatures else None


def patch(file: BinaryIO) -> str | None:
    """A patch may be replaced."""
    return None if _first(file, len(PATCH_MAGIC)) in (PATCH_MAGIC, SEALED_MAGIC) else "a file that is no patch"


def block_list(file: BinaryIO) -> str | None:
    """A block list may be replaced."""
    return None if _first(file, len(BLOCKS_MAGIC)) in (BLOCKS_MAGIC, SEALED_MAGIC) else "a file that is no block list"


def bytes_to_sign(file: BinaryIO) -> str | None:
    """What was written to be signed elsewhere may be replaced."""
    return None if _first(file, len(_TO_SIGN)) == _TO_SIGN else "a file that holds no bytes to be signed"


def approval_to_sign(file: BinaryIO) -> str | None:
    """What was written of an approval to be signed elsewhere may be replaced."""
    return None if _first(file, len(_PAE)) == _PAE else "a file that holds no approval to be signed"


def sbom(file: BinaryIO) -> str | None:
    """A bill of materials may be replaced."""
    head = _first(file, _SBOM_LOOK)
    return None if head.startswith(b"{") and b"CycloneDX" in head else "a file that is no bill of materials"


def envelope(file: BinaryIO) -> str | None:
    """A signed statement of the same kind may be replaced: it is made anew from what it is about."""
    return None if _first(file, len(_ENVELOPE)) == _ENVELOPE else "a file that holds no signed statement"


def page(file: BinaryIO) -> str | None:
    """A page may be replaced."""
    return None if _first(file, len(_PAGE)).lower() == _PAGE else "a file that is no page"


def table_of_reports(file: BinaryIO) -> str | None:
    """A table of reports may be replaced, with whichever columns."""
    return None if _first(file, len(_TABLE)) == _TABLE else "a file that is no table of reports"


def _first(file: BinaryIO, length: int) -> bytes:
    file.seek(0)
    data = file.read(length)
    file.seek(0, os.SEEK_SET)
    return data
