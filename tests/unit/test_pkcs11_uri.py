"""PKCS #11 URIs as people and other programs write them (RFC 7512), and PINs that must not stand in one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinslot.core.errors import DeviceError, RefusedError, TwinslotError
from twinslot.core.pkcs11_uri import is_pkcs11, parse_uri


def test_what_other_programs_print_is_read_whole() -> None:
    """As `p11tool --list-all` writes it."""
    uri = parse_uri(
        "pkcs11:model=SoftHSM%20v2;manufacturer=SoftHSM%20project;serial=7ec2b1b6c3a1f84d;token=release%20team;"
        "id=%01%AB;object=clinical%3b1;type=private?module-path=/usr/lib/a.so&pin-source=file:/run/pin&x-own=1"
    )
    assert uri.token == {
        "label": "release team",
        "manufacturer": "SoftHSM project",
        "model": "SoftHSM v2",
        "serial": "7ec2b1b6c3a1f84d",
    }
    assert (uri.label, uri.key_id, uri.slot) == ("clinical;1", b"\x01\xab", None)
    assert (uri.module, uri.pin_file) == ("/usr/lib/a.so", "/run/pin")
    assert uri.key_name == "label 'clinical;1', id 01ab"


@pytest.mark.parametrize("source", ["file:/run/pin", "file:///run/pin", "/run/pin", "file:%2Frun%2Fpin"])
def test_a_pin_may_stand_in_a_file(source: str) -> None:
    assert parse_uri(f"pkcs11:object=a?pin-source={source}").pin_file == "/run/pin"


@pytest.mark.parametrize(
    "uri", ["pkcs11:object=a?pin-value=8642", "pkcs11:object=a;pin-value=8642", "pkcs11:?pin-value=8642"]
)
def test_a_pin_in_the_uri_is_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(RefusedError) as error:
        parse_uri(uri)
    assert error.value.code == "refused.pin-in-uri"
    assert "8642" not in str(error.value)
    assert "pin-source=file:" in str(error.value)


@pytest.mark.parametrize(
    "uri",
    [
        "pkcs11:",
        "pkcs11:token=t",
        "pkcs11:object",
        "pkcs11:object=a;object=b",
        "pkcs11:object=a;colour=red",
        "pkcs11:object=a;x-own=1",
        "pkcs11:object=a;type=cert",
        "pkcs11:object=a b",
        "pkcs11:object=%zz",
        "pkcs11:object=%ff",
        "pkcs11:object=a;slot-id=one",
        "pkcs11:object=a?pin-source=|cat%20/run/pin",
        "pkcs11:object=a?pin-source=pin.txt",
        "pkcs11:object=a?pin-source=/run/pin%00",
        "pkcs11:object=" + "a" * 5000,
    ],
)
def test_what_names_no_key_is_refused_with_an_example(uri: str) -> None:
    with pytest.raises(DeviceError, match="for example 'pkcs11:token=") as error:
        parse_uri(uri)
    assert error.value.code == "device.pkcs11-uri"


def test_the_name_of_the_scheme_has_any_case() -> None:
    assert is_pkcs11("PKCS11:object=a")
    assert parse_uri("PKCS11:object=a").label == "a"
    assert not is_pkcs11("pkcs11.pem")


@given(text=st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
def test_any_text_behind_the_scheme_is_a_key_or_refused(text: str) -> None:
    try:
        uri = parse_uri(f"pkcs11:{text}")
    except TwinslotError:
        return
    assert uri.label is not None or uri.key_id is not None


@given(label=st.text(min_size=1, max_size=40), key_id=st.binary(max_size=20))
def test_every_label_and_id_can_be_written(label: str, key_id: bytes) -> None:
    escaped = "".join(f"%{byte:02x}" for byte in label.encode("utf-8", "surrogatepass"))
    written = "".join(f"%{byte:02X}" for byte in key_id)
    try:
        uri = parse_uri(f"pkcs11:object={escaped};id={written}")
    except DeviceError:
        assert any(0xD800 <= ord(char) < 0xE000 for char in label)
        return
    assert (uri.label, uri.key_id) == (label, key_id)
    assert parse_uri(uri.text) == uri, "and is written so that it names the same key"


def test_what_a_uri_says_of_token_and_pin_is_written_again() -> None:
    text = "pkcs11:token=a%20b;serial=1;slot-id=7;object=k;id=%01?module-path=/lib/a.so&pin-source=/run/my%20pin"
    written = parse_uri(text).text
    assert written == "pkcs11:token=a%20b;serial=1;slot-id=7;object=k;id=%01;type=private?pin-source=file:/run/my%20pin"
