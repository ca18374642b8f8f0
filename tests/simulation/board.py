"""The board: two slots on a caching disk, an environment card, a data partition, and a life of its own."""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from simulation import rawcopy
from simulation.bootloader import SimulatedBootloader, power_on
from simulation.disk import SimulatedCard, SimulatedDisk
from simulation.faults import Faults, Shortages
from simulation.image import GROUP, SmallImage, SmallStream
from simulation.power import Power, PowerCut
from simulation.updater import board_host
from twinslot.bootloader.base import Bootloader
from twinslot.cli.main import main
from twinslot.cli.trial import UNDECIDED
from twinslot.config.policy import ConsentConfig
from twinslot.config.watch import WatchConfig
from twinslot.core.backoff import Moment
from twinslot.core.errors import DeviceError, Refusal, RefusedError
from twinslot.core.inhibitors import WORDS, Inhibitor
from twinslot.core.inhibitors import obstacles as in_use
from twinslot.core.model import SECTOR, CheckResult, Floors, Release, SlotName, SlotRecord, StoredPayload
from twinslot.core.policy import Obstacle, Question
from twinslot.core.progress import Observer
from twinslot.core.requests import InstallOptions
from twinslot.core.stream import ImageHead
from twinslot.core.transaction import Transaction
from twinslot.engine.edges import Device, RememberedWait, Verified
from twinslot.engine.engine import Engine
from twinslot.payloads.base import PayloadPlace
from twinslot.payloads.partition.handler import PartitionPlace
from twinslot.policy.consent import LocalConsent
from twinslot.policy.passed import PassedFile
from twinslot.policy.watch import LocalWatch
from twinslot.storage.known_lists import ListStore
from twinslot.storage.record.record import Record
from twinslot.storage.slot_reader import SlotReader, open_reader
from twinslot.trust.kept_roots import write_chain
from twinslot_lab.crash.bootmodel import DEFAULT

SLOT_SIZE = 8 * GROUP  # bytes; larger than the images, so that there is a tail
CARD_SIZE = 0x6000


class SimulatedRecord(Record):
    """The real record, on a power supply. SQLite's own promise is taken as given: a commit happened or did not."""

    power: Power
    faults: Faults

    def _execute(self, query: str, parameters: tuple[object, ...] = ()) -> sqlite3.Cursor:
        self.faults.meet("read" if query.startswith("SELECT") else "write")
        return super()._execute(query, parameters)

    def _commit(self) -> None:
        if self.power.call("record"):
            if self.power.random.random() < 0.5:
                super()._commit()
            raise PowerCut("record")
        super()._commit()


class SimulatedLists(ListStore):
    """The real lists, on a power supply: a file was renamed, or it was not."""

    power: Power

    def _write(self, path: Path, data: bytes) -> None:
        if self.power.call(f"list {path.name}"):
            if self.power.random.random() < 0.5:
                super()._write(path, data)
            raise PowerCut("list")
        super()._write(path, data)


def _path(slot: SlotName, payload: str) -> str:
    return f"slot_{slot}" if payload == "rootfs" else f"slot_{slot}_{payload}"


class ToldTrial:
    """What a product hears of a trial, in a list."""

    def __init__(self, told: list[str]) -> None:
        self._told = told

    def begins(self, transaction: Transaction) -> None:
        self._told.append(transaction.release.name)

    def is_none(self) -> None:
        self._told.append("none")

    def committed(self) -> None:
        self._told.append("committed")


@dataclass(frozen=True, slots=True)
class BoardWatch(LocalWatch):
    """The real one, with a signal that fails when the board says so."""

    fails: bool = False

    def signals(self) -> tuple[CheckResult, ...]:
        return (CheckResult("pump", required=True, passed=not self.fails),)


