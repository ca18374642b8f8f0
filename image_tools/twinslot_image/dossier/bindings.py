"""What is of an image must be of this image: each check has a reason against the file, or none."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from securesystemslib.signer import Signature  # type: ignore[attr-defined]

from twinslot.core.errors import Refusal
from twinslot_image.dossier.image_part import ImagePart
from twinslot_image.dsse import PAYLOAD_TYPE, encoding, is_signed
from twinslot_image.evidence_file import parse_json, reading, text

_STATEMENT: Final = "an in-toto statement in a DSSE envelope"
_CODE: Final = "other-image"


# keeps: REQ-EVI-03
def other_bill(image: ImagePart, path: Path, bill: Mapping[str, Any]) -> Refusal | None:
    """A bill of materials names the SHA-256 of what it is of: a payload of this image."""
    subject = bill["metadata"]["component"]
    hashes = {text(each["content"]) for each in subject.get("hashes", [])}
    payloads = [payload.digest for payload in image.manifest.payloads]
    if hashes & {*payloads}:
        return None
    found = ", ".join(sorted(hashes)) or f"{text(subject['name'])}, without a digest"
    what, hint = f"the bill of materials '{path.name}' is of another image", "make it of this image's payload"
    return Refusal(_CODE, what, ", ".join(payloads), found, hint)


# keeps: REQ-EVI-03
def other_provenance(image: ImagePart, path: Path, data: bytes) -> Refusal | None:
    """A statement has this image's manifest, or a payload of it, among its subjects, and a key of a role signed it.

    What is attached to the image may be signed by others, as build services do: the manifest's signatures cover it.

    Raises:
        ImageError: `image.evidence`: it is no statement.
    """
    ours = {image.digest, *(payload.digest for payload in image.manifest.payloads)}
    whole = parse_json(data, path, _STATEMENT)
    with reading(path, _STATEMENT):
        subjects = json.loads(base64.b64decode(whole["payload"], validate=True))["subject"]
        found = {text(each["digest"].get("sha256", "")) for each in subjects}
        attached = path.parts[0] == "image" and path.name in image.attachments
        signed = attached or _is_by_a_role(image, whole)
    if not ours & found:
        what = f"the provenance '{path.name}' is of another image"
        return Refusal(_CODE, what, image.digest, ", ".join(sorted(found)))
    if signed:
        return None
    what, hint = f"the provenance '{path.name}' is signed by no key of the image's roles", "have it signed anew: "
    hint += "'twinslot-image provenance'; what a build service signed is attached to the image"
    return Refusal("bad-signature", what, ", ".join(role["role"] for role in image.described["roles"]), hint=hint)


def _is_by_a_role(image: ImagePart, envelope: Mapping[str, Any]) -> bool:
    """Whoever wrote the envelope, and however it names its keys."""
    covered = encoding(base64.b64decode(envelope["payload"], validate=True))
    made = [base64.b64decode(each["sig"], validate=True).hex() for each in envelope["signatures"]]
    roles = [role["role"] for role in image.described["roles"]]
    keys = {id_: key for role in roles for id_, key in image.keys(role).items()}
    return envelope["payloadType"] == PAYLOAD_TYPE and any(
        is_signed(key, Signature(id_, signature), covered) for id_, key in keys.items() for signature in made
    )


# keeps: REQ-EVI-03
def other_deployment(image: ImagePart, path: Path, data: bytes) -> Refusal | None:
    """What is deployed names the manifest of this image, signatures included, as a repository does."""
    digest = image.manifest.digest
    if digest.encode() in data:
        return None
    what = f"the deployment '{path.name}' does not offer this image"
    return Refusal(_CODE, what, digest, "another digest, or none")
