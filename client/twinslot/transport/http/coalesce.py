"""Which spans go into one request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from twinslot.core.span import Span

RUN_MAX: Final = 1024  # spans; what is read ahead of them stays below 256 KiB of memory


def coalesce(spans: Iterable[Span], gap: int) -> Iterator[list[Span]]:
    """Runs of spans, in the order given, that are worth one request each.

    A span joins the run before it if it begins at its end or at most `gap` bytes after it. One that overlaps or goes
    back begins another run, and so does every `RUN_MAX`th. Empty spans go anywhere.
    """
    run: list[Span] = []
    end: int | None = None  # of the run; None: nothing but empty spans yet
    for span in spans:
        apart = span.length and end is not None and not 0 <= span.offset - end <= gap
        if apart or len(run) == RUN_MAX:
            yield run
            run, end = [], None
        run.append(span)
        if span.length:
            end = span.end
    if run:
        yield run
