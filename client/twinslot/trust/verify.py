"""Decides whether a manifest is to be believed. The device's only importer of tuf and securesystemslib.

Bytes, policy and time in; a verdict out (`trust.verdict`). Meant for a short-lived process, since importing this costs
35 MB.

The rules, in the order of the code (docs/image-format.md section 10):

 1. The policy names at least one role, none twice.
 2. The stored root is the anchor. Roots in the image lead on from it, each one version higher, each signed by the
    threshold of the root before and by its own. An expired root still leads to the next one (TUF 5.3.4 to 5.3.7).
 3. The last root is not below the root floor, and not expired.
 4. The targets document is signed by that root's `targets` role, not below its floor, and not expired. It signs
    nothing itself; it delegates, by path, and each delegation ends there.
 5. None of these documents outranks what this device trusts already: what a new root or the targets document replaces
    is replaced by as many signatures as it had to give itself (S24, `trust.replaced`).
 6. Every role that the policy names is delegated, its threshold is between one and its number of distinct keys, and
    no key stands in two of them.
 7. Every role that the policy names has its threshold of valid signatures over the manifest's signed bytes, and may
    sign for every name in it.
 8. The manifest has not expired.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from securesystemslib.formats import encode_canonical
from tuf.api.metadata import (  # type: ignore[attr-defined]  # documented there, marked as export nowhere
    Metadata,
    Root,
    Targets,
    VerificationResult,
)
from tuf.api.serialization import DeserializationError

from twinslot.core.canonical import parse_document
from twinslot.core.errors import DeviceError, ImageError, Refusal, RefusedError
from twinslot.core.fields import Fields, bad
from twinslot.core.manifest import NAME, SEQUENCE_MAX, SPEC, parse_manifest, read_signatures
from twinslot.image.wire import DOCUMENT_MAX, TrustDocuments, parse_trust
from twinslot.trust.keys import KEYS_MAX, SECTION, RoleKeys, check_keys, read_role, refuse_role, refuse_shared_keys
from twinslot.trust.replaced import Step, delegated_roles, kept_roles, refuse_outranked, top_roles
from twinslot.trust.verdict import DateCheck, RoleResult, TrustFloors, TrustRequest, Verdict

_ROLES_MAX = 32  # delegations in one targets document
_PATHS_MAX = 16  # patterns in one delegation
SIGNATURES_MAX = 2 * KEYS_MAX  # of one document: a root may have those of the keys before and of its own
_TUF_ROLES = ("root", "snapshot", "targets", "timestamp")


@dataclass(frozen=True, slots=True)
class _Document:
    """One TUF document: its bytes, the bytes that its signatures cover, and tuf's reading of it."""

    data: bytes
    signed: bytes
    metadata: Metadata[Any]
    roles: dict[str, RoleKeys]

    @property
    def version(self) -> int:
        version: int = self.metadata.signed.version
        return version

    @property
    def expires(self) -> datetime:
        expires: datetime = self.metadata.signed.expires
        return expires


def verify(request: TrustRequest) -> Verdict:
    """Follow the rules above.

    Raises:
        ImageError: The trust section or the manifest is malformed, whoever signed it.
        RefusedError: Not trusted: every reason found at the step that failed, with the role and the counts.
        DeviceError: This device's own root or policy cannot be used (`device.trust-root`, `device.trust-policy`).
    """
    required = _check_policy(request)
    documents = parse_trust(request.trust_section)
    anchor, new_roots, targets = _follow(request.trusted_root, documents, request.floors, request.kept_targets)
    root = new_roots[-1] if new_roots else anchor
    _refuse(_check_roles(targets, required))
    manifest = parse_manifest(request.manifest)
    metadata = _read_metadata(request.manifest, "manifest")
    results = _verify_roles(targets, required, request.manifest, metadata)
    _refuse(_check_signatures(results) + _check_paths(targets, required, list(metadata.signed.targets)))
    dates = _compare_dates(request, root, targets, manifest.expires)
    ignored = set(manifest.key_ids) - {key_id for result in results.values() for key_id in result.signed}
    ends = min(date.expires for date in dates)
    return Verdict(
        manifest_digest=manifest.digest,
        new_roots=tuple(document.data for document in new_roots),
        root_version=root.version,
        targets_version=targets.version,
        roles=tuple(RoleResult(name, r.threshold, tuple(sorted(r.signed))) for name, r in results.items()),
        reference=request.time.reference,
        time_source=request.time.source,
        dates=dates,
        overridden=tuple(date.what for date in dates if date.expired),
        ignored_keys=tuple(sorted(ignored)),
        verified_date=max(request.time.verified, min(manifest.built, ends)),
        targets=targets.data,
    )


