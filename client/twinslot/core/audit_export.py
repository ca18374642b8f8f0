"""An audit as a file, and whether it is what the device wrote: the one verifier, for device and office. Pure.

One JSON object a line (docs/guide-audit.md has the format): the head, each row with the text that its hash covers, and
last the signed end. All that can be done to such a file without the device's key is told, each with its own code:

| code | what was done |
|---|---|
| `audit-changed` | a row has other content than when it was written |
| `audit-cut` | rows are missing in the middle, or at the beginning without a checkpoint |
| `audit-reordered` | rows stand in another order, or twice |
| `audit-cut-off` | rows are missing at the end, or the signed end itself |
| `audit-added` | rows stand behind the signed end |
| `audit-rewritten` | the rows fit each other, but not what the device signed or anchored |
| `audit-other-device` | it is another device's |
| `audit-signature` | nobody's signature fits |
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from twinslot.core.audit_chain import NOTHING, Break, ChainEnd, ChainRow, first_break
from twinslot.core.audit_statements import (
    AUDIT_SECTION,
    CHECKPOINT,
    EXPORT_END,
    SEAL,
    read_end,
    read_export_end,
)
from twinslot.core.canonical import encode
from twinslot.core.device_key import PublicPart
from twinslot.core.envelope import DeviceStatement, Verifies, loads, read_statement
from twinslot.core.errors import DeviceError, ImageError, Refusal, RefusedError
from twinslot.core.events import AuditEvent
from twinslot.core.fields import Fields, form

FORMAT: Final = "twinslot-audit-1"
LINE_MAX: Final = 1 << 20  # bytes of one line; a row is some 500
ROWS_MAX: Final = 1_000_000
_TEXT: Final = form(r"(?s).{0,1000}", "at most 1000 characters")
_LINK: Final = form(r"[0-9a-f]{64}", "64 hex digits")
_BODY: Final = form(r"(?s).*", "text")


@dataclass(frozen=True, slots=True)
class AuditExport:
    """An export as it was read; nothing of it is verified.

    Attributes:
        public: The key that it names as the device's.
        checkpoint: For the rows before the first; None: it begins with the first of all.
        rows: In the order in which they stand.
        signed: The signed end; None: it is not there.
    """

    public: PublicPart
    checkpoint: DeviceStatement | None
    rows: tuple[ChainRow, ...]
    signed: DeviceStatement | None


@dataclass(frozen=True, slots=True)
class AuditVerdict:
    """What a verified export comes to.

    Attributes:
        device: Fingerprint of the key that vouches for it.
        first: Number of the first row that is there.
        end: The signed end.
        at: When it was made, by the device's clock.
        anchor: What the boot environment had.
        checkpoint: The end that stands for the rows before the first; None: all rows are there.
        sealed: Number of the last row that a seal of this key stands behind; 0: none.
        foreign_seals: Seals by keys that were not given: nothing follows from them.
        breaks: Rows in which the device itself tells that its audit had been lost or changed.
    """

    device: str
    first: int
    end: ChainEnd
    at: str
    anchor: ChainEnd | None
    checkpoint: ChainEnd | None
    sealed: int
    foreign_seals: int
    breaks: tuple[ChainRow, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        ends = {name: getattr(self, name).text if getattr(self, name) else None for name in ("anchor", "checkpoint")}
        told = [{"number": row.number, "at": row.at, "fields": _body(row)} for row in self.breaks]
        head = {"device": self.device, "rows": self.end.number - self.first + 1, "first": self.first}
        seals = {"sealed": self.sealed, "foreign_seals": self.foreign_seals}
        return head | {"end": self.end.text, "at": self.at} | ends | seals | {"breaks": told}


# Writing


def head_line(public: PublicPart, checkpoint: DeviceStatement | None) -> bytes:
    """The first line."""
    before = checkpoint.as_dict() if checkpoint else None
    return encode({"checkpoint": before, "format": FORMAT, "public": public.pem}) + b"\n"


def row_line(row: ChainRow) -> bytes:
    """One row."""
    head = {"at": row.at, "body": row.body, "boot": row.boot, "event": row.event}
    return encode(head | {"hash": row.hash, "number": row.number}) + b"\n"


def end_line(signed: DeviceStatement) -> bytes:
    """The last line."""
    return encode(signed.as_dict()) + b"\n"


# Reading


def read_export(lines: Iterable[bytes]) -> AuditExport:
    """Read the lines of a file; bounded by `LINE_MAX` and `ROWS_MAX`.

    Raises:
        ImageError: `image.audit`, `image.json`: it is no export.
    """
    each = iter(lines)
    head = Fields(
        loads(_bounded(next(each, b"")), AUDIT_SECTION), "", ("format", "public"), AUDIT_SECTION, extensible=True
    )
    head.choice("format", (FORMAT,))
    try:
        public = PublicPart.from_pem(head.text("public", _TEXT).encode())
    except DeviceError as e:
        raise head.bad("public", "a public key in PEM", e.found) from e
    before = head.get("checkpoint") if head.has("checkpoint") else None
    checkpoint = read_statement(before, CHECKPOINT, AUDIT_SECTION) if before is not None else None
    rows, signed = _read_rows(each)
    return AuditExport(public, checkpoint, tuple(rows), signed)


def _read_rows(lines: Iterator[bytes]) -> tuple[list[ChainRow], DeviceStatement | None]:
    rows: list[ChainRow] = []
    for line in lines:
        value = loads(_bounded(line), AUDIT_SECTION)
        if isinstance(value, dict) and "payloadType" in value:
            signed = read_statement(value, EXPORT_END, AUDIT_SECTION)
            if next(lines, None) is not None:
                raise ImageError("the audit goes on behind its signed end", code=AUDIT_SECTION)
            return rows, signed
        rows.append(_read_row(value))
        if len(rows) > ROWS_MAX:
            raise ImageError("the audit has too many rows", code=AUDIT_SECTION, expected=f"at most {ROWS_MAX}")
    return rows, None


def _read_row(value: object) -> ChainRow:
    fields = Fields(value, "row", ("at", "body", "boot", "event", "hash", "number"), AUDIT_SECTION, extensible=True)
    texts = {key: fields.text(key, _TEXT) for key in ("at", "boot", "event")}
    number = fields.integer("number", 1, ROWS_MAX << 20)
    return ChainRow(number, body=fields.text("body", _BODY), hash=fields.text("hash", _LINK), **texts)


def _bounded(line: bytes) -> bytes:
    if len(line) > LINE_MAX:
        raise ImageError("a line of the audit is too long", code=AUDIT_SECTION, expected=f"at most {LINE_MAX} bytes")
    return line


# Judging


# keeps: S25
def verify_export(
    export: AuditExport, keys: Sequence[PublicPart], verifies: Verifies, anchors: Sequence[ChainEnd] = ()
) -> AuditVerdict:
    """Whether an export is what the device with one of these keys wrote, whole and in order.

    Args:
        export: As it was read.
        keys: Public parts of the device's key, as the office has them; several where it was replaced.
        verifies: Whether a key signed something.
        anchors: Ends that the office knows from before: of reports, attestations or exports.

    Raises:
        RefusedError: `refused.audit-*`: see above.
        ImageError: `image.audit`: a statement in it is malformed.
    """
    if export.signed is None:
        raise _refused(
            "audit-cut-off", "the audit ends without its signed end", "the end that the device signed", "nothing"
        )
    key = _signer(export.signed, export.public, keys, verifies, "the end of the audit")
    told = read_export_end(export.signed)
    start = _start(export, keys, verifies)
    _require_chain(export.rows, start, told.end)
    breaks = tuple(row for row in export.rows if row.event == AuditEvent.AUDIT_BROKEN)
    before = max(map(_lost_up_to, breaks), default=0)
    for anchor, whose in [*((each, "the office") for each in anchors), (told.anchor, "the boot environment")]:
        if anchor is not None and anchor.number > before:
            _require_anchor(export.rows, start, anchor, whose)
    sealed, foreign = _seals(export.rows, keys, verifies)
    return AuditVerdict(
        device=key.fingerprint,
        first=start.number + 1,
        end=told.end,
        at=told.at,
        anchor=told.anchor,
        checkpoint=start if export.checkpoint else None,
        sealed=sealed,
        foreign_seals=foreign,
        breaks=breaks,
    )


def _lost_up_to(row: ChainRow) -> int:
    """What is known of rows up to this number is known of others, and the device says so itself in this row."""
    lost = ChainEnd.parse(str(_body(row).get("anchor")))
    return lost.number if lost else 0


def _signer(
    signed: DeviceStatement, named: PublicPart, keys: Sequence[PublicPart], verifies: Verifies, what: str
) -> PublicPart:
    """The key of the office's that signed."""
    found = next((key for key in keys if signed.is_by(key, verifies)), None)
    if found is not None:
        return found
    expected = ", ".join(key.fingerprint for key in keys)
    if signed.is_by(named, verifies):
        raise _refused("audit-other-device", f"{what} is signed by another device", expected, named.fingerprint)
    raise _refused(
        "audit-signature", f"the signature of {what} does not fit", f"one by {expected}", f"one that names {signed.key}"
    )


