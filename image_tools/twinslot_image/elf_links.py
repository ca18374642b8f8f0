"""What an ELF file says of the libraries that it needs, and by which id its build is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

SEGMENTS_MAX: Final = 512  # of a program; those of a distribution have up to 14
DYNAMIC_MAX: Final = 1024 * 1024  # bytes of PT_DYNAMIC; a program that needs a thousand libraries has 16 KiB
NOTES_MAX: Final = 64 * 1024  # bytes of PT_NOTE; a build id has 36
_NAME_MAX: Final = 4096  # bytes of a name, PATH_MAX


@dataclass(frozen=True, slots=True)
class Links:
    """Of a program or library.

    Attributes:
        abi: What its libraries must agree with: machine, bits, byte order.
        soname: Its own name as a library; empty.
        needed: Names of libraries, in their order (DT_NEEDED).
        interpreter: The program that loads it, a path (PT_INTERP); empty.
        build_id: In hex (NT_GNU_BUILD_ID); empty.
    """

    abi: tuple[str, int, bool]
    soname: str
    needed: tuple[str, ...]
    interpreter: str
    build_id: str


def read_links(file: BinaryIO) -> Links | None:
    """What an ELF file links to; None if it is no program or library, or is damaged.

    Args:
        file: Seekable.
    """
    from elftools.common.exceptions import ELFError  # here: who only signs or verifies does without
    from elftools.elf.elffile import ELFFile

    try:
        file.seek(0)
        elf = ELFFile(file)
        if elf.header["e_type"] not in ("ET_EXEC", "ET_DYN") or elf.header["e_phnum"] > SEGMENTS_MAX:
            return None
        segments = list(elf.iter_segments())
        soname, needed = _dynamic(segments)
        abi = (str(elf.header["e_machine"]), elf.elfclass, elf.little_endian)
        return Links(abi, soname, needed, _interpreter(segments), _build_id(segments))
    except (ELFError, ValueError, KeyError, OSError, OverflowError, AttributeError, TypeError, IndexError, MemoryError):
        return None


def _dynamic(segments: Sequence[Any]) -> tuple[str, tuple[str, ...]]:
    soname, needed = "", []
    for segment in segments:
        header = segment.header
        if header["p_type"] != "PT_DYNAMIC" or header["p_filesz"] > DYNAMIC_MAX:
            continue
        for tag in segment.iter_tags():
            if tag.entry.d_tag == "DT_NEEDED":
                needed.append(_text(tag.needed))
            elif tag.entry.d_tag == "DT_SONAME":
                soname = _text(tag.soname)
    return soname, tuple(dict.fromkeys(needed))


def _interpreter(segments: Sequence[Any]) -> str:
    for segment in segments:
        header = segment.header
        if header["p_type"] == "PT_INTERP" and header["p_filesz"] <= _NAME_MAX:
            return _text(segment.get_interp_name())
    return ""


def _build_id(segments: Sequence[Any]) -> str:
    for segment in segments:
        header = segment.header
        if header["p_type"] == "PT_NOTE" and header["p_filesz"] <= NOTES_MAX:
            for note in segment.iter_notes():
                if note["n_type"] == "NT_GNU_BUILD_ID":
                    return str(note["n_desc"])
    return ""


def _text(value: object) -> str:
    text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
    return text[:_NAME_MAX]
