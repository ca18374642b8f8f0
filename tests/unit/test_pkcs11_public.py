"""The public half of a key in a token, whatever the token says."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from twinslot_image.ed25519_point import is_ed25519_point
from twinslot_image.pkcs11_public import ec_public, rsa_public

P256, P384 = bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06052b81040022")
ED_NAME, ED_NUMBER = bytes.fromhex("130c656477617264733235353139"), bytes.fromhex("06032b6570")
CURVES = {P256: ec.SECP256R1(), P384: ec.SECP384R1()}


@pytest.mark.parametrize("parameters", CURVES)
def test_a_point_is_read_in_an_octet_string_and_bare(parameters: bytes) -> None:
    key = ec.generate_private_key(CURVES[parameters]).public_key()
    point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    for written in (point, bytes([4, len(point)]) + point):
        assert ec_public(parameters, written).public_numbers() == key.public_numbers()  # type: ignore[union-attr]


@pytest.mark.parametrize("parameters", [ED_NAME, ED_NUMBER])
def test_so_is_one_of_ed25519_under_both_names_of_the_curve(parameters: bytes) -> None:
    point = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    for written in (point, b"\x04\x20" + point):
        assert ec_public(parameters, written).public_bytes_raw() == point  # type: ignore[union-attr]


@given(
    parameters=st.sampled_from([P256, P384, ED_NAME, ED_NUMBER]) | st.binary(max_size=40),
    point=st.binary(max_size=140),
)
def test_whatever_else_a_token_says_is_no_key(parameters: bytes, point: bytes) -> None:
    try:
        ec_public(parameters, point)
    except ValueError:
        return
    assert parameters in (P256, P384, ED_NAME, ED_NUMBER)


@given(modulus=st.binary(max_size=500), exponent=st.binary(max_size=8))
def test_so_are_numbers_that_no_rsa_key_has(modulus: bytes, exponent: bytes) -> None:
    try:
        key = rsa_public(modulus, exponent)
    except ValueError:
        return
    assert isinstance(key, rsa.RSAPublicKey)


@given(seed=st.binary(min_size=32, max_size=32))
def test_the_public_half_of_every_private_key_is_a_point(seed: bytes) -> None:
    assert is_ed25519_point(ed25519.Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw())


def test_about_half_of_all_numbers_are_no_point() -> None:
    assert 400 < sum(is_ed25519_point(number.to_bytes(32, "little")) for number in range(2, 1002)) < 600
