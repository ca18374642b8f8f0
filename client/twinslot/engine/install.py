"""From a stream to an armed slot: verify, ask policy, then let the table run.

Nothing of the target changes before every question was answered; no payload byte is read before that either (S2).
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Mapping
from typing import Any

from twinslot.core.acceptance import AcceptancePolicy, DeviceFacts, check
from twinslot.core.boot_variables import BootState
from twinslot.core.errors import CancelledError, ImageError, Refusal, RefusedError, TwinslotError
from twinslot.core.events import AuditEvent
from twinslot.core.lifecycle import Event, State
from twinslot.core.manifest import Manifest, parse_manifest
from twinslot.core.model import Floors, Reason, SlotName, StoredPayload
from twinslot.core.progress import Meter, Observer, Phase
from twinslot.core.requests import InstallOptions
from twinslot.core.slotset import slots_from
from twinslot.core.transaction import Transaction
from twinslot.engine.cancellation import Cancellation
from twinslot.engine.content import ImageInstall
from twinslot.engine.edges import Verified
from twinslot.engine.machine import timestamp
from twinslot.engine.places import open_local_content, open_targets
from twinslot.engine.session import Session
from twinslot.payloads.base import PayloadTarget
from twinslot.transport.base import ImageStream
from twinslot.transport.notes import Note, Retry

log = logging.getLogger(__name__)


def install(
    session: Session, stream: ImageStream, options: InstallOptions, observer: Observer, cancelled: Cancellation
) -> Transaction:
    """Run one install inside a session.

    Raises:
        TwinslotError: As `Engine.install`.
    """
    announcer = session.machine.announcer
    announcer.about["source"] = stream.source
    announcer.stopped_by = lambda: cancelled.by
    state = _refuse_during_trial(session)
    target = slots_from(session.device.running).target(state.states, state.back)
    meter = Meter(observer, session.device.monotonic)
    meter.begin(Phase.VERIFY)
    stream.listen(lambda note: _tell(note, meter, stream))
    with cancelled.ending(stream):
        try:
            verified, manifest = _verify(session, stream, options)
            with (
                open_targets(session.device, target) as targets,
                open_local_content(session.device, session.record, target) as holdings,
                session.device.read_back_with() as run,
            ):
                _accept(session, manifest, targets, options)
                transaction = _transaction(session, target, manifest, verified, meter)
                _drop_waiting(session)
                _remember(session, transaction, verified, options)
                session.machine.begin(transaction)
                device = session.device
                session.effects.job = ImageInstall(
                    stream,
                    manifest,
                    targets,
                    meter,
                    cancelled,
                    holdings,
                    device.delta,
                    run,
                    device.monotonic,
                    device.root_payload,
                )
                session.machine.feed(Event.ACCEPTED, **verified.notes)
        except TwinslotError as e:
            if cancelled.is_set() and not isinstance(e, CancelledError):
                raise cancelled.error() from e
            raise
    if cancelled.is_set():  # after the last group, before the one step that cannot be taken back
        session.machine.change(reason=cancelled.reason)
        session.machine.feed(Event.CANCELLED)
        raise cancelled.error()
    if options.activate:
        session.effects.want_reboot = bool(options.reboot)
        meter.begin(Phase.ARM)
        session.machine.feed(Event.ACTIVATE)
    return session.machine.open


def _tell(note: Note, meter: Meter, stream: ImageStream) -> None:
    """What the download waits for, to whoever looks on and to the journal; what is not used stands in the result."""
    if isinstance(note, Retry):
        log.info("the download waits: %s", note)
        meter.note(str(note), stream.fetched)
    else:
        log.info("%s", note)


def _refuse_during_trial(session: Session) -> BootState:
    """The other slot is what the device goes back to (S7)."""
    running = session.device.running
    state = session.environment()
    if not state.is_kept(running) or session.machine.state in (State.TRIAL, State.COMMITTING, State.LEAVING):
        raise RefusedError(
            Refusal(
                "on-trial",
                f"slot '{running}' is on trial and slot '{state.way_back(running)}' is the way back",
                hint="wait for the commit, or use 'twinslot commit' or 'twinslot rollback'",
            )
        )
    return state


def _verify(session: Session, stream: ImageStream, options: InstallOptions) -> tuple[Verified, Manifest]:
    """Signatures first, then the form of the very same bytes."""
    about = session.machine.announcer.about
    with session.device.expecting():
        head = stream.head()
        about["manifest"] = hashlib.sha256(head.manifest).hexdigest()
        try:
            verified = session.device.verify(
                head, session.record, session.floors(), ignore_expiry=options.ignore_expiry
            )
        except TwinslotError:
            about.update(_claims(head.manifest))
            raise
    manifest = parse_manifest(head.manifest)
    about.update(release=manifest.release.name, sequence=manifest.release.sequence)
    return verified, manifest


def _claims(manifest: bytes) -> dict[str, Any]:
    """What an image that is not trusted says it is: for the audit, and marked as what it is (S19)."""
    try:
        release = parse_manifest(manifest).release
    except ImageError:
        return {}
    return {"release": release.name, "sequence": release.sequence, "claimed": True}


def _accept(
    session: Session, manifest: Manifest, targets: Mapping[str, PayloadTarget], options: InstallOptions
) -> None:
    facts = device_facts(session, {name: target.size for name, target in targets.items()})
    policy = AcceptancePolicy(
        reinstall=options.reinstall or session.device.reinstall,
        retry=options.retry,
        group_size=session.device.group_size_max,
    )
    reasons = check(manifest, facts, policy)
    if reasons:
        raise RefusedError(reasons)


def device_facts(session: Session, partitions: Mapping[str, int]) -> DeviceFacts:
    """What acceptance needs to know of this device; the failed release is remembered in two places (S13)."""
    running, environment = session.record.slot(session.device.running), session.environment()
    in_environment = environment.failed_sequence
    target = slots_from(session.device.running).target(environment.states, environment.back)
    failed = set(session.record.failed()) | ({in_environment} if in_environment is not None else set())
    return DeviceFacts(
        compatible=session.device.compatible,
        partitions=partitions,
        checks=session.device.check_names,
        floors=session.floors(),
        running=running.release if running else None,
        content={name: payload.digest for name, payload in running.payloads.items()} if running else {},
        on_trial=not environment.is_kept(session.device.running),
        failed=frozenset(failed),
        hardware=session.device.hardware,
        variant=session.device.variant,
        payload_types={name: place.type for name, place in session.device.places[target].items()},
    )


def _transaction(
    session: Session, target: SlotName, manifest: Manifest, verified: Verified, meter: Meter
) -> Transaction:
    release = manifest.release
    return Transaction(
        id=secrets.token_hex(16),
        state=State.IDLE,
        target=target,
        release=release,
        floors=Floors(release.sequence, release.epoch, verified.root_version),
        payloads={p.name: StoredPayload(p.size, p.group_size, p.digest, p.type) for p in manifest.payloads},
        required_checks=manifest.checks,
        started=timestamp(session.device.now()),
        origin=session.device.origin,
    ).with_seconds("verify", meter.seconds)


def _drop_waiting(session: Session) -> None:
    """An update that waits for activation or reboot gives way to the new one."""
    if session.machine.state in (State.WRITTEN, State.ARMED):
        session.machine.change(reason=Reason.REPLACED)
        session.machine.feed(Event.REPLACED)


def _remember(session: Session, transaction: Transaction, verified: Verified, options: InstallOptions) -> None:
    """What must be found again at commit, and who overrode what."""
    record = session.record
    record.drop_pending_documents()
    for name, text in verified.documents.items():
        record.keep_document(f"{transaction.id}.{name}", text)
    overridden = [name for name in ("retry", "reinstall", "ignore_expiry") if getattr(options, name)]
    if overridden:
        announcer = session.machine.announcer
        announcer.announce(AuditEvent.OVERRIDDEN, options=overridden, release=transaction.release.name)
