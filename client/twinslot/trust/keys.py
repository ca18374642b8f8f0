"""Public keys and the roles that hold them, checked before tuf sees them.

tuf counts key ids. We count keys: one key under two ids, or in two roles that must both agree, would let one person
sign twice (docs/image-format.md section 10.3).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from twinslot.core.errors import Refusal
from twinslot.core.fields import Fields, form

KEYS_MAX = 64  # keys in one document
THRESHOLD_MAX = 32  # what we are ready to read as a threshold; the number of keys bounds it further
SECTION = "trust"
KEY_ID = re.compile(r"[0-9a-f]{64}")
_ED25519 = form(r"[0-9a-f]{64}", "64 hex digits, lower case")  # RFC 8032, section 5.1.5: 32 bytes
_PEM = form(r"-----BEGIN PUBLIC KEY-----\n[A-Za-z0-9+/=\n]{1,1000}-----END PUBLIC KEY-----\n?", "a public key in PEM")
_SCHEME = form(r"[a-z0-9][a-z0-9./_-]{0,63}", "1 to 64 lower-case letters, digits and . / _ -")
_ANY_KEY = form(r"[ -~\n]{1,16384}", "1 to 16384 printable characters")  # ML-DSA-87 has 2592 bytes (FIPS 204, table 2)
_CURVES = {"ecdsa-sha2-nistp256": "secp256r1", "ecdsa-sha2-nistp384": "secp384r1"}
RSA = "rsassa-pss-sha256"
SCHEMES = ("ed25519", *_CURVES, RSA)
_RSA_BITS = range(3072, 4097)  # 128 bits of strength from 3072 on (NIST SP 800-57-1, table 2); above, time
_RSA_EXPONENT = 65537  # FIPS 186-5, appendix A.1.1: the least that it allows, and what every module makes
# The points of small order, without the sign bit: a signature that verifies by one of them needs no private key.
SMALL_ORDER = frozenset(
    (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
)


@dataclass(frozen=True, slots=True)
class RoleKeys:
    """Who may sign for a role, and how many of them must."""

    name: str
    key_ids: tuple[str, ...]
    threshold: int


def check_keys(document: Fields, key: str) -> dict[str, bool]:
    """The ids of a document's keys, and whether each is of a kind that we know; no key stands there twice.

    One of a kind that came later is skipped: it stays in the document, and counts nowhere (TUF specification 1.0.31,
    section 4.2), so that a maker can give a role such a key while old devices still count its others.

    Raises:
        ImageError: `image.trust`: not a key, or one key under two ids.
    """
    seen: dict[bytes, str] = {}
    counts: dict[str, bool] = {}
    entries = document.mapping(key, KEY_ID, KEYS_MAX)
    for key_id, value in entries.items():
        fields = Fields(value, document.name(f"{key}.{key_id[:8]}"), ("keytype", "keyval", "scheme"), SECTION)
        counts[key_id] = fields.text("scheme", _SCHEME) in SCHEMES
        public = _public_bytes(fields) if counts[key_id] else _unknown_bytes(fields)
        if public in seen:
            raise fields.bad("keyval", "a key that no other id names", f"the key of {seen[public][:8]}")
        seen[public] = key_id
    return counts


def read_role(fields: Fields, name: str, counts: Mapping[str, bool]) -> RoleKeys:
    """A role's keys, as far as they are of a kind that counts, and its threshold; `refuse_role` judges them.

    Args:
        fields: Of the role.
        name: Of the role.
        counts: As `check_keys` has it.

    Raises:
        ImageError: `image.trust`: not key ids, an id twice or without a key, or a threshold that is no whole number.
    """
    ids = fields.objects("keyids", KEYS_MAX)
    known = [value for value in ids if isinstance(value, str) and value in counts]
    if len(known) != len(ids) or len(set(known)) != len(known):
        raise fields.bad("keyids", "ids of keys in this document, none twice", ids)
    threshold = fields.integer("threshold", -(2**53), 2**53)
    return RoleKeys(name, tuple(key_id for key_id in known if counts[key_id]), threshold)


def refuse_role(role: RoleKeys, what: str) -> tuple[Refusal, ...]:
    """Why a role can never mean anything: its threshold is below one, or above its number of distinct keys."""
    high = min(len(role.key_ids), THRESHOLD_MAX)
    if 1 <= role.threshold <= high:
        return ()
    return (Refusal("threshold", f"{what}: threshold", f"1 to {high}, its number of keys", str(role.threshold)),)


def refuse_shared_keys(roles: Mapping[str, RoleKeys]) -> tuple[Refusal, ...]:
    """Why two required roles are not two: a key that stands in both."""
    reasons = []
    names = sorted(roles)
    for index, first in enumerate(names):
        for second in names[index + 1 :]:
            shared = set(roles[first].key_ids) & set(roles[second].key_ids)
            if shared:
                ids = ", ".join(sorted(key_id[:8] for key_id in shared))
                what = f"roles '{first}' and '{second}' are both required"
                reasons.append(Refusal("shared-key", what, "no key in both", f"{len(shared)}: {ids}"))
    return tuple(reasons)


def public_bytes(key: object) -> bytes:
    """One form for one key, as a document has it; what `check_keys` asks of each key, too.

    Raises:
        ImageError: `image.trust`: unknown scheme, or not a key that a device takes.
    """
    return _public_bytes(Fields(key, "key", ("keytype", "keyval", "scheme"), SECTION))


def _unknown_bytes(fields: Fields) -> bytes:
    """Of a key that we cannot use, as it stands there; its form is that of all keys."""
    fields.text("keytype", _SCHEME)
    value = Fields(fields.get("keyval"), fields.name("keyval"), ("public",), SECTION)
    return f"{fields.get('scheme')} {value.text('public', _ANY_KEY)}".encode()


def _public_bytes(fields: Fields) -> bytes:
    """One form for one key, whatever spaces its PEM holds."""
    scheme = fields.choice("scheme", SCHEMES)
    value = Fields(fields.get("keyval"), fields.name("keyval"), ("public",), SECTION)
    if scheme == "ed25519":
        fields.choice("keytype", ("ed25519",))
        point = bytes.fromhex(value.text("public", _ED25519))
        if bytes([*point[:31], point[31] & 0x7F]).hex() in SMALL_ORDER:
            raise value.bad("public", "a key that has a private half", "a point of small order")
        return point
    fields.choice("keytype", ("rsa" if scheme == RSA else "ecdsa",))
    text = value.text("public", _PEM)
    try:
        key = load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm) as e:
        raise value.bad("public", "a public key", text) from e
    if scheme == RSA:
        _check_rsa(value, key)
    elif not isinstance(key, EllipticCurvePublicKey) or key.curve.name != _CURVES[scheme]:
        raise value.bad("public", f"a key on {_CURVES[scheme]}", text)
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _check_rsa(value: Fields, key: object) -> None:
    expected = f"an RSA key of {_RSA_BITS.start} to {_RSA_BITS.stop - 1} bits with exponent {_RSA_EXPONENT}"
    if not isinstance(key, RSAPublicKey):
        raise value.bad("public", expected, "a key of another kind")
    exponent = key.public_numbers().e
    if key.key_size not in _RSA_BITS or exponent != _RSA_EXPONENT:
        raise value.bad("public", expected, f"{key.key_size} bits with exponent {exponent}")
