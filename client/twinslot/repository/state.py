"""What the polls have found, in one small file that any user may read: `repository.json` beside the record.

Replaced whole after each poll. Nothing is trusted because of it: the documents that were verified stand elsewhere, for
root alone. It says what to tell people, with which validators to ask, and when. Damaged or lost, it is begun anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from twinslot.core import stored
from twinslot.core.backoff import Pause
from twinslot.core.errors import DeviceError
from twinslot.core.stored import Kept
from twinslot.repository import STATE_FILE
from twinslot.storage.sync import make_directory, write_whole

_LIMIT: Final = 4 << 20  # bytes; offers take at most a quarter of it


@dataclass(frozen=True, slots=True)
class PollState(Kept):
    """What is known of the repository. Times are ISO 8601 in UTC, empty: not yet.

    Attributes:
        url: Which repository, as configured; another one begins anew.
        source: Where the last answer that was trusted and fresh came from: this address, or a directory on a stick.
        first: When it was asked for the first time.
        fresh: When it last had an answer that was trusted and fresh.
        whole: When its metadata was last judged as a whole.
        expires: Until when that answer counts.
        published: When its timestamp was signed, by the maker's clock, as the last trusted one says.
        versions: Of the metadata, by role.
        timestamp: SHA-256 of the timestamp that was judged last, with all that it leads to; empty: none was.
        etag: Validator of the timestamp that was judged last; empty: none.
        modified: Its date, likewise.
        offers: The offers for this device, one document for each name of its type, as they were signed.
        approvals: The approvals that were found, one document for each role, as they were signed.
        unapproved: Roles whose approvals were asked for and not found, with the reason.
        identity: Fingerprint of the device's id at the last poll; empty: none yet.
        failures: Polls that failed in a row.
        error: Why the last one did; empty: it did not.
        pause: Until when the server is left alone.
        stale: Why there is nothing fresh: `frozen`, `silent`, `refused`; empty: there is, or it is not known yet.
        told: The value of `stale` that the audit has.
        recalled: Of the recalls that concern this device, those that the audit has, by slot.
    """

    url: str = ""
    source: str = ""
    first: str = ""
    fresh: str = ""
    whole: str = ""
    expires: str = ""
    published: str = ""
    versions: Mapping[str, int] = field(default_factory=dict)
    timestamp: str = ""
    etag: str = ""
    modified: str = ""
    offers: Mapping[str, str] = field(default_factory=dict)
    approvals: Mapping[str, str] = field(default_factory=dict)
    unapproved: Mapping[str, str] = field(default_factory=dict)
    identity: str = ""
    failures: int = 0
    error: Mapping[str, Any] = field(default_factory=dict)
    pause: Pause = field(default_factory=Pause)
    stale: str = ""
    told: str = ""
    recalled: Mapping[str, str] = field(default_factory=dict)


def read_state(directory: Path, url: str) -> PollState:
    """What was found at this address; new when nothing was, or it cannot be read.

    Args:
        directory: Of the record.
        url: As configured.
    """
    try:
        with (directory / STATE_FILE).open("rb") as file:
            state = stored.read(PollState, json.loads(file.read(_LIMIT)))
    except (OSError, ValueError, RecursionError):
        return PollState(url)
    return state if state.url == url else PollState(url)


def write_state(directory: Path, state: PollState) -> None:
    """Replace the file, whole, also through a power cut.

    Raises:
        DeviceError: `device.repository`: the medium does not take it.
    """
    path = directory / STATE_FILE
    try:
        make_directory(directory, 0o755)
        write_whole(path, json.dumps(stored.write(state), indent=1).encode() + b"\n", 0o644)
    except OSError as e:
        hint = "is the data partition mounted, and is there room?"
        raise DeviceError(f"'{path}' cannot be written", code="repository", found=e.strerror, hint=hint) from e


def place_of_images(state: PollState) -> str:
    """The address or directory below which the images stand that are offered."""
    return state.source or state.url


def moment_of(text: str) -> datetime | None:
    """A time of the state; None: not yet, or damaged."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def describe_poll(state: PollState) -> dict[str, Any]:
    """What `status` and the poll itself show of it, JSON-ready."""
    return {
        "url": state.url or None,
        "source": place_of_images(state) or None,
        "fresh": state.fresh or None,
        "expires": state.expires or None,
        "published": state.published or None,
        "versions": dict(state.versions),
        "stale": state.stale or None,
        "failures": state.failures,
        "error": dict(state.error) or None,
    }
