"""How many bytes an update may fetch."""

from __future__ import annotations

from twinslot.core.errors import TransportError


def check_budget(budget: int, needed: int) -> None:
    """Is an update that fetches so many bytes in all within its budget?

    Args:
        budget: Bytes; 0: no bound.
        needed: Bytes fetched already and yet to come.

    Raises:
        TransportError: `transport.budget`.
    """
    if budget and needed > budget:
        raise TransportError(
            "the update needs more bytes than its budget",
            code="budget",
            expected=f"at most {budget} bytes",
            found=f"{needed} bytes",
            hint="install from a file, or raise 'budget' in '[delta]'",
        )
