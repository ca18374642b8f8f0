"""Small plots as SVG text: bars and steps. No library, no script; everything that is shown is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Final

_WIDTH: Final = 480
_COLOURS: Final = ("#0b6e99", "#b3261e", "#8a6d00", "#3d7a35", "#6b4ea0", "#5f6b76")
_BARS_MAX: Final = 12
_POINTS_MAX: Final = 400  # of one line


def bars(title: str, values: Sequence[tuple[str, int]]) -> str:
    """One bar for each value, the first twelve; the rest is one more."""
    shown = list(values[:_BARS_MAX])
    if len(values) > _BARS_MAX:
        shown.append(("others", sum(count for _, count in values[_BARS_MAX:])))
    most = max((count for _, count in shown), default=0) or 1
    parts = []
    for number, (name, count) in enumerate(shown):
        top, width = 34 + number * 24, 230 * count / most
        parts.append(f'<text x="150" y="{top + 13}" text-anchor="end">{escape(name[:24])}</text>')
        parts.append(f'<rect x="158" y="{top}" width="{width:.1f}" height="18" fill="{_COLOURS[0]}"/>')
        parts.append(f'<text x="{164 + width:.1f}" y="{top + 13}">{count}</text>')
    if not shown:
        parts.append('<text x="10" y="50">nothing</text>')
    return _svg(title, 44 + 24 * max(1, len(shown)), parts)


def steps(title: str, series: Mapping[str, Sequence[tuple[float, float]]], unit: str = "date") -> str:
    """Lines over time.

    Args:
        title: Above.
        series: By name: points, ascending; seconds since 1970 or since the beginning, and a value.
        unit: What the horizontal axis has: `date`, or `hours` since its beginning.
    """
    points = [point for line in series.values() for point in line]
    if not points:
        return _svg(title, 60, ['<text x="10" y="50">nothing</text>'])
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    top = max(y for _, y in points) or 1.0
    span = (right - left) or 1.0
    parts = ['<path d="M50 30V200H470" fill="none" stroke="#5f6b76"/>']
    parts.append(f'<text x="46" y="38" text-anchor="end">{top:.4g}</text>')
    parts.append('<text x="46" y="200" text-anchor="end">0</text>')
    parts.append(f'<text x="50" y="216">{_at(left, left, unit)}</text>')
    parts.append(f'<text x="470" y="216" text-anchor="end">{_at(right, left, unit)}</text>')
    for number, (name, line) in enumerate(series.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        each = max(1, len(line) // _POINTS_MAX)
        kept = [*line[::each], line[-1]]
        path = " ".join(f"{50 + 420 * (x - left) / span:.1f},{200 - 165 * y / top:.1f}" for x, y in kept)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        x, y = 56 + 140 * (number % 3), 234 + 16 * (number // 3)
        parts.append(f'<text x="{x}" y="{y}" fill="{colour}">{escape(name[:22])}</text>')
    return _svg(title, 244 + 16 * (len(series) // 3), parts)


def _at(moment: float, left: float, unit: str) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d}" if unit == "date" else f"{(moment - left) / 3600:.0f} h"


def _svg(title: str, height: int, parts: Sequence[str]) -> str:
    inside = "".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" font-family="sans-serif" '
        f'font-size="12"><title>{escape(title)}</title><rect width="{_WIDTH}" height="{height}" fill="#fff"/>'
        f'<text x="10" y="18" font-weight="600">{escape(title)}</text>{inside}</svg>'
    )
