"""An approval: who said what of which release, when, in which capacity, and having looked at what.

A signature of a person in the sense of 21 CFR 11.50(a): the printed name, date and time, and the meaning; and of 11.70:
bound to its record, by the digest of what the manifest's own signatures cover. It is no signature that a device counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from securesystemslib.signer import CryptoSigner, Signature, SSlibKey  # type: ignore[attr-defined]

from twinslot.core.describe import TIME
from twinslot.core.errors import ImageError, Refusal, RefusedError
from twinslot.core.fields import Fields
from twinslot.core.manifest import NAME, RELEASE_NAME, SEQUENCE_MAX, Manifest, parse_manifest
from twinslot_image.dsse import (
    TEXT,
    ResourceDescriptor,
    SignedStatement,
    Statement,
    digest_of,
    enclose,
    encoding,
    is_signed,
    parse_statement,
    parse_subject,
    printed,
    sign_statement,
)
from twinslot_image.key_files import ID_SHOWN
from twinslot_image.signing import role_keys, signed_bytes
from twinslot_image.signing_time import SigningTime, refuse_before

APPROVAL_TYPE: Final = "tag:twinslot.org,2026:approval/1"  # RFC 4151
APPROVAL: Final = "approval"
SUBJECT: Final = "manifest"  # its signed part, whoever signed it since
_PAE: Final = b"DSSEv1 "
_LOOKED_AT_MAX: Final = 256
PERSON: Final = printed(200)


@dataclass(frozen=True, slots=True)
class Approval:
    """What an approval says.

    Attributes:
        manifest: SHA-256 of the manifest's signed part.
        role: In which capacity; one of the image's roles.
        name: The printed name of the signer.
        meaning: Of the signature, such as review, approval, responsibility or authorship.
        signed: When, and by which clock.
        product: Of the release.
        release: Its name.
        sequence: Its sequence.
        looked_at: Documents that the signer looked at.
    """

    manifest: str
    role: str
    name: str
    meaning: str
    signed: SigningTime
    product: str
    release: str
    sequence: int
    looked_at: tuple[ResourceDescriptor, ...]

    def statement(self) -> Statement:
        """As it is signed."""
        predicate = {
            "lookedAt": [each.as_dict() for each in self.looked_at],
            "meaning": self.meaning,
            "name": self.name,
            "release": {"name": self.release, "product": self.product, "sequence": self.sequence},
            "role": self.role,
            "time": self.signed.time.strftime(TIME),
            "timeSource": self.signed.source,
        }
        return Statement((ResourceDescriptor(SUBJECT, self.manifest),), APPROVAL_TYPE, predicate)

    def file_name(self, image: str, key_id: str) -> str:
        """What its file is called beside an image."""
        return f"{image}.{self.role}.{key_id[:ID_SHOWN]}.approval.json"

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready; times in UTC."""
        return {
            "role": self.role,
            "name": self.name,
            "meaning": self.meaning,
            "time": self.signed.time.strftime(TIME),
            "time_source": self.signed.source,
            "release": self.release,
            "sequence": self.sequence,
            "looked_at": [{"name": each.name, "sha256": each.digest} for each in self.looked_at],
        }


def approval_of(
    manifest: bytes, role: str, person: str, meaning: str, signed: SigningTime, looked_at: Iterable[ResourceDescriptor]
) -> Approval:
    """What a person is about to say of a manifest.

    Raises:
        RefusedError: `refused.clock`.
        ImageError: `image.approval`: a name or meaning that cannot be printed.
    """
    parsed = parse_manifest(manifest)
    refuse_before(signed.time, parsed.built)
    made = Approval(
        digest_of(signed_bytes(manifest)),
        role,
        person,
        meaning,
        signed,
        parsed.product,
        parsed.release.name,
        parsed.release.sequence,
        tuple(sorted(set(looked_at), key=lambda each: (each.name, each.digest))),
    )
    return read_approval(made.statement())


