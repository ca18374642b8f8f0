"""Hybrid public key encryption against the RFC's own vectors, and against another implementation."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from twinslot.crypto.hpke import HpkeError, seal, unseal
from twinslot.crypto.keys import DecryptionKey, load_private, make_private
from twinslot.image.envelope import ENCAPSULATED_SIZE, Kem

INFO = bytes.fromhex("4f6465206f6e2061204772656369616e2055726e")
PLAIN = bytes.fromhex("4265617574792069732074727574682c20747275746820626561757479")
AAD = bytes.fromhex("436f756e742d30")
# RFC 9180, appendices A.2.1 and A.5.1: private keys of sender and recipient, what is sent, sequence number 0.
P256_SENT = (
    "04c07836a0206e04e31d8ae99bfd549380b072a1b1b82e563c935c09582782"
    "4fc1559eac6fb9e3c70cd3193968994e7fe9781aa103f5b50e934b5b2f387e381291"
)
VECTORS = {
    Kem.X25519: (
        "f4ec9b33b792c372c1d2c2063507b684ef925b8c75a42dbcbf57d63ccd381600",
        "8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb",
        "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a",
        "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28",
    ),
    Kem.P256: (
        "7550253e1147aae48839c1f8af80d2770fb7a4c763afe7d0afa7e0f42a5b3689",
        "a4d1c55836aa30f9b3fbb6ac98d338c877c2867dd3a77396d13f68d3ab150d3b",
        P256_SENT,
        "6469c41c5c81d3aa85432531ecf6460ec945bde1eb428cb2fedf7a29f5a685b4ccb0d057f03ea2952a27bb458b",
    ),
}


def private(kem: Kem, scalar: str) -> DecryptionKey:
    if kem is Kem.X25519:
        return DecryptionKey(X25519PrivateKey.from_private_bytes(bytes.fromhex(scalar)))
    return DecryptionKey(derive_private_key(int(scalar, 16), SECP256R1()))


@pytest.mark.parametrize("kem", VECTORS)
def test_the_vectors_of_the_rfc_are_sealed_and_opened(kem: Kem) -> None:
    sender, recipient, sent, sealed = VECTORS[kem]
    mine = private(kem, recipient)
    assert seal(private(kem, sender), mine.public, INFO, AAD, PLAIN) == (bytes.fromhex(sent), bytes.fromhex(sealed))
    assert unseal(mine, bytes.fromhex(sent), INFO, AAD, bytes.fromhex(sealed)) == PLAIN


@pytest.mark.parametrize("kem", Kem)
def test_another_implementation_opens_ours_and_we_open_its(kem: Kem) -> None:
    library = pytest.importorskip("cryptography.hazmat.primitives.hpke", reason="cryptography before 47")
    suite = library.Suite(getattr(library.KEM, kem.name), library.KDF.HKDF_SHA256, library.AEAD.CHACHA20_POLY1305)
    mine = make_private(kem)
    theirs = suite.encrypt(PLAIN, mine._key.public_key(), INFO)
    size = ENCAPSULATED_SIZE[kem]
    assert unseal(mine, theirs[:size], INFO, b"", theirs[size:]) == PLAIN
    sent, sealed = seal(make_private(kem), mine.public, INFO, b"", PLAIN)
    assert suite.decrypt(sent + sealed, mine._key, INFO) == PLAIN


@given(st.sampled_from(list(Kem)), st.data())
def test_what_was_changed_anywhere_or_is_for_another_does_not_open(kem: Kem, data: st.DataObject) -> None:
    mine = make_private(kem)
    sent, sealed = seal(make_private(kem), mine.public, INFO, AAD, PLAIN)
    whole = bytearray(sent + sealed)
    at, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
    whole[at] ^= 1 << bit
    changed = bytes(whole)
    # X25519 ignores the highest bit of a coordinate (RFC 7748 section 5), and the shared secret holds what was sent.
    with pytest.raises(HpkeError):
        unseal(mine, changed[: len(sent)], INFO, AAD, changed[len(sent) :])
    for info, aad in ((b"", AAD), (INFO, b"")):
        with pytest.raises(HpkeError):
            unseal(mine, sent, info, aad, sealed)
    with pytest.raises(HpkeError):
        unseal(make_private(kem), sent, INFO, AAD, sealed)


@pytest.mark.parametrize("point", [bytes(32), b"\1" + bytes(31)])
def test_a_point_of_small_order_gives_no_secret_that_everyone_knows(point: bytes) -> None:
    with pytest.raises(HpkeError):
        unseal(make_private(Kem.X25519), point, INFO, AAD, bytes(48))


@pytest.mark.parametrize("kem", Kem)
def test_a_private_key_comes_back_from_its_pem(kem: Kem) -> None:
    made = make_private(kem)
    assert load_private(made.pem()).public_key == made.public_key
