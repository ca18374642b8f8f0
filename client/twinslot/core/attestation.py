"""What a device says of itself, signed: what runs, what ran, what it would go back to, what is wrong. Pure.

An in-toto statement (Attestation Framework, Statement v1) in a DSSE envelope, so that public tools verify it. A
**nonce** of whoever asks shows that it was made for this question; without one only its date says when.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from twinslot.core.device_key import PublicPart
from twinslot.core.envelope import DeviceStatement, Verifies
from twinslot.core.errors import Refusal, RefusedError
from twinslot.core.fields import Fields, form

KIND: Final = "application/vnd.in-toto+json"
STATEMENT: Final = "https://in-toto.io/Statement/v1"
PREDICATE: Final = "tag:twinslot.org,2026:attestation/1"  # RFC 4151
RETIREMENT: Final = "tag:twinslot.org,2026:retirement/1"  # the last one: the device is out of service
ATTESTATION: Final = "attestation"  # section of errors, and their code: `image.attestation`
NONCE: Final = re.compile(r"(?:[0-9a-f]{2}){1,64}", re.ASCII)
_TEXT: Final = form(r"(?s).{0,1000}", "at most 1000 characters")
_RETIRED_KEYS: Final = ("at", "audit", "destroys", "erases", "nonce", "reason")
_KEYS: Final = ("anomalies", "at", "audit", "device", "fallback", "floors", "history", "nonce", "running", "slots")


def attested(
    predicate: Mapping[str, Any], fingerprint: str, running: tuple[str, str] | None, kind: str = PREDICATE
) -> dict[str, Any]:
    """The statement.

    Args:
        predicate: What is said.
        fingerprint: Of the device key: what it is said of.
        running: Name of the release that runs and SHA-256 of its manifest; None: not known.
        kind: Type of the predicate.
    """
    subjects = [{"name": "device", "digest": {"sha256": fingerprint}}]
    subjects += [{"name": running[0], "digest": {"sha256": running[1]}}] if running else []
    return {"_type": STATEMENT, "predicate": predicate, "predicateType": kind, "subject": subjects}


@dataclass(frozen=True, slots=True)
class Attestation:
    """A verified one.

    Attributes:
        device: Fingerprint of the key that signed it.
        said: The predicate.
        retired: It is the receipt of `twinslot retire`.
    """

    device: str
    said: Mapping[str, Any]
    retired: bool = False


# keeps: REQ-AUD-02
def verify_attestation(
    signed: DeviceStatement, keys: Sequence[PublicPart], verifies: Verifies, nonce: str | None = None
) -> Attestation:
    """Whether a device with one of these keys said this, and to this question.

    Args:
        signed: The envelope, as it was read.
        keys: Public parts, as the office has them.
        verifies: Whether a key signed something.
        nonce: What was given to it, hex; None: any time will do.

    Raises:
        RefusedError: `refused.attestation-device`, `attestation-signature`, `attestation-nonce`.
        ImageError: `image.attestation`: it is none.
    """
    key = next((key for key in keys if key.fingerprint == signed.key), None)
    if key is None:
        expected = ", ".join(key.fingerprint for key in keys) or "a key"
        raise _refused("attestation-device", "it is signed by another device", expected, signed.key)
    if not signed.is_by(key, verifies):
        raise _refused(
            "attestation-signature", "the signature does not fit", "the signature of what stands there", "another"
        )
    statement = Fields(signed.said(ATTESTATION), "", ("_type", "predicate", "predicateType", "subject"), ATTESTATION)
    statement.choice("_type", (STATEMENT,))
    retired = statement.choice("predicateType", (PREDICATE, RETIREMENT)) == RETIREMENT
    said = statement.get("predicate")
    fields = Fields(said, "predicate", _RETIRED_KEYS if retired else _KEYS, ATTESTATION, extensible=True)
    found = fields.text("nonce", _TEXT)
    if nonce is not None and found != nonce:
        raise _refused("attestation-nonce", "it answers another question", nonce, found or "none")
    assert isinstance(said, dict)  # `Fields` has seen to it
    return Attestation(key.fingerprint, said, retired)


def _refused(code: str, message: str, expected: str, found: str) -> RefusedError:
    return RefusedError(Refusal(code, message, expected, found, "have the device make another, with a new nonce"))


# Inventory

COLUMNS: Final = (
    "device",
    "at",
    "compatible",
    "hardware",
    "variant",
    "running",
    "release",
    "sequence",
    "epoch",
    "manifest",
    "state",
    "fallback_release",
    "fallback_proven",
    "floor_sequence",
    "floor_epoch",
    "floor_root",
    "audit_end",
    "faults",
    "warnings",
)


def inventory_row(attestation: Attestation) -> dict[str, str | int | None]:
    """One device as asset management lists it, by `COLUMNS`. What is not there is None."""
    said = attestation.said
    running, back = said.get("running"), _at(said, "fallback", "slot")
    anomalies = said.get("anomalies")
    severities = (
        [each.get("severity") for each in anomalies if isinstance(each, dict)] if isinstance(anomalies, list) else []
    )
    compatible = _at(said, "device", "compatible")
    row: dict[str, Any] = {
        "device": attestation.device,
        "at": said.get("at"),
        "compatible": " ".join(map(str, compatible)) if isinstance(compatible, list) else None,
        "hardware": _at(said, "device", "hardware"),
        "variant": _at(said, "device", "variant"),
        "running": running,
        "release": _at(said, "slots", running, "release", "name"),
        "sequence": _at(said, "slots", running, "release", "sequence"),
        "epoch": _at(said, "slots", running, "release", "epoch"),
        "manifest": _at(said, "slots", running, "release", "manifest"),
        "state": "retired" if attestation.retired else said.get("state"),
        "fallback_release": _at(said, "slots", back, "release", "name"),
        "fallback_proven": _at(said, "fallback", "proven"),
        "audit_end": _at(said, "audit", "end"),
        "faults": severities.count("fault"),
        "warnings": severities.count("warning"),
    }
    row |= {f"floor_{name}": _at(said, "floors", name) for name in ("sequence", "epoch", "root")}
    return {name: row[name] if isinstance(row[name], str | int) else None for name in COLUMNS}


def anomalies(attestation: Attestation) -> list[tuple[str, str]]:
    """What the device says is wrong: severity and sentence of each."""
    told = attestation.said.get("anomalies")
    each = [one for one in told if isinstance(one, dict)] if isinstance(told, list) else []
    return [(str(one.get("severity")), str(one.get("text"))) for one in each]


def _at(value: Any, *path: object) -> Any:
    """What stands there; None: nothing."""
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) and isinstance(key, str) else None
    return value