def _start(export: AuditExport, keys: Sequence[PublicPart], verifies: Verifies) -> ChainEnd:
    if export.checkpoint is None:
        return NOTHING
    _signer(export.checkpoint, export.public, keys, verifies, "the checkpoint")
    return read_end(export.checkpoint)


def _require_chain(rows: Sequence[ChainRow], start: ChainEnd, signed: ChainEnd) -> None:
    broken = first_break(rows, start, signed)
    if broken is not None:
        raise _broken(broken)
    end = rows[-1].end if rows else start
    if end == signed:
        return
    if end.number < signed.number:
        raise _refused("audit-cut-off", "rows of the audit are missing at its end", signed.text, end.text)
    if end.number > signed.number:
        raise _refused("audit-added", "rows stand behind the signed end of the audit", signed.text, end.text)
    raise _refused("audit-rewritten", "the audit is not the one whose end was signed", signed.text, end.text)


def _broken(broken: Break) -> RefusedError:
    expected, found = "each row follows from the row before it", f"row {broken.number} does not: {broken.found}"
    if broken.kind == "cut":
        return _refused("audit-cut", "rows of the audit are missing", expected, found)
    if broken.kind == "reordered":
        return _refused("audit-reordered", "rows of the audit stand in another order", expected, found)
    return _refused("audit-changed", "a row of the audit was changed", expected, found)


