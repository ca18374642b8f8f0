"""Every row of docs/servers.md, with a real server that behaves so; and those that need a device, a proxy or TLS."""

from __future__ import annotations

import contextlib
import runpy
from dataclasses import replace

import pytest
from http_bench import Web, serving
from range_bench import QUICK
from server_rows import DATA, FRONT, TABLE, WHOLE, Row

from fakes.rigs import REPOSITORY
from twinslot.core.errors import TwinslotError
from twinslot.core.span import Span
from twinslot.transport.http.download import HttpSource
from twinslot.transport.http.ranges import RangeSource, RangesRefused

ROWS = [row for rows in TABLE.values() for row in rows]


def fetch(web: Web, row: Row) -> bytes:
    """As a worker reads an image: the front, parts here and there, and what a server without ranges gives."""
    settings = replace(QUICK, **row.settings)
    if row.front:
        return b"".join(HttpSource(f"{web.url}/x.twin", settings).chunks())
    with contextlib.closing(RangeSource(f"{web.url}/x.twin", settings, gap=0)) as source:
        spans = [Span(0, FRONT), *(Span(at, min(50_000, len(DATA) - at)) for at in range(FRONT, len(DATA), 50_000))]
        try:
            found = source.read(0, FRONT)
            source.know_by(found)
            for span in spans[1:]:
                found += source.read(span.offset, span.length)
        except RangesRefused as e:
            e.source.expect(len(DATA))
            found = b"".join(e.source.chunks())
    return found


@pytest.mark.verifies("S28")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.server)
def test_the_client_does_what_its_table_says(row: Row) -> None:
    with serving(*row.answers) as web:
        try:
            assert fetch(web, row) == DATA
            ended = WHOLE
        except TwinslotError as e:
            ended = e.code
    assert ended == row.ends
    assert row.asked in (None, len(web.asked))


def test_the_page_is_printed_from_the_table() -> None:
    printed = runpy.run_path(str(REPOSITORY / "docs" / "make_servers.py"))["page"]()
    assert (REPOSITORY / "docs" / "servers.md").read_text() == printed, "make docs"


def test_each_row_says_something_else() -> None:
    assert len({row.server for row in ROWS}) == len(ROWS)
