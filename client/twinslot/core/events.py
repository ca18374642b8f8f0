"""Everything that is announced: each event once, with its fields. An audit row and a journal line have the same names.

Names and fields are public, since they are stored: add, never change. Rows of a newer client may have events that this
one does not know; they are shown as they are. docs/events.md and the journal's catalog are printed from this table.
"""

from __future__ import annotations

import enum
import json
import logging
import uuid
from collections.abc import Mapping
from typing import Any, Final, Self

from twinslot.core import errors
from twinslot.core.journal_entry import NAME, VALUE_MAX
from twinslot.core.text import printable

INFO: Final = logging.INFO
WARNING: Final = logging.WARNING
ERROR: Final = logging.ERROR

_NAMESPACE: Final = uuid.UUID("6f3f4c2e-8a55-5c0e-9a44-2f6a31d0b7c1")  # of our message ids; drawn once
_DETAILS: Final = (
    "release",
    "slot",
    "reason",
    "why",
    "force",
    "note",
    "file",
    "options",
    "verb",
    "source",
    "times",
    "fingerprint",
)

COMMON: Final[Mapping[str, str]] = {
    "stopped_by": "who asked to stop, when that is somebody else",
    "origin": "who asked: `kind` (`cli`, `bus`, `unit`, `server`) and what is known of it (`core/origin.py`)",
    "transaction": "id of the update, 32 hex digits",
    "state": "where the update stands from here on (lifecycle.md)",
}
_FAILURE: Final = dict(errors.FIELDS)
_ENDED: Final = {"outcome": "`committed`, `rolled-back` or `abandoned`", "reason": "why it was not committed"}
_IMAGE: Final = {
    "source": "where the image came from, without user, password, query and fragment",
    "manifest": "SHA-256 of the manifest's bytes",
    "release": "name of the release",
    "sequence": "its sequence",
    "claimed": "true: nobody vouches for release and sequence, the image says so",
    "verb": "what was asked for",
    "times": "how often the same came since the device started: 1, and then each time that the number has doubled",
}


