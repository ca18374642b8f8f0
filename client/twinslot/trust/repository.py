"""Decides which of a repository's documents are to be believed: TUF's client workflow (TUF 1.0, section 5).

Bytes and time in, documents to keep and a word on targets out. No I/O: whoever uses it brings each document that is
asked for. Meant for the short-lived trust process, as `trust.verify`.

The rules, in the order of the code:

 1. The root that the device was built with is the anchor. Each next root is one version higher, and signed by the
    threshold of the root before and by its own; those that were kept are judged as those of the server are. Only the
    last one must not have expired.
 2. The timestamp is signed by the last root's role, and goes back neither in its version nor in the snapshot's. What
    was kept and is no longer signed by that role counts for nothing: so a repository recovers whose stolen keys were
    used to raise versions (fast-forward attack).
 3. The snapshot is the one that the timestamp names, by version and by digest where there is one. No document that the
    kept snapshot names may be gone, or go back.
 4. The targets document, and each delegated one on the way to a target, is the one that the snapshot names, and is
    signed by the role that delegates to it, on each way to it again.
 5. None of these has expired, by the device's notion of time (S16). A document is kept once it has passed all of its
    rules, whatever becomes of the ones behind it.
 6. A signature counts if its key is one that a device takes (`trust.keys`), and two ids of one key count once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypeVar

from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import (  # type: ignore[attr-defined]  # documented there, marked as export nowhere
    Key,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError, SerializationError

from twinslot.core.bounds import DOCUMENT_LIMIT
from twinslot.core.errors import DeviceError, Refusal, RefusedError, TransportError, TwinslotError
from twinslot.trust.keys import public_bytes
from twinslot.trust.repository_messages import (
    NAME_MAX,
    VERSION_MAX,
    DocumentRequest,
    FoundTarget,
    FreshMetadata,
    RepositoryQuestion,
    quoted,
)

# The bounds are those of python-tuf's client (tuf.ngclient.config).
ROOTS_MAX: Final = 256  # roots in one refresh
ROOT_LIMIT: Final = 512_000  # bytes
TIMESTAMP_LIMIT: Final = 16_384
SNAPSHOT_LIMIT: Final = 2_000_000
DATE: Final = "%Y-%m-%dT%H:%M:%SZ"  # as TUF writes them
PUBLISHED: Final = "x-twinslot-published"  # in a timestamp: when it was signed; clients that do not know it ignore it
DELEGATIONS_MAX: Final = 32  # roles that are looked at for one target

_Kind = TypeVar("_Kind", Root, Timestamp, Snapshot, Targets)
_Delegator = Root | Targets


class DocumentSource(Protocol):
    """Where documents come from and are kept: the other end of the trust process, or a test."""

    def document(self, request: DocumentRequest) -> bytes | None:
        """The document; None: there is none."""
        ...

    def keep(self, request: DocumentRequest) -> None:
        """The document that was given last, for this request, is trusted from now on."""
        ...


# keeps: S29
def refresh(question: RepositoryQuestion, source: DocumentSource) -> FreshMetadata:
    """Bring the metadata up to date, and look for targets.

    Raises:
        RefusedError: `refused.repository-signatures`, `refused.repository-version`, `refused.repository-expired`: what
            the server has is not trusted; what had been kept before counts on.
        TransportError: `transport.repository`: the server's documents are none, or do not belong together.
        DeviceError: `device.trust-root`: this device's own root is damaged.
    """
    workflow = _Workflow(question, source)
    workflow.follow_roots()
    workflow.load_timestamp()
    workflow.load_snapshot()
    workflow.load_targets("targets", workflow.root, "root")
    found = {path: workflow.find(path) for path in question.paths}
    return workflow.fresh(found)


@dataclass(frozen=True, slots=True)
class _Visit:
    """A role that may know a target, and who says so."""

    role: str
    delegator: _Delegator
    delegator_name: str


class _Workflow:
    """One refresh; the methods in the order in which they are called."""

    def __init__(self, question: RepositoryQuestion, source: DocumentSource) -> None:
        self._source = source
        self._time = question.time
        self._now = question.time.reference
        self.root = _read_anchor(question.root)
        self._timestamp: Timestamp
        self._snapshot: Snapshot
        self._loaded: dict[tuple[str, str], Targets] = {}  # by role and delegator
        self._ends: list[datetime] = []

    # 1. Roots

    def follow_roots(self) -> None:
        """From the anchor to the newest."""
        for _ in range(ROOTS_MAX):
            if not (self._next_root(stored=True) or self._next_root(stored=False)):
                break
        self._refuse_expired("root", self.root)

    def _next_root(self, *, stored: bool) -> bool:
        request = DocumentRequest("root", self.root.version + 1, ROOT_LIMIT, stored)
        data = self._source.document(request)
        if data is None:
            return False
        if not stored:
            self.root = self._judged_root(data)
            self._source.keep(request)
            return True
        with contextlib.suppress(TwinslotError):  # a kept root that does not fit counts as not kept
            self.root = self._judged_root(data)
            return True
        return False

    def _judged_root(self, data: bytes) -> Root:
        metadata = _read(Root, data, "root")
        root: Root = metadata.signed
        if root.version != self.root.version + 1:
            raise _gone_back("root", f"version {self.root.version + 1}", f"version {root.version}")
        _check_signatures(self.root, "root", metadata)
        _check_signatures(root, "root", metadata)
        return root

    # 2. Timestamp

    def load_timestamp(self) -> None:
        """The server's, unless the kept one is as new."""
        request = DocumentRequest("timestamp", None, TIMESTAMP_LIMIT)
        before = self._kept(Timestamp, "timestamp")
        metadata = _read(Timestamp, self._fetched(request), "timestamp")
        _check_signatures(self.root, "timestamp", metadata)
        after: Timestamp = metadata.signed
        if before is not None:
            _compare_versions("timestamp", before.version, after.version)
            _compare_versions("snapshot", before.snapshot_meta.version, after.snapshot_meta.version)
        newer = before is None or after.version > before.version
        self._timestamp = after if newer or before is None else before
        self._refuse_expired("timestamp", self._timestamp)
        if newer:
            self._source.keep(request)

    # 3. Snapshot

    def load_snapshot(self) -> None:
        """The one that the timestamp names: kept, or the server's."""
        meta = self._timestamp.snapshot_meta
        before = self._kept(Snapshot, "snapshot", None)
        if before is not None and before.version == meta.version and self._kept(Snapshot, "snapshot", meta) is not None:
            self._snapshot = before
            self._refuse_expired("snapshot", before)
            return
        request = self._request("snapshot", meta, SNAPSHOT_LIMIT)
        data = self._fetched(request)
        _check_digest("snapshot", meta, data)
        metadata = _read(Snapshot, data, "snapshot")
        _check_signatures(self.root, "snapshot", metadata)
        after: Snapshot = metadata.signed
        for name, named in before.meta.items() if before else ():
            _compare_versions(name, named.version, after.meta[name].version if name in after.meta else None)
        _check_named("snapshot", meta, after.version)
        self._refuse_expired("snapshot", after)
        self._source.keep(request)
        self._snapshot = after

    # 4. Targets

    def load_targets(self, role: str, delegator: _Delegator, delegator_name: str) -> Targets:
        """A targets document, by the word of this delegator."""
        if loaded := self._loaded.get((role, delegator_name)):
            return loaded
        meta = self._snapshot.meta.get(f"{role}.json")
        if meta is None:
            raise _mixed(f"the repository's snapshot does not name '{role}.json'")
        request = self._request(role, meta, DOCUMENT_LIMIT)
        targets = self._kept_targets(role, meta, delegator)
        if targets is None:
            targets = self._judged_targets(role, meta, delegator, self._fetched(request))
            self._source.keep(request)
        self._ends.append(targets.expires)
        self._loaded[role, delegator_name] = targets
        return targets

    def _kept_targets(self, role: str, meta: MetaFile, delegator: _Delegator) -> Targets | None:
        data = self._source.document(DocumentRequest(role, None, DOCUMENT_LIMIT, stored=True))
        if data is None:
            return None
        try:
            return self._judged_targets(role, meta, delegator, data)
        except TwinslotError:
            return None

    def _judged_targets(self, role: str, meta: MetaFile, delegator: _Delegator, data: bytes) -> Targets:
        _check_digest(role, meta, data)
        metadata = _read(Targets, data, role)
        _check_signatures(delegator, role, metadata)
        targets: Targets = metadata.signed
        _check_named(role, meta, targets.version)
        self._refuse_expired(role, targets, note=False)
        return targets

    def find(self, path: str) -> FoundTarget | None:
        """Depth first, in the order of the delegations, up to one that terminates (TUF 1.0, section 5.6.7)."""
        visits, seen = [_Visit("targets", self.root, "root")], set[str]()
        while visits and len(seen) < DELEGATIONS_MAX:
            visit = visits.pop()
            if visit.role in seen:
                continue
            seen.add(visit.role)
            targets = self.load_targets(visit.role, visit.delegator, visit.delegator_name)
            if target := targets.targets.get(path):
                prefixed = bool(self.root.consistent_snapshot)
                return FoundTarget(path, target.length, dict(target.hashes), prefixed)
            children, terminates = _children(targets, visit.role, path)
            visits = [*([] if terminates else visits), *reversed(children)]
        return None

    def fresh(self, targets: dict[str, FoundTarget | None]) -> FreshMetadata:
        """What there is to say in the end."""
        loaded = self._loaded["targets", "root"]
        tops: dict[str, Any] = {"root": self.root, "timestamp": self._timestamp, "snapshot": self._snapshot}
        versions = {role: int(document.version) for role, document in (tops | {"targets": loaded}).items()}
        return FreshMetadata(
            versions, min(self._ends), self._now, self._time.source, targets, _published(self._timestamp)
        )

    # All of them

    def _request(self, role: str, meta: MetaFile, limit: int) -> DocumentRequest:
        if len(quoted(role)) > NAME_MAX:
            raise _mixed(f"the repository has a role whose name is longer than {NAME_MAX} characters")
        if meta.version > VERSION_MAX:
            raise _mixed(f"the repository names a version of '{role}' that no file has", f"at most {VERSION_MAX}")
        bound = int(min(meta.length or limit, limit))  # int: tuf takes true for 1
        return DocumentRequest(role, int(meta.version) if self.root.consistent_snapshot else None, bound)

    def _fetched(self, request: DocumentRequest) -> bytes:
        data = self._source.document(request)
        if data is None:
            raise _mixed(f"the repository lacks '{request.file_name}'")
        return data

    def _kept(self, kind: type[_Kind], role: str, meta: MetaFile | None = None) -> _Kind | None:
        """What was kept of a top-level role, while the root's keys still vouch for it; with `meta`, of this digest."""
        data = self._source.document(DocumentRequest(role, None, DOCUMENT_LIMIT, stored=True))
        if data is None:
            return None
        try:
            metadata = _read(kind, data, role)
            _check_signatures(self.root, role, metadata)
            if meta is not None:
                _check_digest(role, meta, data)
        except TwinslotError:
            return None
        return metadata.signed

    def _refuse_expired(self, role: str, document: Root | Timestamp | Snapshot | Targets, *, note: bool = True) -> None:
        if note:
            self._ends.append(document.expires)
        if self._now < document.expires:
            return
        expected = f"a date after {self._now:%Y-%m-%d %H:%M} (by '{self._time.source}')"
        found, hint = f"{document.expires:%Y-%m-%d %H:%M}", "does the maker still publish, and is the clock right?"
        raise RefusedError(
            Refusal("repository-expired", f"the repository's '{role}' document has expired", expected, found, hint)
        )


