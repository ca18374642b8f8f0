"""Reports of devices as a maker has them: files, whoever collected them. Read, verified, put in order.

Rules:

1. A file is one envelope. It counts when its signature is by the key that it names itself, and that key is one of those
   that are known, where some are: `--keys` names public parts as the factory noted them.
2. The same report twice is one, by its id. Two keys with one device id are told: a disk was copied, or somebody
   pretends.
3. Rows follow each other by their hashes, within a report and from one to the next. Where they do not, rows were lost
   on the way, left out by the device for want of room, or changed: each is told.
4. Nothing in a report is believed beyond who said it; whatever is shown is bounded and has no control characters.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from twinslot.core.device_key import PublicPart
from twinslot.core.envelope import DeviceStatement, loads, read_statement
from twinslot.core.errors import DeviceError, ImageError, TwinslotError
from twinslot.core.report import FORMAT, PAYLOAD_TYPE
from twinslot.core.text import printable
from twinslot.trust.audit_file import read_public
from twinslot.trust.device_key import verifies

FILE_MAX: Final = 1 << 20  # bytes
COUNT_MAX: Final = 1 << 53  # what every reader of JSON keeps exactly (RFC 8259, section 6)
AHEAD: Final = timedelta(days=1)  # that a device's clock may be before ours
TEXT_MAX: Final = 200  # characters of anything that is shown
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """One report whose signature holds.

    Attributes:
        id: Alike for one that was sent twice.
        key: Fingerprint of the key that signed it.
        known: The key is one of those that are known.
        at: When it was made, by the device's clock.
        device: Who says so.
        status: What runs there.
        rows: Of the audit, ascending.
        before: Hash of the row before them; empty: not said.
        dropped: Rows that the device left out.
        updates: More of those that ended.
        telemetry: Figures.
    """

    id: str
    key: str
    known: bool
    at: datetime
    device: Mapping[str, Any]
    status: Mapping[str, Any]
    rows: tuple[Mapping[str, Any], ...]
    before: str
    dropped: int
    updates: tuple[Mapping[str, Any], ...]
    telemetry: Mapping[str, Any]


@dataclass
class DeviceHistory:
    """All reports of one key, oldest first.

    Attributes:
        key: Its fingerprint.
        reports: In the order of their rows, then of their times.
        broken: Sentences: where rows do not follow each other.
    """

    key: str
    reports: list[DeviceReport] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def newest(self, now: datetime) -> DeviceReport:
        """The report that was made last; one from a time to come, by a clock that was wrong, only without others."""
        return max(self.reports, key=lambda each: (each.at <= now + AHEAD, each.at))


@dataclass
class Collected:
    """What was found.

    Attributes:
        devices: By fingerprint.
        refused: Files that are no reports, or whose signature does not hold, with the reason.
        twice: How many files held a report that another one held as well.
    """

    devices: dict[str, DeviceHistory] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    twice: int = 0


def known_keys(places: Iterable[Path]) -> dict[str, PublicPart]:
    """Public parts by fingerprint, from PEM files and directories of them.

    Raises:
        DeviceError: `device.report-key`: a file holds none, or cannot be read; `device.report-files`: it is not there.
    """
    found = {}
    for path in _files(places, ".pem", ".pub"):
        try:
            part = read_public(path)
        except DeviceError as e:
            what = f"'{path}' holds no public part of a device key"
            raise DeviceError(what, code="report-key", found=e.found, hint=e.hint) from e
        found[part.fingerprint] = part
    return found


def collect(places: Iterable[Path], keys: Mapping[str, PublicPart]) -> Collected:
    """Every report below these places.

    Args:
        places: Files and directories.
        keys: Those that are known; empty: any key counts, and none is known.
    """
    collected, seen = Collected(), set()
    for path in _files(places, ".json"):
        try:
            report = read_report(path, keys)
        except TwinslotError as e:
            collected.refused[str(path)] = printable(e.message) + (f": {printable(e.found)}" if e.found else "")
            continue
        if (report.key, report.id) in seen:
            collected.twice += 1
            continue
        seen.add((report.key, report.id))
        collected.devices.setdefault(report.key, DeviceHistory(report.key)).reports.append(report)
    for history in collected.devices.values():
        history.reports.sort(key=lambda each: (each.rows[0]["number"] if each.rows else 0, each.at))
        history.broken = list(_breaks(history.reports))
    return collected


def _files(places: Iterable[Path], *endings: str) -> Iterator[Path]:
    """Raises `device.report-files`."""
    for place in places:
        if place.is_dir():
            yield from sorted(path for path in place.rglob("*") if path.suffix in endings and path.is_file())
        elif place.is_file():
            yield place
        else:
            raise DeviceError(f"'{place}' is not there", code="report-files", hint="name files or directories")


def read_report(path: Path, keys: Mapping[str, PublicPart]) -> DeviceReport:
    """One file.

    Raises:
        DeviceError: `device.report`: it is no report, or its signature does not hold.
    """
    try:
        with path.open("rb") as file:
            data = file.read(FILE_MAX + 1)
    except OSError as e:
        raise DeviceError(f"'{path}' cannot be read", code="report-files", found=e.strerror) from e
    if len(data) > FILE_MAX:
        raise _bad("it is too long", f"at most {FILE_MAX} bytes")
    statement = _opened(data)
    try:
        document = json.loads(statement.payload)
        json.dumps(document, ensure_ascii=False, allow_nan=False).encode()  # nothing but Unicode and finite numbers
        public = PublicPart.from_pem(str(document["device"]["public"]).encode())
        report = _report(document, public.fingerprint, public.fingerprint in keys)
    except (DeviceError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as e:
        found = f"no '{e.args[0]}'" if isinstance(e, KeyError) else "other fields, or of other kinds"
        raise _bad("it holds no report", found=found) from e
    if statement.key != public.fingerprint or not statement.is_by(public, verifies):
        raise _bad("its signature does not hold", "a signature by the key that it names", "another one")
    if keys and public.fingerprint not in keys:
        raise _bad("its key is not known", "a key that '--keys' names", public.fingerprint)
    return report


def _opened(data: bytes) -> DeviceStatement:
    try:
        return read_statement(loads(data, "report"), PAYLOAD_TYPE, "report")
    except ImageError as e:
        raise _bad("it is no signed report", e.expected, e.found or e.message) from e


# keeps: REQ-REP-07
def _report(document: Mapping[str, Any], key: str, known: bool) -> DeviceReport:
    """Raises KeyError, TypeError, ValueError or AttributeError: it is none.

    Whatever is done with a report later relies on what is asked for here: one report that cannot be used must not keep
    those of all other devices from being read.
    """
    if document["format"] != FORMAT:
        raise ValueError("another format")
    at = datetime.strptime(document["at"], _TIME).replace(tzinfo=UTC)
    rows = tuple(_row(row) for row in document["rows"])
    return DeviceReport(
        id=str(document["id"])[:64],
        key=key,
        known=known,
        at=at,
        device=dict(document["device"]),
        status=dict(document["status"]),
        rows=rows,
        before=str(document["before"]),
        dropped=_count(document["dropped"]),
        updates=tuple(_update(each) for each in document["updates"]),
        telemetry=dict(document["telemetry"]),
    )


def _row(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "number": _count(row["number"]),
        "at": str(row["at"]),
        "boot": str(row["boot"]),
        "event": str(row["event"]),
        "hash": str(row["hash"]),
        "fields": dict(row["fields"]) if "fields" in row else None,
    }


def _count(value: object) -> int:
    """Raises ValueError."""
    if type(value) is not int or not 0 <= value <= COUNT_MAX:
        raise ValueError("no count")
    return value


def _update(update: Mapping[str, Any]) -> Mapping[str, Any]:
    checks = update.get("checks", [])
    return dict(update) | {"checks": [dict(check) for check in checks]}


def _breaks(reports: list[DeviceReport]) -> Iterator[str]:
    """Where rows do not follow each other."""
    number, link = 0, ""
    for report in reports:
        for position, row in enumerate(report.rows):
            first = position == 0
            if row["number"] <= number:  # told again: the device lost the place
                if row["number"] == number and row["hash"] != link:
                    yield f"row {number} came twice and differs"
                continue
            if number and row["number"] != number + 1:
                why = "left out by the device" if report.dropped else "missing"
                yield f"rows {number + 1} to {row['number'] - 1} are {why}"
            elif number and first and report.before and report.before != link:
                yield f"row {row['number']} does not follow the report before it"
            if number and row["number"] == number + 1 and not _follows(link, row):
                yield f"row {row['number']} does not follow row {number}"
            number, link = row["number"], row["hash"]


def _follows(link: str, row: Mapping[str, Any]) -> bool:
    """As storage/record/audit_trail.py chains them; a row that came without its fields cannot be looked at."""
    if row["fields"] is None:
        return True
    body = json.dumps(row["fields"], sort_keys=True)
    text = f"{link}\n{row['at']}\n{row['boot']}\n{row['event']}\n{body}"
    return bool(hashlib.sha256(text.encode()).hexdigest() == row["hash"])


def _bad(what: str, expected: object = None, found: object = None) -> DeviceError:
    return DeviceError(f"this is not counted: {what}", code="report", expected=expected, found=found)