def check_documents(trusted_root: bytes, documents: TrustDocuments, kept_targets: bytes) -> None:
    """Judge roots and a targets document as a device would that has this root and keeps that document; dates aside.

    Raises:
        ImageError: A document is malformed.
        RefusedError: Not trusted, with every reason of the step that failed.
        DeviceError: The trusted root or the kept document cannot be used.
    """
    _follow(trusted_root, documents, TrustFloors(), kept_targets)


def _follow(
    trusted_root: bytes, documents: TrustDocuments, floors: TrustFloors, kept: bytes | None
) -> tuple[_Document, list[_Document], _Document]:
    """The anchor, the roots that are newer, and the targets document: rules 2 to 5 without the dates."""
    anchor = _read_anchor(trusted_root)
    new_roots = _follow_chain(anchor, [_read_root(data) for data in documents.roots])
    root = new_roots[-1] if new_roots else anchor
    targets = _read_targets(documents.targets)
    _refuse(_check_root_floor(root, floors.root))
    _refuse(_check_targets(anchor, root, targets, floors.targets))
    _refuse(_check_steps(kept, (anchor, *new_roots), targets))
    return anchor, new_roots, targets


def _refuse(reasons: tuple[Refusal, ...]) -> None:
    if reasons:
        raise RefusedError(reasons)


# 1. The policy


def _check_policy(request: TrustRequest) -> tuple[str, ...]:
    roles = request.policy.required_roles
    if not roles or len(set(roles)) != len(roles):
        hint = "name each role that must sign, once, in 'trust.roles'"
        raise DeviceError("the trust policy", code="trust-policy", expected="one role or more", found=roles, hint=hint)
    return roles


# 2. The chain of roots


def _read_anchor(data: bytes) -> _Document:
    try:
        anchor = _read_root(data)
        _refuse(_check_root_signatures(anchor, anchor))
    except (ImageError, RefusedError) as e:
        hint = "restore the root document that the product was built with"
        raise DeviceError("this device's trusted root is damaged", code="trust-root", found=e, hint=hint) from e
    return anchor


def _follow_chain(anchor: _Document, chain: list[_Document]) -> list[_Document]:
    """The roots that are newer than the anchor, each verified by the one before."""
    for before, after in pairwise(chain):
        if after.version != before.version + 1:
            raise bad("roots", f"version {before.version + 1}", f"version {after.version}", SECTION)
    newer = [root for root in chain if root.version > anchor.version]
    trusted = anchor
    for root in newer:
        if root.version != trusted.version + 1:
            what, hint = (
                "the image's root chain does not reach this device",
                "install an image with an older chain first",
            )
            raise RefusedError(
                Refusal("root-gap", what, f"root version {trusted.version + 1}", f"root version {root.version}", hint)
            )
        _refuse(_check_root_signatures(trusted, root))
        trusted = root
    return newer


def _check_root_signatures(previous: _Document, root: _Document) -> tuple[Refusal, ...]:
    reasons = refuse_role(root.roles["root"], f"root version {root.version}, role 'root'")
    reasons += refuse_role(root.roles["targets"], f"root version {root.version}, role 'targets'")
    if reasons:
        return reasons
    for signer in (previous, root):
        result = signer.metadata.signed.get_verification_result("root", root.signed, root.metadata.signatures)
        if not result:
            reasons += (_too_few(f"root version {root.version}, by the keys of version {signer.version}", result),)
    return reasons


