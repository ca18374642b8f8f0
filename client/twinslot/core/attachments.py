"""What kinds of documents come with a release. A reader takes any other word too: later versions may know more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

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
