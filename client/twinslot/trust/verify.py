"""Decides whether a manifest is to be believed. With `trust.documents` the device's only importer of tuf.

Bytes, policy and time in; a verdict out (`trust.verdict`). Meant for a short-lived process, since importing this costs
35 MB.

The rules, in the order of the code (docs/image-format.md section 10):

 1. The policy names at least one role, none twice.
 2. The built-in root is the anchor. The roots that this device kept lead on from it, and those in the image from there:
    each one version higher, each signed by the threshold of the root before and by its own (`trust.roots`). A kept root
    that does not follow is not used, nor is any behind it. An expired root still leads to the next one (TUF 5.3.4 to
    5.3.7).
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

from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from typing import Any

from tuf.api.metadata import (  # type: ignore[attr-defined]  # documented there, marked as export nowhere
    Metadata,
    Targets,
    VerificationResult,
)

from twinslot.core.canonical import parse_document
from twinslot.core.errors import DeviceError, Refusal, TwinslotError
from twinslot.core.manifest import parse_manifest
from twinslot.image.wire import TrustDocuments, parse_trust
from twinslot.trust.documents import (
    Document,
    count_signatures,
    read_metadata,
    read_root,
    read_targets,
    refuse,
    signed_bytes,
    signed_part,
    too_few,
)
from twinslot.trust.keys import refuse_role, refuse_shared_keys
from twinslot.trust.replaced import Step, delegated_roles, kept_roles, refuse_outranked, top_roles
from twinslot.trust.roots import follow_chain, walk
from twinslot.trust.verdict import DateCheck, RoleResult, TrustFloors, TrustRequest, Verdict

TellDropped = Callable[[int, TwinslotError], None]  # how many kept roots follow, and why the next one does not


def _untold(_fit: int, _why: TwinslotError) -> None:
    pass


# keeps: S2, S24
def verify(request: TrustRequest, tell: TellDropped = _untold) -> Verdict:
    """Follow the rules above.

    Args:
        request: All that the verdict depends on.
        tell: Told when kept roots do not follow from the built-in one, whatever then becomes of the image.

    Raises:
        ImageError: The trust section or the manifest is malformed, whoever signed it.
        RefusedError: Not trusted: every reason found at the step that failed, with the role and the counts.
        DeviceError: This device's own root or policy cannot be used (`device.trust-root`, `device.trust-policy`).
    """
    required = _check_policy(request)
    walked = walk(request.trusted_root, request.kept_roots)
    if walked.stopped is not None:
        tell(walked.fit, walked.stopped)
    anchor, documents = walked.newest, parse_trust(request.trust_section)
    new_roots, targets = _follow(anchor, documents, request.floors, request.kept_targets)
    root = new_roots[-1] if new_roots else anchor
    refuse(_check_roles(targets, required))
    manifest = parse_manifest(request.manifest)
    metadata = read_metadata(request.manifest, "manifest")
    results = _verify_roles(targets, required, request.manifest, metadata)
    refuse(_check_signatures(results) + _check_paths(targets, required, list(metadata.signed.targets)))
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
    _follow(walk(trusted_root, ()).newest, documents, TrustFloors(), kept_targets)


def _follow(
    anchor: Document, documents: TrustDocuments, floors: TrustFloors, kept: bytes | None
) -> tuple[list[Document], Document]:
    """The roots that are newer than the anchor, and the targets document: rules 2 to 5 without the dates."""
    new_roots = follow_chain(anchor, [read_root(data) for data in documents.roots])
    root = new_roots[-1] if new_roots else anchor
    targets = read_targets(documents.targets)
    refuse(_check_root_floor(root, floors.root))
    refuse(_check_targets(anchor, root, targets, floors.targets))
    refuse(_check_steps(kept, (anchor, *new_roots), targets))
    return new_roots, targets


# 1. The policy


def _check_policy(request: TrustRequest) -> tuple[str, ...]:
    roles = request.policy.required_roles
    if not roles or len(set(roles)) != len(roles):
        hint = "name each role that must sign, once, in 'trust.roles'"
        raise DeviceError("the trust policy", code="trust-policy", expected="one role or more", found=roles, hint=hint)
    return roles


# 3. The floor of the root


def _check_root_floor(root: Document, floor: int) -> tuple[Refusal, ...]:
    if root.version >= floor:
        return ()
    return (Refusal("root-version", "the trusted root has gone back", f"at least {floor}", str(root.version)),)


# 4. The targets document


def _check_targets(anchor: Document, root: Document, targets: Document, floor: int) -> tuple[Refusal, ...]:
    result = root.metadata.signed.get_verification_result("targets", targets.signed, targets.metadata.signatures)
    if not result:
        return (too_few("the targets document, role 'targets'", result),)
    # When every key of the role was replaced, no old document verifies any more, and the floor may be the mark of
    # whoever stole the old keys (TUF's fast-forward attack, specification 1.5.2).
    replaced = not set(anchor.roles["targets"].key_ids) & set(root.roles["targets"].key_ids)
    if targets.version < floor and not replaced:
        what = "the targets document has gone back"
        return (Refusal("targets-version", what, f"at least {floor}", str(targets.version)),)
    return ()


# 5. What is replaced


def _check_steps(kept: bytes | None, chain: tuple[Document, ...], targets: Document) -> tuple[Refusal, ...]:
    roles = kept_roles(kept)
    reasons: tuple[Refusal, ...] = ()
    for before, root in pairwise(chain):
        tops = top_roles(signed_part(before)), top_roles(signed_part(root))
        count = count_signatures(before, "root", root)
        reasons += refuse_outranked(Step(f"root version {root.version}", "root", count, *tops, behind=roles))
    count = count_signatures(chain[-1], "targets", targets)
    delegated = delegated_roles(signed_part(targets))
    return reasons + refuse_outranked(Step("the targets document", "targets", count, roles, delegated, behind={}))


# 6. The roles that the policy names


def _check_roles(targets: Document, required: tuple[str, ...]) -> tuple[Refusal, ...]:
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
    targets: Document, required: tuple[str, ...], manifest: bytes, metadata: Metadata[Any]
) -> dict[str, VerificationResult]:
    signed = signed_bytes(parse_document(manifest, "manifest"))
    verifier: Targets = targets.metadata.signed
    return {name: verifier.get_verification_result(name, signed, metadata.signatures) for name in required}


def _check_signatures(results: dict[str, VerificationResult]) -> tuple[Refusal, ...]:
    return tuple(too_few(f"role '{name}'", result) for name, result in results.items() if not result)


def _check_paths(targets: Document, required: tuple[str, ...], names: list[str]) -> tuple[Refusal, ...]:
    reasons = []
    for role in required:
        delegated = targets.metadata.signed.delegations.roles[role]
        outside = [name for name in sorted(names) if not delegated.is_delegated_path(name)]
        if outside:
            expected = " or ".join(delegated.paths)
            reasons.append(Refusal("path", f"role '{role}' may not sign for this", expected, ", ".join(outside)))
    return tuple(reasons)


# 3, 4 and 8. The dates, all at once


# keeps: S16
def _compare_dates(
    request: TrustRequest, root: Document, targets: Document, manifest_expires: datetime
) -> tuple[DateCheck, ...]:
    now = request.time.reference
    ends = ((f"root version {root.version}", root.expires), ("targets document", targets.expires))
    dates = tuple(DateCheck(what, end, now >= end) for what, end in (*ends, ("manifest", manifest_expires)))
    if not request.policy.ignore_expiry:
        refuse(tuple(_expired(request, date) for date in dates if date.expired))
    return dates


def _expired(request: TrustRequest, date: DateCheck) -> Refusal:
    return Refusal(
        "expired",
        f"the {date.what} has expired",
        f"a date after {request.time.reference:%Y-%m-%d %H:%M} (by '{request.time.source}')",
        f"{date.expires:%Y-%m-%d %H:%M}",
        "check the device's clock, or fetch a newer image",
    )
