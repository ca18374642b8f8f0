"""Documents that come with a release: their kinds, which one is wanted, whether it is what was signed.

A reader takes any other word for a kind too: later versions may know more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from twinslot.core.errors import ImageError, Refusal, RefusedError
from twinslot.core.manifest import Attachment, Manifest

SBOM: Final = "sbom"
VEX: Final = "vex"
# Type of attachment -> the media type that the image tool gives it where the description names none.
MEDIA_TYPES: Final[Mapping[str, str]] = {
    # What is new, for whoever decides whether to install.
    "release-notes": "text/markdown",
    # What does not work as it should, and why it may be shipped all the same (IEC 62304, 5.8.3).
    "known-anomalies": "text/markdown",
    # How the device is used with this release.
    "instructions-for-use": "text/markdown",
    # What the release consists of.
    SBOM: "application/vnd.cyclonedx+json",
    # From which sources, by whom and how it was built.
    "provenance": "application/vnd.dsse.envelope.v1+json",
    # Which known vulnerabilities concern it, and which do not.
    VEX: "application/json",
    # Why it was changed: problem reports, and where the risk file speaks of it (IEC 62304, 6.2 and 8.2).
    "change-record": "text/markdown",
    # Who approved it, in what capacity.
    "approvals": "application/vnd.dsse.envelope.v1+json",
}


def find_attachments(manifest: Manifest, wanted: str) -> Attachment:
    """An attachment by its name, or by its type where it is the only one of that.

    Raises:
        RefusedError: `refused.attachment-unknown`.
    """
    by_name = [each for each in manifest.attachments if each.name == wanted]
    found = by_name or [each for each in manifest.attachments if each.type == wanted]
    if len(found) == 1:
        return found[0]
    known = ", ".join(each.name for each in found or manifest.attachments) or "(it has none)"
    what = "the image has no such attachment" if not found else "several attachments of the image are of this type"
    raise RefusedError(Refusal("attachment-unknown", what, known, wanted))


def check_attachment(attachment: Attachment, data: bytes) -> bytes:
    """The content of an attachment, once it is what the manifest says.

    Raises:
        ImageError: `image.attachment`.
    """
    found = hashlib.sha256(data).hexdigest()
    if found != attachment.digest:
        what = f"attachment '{attachment.name}' does not match the manifest"
        raise ImageError(what, code="attachment", expected=attachment.digest, found=found)
    return data


def readable_attachment(manifest: Manifest, wanted: str) -> Attachment:
    """As `find_attachments`, of an image that anybody can read.

    Raises:
        RefusedError: `refused.attachment-unknown`; `refused.encrypted`: only whoever has a key can read it.
    """
    found = find_attachments(manifest, wanted)
    if manifest.encrypted:
        hint = "'twinslot-image extract-attachment --identity' opens it"
        raise RefusedError(Refusal("encrypted", "the image is encrypted, its attachments too", hint=hint))
    return found
