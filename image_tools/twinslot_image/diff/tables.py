"""A comparison as tables: for a terminal, for a page, for a dossier."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from twinslot_image.html_page import render
from twinslot_image.progress import size_text

TEXT_ROWS: Final = 40  # of one table in a terminal

DiffTable = dict[str, Any]  # `title`, `head`, `rows`
_OPEN: Final = {"opened": "Vulnerabilities that opened", "closed": "Vulnerabilities that closed"}


def tables(data: Mapping[str, Any]) -> list[DiffTable]:
    """Every part of a comparison that was asked for, as a table; one without rows says that nothing differs."""
    found = [
        _table("Manifest", ["field", "before", "after"], data["manifest"]),
        _table("Packages", ["name", "before", "after"], data["packages"]),
        _table("Sizes", ["what", "before", "after"], [_sized(row) for row in data["sizes"]]),
    ]
    if (known := data["vulnerabilities"]) is not None:
        head = ["id", "package", "version", "severity", "state"]
        titles = _OPEN | {"still_open": "Vulnerabilities that are still open"}
        found += [_table(title, head, known[key]) for key, title in titles.items()]
    if data["requirements"] is not None:
        rows = [row | {"risks": " ".join(row["risks"])} for row in data["requirements"]]
        found.append(_table("Requirements", ["id", "title", "risks", "change"], rows))
        found.append(_table("Risks", ["id", "title", "change"], data["risks"]))
        found.append(_table("Tests", ["test", "before", "after"], data["tests"]))
    return [*found, _table("Files", ["path", "change", "before", "after"], [_sized(row) for row in data["files"]])]


def _table(title: str, head: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> DiffTable:
    return {"title": title, "head": list(head), "rows": [[str(row[key]) for key in head] for row in rows]}


def _sized(row: Mapping[str, Any]) -> dict[str, Any]:
    return dict(row) | {key: "" if row[key] is None else size_text(row[key]) for key in ("before", "after")}


def as_text(data: Mapping[str, Any]) -> Iterator[str]:
    """For a terminal; of a long table the first rows."""
    yield f"{data['old']['name']} -> {data['new']['name']}"
    for table in tables(data):
        rows = table["rows"]
        yield ""
        yield f"{table['title']}: {len(rows) or 'nothing differs'}"
        widths = [max(len(row[at]) for row in [table["head"], *rows[:TEXT_ROWS]]) for at in range(len(table["head"]))]
        for row in [table["head"], *rows[:TEXT_ROWS]] if rows else ():
            yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        if len(rows) > TEXT_ROWS:
            yield f"  and {len(rows) - TEXT_ROWS} more: '--json' and '--html' have all"


def as_page(data: Mapping[str, Any]) -> bytes:
    """One page for people; the same comparison is always the same bytes."""
    return render("diff.html", old=data["old"], new=data["new"], tables=tables(data))
