"""What a role has approved: which release, and for how large a share of the fleet. Pure.

The document is one target of the role, JSON in its one form (docs/image-format.md, section 3):

    {"approvals": [{"at": "2026-12-01T08:00:00Z", "by": "A. Meyer", "manifest": "SHA-256 of the manifest",
      "meaning": "reviewed the pilots' reports", "reach": 10000, "release": "2026.11"}], "format": 1}

`by` and `meaning` may be absent. An approval reaches from the fleet's first device to `reach` millionths: whoever makes
a wave larger afterwards needs another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from twinslot.core.canonical import parse_document
from twinslot.core.fields import Fields, form
from twinslot.core.manifest import RELEASE_NAME
from twinslot.core.waves import WHOLE

APPROVALS_SUFFIX: Final = ".approvals.json"  # of the target's path; before it stands the name of the role
APPROVALS_MAX: Final = 1024  # in one document
APPROVALS_LIMIT: Final = 1 << 20  # bytes of the document
_SECTION: Final = "wave-approvals"
_LINE = form(r"[^\x00-\x1f\x7f]{1,200}", "one line of text")

Reach = Mapping[str, int]  # digest of a manifest -> millionths of the fleet that may have it


@dataclass(frozen=True, slots=True)
class Approval:
    """One approval.

    Attributes:
        manifest: SHA-256 of the release's manifest.
        release: Its name, for people.
        reach: Millionths of the fleet, counted from its first device.
        at: When it was given, by the clock of whoever gave it.
        by: Who; empty: not said.
        meaning: What was looked at; empty: not said.
    """

    manifest: str
    release: str
    reach: int
    at: datetime
    by: str = ""
    meaning: str = ""


def approvals_path(role: str) -> str:
    """Where a role's approvals stand among the targets; no other role may sign for this name."""
    return f"{role}{APPROVALS_SUFFIX}"


def parse_approvals(data: bytes) -> tuple[Approval, ...]:
    """Read the document.

    Raises:
        ImageError: `image.json`, `image.not-canonical`, `image.wave-approvals`: it is not one.
    """
    whole = Fields(parse_document(data, _SECTION), "", ("approvals", "format"), _SECTION, extensible=True)
    whole.integer("format", 1, 1)
    return tuple(_approval(value) for value in whole.objects("approvals", APPROVALS_MAX))


def _approval(value: object) -> Approval:
    keys = ("at", "manifest", "reach", "release")
    fields = Fields(value, "approvals", keys, _SECTION, ("by", "meaning"), extensible=True)
    return Approval(
        manifest=fields.digest("manifest"),
        release=fields.text("release", RELEASE_NAME),
        reach=fields.integer("reach", 1, WHOLE),
        at=fields.time("at"),
        by=fields.text("by", _LINE) if fields.has("by") else "",
        meaning=fields.text("meaning", _LINE) if fields.has("meaning") else "",
    )


def reach_of(approvals: tuple[Approval, ...]) -> dict[str, int]:
    """How far each release is approved, by the digest of its manifest."""
    found: dict[str, int] = {}
    for each in approvals:
        found[each.manifest] = max(each.reach, found.get(each.manifest, 0))
    return found
