"""`attest`: what this device says of itself, gathered as by `status` and `doctor`, and signed. Changes nothing."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import twinslot
from twinslot.config.options import Config
from twinslot.core import stored
from twinslot.core.attestation import KIND, attested
from twinslot.core.device_key import PublicPart
from twinslot.core.envelope import sign
from twinslot.core.errors import DeviceError
from twinslot.core.events import AuditEvent
from twinslot.core.model import SlotName
from twinslot.core.transaction import Transaction
from twinslot.engine.facts import View, look
from twinslot.engine.open_update import timestamp
from twinslot.engine.trust_time import utc_now
from twinslot.queries.diagnosis import Severity
from twinslot.queries.doctor import doctor
from twinslot.queries.status import under_way
from twinslot.storage.device_key import DeviceKeyFiles
from twinslot.storage.record.record import Record
from twinslot.trust.device_key import open_device_key
from twinslot.trust.kept_roots import CHAIN, NEWEST, read_chain

HISTORY: Final = 50  # updates, as `twinslot history` shows them to any user


# keeps: REQ-AUD-02
def attest(config: Config, nonce: str = "") -> dict[str, Any]:
    """The signed statement, JSON-ready. Only root may.

    Everything is gathered before the key is opened.

    Args:
        config: Of this device.
        nonce: Of whoever asks, hex; empty: none.

    Raises:
        DeviceError: There is no device key, or it cannot sign.
    """
    files = DeviceKeyFiles(config.record.directory, config.device.key)
    public = files.public()
    with look(config) as view:
        said = _said(config, view, public) | {"nonce": nonce}
        running = view.facts.holds(view.facts.running)
    said["anomalies"] = _anomalies(config)
    key = open_device_key(files)
    named = (running.release.name, running.release.manifest) if running and running.release.manifest else None
    return sign(KIND, attested(said, key.public.fingerprint, named), key.public, key.sign).as_dict()


def _said(config: Config, view: View, public: PublicPart | None) -> dict[str, Any]:
    facts = view.facts
    history = view.record.history(HISTORY) if view.record else []
    device = config.device
    return {
        "at": timestamp(utc_now()),
        "audit": _audit(view),
        "boot": facts.boot_id,
        "client": twinslot.__version__,
        "device": {
            "compatible": list(device.compatible),
            "fingerprint": public.fingerprint if public else None,
            "hardware": device.hardware,
            "variant": device.variant,
        },
        "failed": {str(sequence): reason for sequence, reason in (facts.record.failed if facts.record else {}).items()},
        "fallback": facts.fallback.as_dict(),
        "floors": stored.write(facts.floors),
        "history": [_update(each) for each in history],
        "roots": _roots(config, view),
        "running": facts.running,
        "slots": {str(name): _slot(view, name) for name in SlotName},
        "state": under_way(facts),
    }


def _slot(view: View, name: SlotName) -> dict[str, Any]:
    facts, known = view.facts, view.facts.holds(name)
    told: dict[str, Any] = {"state": facts.state.states[name] if facts.state else None}
    if known is None:
        return told | {"release": None}
    dates = {key: getattr(known, key) or None for key in ("installed_at", "read_at", "started_at", "unsound")}
    payloads = {payload: each.digest for payload, each in known.payloads.items()}
    return told | {"release": stored.write(known.release), "payloads": payloads} | dates


def _update(update: Transaction) -> dict[str, Any]:
    """What ran, or was to: without what a client of another version keeps of it."""
    texts = {key: getattr(update, key) for key in ("id", "kind", "started", "ended", "reason", "forced")}
    words = {"outcome": update.outcome, "state": update.state, "target": update.target}
    return texts | words | {"release": update.release.name, "sequence": update.release.sequence}


def _roots(config: Config, view: View) -> dict[str, Any]:
    """SHA-256 of the root that was built in and of those that the record keeps, which are walked from it each time."""
    try:
        built_in = hashlib.sha256(config.trust.root.read_bytes()).hexdigest()
    except OSError:
        built_in = None
    kept: tuple[bytes, ...] = ()
    if view.record is not None:
        kept = read_chain(view.record.document(CHAIN), view.record.document(NEWEST))
    return {"built_in": built_in, "kept": [hashlib.sha256(root).hexdigest() for root in kept]}


def _audit(view: View) -> dict[str, Any] | None:
    """Where it ends; None: only root can read it."""
    if not isinstance(view.record, Record):
        return None
    rows = view.record.audit_rows(1_000_000)
    state = view.facts.state
    return {
        "anchor": state.anchor.text if state and state.anchor else None,
        "breaks": sum(row.event == AuditEvent.AUDIT_BROKEN for row in rows),
        "end": view.record.audit_end().text,
        "holds": view.record.first_broken_link() is None,
    }


def _anomalies(config: Config) -> list[dict[str, str]]:
    """What `doctor` finds."""
    try:
        findings = doctor(config).findings
    except DeviceError as e:
        return [{"name": "doctor", "severity": str(Severity.FAULT), "text": str(e)}]
    bad = [each for each in findings if each.severity is not Severity.FINE]
    return [{"name": each.name, "severity": str(each.severity), "text": each.text} for each in bad]