def _require_anchor(rows: Sequence[ChainRow], start: ChainEnd, anchor: ChainEnd, whose: str) -> None:
    """What somebody else kept of the chain must be a part of it."""
    if anchor.number < start.number:  # in what the checkpoint stands for
        return
    known = start.hash if anchor.number == start.number else ""
    if anchor.number > start.number:
        known = rows[anchor.number - start.number - 1].hash if anchor.number - start.number <= len(rows) else ""
    if known == anchor.hash:
        return
    expected = f"row {anchor.number} with the hash that {whose} has"
    if not known:
        end = rows[-1].number if rows else start.number
        raise _refused("audit-cut-off", "rows of the audit are missing at its end", expected, f"{end} rows")
    raise _refused("audit-rewritten", f"the audit is not the one that {whose} knows", expected, known)


def _seals(rows: Sequence[ChainRow], keys: Sequence[PublicPart], verifies: Verifies) -> tuple[int, int]:
    """Number of the last row that a seal vouches for, and how many seals are by keys that were not given."""
    sealed = foreign = 0
    known = {key.fingerprint: key for key in keys}
    for before, row in pairwise(rows):
        if row.event != AuditEvent.SEALED:
            continue
        signed = _seal(row)
        if signed is None or signed.key not in known:
            foreign += 1
        elif signed.is_by(known[signed.key], verifies) and read_end(signed) == before.end:
            sealed = before.number
        else:
            found = f"the seal in row {row.number} is of other rows"
            raise _refused(
                "audit-rewritten",
                "the audit is not the one that the device sealed",
                "a seal over the rows before it",
                found,
            )
    return sealed, foreign


def _seal(row: ChainRow) -> DeviceStatement | None:
    """The seal in a row; None: there is none that could be one."""
    try:
        return read_statement(_body(row).get("seal"), SEAL, AUDIT_SECTION)
    except ImageError:
        return None


def _body(row: ChainRow) -> dict[str, Any]:
    """The fields of a row; none where the text is no JSON object."""
    try:
        body = json.loads(row.body)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _refused(code: str, message: str, expected: str, found: str) -> RefusedError:
    hint = "keep the file and the device as they are: somebody may have changed what it wrote"
    return RefusedError(Refusal(code, message, expected, found, hint))
