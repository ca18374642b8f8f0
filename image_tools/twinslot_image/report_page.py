"""The table of reports as CSV, as JSON and as one HTML page with plots: no script, nothing from elsewhere."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from html import escape
from typing import Any, Final

from twinslot_image.report_table import COLUMNS, DeviceLine, Tabulated
from twinslot_image.svg_plot import bars, steps

_ROWS_MAX: Final = 2000  # devices that the page lists, those that need a look first; the CSV has all
_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #1b1f24;
  background: #fff }
table { border-collapse: collapse; width: 100%; font-size: .85rem }
th, td { text-align: left; padding: .25rem .5rem; border-bottom: 1px solid #d8dee4; vertical-align: top }
.scroll { overflow-x: auto }
.bad { color: #b3261e; font-weight: 600 }
.plots { display: grid; gap: 1.5rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)) }
svg { width: 100%; height: auto }
@media print { body { margin: 0; max-width: none } }
"""


def as_json(table: Tabulated) -> dict[str, Any]:
    """JSON-ready."""
    return {
        "devices": [_plain(line) for line in table.lines],
        "releases": dict(sorted(table.releases.items())),
        "reasons": dict(sorted(table.reasons.items())),
        "silent": [line.key for line in table.lines if line.silent],
        "late": {line.key: line.late for line in table.lines if line.late},
        "recalled": [line.key for line in table.lines if line.recalled],
        "same_id": {device: list(keys) for device, keys in table.twins.items()},
        "broken": {line.key: list(line.broken) for line in table.lines if line.broken},
        "refused": dict(table.refused),
        "twice": table.twice,
    }


def _plain(line: DeviceLine) -> dict[str, Any]:
    return asdict(line) | {"last": _when(line.last), "broken": list(line.broken)}


def as_csv(table: Tabulated) -> str:
    """One line for each device. A cell that a spreadsheet would take for a formula begins with an apostrophe."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(COLUMNS)
    for line in table.lines:
        plain = _plain(line) | {"broken": "; ".join(line.broken)}
        writer.writerow([_cell(plain[column]) for column in COLUMNS])
    return sink.getvalue()


def _cell(value: object) -> str:
    text = ("yes" if value else "no") if isinstance(value, bool) else str(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t") else text


def as_html(table: Tabulated, now: datetime) -> str:
    """The page; everything that a device said is escaped."""
    body = "\n".join(_body(table, now))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>Reports</title><style>{_STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def _body(table: Tabulated, now: datetime) -> Iterator[str]:
    lines = table.lines
    bad = [line for line in lines if needs_a_look(line)]
    yield f"<h1>Reports of {len(lines)} devices</h1><p>As of {_when(now)}.</p>"
    yield _list("Counts", [f"{count} {what}" for what, count in counts(table)])
    yield '<div class="plots">'
    yield bars("Devices by release", sorted(table.releases.items(), key=lambda each: (-each[1], each[0])))
    yield bars("Updates that failed, by reason", sorted(table.reasons.items(), key=lambda each: (-each[1], each[0])))
    yield steps("Updates that ended", _series(table))
    yield "</div>"
    for device, keys in sorted(table.twins.items()):
        yield f'<p class="bad">{escape(device)} is said by {len(keys)} keys: {escape(", ".join(keys))}</p>'
    order = [*bad, *(line for line in lines if not needs_a_look(line))][:_ROWS_MAX]
    yield _devices(order)
    if len(lines) > _ROWS_MAX:
        yield f"<p>{len(lines) - _ROWS_MAX} more devices, none of them with a finding first, are in the CSV file.</p>"
    if table.refused:
        yield _list("Files that do not count", [f"{name}: {why}" for name, why in sorted(table.refused.items())[:200]])


def needs_a_look(line: DeviceLine) -> bool:
    """Whether somebody should look at this device."""
    return bool(line.silent or line.late or line.recalled or line.reason or line.broken)


def counts(table: Tabulated) -> list[tuple[str, int]]:
    """What the table comes to, in words and numbers."""
    lines = table.lines
    return [
        ("devices", len(lines)),
        ("whose last update failed", sum(bool(line.reason) for line in lines)),
        ("silent", sum(line.silent for line in lines)),
        ("without a release whose wave has ended", sum(bool(line.late) for line in lines)),
        ("with a release that is recalled", sum(line.recalled for line in lines)),
        ("ids that several keys use", len(table.twins)),
        ("with rows that do not follow each other", sum(bool(line.broken) for line in lines)),
        ("files that do not count", len(table.refused)),
    ]


def _series(table: Tabulated) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {}
    for moment, _, event, _ in table.ends:
        points = found.setdefault(event, [])
        points.append((moment.timestamp(), len(points) + 1.0))
    return dict(sorted(found.items()))


def _devices(lines: Sequence[DeviceLine]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in COLUMNS)
    rows = "".join(_row(line) for line in lines)
    return (
        f'<h2>Devices</h2><div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _row(line: DeviceLine) -> str:
    plain = _plain(line) | {"key": line.key[:16], "broken": "; ".join(line.broken)}
    cells = ((column, plain[column]) for column in COLUMNS)
    return "<tr>" + "".join(_html_cell(column, value) for column, value in cells) + "</tr>"


def _html_cell(column: str, value: object) -> str:
    text = ("yes" if value else "") if isinstance(value, bool) else str(value)
    bad = bool(value) and column in ("silent", "recalled", "late", "broken", "reason")
    return f'<td class="bad">{escape(text)}</td>' if bad else f"<td>{escape(text)}</td>"


def _list(title: str, items: Iterable[str]) -> str:
    return f"<h2>{escape(title)}</h2><ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def _when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
