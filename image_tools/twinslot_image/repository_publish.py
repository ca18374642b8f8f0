"""Publishing: signed metadata for what is offered, put in place so that a reader always finds one whole state.

The order of the files is the whole trick: whatever is new has a new name (a version or a digest), and is there before
`timestamp.json`, the one file that is replaced, names it. An interrupted run leaves files that nothing names; the next
one writes them anew. Before `timestamp.json` is replaced, the device's own code judges the result from the first root:
what a device would refuse is not published.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import (  # type: ignore[attr-defined]  # documented there, marked as export nowhere
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from twinslot.core.approvals import approvals_path
from twinslot.core.canonical import encode
from twinslot.core.errors import DeviceError, TwinslotError
from twinslot.core.offer import OFFERS_SUFFIX
from twinslot.trust.repository import DATE, PUBLISHED, refresh
from twinslot.trust.repository_messages import DocumentRequest, FreshMetadata, RepositoryQuestion
from twinslot.trust.verdict import TrustTime
from twinslot_image.compose import SPEC_VERSION
from twinslot_image.key_documents import parse_metadata, parse_signed
from twinslot_image.key_files import open_role
from twinslot_image.replacement import write_whole
from twinslot_image.repository_approvals import approvals_of, approvers, is_complete
from twinslot_image.repository_files import (
    ROLE,
    Listed,
    RepositoryDirectory,
    read_listed,
    sign_document,
)

DAYS: Final = {ROLE: 90, "snapshot": 30, "timestamp": 7}  # how long each is fresh
TIMESTAMP: Final = "timestamp.json"


@dataclass(frozen=True, slots=True)
class PublishedRepository:
    """What was published.

    Attributes:
        fresh: Versions of the documents, and until when they are fresh.
        written: Files that are new.
        unapproved: Roles whose approvals devices do not get or do not believe, with the reason.
    """

    fresh: FreshMetadata
    written: tuple[str, ...]
    unapproved: dict[str, str]


def publish(
    directory: RepositoryDirectory, now: datetime, secret: bytes | None, days: dict[str, int]
) -> PublishedRepository:
    """Sign and write what is offered now.

    Args:
        directory: Of the repository.
        now: In UTC; dates count from it. The same inputs at the same time give the same bytes.
        secret: The passphrase of the private keys.
        days: How long documents are fresh; as `DAYS` unless said.

    Raises:
        DeviceError: `device.repository-files`: there is none; `device.key`: a key that must sign is not here.
        RefusedError: A device would refuse the result; nothing that readers see has changed.
    """
    listed = read_listed(directory)
    return _Publication(directory, now, secret, DAYS | days).run(listed)


class _Publication:
    """One run: documents are made in the order in which they name each other."""

    def __init__(
        self, directory: RepositoryDirectory, now: datetime, secret: bytes | None, days: dict[str, int]
    ) -> None:
        self._directory, self._now, self._secret, self._days = directory, now, secret, days
        self._files: dict[str, bytes] = {}  # below public/, in the order in which they are written
        keys = directory.keys
        self._root: Root = keys.documents().root
        self._first = keys.root_file(1).read_bytes()
        self._roots = {f"{version}.root.json": keys.root_file(version).read_bytes() for version in keys.root_versions()}

    def run(self, listed: Listed) -> PublishedRepository:
        """Make, judge, write."""
        for name, data in self._roots.items():
            self._files[f"metadata/{name}"] = data
        top = self._directory.keys.targets_file.read_bytes()
        targets: Targets = parse_signed(top, "targets.json", Targets)
        offers = self._offers(listed, targets)
        approved, waiting = self._approved()
        roles = {f"{role}.json": document for role, document in approved.items()}
        snapshot = self._snapshot({"targets.json": (targets.version, top), f"{ROLE}.json": offers} | roles)
        timestamp = self._timestamp(snapshot)
        self._files[f"metadata/{targets.version}.targets.json"] = top
        self._files[f"metadata/{offers[0]}.{ROLE}.json"] = offers[1]
        for role, (version, data) in approved.items():
            self._files[f"metadata/{version}.{role}.json"] = data
        self._files[f"metadata/{snapshot[0]}.snapshot.json"] = snapshot[1]
        self._files[f"metadata/{TIMESTAMP}"] = timestamp
        time = TrustTime(self._now, self._now, self._now)
        paths = tuple(f"{name}{OFFERS_SUFFIX}" for name in listed.names)
        fresh = refresh(RepositoryQuestion(self._first, time, paths), _Judged(self._files))
        waiting |= self._refused(approved, time) | self._unknown(listed)
        return PublishedRepository(fresh, tuple(self._write()), waiting)

    def _approved(self) -> tuple[dict[str, tuple[int, bytes]], dict[str, str]]:
        """The approvals by role that are signed, and why those of other roles are left as they were published."""
        found, waiting = {}, {}
        for role in sorted(approvers(self._directory)):
            known = approvals_of(self._directory, role)
            if known is not None and is_complete(self._directory, role, known[0]):
                digest = hashlib.sha256(known[1]).hexdigest()
                self._files[f"targets/{digest}.{approvals_path(role)}"] = known[1]
                found[role] = (known[0].signed.version, encode(known[0].to_dict()))
                continue
            if known is not None:
                waiting[role] = "its approvals lack signatures"
            if (published := self._before(role)) is not None:
                found[role] = (published[1].signed.version, published[0])
        return found, waiting

    def _unknown(self, listed: Listed) -> dict[str, str]:
        """Roles that waves wait for and that this repository does not have."""
        waves = (wave for offers in listed.offers.values() for offer in offers for wave in offer.get("waves", ()))
        named = {role for wave in waves for role in wave.get("approved_by", ())}
        why = "there is no such role, so a wave that waits for it never begins ('keys propose --add-role' makes one)"
        return dict.fromkeys(named - approvers(self._directory).keys(), why)

    def _refused(self, approved: dict[str, Any], time: TrustTime) -> dict[str, str]:
        """Approvals that no device would believe, by role; they keep nothing else from being published."""
        found = {}
        for role in approved:
            try:
                refresh(RepositoryQuestion(self._first, time, (approvals_path(role),)), _Judged(self._files))
            except TwinslotError as e:
                found[role] = str(e)
        return found

    def _write(self) -> list[str]:
        written = []
        for name, data in self._files.items():  # the timestamp is the last
            path = self._directory.public / name
            if not path.is_file() or path.read_bytes() != data:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, data)
                written.append(name)
        return written

    def _offers(self, listed: Listed, targets: Targets) -> tuple[int, bytes]:
        found = {}
        for name, data in sorted(listed.documents().items()):
            path = f"{name}{OFFERS_SUFFIX}"
            digest = hashlib.sha256(data).hexdigest()
            found[path] = TargetFile(len(data), {"sha256": digest}, path)
            self._files[f"targets/{digest}.{path}"] = data
        before = self._before(ROLE)
        if before is not None:
            same = before[1].signed.targets == found and not self._is_due(before[1].signed)
            if same and _is_signed(targets, ROLE, before[1]):
                return before[1].signed.version, before[0]
        version = before[1].signed.version + 1 if before else 1
        delegated = (targets.delegations.roles or {})[ROLE] if targets.delegations else None
        if delegated is None:
            what = f"the targets document of '{self._directory.path}' delegates to no role '{ROLE}'"
            raise DeviceError(what, code="repository-files", hint="was the directory made by 'repository init'?")
        signed = Targets(version, SPEC_VERSION, self._until(ROLE), found)
        return version, self._signed(ROLE, delegated, signed)

    def _snapshot(self, named: dict[str, tuple[int, bytes]]) -> tuple[int, bytes]:
        meta = {name: _meta(version, data) for name, (version, data) in named.items()}
        before = self._before("snapshot")
        if before is not None:
            same = before[1].signed.meta == meta and not self._is_due(before[1].signed)
            if same and _is_signed(self._root, "snapshot", before[1]):
                return before[1].signed.version, before[0]
        version = before[1].signed.version + 1 if before else 1
        signed = Snapshot(version, SPEC_VERSION, self._until("snapshot"), meta)
        return version, self._signed("snapshot", self._root.roles["snapshot"], signed)

    def _timestamp(self, snapshot: tuple[int, bytes]) -> bytes:
        before = self._before("timestamp")
        version = before[1].signed.version + 1 if before else 1
        said = {PUBLISHED: self._now.strftime(DATE)}
        signed = Timestamp(version, SPEC_VERSION, self._until("timestamp"), _meta(*snapshot), unrecognized_fields=said)
        return self._signed("timestamp", self._root.roles["timestamp"], signed)

    def _signed(self, role: str, known: Any, signed: Any) -> bytes:
        here = open_role(self._directory.keys, role, known.keyids, known.threshold, self._secret)
        return sign_document(signed, list(here.signers))

    def _before(self, role: str) -> tuple[bytes, Metadata[Any]] | None:
        """The document that readers see now, found from the timestamp on as they find it; None: there is none."""
        path = self._directory.metadata / TIMESTAMP
        if not path.is_file():
            return None
        document = (path.read_bytes(), parse_metadata(path.read_bytes(), str(path)))
        for step in ("snapshot", role) if role != "timestamp" else ():
            signed = document[1].signed
            meta = signed.snapshot_meta if step == "snapshot" else signed.meta.get(f"{step}.json")
            if meta is None:
                return None
            path = self._directory.metadata / f"{meta.version}.{step}.json"
            document = (path.read_bytes(), parse_metadata(path.read_bytes(), str(path)))
            if step == role:
                break
        return document

    def _until(self, role: str) -> datetime:
        return self._now + timedelta(days=self._days[role])

    def _is_due(self, signed: Any) -> bool:
        """Less than half of its time is left, or what is left is more than it may be."""
        role = ROLE if signed.type == Targets.type else signed.type
        left, whole = signed.expires - self._now, timedelta(days=self._days[role])
        return bool(left < whole / 2 or left > whole)


def _meta(version: int, data: bytes) -> MetaFile:
    return MetaFile(version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})


def _is_signed(delegator: Any, role: str, metadata: Metadata[Any]) -> bool:
    """Still, by the keys of today."""
    try:
        delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except UnsignedMetadataError:
        return False
    return True


class _Judged:
    """Implements `trust.repository.DocumentSource` on what is about to be written: a device that knows nothing yet."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def document(self, request: DocumentRequest) -> bytes | None:
        """What the server will have."""
        return None if request.stored else self._files.get(f"metadata/{request.file_name}")

    def keep(self, request: DocumentRequest) -> None:
        """Nothing is kept."""
