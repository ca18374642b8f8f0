"""How an image says that it was built for a policy: signed, so that nobody signs for its roles without it."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from twinslot.core.canonical import parse_document
from twinslot.core.errors import ImageError, Refusal, RefusedError
from twinslot.core.manifest import parse_manifest
from twinslot_image.attachments import read_attachments
from twinslot_image.compose import AttachedFile, Front
from twinslot_image.gate.judge import Contents, judge
from twinslot_image.gate.policy import ReleasePolicy
from twinslot_image.recipients import LOCKED, Unlock
from twinslot_image.signing import role_key_ids

KEY: Final = "policy"  # of `x-twinslot`; no device looks at it


def bound(policy: ReleasePolicy) -> dict[str, Any]:
    """What stands in the manifest."""
    return {"roles": sorted(policy.roles), "sha256": policy.digest}


# keeps: REQ-IMG-29
def require_roles(policy: ReleasePolicy, targets: bytes) -> None:
    """A policy for a role that nobody has would hold nobody back.

    Args:
        policy: Of the description.
        targets: The targets document that goes into the image.

    Raises:
        ImageError: `image.description`: a role is none of the image's.
    """
    known = role_key_ids(targets)
    for role in sorted(set(policy.roles) - known.keys()):
        near = get_close_matches(role, known, 1)
        hint = f"did you mean '{near[0]}'?" if near else "'twinslot-image keys list' shows the roles"
        what = "the policy is for a role that the image does not have"
        raise ImageError(what, code="description", expected=", ".join(sorted(known)), found=role, hint=hint)


# keeps: REQ-IMG-29
def require(front: Front, image: Path, role: str, policy: ReleasePolicy | None, unlock: Unlock = LOCKED) -> None:
    """Refuse a signature for a role before the policy is met.

    Args:
        front: Of the image.
        image: Its file.
        role: Whose signature is to be added.
        policy: The one that whoever signs brings; None: none.
        unlock: Opens an encrypted image, whose attachments the policy reads.

    Raises:
        RefusedError: `refused.policy-missing`, `refused.policy-other`, `refused.encrypted`; or every reason of the
            policy.
    """
    said = _said(front.manifest)
    if policy is None:
        if role in said["roles"]:
            what = f"the image was built to be signed for role '{role}' under a policy"
            hint = "'twinslot-image sign --policy' with the image.toml that it was built from"
            raise RefusedError(Refusal("policy-missing", what, said["sha256"], "no policy", hint))
        return
    if role in said["roles"] and policy.digest != said["sha256"]:
        what = "the policy is another one than the image was built for"
        raise RefusedError(Refusal("policy-other", what, said["sha256"], policy.digest, "take its own image.toml"))
    if reasons := judge(policy, _contents(front, image, unlock)):
        raise RefusedError(reasons)


def _said(manifest: bytes) -> dict[str, Any]:
    """What the image says of a policy; nothing, in the same form, where it says nothing that is understood."""
    parse_manifest(manifest)
    document: dict[str, Any] = parse_document(manifest, "manifest")
    said = document["signed"]["x-twinslot"].get(KEY)
    roles = said.get("roles") if isinstance(said, dict) else None
    if not isinstance(said, dict) or not isinstance(roles, list) or not isinstance(said.get("sha256"), str):
        return {"roles": [], "sha256": ""}
    return {"roles": roles, "sha256": said["sha256"]}


def _contents(front: Front, image: Path, unlock: Unlock) -> Contents:
    """What an image holds, its attachments held to their digests.

    Raises:
        ImageError: It is damaged.
        RefusedError: `unlock` does not open it.
    """
    manifest = parse_manifest(front.manifest)
    data = read_attachments(image, unlock)
    attached = [AttachedFile(each.name, each.media_type, data[each.name], each.type) for each in manifest.attachments]
    payloads = {each.name: each.digest for each in manifest.payloads}
    return Contents(manifest.product, manifest.release.name, payloads, tuple(attached))
