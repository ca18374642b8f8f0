"""Small root file systems for tests: ELF headers made by hand, units, and a real ext4 or erofs around them."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

UNITS = ("twinslot-check.service", "twinslot-commit.service", "twinslot-deadline.service")
# e_machine, bits, e_flags (System V ABI; IHI 0044; RISC-V psABI)
ABIS = {
    "arm64": (183, 64, 0),
    "amd64": (62, 64, 0),
    "x32": (62, 32, 0),
    "armhf": (40, 32, 0x05000400),
    "armel": (40, 32, 0x05000200),
    "arm-any-float": (40, 32, 0x05000000),
    "arm-oabi": (40, 32, 0x02000000),
    "i386": (3, 32, 0),
    "riscv64": (243, 64, 0x5),
    "riscv64-soft": (243, 64, 0x1),
    "bpf": (247, 64, 0),
}
EXECUTABLE, SHARED, RELOCATABLE = 2, 3, 1  # e_type


def elf_header(abi: str, kind: int = SHARED, *, big: bool = False) -> bytes:
    """A whole, empty ELF file."""
    machine, bits, flags = ABIS[abi]
    order = ">" if big else "<"
    ident = b"\x7fELF" + bytes([2 if bits == 64 else 1, 2 if big else 1, 1]) + bytes(9)
    word, size = ("Q", 64) if bits == 64 else ("I", 52)
    rest = struct.pack(f"{order}HHI{word}{word}{word}IHHHHHH", kind, machine, 1, 0, 0, 0, flags, size, 0, 0, 0, 0, 0)
    return ident + rest


def make_tree(tree: Path, abi: str = "arm64", *, exist_ok: bool = False) -> Path:
    """A tree that passes: two programs, a script, firmware, and the units enabled."""
    for directory in ("etc/systemd/system", "usr/bin", "usr/lib/firmware", "usr/lib/systemd/system", "usr/lib/arch"):
        (tree / directory).mkdir(parents=True, exist_ok=exist_ok)
    (tree / "usr/bin/init").write_bytes(elf_header(abi, EXECUTABLE))
    (tree / "usr/lib/arch/libc.so.6").write_bytes(elf_header(abi))
    (tree / "usr/lib/firmware/dsp.elf").write_bytes(elf_header("i386"))
    (tree / "usr/bin/script").write_text("#!/bin/sh\n")
    (tree / "usr/bin/link").symlink_to("/bin/true")
    for unit in UNITS:
        (tree / "usr/lib/systemd/system" / unit).write_text("[Unit]\n")
        wants = tree / "etc/systemd/system/boot-complete.target.wants"
        wants.mkdir(exist_ok=True)
        (wants / unit).symlink_to(f"/usr/lib/systemd/system/{unit}")
    return tree


def make_ext4(tree: Path, image: Path, size: str = "2M") -> Path:
    """An ext4 image of the tree; the same tree gives the same bytes."""
    options = ["-q", "-t", "ext4", "-E", "hash_seed=00000000-0000-4000-8000-000000000000,lazy_itable_init=0"]
    identity = ["-U", "00000000-0000-4000-8000-000000000001", "-O", "^has_journal"]
    subprocess.run(["mke2fs", *options, *identity, "-d", tree, image, size], check=True, stdout=subprocess.DEVNULL)
    return image


def make_erofs(tree: Path, image: Path) -> Path:
    """An erofs image of the tree."""
    subprocess.run(["mkfs.erofs", image, tree], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return image