def _check_root_floor(root: _Document, floor: int) -> tuple[Refusal, ...]:
    if root.version >= floor:
        return ()
    return (Refusal("root-version", "the trusted root has gone back", f"at least {floor}", str(root.version)),)


# 4. The targets document


def _check_targets(anchor: _Document, root: _Document, targets: _Document, floor: int) -> tuple[Refusal, ...]:
    result = root.metadata.signed.get_verification_result("targets", targets.signed, targets.metadata.signatures)
    if not result:
        return (_too_few("the targets document, role 'targets'", result),)
    # When every key of the role was replaced, no old document verifies any more, and the floor may be the mark of
    # whoever stole the old keys (TUF's fast-forward attack, specification 1.5.2).
    replaced = not set(anchor.roles["targets"].key_ids) & set(root.roles["targets"].key_ids)
    if targets.version < floor and not replaced:
        what = "the targets document has gone back"
        return (Refusal("targets-version", what, f"at least {floor}", str(targets.version)),)
    return ()


# 5. What is replaced


def _check_steps(kept: bytes | None, chain: tuple[_Document, ...], targets: _Document) -> tuple[Refusal, ...]:
    roles = kept_roles(kept)
    reasons: tuple[Refusal, ...] = ()
    for before, root in pairwise(chain):
        tops = top_roles(_signed_part(before)), top_roles(_signed_part(root))
        count = _count_signatures(before, "root", root)
        reasons += refuse_outranked(Step(f"root version {root.version}", "root", count, *tops, behind=roles))
    count = _count_signatures(chain[-1], "targets", targets)
    delegated = delegated_roles(_signed_part(targets))
    return reasons + refuse_outranked(Step("the targets document", "targets", count, roles, delegated, behind={}))


def _count_signatures(by: _Document, role: str, document: _Document) -> int:
    """How many keys of this role in the root `by` have signed the document."""
    result = by.metadata.signed.get_verification_result(role, document.signed, document.metadata.signatures)
    return len(result.signed)


def _signed_part(document: _Document) -> dict[str, Any]:
    signed = parse_document(document.data, SECTION)["signed"]
    assert isinstance(signed, dict)  # Fields has seen to it
    return signed


# 6. The roles that the policy names


def _check_roles(targets: _Document, required: tuple[str, ...]) -> tuple[Refusal, ...]:
    known = ", ".join(sorted(targets.roles)) or "(none)"
    reasons: tuple[Refusal, ...] = ()
    for name in required:
        if name not in targets.roles:
            reasons += (Refusal("role-unknown", "the targets document lacks a required role", name, known),)
        else:
            reasons += refuse_role(targets.roles[name], f"role '{name}'")
    return reasons + refuse_shared_keys({name: targets.roles[name] for name in required if name in targets.roles})


# 7. The signatures over the manifest


def _verify_roles(
    targets: _Document, required: tuple[str, ...], manifest: bytes, metadata: Metadata[Any]
) -> dict[str, VerificationResult]:
    signed = _signed_bytes(parse_document(manifest, "manifest"))
    verifier: Targets = targets.metadata.signed
    return {name: verifier.get_verification_result(name, signed, metadata.signatures) for name in required}


def _check_signatures(results: dict[str, VerificationResult]) -> tuple[Refusal, ...]:
    return tuple(_too_few(f"role '{name}'", result) for name, result in results.items() if not result)


def _check_paths(targets: _Document, required: tuple[str, ...], names: list[str]) -> tuple[Refusal, ...]:
    reasons = []
    for role in required:
        delegated = targets.metadata.signed.delegations.roles[role]
        outside = [name for name in sorted(names) if not delegated.is_delegated_path(name)]
        if outside:
            expected = " or ".join(delegated.paths)
            reasons.append(Refusal("path", f"role '{role}' may not sign for this", expected, ", ".join(outside)))
    return tuple(reasons)


