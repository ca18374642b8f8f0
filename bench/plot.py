"""Bars as SVG: one bar a peer, its spread as a line, a bound as a dashed line. No library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

_WIDTH, _LABEL, _VALUE, _ROW, _TOP, _BOTTOM = 720, 150, 96, 26, 40, 14  # pixels
_LEAST: Final = 1e-300  # of the longest bar: below it the scale would pass what a float holds
_OURS, _OTHERS, _LINE, _BOUND = "#1f6f54", "#9aa5b1", "#3d4852", "#b03a2e"
_FONT: Final = 'font-family="sans-serif" font-size="12"'


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar.

    Attributes:
        name: Beside it.
        value: Its length.
        low: Where its spread begins.
        high: Where its spread ends.
        shown: The value for people.
        ours: In the project's colour.
    """

    name: str
    value: float
    low: float
    high: float
    shown: str
    ours: bool = False


def bars(title: str, items: Sequence[Bar], bound: float | None = None) -> str:
    """An SVG document with these bars, from zero, in their order.

    Args:
        title: Above, and for those who cannot see it.
        items: At least one.
        bound: Marked by a dashed line.
    """
    height = _TOP + _ROW * len(items) + _BOTTOM
    top = max([bar.high for bar in items] + [bound or 0.0, _LEAST])
    scale = (_WIDTH - _LABEL - _VALUE) / top
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="8" y="22" {_FONT} font-weight="bold" fill="{_LINE}">{escape(title)}</text>',
    ]
    for number, bar in enumerate(items):
        parts += _bar(bar, _TOP + number * _ROW, scale)
    if bound is not None:
        x = _LABEL + bound * scale
        parts.append(
            f'<line x1="{x:.1f}" y1="{_TOP - 6}" x2="{x:.1f}" y2="{height - _BOTTOM + 4}" stroke="{_BOUND}" '
            'stroke-dasharray="5 3"/>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bar(bar: Bar, y: int, scale: float) -> list[str]:
    middle, end = y + 9, _LABEL + bar.value * scale
    colour = _OURS if bar.ours else _OTHERS
    lines = [
        f'<text x="{_LABEL - 8}" y="{middle + 4}" {_FONT} text-anchor="end" fill="{_LINE}">{escape(bar.name)}</text>',
        f'<rect x="{_LABEL}" y="{y}" width="{max(bar.value * scale, 1):.1f}" height="18" fill="{colour}"/>',
    ]
    if bar.high > bar.low:
        low, high = _LABEL + bar.low * scale, _LABEL + bar.high * scale
        lines.append(f'<line x1="{low:.1f}" y1="{middle}" x2="{high:.1f}" y2="{middle}" stroke="{_LINE}"/>')
        end = max(end, high)
    lines.append(f'<text x="{end + 6:.1f}" y="{middle + 4}" {_FONT} fill="{_LINE}">{escape(bar.shown)}</text>')
    return lines