class AuditEvent(enum.StrEnum):
    """The events. Level: `INFO` for a step, `WARNING` for what was tolerated or repaired, `ERROR` for what failed."""

    # Steps of an update (events of core/lifecycle.py); the row is durable before the step is done
    ACCEPTED = (
        "accepted",
        INFO,
        "an image was verified and accepted; it is being written",
        {
            "trust": "dates, roles and counts of signatures, as verified",
            "manifest": "SHA-256 of the manifest's bytes",
            "release": "name of the release",
            "sequence": "its sequence",
            "epoch": "its security epoch",
            "slot": "where it is written",
        },
    )
    REVERT = "revert", INFO, "the other, committed slot was asked for; it is being read back", {"why": "as given"}
    VERIFIED = "verified", INFO, "the slot was read back and holds what was signed"
    FAILED = "failed", ERROR, "a step of the update failed", _FAILURE
    CANCELLED = "cancelled", INFO, "the update was stopped on request", _FAILURE
    REPLACED = "replaced", INFO, "a newer image was accepted and takes the place of the update that waited"
    ACTIVATE = "activate", INFO, "the slot is being made the next to start"
    RECHECK = "recheck", INFO, "the slot is being read back before it is made the next to start"
    HEALTHY = (
        "healthy",
        INFO,
        "the new system is being committed",
        {"force": "reason of whoever committed without the checks"},
    )
    UNHEALTHY = "unhealthy", ERROR, "a required health check failed; the new system is being left", {"failed": "names"}
    GO_BACK = "go-back", WARNING, "the trial is being left on request", {"why": "as given"}
    BOOTED_OLD = "booted-old", INFO, "the committed system runs"
    BOOTED_NEW = "booted-new", INFO, "the new system runs on trial"
    STILL_ARMED = "still-armed", INFO, "the next start tries the other slot"
    GIVEN_UP = "given-up", WARNING, "a system that was given up runs; the next start is the other slot"
    BOOTED_COMMITTED = "booted-committed", INFO, "the new system runs and is committed"
    # Ends of an update
    COMMITTED = "committed", INFO, "the update is complete: the new system is kept", _ENDED
    ROLLED_BACK = "rolled-back", WARNING, "the new system was left; the old one runs", _ENDED | _FAILURE
    ABANDONED = "abandoned", WARNING, "the update ended before its system was started", _ENDED | _FAILURE
    # What else a verb does
    CHECKED = "checked", INFO, "the health checks were asked", {"well": "whether every required one passed"}
    OVERRIDDEN = (
        "overridden",
        WARNING,
        "a check of policy was overridden on request",
        {"options": "names of the options", "release": "name of the release"},
    )
    WAITS = (
        "waits",
        INFO,
        "the update waits, by the device's own policy",
        {"gate": "before which step: `activate` or `restart`"} | _FAILURE,
    )
    APPROVED = "approved", INFO, "somebody agreed to the update", {"release": "name of the release"}
    HELD = (
        "held",
        INFO,
        "somebody put the update off",
        {"release": "name of the release", "seconds": "for so many, by what this device allows"},
    )
    WATCH_FAILED = (
        "watch-failed",
        WARNING,
        "the signals of the committed release failed",
        {"failed": "names", "release": "name of the release", "action": "`tell` or `rollback`"},
    )
    REFUSED = "refused", ERROR, "a request was refused; nothing changed", _FAILURE | _IMAGE
    VERB_FAILED = "verb-failed", ERROR, "a request ended with an error", _FAILURE | _IMAGE
    # What a start found and repaired
    ADOPTED = (
        "adopted",
        WARNING,
        "the boot environment knows of an update that the record had lost; it goes on",
        {"found": "the boot event"},
    )
    OVERTAKEN = "overtaken", WARNING, "the boot environment has gone on without this update; it is closed"
    FELL_BACK = (
        "fell-back",
        WARNING,
        "a committed slot did not start; the other good one runs",
        {"to": "the slot that runs", "reason": "as the boot environment has it"},
    )
    DISAGREEMENT = "disagreement", WARNING, "two sources disagree about what runs", {"note": "both, in a sentence"}
    ENVIRONMENT_REBUILT = (
        "environment-rebuilt",
        WARNING,
        "both copies of the boot environment were lost and written anew",
        {"running": "the slot that runs", "kept": "the slot that starts from here on", "on_trial": "whether on trial"},
    )
    ENVIRONMENT_REPAIRED = "environment-repaired", WARNING, "a damaged copy of the boot environment was repaired"
    RECORD_SET_ASIDE = (
        "record-set-aside",
        WARNING,
        "the record could not be used and was set aside; a new one was begun",
        {"file": "where the old one is kept"},
    )
    AUDIT_BROKEN = (
        "audit-broken",
        ERROR,
        "the audit is not the one whose end the boot environment has",
        {
            "anchor": "the end that the boot environment has, `NUMBER-HASH`",
            "end": "the end of the rows that were there",
            "kind": "`begun-anew` (the record was lost), `cut-off` (rows are missing at the end) or `rewritten`",
        },
    )
    SEALED = (
        "sealed",
        INFO,
        "the audit was sealed: the device's key vouches for the rows before",
        {"seal": "signed statement (DSSE) of number and hash of the row before", "fingerprint": "of the key"},
    )
    AUDIT_PRUNED = (
        "audit-pruned",
        INFO,
        "the oldest rows of the audit were dropped; a signed checkpoint stands for them",
        {"through": "number and hash of the last row that was dropped", "fingerprint": "of the key"},
    )
    RETIRED = (
        "retired",
        WARNING,
        "the device is taken out of service: keys and data are destroyed, and no update is taken any more",
        {"reason": "as given", "erases": "files and directories, as configured"},
    )
    RECORD_MIGRATED = "record-migrated", INFO, "the record was brought to this client's form", {"version": "now"}
    ROOTS_DROPPED = (
        "roots-dropped",
        WARNING,
        "roots of trust in the record do not follow from the built-in one and are not used",
        {"fit": "how many of them do follow", "dropped": "SHA-256 of each of the others"} | _FAILURE,
    )
    SLOT_READ = (
        "slot-read",
        INFO,
        "the slot to go back to was read whole and holds what was installed",
        {"slot": "which one", "release": "what it holds"},
    )
    SLOT_UNSOUND = (
        "slot-unsound",
        ERROR,
        "the slot to go back to was read and does not hold what was installed",
        {"slot": "which one", "release": "what was installed"} | _FAILURE,
    )
    PROVISIONED = (
        "provisioned",
        INFO,
        "the device left the factory with this release",
        {
            "slot": "where it is",
            "release": "its name",
            "manifest": "SHA-256 of the manifest's bytes",
        },
    )
    DEVICE_KEY_MADE = "device-key-made", INFO, "the device's own key was made", {"fingerprint": "of its public part"}
    # What a poll of the repository found, each time that it changes
    REPOSITORY_STALE = (
        "repository-stale",
        WARNING,
        "the repository gives nothing that is trusted and fresh",
        {"why": "`frozen`, `silent` or `refused`", "source": "its address", "since": "the last fresh answer"}
        | _FAILURE,
    )
    REPOSITORY_FRESH = "repository-fresh", INFO, "the repository is fresh again", {"source": "its address"}
    RELEASE_RECALLED = (
        "release-recalled",
        ERROR,
        "the maker has recalled a release that this device holds: it must not run",
        {
            "slot": "where it is",
            "running": "whether it is the one that runs",
            "release": "its name",
            "sequence": "its sequence",
            "why": "the maker's reason",
            "successor": "sequence of the release that takes its place; 0: none",
        },
    )
    RECALL_LIFTED = "recall-lifted", INFO, "the maker's recall concerns this device no more", {"slot": "where it was"}
    IDENTITY_CHANGED = (
        "identity-changed",
        WARNING,
        "the id that draws this device's place in a wave is another one than before",
        {"before": "its fingerprint", "now": "the same of the new one"},
    )
    TOLERATED = "tolerated", WARNING, "an error that stops nothing", _FAILURE

    level: int
    meaning: str
    fields: Mapping[str, str]

    def __new__(cls, value: str, level: int = INFO, meaning: str = "", fields: Mapping[str, str] | None = None) -> Self:
        """A member: name as stored, level of its journal line, meaning in a sentence, its own fields."""
        member = str.__new__(cls, value)
        member._value_, member.level, member.meaning, member.fields = value, level, meaning, fields or {}
        return member

    @property
    def message_id(self) -> str:
        """The journal's `MESSAGE_ID`: 32 hex digits that never change for this event."""
        return uuid.uuid5(_NAMESPACE, self.value).hex


