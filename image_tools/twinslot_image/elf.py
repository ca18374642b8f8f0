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
