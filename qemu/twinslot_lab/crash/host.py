"""A device on loop devices of this machine, where a board would take minutes.

Its own are the client with its workers, signed images, `fw_setenv` and SQLite; this machine's are ext4 and the block
layer. The boot model stands in for U-Boot, verbs for the units that run them, and which slot runs is said, not found by
the root mount.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from twinslot.bootloader.select import open_bootloader
from twinslot.bootloader.uboot.rawenv import encode
from twinslot.config import options as config
from twinslot.config.options import Config
from twinslot.core.errors import TwinslotError
from twinslot.core.model import CheckResult, Floors, SlotName
from twinslot.core.progress import Observer
from twinslot.core.slotset import slots_from
from twinslot.core.stream import ImageHead
from twinslot.core.transaction import Transaction
from twinslot.engine import assemble
from twinslot.engine.edges import Device, Verified
from twinslot.payloads.partition.handler import PartitionPlace
from twinslot.storage.blockdev import open_target
from twinslot.storage.known_lists import ListStore
from twinslot.storage.lock import UpdateLock
from twinslot.storage.record.record import Record
from twinslot.worker import launch
from twinslot_image.factory.environment import RawEnvironment
from twinslot_image.factory.layout import ROOT_PAYLOAD
from twinslot_lab.crash import bootmodel
from twinslot_lab.crash.bootmodel import Card
from twinslot_lab.crash.judge import MAGIC, SUPERBLOCK
from twinslot_lab.crash.loops import loop, mounted
from twinslot_lab.crash.units import Clock, lab_host, run_units, run_verb
from twinslot_lab.description import BoardDescription
from twinslot_lab.errors import LabError
from twinslot_lab.release import Image, ReleaseTeam

_CHECK: Final = "10-pump-motor"
_STARTS: Final = 6  # more than an update takes to come to its end


@dataclass(frozen=True, slots=True)
class Devices:
    """Block devices of a device: of each slot by payload, of the data partition, and the environment's card."""

    slots: Mapping[SlotName, Mapping[str, Path]]
    data: Path
    card: Path


@contextmanager
def devices_of(board: BoardDescription, drives: Mapping[str, Path]) -> Iterator[Devices]:
    """Loop devices on both drives, one for each partition."""
    with ExitStack() as stack:
        slots = {
            slot: {
                payload: stack.enter_context(loop(drives["disk"], *place))
                for payload, place in board.disk.payloads(slot).items()
            }
            for slot in SlotName
        }
        data = stack.enter_context(loop(drives["disk"], *board.disk.partitions()["data"]))
        yield Devices(slots, data, stack.enter_context(loop(drives["card"])))


