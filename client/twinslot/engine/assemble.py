"""Puts the real edges together, from the configuration."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from twinslot.bootloader.select import open_bootloader
from twinslot.config.options import Config
from twinslot.core.errors import DeviceError
from twinslot.core.model import Floors, SlotName
from twinslot.core.origin import Origin
from twinslot.core.stream import ImageHead
from twinslot.engine.edges import DeltaPolicy, Device
from twinslot.engine.engine import Engine
from twinslot.engine.open_update import timestamp
from twinslot.engine.trust_time import utc_now
from twinslot.engine.verifier import GetWorker, TellDropped, Verifier
from twinslot.health.run import ConfiguredChecks
from twinslot.health.selection import check_names, configured_checks
from twinslot.payloads.select import find_places
from twinslot.policy.local import LocalPolicy
from twinslot.policy.passed import PassedFile
from twinslot.policy.trial import TrialFile
from twinslot.policy.waits import WaitsFile
from twinslot.policy.watch import LocalWatch
from twinslot.storage.attachments import DIRECTORY, AttachmentStore
from twinslot.storage.known_lists import ListStore
from twinslot.storage.lock import UpdateLock, this_boot
from twinslot.storage.record.database import BusyTimeout
from twinslot.storage.record.published import Published
from twinslot.storage.record.record import Record
from twinslot.storage.running_slot import find_running_slot
from twinslot.storage.sync import make_directory
from twinslot.system.caller import this_process
from twinslot.system.power import ask_again, reboot
from twinslot.trust.verdict import Verdict
from twinslot.worker import launch

log = logging.getLogger(__name__)

LOCK_WAIT: Final = 15.0  # seconds that a boot, check or commit waits for another
NO_TRIAL: Final = Path("/run/twinslot/no-trial")
_PATIENT: Final = frozenset({"boot", "check", "commit", "continue"})


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


def open_device(config: Config, get_worker: GetWorker, origin: Origin) -> Device:
    """The edges of this machine."""
    running = find_running_slot({name: config.slots.of(name) for name in SlotName})
    boot_id = this_boot()
    verifier = Verifier(config, get_worker)
    policy = LocalPolicy(config, utc_now, may_ask=get_worker is launch.start)
    checks, busy = configured_checks(config.health), BusyTimeout()
    return Device(
        running=running.require(),
        boot_id=boot_id,
        bootloader=open_bootloader(config.boot),
        open_record=lambda on_trial: _open_record(config, boot_id, busy, on_trial=on_trial),
        places=find_places(config.slots, running),
        verify=verifier,
        run_checks=ConfiguredChecks(config),
        may_check=get_worker is launch.start,
        reboot=reboot,
        lock=_lock,
        compatible=config.device.compatible,
        check_names=check_names(checks),
        group_size_max=config.install.max_group_size,
        reinstall=config.install.allow_reinstall,
        demands=config.acceptance.demands,
        restarts=config.install.reboot == "automatic",
        monotonic=time.monotonic,
        now=utc_now,
        lists=ListStore(config.record.directory / "lists"),
        documents=AttachmentStore(config.record.directory / DIRECTORY, config.install.keep_attachments),
        delta=_delta_policy(config, policy.budget()),
        tell_no_trial=_tell_no_trial,
        expecting=verifier.expecting,
        hardware=config.device.hardware,
        variant=config.device.variant,
        origin=origin,
        obstacles=policy.obstacles,
        consent=policy.consent(),
        trial=TrialFile(),
        passed=PassedFile(),
        watch=LocalWatch(config.watch, config.record.directory, policy.moment),
        waits=WaitsFile(),
        ask_elsewhere=ask_again,
        running_notes=running.disagreements,
        root_payload=running.root,
    )


# keeps: S24 (in the command's process)
def verify_head(
    config: Config,
    head: ImageHead,
    record: Record | Published | None,
    floors: Floors,
    get_worker: GetWorker,
    *,
    ignore_expiry: bool,
    dropped: TellDropped,
) -> Verdict:
    """Ask the trust process what it thinks of a head, changing nothing; `dropped` as for `verify_in_worker`.

    Raises:
        ImageError: The documents are malformed.
        RefusedError: They are not trusted, with every reason.
        DeviceError: This device has no root of trust.
    """
    return Verifier(config, get_worker).ask(head, record, floors, ignore_expiry=ignore_expiry, dropped=dropped)


def _open_record(config: Config, boot_id: str, busy: BusyTimeout, *, on_trial: bool) -> Record:
    directory = config.record.directory
    try:
        make_directory(directory, 0o755)  # any user may read status.json in it
    except OSError as e:
        raise DeviceError(
            f"'{directory}' cannot be made", code="record", found=e.strerror, hint="is the data partition mounted?"
        ) from e
    return Record(directory, lambda: timestamp(utc_now()), boot_id, on_trial=on_trial, busy=busy)


def _delta_policy(config: Config, budget: int) -> DeltaPolicy:
    delta = config.delta
    return DeltaPolicy(delta.reuse, delta.patches, budget, insist=delta.on_failure == "fail")


def _lock(what: str) -> AbstractContextManager[None]:
    @contextlib.contextmanager
    def held() -> Iterator[None]:
        with UpdateLock(what, wait=LOCK_WAIT if what in _PATIENT else 0.0):
            yield

    return held()


def _tell_no_trial(none: bool) -> None:
    """By a file that does not outlive the boot. Where it is missing for any reason, the units start and see."""
    try:
        NO_TRIAL.unlink(missing_ok=True)
        if none:
            NO_TRIAL.touch()
    except OSError as e:
        log.warning("'%s' cannot be changed: %s", NO_TRIAL, e.strerror)
