"""Puts the real edges together, from the configuration."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from twinslot.bootloader.select import open_bootloader
from twinslot.config.options import Config
from twinslot.core.circumstance import is_shortage, may_pass, shortage
from twinslot.core.errors import DeviceError, LifecycleError, Refusal, RefusedError
from twinslot.core.model import CheckResult, Floors, SlotName
from twinslot.core.origin import Origin
from twinslot.core.progress import Observer, Phase, Progress
from twinslot.engine.edges import DeltaPolicy, Device, Verified
from twinslot.engine.engine import Engine
from twinslot.engine.machine import timestamp
from twinslot.engine.naming import source_name
from twinslot.health.base import Runner
from twinslot.health.selection import check_names, configured_checks, left_out
from twinslot.payloads.select import find_places
from twinslot.storage.known_lists import ListStore
from twinslot.storage.lock import BOOT_ID, UpdateLock
from twinslot.storage.record.database import BusyTimeout
from twinslot.storage.record.published import Published
from twinslot.storage.record.record import Record
from twinslot.storage.running_slot import find_running_slot
from twinslot.storage.sync import make_directory
from twinslot.system import process
from twinslot.system.caller import this_process
from twinslot.transport.base import ImageHead, ImageStream
from twinslot.transport.http.options import SCHEMES
from twinslot.trust.verdict import TrustFloors, TrustPolicy, TrustRequest, TrustTime, Verdict
from twinslot.worker import launch
from twinslot.worker.stream import WorkerStream, verify_in_worker

log = logging.getLogger(__name__)

LOCK_WAIT: Final = 15.0  # seconds that a boot, check or commit waits for another
REBOOT_TRIES: Final = 5  # a second between two
SETTLED: Final = Path("/run/twinslot/settled")
_PATIENT: Final = frozenset({"boot", "check", "commit"})
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

GetWorker = Callable[[str], launch.Worker]


def open_engine(config: Config, *, service_workers: bool, origin: Origin | None = None) -> Engine:
    """The engine on this machine.

    Args:
        config: As loaded.
        service_workers: Workers from systemd's sockets; otherwise they are started as children.
        origin: Who asks; None: whoever started this process.

    Raises:
        DeviceError: It is not known which slot runs, or the configuration does not fit.
    """
    get_worker = launch.connect if service_workers else launch.start
    return Engine(open_device(config, get_worker, origin or this_process()))


def open_stream(config: Config, source: str | int, *, service_workers: bool) -> ImageStream:
    """A stream of an image from a URL or an open descriptor; the caller keeps and closes its descriptor.

    Raises:
        RefusedError: `refused.scheme`: this device asks no addresses of that kind.
    """
    get_worker = launch.connect if service_workers else launch.start
    limits = {"group_size": config.install.max_group_size, "image_size": config.install.max_image_size}
    request: dict[str, Any] = {"limits": limits, "nice": config.install.nice}
    if isinstance(source, int):
        return WorkerStream(get_worker("read"), request, source, source=source_name(source))
    scheme = source.partition("://")[0].lower()
    if scheme in SCHEMES and scheme not in config.http.schemes:
        allowed = " or ".join(config.http.schemes)
        hint = "see 'http.schemes' in the configuration"
        raise RefusedError(Refusal("scheme", "this device asks no address of this kind", allowed, scheme, hint))
    http = asdict(config.http)
    if config.trust.build_time:
        http["earliest"] = config.trust.build_time.timestamp()
    delta = {"patches": config.delta.patches, "budget": config.delta.budget}
    request |= {"url": source, "http": http, "delta": delta}
    return WorkerStream(get_worker("fetch"), request, source=source_name(source))


def open_device(config: Config, get_worker: GetWorker, origin: Origin) -> Device:
    """The edges of this machine."""
    running = find_running_slot({name: config.slots.of(name) for name in SlotName})
    boot_id = _boot_id()
    verifier = _Verifier(config, get_worker)
    checks, busy = configured_checks(config.health), BusyTimeout()
    return Device(
        running=running.require(),
        boot_id=boot_id,
        bootloader=open_bootloader(config.boot),
        open_record=lambda on_trial: _open_record(config, boot_id, busy, on_trial=on_trial),
        places=find_places(config.slots, running),
        verify=verifier,
        run_checks=_Checks(config),
        may_check=get_worker is launch.start,
        reboot=_reboot,
        lock=_lock,
        compatible=config.device.compatible,
        check_names=check_names(checks),
        group_size_max=config.install.max_group_size,
        reinstall=config.install.allow_reinstall,
        restarts=config.install.reboot == "automatic",
        monotonic=time.monotonic,
        now=_now,
        lists=ListStore(config.record.directory / "lists"),
        delta=_delta_policy(config),
        tell_settled=_tell_settled,
        expecting=verifier.expecting,
        hardware=config.device.hardware,
        variant=config.device.variant,
        origin=origin,
        running_notes=running.disagreements,
        root_payload=running.root,
    )


def verify_head(
    config: Config,
    head: ImageHead,
    record: Record | Published | None,
    floors: Floors,
    get_worker: GetWorker,
    *,
    ignore_expiry: bool,
) -> Verdict:
    """Ask the trust process what it thinks of a head, changing nothing.

    Raises:
        ImageError: The documents are malformed.
        RefusedError: They are not trusted, with every reason.
        DeviceError: This device has no root of trust.
    """
    return _Verifier(config, get_worker).ask(head, record, floors, ignore_expiry=ignore_expiry)


def _boot_id() -> str:
    try:
        return BOOT_ID.read_text().strip()
    except OSError as e:
        if is_shortage(e):
            raise shortage(f"'{BOOT_ID}' cannot be read now", e) from e
        raise DeviceError(f"'{BOOT_ID}' cannot be read", code="system", found=e, hint="is /proc mounted?") from e


def _now() -> datetime:
    return datetime.now(UTC)


def _open_record(config: Config, boot_id: str, busy: BusyTimeout, *, on_trial: bool) -> Record:
    directory = config.record.directory
    try:
        make_directory(directory, 0o755)  # any user may read status.json in it
    except OSError as e:
        raise DeviceError(
            f"'{directory}' cannot be made", code="record", found=e.strerror, hint="is the data partition mounted?"
        ) from e
    return Record(directory, lambda: timestamp(_now()), boot_id, on_trial=on_trial, busy=busy)


def _delta_policy(config: Config) -> DeltaPolicy:
    delta = config.delta
    return DeltaPolicy(delta.reuse, delta.patches, delta.budget, insist=delta.on_failure == "fail")


def _lock(what: str) -> AbstractContextManager[None]:
    @contextlib.contextmanager
    def held() -> Iterator[None]:
        with UpdateLock(what, wait=LOCK_WAIT if what in _PATIENT else 0.0):
            yield

    return held()


def _tell_settled(settled: bool) -> None:
    """By a file that does not outlive the boot. Where it is missing for any reason, the units start and see."""
    try:
        SETTLED.unlink(missing_ok=True)
        if settled:
            SETTLED.touch()
    except OSError as e:
        log.warning("'%s' cannot be changed: %s", SETTLED, e.strerror)


def _reboot() -> None:
    """Ask systemd, which stops services in order; the caller goes on until it is stopped."""
    try:
        ended = _started_in_the_end(["systemctl", "--no-block", "reboot"])
    except OSError as e:
        raise DeviceError("the reboot cannot be asked for", code="reboot", found=e, hint="reboot by hand") from e
    if ended.status != 0:
        raise DeviceError("the reboot was refused", code="reboot", found=ended.complaint(), hint="reboot by hand")


def _started_in_the_end(argv: list[str]) -> process.ProgramResult:
    """Run a program that is needed, also when this process lacks for a moment what it takes to start one.

    Raises:
        OSError: As the system says it; the caller names what was meant.
    """
    for _ in range(REBOOT_TRIES - 1):
        try:
            return process.run(argv, timeout=60)
        except OSError as e:
            if not may_pass(e):
                raise
            log.warning("'%s' cannot be started now, so it is tried again: %s", argv[0], e.strerror)
        time.sleep(1)
    return process.run(argv, timeout=60)


class _Checks:
    """Runs the configured checks within the trial's deadline."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def __call__(self, observer: Observer) -> tuple[CheckResult, ...]:
        """One result for each check."""
        checks = configured_checks(self._config.health)
        for each in left_out(checks):
            log.warning("health check file '%s' is not asked: %s", each.name, each.why)
        until = time.monotonic() + self._config.trial.deadline
        return Runner(checks).run(until, lambda done: observer(Progress(Phase.CHECK, done, len(checks))))


