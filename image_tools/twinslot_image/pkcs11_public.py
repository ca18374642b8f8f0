"""The public half of a key in a token, from the attributes of its objects (PKCS #11 3.0, sections 2.1 and 2.3).

Tokens do not agree on how a point is written: as an OCTET STRING in DER (ECDSA, and most of Ed25519), or bare.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

PublicKey: TypeAlias = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey

_CURVES: Final[dict[bytes, type[ec.EllipticCurve]]] = {  # an OBJECT IDENTIFIER (RFC 5480, section 2.1.1.1)
    bytes.fromhex("06082a8648ce3d030107"): ec.SECP256R1,
    bytes.fromhex("06052b81040022"): ec.SECP384R1,
}
_ED25519: Final = (  # the name as a PrintableString (PKCS #11 3.0, section 2.3.10), or 1.3.101.112 (RFC 8410)
    bytes.fromhex("130c656477617264733235353139"),
    bytes.fromhex("06032b6570"),
)


def ec_public(parameters: bytes, point: bytes) -> PublicKey:
    """From `CKA_EC_PARAMS` and `CKA_EC_POINT`.

    Raises:
        ValueError: Another curve, or no point of it.
    """
    if parameters in _ED25519:
        return ed25519.Ed25519PublicKey.from_public_bytes(_bare(point, 32))
    if parameters not in _CURVES:
        raise ValueError(f"a curve with the parameters {parameters[:32].hex()}")
    curve = _CURVES[parameters]()
    return ec.EllipticCurvePublicKey.from_encoded_point(curve, _bare(point, 1 + 2 * (curve.key_size // 8)))


def rsa_public(modulus: bytes, exponent: bytes) -> PublicKey:
    """From `CKA_MODULUS` and `CKA_PUBLIC_EXPONENT`, big-endian.

    Raises:
        ValueError: Numbers that no key has.
    """
    return rsa.RSAPublicNumbers(int.from_bytes(exponent, "big"), int.from_bytes(modulus, "big")).public_key()


def _bare(point: bytes, size: int) -> bytes:
    """The point without the OCTET STRING around it. All of ours are shorter than 128 bytes: one byte says how long."""
    return point[2:] if point[:2] == bytes([4, size]) and len(point) == 2 + size else point
