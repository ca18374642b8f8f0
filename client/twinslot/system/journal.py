"""The journal's lines of what happens, each with the fields of its event. `engine.announce` writes them beside rows."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from twinslot.core.errors import CancelledError, RefusedError, TwinslotError
from twinslot.core.events import ERROR, INFO, AuditEvent, describe, journal_fields
from twinslot.core.origin import Origin

log = logging.getLogger(__name__)


def write_line(event: AuditEvent, fields: Mapping[str, Any]) -> None:
    """The line alone, for what happens where no record is open."""
    extra = {"journal": journal_fields(event, fields)}
    log.log(_level(event, fields), "%s", describe(event, fields), extra=extra)


def event_of(error: TwinslotError) -> AuditEvent:
    """The event of a request that ended with this error."""
    if isinstance(error, RefusedError):
        return AuditEvent.REFUSED
    return AuditEvent.CANCELLED if isinstance(error, CancelledError) else AuditEvent.VERB_FAILED


def ended_outside(verb: str, error: TwinslotError, origin: Origin) -> None:
    """As `Announcer.ended`, where no device was opened yet: a line, no row."""
    if not error.announced:
        error.announced = True
        write_line(event_of(error), error.as_dict() | {"origin": origin.as_dict(), "verb": verb})


def _level(event: AuditEvent, fields: Mapping[str, Any]) -> int:
    """An update that ended with an error is one; on request, it is none."""
    if event is not AuditEvent.ABANDONED or not fields.get("code"):
        return event.level
    return INFO if str(fields["code"]).startswith(CancelledError.family) else ERROR