ENDS: Final = frozenset({AuditEvent.COMMITTED, AuditEvent.ROLLED_BACK, AuditEvent.ABANDONED})


def describe(event: str, fields: Mapping[str, Any]) -> str:
    """One line for people: what it means, the error if there is one, and what it is about.

    Args:
        event: As stored; one that this version does not know is named.
        fields: As stored.
    """
    known = event in AuditEvent.__members__.values()
    meaning = AuditEvent(event).meaning if known else f"event '{event}'"
    told = [f"{name} {_plain(fields[name])}" for name in _DETAILS if fields.get(name) not in (None, "", [])]
    if isinstance(fields.get("origin"), Mapping):
        told.append(f"by {origin_text(fields['origin'])}")
    words = f"{meaning}: {_error(fields)}" if fields.get("message") else meaning
    return printable(words + (f" ({', '.join(told)})" if told else ""))


def origin_text(origin: Mapping[str, Any]) -> str:
    """Who asked, in a few words."""
    named = {"login": "", "uid": "uid ", "unit": "", "sender": "sender ", "action": "action "}
    told = [f"{word}{origin[name]}" for name, word in named.items() if origin.get(name) not in (None, "")]
    return printable(" ".join([str(origin.get("kind", "unknown")), *told]))


def journal_fields(event: AuditEvent, fields: Mapping[str, Any]) -> dict[str, str]:
    """The fields of the journal's entry beside message and priority; empty ones are left out by the encoder."""
    origin = fields.get("origin")
    return {
        "MESSAGE_ID": event.message_id,
        "TWINSLOT_EVENT": str(event),
        "TWINSLOT_TRANSACTION": str(fields.get("transaction") or ""),
        "TWINSLOT_STATE": str(fields.get("state") or ""),
        "TWINSLOT_SLOT": str(fields.get("slot") or ""),
        "TWINSLOT_RELEASE": str(fields.get("release") or ""),
        "TWINSLOT_ORIGIN": origin_text(origin) if isinstance(origin, Mapping) else "",
    } | (_figures(fields) | error_fields(fields))


def _figures(fields: Mapping[str, Any]) -> dict[str, str]:
    """What an update took: `TWINSLOT_SECONDS_` and the phase, `TWINSLOT_BYTES_` and how; other names are left out."""
    found = {}
    for kind in ("seconds", "bytes"):
        figures = fields.get(kind)
        for name, value in figures.items() if isinstance(figures, Mapping) else ():
            key = f"TWINSLOT_{kind}_{name}".upper().replace("-", "_")
            if NAME.fullmatch(key) and isinstance(value, int | float):
                found[key] = str(value)
    return found


def error_fields(error: Mapping[str, Any]) -> dict[str, str]:
    """The journal's fields of an error: each key of `errors.FIELDS` in capitals after `TWINSLOT_`, as text.

    Args:
        error: With what `TwinslotError.as_dict` gave; without `code` there is no error, and no field. Reasons are JSON.
    """
    if not error.get("code"):
        return {}
    known = {name: error[name] for name in errors.FIELDS if error.get(name) is not None}
    return {f"TWINSLOT_{name.upper()}": _as_text(value) for name, value in known.items()}


def _as_text(value: object) -> str:
    """Text as it is; a list as JSON, with as many of its members as one value may have room for."""
    if isinstance(value, str):
        return value
    while len(text := json.dumps(value, default=str)) > VALUE_MAX and isinstance(value, list) and value:
        value = value[: len(value) // 2]
    return text


def _error(fields: Mapping[str, Any]) -> str:
    expected, found, hint = (fields.get(name) for name in ("expected", "found", "hint"))
    text = str(fields["message"])
    text += f", expected {errors.in_quotes(str(expected))}" if expected else ""
    text += f", found {errors.in_quotes(str(found))}" if found else ""
    return text + (f"; hint: {hint}" if hint else "")


def _plain(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else f"'{value}'"
