"""Question and answers between whoever refreshes a repository and the trust process, as plain data.

Standard library only: whoever asks need not import tuf, which costs 35 MB.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from twinslot.core.bounds import DOCUMENT_LIMIT
from twinslot.core.errors import LifecycleError
from twinslot.trust.verdict import TrustTime

VERSION_MAX: Final = 2**63 - 1  # of a document
NAME_MAX: Final = 200  # characters of a role's quoted name: file systems take 255 with version and ending
_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"
_KEYS: Final = frozenset({"role", "version", "limit", "stored"})


@dataclass(frozen=True, slots=True)
class RepositoryQuestion:
    """What a refresh starts from; everything else comes document by document.

    Attributes:
        root: The root document that this device was built with.
        time: What time it may be (S16).
        paths: Targets to look for once the metadata is fresh.
    """

    root: bytes = field(repr=False)
    time: TrustTime
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DocumentRequest:
    """One document that the trust process wants to see, or wants kept.

    Attributes:
        role: Whose; any text, as a delegation may name it.
        version: Of the file's name; None: the file without one.
        limit: Bytes; a longer one is refused.
        stored: The one that this device kept; otherwise the server's.
    """

    role: str
    version: int | None
    limit: int
    stored: bool = False

    @property
    def file_name(self) -> str:
        """As it stands on the server, in which no role can leave the directory (TUF 1.0, section 5.3 and on)."""
        name = f"{quoted(self.role)}.json"
        return name if self.version is None else f"{self.version}.{name}"


def quoted(role: str) -> str:
    """A role's name as part of a file name and of an address."""
    return quote(role, safe="")


@dataclass(frozen=True, slots=True)
class FoundTarget:
    """What signed metadata says of one file.

    Attributes:
        path: Its name among the targets.
        length: Bytes.
        hashes: Digest in hex by algorithm; at least one.
        prefixed: The server has it under its first digest and its name (consistent snapshots).
    """

    path: str
    length: int
    hashes: Mapping[str, str]
    prefixed: bool

    @property
    def file_path(self) -> str:
        """As it stands on the server, below the directory of targets."""
        folder, slash, name = self.path.rpartition("/")
        return f"{folder}{slash}{next(iter(self.hashes.values()))}.{name}" if self.prefixed else self.path


@dataclass(frozen=True, slots=True)
class FreshMetadata:
    """The metadata is trusted and fresh; a refusal is an exception instead.

    Attributes:
        versions: Of root, timestamp, snapshot and targets.
        expires: When the first document that was used expires.
        reference: The time that dates were compared with.
        time_source: Which clock that was.
        targets: What was looked for; None: no role that may say so knows it.
        published: When the timestamp was signed, as it says itself; None: it does not.
    """

    versions: Mapping[str, int]
    expires: datetime
    reference: datetime
    time_source: str
    targets: Mapping[str, FoundTarget | None]
    published: datetime | None = None


def encode_question(question: RepositoryQuestion) -> bytes:
    """The question as JSON."""
    time = question.time
    return _write(
        {
            "root": base64.b64encode(question.root).decode(),
            "time": [_write_time(moment) for moment in (time.clock, time.build, time.verified)],
            "paths": list(question.paths),
        }
    )


def decode_question(data: bytes) -> RepositoryQuestion:
    """Read a question back.

    Raises:
        LifecycleError: `lifecycle.trust-pipe`: not one of ours.
    """
    try:
        fields = _read(data)
        time = TrustTime(*(_read_time(text) for text in fields["time"]))
        return RepositoryQuestion(base64.b64decode(fields["root"], validate=True), time, tuple(fields["paths"]))
    except (KeyError, TypeError, ValueError) as e:
        raise _not_ours(e) from e


def encode_document_request(request: DocumentRequest) -> bytes:
    """The request as JSON."""
    return _write({"role": request.role, "version": request.version, "limit": request.limit, "stored": request.stored})


def decode_document_request(data: bytes) -> DocumentRequest:
    """Read what the trust process wants, which has parsed what came from outside: nothing of it is believed.

    Raises:
        LifecycleError: `lifecycle.trust-pipe`: not one of ours.
    """
    try:
        fields = _read(data)
        role, version, limit = fields["role"], fields["version"], fields["limit"]
        good = fields.keys() == _KEYS and isinstance(role, str) and 0 < len(quoted(role)) <= NAME_MAX
        good = good and isinstance(fields["stored"], bool) and _is_count(limit, DOCUMENT_LIMIT)
        if not good or not (version is None or _is_count(version, VERSION_MAX)):
            raise ValueError("not a request for a document")
        return DocumentRequest(role, version, limit, fields["stored"])
    except (KeyError, TypeError, ValueError) as e:  # UnicodeError too: half a character as a role's name
        raise _not_ours(e) from e


def _is_count(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= most


def encode_fresh(fresh: FreshMetadata) -> bytes:
    """The answer as JSON."""
    targets = {
        path: None if found is None else [found.length, dict(found.hashes), found.prefixed]
        for path, found in fresh.targets.items()
    }
    return _write(
        {
            "versions": dict(fresh.versions),
            "expires": _write_time(fresh.expires),
            "reference": _write_time(fresh.reference),
            "time_source": fresh.time_source,
            "targets": targets,
            "published": _write_time(fresh.published) if fresh.published else None,
        }
    )


def decode_fresh(data: bytes) -> FreshMetadata:
    """Read an answer back.

    Raises:
        LifecycleError: `lifecycle.trust-pipe`: not one of ours.
    """
    try:
        fields = _read(data)
        targets = {
            path: None if found is None else FoundTarget(path, found[0], dict(found[1]), found[2])
            for path, found in fields["targets"].items()
        }
        return FreshMetadata(
            {str(role): int(version) for role, version in fields["versions"].items()},
            _read_time(fields["expires"]),
            _read_time(fields["reference"]),
            str(fields["time_source"]),
            targets,
            _read_time(fields["published"]) if fields["published"] else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as e:
        raise _not_ours(e) from e


def _write(fields: Mapping[str, object]) -> bytes:
    return json.dumps(fields).encode()


def _read(data: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(data)
    except RecursionError as e:
        raise ValueError("nested too deep") from e
    if not isinstance(fields, dict):
        raise TypeError("not an object")
    return fields


def _write_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime(_FORMAT)


def _read_time(text: str) -> datetime:
    return datetime.strptime(text, _FORMAT).replace(tzinfo=UTC)


def _not_ours(error: Exception) -> LifecycleError:
    return LifecycleError(
        "the trust process and its caller do not understand each other", code="trust-pipe", found=error
    )
