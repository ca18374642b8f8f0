"""Who has to agree to an update, and for how long they may put it off. Pure.

Time that an update waits for people is counted, not read from a calendar: in one boot by the uptime, which nobody sets,
between two boots by the clock as far as it went forward. The count begins with the first update that waits and goes on
until one is committed, so neither an approval that is followed by a hold nor a newer release begins it anew. Once it
has reached its limit, nobody needs to agree any more and no hold counts; whether the device is in use counts as ever
(S20).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from twinslot.core.backoff import Moment, elapsed
from twinslot.core.errors import Refusal
from twinslot.core.stored import Kept


class ConsentMode(enum.StrEnum):
    """Whose word an update waits for."""

    NONE = "none"  # nobody's
    NOTIFY = "notify"  # it is told, and goes on after a time unless somebody holds it
    REQUIRED = "required"  # somebody has to approve it


@dataclass(frozen=True, slots=True)
class ConsentBounds:
    """How long people may take; seconds of the count.

    Attributes:
        notice: After so long silence is consent, with `notify`.
        limit: After so long nobody is waited for.
    """

    notice: float
    limit: float


@dataclass(frozen=True, slots=True)
class Consent(Kept):
    """What people have said, and how long they were waited for.

    Attributes:
        counted: Seconds that updates have waited for people since one was committed.
        clock: Seconds since 1970 when it was counted last, by the device's clock.
        boot_id: Of the boot in which it was; empty: never.
        uptime: Seconds of that boot.
        release: Which one waited then.
        told: Count when that one began to wait.
        approved: The release that somebody approved; empty: none.
        held: Count until which it is held; not more than `counted`: it is not.
        by: Who said the last word, for people.
    """

    counted: float = 0.0
    clock: float = 0.0
    boot_id: str = ""
    uptime: float = 0.0
    release: str = ""
    told: float = 0.0
    approved: str = ""
    held: float = 0.0
    by: str = ""


def count(consent: Consent, release: str, now: Moment) -> Consent:
    """The same, counted up to now, for the release that waits now."""
    counted = consent.counted + elapsed(consent.clock, consent.boot_id, consent.uptime, now)
    told = consent.told if consent.release == release and consent.boot_id else counted
    return replace(
        consent,
        counted=counted,
        clock=now.clock,
        boot_id=now.boot_id,
        uptime=now.uptime,
        release=release,
        told=told,
    )


def is_over(consent: Consent, bounds: ConsentBounds) -> bool:
    """People were waited for as long as may be."""
    return consent.counted >= bounds.limit


# keeps: REQ-POL-02
def missing(consent: Consent, mode: ConsentMode, bounds: ConsentBounds) -> tuple[Refusal, float] | None:
    """Why the release that waits may not go on yet, and after how many seconds it may by itself; None: it may."""
    if mode is ConsentMode.NONE or is_over(consent, bounds):
        return None
    if consent.held > consent.counted:
        hint = "'twinslot approve' lets it go on before"
        found = f"by {consent.by}" if consent.by else None
        return Refusal("held", "somebody holds the update", found=found, hint=hint), consent.held - consent.counted
    if consent.approved == consent.release:
        return None
    say = f"'twinslot approve {consent.release}', or 'twinslot hold'"
    hint = f"{say}; 'twinslot info --waiting' shows notes and known anomalies"
    if mode is ConsentMode.REQUIRED:
        why = Refusal("not-approved", "nobody has approved the update yet", consent.release, hint=hint)
        return why, bounds.limit - consent.counted
    assert mode is ConsentMode.NOTIFY
    until = min(consent.told + bounds.notice, bounds.limit)
    if consent.counted >= until:
        return None
    return Refusal("notice", "people are given time to put the update off", hint=hint), until - consent.counted


def approve(consent: Consent, by: str) -> Consent:
    """Somebody agrees to the release that waits; a hold ends."""
    return replace(consent, approved=consent.release, held=0.0, by=by)


# keeps: REQ-POL-02
def hold(consent: Consent, seconds: float, bounds: ConsentBounds, by: str) -> Consent:
    """Somebody puts it off for so long, at most until the limit of the count."""
    return replace(consent, approved="", held=min(consent.counted + seconds, bounds.limit), by=by)
