"""in-toto statements in DSSE envelopes: a document that is signed together with its type.

Sources: in-toto Attestation Framework, Statement v1; DSSE, protocol 1.0.2 and envelope 1.0.0. What is
written here has one form (`twinslot.core.canonical`), so that the same statement by the same key is the same bytes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import FormatError, UnverifiedSignatureError, VerificationError
from securesystemslib.signer import CryptoSigner, Signature, SSlibKey  # type: ignore[attr-defined]

from twinslot.core.canonical import encode, parse_document
from twinslot.core.errors import ImageError
from twinslot.core.fields import Fields, form

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
ENVELOPE_MAX: Final = 16 * 1024 * 1024  # bytes
SIGNATURES_MAX: Final = 32
_SUBJECTS_MAX: Final = 4096
_NOT_PRINTED: Final = r"\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069"  # controls; what turns a line around (UAX 9, 2)


def printed(most: int) -> re.Pattern[str]:
    """The form of a text that a person signs or is asked to read: never blank, and what is printed is what it says."""
    words = f"1 to {most} characters, one of them not blank, none of them a control character"
    return form(rf"(?=.*\S)[^{_NOT_PRINTED}]{{1,{most}}}", words)


TEXT: Final = printed(2000)


@dataclass(frozen=True, slots=True)
class ResourceDescriptor:
    """What a statement is about: a name, and the SHA-256 of its bytes in hex."""

    name: str
    digest: str

    def as_dict(self) -> dict[str, object]:
        """As it stands in a statement."""
        return {"digest": {"sha256": self.digest}, "name": self.name}


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement; `predicate` is of the form that `predicate_type` names."""

    subjects: tuple[ResourceDescriptor, ...]
    predicate_type: str
    predicate: Mapping[str, Any]

    def encode(self) -> bytes:
        """Its one form."""
        return encode(
            {
                "_type": STATEMENT_TYPE,
                "predicate": self.predicate,
                "predicateType": self.predicate_type,
                "subject": [subject.as_dict() for subject in self.subjects],
            }
        )


@dataclass(frozen=True, slots=True)
class SignedStatement:
    """A statement as it was found in an envelope; who signed is not known before `signers` is asked."""

    statement: Statement
    payload: bytes
    signatures: tuple[Signature, ...]

    def signers(self, keys: Mapping[str, SSlibKey]) -> tuple[str, ...]:
        """Ids of those of the keys whose signature is good."""
        covered = encoding(self.payload)
        found = []
        for signature in self.signatures:
            key = keys.get(signature.keyid)
            if key is not None and is_signed(key, signature, covered):
                found.append(signature.keyid)
        return tuple(found)


def encoding(payload: bytes) -> bytes:
    """What a signature covers: payload type and payload, with their lengths."""
    return Envelope(payload, PAYLOAD_TYPE, {}).pae()


def is_signed(key: Any, signature: Signature, covered: bytes) -> bool:
    """Whether a signature is by this key, over these bytes."""
    try:
        key.verify_signature(signature, covered)
    except (UnverifiedSignatureError, VerificationError, ValueError):  # the last: it is none of such a key
        return False
    return True


def sign_statement(statement: Statement, signers: Iterable[CryptoSigner]) -> bytes:
    """The envelope of a statement, signed by each of them."""
    payload = statement.encode()
    return enclose(payload, [signer.sign(encoding(payload)) for signer in signers])


def enclose(payload: bytes, signatures: Iterable[Signature]) -> bytes:
    """The envelope of a statement that was signed already, in its one form."""
    ordered = sorted(signatures, key=lambda each: str(each.keyid))
    return encode(Envelope(payload, PAYLOAD_TYPE, {each.keyid: each for each in ordered}).to_dict())


def open_envelope(data: bytes, section: str) -> SignedStatement:
    """The statement in an envelope, well-formed; its signatures are not verified.

    Args:
        data: The envelope.
        section: What it is, for errors; their code, too.

    Raises:
        ImageError: `image.<section>`, `image.json`, `image.not-canonical`: not an envelope, or not of a statement.
    """
    if len(data) > ENVELOPE_MAX:
        raise ImageError(
            f"the '{section}' is longer than an envelope may be", code=section, expected=f"at most {ENVELOPE_MAX} bytes"
        )
    whole = Fields(parse_document(data, section), "", ("payload", "payloadType", "signatures"), section)
    whole.choice("payloadType", (PAYLOAD_TYPE,))
    whole.objects("signatures", SIGNATURES_MAX)
    try:
        envelope = Envelope.from_dict(parse_document(data, section))
    except (FormatError, KeyError, ValueError, TypeError, AttributeError) as e:
        raise whole.bad("signatures", "signatures with 'keyid' and 'sig' in base64", "something else") from e
    return SignedStatement(
        parse_statement(envelope.payload, section), envelope.payload, tuple(envelope.signatures.values())
    )


def parse_statement(payload: bytes, section: str) -> Statement:
    """A statement from its bytes.

    Raises:
        ImageError: `image.<section>`, `image.json`, `image.not-canonical`.
    """
    fields = Fields(parse_document(payload, section), "", ("_type", "predicate", "predicateType", "subject"), section)
    fields.choice("_type", (STATEMENT_TYPE,))
    subjects = fields.objects("subject", _SUBJECTS_MAX)
    predicate = fields.get("predicate")
    if not isinstance(predicate, dict):
        raise fields.bad("predicate", "object", predicate)
    return Statement(
        tuple(parse_subject(value, f"subject.{index}", section) for index, value in enumerate(subjects)),
        fields.text("predicateType", TEXT),
        predicate,
    )


def parse_subject(value: object, where: str, section: str) -> ResourceDescriptor:
    """One subject, or another document that is named with its digest."""
    fields = Fields(value, where, ("digest", "name"), section)
    digest = Fields(fields.get("digest"), f"{where}.digest", ("sha256",), section)
    return ResourceDescriptor(fields.text("name", TEXT), digest.digest("sha256"))


def digest_of(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()
