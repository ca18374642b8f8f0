"""The real service with a device that only pretends: run as a process of its own on a private bus.

What an install does is told by its source: the last part of the URL, or the first line of the file.
"""

from __future__ import annotations

import argparse
import functools
import logging
import os
import select
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twinslot.app.local import LocalUpdater
from twinslot.app.updater import JsonObject
from twinslot.bus.server import callers
from twinslot.bus.server.server import serve
from twinslot.config.options import Config, DeviceConfig, InstallConfig, SlotsConfig, TrustConfig
from twinslot.core.errors import (
    CancelledError,
    DeviceError,
    ImageError,
    LifecycleError,
    Refusal,
    RefusedError,
    TransportError,
)
from twinslot.core.lifecycle import State
from twinslot.core.manifest import Manifest
from twinslot.core.model import Release, SlotName
from twinslot.core.notes import Note, Unused
from twinslot.core.origin import Origin
from twinslot.core.progress import Observer, Phase, Progress, quiet
from twinslot.core.requests import InstallOptions
from twinslot.core.stream import Base, Cost, ImageHead, ImageStream, Part
from twinslot.core.transaction import Outcome, Transaction
from twinslot.engine.engine import Engine
from twinslot.policy.held import HeldInhibitors
from twinslot.system.cancellation import Cancellation

NEVER = Path("/nonexistent/end")
SIZE = 1 << 33  # bytes; past 32 bits, as images may be

REASONS = (
    Refusal("compatible", "the image is for another device", "pump-3", "pump-2", "ask for the right image"),
    Refusal("too-large", "payload 'rootfs' does not fit", "1024", "2048"),
    Refusal("downgrade", "the release is older than what was committed"),
)

ERRORS = {
    "cancelled": CancelledError("the install was cancelled", hint="install again"),
    "image": ImageError("section 'groups' ends early", code="truncated", expected=10, found=7, hint="copy it again"),
    "refused": RefusedError(REASONS),
    "transport": TransportError("the server went away", code="gone", found="connection reset"),
    "device": DeviceError("partition 'ü\u2028\0' cannot be\nwritten", code="write", found="I/O error\udcff"),
    "lifecycle": LifecycleError("event 'x' cannot happen", code="event"),
}


def transaction(**more: Any) -> Transaction:
    """A transaction as the engine gives it."""
    state = more.pop("state", State.IDLE if "outcome" in more else State.ARMED)
    return Transaction("ab" * 16, state, SlotName.B, Release("2026.11 'ü'", 7), started="2026-01-01", **more)


class PretendStream:
    """Reads its scenario like a head: waits for it, and ends when it is closed."""

    remote = False
    unused: tuple[Unused, ...] = ()
    source = "a test"

    @property
    def fetched(self) -> int:
        return 0

    def __init__(self, source: str | int) -> None:
        self._source = source
        self.closed = threading.Event()

    def listen(self, listener: Callable[[Note], None]) -> None:
        """It has nothing to tell."""

    def head(self) -> ImageHead:
        if isinstance(self._source, str):
            return ImageHead(b"", self._source.rsplit("/", 1)[-1].encode())
        while not select.select([self._source], [], [], 0.05)[0]:
            if self.closed.is_set():
                raise TransportError("the stream was closed", code="closed")
        return ImageHead(b"", os.read(self._source, 100).strip())

    def foresee(self) -> None:
        """Nothing is encrypted."""

    def unlock(self, manifest: Manifest) -> None:
        """Nothing is encrypted."""

    def attach(self, names: Sequence[str]) -> None:
        """It has no attachments."""

    def parts(self, manifest: Manifest, bases: Sequence[Base] = ()) -> Iterator[Part]:
        raise NotImplementedError

    def want(self, payload: str, groups: bytes) -> None:
        raise NotImplementedError

    def cost(self, payload: str, groups: bytes) -> Cost:
        raise NotImplementedError

    def close(self) -> None:
        self.closed.set()


