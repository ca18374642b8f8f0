"""A device on this host: slots are files, the environment is libubootenv's, workers are real processes.

Only the root mount is not real, so the running slot is said instead of found, and a reboot is noted instead of done.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from release_bench import ReleaseBench

import waits
from fakes.rigs import UBootRig
from twinslot.app.local import LocalUpdater
from twinslot.bootloader.uboot.backend import UBoot
from twinslot.config.options import Config, DeviceConfig, RecordConfig, SlotsConfig, TrustConfig
from twinslot.core.model import CheckResult, SlotName
from twinslot.core.origin import Origin, OriginKind
from twinslot.core.progress import Observer, quiet
from twinslot.core.requests import InstallOptions
from twinslot.core.transaction import Transaction
from twinslot.engine import assemble, streams
from twinslot.engine.edges import Device as Edges
from twinslot.engine.edges import Verify
from twinslot.engine.engine import Engine
from twinslot.engine.trust_time import utc_now
from twinslot.engine.verifier import Verifier
from twinslot.payloads.partition.handler import PartitionPlace
from twinslot.payloads.select import Places
from twinslot.storage.blockdev import BlockTarget, open_target
from twinslot.storage.known_lists import ListStore
from twinslot.storage.lock import UpdateLock
from twinslot.storage.record.record import Record
from twinslot.system.cancellation import Cancellation
from twinslot.worker import launch

SLOT_SIZE = 1 << 20  # bytes
CONFIG = """
[device]
compatible = "acme,pump-3"
[slots]
a = {{ rootfs = "{directory}/slot_a" }}
b = {{ rootfs = "{directory}/slot_b" }}
[trust]
root = "{root}"
roles = ["engineering", "clinical"]
[boot]
fw_env_config = "{directory}/fw_env.config"
[record]
directory = "{directory}/data"
"""


def open_file(path: Path) -> BlockTarget:
    """A slot's file, as a partition."""
    return open_target(path, (), allow_files=True)


@dataclass
class HostDevice:
    """One device in a directory."""

    directory: Path
    bench: ReleaseBench
    running: SlotName = SlotName.A
    well: bool = True
    may_check: bool = True
    clock: datetime | None = None
    boots: int = 1
    rebooted: int = 0
    origin: Origin = Origin(OriginKind.CLI, uid=0, login="root")  # noqa: RUF009 - frozen
    slots: dict[SlotName, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in SlotName:
            self.slots[name] = self.directory / f"slot_{name}"
            with self.slots[name].open("wb") as file:
                for _ in range(0, SLOT_SIZE, 1 << 20):  # in pieces: memory is measured with this device
                    file.write(name.encode() * (1 << 20))
        medium = self.directory / "card"
        medium.write_bytes(bytes(0x8000))
        self.rig = UBootRig(self.directory, medium)
        self.rig.boot.reset(
            {"slot": "a", "slot_a": "good", "slot_b": "bad", "ts_generation": "1", "upgrade_available": "0"}
        )
        (self.directory / "data").mkdir()
        paths = {name: {"rootfs": self.slots[name]} for name in SlotName}
        self.config = Config(
            device=DeviceConfig(compatible=("acme,pump-3",)),
            slots=SlotsConfig(a=paths[SlotName.A], b=paths[SlotName.B]),
            trust=TrustConfig(root=self.bench.root, roles=("engineering", "clinical")),
            record=RecordConfig(directory=self.directory / "data"),
        )

    def edges(self) -> Edges:
        """The real edges, but for the root mount and the reboot."""
        return Edges(
            running=self.running,
            boot_id=f"{self.boots:032x}",
            bootloader=UBoot(self.rig.config, default_env=self.rig.default, timeout=waits.HANG),
            open_record=lambda on_trial: self.record(on_trial=on_trial),
            places=self.places(),
            verify=self.verifier(),
            run_checks=lambda _: (CheckResult("system", required=True, passed=self.well),),
            may_check=self.may_check,
            reboot=self.reboot,
            lock=self.lock,
            compatible=self.config.device.compatible,
            check_names=frozenset({"system"}),
            group_size_max=self.config.install.max_group_size,
            reinstall=False,
            restarts=self.config.install.reboot == "automatic",
            monotonic=time.monotonic,
            now=lambda: self.clock or utc_now(),
            lists=ListStore(self.directory / "data/lists"),
            delta=assemble._delta_policy(self.config, self.config.delta.budget),
            hardware=self.config.device.hardware,
            variant=self.config.device.variant,
            origin=self.origin,
        )

    def places(self) -> Places:
        """The slots' files, as partitions."""
        return {slot: {"rootfs": PartitionPlace(self.slots[slot], open_file)} for slot in SlotName}

    def verifier(self) -> Verify:
        """The real trust process."""
        return Verifier(self.config, launch.start)

    def record(self, *, on_trial: bool = False) -> Record:
        """The record."""
        return Record(self.directory / "data", lambda: "2026-01-01T00:00:00Z", "boot", on_trial=on_trial)

    @contextmanager
    def lock(self, what: str) -> Iterator[None]:
        """The real lock, in this directory."""
        with UpdateLock(what, self.directory / "lock"):
            yield

    def reboot(self) -> None:
        """Note it."""
        self.rebooted += 1

    def engine(self) -> Engine:
        """The engine on these edges."""
        return Engine(self.edges())

    def install(
        self,
        source: Path | str | int,
        options: InstallOptions | None = None,
        observer: Observer = quiet,
        cancelled: Cancellation | None = None,
        **settings: Any,
    ) -> Transaction:
        """Install from a file, a URL or a descriptor, through a worker process."""
        config = replace(self.config, http=replace(self.config.http, **settings)) if settings else self.config
        options = options or InstallOptions()
        if isinstance(source, Path):
            with source.open("rb") as file:
                stream = streams.open_stream(config, file.fileno(), service_workers=False)
                return self.engine().install(stream, options, observer, cancelled)
        stream = streams.open_stream(config, source, service_workers=False)
        return self.engine().install(stream, options, observer, cancelled)

    def content(self, slot: SlotName) -> bytes:
        """A slot's bytes."""
        return self.slots[slot].read_bytes()

    def environment(self) -> dict[str, str]:
        """What U-Boot would read."""
        return self.rig.seen()


class HostUpdater(LocalUpdater):
    """A device that is files; workers are children instead of systemd's."""

    def __init__(self, device: HostDevice, origin: Origin) -> None:
        super().__init__(device.config, origin=origin)
        self._device, self._caller = device, origin

    def engine(self) -> Engine:
        self._device.origin = self._caller
        return self._device.engine()
