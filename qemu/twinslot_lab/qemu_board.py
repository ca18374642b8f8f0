"""A board inside QEMU, with its own copies of disk and card."""

from __future__ import annotations

import functools
import shlex
import signal
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

from twinslot_image.factory.environment import RawEnvironment
from twinslot_lab.agent import Agent, AgentLink
from twinslot_lab.build import BoardFiles
from twinslot_lab.console import Console
from twinslot_lab.console_link import ConsoleLink
from twinslot_lab.deadline import Deadline
from twinslot_lab.drives import drive_arguments, drive_options, own_copies
from twinslot_lab.errors import BoardError
from twinslot_lab.guest import GuestBoard
from twinslot_lab.harness_reset import HarnessReset
from twinslot_lab.qmp import Monitor
from twinslot_lab.thaw import Thaw, write

HOST = "10.0.2.2"  # the test host's loopback, seen from the guest (QEMU user networking)
MAC = "52:54:00:12:34:56"
PORT = "org.twinslot.lab"
_GONE = 180  # seconds until a killed QEMU is gone: the host's kernel ends its last write first, and disks may stall
_LOAD = 60  # seconds for QEMU to read a migration stream


class QemuBoard(GuestBoard):
    """One emulated board; implements `Board`. Use it as a context manager: leaving cuts the power.

    Args:
        files: What it is built from; copied.
        folder: Its disks, console log and QEMU's messages. Made if needed; kept.
        extra: More QEMU arguments.
        drives: Options for the drives `disk` and `card` instead of raw copies in the folder.
        stop_on_reset: QEMU ends when the guest resets or switches off, for tests of single starts.
    """

    def __init__(
        self,
        files: BoardFiles,
        folder: Path,
        *,
        extra: tuple[str, ...] = (),
        drives: Mapping[str, str] | None = None,
        stop_on_reset: bool = False,
    ) -> None:
        super().__init__(files.board.quirks.timeout_factor)
        folder.mkdir(parents=True, exist_ok=True)
        self.files = files
        self.folder = folder
        self.log = folder / "console.log"
        self.disk, card = own_copies(files, folder)
        self.card = RawEnvironment(card, files.board.environment.places)
        self._drives = drive_options(self.disk, card, drives or {})
        self._extra = (*extra, *(("-no-reboot",) if stop_on_reset else ()))
        self._process: subprocess.Popen[bytes] | None = None
        self._monitor: Monitor | None = None
        self._agent: AgentLink | None = None
        self._resetter: HarnessReset | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()

    # --- power

    def power_on(self, thaw: Thaw | None = None) -> None:
        """Start QEMU, connect everything, then let the processors run, so that nothing is missed.

        Args:
            thaw: Go on from a frozen moment (snapshot.py) instead of the firmware.
        """
        if self._process is not None:
            raise BoardError("the board is on already")
        listener = socket.create_server(("127.0.0.1", 0))
        monitor, monitor_end = socket.socketpair()
        agent, agent_end = socket.socketpair()
        test, test_end = socket.socketpair()
        argv = self._command(*(end.fileno() for end in (listener, monitor_end, agent_end)))
        if thaw is not None:
            argv += ["-incoming", f"exec:zstd -q -d < {shlex.quote(str(thaw.memory))}", "-qtest", "chardev:qtest"]
            argv += ["-chardev", f"socket,id=qtest,fd={test_end.fileno()}", "-qtest-log", "/dev/null"]
        address = listener.getsockname()
        self._spawn(argv, listener, monitor_end, agent_end, test_end)
        try:
            self._monitor = Monitor(monitor)
            log = self.log if self._speaks_on_console else None
            self._console = Console(f"socket://127.0.0.1:{address[1]}", log=log)
        except (BoardError, OSError) as e:
            monitor.close()
            agent.close()
            test.close()
            self._fail_start(e)
        self._agent = self._link(agent)
        if self.files.board.quirks.reset == "harness":
            self._resetter = HarnessReset(self.console, functools.partial(self.monitor.execute, "system_reset"))
        self._watch_from = 0
        with test:
            if thaw is not None:
                self.wait_migrated(Deadline(_LOAD, "QEMU loads its memory"))
                write(test, thaw.registers)
        self.monitor.execute("cont")

    def _spawn(self, argv: list[str], *ends: socket.socket) -> None:
        """Start QEMU with its ends of the connections, which are closed here."""
        with (self.folder / "qemu.log").open("ab") as log:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[end.fileno() for end in ends],
            )
        for end in ends:
            end.close()

    @property
    def _speaks_on_console(self) -> bool:
        """The agent has no port of its own; what it says is then no part of the console's log."""
        return self.files.board.console.agent == "console"

    def _link(self, agent: socket.socket) -> AgentLink:
        """To the agent: over its own port, or over the console if the machine has none."""
        if not self._speaks_on_console:
            return Agent(agent, self._check_alive)
        agent.close()
        return ConsoleLink(self.console, self._check_alive)

    def wait_migrated(self, deadline: Deadline) -> None:
        """Wait until memory was saved or loaded (QMP `query-migrate`); an error if that failed."""

        def done() -> bool:
            self._check_alive()
            found = self.monitor.execute("query-migrate")
            status = found.get("status", "none") if isinstance(found, dict) else "none"
            if status in ("failed", "cancelled"):
                raise BoardError(f"QEMU's memory could not be saved or loaded: {found}")
            return status == "completed"

        deadline.poll(done, every=0.02)

    def _fail_start(self, cause: Exception) -> None:
        self.cut()
        said = (self.folder / "qemu.log").read_text(errors="replace")[-1000:]
        raise BoardError(f"QEMU did not start: {said.strip() or cause}") from cause

    def _command(self, console: int, monitor: int, agent: int) -> list[str]:
        """QEMU's command line; the numbers are descriptors that it inherits."""
        board = self.files.board
        m = board.machine
        watchdog = ["-device", m.watchdog, "-action", "watchdog=reset"] if m.watchdog else []
        firmware = ["-bios", str(self.files.firmware)] if board.firmware.place == "bios" else []
        log = "" if self._speaks_on_console else f",logfile={self.log},logappend=on"
        port = ["-device", "virtio-serial-pci", "-chardev", f"socket,id=agent,fd={agent}"]
        port += ["-device", f"virtserialport,chardev=agent,name={PORT}"]
        return [
            *(m.emulator, "-M", m.machine, "-cpu", m.cpu, "-smp", str(m.cpus), "-m", str(m.memory_mib)),
            *("-accel", m.accel, "-nodefaults", "-display", "none", "-S"),
            *firmware,
            *("-chardev", f"socket,id=console,fd={console},server=on,wait=off{log}"),
            *("-serial", "chardev:console"),
            *("-chardev", f"socket,id=qmp,fd={monitor}", "-mon", "chardev=qmp,mode=control"),
            *drive_arguments(board, self._drives),
            *("-nic", f"user,model={m.network},mac={MAC}" if m.network else f"user,mac={MAC}"),
            *([] if self._speaks_on_console else port),
            *(word for device in m.devices for word in ("-device", device)),
            *watchdog,
            *m.arguments,
            *self._extra,
        ]

    def cut(self) -> None:
        """Kill QEMU in this instant. Raw files keep all that the guest was told is written.

        Raises:
            BoardError: It is still not gone, so it may still write.
        """
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            try:
                self._process.wait(_GONE)
            except subprocess.TimeoutExpired as e:
                raise BoardError(f"QEMU was killed, and after {_GONE} s it is not gone") from e
        self._release()

    def _release(self) -> None:
        for part in (self._resetter, self._agent, self._console, self._monitor):
            if part is not None:
                with suppress(BoardError):
                    part.close()
        self._process = self._monitor = self._agent = self._resetter = None

    def wait_off(self, seconds: float = 60) -> None:
        """Wait until QEMU ends by itself (the guest switched off, or reset with `stop_on_reset`)."""
        if self._process is not None:
            deadline = Deadline(seconds, "the board switches off")
            try:
                self._process.wait(deadline.left)
            except subprocess.TimeoutExpired as e:
                raise deadline.failure(self.console.tail()) from e
        self._release()

    def reset(self) -> None:
        """Press the reset button."""
        self._watch_from = self.console.mark
        self.monitor.execute("system_reset")

    # --- what it says

    @property
    def monitor(self) -> Monitor:
        """QEMU's monitor: commands and events such as RESET and WATCHDOG."""
        if self._monitor is None:
            raise BoardError("the board is off")
        return self._monitor

    @property
    def agent(self) -> AgentLink:
        """The agent in the guest."""
        if self._agent is None:
            raise BoardError("the board is off")
        return self._agent

    def _gone(self) -> str:
        if self._process is not None and self._process.poll() is None:
            return ""
        said = (self.folder / "qemu.log").read_text(errors="replace")[-1000:]
        return f"QEMU ended: {said.strip() or 'without a word'}"
