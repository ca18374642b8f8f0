"""When a system on trial counts as well. The one rule: engine, command line and tests ask here (S6, S11)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from twinslot.core.model import CheckResult


# keeps: S6
def judged(results: Sequence[CheckResult], demanded: Collection[str]) -> tuple[CheckResult, ...]:
    """The results with what the manifest demands by name.

    A check that is demanded counts as required, even where the configuration only wants it. One that was demanded and
    not asked has failed.

    Args:
        results: One for each configured check.
        demanded: Names from the manifest.
    """
    asked = {result.name for result in results}
    missing = sorted(set(demanded) - asked)
    return (
        *(replace(result, required=result.required or result.name in demanded) for result in results),
        *(CheckResult(name, required=True, passed=False, detail="not configured here") for name in missing),
    )


# keeps: S6
def failed(results: Iterable[CheckResult]) -> tuple[CheckResult, ...]:
    """The required checks that did not pass: one is enough to leave a trial; a wanted check never decides.

    A system that was asked nothing counts as healthy.
    """
    return tuple(result for result in results if result.required and not result.passed)


def failed_checks(results: Iterable[CheckResult]) -> str | None:
    """The required checks that failed, each with its detail, for people; None when none did."""
    return ", ".join(f"{each.name}: {each.detail}" if each.detail else each.name for each in failed(results)) or None
