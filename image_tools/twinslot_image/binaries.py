"""What a file in a root file system is, and whether it can run there. What is not looked into is counted, too."""

from __future__ import annotations

import io
import re
import struct
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import BinaryIO, Final

from twinslot_image.elf import ELF_MAGIC, find_mismatch, read_abi
from twinslot_image.packed import is_packed, unpack_head

_MODULES: Final = re.compile(r"(?:usr/)?lib/modules/")
_PACKED_MODULE: Final = re.compile(r"\.ko\.(?:gz|xz|zst|bz2|lzma|lz4|lz|lzo|Z)$")  # the first three are what kmod takes
_ARCHIVE: Final = b"!<arch>\n"  # ar(5)
_PE_AT: Final = 0x3C  # Microsoft PE format: where the header stands
_EFI: Final = range(10, 14)  # subsystems of the PE format: program, two kinds of driver, ROM
# PE machine numbers; 64 bit x86 machines with 32 bit firmware start 32 bit programs.
_PE_MACHINES: Final = {
    "amd64": {0x8664, 0x14C},
    "arm64": {0xAA64},
    "armel": {0x1C0, 0x1C2, 0x1C4},
    "armhf": {0x1C0, 0x1C2, 0x1C4},
    "i386": {0x14C},
    "riscv64": {0x5064},
}
# Offset, magic, architectures (Linux, Documentation/arch/: x86/boot, arm64/booting, riscv/boot-image-header).
_KERNELS: Final = (
    (0x202, b"HdrS", {"amd64", "i386"}),
    (0x38, b"ARMd", {"arm64"}),
    (0x38, b"RSC\x05", {"riscv64"}),
    (0x24, b"\x18\x28\x6f\x01", {"armel", "armhf"}),
)


class FileKind(StrEnum):
    """What a file is; the first four are checked, the others are not looked into."""

    PROGRAM = "programs"
    MODULE = "modules"
    PACKED_MODULE = "packed_modules"
    BOOT = "boot_programs"
    SCRIPT = "scripts"
    OBJECT = "objects"
    ARCHIVE = "archives"
    RAM_DISK = "ram_disks"
    OTHER_PE = "other_pe"
    FIRMWARE = "firmware"
    FOREIGN = "foreign"
    DATA = "data"


@dataclass(frozen=True, slots=True)
class Looked:
    """How many files of each kind a check met."""

    counts: Counter[FileKind] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, object]:
        """JSON-ready: what was checked, what was not looked into."""
        groups = (("checked", _CHECKED), ("not_looked_at", _LEFT_OUT))
        return {name: {str(kind): self.counts[kind] for kind, _ in kinds} for name, kinds in groups}

    def lines(self) -> list[str]:
        """For people: two lines, the second only when something was left out."""
        checked = ", ".join(_count(self.counts[kind], words) for kind, words in _CHECKED)
        left = [_count(self.counts[kind], words) for kind, words in _LEFT_OUT if self.counts[kind]]
        return [f"checked: {checked}", *([f"not looked at: {', '.join(left)}"] if left else [])]


_CHECKED: Final = (
    (FileKind.PROGRAM, ("program or library", "programs and libraries")),
    (FileKind.MODULE, ("kernel module", "kernel modules")),
    (FileKind.PACKED_MODULE, ("packed kernel module", "packed kernel modules")),
    (FileKind.BOOT, ("kernel or EFI program", "kernels and EFI programs")),
)
_LEFT_OUT: Final = (
    (FileKind.SCRIPT, ("script", "scripts")),
    (FileKind.OBJECT, ("object file", "object files")),
    (FileKind.ARCHIVE, ("static library", "static libraries")),
    (FileKind.RAM_DISK, ("initial RAM disk", "initial RAM disks")),
    (FileKind.OTHER_PE, ("Windows program", "Windows programs")),
    (FileKind.FIRMWARE, ("firmware file", "firmware files")),
    (FileKind.FOREIGN, ("file named in 'foreign'", "files named in 'foreign'")),
    (FileKind.DATA, ("other file", "other files")),
)


