"""What a device signs about the chain of its audit: seals, checkpoints, and the end of an export. Pure.

Each is a statement of its own kind (`core.envelope`), so that none is ever taken for another:

- A **seal** is a row of the chain that says, signed, where the chain ended before it. Whoever rewrites rows without
  the key cannot make the seals behind them.
- A **checkpoint** stands for all rows up to one that were pruned.
- The **end** closes an export: number and hash of its last row, and what the boot environment says (S25).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from twinslot.core.audit_chain import FIRST_LINK, NUMBER_MAX, ChainEnd
from twinslot.core.envelope import DeviceStatement
from twinslot.core.errors import ImageError
from twinslot.core.fields import Fields, form

SEAL: Final = "application/vnd.twinslot.audit-seal+json"
CHECKPOINT: Final = "application/vnd.twinslot.audit-checkpoint+json"
EXPORT_END: Final = "application/vnd.twinslot.audit-end+json"
AUDIT_SECTION: Final = "audit"  # in errors, and their code: `image.audit`
_LINK: Final = form(r"[0-9a-f]{64}", "64 hex digits")
_TEXT: Final = form(r"[^\x00-\x1f\x7f]{0,200}", "at most 200 characters")


@dataclass(frozen=True, slots=True)
class ExportEnd:
    """What an export says of itself.

    Attributes:
        end: Number and hash of its last row.
        anchor: The end that the boot environment had at that moment; None: none, or it could not be read.
        at: By the device's clock (S16).
        device: Fingerprint of the device key.
        client: Version of the client that made it.
    """

    end: ChainEnd
    anchor: ChainEnd | None
    at: str
    device: str
    client: str

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        told = {"anchor": self.anchor.text if self.anchor else None, "at": self.at, "client": self.client}
        return end_statement(self.end) | told | {"device": self.device}


def end_statement(end: ChainEnd) -> dict[str, Any]:
    """Of a seal or a checkpoint: where the chain ended."""
    return {"hash": end.hash, "number": end.number}


def read_end(signed: DeviceStatement) -> ChainEnd:
    """Where the chain ended, by a seal or a checkpoint.

    Raises:
        ImageError: `image.audit`, `image.json`, `image.not-canonical`.
    """
    return _end(Fields(signed.said(AUDIT_SECTION), "", ("hash", "number"), AUDIT_SECTION, extensible=True))


def read_export_end(signed: DeviceStatement) -> ExportEnd:
    """What an export says of itself.

    Raises:
        ImageError: As for `read_end`.
    """
    said: Mapping[str, Any] = signed.said(AUDIT_SECTION)
    fields = Fields(said, "", ("anchor", "at", "client", "device", "hash", "number"), AUDIT_SECTION, extensible=True)
    anchor = None
    if fields.get("anchor") is not None:
        anchor = read_anchor(str(fields.get("anchor")))
    texts = {key: fields.text(key, _TEXT) for key in ("at", "client")}
    return ExportEnd(_end(fields), anchor, device=fields.text("device", _LINK), **texts)


def read_anchor(text: str) -> ChainEnd:
    """An end as `ChainEnd.text` has it.

    Raises:
        ImageError: `image.audit`.
    """
    anchor = ChainEnd.parse(text)
    if anchor is None:
        raise ImageError(
            "this is no end of an audit",
            code=AUDIT_SECTION,
            expected="a number and 64 hex digits, joined by a hyphen",
            found=text[:100],
        )
    return anchor


def _end(fields: Fields) -> ChainEnd:
    end = ChainEnd(fields.integer("number", 0, NUMBER_MAX), fields.text("hash", _LINK))
    if (end.number == 0) != (end.hash == FIRST_LINK):
        raise fields.bad("number", "0 with the first link alone", end.text)
    return end
