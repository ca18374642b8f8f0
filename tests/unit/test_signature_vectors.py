"""Signatures as an attacker writes them: zeros, values out of range, other encodings of a good one. None counts.

The cases are those of Project Wycheproof's ECDSA and EdDSA vectors, made here from keys of this test.
"""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA512
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key, Signature  # type: ignore[attr-defined]

import independent_verifier as independent
from trust_samples import EcdsaKey
from twinslot.core.errors import ImageError
from twinslot.core.fields import Fields
from twinslot.trust.keys import SMALL_ORDER, check_keys

MESSAGE = b"2026.11"
# Order of the base point: FIPS 186-4, D.1.2.3 and D.1.2.4; RFC 8032, section 5.1.
P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
P384 = int("F" * 48 + "C7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973", 16)
ED25519 = 2**252 + 27742317777372353535851937790883648493


def counts(key: dict[str, Any], signature: bytes) -> bool:
    """Whether the client's door to cryptography takes it."""
    key_id = "0" * 64
    check_keys(Fields({"keys": {key_id: key}}, "", ("keys",), "trust"), "keys")
    try:
        Key.from_dict(key_id, dict(key)).verify_signature(Signature(key_id, signature.hex()), MESSAGE)
    except UnverifiedSignatureError:
        return False
    return True


@pytest.mark.verifies("CVE-2022-24884")
@pytest.mark.parametrize(("curve", "order"), [(ec.SECP256R1(), P256), (ec.SECP384R1(), P384)], ids=["p256", "p384"])
def test_no_odd_ecdsa_signature_counts(curve: ec.EllipticCurve, order: int) -> None:
    signer = EcdsaKey(ec.generate_private_key(curve))
    key, whole = signer.public, signer.sign(MESSAGE)
    r, s = decode_dss_signature(whole)
    assert counts(key, whole)
    for odd_r, odd_s in [
        (0, 0),
        (0, s),
        (r, 0),
        (1, 1),
        (order, s),
        (r, order),
        (r + order, s),
        (r, s + order),
        (s, r),
    ]:
        assert not counts(key, encode_dss_signature(odd_r, odd_s)), (odd_r, odd_s)
    length = whole[1]
    body = whole[2:] if length < 128 else whole[3:]
    for spelled in [
        b"",
        b"\0",
        whole[:-1],
        whole + b"\0",
        b"\x30\x82" + len(body).to_bytes(2, "big") + body,  # BER: a longer form of the length
        b"\x30\x80" + body + b"\0\0",  # BER: indefinite length
        b"\x31" + whole[1:],  # a SET
        r.to_bytes(curve.key_size // 8, "big") + s.to_bytes(curve.key_size // 8, "big"),  # IEEE P1363, not DER
    ]:
        assert not counts(key, spelled), spelled.hex()


@pytest.mark.verifies("CVE-2022-24884")
def test_no_odd_ed25519_signature_counts() -> None:
    key, whole = ed25519_pair()
    point, scalar = whole[:32], int.from_bytes(whole[32:], "little")
    assert counts(key, whole)
    for odd in [
        b"",
        bytes(64),
        whole[:-1],
        whole + b"\0",
        point + bytes(32),
        bytes(32) + whole[32:],
        b"\1" + bytes(31) + whole[32:],  # the identity as R
        whole[32:] + point,
        point + (scalar + ED25519).to_bytes(32, "little"),  # the same point, written larger: malleable
        point + ED25519.to_bytes(32, "little"),
        point + b"\xff" * 32,
        bytes([point[0], *point[1:31], point[31] ^ 0x80]) + whole[32:],
    ]:
        assert not counts(key, odd), odd.hex()


def test_a_signature_by_another_key_does_not_count() -> None:
    (one, _), (_, by_two) = ed25519_pair(), ed25519_pair()
    assert not counts(one, by_two)


def ed25519_pair() -> tuple[dict[str, Any], bytes]:
    """A new key as it stands in a document, and its signature."""
    private = ed25519.Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw().hex()
    return {"keytype": "ed25519", "keyval": {"public": public}, "scheme": "ed25519"}, private.sign(MESSAGE)


@pytest.mark.verifies("CVE-2022-24884")
def test_no_point_of_small_order_is_a_key_and_each_that_is_refused_is_one() -> None:
    points = [bytes.fromhex(text) for text in SMALL_ORDER]
    encodings = [bytes([*point[:31], point[31] | sign]) for point in points for sign in (0, 128)]
    assert all(map(independent.small_order, encodings))
    for point in encodings:
        key = {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": point.hex()}}
        with pytest.raises(ImageError, match="small order"):
            check_keys(Fields({"keys": {"0" * 64: key}}, "", ("keys",), "trust"), "keys")
    honest = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    assert not independent.small_order(honest)


def test_an_rsa_signature_counts_with_pss_and_sha_256_alone() -> None:
    private = rsa.generate_private_key(65537, 3072)
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    key = {"keytype": "rsa", "scheme": "rsassa-pss-sha256", "keyval": {"public": pem}}
    for salt in (0, 20, 32, padding.PSS.MAX_LENGTH):
        assert counts(key, private.sign(MESSAGE, padding.PSS(padding.MGF1(SHA256()), salt), SHA256()))
    good = private.sign(MESSAGE, padding.PSS(padding.MGF1(SHA256()), 32), SHA256())
    for odd in (
        private.sign(MESSAGE, padding.PKCS1v15(), SHA256()),
        private.sign(MESSAGE, padding.PSS(padding.MGF1(SHA512()), 32), SHA256()),
        private.sign(MESSAGE, padding.PSS(padding.MGF1(SHA512()), 32), SHA512()),
        private.sign(b"other", padding.PSS(padding.MGF1(SHA256()), 32), SHA256()),
        bytes(384),
        b"\1".rjust(384, b"\0"),
        b"\0" + good,
        good[:-1],
        bytes(383) + b"\1",
    ):
        assert not counts(key, odd)
