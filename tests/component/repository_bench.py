"""A maker's repository on a real web server, and a device that asks it: all by the real command lines and workers."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from file_web import FileWeb, serving_files
from host_device import HostDevice
from release_bench import ReleaseBench

from twinslot.app.local import LocalUpdater
from twinslot.cli.host import Host
from twinslot.cli.main import main as device_main
from twinslot.config.options import Config
from twinslot.config.repository import RepositoryConfig
from twinslot.core.model import Release, SlotName, SlotRecord, StoredPayload
from twinslot.engine import facts
from twinslot.engine.engine import Engine
from twinslot.storage.running_slot import RunningSlot
from twinslot_image.cli import main as image_main

WHERE = RunningSlot(SlotName.A, frozenset(), ("said by the test",))
CONTENT = b"superblock".ljust(4096, b"\1") + bytes(60_000)


class _Here(LocalUpdater):
    """The device in the directory."""

    def __init__(self, device: HostDevice, config: Config) -> None:
        super().__init__(config)
        self._device = device

    def engine(self) -> Engine:
        return self._device.engine()


@dataclass
class RepositoryBench:
    """Both sides.

    Attributes:
        maker: Makes images.
        fleet: The repository's directory.
        web: Serves what is public of it.
        device: Asks.
    """

    maker: ReleaseBench
    fleet: Path
    web: FileWeb
    device: HostDevice

    def image(self, *argv: str, status: int = 0) -> None:
        """`twinslot-image repository`."""
        assert image_main(["repository", argv[0], str(self.fleet), *argv[1:]]) == status

    def publish(self, at: datetime | None = None, *argv: str) -> None:
        """At this time; now unless given."""
        with pytest.MonkeyPatch.context() as patch:
            if at is not None:
                patch.setenv("SOURCE_DATE_EPOCH", str(int(at.timestamp())))
            self.image("publish", *argv)

    def offer(self, name: str, sequence: int, **more: Any) -> None:
        """Make a release, add and publish it."""
        self.image("add", str(self.maker.image(name, sequence, CONTENT + name.encode(), **more)))
        self.publish()

    def configure(self, **changes: Any) -> None:
        """Of the table `[repository]`."""
        config = self.device.config
        self.device.config = replace(config, repository=replace(config.repository, **changes))

    def later(self, moment: datetime) -> None:
        """The running system was built then: no earlier time is believed."""
        config = self.device.config
        self.device.config = replace(config, trust=replace(config.trust, build_time=moment))

    def run(self, *argv: str) -> tuple[int, dict[str, Any]]:
        """`twinslot ... --json`: exit status, and the last line that it printed."""
        host = Host(is_root=lambda: True, config=lambda _: self.device.config, local=self._here)
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
            status = device_main([*argv, "--json"], host)
        lines = out.getvalue().splitlines()
        assert "Traceback" not in out.getvalue()
        return status, json.loads(lines[-1]) if lines else {}

    def _here(self, config: Config) -> LocalUpdater:
        return _Here(self.device, config)

    def poll(self, *argv: str) -> tuple[int, dict[str, Any]]:
        """`twinslot poll`."""
        return self.run("poll", "--no-service", *argv)

    def offered(self) -> dict[str, Any] | None:
        """What `twinslot status` says is offered."""
        found: dict[str, Any] | None = self.run("status")[1]["repository"]["offer"]
        return found

    def audit(self) -> list[str]:
        """Events of the audit, oldest first."""
        with self.device.record() as record:
            return [row.event for row in reversed(record.audit_rows(1000))]


@contextmanager
def repository_bench(directory: Path) -> Iterator[RepositoryBench]:
    """A device that runs sequence 10, and a repository with sequence 11."""
    maker = ReleaseBench.make(directory)
    fleet = directory / "fleet"
    assert image_main(["repository", "init", str(fleet)]) == 0
    (fleet / "public").mkdir()
    home = directory / "device"
    home.mkdir()
    device = HostDevice(home, maker)
    (home / "machine-id").write_text("0123456789abcdef\n")
    with device.record() as record:
        payload = {"rootfs": StoredPayload(8192, 4096, "0" * 64)}
        record.save_slot(SlotRecord(SlotName.A, Release("1.0", 10), payload))
    device.engine().boot()
    with serving_files(fleet / "public") as web, pytest.MonkeyPatch.context() as patch:
        patch.setattr(facts, "find_running_slot", lambda *_: WHERE)
        device.config = replace(
            device.config,
            repository=RepositoryConfig(
                url=web.url("").rstrip("/"), root=fleet / "keys/1.root.json", device_id=home / "machine-id"
            ),
            http=replace(device.config.http, retries=0, retry_wait=0.0),
        )
        bench = RepositoryBench(maker, fleet, web, device)
        bench.offer("1.1", 11)
        yield bench
