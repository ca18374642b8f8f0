"""The machine that the deadline script sees: a real environment behind the real fw_setenv, and ways to be reset."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

import waits
from fakes import rigs
from fakes.rigs import OFFSETS, REPOSITORY, SIZE, UBootRig
from twinslot.bootloader.uboot import rawenv

SCRIPT = REPOSITORY / "systemd/deadline"
TOOLS = (
    *("sh", "timeout", "flock", "sleep", "mkdir", "sync", "fw_printenv", "fw_setenv"),
    *("id", "mktemp", "mv", "rm", "stat"),
)
GIVE_UP = waits.HANG  # seconds until a test gives up
BEFORE = rigs.DEFAULT | {
    "slot_b": "bad",
    "upgrade_available": "0",
    "bootcount": "0",
    "ts_generation": "6",
    "ts_sequence": "41",
}
ARMED = {
    "slot": "b",
    "slot_b": "trial",
    "upgrade_available": "1",
    "bootcount": "1",
    "ts_release": "42",
    "ts_release_epoch": "3",
    "ts_txn": "0123456789abcdef0123456789abcdef",
    "ts_generation": "7",
}
COMMITTED = {"slot_b": "good", "upgrade_available": "0", "bootcount": "0", "ts_release": "", "ts_generation": "8"}
ENDED = {
    "slot": "a",
    "slot_b": "bad",
    "upgrade_available": "1",
    "bootcount": "0",
    "ts_failed": "42",
    "ts_reason": "deadline",
    "ts_generation": "8",
}


class Bench:
    """A machine that runs slot b, as far as the script sees it: an environment, a PATH, and ways to be reset."""

    def __init__(self, directory: Path) -> None:
        self.bin, self.lock, self.sysrq = directory / "bin", directory / "run/lock", directory / "sysrq"
        self.calls, self.cmdline, self.log = directory / "calls", directory / "cmdline", directory / "log"
        self.bin.mkdir()
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found, f"'{tool}' is needed"
            (self.bin / tool).symlink_to(found)
        self.program("systemctl", f'echo "$*" >>{self.calls}')
        assert shutil.which("python3", path=str(self.bin)) is None
        self.calls.touch()
        self.sysrq.touch()
        self.boot_line("quiet twinslot.slot=b panic=1")
        self.rig = UBootRig(directory, make_environment(directory))
        self.settings = {
            "PATH": str(self.bin),
            "TWINSLOT_DEADLINE": "0",
            "TWINSLOT_LOCK": str(self.lock),
            "TWINSLOT_LOCK_WAIT": "10",
            "TWINSLOT_STEP": "120",
            "TWINSLOT_GRACE": "1",
            "TWINSLOT_FW_ENV_CONFIG": str(self.rig.config),
            "TWINSLOT_CMDLINE": str(self.cmdline),
            "TWINSLOT_SYSRQ": str(self.sysrq),
            "TWINSLOT_TOOL_LOCKS": str(directory / "run/tools"),
        }
        self.shell: tuple[str, ...] = ()  # what runs the script; else its first line says it
        self.process: subprocess.Popen[bytes] | None = None

    def boot_line(self, text: str) -> None:
        self.cmdline.write_text(text + "\n")

    def program(self, name: str, body: str | None) -> None:
        """Replace a program of the machine; None: take it away."""
        (self.bin / name).unlink(missing_ok=True)
        if body is not None:
            (self.bin / name).write_text(f"#!/bin/sh\n{body}\n")
            (self.bin / name).chmod(0o755)

    def set(self, changes: dict[str, str]) -> None:
        """What U-Boot or the client writes; one write, so only one copy changes."""
        script = "".join(f"{name}={value}\n" for name, value in changes.items())
        argv = ["fw_setenv", "-c", str(self.rig.config), "-f", "/dev/null/none", "-s", "-"]
        subprocess.run(argv, input=script.encode(), check=True)

    def start(self, *arguments: str, **settings: str) -> None:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*self.shell, SCRIPT, *arguments],
                env=self.settings | settings,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def run(self, *arguments: str, **settings: str) -> int | None:
        """Exit status, or None when the machine was reset; then the script is stopped as a reset would stop it."""
        self.start(*arguments, **settings)
        return self.ended()

    def ended(self) -> int | None:
        assert self.process is not None
        waits.until(lambda: self.process is not None and (self.process.poll() is not None or bool(self.asked())))
        status = self.process.poll()
        self.switch_off()
        return status

    def switch_off(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def asked(self) -> list[str]:
        """What systemd was asked for."""
        return self.calls.read_text().splitlines()

    def said(self) -> str:
        return self.log.read_text()

    def copies(self) -> list[dict[str, str]]:
        decoded = [rawenv.decode(raw) for raw in self.rig.raw()]
        return [dict(copy.variables) if copy else {} for copy in decoded]


def make_environment(directory: Path) -> Path:
    """Both copies as the factory writes them, with U-Boot's own tool."""
    text, image, device = directory / "text", directory / "image", directory / "medium"
    text.write_text("".join(f"{name}={value}\n" for name, value in BEFORE.items()))
    subprocess.run(["mkenvimage", "-r", "-s", str(SIZE), "-o", image, text], check=True)
    medium = bytearray(b"\xff" * (OFFSETS[1] + SIZE))
    for offset in OFFSETS:
        medium[offset : offset + SIZE] = image.read_bytes()
    device.write_bytes(medium)
    return device
