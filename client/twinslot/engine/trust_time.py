"""What time it may be, for trust (S16)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from twinslot.config.options import Config
from twinslot.trust.verdict import TrustTime

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def utc_now() -> datetime:
    """By this device's clock."""
    return datetime.now(UTC)


def trust_time(config: Config, verified: str | None) -> TrustTime:
    """What time it may be, for trust (S16).

    Args:
        config: Of this device.
        verified: The date that was verified last; None or empty: none was.
    """
    build = config.trust.build_time or _EPOCH
    return TrustTime(
        clock=utc_now(),
        build=build.astimezone(UTC),
        verified=datetime.fromisoformat(verified) if verified else build.astimezone(UTC),
    )
