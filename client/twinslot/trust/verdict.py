"""Question and answer of the trust process (docs/image-format.md section 10), as plain data that crosses a pipe.

Standard library only: whoever asks need not import tuf, which costs 35 MB.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from twinslot.core.errors import LifecycleError

_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """What the device demands, from local configuration.

    Attributes:
        required_roles: Each must verify over the same manifest; at least one, none twice.
        ignore_expiry: An operator's override for a device whose clock is wrong for good; the verdict names what it
            let pass, for the audit.
    """

    required_roles: tuple[str, ...]
    ignore_expiry: bool = False


@dataclass(frozen=True, slots=True)
class TrustTime:
    """What the device knows about time (S16); all in UTC.

    Attributes:
        clock: The system clock, which may say 1970 or 2106.
        build: When the running system was built.
        verified: The `verified_date` of the last verdict that led to a commit; `build` when there was none.
    """

    clock: datetime
    build: datetime
    verified: datetime

    # keeps: S16
    @property
    def reference(self) -> datetime:
        """The latest of the three; expiry dates are compared with it."""
        return max(self.clock, self.build, self.verified)

    @property
    def source(self) -> str:
        """Which of the three it is: `clock`, `build` or `verified`."""
        return next(name for name in ("clock", "build", "verified") if getattr(self, name) == self.reference)


@dataclass(frozen=True, slots=True)
class TrustFloors:
    """Versions below which nothing is trusted any more (S8): of the root and of the targets document."""

    root: int = 1
    targets: int = 1


@dataclass(frozen=True, slots=True)
class TrustRequest:
    """Everything a verdict depends on; nothing else is looked at.

    Attributes:
        trusted_root: The root document that was built in; nothing that the device stores takes its place.
        trust_section: The image's, unverified.
        manifest: The image's, unverified.
        policy: What to demand.
        time: What time it may be.
        floors: What not to fall below.
        kept_targets: The targets document that this device trusted last; None when it keeps none. Its roles change
            only by as many signatures as they had to give themselves (S24).
        kept_roots: The newer roots that this device has trusted, oldest first (`trust.kept_roots`); they count as far
            as they follow from `trusted_root`.
    """

    trusted_root: bytes = field(repr=False)
    trust_section: bytes = field(repr=False)
    manifest: bytes = field(repr=False)
    policy: TrustPolicy
    time: TrustTime
    floors: TrustFloors = field(default_factory=TrustFloors)
    kept_targets: bytes | None = field(default=None, repr=False)
    kept_roots: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class RoleResult:
    """How one required role did: how many valid signatures it needed, and the ids of the keys that gave one."""

    role: str
    threshold: int
    key_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DateCheck:
    """One comparison with the reference time: of what, and when it expires."""

    what: str
    expires: datetime
    expired: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """The manifest is trusted; a refusal is an exception instead.

    Attributes:
        manifest_digest: SHA-256 of the manifest bytes that were verified, 64 hex digits. Whoever goes on parses the
            same bytes and compares.
        new_roots: Root documents newer than the device's, oldest first; to be stored at commit, not before (S8).
        root_version: Of the root that was used in the end.
        targets_version: Of the targets document.
        targets: That document; to be stored at commit like the roots, as the next `TrustRequest.kept_targets`.
        roles: One for each required role.
        reference: The time that dates were compared with.
        time_source: Which clock that was.
        dates: Each comparison made.
        overridden: What had expired and was let pass by `ignore_expiry`; goes into the audit.
        ignored_keys: Ids of signatures by keys that no required role names. They prove nothing and do no harm.
        verified_date: The next `TrustTime.verified`. Comes from signed documents alone and never passes their expiry,
            so that one bad clock, here or on a build host, cannot push it.
    """

    manifest_digest: str
    new_roots: tuple[bytes, ...] = field(repr=False)
    root_version: int
    targets_version: int
    roles: tuple[RoleResult, ...]
    reference: datetime
    time_source: str
    dates: tuple[DateCheck, ...]
    overridden: tuple[str, ...]
    ignored_keys: tuple[str, ...]
    verified_date: datetime
    targets: bytes = field(repr=False)

    def summary(self) -> dict[str, object]:
        """What people and the audit want to know, JSON-ready; without the documents."""
        return {
            "manifest": self.manifest_digest,
            "root_version": self.root_version,
            "new_roots": len(self.new_roots),
            "targets_version": self.targets_version,
            "roles": [{"role": r.role, "threshold": r.threshold, "key_ids": list(r.key_ids)} for r in self.roles],
            "reference": _write_time(self.reference),
            "time_source": self.time_source,
            "dates": [{"what": d.what, "expires": _write_time(d.expires), "expired": d.expired} for d in self.dates],
            "overridden": list(self.overridden),
            "ignored_keys": list(self.ignored_keys),
            "verified_date": _write_time(self.verified_date),
        }


def encode_request(request: TrustRequest) -> bytes:
    """The request as one line of JSON."""
    time, floors = request.time, request.floors
    return _write(
        {
            "trusted_root": _write_bytes(request.trusted_root),
            "trust_section": _write_bytes(request.trust_section),
            "manifest": _write_bytes(request.manifest),
            "required_roles": list(request.policy.required_roles),
            "ignore_expiry": request.policy.ignore_expiry,
            "time": [_write_time(time.clock), _write_time(time.build), _write_time(time.verified)],
            "floors": [floors.root, floors.targets],
            "kept_targets": None if request.kept_targets is None else _write_bytes(request.kept_targets),
            "kept_roots": [_write_bytes(root) for root in request.kept_roots],
        }
    )


def decode_request(data: bytes) -> TrustRequest:
    """Read a request back.

    Raises:
        LifecycleError: `lifecycle.trust-pipe`: not one of ours.
    """
    fields = _read(data)
    try:
        return TrustRequest(
            trusted_root=_read_bytes(fields["trusted_root"]),
            trust_section=_read_bytes(fields["trust_section"]),
            manifest=_read_bytes(fields["manifest"]),
            policy=TrustPolicy(tuple(fields["required_roles"]), ignore_expiry=fields["ignore_expiry"]),
            time=TrustTime(*(_read_time(text) for text in fields["time"])),
            floors=TrustFloors(*fields["floors"]),
            kept_targets=None if fields["kept_targets"] is None else _read_bytes(fields["kept_targets"]),
            kept_roots=tuple(_read_bytes(root) for root in fields["kept_roots"]),
        )
    except (KeyError, TypeError, ValueError) as e:
        raise _not_ours(e) from e


def encode_verdict(verdict: Verdict) -> bytes:
    """The verdict as one line of JSON."""
    documents = {
        "new_roots": [_write_bytes(root) for root in verdict.new_roots],
        "targets": _write_bytes(verdict.targets),
    }
    return _write(verdict.summary() | documents)


def decode_verdict(data: bytes) -> Verdict:
    """Read a verdict back.

    Raises:
        LifecycleError: `lifecycle.trust-pipe`: not one of ours.
    """
    fields = _read(data)
    try:
        return Verdict(
            manifest_digest=fields["manifest"],
            new_roots=tuple(_read_bytes(root) for root in fields["new_roots"]),
            root_version=fields["root_version"],
            targets_version=fields["targets_version"],
            roles=tuple(RoleResult(r["role"], r["threshold"], tuple(r["key_ids"])) for r in fields["roles"]),
            reference=_read_time(fields["reference"]),
            time_source=fields["time_source"],
            dates=tuple(DateCheck(d["what"], _read_time(d["expires"]), d["expired"]) for d in fields["dates"]),
            overridden=tuple(fields["overridden"]),
            ignored_keys=tuple(fields["ignored_keys"]),
            verified_date=_read_time(fields["verified_date"]),
            targets=_read_bytes(fields["targets"]),
        )
    except (KeyError, TypeError, ValueError) as e:
        raise _not_ours(e) from e


def _write(fields: Mapping[str, object]) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def _read(data: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(data)
    except ValueError as e:
        raise _not_ours(e) from e
    if not isinstance(fields, dict):
        raise _not_ours(TypeError("not an object"))
    return fields


def _not_ours(error: Exception) -> LifecycleError:
    return LifecycleError(
        "the trust process and its caller do not understand each other", code="trust-pipe", found=error
    )


def _write_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime(_FORMAT)


def _read_time(text: str) -> datetime:
    return datetime.strptime(text, _FORMAT).replace(tzinfo=UTC)


def _write_bytes(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _read_bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
