"""Which architecture and ABI an executable is for. The only importer of elftools."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO, Final

ELF_MAGIC: Final = b"\x7fELF"  # System V ABI, chapter 4, e_ident
# ELF for the Arm Architecture (IHI 0044), section 4.1.2: EF_ARM_EABIMASK and the two float ABIs.
_ARM_EABI_MASK, _ARM_EABI5 = 0xFF000000, 0x05000000
_ARM_SOFT, _ARM_HARD = 0x200, 0x400
# RISC-V ELF psABI, section "File Header": EF_RISCV_FLOAT_ABI.
_RISCV_FLOAT_MASK, _RISCV_DOUBLE = 0x6, 0x4


@dataclass(frozen=True, slots=True)
class Abi:
    """What an ELF file says of itself; `runs`: a program or a library, not an object or a kernel module."""

    machine: str
    bits: int
    little: bool
    flags: int
    runs: bool


_TABLE = {
    "amd64": ("EM_X86_64", 64),
    "arm64": ("EM_AARCH64", 64),
    "armel": ("EM_ARM", 32),
    "armhf": ("EM_ARM", 32),
    "i386": ("EM_386", 32),
    "riscv64": ("EM_RISCV", 64),
}
ARCHITECTURES = tuple(_TABLE)  # Debian's names


def read_abi(file: BinaryIO) -> Abi | str:
    """What the header of an ELF file says; a sentence when it is damaged."""
    from elftools.common.exceptions import ELFError  # here: who only signs or verifies does without
    from elftools.elf.elffile import ELFFile

    try:
        file.seek(0)
        elf = ELFFile(file)
        header = elf.header
        runs = header["e_type"] in ("ET_EXEC", "ET_DYN")
        return Abi(str(header["e_machine"]), elf.elfclass, elf.little_endian, header["e_flags"], runs)
    except (ELFError, ValueError, KeyError, OSError) as e:
        return f"damaged ELF file ({' '.join(str(e).split())[:80] or type(e).__name__})"


def find_mismatch(abi: Abi, architecture: str) -> str | None:
    """Why a program, library or kernel module cannot run on the architecture; None when it can.

    Args:
        abi: Of the file.
        architecture: One of `ARCHITECTURES`.
    """
    machine, bits = _TABLE[architecture]
    if (abi.machine, abi.bits, abi.little) != (machine, bits, True):
        return f"{abi.machine}, {abi.bits} bit, {'little' if abi.little else 'big'} endian"
    return _find_flag_mismatch(abi, architecture) if abi.runs else None


def _find_flag_mismatch(abi: Abi, architecture: str) -> str | None:
    if abi.machine == "EM_ARM":
        if abi.flags & _ARM_EABI_MASK != _ARM_EABI5:
            return "EM_ARM without EABI5"
        # A library that passes no float has neither flag and serves both.
        wrong, name = (_ARM_SOFT, "soft float") if architecture == "armhf" else (_ARM_HARD, "hard float")
        return f"EM_ARM, {name}" if abi.flags & wrong else None
    if abi.machine == "EM_RISCV" and abi.flags & _RISCV_FLOAT_MASK != _RISCV_DOUBLE:
        return "EM_RISCV without double-float ABI"
    return None


@dataclass(frozen=True, slots=True)
class Section:
    """A section that is in memory when the program runs, and in the file.

    Attributes:
        kind: `data`, `rela`, `rel`, `symbols`, `index` of exceptions, or `pointers` for one that holds nothing else.
        executable: Whether it may be run.
        writable: Whether it may be written.
        address: In the program.
        offset: Of its first byte in the file.
        size: Bytes in the file.
    """

    kind: str
    executable: bool
    writable: bool
    address: int
    offset: int
    size: int

    @property
    def end(self) -> int:
        """Behind its last byte in the file."""
        return self.offset + self.size


@dataclass(frozen=True, slots=True)
class Layout:
    """What an ELF file says of where things are in it: nothing of it need be true.

    Attributes:
        machine: As elftools says, such as `EM_AARCH64`.
        bits: 32 or 64.
        sections: In the order of the file; none is empty or ends behind the file.
        frame_header: Offset and size of the sorted table of functions (PT_GNU_EH_FRAME); zeros without one.
    """

    machine: str
    bits: int
    sections: tuple[Section, ...]
    frame_header: tuple[int, int]


# System V ABI, chapter 4, "Section Types" and "Section Attribute Flags".
_KINDS: Final = {
    "SHT_PROGBITS": "data",
    "SHT_X86_64_UNWIND": "data",
    "SHT_ARM_EXIDX": "index",
    "SHT_RELA": "rela",
    "SHT_REL": "rel",
    "SHT_DYNSYM": "symbols",
    "SHT_INIT_ARRAY": "pointers",
    "SHT_FINI_ARRAY": "pointers",
    "SHT_PREINIT_ARRAY": "pointers",
    "SHT_DYNAMIC": "pointers",
    "SHT_RELR": "pointers",
}
_WRITE, _ALLOC, _EXECINSTR = 1, 2, 4
HEADERS_MAX: Final = 512  # sections or segments of a program; objects with more are none


def read_layout(file: BinaryIO) -> Layout | None:
    """Where the sections of a program or library are; None if it is none, or is damaged.

    Names are not looked at. Offsets beyond the end, and numbers as large as they may be, are passed over.
    """
    from elftools.common.exceptions import ELFError  # here: who only signs or verifies does without
    from elftools.common.utils import struct_parse
    from elftools.elf.elffile import ELFFile

    try:
        size = file.seek(0, 2)
        file.seek(0)
        elf = ELFFile(file)
        header, structs = elf.header, elf.structs
        if header["e_type"] not in ("ET_EXEC", "ET_DYN") or not elf.little_endian:
            return None
        if header["e_shnum"] > HEADERS_MAX or header["e_phnum"] > HEADERS_MAX:
            return None
        found = [
            struct_parse(structs.Elf_Shdr, file, header["e_shoff"] + i * header["e_shentsize"])
            for i in range(header["e_shnum"])
        ]
        segments = [
            struct_parse(structs.Elf_Phdr, file, header["e_phoff"] + i * header["e_phentsize"])
            for i in range(header["e_phnum"])
        ]
    except (ELFError, ValueError, KeyError, OSError, OverflowError, AttributeError, TypeError):
        return None
    frames = [(s["p_offset"], s["p_filesz"]) for s in segments if s["p_type"] == "PT_GNU_EH_FRAME"]
    sections = tuple(
        Section(
            _KINDS[one["sh_type"]],
            bool(one["sh_flags"] & _EXECINSTR),
            bool(one["sh_flags"] & _WRITE),
            one["sh_addr"],
            one["sh_offset"],
            one["sh_size"],
        )
        for one in found
        if one["sh_type"] in _KINDS
        and one["sh_flags"] & _ALLOC
        and 0 < one["sh_size"] <= size - one["sh_offset"]
        and one["sh_addr"] < 1 << 62
    )
    return Layout(str(header["e_machine"]), elf.elfclass, sections, frames[0] if frames else (0, 0))