def _too_few(what: str, result: VerificationResult) -> Refusal:
    signatures = "1 valid signature" if result.threshold == 1 else f"{result.threshold} valid signatures"
    return Refusal("signatures", what, signatures, str(len(result.signed)))


# 3, 4 and 8. The dates, all at once


def _compare_dates(
    request: TrustRequest, root: _Document, targets: _Document, manifest_expires: datetime
) -> tuple[DateCheck, ...]:
    now = request.time.reference
    ends = ((f"root version {root.version}", root.expires), ("targets document", targets.expires))
    dates = tuple(DateCheck(what, end, now >= end) for what, end in (*ends, ("manifest", manifest_expires)))
    if not request.policy.ignore_expiry:
        _refuse(tuple(_expired(request, date) for date in dates if date.expired))
    return dates


def _expired(request: TrustRequest, date: DateCheck) -> Refusal:
    return Refusal(
        "expired",
        f"the {date.what} has expired",
        f"a date after {request.time.reference:%Y-%m-%d %H:%M} (by '{request.time.source}')",
        f"{date.expires:%Y-%m-%d %H:%M}",
        "check the device's clock, or fetch a newer image",
    )


# Reading: form first, then tuf


def _read_root(data: bytes) -> _Document:
    keys = ("_type", "consistent_snapshot", "expires", "keys", "roles", "spec_version", "version")
    signed = _read_signed(data, keys, "root")
    signed.flag("consistent_snapshot")
    key_ids = check_keys(signed, "keys")
    roles = Fields(signed.get("roles"), signed.name("roles"), _TUF_ROLES, SECTION)
    return _document(data, Root, {name: _read_role(roles.get(name), name, key_ids) for name in _TUF_ROLES})


def _read_role(value: object, name: str, key_ids: frozenset[str]) -> RoleKeys:
    return read_role(Fields(value, f"roles.{name}", ("keyids", "threshold"), SECTION), name, key_ids)


def _read_targets(data: bytes) -> _Document:
    keys = ("_type", "delegations", "expires", "spec_version", "targets", "version")
    signed = _read_signed(data, keys, "targets")
    if signed.get("targets") != {}:
        raise signed.bad("targets", "nothing, since this document only delegates", signed.get("targets"))
    delegations = Fields(signed.get("delegations"), signed.name("delegations"), ("keys", "roles"), SECTION)
    key_ids = check_keys(delegations, "keys")
    roles = {}
    for value in delegations.objects("roles", _ROLES_MAX):
        role = Fields(value, "delegations.roles", ("keyids", "name", "paths", "terminating", "threshold"), SECTION)
        name = role.text("name", NAME)
        if name in roles or not role.flag("terminating"):
            raise role.bad("name", "each role once, and terminating", name)
        _check_patterns(role)
        roles[name] = read_role(role, name, key_ids)
    return _document(data, Targets, roles)


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


def _document(data: bytes, kind: type[Root | Targets], roles: dict[str, RoleKeys]) -> _Document:
    # A threshold that tuf itself refuses is judged by us, with the counts: tuf is only asked when it can read it.
    for role in roles.values():
        if role.threshold < 1:
            raise RefusedError(refuse_role(role, f"role '{role.name}'"))
    metadata = _read_metadata(data, SECTION)
    if not isinstance(metadata.signed, kind):
        raise bad("_type", kind.type, metadata.signed.type, SECTION)
    return _Document(data, _signed_bytes(parse_document(data, SECTION)), metadata, roles)


def _read_metadata(data: bytes, section: str) -> Metadata[Any]:
    try:
        metadata: Metadata[Any] = Metadata.from_bytes(data)
    except DeserializationError as e:
        found = e.__cause__ or e
        raise ImageError(f"the '{section}' section holds no TUF metadata", code=section, found=found) from e
    return metadata


def _signed_bytes(document: dict[str, object]) -> bytes:
    """What the signatures cover: OLPC canonical JSON of `signed`, made from the parsed bytes and nothing else."""
    signed = document["signed"]
    assert isinstance(signed, dict)  # Fields has seen to it
    return str(encode_canonical(signed)).encode()
