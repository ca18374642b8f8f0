"""The bench's table of releases: what it prints, and that the page of the bench has what it prints."""

from __future__ import annotations

from pathlib import Path

from bench.files import RIVALS
from bench.releases import LIBRARIES, LOOKED_UP, PEERS, SUITES, table

README = (Path(__file__).parents[2] / "bench/README.md").read_text()


def test_each_peer_has_a_row_with_every_suite_and_upstream() -> None:
    found = {suite: {"zstd": f"1.5.7-{suite}"} for suite in SUITES}
    lines = table(found).splitlines()
    (row,) = (line for line in lines if line.startswith("| zstd |"))
    assert row.endswith(f" | 1.5.7-trixie | 1.5.7-sid | {PEERS['zstd']} |")
    assert [line.split(" | ")[2] for line in lines if line.startswith("| rauc |")] == ["none"]
    assert len(lines) == 2 + len(PEERS) + 3 + len(LIBRARIES)


def test_each_tool_of_the_bench_that_is_a_library_has_a_row() -> None:
    assert set(LIBRARIES) == set(RIVALS)


def test_the_page_has_what_was_found_and_when_it_was_looked_up() -> None:
    assert README.count(f"looked up by hand on {LOOKED_UP}") == 2
    for name, upstream in (PEERS | LIBRARIES).items():
        (row,) = (line for line in README.splitlines() if line.startswith(f"| {name} |"))
        assert row.endswith(f" | {upstream} |")
