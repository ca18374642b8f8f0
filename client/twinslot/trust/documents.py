"""Root and targets documents: first their form (docs/image-format.md section 4), then tuf's reading of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from securesystemslib.formats import encode_canonical
from tuf.api.metadata import (  # type: ignore[attr-defined]  # documented there, marked as export nowhere
    Metadata,
    Root,
    Targets,
    VerificationResult,
)
from tuf.api.serialization import DeserializationError

from twinslot.core.canonical import encode, parse_document
from twinslot.core.errors import ImageError, Refusal, RefusedError
from twinslot.core.fields import Fields, bad
from twinslot.core.manifest import NAME, SEQUENCE_MAX, SPEC, read_signatures
from twinslot.image.wire import DOCUMENT_MAX
from twinslot.trust.keys import KEYS_MAX, SECTION, RoleKeys, check_keys, read_role, refuse_role

ROLES_MAX = 32  # delegations in one targets document
_PATHS_MAX = 16  # patterns in one delegation
SIGNATURES_MAX = 2 * KEYS_MAX  # of one document: a root may have those of the keys before and of its own
_TUF_ROLES = ("root", "snapshot", "targets", "timestamp")


@dataclass(frozen=True, slots=True)
class Document:
    """One TUF document: its bytes, the bytes that its signatures cover, and tuf's reading of it."""

    data: bytes
    signed: bytes
    metadata: Metadata[Any]
    roles: dict[str, RoleKeys]

    @property
    def version(self) -> int:
        """As it says itself."""
        version: int = self.metadata.signed.version
        return version

    @property
    def expires(self) -> datetime:
        """At this second it is no longer good."""
        expires: datetime = self.metadata.signed.expires
        return expires


def read_root(data: bytes) -> Document:
    """A root document; nothing is verified.

    Raises:
        ImageError: It does not have the form.
        RefusedError: A threshold below one.
    """
    keys = ("_type", "consistent_snapshot", "expires", "keys", "roles", "spec_version", "version")
    signed = _read_signed(data, keys, "root")
    signed.flag("consistent_snapshot")
    counts = check_keys(signed, "keys")
    roles = Fields(signed.get("roles"), signed.name("roles"), _TUF_ROLES, SECTION)
    return _document(data, Root, {name: _read_role(roles.get(name), name, counts) for name in _TUF_ROLES}, counts)


def _read_role(value: object, name: str, counts: Mapping[str, bool]) -> RoleKeys:
    return read_role(Fields(value, f"roles.{name}", ("keyids", "threshold"), SECTION), name, counts)


def read_targets(data: bytes) -> Document:
    """A targets document that only delegates; nothing is verified.

    Raises:
        ImageError: It does not have the form.
        RefusedError: A threshold below one.
    """
    keys = ("_type", "delegations", "expires", "spec_version", "targets", "version")
    signed = _read_signed(data, keys, "targets")
    if signed.get("targets") != {}:
        raise signed.bad("targets", "nothing, since this document only delegates", signed.get("targets"))
    delegations = Fields(signed.get("delegations"), signed.name("delegations"), ("keys", "roles"), SECTION)
    counts = check_keys(delegations, "keys")
    roles = {}
    for value in delegations.objects("roles", ROLES_MAX):
        role = Fields(value, "delegations.roles", ("keyids", "name", "paths", "terminating", "threshold"), SECTION)
        name = role.text("name", NAME)
        if name in roles or not role.flag("terminating"):
            raise role.bad("name", "each role once, and terminating", name)
        _check_patterns(role)
        roles[name] = read_role(role, name, counts)
    return _document(data, Targets, roles, counts)


def read_metadata(data: bytes, section: str) -> Metadata[Any]:
    """What tuf makes of it.

    Raises:
        ImageError: `image.SECTION`: nothing.
    """
    try:
        metadata: Metadata[Any] = Metadata.from_bytes(data)
    except DeserializationError as e:
        found = e.__cause__ or e
        raise ImageError(f"the '{section}' section holds no TUF metadata", code=section, found=found) from e
    return metadata


def signed_bytes(document: dict[str, object]) -> bytes:
    """What the signatures cover: OLPC canonical JSON of `signed`, made from the parsed bytes and nothing else."""
    signed = document["signed"]
    assert isinstance(signed, dict)  # Fields has seen to it
    return str(encode_canonical(signed)).encode()


def signed_part(document: Document) -> dict[str, Any]:
    """What stands under `signed`, as plain data."""
    signed = parse_document(document.data, SECTION)["signed"]
    assert isinstance(signed, dict)  # Fields has seen to it
    return signed


def count_signatures(by: Document, role: str, document: Document) -> int:
    """How many keys of this role in the root `by` have signed the document."""
    result = by.metadata.signed.get_verification_result(role, document.signed, document.metadata.signatures)
    return len(result.signed)


def refuse(reasons: tuple[Refusal, ...]) -> None:
    """All reasons at once.

    Raises:
        RefusedError: There is one or more.
    """
    if reasons:
        raise RefusedError(reasons)


def too_few(what: str, result: VerificationResult) -> Refusal:
    """Too few valid signatures."""
    signatures = "1 valid signature" if result.threshold == 1 else f"{result.threshold} valid signatures"
    return Refusal("signatures", what, signatures, str(len(result.signed)))


def _check_patterns(role: Fields) -> None:
    paths = role.objects("paths", _PATHS_MAX)
    if not paths or not all(isinstance(path, str) and NAME.fullmatch(path.replace("*", "x")) for path in paths):
        raise role.bad("paths", "names, in which * stands for anything", paths)


def _read_signed(data: bytes, keys: tuple[str, ...], kind: str) -> Fields:
    if len(data) > DOCUMENT_MAX:
        raise bad(kind, f"at most {DOCUMENT_MAX} bytes", f"{len(data)} bytes", SECTION)
    whole = Fields(parse_document(data, SECTION), kind, ("signatures", "signed"), SECTION)
    read_signatures(whole, SIGNATURES_MAX)
    signed = Fields(whole.get("signed"), kind, keys, SECTION)
    signed.choice("_type", (kind,))
    signed.text("spec_version", SPEC)
    signed.integer("version", 1, SEQUENCE_MAX)
    signed.time("expires")
    return signed


def _counted_part(data: bytes, counts: Mapping[str, bool]) -> bytes:
    """What tuf gets to read: the document without keys of a kind that we do not know. What is signed stays whole."""
    if all(counts.values()):
        return data
    document: dict[str, Any] = parse_document(data, SECTION)
    signed = document["signed"]
    holder = signed.get("delegations", signed)
    holder["keys"] = {key_id: key for key_id, key in holder["keys"].items() if counts[key_id]}
    for role in holder["roles"].values() if isinstance(holder["roles"], dict) else holder["roles"]:
        role["keyids"] = [key_id for key_id in role["keyids"] if counts[key_id]]
    return encode(document)


def _document(
    data: bytes, kind: type[Root | Targets], roles: dict[str, RoleKeys], counts: Mapping[str, bool]
) -> Document:
    # A threshold that tuf itself refuses is judged by us, with the counts: tuf is only asked when it can read it.
    for role in roles.values():
        if role.threshold < 1:
            raise RefusedError(refuse_role(role, f"role '{role.name}'"))
    metadata = read_metadata(_counted_part(data, counts), SECTION)
    if not isinstance(metadata.signed, kind):
        raise bad("_type", kind.type, metadata.signed.type, SECTION)
    return Document(data, signed_bytes(parse_document(data, SECTION)), metadata, roles)