class HostDevice:
    """One device, switched off at first; a context that unmounts its data partition in the end.

    Args:
        team: Whose images it takes.
        devices: What it stands on.
        folder: Takes what else it has: configuration, lock, the place of /var.
        factory: The release in slot a.
    """

    def __init__(self, team: ReleaseTeam, devices: Devices, folder: Path, factory: Image) -> None:
        self._devices, self._folder, self._places = devices, folder, team.board.environment.places
        self._held = {SlotName.A: factory}
        self._up = ExitStack()
        self._running, self._starts = SlotName.A, 0
        self.no_trial = self.wants_reboot = False
        self._config = self._configured(team)
        self._host = lab_host(self._config, self._edges, Clock())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._up.close()

    def start(self) -> SlotName:
        """Power-on, or a clean restart, until the units have run and nothing asks for a reboot; the slot that runs.

        Raises:
            LabError: Nothing starts, a unit failed, or it never comes to rest.
        """
        for _ in range(_STARTS):
            self._up.close()
            self._boot()
            self._up.enter_context(mounted(self._devices.data, self._folder / "var"))
            run_units(self._host, self)
            if not self.wants_reboot:
                return self._running
        raise LabError("the device never comes to rest")

    def install(self, image: Image) -> None:
        """`twinslot install`, up to the reboot.

        Raises:
            LabError: It was refused or failed.
        """
        run_verb(self._host, "--no-service", "install", "--no-reboot", str(image.path))
        self._held[slots_from(self._running).target()] = image

    def newest(self) -> Transaction:
        """The last update, as the record tells it."""
        with self._open_record() as record:
            return record.history(1)[0]

    def _boot(self) -> None:
        """U-Boot and its script, by their model; what it saved goes to the card in the order in which it did."""
        card = RawEnvironment(self._devices.card, self._places)
        before = Card.of(*card.copies())
        started = bootmodel.power_on(before, self._loads)
        if started.slot is None:
            raise LabError("no slot can be started")
        for index in (1 - started.card.now, started.card.now):
            copy = started.card.copies[index]
            if copy != before.copies[index]:
                card.write_copy(index, encode(copy.variables, card.size, copy.flags))
                _flush(self._devices.card)
        self._running, self._starts = SlotName(started.slot), self._starts + 1
        self.no_trial = self.wants_reboot = False

    def _loads(self, slot: str) -> bool:
        with self._devices.slots[SlotName(slot)][ROOT_PAYLOAD].open("rb") as partition:
            partition.seek(SUPERBLOCK)
            return partition.read(len(MAGIC)) == MAGIC

    def _configured(self, team: ReleaseTeam) -> Config:
        copies = [f"{self._devices.card} {place.offset:#x} {place.size:#x}\n" for place in self._places]
        (self._folder / "fw_env.config").write_text("".join(copies))
        return Config(
            device=config.DeviceConfig(compatible=(team.compatible,)),
            slots=config.SlotsConfig(a=self._devices.slots[SlotName.A], b=self._devices.slots[SlotName.B]),
            trust=config.TrustConfig(root=team.keys / "1.root.json", roles=team.roles),
            boot=config.BootConfig(fw_env_config=self._folder / "fw_env.config"),
            record=config.RecordConfig(directory=self._folder / "var" / "lib" / "twinslot"),
        )

    def _edges(self) -> Device:
        """The client's own, but for what the running root file system and systemd would say or do."""
        slots = self._config.slots
        return Device(
            running=self._running,
            boot_id=f"{self._starts:032x}",
            bootloader=open_bootloader(self._config.boot),
            open_record=lambda on_trial: self._open_record(on_trial=on_trial),
            places={slot: {name: _place(path) for name, path in slots.of(slot).items()} for slot in SlotName},
            verify=self._verify,
            run_checks=self._checks,
            may_check=True,
            reboot=self._reboot,
            lock=self._lock,
            compatible=self._config.device.compatible,
            check_names=frozenset({_CHECK}),
            group_size_max=self._config.install.max_group_size,
            reinstall=False,
            monotonic=time.monotonic,
            now=lambda: datetime.now(UTC),
            lists=ListStore(self._config.record.directory / "lists"),
            tell_no_trial=self._note_no_trial,
            root_payload=ROOT_PAYLOAD,
        )

    def _open_record(self, *, on_trial: bool = False) -> Record:
        stamp = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        return Record(self._config.record.directory, lambda: stamp, f"{self._starts:032x}", on_trial=on_trial)

    def _verify(self, head: ImageHead, record: Record, floors: Floors, *, ignore_expiry: bool, **_: object) -> Verified:
        def dropped(_: int, why: TwinslotError) -> None:
            raise why  # no update here keeps a root

        asked = (self._config, head, record, floors, launch.start)
        verdict = assemble.verify_head(*asked, ignore_expiry=ignore_expiry, dropped=dropped)
        return Verified(verdict.root_version, {}, {"trust": verdict.summary()})

    def _checks(self, _: Observer) -> tuple[CheckResult, ...]:
        well = self._held[self._running].release.motor == "ready"
        return (CheckResult(_CHECK, required=True, passed=well),)

    @contextmanager
    def _lock(self, what: str) -> Iterator[None]:
        with UpdateLock(what, self._folder / "lock"):
            yield

    def _note_no_trial(self, no_trial: bool) -> None:
        self.no_trial = no_trial

    def _reboot(self) -> None:
        self.wants_reboot = True


def _place(path: Path) -> PartitionPlace:
    return PartitionPlace(path, lambda device: open_target(device, ()))


def _flush(device: Path) -> None:
    """U-Boot writes past any cache."""
    descriptor = os.open(device, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