# keeps: REQ-REP-06
def _published(timestamp: Timestamp) -> datetime | None:
    """When it was signed; None: it does not say so, or names a moment after its own end, which is no such time."""
    try:
        said = datetime.strptime(timestamp.unrecognized_fields[PUBLISHED], DATE).replace(tzinfo=UTC)
    except (KeyError, TypeError, ValueError):
        return None
    return said if said <= timestamp.expires else None


def _children(targets: Targets, role: str, path: str) -> tuple[list[_Visit], bool]:
    """The roles that this document asks about a path, in order; and whether nobody else is asked after them."""
    children: list[_Visit] = []
    delegations = targets.delegations
    for name, terminating in _roles_for(delegations, path):
        children.append(_Visit(name, targets, role))
        if terminating:
            return children, True
    return children, False


def _roles_for(delegations: Any, path: str) -> Iterator[tuple[str, bool]]:
    if delegations is not None:
        yield from delegations.get_roles_for_target(path)


def _read_anchor(data: bytes) -> Root:
    try:
        metadata = _read(Root, data, "root")
        _check_signatures(metadata.signed, "root", metadata)
    except TwinslotError as e:
        hint = "restore the root document that the product was built with"
        raise DeviceError("the repository's root of trust is damaged", code="trust-root", found=e, hint=hint) from e
    return metadata.signed


