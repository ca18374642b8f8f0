"""What a poll costs when nothing is new; the guide has the figure."""

from __future__ import annotations

from pathlib import Path

from bench.fleet.simulate import SMALL
from bench.poll_bytes import counted


def test_the_guide_says_what_is_counted() -> None:
    guide = (Path(__file__).parents[2] / "docs/guide-repository.md").read_text()
    assert f"{sum(counted())} bytes of HTTP (`python -m bench.poll_bytes`)" in guide
    assert sum(counted()) == SMALL