def read_approval(statement: Statement) -> Approval:
    """The approval that a statement is.

    Raises:
        ImageError: `image.approval`: it is another statement, or a field is missing or out of its bounds.
    """
    if statement.predicate_type != APPROVAL_TYPE:
        what = "the statement is no approval"
        raise ImageError(what, code=APPROVAL, expected=APPROVAL_TYPE, found=statement.predicate_type[:120])
    keys = ("lookedAt", "meaning", "name", "release", "role", "time", "timeSource")
    fields = Fields(statement.predicate, "predicate", keys, APPROVAL)
    release = Fields(fields.get("release"), "predicate.release", ("name", "product", "sequence"), APPROVAL)
    if [subject.name for subject in statement.subjects] != [SUBJECT]:
        raise fields.bad("subject", f"one, '{SUBJECT}'", [subject.name for subject in statement.subjects])
    looked_at = fields.objects("lookedAt", _LOOKED_AT_MAX)
    return Approval(
        statement.subjects[0].digest,
        fields.text("role", NAME),
        fields.text("name", PERSON),
        fields.text("meaning", TEXT),
        SigningTime(fields.time("time"), fields.text("timeSource", PERSON)),
        release.text("product", RELEASE_NAME),
        release.text("name", RELEASE_NAME),
        release.integer("sequence", 1, SEQUENCE_MAX),
        tuple(parse_subject(each, f"predicate.lookedAt.{at}", APPROVAL) for at, each in enumerate(looked_at)),
    )


# keeps: REQ-EVI-01
def sign_approval(approval: Approval, targets: bytes, signer: CryptoSigner) -> bytes:
    """The envelope with the approval.

    Raises:
        RefusedError: `refused.role-unknown`, `refused.wrong-key`: the key is not one of the role's.
    """
    role_keys(targets, approval.role, signer.public_key.keyid)
    return sign_statement(approval.statement(), [signer])


def bytes_to_sign(approval: Approval) -> bytes:
    """What is signed elsewhere; the approval can be read out of it again."""
    return encoding(approval.statement().encode())


def read_bytes_to_sign(data: bytes) -> tuple[Approval, bytes]:
    """The approval in what was signed elsewhere, and the payload of its envelope.

    Raises:
        ImageError: `image.approval`: it is not what `bytes_to_sign` made.
    """
    payload = data[data.find(b"{") :] if data.startswith(_PAE) else b""
    if not payload or encoding(payload) != data:
        hint = "name the file that '--detached-payload' wrote"
        raise ImageError("the file holds no approval that is to be signed", code=APPROVAL, hint=hint)
    return read_approval(parse_statement(payload, APPROVAL)), payload


def attach_signature(approval: Approval, payload: bytes, targets: bytes, signature: bytes) -> tuple[bytes, str]:
    """The envelope with a signature that was made elsewhere, and the id of the key that made it.

    Raises:
        RefusedError: `refused.role-unknown`, `refused.bad-signature`: it is by none of the role's keys.
    """
    for key_id, key in role_keys(targets, approval.role).items():
        candidate = Signature(key_id, signature.hex())
        if is_signed(key, candidate, encoding(payload)):
            return enclose(payload, [candidate]), key_id
    what, hint = f"the signature was made by no key of role '{approval.role}'", "sign what '--detached-payload' wrote"
    raise RefusedError(Refusal("bad-signature", what, hint=hint))


def refuse_other(approval: Approval, manifest: bytes, parsed: Manifest) -> None:
    """An approval is of one manifest.

    Raises:
        RefusedError: `refused.other-manifest`.
    """
    if approval.manifest != digest_of(signed_bytes(manifest)):
        raise RefusedError(
            Refusal(
                "other-manifest",
                "the approval is of another manifest",
                f"{parsed.product} {parsed.release.name}, sequence {parsed.release.sequence}",
                f"{approval.product} {approval.release}, sequence {approval.sequence}",
                "approve this image",
            )
        )


def judge_approval(signed: SignedStatement, approval: Approval, manifest: bytes, keys: dict[str, SSlibKey]) -> str:
    """Why an approval does not count for this manifest; empty: it does, as far as these keys are to be believed."""
    if approval.manifest != digest_of(signed_bytes(manifest)):
        return "of another manifest"
    if not signed.signers(keys):
        return f"signed by no key of role '{approval.role}'"
    return "dated before the image was built" if approval.signed.time < parse_manifest(manifest).built else ""
