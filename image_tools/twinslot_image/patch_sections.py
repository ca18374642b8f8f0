"""Finds the parts of ELF files that hold references, where they lie in a payload. Names count for nothing.

Files are found by the file system, since one need not lie in one run: mke2fs(8) leaves out blocks of zeros. In a
payload that is no file system that is known here, a page that begins as an ELF file does is taken for one that lies in
one run. What is wrong here costs bytes of a patch and nothing else, so what cannot be read is passed over.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from twinslot.core.errors import ImageError, RefusedError
from twinslot_image.elf import ELF_MAGIC, Layout, Section, read_layout
from twinslot_image.fs_tree import Extent, FileSystemImage, Node, Tree, open_node
from twinslot_image.patch_pages import PAGE, ByteSource, FileBytes, read_blocks, touches
from twinslot_image.rootfs import open_tree

ARM64, ARM, THUMB, X86, RELATIVE, INDEX = 0, 1, 2, 3, 4, 5  # kinds of areas, docs/patch-format.md section 6.2
POINTERS64, RELA64, SYMBOLS64 = 6, 7, 8
POINTERS32, REL32, SYMBOLS32 = 9, 10, 11
_LOOSE_MAX = 1 << 30  # bytes of a file that is found without a file system
_VOTERS = 256  # words that are taken for instructions of one set
_BLOCK = 4 * 1024 * 1024  # bytes read at once; a multiple of a page, and of what `_VOTERS` take
_FRAME_GAP = 64  # bytes at most between `.eh_frame_hdr` and `.eh_frame`, for alignment


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """A part of an ELF section that lies in one run in the payload.

    Attributes:
        start: Its first byte in the payload.
        end: Behind its last.
        kind: Of the references in it, as in the patch format.
        bias: What is added to a place (of code), or to the content of a word (of tables), to get an address that no
            other file of the payload has: that in the file, plus where the file begins in the payload.
        origin: Where its section would begin in the payload, if all of it lay in this run; entries count from there.
    """

    start: int
    end: int
    kind: int
    bias: int
    origin: int


def find_parts(path: Path, pages: npt.NDArray[np.bool_]) -> list[Part]:
    """The parts of ELF files that lie in one of these pages at least; sorted, none overlapping.

    Args:
        path: Of the payload.
        pages: For each whole page of it, whether it counts.
    """
    found, end = list[Part](), 0
    if not pages.any():
        return found
    with path.open("rb") as file, FileBytes(path) as whole:
        image = FileSystemImage(file, str(path))
        for node in _files(image, path, pages):
            with open_node(image, node) as content:
                layout = read_layout(content)
            if layout is not None:
                parts = _parts(layout, [span for span in node.spans if span.at is not None])
                found += _split(whole, (part for part in parts if touches(pages, part.start, part.end)))
    found.sort()
    kept = list[Part]()
    for part in found:
        if part.start >= end and part.end <= len(pages) * PAGE:
            kept.append(part)
            end = part.end
    return kept


def _files(image: FileSystemImage, path: Path, pages: npt.NDArray[np.bool_]) -> Iterator[Node]:
    begins = _magic_pages(path)
    try:
        tree = open_tree(image)
        for node in _regular(tree):
            spans = [span for span in node.spans if span.at is not None]
            if spans and spans[0].start == 0 and spans[0].at in begins and any(_touched(span, pages) for span in spans):
                yield node
    except (ImageError, RefusedError):
        for at in sorted(begins):
            size = min(image.size - at, _LOOSE_MAX)
            if pages[at // PAGE]:
                yield Node(0, stat.S_IFREG, size, (Extent(0, size, at),))


def _magic_pages(path: Path) -> set[int]:
    magic, found = np.frombuffer(ELF_MAGIC, np.uint8), set[int]()
    for at, data in read_blocks(path, 0, path.stat().st_size // PAGE * PAGE, _BLOCK):
        hits = (data.reshape(-1, PAGE)[:, : len(magic)] == magic).all(1)
        found.update((at + np.flatnonzero(hits) * PAGE).tolist())
    return found


def _regular(tree: Tree) -> Iterator[Node]:
    seen = set[int]()
    for found in tree.walk():
        if stat.S_ISREG(found.node.mode) and found.node.number not in seen:
            seen.add(found.node.number)
            yield found.node


def _touched(span: Extent, pages: npt.NDArray[np.bool_]) -> bool:
    assert span.at is not None
    return touches(pages, span.at, span.at + span.length)


def _parts(layout: Layout, spans: list[Extent]) -> Iterator[Part]:
    base = spans[0].at
    assert base is not None
    for section in layout.sections:
        kind = _kind(layout, section)
        if kind is None:
            continue
        for span in spans:
            first, last = max(section.offset, span.start), min(section.end, span.start + span.length)
            if first >= last or span.at is None:
                continue
            start = span.at + first - span.start
            skipped = first - section.offset
            bias = base
            if kind <= INDEX:
                bias += section.address + skipped - start
            elif section.offset == layout.frame_header[0]:
                bias += section.address
            yield Part(start, start + last - first, kind, bias, start - skipped)


def _split(content: ByteSource, parts: Iterator[Part]) -> Iterator[Part]:
    """Code for EM_ARM by its two sets of instructions: most words of A32 begin with the condition "always"."""
    for part in parts:
        if part.kind != THUMB:
            yield part
            continue
        first = part.start + -part.start % 4
        last = max(part.end - part.end % 4, first)
        votes = np.concatenate(list(_votes(content, first, last))) if last > first else np.zeros(1)
        kinds = np.where(votes > _VOTERS * 2 // 5, ARM, THUMB)
        cuts = [0, *(np.flatnonzero(np.diff(kinds)) + 1).tolist(), len(kinds)]
        for begin, end in pairwise(cuts):
            start = part.start if begin == 0 else first + 4 * _VOTERS * begin
            stop = part.end if end == len(kinds) else first + 4 * _VOTERS * end
            yield Part(start, stop, int(kinds[begin]), part.bias, part.origin)


def _votes(content: ByteSource, first: int, last: int) -> Iterator[npt.NDArray[np.int64]]:
    for at in range(first, last, _BLOCK):
        always = content[at : min(at + _BLOCK, last)][3::4] >> 4 == 14
        yield np.add.reduceat(always, np.arange(0, len(always), _VOTERS), dtype=np.int64)


def _kind(layout: Layout, section: Section) -> int | None:
    wide = layout.bits == 64
    begin, size = layout.frame_header
    if section.kind == "data" and section.executable:
        return {"EM_AARCH64": ARM64, "EM_ARM": THUMB, "EM_X86_64": X86}.get(layout.machine)
    if section.kind == "data" and size and section.offset == begin:
        return POINTERS32
    if section.kind == "data" and size and 0 <= section.offset - (begin + size) < _FRAME_GAP:
        return RELATIVE
    if section.kind == "index":
        return INDEX
    if section.kind == "data" and not section.writable:
        # Tables of jumps, which count from their own beginning: nearly from themselves. What unwinding needs.
        return {"EM_X86_64": RELATIVE, "EM_ARM": INDEX}.get(layout.machine)
    if section.kind in ("pointers", "data"):
        return (POINTERS64 if wide else POINTERS32) if section.kind == "pointers" or section.writable else None
    return {"rela": RELA64 if wide else None, "rel": None if wide else REL32}.get(
        section.kind, SYMBOLS64 if wide else SYMBOLS32
    )