class PretendEngine(Engine):
    """Behaves like the engine towards its caller, without a device."""

    def __init__(self, paper: Paper) -> None:
        self._paper = paper

    def install(
        self,
        stream: ImageStream,
        options: InstallOptions,
        observer: Observer = quiet,
        cancelled: Cancellation | None = None,
    ) -> Transaction:
        assert cancelled is not None
        try:
            self._paper.state = "writing"
            observer(Progress(Phase.VERIFY))
            scenario = stream.head().manifest.decode()
            self._play(scenario, observer, cancelled)
            self._paper.state = "armed" if options.activate else "written"
            return transaction(state=State(self._paper.state), reason=repr(options))
        except TransportError as e:
            if cancelled.is_set():
                raise cancelled.error() from e
            raise
        finally:
            stream.close()
            if self._paper.state == "writing":
                self._paper.state = "idle"

    def _play(self, scenario: str, observer: Observer, cancelled: Cancellation) -> None:
        observer(Progress(Phase.WRITE, 0, SIZE))
        if scenario in ERRORS:
            raise ERRORS[scenario]
        if scenario == "mistake":
            raise KeyError("a mistake of ours")
        if scenario == "wait" and cancelled.wait(3600):
            raise cancelled.error()
        if scenario == "deaf":
            self._paper.ends()
        for part in range(1, 1001 if scenario == "chatty" else 5):
            time.sleep(0 if scenario == "chatty" else 0.01)
            observer(Progress(Phase.WRITE, part * 1000, SIZE, 5.5, None if part == 1 else 2.5, part * 900))
        observer(Progress(Phase.READ_BACK, 0, SIZE))
        observer(Progress(Phase.READ_BACK, SIZE, SIZE, 7.0, 0.0, 3600))

    def activate(self, *, reboot: bool | None = None, outside_window: bool = False) -> Transaction:
        return transaction(reason=f"reboot={reboot}")

    def commit(
        self, *, force: str = "", if_trial: bool = False, may_check: bool = True, observer: Observer = quiet
    ) -> Transaction | None:
        if force == "slowly":
            self._paper.ends()
        if if_trial:
            return None
        observer(Progress(Phase.CHECK, 1, 3))
        if not force:
            raise RefusedError(Refusal("unhealthy", "a required check failed; the system goes back"))
        return transaction(forced=True, outcome=Outcome.COMMITTED)

    def rollback(self, *, reason: str = "", reboot: bool = True) -> Transaction:
        state = State.LEAVING if reason == "on trial" else State.ARMED
        return transaction(kind="rollback", state=state, reason=f"{reason} reboot={reboot}")

    def decline(self, action: str, why: str) -> None:
        raise RefusedError(Refusal("order", why, found=action))

    def cancel(self) -> Transaction:
        return transaction(outcome=Outcome.ABANDONED)


@dataclass
class Paper:
    """A device on paper: what it is in, how often it was looked at, and who asked for something."""

    end: Path = NEVER
    run: Path = NEVER
    state: str = "idle"
    looks: int = 0
    asked: list[Origin] = field(default_factory=list)

    def ends(self) -> None:
        """Work that does not stop before there is a file."""
        while not self.end.exists():
            time.sleep(0.01)


CONFIG = Config(
    device=DeviceConfig(compatible=("paper",)),
    slots=SlotsConfig(a={}, b={}),
    trust=TrustConfig(root=Path("/nowhere"), roles=("engineering",)),
    install=InstallConfig(reboot="automatic"),
)


class PretendUpdater(LocalUpdater):
    """The client's own on a device on paper, asked for one caller."""

    def __init__(self, paper: Paper, origin: Origin) -> None:
        super().__init__(CONFIG, origin=origin)
        self._paper, self._caller = paper, origin

    def engine(self) -> Engine:
        self._paper.asked.append(self._caller)
        return PretendEngine(self._paper)

    def stream(self, source: str | int) -> ImageStream:
        if source == "http://nowhere/":
            raise TransportError("no such server", code="resolve")
        return PretendStream(source)

    def status(self) -> JsonObject:
        known = {"name": "2026.10", "sequence": 6, "epoch": 1, "manifest": ""}
        good = {"state": "good", "running": True, "release": known, "installed_at": "2026-01-01T00:00:00+00:00"}
        empty = {"state": None, "running": False, "release": None, "installed_at": None}
        self._paper.looks += 1
        who = {"look": self._paper.looks, "process": os.getpid()}
        return {
            "version": "1",
            "running": SlotName.A,
            "state": self._paper.state,
            "slots": {"a": good, "b": empty},
        } | who

    def history(self, limit: int) -> list[JsonObject]:
        return [transaction().as_dict()] * min(limit, 2)

    def held(self) -> HeldInhibitors:
        return HeldInhibitors(self._paper.run)

    def log(self, after: int, since: str, limit: int) -> JsonObject:
        """Rows that name who asked for what."""
        rows = [{"number": n, "fields": {"origin": asked.as_dict()}} for n, asked in enumerate(self._paper.asked, 1)]
        return {"rows": rows[after:][-limit:], "broken": None, "since": since, "limit": limit}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--idle", type=float, default=60)
    parser.add_argument("--grace", type=float, default=5)
    parser.add_argument(
        "--end", type=Path, default=NEVER, metavar="FILE", help="what cannot be stopped ends when there is this file"
    )
    parser.add_argument("--run", type=Path, default=NEVER, metavar="DIR", help="where inhibitors are held")
    parser.add_argument("--group", help="one that this host has, in place of the device's own")
    arguments = parser.parse_args()
    if arguments.group:
        vars(callers)["GROUP"] = arguments.group
    logging.basicConfig(level=logging.INFO)
    serve(
        functools.partial(PretendUpdater, Paper(arguments.end, arguments.run)),
        address=arguments.address,
        idle=arguments.idle,
        grace=arguments.grace,
    )


if __name__ == "__main__":
    main()