class _Verifier:
    """Asks the trust process, with what this device knows of roots, dates and floors (S8, S16)."""

    def __init__(self, config: Config, get_worker: GetWorker) -> None:
        self._config, self._get_worker = config, get_worker
        self._ready: launch.Worker | None = None

    @contextlib.contextmanager
    def expecting(self) -> Iterator[None]:
        """See `device.Device.expecting`: the trust process starts while the image's head is on its way."""
        self._ready = self._get_worker("verify")
        try:
            yield
        finally:
            worker, self._ready = self._ready, None
            if worker is not None:
                worker.close()

    def __call__(self, head: ImageHead, record: Record, floors: Floors, *, ignore_expiry: bool) -> Verified:
        """See `device.Verify`."""
        verdict = self.ask(head, record, floors, ignore_expiry=ignore_expiry)
        documents = {
            "targets": verdict.targets.decode(),
            "targets-version": str(verdict.targets_version),
            "verified-date": verdict.verified_date.strftime("%Y-%m-%dT%H:%M:%S+00:00"),
            "dates": json.dumps({each.what: each.expires.isoformat() for each in verdict.dates}),
        }
        if verdict.new_roots:
            documents["root"] = verdict.new_roots[-1].decode()
        return Verified(verdict.root_version, documents, {"trust": verdict.summary()})

    def ask(
        self, head: ImageHead, record: Record | Published | None, floors: Floors, *, ignore_expiry: bool
    ) -> Verdict:
        """One question to the trust process."""
        keep = record.document if record else lambda _: None
        kept = keep("targets")
        request = TrustRequest(
            trusted_root=(keep("root") or self._first_root()).encode(),
            trust_section=head.trust,
            manifest=head.manifest,
            policy=TrustPolicy(self._config.trust.roles, ignore_expiry=ignore_expiry),
            time=self._time(keep("verified-date")),
            floors=TrustFloors(floors.root, int(keep("targets-version") or 1)),
            kept_targets=kept.encode() if kept else None,
        )
        verdict = verify_in_worker(self._take_worker, request)
        if verdict.manifest_digest != hashlib.sha256(head.manifest).hexdigest():
            raise LifecycleError("the trust process answered for another manifest", code="trust-pipe")
        return verdict

    def _take_worker(self) -> launch.Worker:
        worker, self._ready = self._ready, None
        return worker if worker is not None else self._get_worker("verify")

    def _first_root(self) -> str:
        path = self._config.trust.root
        try:
            return path.read_text()
        except OSError as e:
            raise DeviceError(f"the root of trust '{path}' cannot be read", code="trust-root", found=e.strerror) from e

    def _time(self, verified: str | None) -> TrustTime:
        build = self._config.trust.build_time or _EPOCH
        return TrustTime(
            clock=_now(),
            build=build.astimezone(UTC),
            verified=datetime.fromisoformat(verified) if verified else build.astimezone(UTC),
        )
