"""A running board, frozen: memory and drives as files, from which any number of boards go on in about a second.

The memory is QEMU's migration stream (QEMU docs/devel/migration.rst), packed by zstd: 120 MB of 320. The drives stay
raw files (drives.py), so that cutting the power of a board that was thawed means what it means for any other.
What the guest cannot notice: it stood still. Its clock is set when it goes on.
"""

from __future__ import annotations

import functools
import json
import shlex
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from twinslot_lab import agent, qemu_board, thaw
from twinslot_lab.agent import Hello
from twinslot_lab.build import BoardFiles
from twinslot_lab.cache import cached, fingerprint
from twinslot_lab.command import run
from twinslot_lab.deadline import Deadline
from twinslot_lab.description import BoardDescription
from twinslot_lab.errors import BoardError
from twinslot_lab.qemu_board import QemuBoard
from twinslot_lab.thaw import Register, Thaw, forgotten

_FORMAT = 2  # of the folder; part of the cache's key
_NO_LIMIT = (1 << 63) - 1  # bytes a second; QEMU's own limit for a migration is 128 MiB/s
_SAVE = 600  # seconds
_PACK = 120  # seconds from QEMU's last byte until the packed file is whole
_KEPT = 6 * 3600  # seconds that a version stays in the cache unused; each takes some 200 MB
# QEMU 7.2 saves of a sdhci-pci everything but its PCI configuration (hw/sd/sdhci-pci.c names no VMSTATE_PCI_DEVICE), so
# the card would answer with ones. Linux knows the address: back with it into BAR 0, then memory and bus master on.
_MEND_CARD = r"""
byte() { printf "\\$(printf %03o $(($1 & 255)))"; }
for device in /sys/bus/pci/devices/*; do
    [ "$(cat $device/class)" = 0x080501 ] || continue
    read -r start _ < $device/resource
    { byte $start; byte $((start >> 8)); byte $((start >> 16)); byte $((start >> 24)); } |
        dd of=$device/config bs=4 seek=4 conv=notrunc iflag=fullblock status=none
    { byte 6; byte 0; } | dd of=$device/config bs=2 seek=2 conv=notrunc iflag=fullblock status=none
done
"""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One frozen moment of a board. The folder may be moved; never change its files.

    Attributes:
        board: Its description.
        folder: `memory`, `disk.img`, `card.img`, the firmware, the slot image of slot a, `console.log` of the start so
            far, `snapshot.json`.
        hello: What the guest's agent said in this start; None if it had not spoken yet.
        registers: What QEMU's stream leaves out (thaw.py).
    """

    board: BoardDescription
    folder: Path
    hello: Hello | None
    registers: tuple[Register, ...] = ()

    @property
    def files(self) -> BoardFiles:
        """The drives as they stand, to start a board from that has lost its power in this moment."""
        return BoardFiles(self.board, self.folder)

    @property
    def memory(self) -> Path:
        """The migration stream, packed."""
        return self.folder / "memory"

    @classmethod
    def take(cls, board: QemuBoard, folder: Path, *, answering: bool = True) -> Snapshot:
        """Freeze a board that is on. It stands still meanwhile, and goes on afterwards.

        Args:
            board: No question to its guest may be under way.
            folder: Made if needed; what it holds is replaced.
            answering: The agent of this start has spoken. False in the middle of a boot.

        Raises:
            BoardError: QEMU could not save it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        monitor = board.monitor
        monitor.execute("stop")
        monitor.execute("migrate-set-parameters", **{"max-bandwidth": _NO_LIMIT})
        memory, new = folder / "memory", folder / "memory.new"
        memory.unlink(missing_ok=True)
        packed = f"zstd -q -1 > {shlex.quote(str(new))} && mv {shlex.quote(str(new))} {shlex.quote(str(memory))}"
        monitor.execute("migrate", uri=f"exec:{packed}")
        board.wait_migrated(Deadline(_SAVE, "QEMU saves its memory"))
        Deadline(_PACK, "what QEMU saved is packed").poll(memory.exists, every=0.02)
        hello = board.agent.hello if answering else None
        registers = forgotten(monitor)
        _keep(board, folder, hello, registers)
        monitor.execute("cont")
        return cls(board.files.board, folder, hello, registers)

    @classmethod
    def take_off(cls, board: QemuBoard, folder: Path) -> Snapshot:
        """The drives of a board that is off, without memory: what starts from here is switched on."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory").unlink(missing_ok=True)
        _keep(board, folder, None, ())
        return cls(board.files.board, folder, None)

    @classmethod
    def load(cls, board: BoardDescription, folder: Path) -> Snapshot:
        """A snapshot that was taken before."""
        said = json.loads((folder / "snapshot.json").read_text())
        registers = tuple((address, value) for address, value in said["registers"])
        return cls(board, folder, Hello(**said["hello"]) if said["hello"] else None, registers)

    def start(
        self,
        folder: Path,
        *,
        extra: tuple[str, ...] = (),
        drives: Mapping[str, str] | None = None,
        set_clock: bool = True,
    ) -> QemuBoard:
        """A board that goes on from here, with drives of its own; the guest answers if it did then.

        Args:
            folder: As for `QemuBoard`; must not hold drives of another board.
            extra: More QEMU arguments; devices must be those of the board that was frozen.
            drives: As for `QemuBoard`.
            set_clock: Tell the guest the time of now.

        Raises:
            BoardError: It does not go on.
        """
        board = QemuBoard(self.files, folder, extra=extra, drives=drives)
        try:
            board.power_on(Thaw(self.memory, self.registers) if self.memory.exists() else None)
            if self.hello is not None:
                board.agent.resume(self.hello)
                board.check("sh", "-c", _MEND_CARD)
                if set_clock:
                    board.check("date", "-s", f"@{time.time():.2f}")
        except BaseException:
            board.cut()
            raise
        return board


def _keep(board: QemuBoard, folder: Path, hello: Hello | None, registers: tuple[Register, ...]) -> None:
    for drive in {board.disk, board.card.path}:  # every byte that the guest wrote is in these files: they are raw
        run("cp", "--sparse=always", "--reflink=auto", drive, folder / drive.name)
    for file in (board.files.firmware, board.files.slot):
        if file.exists():
            run("cp", "--link", "--force", "--dereference", file, folder / file.name)
    if board.log.exists():
        run("cp", board.log, folder / "console.log")
    said = asdict(hello) if hello is not None else None
    (folder / "snapshot.json").write_text(json.dumps({"hello": said, "registers": registers}) + "\n")


def booted(files: BoardFiles, place: Path | None = None) -> Snapshot:
    """A snapshot of the board started from these files, up; from the cache, or made (the time of one start).

    Args:
        files: What it is started from.
        place: Where that start leaves its console log and, if it fails, its disks; without it, nowhere.
    """

    def make(work: Path) -> None:
        with ExitStack() as stack:
            folder = place or Path(
                stack.enter_context(tempfile.TemporaryDirectory(dir=work.parent, prefix=".snapshot-"))
            )
            board = stack.enter_context(QemuBoard(files, folder))
            board.power_on()
            board.wait_up()
            Snapshot.take(board, work)
            board.cut()
            board.disk.unlink()

    folder = cached(f"snapshot-{files.board.name}", key(files), make, keep=_KEPT)
    return Snapshot.load(files.board, folder)


def key(files: BoardFiles) -> str:
    """What a snapshot depends on, for the cache: the board's files, its machine, QEMU, and the code of the lab."""
    machine = asdict(files.board.machine)
    code = [Path(module) for module in (__file__, qemu_board.__file__, agent.__file__, thaw.__file__)]
    return fingerprint(_FORMAT, str(files.folder), machine, emulator_version(machine["emulator"]), *code)


@functools.cache
def emulator_version(emulator: str) -> str:
    """The first line of `--version`; another version may not read the stream."""
    said = run(emulator, "--version")
    if not said:
        raise BoardError(f"'{emulator}' does not tell its version")
    return said.splitlines()[0]
