"""Real keys and TUF documents for tests, and the means to make them wrong on purpose."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]

from image_samples import make_sample
from twinslot.core.canonical import encode
from twinslot.image.wire import TrustDocuments, build_trust
from twinslot.trust.verdict import TrustFloors, TrustPolicy, TrustRequest, TrustTime
from twinslot_image.key_files import load_signer
from twinslot_image.keys import RolePlan, init_keys, load_trust
from twinslot_image.signing import sign_manifest

NOW = datetime(2026, 11, 15, tzinfo=UTC)
MADE = datetime(2026, 11, 1, tzinfo=UTC)
ROLES = ("engineering", "clinical")
Change = Callable[[dict[str, Any]], object]


def at(year: int, month: int = 1) -> TrustTime:
    """A device whose clock says this, and that knows nothing else."""
    early = datetime(2026, 1, 1, tzinfo=UTC)
    return TrustTime(datetime(year, month, 1, tzinfo=UTC), early, early)


@dataclass(frozen=True)
class Authority:
    """A key directory: root 2 of 3, targets 2 of 2, engineering 1 of 1, clinical 2 of 2."""

    directory: Path

    def signers(self, role: str) -> list[CryptoSigner]:
        """The role's private keys, old ones included."""
        paths = sorted((self.directory / "private").glob(f"{role}.*.pem"))
        return [load_signer(path.read_bytes(), str(path)) for path in paths]

    def root(self, version: int = 1) -> bytes:
        """One root document."""
        return (self.directory / f"{version}.root.json").read_bytes()

    def signed_manifest(self, roles: Iterable[str] = ROLES, manifest: bytes | None = None) -> bytes:
        """A manifest signed by every key of these roles."""
        trust = load_trust(self.directory)
        manifest = manifest or make_sample(trust=trust).manifest_bytes
        for role in roles:
            for signer in self.signers(role):
                manifest = sign_manifest(manifest, trust.targets, role, signer)
        return manifest

    def request(self, **changes: Any) -> TrustRequest:
        """A request that is granted as it stands; `roots`, `targets` and the request's own fields may be replaced."""
        trust = load_trust(self.directory)
        trust = TrustDocuments(changes.pop("roots", trust.roots), changes.pop("targets", trust.targets))
        good = TrustRequest(
            trusted_root=self.root(),
            trust_section=build_trust(trust),
            manifest=changes.pop("manifest", None) or self.signed_manifest(),
            policy=TrustPolicy(ROLES),
            time=TrustTime(NOW, MADE, MADE),
            floors=TrustFloors(),
        )
        return replace(good, **changes)


def make_authority(directory: Path) -> Authority:
    """New keys in a directory."""
    roles = {"engineering": RolePlan(), "clinical": RolePlan(2, 2)}
    init_keys(directory, roles, RolePlan(3, 2), MADE, targets=RolePlan(2, 2))
    return Authority(directory)


@dataclass(frozen=True)
class EcdsaKey:
    """A key as a hardware module has one, used with cryptography alone: Debian 13's CryptoSigner has no P-384."""

    private: ec.EllipticCurvePrivateKey

    @property
    def public(self) -> dict[str, Any]:
        """The key as it stands in a document."""
        pem = self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        scheme = f"ecdsa-sha2-nistp{self.private.curve.key_size}"
        return {"keytype": "ecdsa", "keyval": {"public": pem}, "scheme": scheme}

    @property
    def key_id(self) -> str:
        """Any 64 digits that belong to it alone."""
        return hashlib.sha256(encode(self.public)).hexdigest()

    def sign(self, data: bytes) -> bytes:
        """A signature in DER."""
        return self.private.sign(data, ec.ECDSA(SHA384() if self.private.curve.key_size == 384 else SHA256()))


def changed(data: bytes, change: Change, signers: Iterable[CryptoSigner]) -> bytes:
    """A document with its signed part changed, and signed anew by exactly these."""
    document = copy.deepcopy(json.loads(data))
    change(document["signed"])
    return resigned(document, signers)


def resigned(document: dict[str, Any], signers: Iterable[CryptoSigner]) -> bytes:
    """A document signed by exactly these, in canonical form."""
    covered = str(encode_canonical(document["signed"])).encode()
    signatures = [signer.sign(covered).to_dict() for signer in signers]
    return encode({**document, "signatures": sorted(signatures, key=lambda entry: entry["keyid"])})
