"""Signatures on a manifest: made here by a key, or made elsewhere and attached; and what documents say of keys."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner, Signature  # type: ignore[attr-defined]
from tuf.api.metadata import Targets  # type: ignore[attr-defined]  # marked as export nowhere

from twinslot.core.canonical import encode, parse_document
from twinslot.core.errors import Refusal, RefusedError
from twinslot.core.manifest import parse_manifest
from twinslot_image.key_documents import parse_metadata, parse_signed
from twinslot_image.key_files import ID_SHOWN


def sign_manifest(manifest: bytes, targets: bytes, role: str, signer: CryptoSigner) -> bytes:
    """The manifest with one more signature; its signed part is unchanged.

    Raises:
        RefusedError: `refused.role-unknown` or `refused.wrong-key`: the key is not one of this role's.
    """
    role_keys(targets, role, signer.public_key.keyid)
    return _add_signature(manifest, signer.sign(signed_bytes(manifest)))


def attach_signature(manifest: bytes, targets: bytes, role: str, signature: bytes) -> bytes:
    """The manifest with a signature made elsewhere (a hardware module, another building) by one of the role's keys.

    Raises:
        RefusedError: `refused.role-unknown`, or `refused.bad-signature`: it is by none of the role's keys.
    """
    for key_id, key in role_keys(targets, role).items():
        candidate = Signature(key_id, signature.hex())
        try:
            key.verify_signature(candidate, signed_bytes(manifest))
        except UnverifiedSignatureError:
            continue
        return _add_signature(manifest, candidate)
    what, hint = f"the signature was made by no key of role '{role}'", "sign the bytes that '--detached-payload' wrote"
    raise RefusedError(Refusal("bad-signature", what, hint=hint))


def signed_bytes(manifest: bytes) -> bytes:
    """What a signature over this manifest covers."""
    parse_manifest(manifest)
    document: dict[str, Any] = parse_document(manifest, "manifest")
    return str(encode_canonical(document["signed"])).encode()


def _add_signature(manifest: bytes, signature: Signature) -> bytes:
    """A second signature by one key takes the place of its first: keys are counted, not signatures."""
    document: dict[str, Any] = parse_document(manifest, "manifest")
    kept = [entry for entry in document["signatures"] if entry["keyid"] != signature.keyid]
    document["signatures"] = sorted([*kept, signature.to_dict()], key=lambda entry: str(entry["keyid"]))
    signed = encode(document)
    parse_manifest(signed)
    return signed


def role_key_ids(targets: bytes) -> dict[str, tuple[int, tuple[str, ...]]]:
    """For each role of a targets document, its threshold and the ids of its keys; for people, unverified.

    Also of one that no device reads: `inspect` shows what stands there.
    """
    delegations = getattr(parse_metadata(targets, "the targets document").signed, "delegations", None)
    roles = (delegations.roles if delegations else None) or {}
    return {name: (role.threshold, tuple(role.keyids)) for name, role in roles.items()}


def describe_document(data: bytes) -> tuple[str, int, datetime]:
    """Type, version and expiry of a root or targets document; for people, unverified."""
    signed = parse_metadata(data, "the image's trust section").signed
    return signed.type, signed.version, signed.expires


def role_keys(targets: bytes, role: str, key_id: str | None = None) -> dict[str, Any]:
    """The public keys of a role, by id; for signing, unverified.

    Args:
        targets: The image's targets document.
        role: Its name.
        key_id: Of a key that must be one of them.

    Raises:
        RefusedError: `refused.role-unknown`, or `refused.wrong-key`: the key is not one of this role's.
    """
    signed = parse_signed(targets, "the targets document", Targets)
    if role not in signed.delegations.roles:
        known = ", ".join(signed.delegations.roles)
        raise RefusedError(Refusal("role-unknown", f"the image has no role '{role}'", known, role))
    keys = {each: signed.delegations.keys[each] for each in signed.delegations.roles[role].keyids}
    if key_id is not None and key_id not in keys:
        known = ", ".join(each[:ID_SHOWN] for each in sorted(keys))
        what, hint = f"this key does not belong to role '{role}'", "'twinslot-image keys list' shows whose key it is"
        raise RefusedError(Refusal("wrong-key", what, known, key_id[:ID_SHOWN], hint))
    return keys
