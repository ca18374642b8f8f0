"""The device's power: a start through the model of U-Boot, commands in its name spaces, and every way to lose it."""

from __future__ import annotations

import enum
import fcntl
import os
import signal
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from twinslot.bootloader.uboot.rawenv import encode
from twinslot_lab.crash.bootmodel import Card, power_on
from twinslot_lab.errors import BoardError, GuestError
from twinslot_lab.try_device.media import Loops, Media

START: Final = Path(__file__).with_name("start.sh")
DATA: Final = "var/lib/twinslot"  # where the data partition is mounted
# include/uapi/linux/fs.h and fs/ext4/ext4.h: _IOR('X', 125, __u32), and "no flush, not even of the journal".
EXT4_IOC_SHUTDOWN: Final = 0x8004587D
NOLOGFLUSH: Final = 2
HANG_SECONDS: Final = 120.0  # seconds for the device to end; only a hang reaches it
PATH: Final = "/opt/device/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class End(enum.IntEnum):
    """How the device ended; the exit statuses of tree/opt/device/init."""

    OFF = 0
    RESTART = 3
    CUT = 9


class LocalDevice:
    """One device. Powered off at first; `close` takes everything away, whatever state it is in.

    Args:
        media: Its media; their files are ours while it has power.
        venv: Where the client's libraries are.
        settings: Further variables for every command.
    """

    def __init__(self, media: Media, venv: Path, settings: Mapping[str, str] | None = None) -> None:
        self.media, self._venv = media, venv
        self._settings = dict(settings or {})
        self._loops: Loops | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._first = 0  # the device's first process, by our number
        self._data = -1  # holds the data partition's file system until it is known how the power went
        self.slot = ""

    def power_on(self) -> str:
        """Start what the boot environment says; returns the slot.

        Raises:
            BoardError: No slot starts, or what was started does not come up.
        """
        if self._process is not None:
            raise BoardError("the device has power already")
        self.slot = self._boot_loader()
        self._loops = loops = Loops(self.media)
        top = self.media.folder / "top"
        top.mkdir(exist_ok=True)
        devices = [str(loops[name]) for name in ("slot_a", "slot_b", "data", "card")]
        spaces = ["unshare", "--mount", "--pid", "--uts", "--fork", "--kill-child=KILL"]
        # A shell cannot set a trap for a signal that was ignored when it began, as in the background or behind nohup.
        argv = [
            "env",
            "--default-signal=INT,HUP",
            "setpriv",
            "--pdeathsig",
            "KILL",
            *spaces,
            "--",
            str(START),
            self.slot,
            str(top),
            *devices,
        ]
        self._process = subprocess.Popen(
            [*argv, str(self._venv)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a key on our terminal is none of its
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"up\n":
            _, said = self._process.communicate()
            self._let_go()
            raise BoardError(f"slot {self.slot} does not come up", said.decode(errors="replace"))
        number = self._process.pid
        self._first = int(Path(f"/proc/{number}/task/{number}/children").read_text())
        self._data = os.open(f"/proc/{self._first}/root/{DATA}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self.slot

    def argv(self, *words: str) -> list[str]:
        """The command line that runs a command in the device."""
        inside = ["nsenter", "--target", str(self._first), "--mount", "--pid", "--uts", "--"]
        settings = {"PATH": PATH, "HOME": "/root", "LC_ALL": "C.UTF-8", **self._settings}
        return [*inside, "env", "-i", *(f"{name}={value}" for name, value in settings.items()), *words]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the device to its end."""
        return subprocess.run(
            self.argv(*words),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )

    def check(self, *words: str) -> str:
        """Run a command that must succeed; returns what it wrote.

        Raises:
            GuestError: It did not.
        """
        done = self.run(*words)
        if done.returncode != 0:
            said = done.stderr.strip() or done.stdout.strip()
            raise GuestError(f"'{' '.join(words)}' ended with status {done.returncode}: {said}")
        return done.stdout

    def wait_end(self) -> End:
        """Wait until the device has ended by itself, and put its media to rest.

        Raises:
            BoardError: It goes on, or ended in a way that it does not have.
        """
        assert self._process is not None
        try:
            status = self._process.wait(HANG_SECONDS)
        except subprocess.TimeoutExpired:
            raise BoardError("the device was told to end, and goes on") from None
        if status == End.CUT:
            self._drop_unwritten()
        self._let_go()
        try:
            return End(status)
        except ValueError:
            raise BoardError(f"the device ended with status {status}") from None

    def ends(self, within: float) -> bool:
        """Whether the device is ending by itself, in so many seconds at the most."""
        assert self._process is not None
        try:
            self._process.wait(within)
        except subprocess.TimeoutExpired:
            return False
        return True

    def off(self) -> None:
        """Power off in order."""
        os.kill(self._first, signal.SIGINT)
        self.wait_end()

    def cut(self) -> None:
        """The power goes: no process gets another instruction, and what the data partition had not written is lost.

        What was written to a slot or to the card is on them: the client writes both past the page cache or waits for
        them, and a file system on this machine keeps what a loop device gave it.
        """
        os.kill(self._first, signal.SIGKILL)
        assert self._process is not None
        self._process.wait(HANG_SECONDS)
        self._drop_unwritten()
        self._let_go()

    def close(self) -> None:
        """Take everything away. May be called at any time, and twice."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()  # the first process of the device goes with it
            self._process.wait(HANG_SECONDS)
        self._let_go()

    def _boot_loader(self) -> str:
        """What U-Boot and its script do: count, choose, and write the environment (docs/boot-contract.md)."""
        card = self.media.card
        before = Card.of(*card.copies())
        start = power_on(before, self._loads)
        for index, (old, new) in enumerate(zip(before.copies, start.card.copies, strict=True)):
            if old != new:
                card.write_copy(index, encode(new.variables, card.size, new.flags))
        if start.slot is None:
            raise BoardError("the boot loader finds no slot to start")
        return start.slot

    def _loads(self, slot: str) -> bool:
        """Whether its superblock is there, without which U-Boot reads no file: ext4's magic (fs/ext4/ext4.h)."""
        with self.media.file(f"slot_{slot}").open("rb") as file:
            file.seek(1024 + 56)
            return file.read(2) == b"\x53\xef"

    def _drop_unwritten(self) -> None:
        """Shut the file system down as xfstests do where power is to go: nothing is written any more."""
        fcntl.ioctl(self._data, EXT4_IOC_SHUTDOWN, struct.pack("=I", NOLOGFLUSH))

    def _let_go(self) -> None:
        if self._data >= 0:
            os.close(self._data)
        if self._process is not None:
            for pipe in (self._process.stdout, self._process.stderr):
                if pipe is not None:
                    pipe.close()
        if self._loops is not None:
            self._loops.close()
        self._data, self._process, self._loops, self._first = -1, None, None, 0
