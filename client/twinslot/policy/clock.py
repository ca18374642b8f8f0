"""Whether the device's clock is known to be right enough to tell a night from a day (S16 decides nothing by it)."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

SYNCHRONIZED: Final = Path("/run/systemd/timesync/synchronized")  # systemd-timesyncd.service(8), "Files"


def clock_is_known(now: datetime, earliest: datetime | None, *, synchronized: bool, root: Path = Path("/")) -> bool:
    """Whether a window may go by the clock.

    Args:
        now: By the clock.
        earliest: The latest date that is known to have passed; None: none is.
        synchronized: It must have been set by a server since the start, too.
        root: Where the files of the system stand.
    """
    dated = now >= (earliest or datetime(1970, 1, 1, tzinfo=UTC))
    return dated and (not synchronized or (root / SYNCHRONIZED.relative_to("/")).exists())
