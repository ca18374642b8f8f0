"""From a stream to an armed slot: verify, ask policy, then let the table run.

Nothing of the target changes before every question was answered; no payload byte is read before that either (S2).
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Mapping
from typing import Any

from twinslot.core.acceptance import AcceptancePolicy, check
from twinslot.core.errors import CancelledError, ImageError, RefusedError, TwinslotError
from twinslot.core.events import AuditEvent
from twinslot.core.lifecycle import Event, State
from twinslot.core.manifest import Manifest, parse_manifest
from twinslot.core.model import Floors, Reason, SlotName, StoredPayload
from twinslot.core.notes import Note, Retry
from twinslot.core.policy import Gate, Wish
from twinslot.core.progress import Meter, Observer, Phase
from twinslot.core.requests import InstallOptions
from twinslot.core.stream import ImageStream
from twinslot.core.transaction import Transaction
from twinslot.engine.acceptance import device_facts
from twinslot.engine.content import ImageInstall
from twinslot.engine.edges import Verified
from twinslot.engine.facts import Facts
from twinslot.engine.gates import may, require
from twinslot.engine.open_update import timestamp
from twinslot.engine.places import open_local_content, open_targets
from twinslot.engine.recover import Session
from twinslot.payloads.base import PayloadTarget
from twinslot.system.cancellation import Cancellation

log = logging.getLogger(__name__)


def _named(transaction: Transaction) -> dict[str, Any]:
    """Which image it is, so that the rows alone say so."""
    release = transaction.release
    named = {"manifest": release.manifest, "release": release.name, "sequence": release.sequence}
    return named | {"epoch": release.epoch, "slot": transaction.target}


# keeps: S19
def install(
    session: Session, stream: ImageStream, options: InstallOptions, observer: Observer, cancelled: Cancellation
) -> Transaction:
    """Run one install inside a session.

    Raises:
        TwinslotError: As `Engine.install`.
    """
    announcer = session.update.announcer
    announcer.about["source"] = stream.source
    announcer.stopped_by = lambda: cancelled.by
    facts = session.facts()
    wish = session.effects.wish = Wish(
        options.activate, options.reboot, remote=stream.remote, outside_window=options.outside_window
    )
    require(Gate.FETCH, wish, session.device, session.update, session.environment())
    meter = Meter(observer, session.device.monotonic)
    meter.begin(Phase.VERIFY)
    stream.listen(lambda note: _tell(note, meter, stream))
    with cancelled.ending(stream):
        try:
            _take(session, facts, stream, options, meter, cancelled)
        except TwinslotError as e:
            if cancelled.is_set() and not isinstance(e, CancelledError):
                raise cancelled.error() from e
            raise
    if cancelled.is_set():  # after the last group, before the one step that cannot be taken back
        session.update.change(reason=cancelled.reason)
        session.machine.feed(Event.CANCELLED)
        raise cancelled.error()
    if may(Gate.ACTIVATE, wish, session.device, session.update):
        meter.begin(Phase.ARM)
        session.machine.feed(Event.ACTIVATE)
    return session.update.open


def _take(
    session: Session,
    facts: Facts,
    stream: ImageStream,
    options: InstallOptions,
    meter: Meter,
    cancelled: Cancellation,
) -> None:
    """Verify what the stream brings, ask every question, write it."""
    device, wish, target = session.device, session.effects.wish, facts.target
    verified, manifest, document = _verify(session, facts, stream, options)
    with (
        open_targets(device, target) as targets,
        open_local_content(device, session.record, target) as local,
        device.read_back_with() as run,
    ):
        _accept(session, facts, manifest, targets, options)
        stream.unlock(manifest)
        session.forget_environment()  # the head may have been long in coming
        require(Gate.WRITE, wish, device, session.update, session.environment())
        transaction = _transaction(session, target, manifest, verified, meter, options)
        _drop_waiting(session)
        _remember(session, transaction, verified, options)
        session.update.begin(transaction)
        session.effects.job = ImageInstall(
            stream,
            manifest,
            targets,
            meter,
            cancelled,
            local,
            device.delta,
            run,
            device.monotonic,
            device.root_payload,
            document,
        )
        session.machine.feed(Event.ACCEPTED, **verified.notes, **_named(transaction))


def _tell(note: Note, meter: Meter, stream: ImageStream) -> None:
    """What the download waits for, to whoever looks on and to the journal; what is not used stands in the result."""
    if isinstance(note, Retry):
        log.info("the download waits: %s", note)
        meter.note(str(note), stream.fetched)
    else:
        log.info("%s", note)


def _verify(
    session: Session, facts: Facts, stream: ImageStream, options: InstallOptions
) -> tuple[Verified, Manifest, bytes]:
    """Signatures first, then the form of the very same bytes, which are handed on as well."""
    about = session.update.announcer.about
    head = stream.head()
    stream.foresee()
    about["manifest"] = hashlib.sha256(head.manifest).hexdigest()
    try:
        verified = session.device.verify(
            head,
            session.record,
            facts.floors,
            ignore_expiry=options.ignore_expiry,
            note=session.update.announcer.note,
        )
    except TwinslotError:
        about.update(_claims(head.manifest))
        raise
    manifest = parse_manifest(head.manifest)
    about.update(release=manifest.release.name, sequence=manifest.release.sequence)
    return verified, manifest, head.manifest


def _claims(manifest: bytes) -> dict[str, Any]:
    """What an image that is not trusted says it is: for the audit, and marked as what it is (S19)."""
    try:
        release = parse_manifest(manifest).release
    except ImageError:
        return {}
    return {"release": release.name, "sequence": release.sequence, "claimed": True}


def _accept(
    session: Session, facts: Facts, manifest: Manifest, targets: Mapping[str, PayloadTarget], options: InstallOptions
) -> None:
    device = session.device
    wanted = device_facts(
        facts,
        compatible=device.compatible,
        checks=device.check_names,
        hardware=device.hardware,
        variant=device.variant,
        places=device.places[facts.target],
        room={name: target.size for name, target in targets.items()},
    )
    policy = AcceptancePolicy(
        reinstall=options.reinstall or device.reinstall,
        retry=options.retry,
        group_size=device.group_size_max,
        demands=device.demands,
    )
    reasons = check(manifest, wanted, policy)
    if reasons:
        raise RefusedError(reasons)


def _transaction(
    session: Session,
    target: SlotName,
    manifest: Manifest,
    verified: Verified,
    meter: Meter,
    options: InstallOptions,
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
        change=manifest.type,
        activate=options.activate,
        restart=options.reboot,
    ).with_seconds("verify", meter.seconds)


def _drop_waiting(session: Session) -> None:
    """An update that waits for activation or reboot gives way to the new one."""
    if session.update.state in (State.WRITTEN, State.ARMED):
        session.update.change(reason=Reason.REPLACED)
        session.machine.feed(Event.REPLACED)


def _remember(session: Session, transaction: Transaction, verified: Verified, options: InstallOptions) -> None:
    """What must be found again at commit, and who overrode what."""
    record = session.record
    record.drop_pending_documents()
    record.keep_documents({f"{transaction.id}.{name}": text for name, text in verified.documents.items()})
    overridden = [name for name in ("retry", "reinstall", "ignore_expiry", "outside_window") if getattr(options, name)]
    if overridden:
        announcer = session.update.announcer
        announcer.announce(AuditEvent.OVERRIDDEN, options=overridden, release=transaction.release.name)