def _read(kind: type[_Kind], data: bytes, role: str) -> Metadata[_Kind]:
    try:
        metadata: Metadata[_Kind] = Metadata.from_bytes(data)
    except DeserializationError as e:
        found = e.__cause__ or e
        raise _mixed(f"the repository's '{role}' document is no TUF metadata", found=found) from e
    if not isinstance(metadata.signed, kind):
        raise _mixed(f"the repository's '{role}' document is of another type", kind.type, metadata.signed.type)
    return metadata


def _check_signatures(delegator: _Delegator, role: str, metadata: Metadata[Any]) -> None:
    """By the threshold of keys that this delegator names for the role."""
    try:
        result = delegator.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
    except (ValueError, SerializationError) as e:
        raise _mixed(f"the repository's '{role}' document is delegated by nobody", found=e) from e
    keys = {found for key in result.signed.values() if (found := _sound(key)) is not None}
    if len(keys) < result.threshold:
        what = f"the repository's '{role}' document, version {metadata.signed.version}"
        one = result.threshold == 1
        expected = "1 valid signature" if one else f"valid signatures of {result.threshold} keys"
        raise RefusedError(Refusal("repository-signatures", what, expected, str(len(keys))))


def _sound(key: Key) -> bytes | None:
    """One form for one key; None: of a kind that no device takes."""
    public = key.keyval.get("public")
    keytype = "ecdsa" if key.scheme.startswith("ecdsa-") else key.keytype  # some write the scheme there, too
    try:
        return public_bytes({"keytype": keytype, "scheme": key.scheme, "keyval": {"public": public}})
    except TwinslotError:
        return None


def _check_digest(role: str, meta: MetaFile, data: bytes) -> None:
    try:
        meta.verify_length_and_hashes(data)
    except LengthOrHashMismatchError as e:
        raise _mixed(f"the repository's '{role}' document is not the one that was announced", found=e) from e


def _check_named(role: str, meta: MetaFile, version: int) -> None:
    if version != meta.version:
        what = f"the repository's '{role}' document is not the one that was announced"
        raise _mixed(what, f"version {meta.version}", f"version {version}")


def _compare_versions(role: str, before: int, after: int | None) -> None:
    if after is None or after < before:
        raise _gone_back(role, f"at least version {before}", "nothing" if after is None else f"version {after}")


def _gone_back(role: str, expected: str, found: str) -> RefusedError:
    what, hint = f"the repository's '{role}' document has gone back", "is this the address of the right repository?"
    return RefusedError(Refusal("repository-version", what, expected, found, hint))


def _mixed(message: str, expected: object = None, found: object = None) -> TransportError:
    hint = "try again later; if it stays, the maker must publish the repository anew"
    return TransportError(message, code="repository", expected=expected, found=found, hint=hint)
