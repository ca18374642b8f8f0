"""Slots with only what the boot script looks for: a kernel that says its name and switches off."""

from __future__ import annotations

from pathlib import Path

from twinslot_image.factory.slot_image import make_slot_image
from twinslot_lab.command import run

# An arm64 kernel image (Linux Documentation/arch/arm64/booting.rst) that writes to the first serial port of QEMU's virt
# machine (PL011 at 0x09000000) and calls PSCI SYSTEM_OFF (0x84000008, Arm DEN0022).
PAYLOAD = """
    b start
    .long 0
    .quad 0, 0x10000, 0, 0, 0, 0
    .ascii "ARM\\x64"
    .long 0
start:
    adr x1, text
    movz x2, #0x0900, lsl #16
next:
    ldrb w3, [x1], #1
    cbz w3, off
    str w3, [x2]
    b next
off:
    movz x0, #0x8400, lsl #16
    movk x0, #0x0008
    hvc #0
stay:
    b stay
text:
    .asciz "\\r\\npayload {name}\\r\\n"
"""


def make_payload(name: str, out: Path, folder: Path) -> Path:
    """Assemble the payload that says `name`."""
    source, obj = folder / "payload.S", folder / "payload.o"
    source.write_text(PAYLOAD.replace("{name}", name))
    run("aarch64-linux-gnu-as", "-o", obj, source)
    run("aarch64-linux-gnu-objcopy", "-O", "binary", obj, out)
    return out


def make_slot(name: str, folder: Path, *, kernel: bool = True, initrd: bool = True) -> Path:
    """A slot image with only what the boot script looks for."""
    boot = folder / "tree" / "boot"
    boot.mkdir(parents=True)
    if kernel:
        make_payload(name, boot / "vmlinuz", folder)
    if initrd:
        (boot / "initrd").write_bytes(b"070701" + bytes(506))
    return make_slot_image(folder / "tree", folder / "slot.img")