def _count(number: int, words: tuple[str, str]) -> str:
    return f"{number} {words[number != 1]}"


def examine(path: str, file: BinaryIO, architecture: str) -> tuple[FileKind, str | None]:
    """What a file is, and why it cannot run on the architecture; None when it can, or does not run.

    Args:
        path: From the root, without a leading slash.
        file: Its content; seekable.
        architecture: Debian's name.
    """
    name, head = path.rpartition("/")[2], file.read(0x400)
    if head.startswith(ELF_MAGIC):
        return _elf(name.endswith(".ko"), file, architecture)
    if _PACKED_MODULE.search(name):
        return FileKind.PACKED_MODULE, _packed_module(head, file, architecture)
    if name.endswith(".ko") and _MODULES.match(path):
        return FileKind.MODULE, "no kernel module"
    if found := _boot(path, head, file, architecture):
        return found
    if path.startswith("boot/init"):
        return FileKind.RAM_DISK, None
    if head.startswith(_ARCHIVE):
        return FileKind.ARCHIVE, None
    return (FileKind.SCRIPT if head.startswith(b"#!") else FileKind.DATA), None


def _elf(module: bool, file: BinaryIO, architecture: str) -> tuple[FileKind, str | None]:
    abi = read_abi(file)
    if isinstance(abi, str):
        return (FileKind.MODULE if module else FileKind.PROGRAM), abi
    if not abi.runs and not module:
        return FileKind.OBJECT, None
    return (FileKind.MODULE if module else FileKind.PROGRAM), find_mismatch(abi, architecture)


def _packed_module(head: bytes, file: BinaryIO, architecture: str) -> str | None:
    if not is_packed(head):
        return "neither a kernel module nor one packed by gzip, xz or zstd"
    try:
        plain = unpack_head(file)
    except ValueError as e:
        return str(e)
    if not plain.startswith(ELF_MAGIC):
        return "packed, but no kernel module"
    abi = read_abi(io.BytesIO(_without_sections(plain)))
    return abi if isinstance(abi, str) else find_mismatch(abi, architecture)


def _without_sections(head: bytes) -> bytes:
    """The table of sections stands at the end of the file, which is not unpacked: e_shoff becomes 0."""
    at, length = (40, 8) if head[4:5] == b"\2" else (32, 4)
    return head[:at] + bytes(length) + head[at + length :]


def _boot(path: str, head: bytes, file: BinaryIO, architecture: str) -> tuple[FileKind, str | None] | None:
    """EFI programs anywhere; kernels in `boot`, packed ones too."""
    if path.startswith("boot/") and is_packed(head):
        try:
            head = unpack_head(file)
        except ValueError:
            return None
        file = io.BytesIO(head)
    return _pe(head, file, architecture) or _kernel(path, head, architecture)


def _pe(head: bytes, file: BinaryIO, architecture: str) -> tuple[FileKind, str | None] | None:
    if not head.startswith(b"MZ") or len(head) < _PE_AT + 4:
        return None
    file.seek(struct.unpack_from("<I", head, _PE_AT)[0])
    header = file.read(24 + 70)
    if header[:4] != b"PE\0\0" or len(header) < 24 + 70:
        return None
    machine, subsystem = struct.unpack_from("<H", header, 4)[0], struct.unpack_from("<H", header, 24 + 68)[0]
    if subsystem not in _EFI:
        return FileKind.OTHER_PE, None
    fits = machine in _PE_MACHINES[architecture]
    return FileKind.BOOT, None if fits else f"EFI program for machine {machine:#x}"


def _kernel(path: str, head: bytes, architecture: str) -> tuple[FileKind, str | None] | None:
    if not path.startswith("boot/"):
        return None
    for at, magic, architectures in _KERNELS:
        if head[at : at + len(magic)] == magic:
            fits = architecture in architectures
            return FileKind.BOOT, None if fits else f"kernel for {' or '.join(sorted(architectures))}"
    return None
