"""What is of an image must be of this image: each check has a reason against the file, or none."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from twinslot.core.errors import Refusal
from twinslot_image.dossier.image_part import ImagePart
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
    """A statement has this image's manifest, or a payload of it, among its subjects.

    Raises:
        ImageError: `image.evidence`: it is no statement.
    """
    ours = {image.digest, *(payload.digest for payload in image.manifest.payloads)}
    whole = parse_json(data, path, _STATEMENT)
    with reading(path, _STATEMENT):
        subjects = json.loads(base64.b64decode(whole["payload"], validate=True))["subject"]
        found = {text(each["digest"].get("sha256", "")) for each in subjects}
    if ours & found:
        return None
    what = f"the provenance '{path.name}' is of another image"
    return Refusal(_CODE, what, image.digest, ", ".join(sorted(found)))


# keeps: REQ-EVI-03
def other_deployment(image: ImagePart, path: Path, data: bytes) -> Refusal | None:
    """What is deployed names the manifest of this image, signatures included, as a repository does."""
    digest = image.manifest.digest
    if digest.encode() in data:
        return None
    what = f"the deployment '{path.name}' does not offer this image"
    return Refusal(_CODE, what, digest, "another digest, or none")