class SimulatedBoard:
    """A device that boots, counts, tears and forgets.

    Args:
        directory: Holds the data partition's files.
        factory: The release in slot a.
        releases: Every release that may ever run here, to name contents by digest.
    """

    def __init__(self, directory: Path, factory: SmallImage, *releases: SmallImage) -> None:
        self.data = directory / "data"
        self.data.mkdir()
        self._run = directory / "run"
        self._run.mkdir()
        self.partitions = {
            slot: {name: SimulatedDisk(_path(slot, name), SLOT_SIZE) for name in factory.contents} for slot in SlotName
        }
        self.disks = {slot: disks["rootfs"] for slot, disks in self.partitions.items()}  # U-Boot loads from these
        self.card = SimulatedCard(CARD_SIZE)
        self.releases = {image.content.ljust(SLOT_SIZE, b"\0"): image for image in (factory, *releases)}
        self.running: SlotName | None = None
        self.starts = 0
        self.last: SmallStream | None = None  # of the last download
        self.wants_reboot = False
        self.no_trial = False  # a file in /run
        self.fails_every_check = False
        self.may_check = True
        self.restarts = False  # `install.reboot`: whether it restarts itself into a trial unless told otherwise
        self.running_notes: tuple[str, ...] = ()  # what the kernel's command line says of the running slot
        self.record_broken = False
        self.inhibitors: tuple[Inhibitor, ...] = ()  # who uses it
        self.obstacles: tuple[Obstacle, ...] = ()  # what else stands against every step
        self.questions: list[Question] = []  # that policy was asked
        self.waits = RememberedWait()  # a file in /run
        self.told_trial: list[str] = []  # what the product heard of trials
        self.watching = WatchConfig()
        self.signals_fail = False
        self.consent = LocalConsent(ConsentConfig(), self.data, self.moment)
        self.faults = Faults()
        self.shortages = Shortages()
        self.gave_up = False  # twinslot-giveup.service was started
        self._seconds = 0.0
        self._record: SimulatedRecord | None = None
        self.set_power(Power())
        self._leave_factory(factory)

    def twin(self, directory: Path) -> SimulatedBoard:
        """A board in the same state, its data partition in this directory: what led here is not lived again."""
        shutil.copytree(self.data, directory / "data")
        record, self._record = self._record, None  # closed by now; each call opens its own
        twin = deepcopy(self, {id(self.releases): self.releases})
        self._record, twin.data = record, directory / "data"
        return twin

    # The outside world

    def set_power(self, power: Power) -> None:
        """Plug into this supply."""
        self.power = self.card.power = power
        for disk in self._all_disks():
            disk.power = power

    def lose_power(self) -> None:
        """Everything volatile is gone; the board is off."""
        for disk in self._all_disks():
            disk.lose_power()
        if self._record is not None:
            self._record.close()  # SQLite rolls back what was not committed
            self._record = None
        self.running = None
        self.wants_reboot = False

    def start(self) -> SlotName | None:
        """Power-on or reboot: U-Boot, boot script, kernel. None: nothing may start.

        A slot loads if its first sector, where these images' superblock stands, has something in it.
        """
        self.wants_reboot = self.no_trial = self.gave_up = False
        self.waits.tell(None)
        self.running = None
        self.starts += 1
        slot = self.power_on(lambda name: any(self.disks[SlotName(name)].content()[:SECTOR]))
        self.running = SlotName(slot) if slot else None
        return self.running

    def power_on(self, loads: Callable[[str], bool]) -> str | None:
        """What the boot loader starts; None: nothing."""
        return power_on(self.card, loads)

    def bootloader(self) -> Bootloader:
        """The boot environment as the client reaches it."""
        return SimulatedBootloader(self.card, meet=self.shortages.meet)

    def system(self) -> SmallImage | None:
        """Which release runs, by the digest of the running slot; None when it is none that was ever signed."""
        assert self.running is not None
        return self.holds(self.running)

    def holds(self, slot: SlotName) -> SmallImage | None:
        """Which release a slot holds, byte for byte, every payload and its tail included."""
        found = self.releases.get(self.disks[slot].content())
        parts = self.partitions[slot].items()
        whole = found and all(disk.content() == found.contents[name].ljust(SLOT_SIZE, b"\0") for name, disk in parts)
        return found if whole else None

    # What the device does by itself

    def live(self) -> None:
        """From power-on until nothing more happens: the boot unit, the checks, the commit, and any reboot."""
        for _ in range(12):
            if self.start() is None:
                return
            self.run_units()
            if not self.wants_reboot:
                return
        raise AssertionError("the board never comes to rest")

    def run_units(self) -> None:
        """What systemd starts (systemd/twinslot-*.service), in this order; two of them not when nothing is on trial.

        With status 78 a unit counts as done, and the deadline decides.
        """
        self.verb("boot", undecided=True)
        if not self.no_trial:
            self.verb("check", "--if-trial", refused=True, undecided=True)
        if not self.no_trial and not self.wants_reboot and not self.gave_up:
            self.verb("commit", "--if-trial", refused=True, undecided=True)

    def verb(self, *words: str, refused: bool = False, undecided: bool = False) -> str:
        """`twinslot WORDS`, through the command line in this process; what it prints.

        Args:
            words: Verb and options.
            refused: A refusal is as good as success: the sick system is left.
            undecided: So is a fault of the device; any status but 78 starts what gives the trial up.
        """
        said, complained = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
            status = main([*words], board_host(self))
        self.gave_up = self.gave_up or (undecided and status not in (0, UNDECIDED))
        faulty = undecided and self.shortages.kind and status in (UNDECIDED, DeviceError.exit_status)
        good = status == 0 or (refused and status == RefusedError.exit_status) or faulty
        assert good, f"{words}: {complained.getvalue()}"
        return said.getvalue()

    def install(self, image: SmallImage, **options: Any) -> None:
        """Install and, as the device does, reboot into the trial."""
        self.engine().install(SmallStream(image), InstallOptions(**({"reboot": True} | options)))

    def engine(self) -> Engine:
        """The real engine on this board's edges."""
        return Engine(self.device())

    def device(self) -> Device:
        """This board's edges."""
        assert self.running is not None
        return Device(
            running=self.running,
            boot_id=f"{self.starts:032x}",
            bootloader=self.bootloader(),
            open_record=lambda on_trial: self.open_record(on_trial=on_trial),
            places={slot: self._places(slot) for slot in SlotName},
            verify=_trusting,
            run_checks=self._run_checks,
            may_check=self.may_check,
            reboot=self._reboot,
            lock=self._lock,
            compatible=("sim",),
            check_names=frozenset(),
            group_size_max=1 << 20,
            reinstall=False,
            restarts=self.restarts,
            monotonic=self.clock,
            now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
            lists=self._lists(),
            read_back_with=contextlib.nullcontext,  # cuts are counted in calls, so their order is fixed
            tell_no_trial=self._note_no_trial,
            running_notes=self.running_notes,
            root_payload="rootfs",
            obstacles=self._obstacles,
            waits=self.waits,
            consent=self.consent,
            trial=ToldTrial(self.told_trial),
            passed=PassedFile(self._run),
            watch=BoardWatch(
                self.watching, self.data, self.moment, self.data.parent / "watch", fails=self.signals_fail
            ),
        )

    def _obstacles(self, question: Question) -> tuple[Obstacle, ...]:
        self.questions.append(question)
        people = self.consent.obstacle(question.release, question.change) if question.gate in WORDS["restart"] else None
        return in_use(self.inhibitors, question.gate) + self.obstacles + ((people,) if people else ())

    def ask_people(self) -> None:
        """From now on an update waits until somebody approves it."""
        self.consent = LocalConsent(ConsentConfig(mode="required"), self.data, self.moment)

    def moment(self) -> Moment:
        """What time it is."""
        return Moment(self._seconds, f"{self.starts:032x}", self._seconds)

    @contextlib.contextmanager
    def _lock(self, what: str) -> Iterator[None]:
        self.shortages.meet("lock")
        yield

    def _note_no_trial(self, no_trial: bool) -> None:
        self.no_trial = no_trial

    def open_record(self, *, on_trial: bool = False) -> Record:
        """The record on the data partition."""
        if self.record_broken:
            raise DeviceError("the data partition is gone", code="record")
        SimulatedRecord.power, SimulatedRecord.faults = self.power, self.faults
        self.faults.meet("open")
        now, boot = (lambda: "2026-01-01T00:00:00Z"), f"{self.starts:032x}"
        self._record = SimulatedRecord(self.data, now, boot, on_trial=on_trial)
        return self._record

    def lose_environment(self, *copies: int) -> None:
        """Overwrite these copies with noise."""
        for copy in copies:
            place = rawcopy.PLACES[copy]
            self.card.data[place : place + rawcopy.SIZE] = self.power.random.randbytes(rawcopy.SIZE)

    def lose_data(self) -> None:
        """Format the data partition."""
        for path in self.data.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def environment(self) -> dict[str, str]:
        """The current copy's variables; empty when both are lost."""
        now = rawcopy.current(self.card)
        copy = None if now is None else rawcopy.copies(self.card)[now]
        return copy[1] if copy else {}

    # Plumbing

    def _leave_factory(self, factory: SmallImage) -> None:
        for name, content in factory.contents.items():
            self.partitions[SlotName.A][name].fill(content)
        variables = dict(DEFAULT) | {
            "upgrade_available": "0",
            "slot_b": "bad",
            "ts_generation": "1",
            "ts_sequence": str(factory.sequence),
            "ts_epoch": str(factory.epoch),
            "ts_root": "1",
        }
        for place in rawcopy.PLACES:
            self.card.data[place : place + rawcopy.SIZE] = rawcopy.pack(variables, 1)
        record = self.open_record()
        payloads = {
            name: StoredPayload(len(content), GROUP, hashlib.sha256(content).hexdigest())
            for name, content in factory.contents.items()
        }
        release = Release(factory.name, factory.sequence, factory.epoch)
        record.save_slot(SlotRecord(SlotName.A, release, payloads))
        record.raise_floors(Floors(factory.sequence, factory.epoch))
        record.close()

    def _places(self, slot: SlotName) -> dict[str, PayloadPlace]:
        return {name: self._place(slot, name) for name in self.partitions[slot]}

    def _place(self, slot: SlotName, payload: str) -> PayloadPlace:
        def open_device(_: Path) -> SimulatedDisk:
            disk = self.partitions[slot][payload]
            if slot is self.running or disk.opened:
                raise RefusedError(Refusal("target-running", f"slot '{slot}' runs or is open"))
            disk.opened = True
            return disk

        return PartitionPlace(Path(_path(slot, payload)), open_device, lambda _: self._reader(slot, payload))

    def _all_disks(self) -> list[SimulatedDisk]:
        return [disk for disks in self.partitions.values() for disk in disks.values()]

    def _lists(self) -> ListStore:
        SimulatedLists.power = self.power
        return SimulatedLists(self.data / "lists")

    def _reader(self, slot: SlotName, payload: str) -> SlotReader:
        """The running slot's bytes in a file of their own; a running slot does not change."""
        path = self.data.parent / f"running_{slot}_{payload}"
        path.write_bytes(self.partitions[slot][payload].content())
        return open_reader(path)

    def _run_checks(self, observer: Observer) -> tuple[CheckResult, ...]:
        self.shortages.meet("check")
        system = self.system()
        return (
            CheckResult(
                "system", required=True, passed=system is not None and system.well and not self.fails_every_check
            ),
        )

    def _reboot(self) -> None:
        self.wants_reboot = True

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self._seconds += seconds

    def clock(self) -> float:
        """Seconds since the beginning; each look takes a moment."""
        self._seconds += 0.01
        return self._seconds


def _trusting(
    head: ImageHead, record: Record, floors: Floors, *, ignore_expiry: bool, note: Callable[..., object]
) -> Verified:
    """Trust is tested elsewhere; here every image counts as signed, and brings two newer roots."""
    return Verified(1, write_chain([b"{}", b"{1}"]), {})


@contextlib.contextmanager
def power_may_go(board: SimulatedBoard) -> Iterator[None]:
    """Run until the power goes; afterwards the board is off and plugged in again."""
    try:
        yield
    except PowerCut:
        board.lose_power()
        board.set_power(Power())
