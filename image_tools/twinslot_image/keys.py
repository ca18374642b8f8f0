"""Signing keys, and the TUF documents that say what they are good for. The tool's only importer of tuf and of keys.

A key directory holds `N.root.json` for each root version, `targets.json`, and `private/ROLE.KEYID.pem` (mode 0600). The
device gets `1.root.json` when it is made; everything later reaches it inside images.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner, Signature  # type: ignore[attr-defined]
from tuf.api.metadata import (  # type: ignore[attr-defined]  # documented there, marked as export nowhere
    DelegatedRole,
    Delegations,
    Metadata,
    Role,
    Root,
    Targets,
)
from tuf.api.serialization import DeserializationError

from twinslot.bundle.wire import ROOTS_MAX, TrustDocuments
from twinslot.core.canonical import encode, parse_document
from twinslot.core.errors import BundleError, DeviceError, Refusal, RefusedError
from twinslot.core.manifest import parse_manifest
from twinslot_image.compose import SPEC_VERSION
from twinslot_image.files import MODE_SECRET, write_whole

ROOT_DAYS = 5 * 365  # an offline root outlives most service intervals; the chain renews it
TARGETS_DAYS = 2 * 365
_ROOT_FILE = re.compile(r"([1-9][0-9]*)\.root\.json")


@dataclass(frozen=True, slots=True)
class RolePlan:
    """How a new role begins: how many keys are made for it, and how many of them must sign."""

    keys: int = 1
    threshold: int = 1


# Creating and rotating


def init_keys(
    directory: Path, roles: Mapping[str, RolePlan], root: RolePlan, now: datetime, passphrase: bytes | None = None
) -> None:
    """Make every key and the first documents.

    Raises:
        RefusedError: `refused.keys-exist`: there is a root already; nothing was changed.
    """
    if _root_versions(directory):
        raise RefusedError(Refusal("keys-exist", "the directory holds keys already", found=str(directory)))
    (directory / "private").mkdir(parents=True, exist_ok=True, mode=0o700)
    signers = {name: _make_keys(directory, name, plan, passphrase) for name, plan in roles.items()}
    root_signers = _make_keys(directory, "root", root, passphrase)
    targets_signers = _make_keys(directory, "targets", RolePlan(), passphrase)
    empty = {name: Role([], 1) for name in ("root", "targets", "snapshot", "timestamp")}
    document = Root(1, SPEC_VERSION, now + timedelta(days=ROOT_DAYS), {}, empty, consistent_snapshot=False)
    _set_keys(document, "root", root_signers, root.threshold)
    _set_keys(document, "targets", targets_signers, 1)
    _write(directory / "1.root.json", document, root_signers)
    delegated = {name: DelegatedRole(name, [], roles[name].threshold, True, paths=["*"]) for name in sorted(roles)}
    targets = Targets(1, SPEC_VERSION, now + timedelta(days=TARGETS_DAYS), {}, Delegations({}, delegated))
    for name, made in signers.items():
        for signer in made:
            targets.add_key(signer.public_key, name)
    _write(directory / "targets.json", targets, targets_signers)


def rotate_keys(directory: Path, role: str, now: datetime, passphrase: bytes | None = None) -> None:
    """Replace every key of a role by new ones, and renew the dates.

    `root` and `targets` get a new root version, signed by the old root keys and, for `root`, by the new ones; every
    role but `root` gets a new targets document.

    Raises:
        RefusedError: `refused.role-unknown`.
        DeviceError: `device.key`: a private key that must sign the change is not in the directory.
    """
    root = _load_root(directory)
    targets: Any = _load(directory / "targets.json").signed
    if role in ("root", "targets"):
        _rotate_in_root(directory, root, role, now, passphrase)
    elif role in targets.delegations.roles:
        old = list(targets.delegations.roles[role].keyids)
        for signer in _make_keys(directory, role, RolePlan(len(old)), passphrase):
            targets.add_key(signer.public_key, role)
        for key_id in old:
            targets.revoke_key(key_id, role)
    else:
        raise RefusedError(Refusal("role-unknown", "no such role", ", ".join(targets.delegations.roles), role))
    if role != "root":
        targets.version += 1
        targets.expires = now + timedelta(days=TARGETS_DAYS)
        signers = _load_role(directory, "targets", root.roles["targets"].keyids, passphrase)
        _write(directory / "targets.json", targets, signers)


def _rotate_in_root(directory: Path, root: Root, role: str, now: datetime, passphrase: bytes | None) -> None:
    signers = _load_role(directory, "root", root.roles["root"].keyids, passphrase)
    made = _make_keys(directory, role, RolePlan(len(root.roles[role].keyids)), passphrase)
    _set_keys(root, role, made, root.roles[role].threshold)
    root.version += 1
    root.expires = now + timedelta(days=ROOT_DAYS)
    _write(directory / f"{root.version}.root.json", root, [*signers, *made] if role == "root" else signers)


def load_trust(directory: Path) -> TrustDocuments:
    """What goes into an image: every root but the first, and the targets document.

    Raises:
        DeviceError: `device.keys`: the directory lacks them.
    """
    versions = _root_versions(directory)
    if not versions or not (directory / "targets.json").is_file():
        hint = "make them with 'twinslot-image keys init'"
        raise DeviceError("no root and targets documents", code="keys", found=directory, hint=hint)
    roots = tuple((directory / f"{version}.root.json").read_bytes() for version in versions[1:][-ROOTS_MAX:])
    return TrustDocuments(roots, (directory / "targets.json").read_bytes())


# Signing


def load_signer(pem: bytes, where: str, passphrase: bytes | None = None) -> CryptoSigner:
    """A private key in PEM (PKCS 8): Ed25519, or ECDSA on P-256 or P-384.

    Raises:
        DeviceError: `device.key`: not a key, or the passphrase does not open it.
    """
    try:
        return CryptoSigner(load_pem_private_key(pem, passphrase if b"ENCRYPTED" in pem else None))
    except (ValueError, TypeError) as e:
        hint = "an encrypted key needs its passphrase in TWINSLOT_KEY_PASSPHRASE"
        raise DeviceError(f"the private key from '{where}' cannot be used", code="key", found=e, hint=hint) from e


def sign_manifest(manifest: bytes, targets: bytes, role: str, signer: CryptoSigner) -> bytes:
    """The manifest with one more signature; its signed part is unchanged.

    Raises:
        RefusedError: `refused.role-unknown` or `refused.wrong-key`: the key is not one of this role's.
    """
    keys = _role_keys(targets, role)
    if signer.public_key.keyid not in keys:
        known = ", ".join(key_id[:8] for key_id in sorted(keys))
        what = f"the key is none of role '{role}'"
        raise RefusedError(Refusal("wrong-key", what, known, signer.public_key.keyid[:8]))
    return _add_signature(manifest, signer.sign(signed_bytes(manifest)))


def attach_signature(manifest: bytes, targets: bytes, role: str, signature: bytes) -> bytes:
    """The manifest with a signature made elsewhere (a hardware module, another building) by one of the role's keys.

    Raises:
        RefusedError: `refused.role-unknown`, or `refused.bad-signature`: it is by none of the role's keys.
    """
    for key_id, key in _role_keys(targets, role).items():
        candidate = Signature(key_id, signature.hex())
        try:
            key.verify_signature(candidate, signed_bytes(manifest))
        except UnverifiedSignatureError:
            continue
        return _add_signature(manifest, candidate)
    what, hint = f"the signature is by no key of role '{role}'", "sign the bytes that '--detached-payload' wrote"
    raise RefusedError(Refusal("bad-signature", what, hint=hint))


def signed_bytes(manifest: bytes) -> bytes:
    """What a signature over this manifest covers."""
    return str(encode_canonical(_signed(manifest))).encode()


def _signed(manifest: bytes) -> dict[str, Any]:
    parse_manifest(manifest)
    signed = parse_document(manifest, "manifest")["signed"]
    assert isinstance(signed, dict)
    return signed


def _add_signature(manifest: bytes, signature: Signature) -> bytes:
    document: dict[str, Any] = parse_document(manifest, "manifest")
    kept = [entry for entry in document["signatures"] if entry["keyid"] != signature.keyid]
    document["signatures"] = sorted([*kept, signature.to_dict()], key=lambda entry: str(entry["keyid"]))
    signed = encode(document)
    parse_manifest(signed)
    return signed


def role_key_ids(targets: bytes) -> dict[str, tuple[int, tuple[str, ...]]]:
    """For each role of a targets document, its threshold and the ids of its keys; for people, unverified."""
    roles = _parse(targets, "trust").signed.delegations.roles
    return {name: (role.threshold, tuple(role.keyids)) for name, role in roles.items()}


def describe_document(data: bytes) -> tuple[str, int, datetime]:
    """Type, version and expiry of a root or targets document; for people, unverified."""
    signed = _parse(data, "trust").signed
    return signed.type, signed.version, signed.expires


def _role_keys(targets: bytes, role: str) -> dict[str, Any]:
    signed = _parse(targets, "trust").signed
    if not signed.delegations or role not in (signed.delegations.roles or {}):
        known = ", ".join(signed.delegations.roles) if signed.delegations else ""
        raise RefusedError(Refusal("role-unknown", "the image's targets document has no such role", known, role))
    return {key_id: signed.delegations.keys[key_id] for key_id in signed.delegations.roles[role].keyids}


# Files


def _make_keys(directory: Path, role: str, plan: RolePlan, passphrase: bytes | None) -> list[CryptoSigner]:
    signers = []
    lock = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    for _ in range(plan.keys):
        key = Ed25519PrivateKey.generate()
        signer = CryptoSigner(key)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)
        write_whole(_key_file(directory, role, signer.public_key.keyid), pem, MODE_SECRET)
        signers.append(signer)
    return signers


def _key_file(directory: Path, role: str, key_id: str) -> Path:
    return directory / "private" / f"{role}.{key_id[:16]}.pem"


def _load_role(directory: Path, role: str, key_ids: Iterable[str], passphrase: bytes | None) -> list[CryptoSigner]:
    signers = []
    for key_id in key_ids:
        path = _key_file(directory, role, key_id)
        if not path.is_file():
            hint = "run this where the offline keys are"
            raise DeviceError(f"a private key of role '{role}' is not here", code="key", expected=path, hint=hint)
        signers.append(load_signer(path.read_bytes(), str(path), passphrase))
    return signers


def _set_keys(root: Root, role: str, signers: Iterable[CryptoSigner], threshold: int) -> None:
    for key_id in list(root.roles[role].keyids):
        root.revoke_key(key_id, role)
    for signer in signers:
        root.add_key(signer.public_key, role)
    root.roles[role].threshold = threshold


def _write(path: Path, signed: Root | Targets, signers: Iterable[CryptoSigner]) -> None:
    metadata: Metadata[Any] = Metadata(signed)
    for signer in signers:
        metadata.sign(signer, append=True)
    document = metadata.to_dict()
    document["signatures"].sort(key=lambda entry: entry["keyid"])
    write_whole(path, encode(document))


def _root_versions(directory: Path) -> list[int]:
    found = [_ROOT_FILE.fullmatch(path.name) for path in directory.iterdir()] if directory.is_dir() else []
    return sorted(int(match[1]) for match in found if match)


def _load_root(directory: Path) -> Root:
    versions = _root_versions(directory)
    if not versions:
        raise DeviceError("no root document", code="keys", found=directory, hint="run 'twinslot-image keys init'")
    root: Root = _load(directory / f"{versions[-1]}.root.json").signed
    return root


def _load(path: Path) -> Metadata[Any]:
    return _parse(path.read_bytes(), path.name)


def _parse(data: bytes, where: str) -> Metadata[Any]:
    try:
        metadata: Metadata[Any] = Metadata.from_bytes(data)
    except DeserializationError as e:
        raise BundleError(f"'{where}' holds no TUF metadata", code="trust", found=e.__cause__ or e) from e
    return metadata
