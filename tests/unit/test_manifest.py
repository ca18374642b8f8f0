"""The manifest's form: one spelling, known keys, bounded values."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Literal, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.formats import encode_canonical

from image_samples import FACTS, PAYLOADS, document, make_sample
from twinslot.core import bounds
from twinslot.core import manifest as m
from twinslot.core.canonical import DEPTH_MAX, encode, parse_document
from twinslot.core.change import Change
from twinslot.core.describe import describe_manifest
from twinslot.core.errors import ImageError, RefusedError
from twinslot.core.manifest import parse_manifest

SAMPLE = make_sample()
ABSENT = object()
SURROGATES: tuple[Literal["Cs"]] = ("Cs",)
TEXT = st.text(st.characters(min_codepoint=0x20, exclude_categories=SURROGATES), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)


def changed(path: str, value: object) -> bytes:
    """The sample's manifest with one value replaced, added or removed, in canonical form."""
    data = copy.deepcopy(document(SAMPLE))
    *parents, last = path.split("/")
    place: dict[str, object] = data
    for key in parents:
        place = place[key]  # type: ignore[assignment]
    if value is ABSENT:
        del place[last]
    else:
        place[last] = value
    return encode(data)


def test_a_manifest_says_what_the_image_was_built_from() -> None:
    parsed = parse_manifest(SAMPLE.manifest_bytes)
    assert (parsed.product, parsed.release.name, parsed.release.sequence, parsed.release.epoch) == (
        "Pump",
        "2026.11",
        7,
        1,
    )
    assert (parsed.compatible, parsed.checks, parsed.type) == (FACTS.compatible, FACTS.checks, "security")
    assert (parsed.built, parsed.expires) == (FACTS.built, FACTS.expires)
    assert [p.name for p in parsed.payloads] == ["firmware", "rootfs"]
    assert [a.name for a in parsed.attachments] == ["known-anomalies.md", "release-notes.md"]
    assert parsed.payload("rootfs").size == len(PAYLOADS["rootfs"])
    assert parsed.payload("rootfs").group_length(9) == 1000
    with pytest.raises(IndexError):
        parsed.payload("rootfs").group_length(10)


@pytest.mark.verifies("REQ-IMG-06")
def test_hardware_and_variants_are_read_and_an_image_for_any_says_nothing_of_them() -> None:
    narrow = parse_manifest(changed("signed/x-twinslot/hardware", ["rev-b", "rev-c"]))
    assert (narrow.hardware, narrow.variants) == (("rev-b", "rev-c"), ())
    assert parse_manifest(changed("signed/x-twinslot/variants", ["icu"])).variants == ("icu",)
    assert not {"hardware", "variants"} & document(SAMPLE)["signed"]["x-twinslot"].keys()  # type: ignore[index]


@pytest.mark.verifies("REQ-IMG-05")
def test_what_a_later_version_may_have_added_is_ignored_and_signed_all_the_same() -> None:
    for path in ("signed/x-twinslot/later", f"{ROOTFS}/custom/later", "signed/targets/release-notes.md/custom/later"):
        newer = parse_manifest(changed(path, {"any": [1, "x"]}))
        assert replace(newer, digest="", release=SAMPLE.manifest.release) == replace(SAMPLE.manifest, digest="")
        assert newer.digest != SAMPLE.manifest.digest


@pytest.mark.verifies("REQ-IMG-05")
def test_a_feature_that_this_version_lacks_is_one_refusal_whatever_else_is_new() -> None:
    data = document(SAMPLE)
    data["signed"]["x-twinslot"]["requires"] = ["magic", "more"]  # type: ignore[index]
    data["signed"]["targets"]["later"] = {"custom": {"kind": "later"}}  # type: ignore[index]
    with pytest.raises(RefusedError) as caught:
        parse_manifest(encode(data))
    (reason,) = caught.value.reasons
    assert (reason.code, reason.found) == ("feature", "magic, more")


def test_source_and_from_and_the_type_of_a_payload_are_read() -> None:
    source = {"commit": "c" * 64, "tag": "v1.2", "build": "job 17", "builder": "https://ci.example/1", "later": 1}
    assert parse_manifest(changed("signed/x-twinslot/source", source)).source == m.Source(
        "c" * 64, "v1.2", "job 17", "https://ci.example/1"
    )
    assert parse_manifest(changed(f"{ROOTFS}/custom/type", "file")).payload("rootfs").type == "file"
    for limits, inside, outside, words in (
        ({"lowest": 5}, (5, 900), (4,), "5 or higher"),
        ({"highest": 6}, (1, 6), (7,), "6 or lower"),
        ({"lowest": 5, "highest": 6}, (5, 6), (4, 7), "5 to 6"),
    ):
        found = parse_manifest(changed("signed/x-twinslot/from", limits)).taken_from
        assert found is not None
        assert str(found) == words
        assert all(number in found for number in inside)
        assert not any(number in found for number in outside)
    assert SAMPLE.manifest.source == m.Source()
    assert SAMPLE.manifest.taken_from is None


@pytest.mark.verifies("REQ-IMG-27")
def test_what_kind_of_change_a_release_is_is_read_and_later_words_are_taken() -> None:
    said = {"class": "later", "markets": ["eu", "us"], "regulatory": {"510k": "K261234"}, "more": 1}
    found = parse_manifest(changed("signed/x-twinslot/change", said)).change
    assert found == Change("later", ("eu", "us"), {"510k": "K261234"})
    assert describe_manifest(parse_manifest(changed("signed/x-twinslot/change", {})))["change"] == {
        "class": None,
        "markets": [],
        "regulatory": {},
    }
    assert SAMPLE.manifest.change == Change()


@pytest.mark.parametrize(
    "said",
    [
        "model",
        {"class": ""},
        {"class": "Model"},
        {"markets": []},
        {"markets": ["us", "eu"]},
        {"markets": "eu"},
        {"regulatory": ["510k"]},
        {"regulatory": {"510k": ""}},
        {"regulatory": {"510k": "K\x1b[2J"}},
        {"regulatory": {"510k": 5}},
        {"regulatory": {"510K": "K1"}},
        {"regulatory": {f"s{n}": "1" for n in range(17)}},
    ],
)
def test_a_change_of_another_form_is_refused_by_its_place(said: object) -> None:
    with pytest.raises(ImageError, match=r"x-twinslot\.change"):
        parse_manifest(changed("signed/x-twinslot/change", said))


@given(JSON)
def test_our_form_is_the_canonical_json_that_signatures_cover(value: object) -> None:
    assert encode(value).decode() == encode_canonical(cast("dict[str, object]", value))


@pytest.mark.verifies("REQ-IMG-04")
@given(st.dictionaries(TEXT, JSON, max_size=4))
def test_a_canonical_document_comes_back_and_any_other_spelling_is_refused(value: dict[str, object]) -> None:
    assert parse_document(encode(value), "manifest") == value
    other = json.dumps(value, indent=1).encode()
    if other != encode(value):
        with pytest.raises(ImageError):
            parse_document(other, "manifest")


@pytest.mark.verifies("REQ-IMG-04")
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "json"),
        (b"\xff\xfe", "json"),
        (b"[]", "json"),
        (b'{"a":1,"a":1}', "json"),
        (b'{"a":1.0}', "json"),
        (b'{"a":1e3}', "json"),
        (b'{"a":NaN}', "json"),
        (b'{"a":-Infinity}', "json"),
        (b'{"a":' + b"9" * 5000 + b"}", "json"),
        (b'{"a":"\\ud800"}', "json"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "json"),
        (b'{"a":' + b"[" * DEPTH_MAX + b"]" * DEPTH_MAX + b"}", "json"),
        (b'{"a":-0}', "not-canonical"),
        (b'{"b":1,"a":1}', "not-canonical"),
        (b'{"a": 1}', "not-canonical"),
        (b'{"a":1}\n', "not-canonical"),
        (b'{"a":"\\u00e9"}', "not-canonical"),
        (b'{"a":"\\/"}', "not-canonical"),
    ],
)
def test_json_with_more_than_one_reading_is_refused_and_the_section_named(data: bytes, code: str) -> None:
    with pytest.raises(ImageError, match="'manifest' section") as caught:
        parse_document(data, "manifest")
    assert caught.value.code == f"image.{code}"


def every_path(value: object, path: str = "") -> list[str]:
    if not isinstance(value, dict):
        return []
    own = [f"{path}{key}" for key in value]
    return own + [deep for key, inner in value.items() for deep in every_path(inner, f"{path}{key}/")]


# A name among the targets may go, since another image may well lack that file; every other key must be there.
REQUIRED = [p for p in every_path(document(SAMPLE)) if not (p.startswith("signed/targets/") and p.count("/") == 2)]


@pytest.mark.verifies("CVE-2025-67903", "REQ-IMG-04")
@pytest.mark.parametrize("path", REQUIRED)
def test_no_key_of_the_manifest_is_optional(path: str) -> None:
    with pytest.raises(ImageError) as caught:
        parse_manifest(changed(path, ABSENT))
    assert path.rsplit("/", maxsplit=1)[-1] in caught.value.message


@pytest.mark.verifies("CVE-2025-67903")
@pytest.mark.parametrize(
    "path", [p for p in REQUIRED if p.rsplit("/", maxsplit=1)[-1] in ("sha256", "plain_list", "stored_table")]
)
@pytest.mark.parametrize("value", ["", None, "0" * 63, "G" * 64, "A" * 64, "0" * 64 + "\n", 0, []])
def test_a_digest_is_never_empty_or_of_another_form(path: str, value: object) -> None:
    with pytest.raises(ImageError):
        parse_manifest(changed(path, value))


ROOTFS = "signed/targets/rootfs"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("extra", 1),
        ("signed/delegations", {}),
        (f"{ROOTFS}/extra", 1),
        (f"{ROOTFS}/custom/kind", "attachment"),
        (f"{ROOTFS}/custom/kind", "other"),
        (f"{ROOTFS}/custom", None),
        (f"{ROOTFS}/hashes", {}),
        (f"{ROOTFS}/hashes", {"md5": "0" * 64}),
        (f"{ROOTFS}/hashes", {"sha256": "0" * 64, "sha512": "0" * 128}),
        (f"{ROOTFS}/length", 0),
        (f"{ROOTFS}/length", -1),
        (f"{ROOTFS}/length", True),
        (f"{ROOTFS}/length", "1"),
        *[(f"{ROOTFS}/length", n) for n in (2**31 - 1, 2**31 + 1, 2**32 - 1, 2**32 + 1, 2**53 - 1)],
        (f"{ROOTFS}/custom/group_size", 0),
        (f"{ROOTFS}/custom/group_size", 2048),
        (f"{ROOTFS}/custom/group_size", 4097),
        (f"{ROOTFS}/custom/group_size", 2 * bounds.GROUP_SIZE_MAX),
        (f"{ROOTFS}/custom/group_size", True),
        (f"{ROOTFS}/custom/groups", 9),
        (f"{ROOTFS}/custom/groups", 11),
        (f"{ROOTFS}/custom/stored_size", -1),
        (f"{ROOTFS}/custom/stored_size", len(PAYLOADS["rootfs"]) + 1),
        ("signed/_type", "root"),
        ("signed/spec_version", "2.0.0"),
        ("signed/version", 0),
        ("signed/version", True),
        ("signed/version", m.SEQUENCE_MAX + 1),
        ("signed/expires", "2027-02-30T00:00:00Z"),
        ("signed/expires", "2027-11-01T00:00:00+00:00"),
        ("signed/expires", "2026-11-01T00:00:00Z"),
        ("signed/targets", {}),
        ("signed/targets", []),
        ("signed/x-twinslot/format", 2),
        ("signed/x-twinslot/epoch", -1),
        ("signed/x-twinslot/epoch", 2**31),
        ("signed/x-twinslot/type", "urgent"),
        ("signed/x-twinslot/compatible", []),
        ("signed/x-twinslot/compatible", "acme,pump-3"),
        ("signed/x-twinslot/compatible", ["b", "a"]),
        ("signed/x-twinslot/compatible", ["a", "a"]),
        ("signed/x-twinslot/hardware", []),
        ("signed/x-twinslot/hardware", "rev-c"),
        ("signed/x-twinslot/hardware", ["rev-c", "rev-b"]),
        ("signed/x-twinslot/hardware", ["Rev C"]),
        ("signed/x-twinslot/hardware", None),
        ("signed/x-twinslot/requires", []),
        ("signed/x-twinslot/requires", "magic"),
        ("signed/x-twinslot/requires", ["b", "a"]),
        ("signed/x-twinslot/from", {"lowest": 0}),
        ("signed/x-twinslot/from", {"lowest": 9, "highest": 8}),
        ("signed/x-twinslot/from", {"highest": m.SEQUENCE_MAX + 1}),
        ("signed/x-twinslot/from", {"release": "2026.10"}),
        ("signed/x-twinslot/from", [5]),
        ("signed/x-twinslot/source", "v1"),
        ("signed/x-twinslot/source", {"commit": "HEAD"}),
        ("signed/x-twinslot/source", {"commit": "c" * 41}),
        ("signed/x-twinslot/source", {"tag": ""}),
        ("signed/x-twinslot/source", {"tag": "v1\x1b[2J"}),
        ("signed/x-twinslot/source", {"builder": "b" * 257}),
        (f"{ROOTFS}/custom/type", ""),
        (f"{ROOTFS}/custom/type", "../file"),
        (f"{ROOTFS}/custom/type", 1),
        ("signed/x-twinslot/variants", []),
        ("signed/x-twinslot/variants", ["a", "a"]),
        ("signed/x-twinslot/variants", [f"v{n:03}" for n in range(65)]),
        ("signed/x-twinslot/checks", ["../../bin/sh"]),
        ("signed/x-twinslot/checks", [1]),
        ("signed/x-twinslot/release", ""),
        ("signed/x-twinslot/release", "1\n2"),
        ("signed/x-twinslot/release", "x" * 65),
        ("signatures", {}),
        ("signatures", [{}]),
        ("signatures", [{"keyid": "a" * 64, "sig": ""}]),
        ("signatures", [{"keyid": "a" * 64, "sig": "abc"}]),
        ("signatures", [{"keyid": "a" * 63, "sig": "ab"}]),
        ("signatures", [{"keyid": "a" * 64, "sig": "ab"}] * 2),
        ("signatures", [{"keyid": "b" * 64, "sig": "ab"}, {"keyid": "a" * 64, "sig": "ab"}]),
        ("signatures", [{"keyid": f"{n:064x}", "sig": "ab"} for n in range(m.SIGNATURES_MAX + 1)]),
    ],
)
def test_a_value_outside_its_bounds_is_refused(path: str, value: object) -> None:
    with pytest.raises(ImageError) as caught:
        parse_manifest(changed(path, value))
    assert caught.value.code == "image.manifest"


@pytest.mark.verifies("S11", "CVE-2023-7216", "FLAW-MEN-9056")
@pytest.mark.parametrize(
    "name", ["../rootfs", "/dev/sda", "a/b", "", ".hidden", "A", "a" * 65, "a\0b", "rootfs\n", "-o", "x" * 4096]
)
def test_a_name_that_could_be_a_path_or_an_option_is_refused(name: str) -> None:
    data = document(SAMPLE)
    targets = data["signed"]["targets"]  # type: ignore[index]
    targets[name] = targets.pop("firmware")
    with pytest.raises(ImageError, match=r"signed\.targets"):
        parse_manifest(encode(data))


def test_totals_are_bounded_even_when_each_part_is_not_too_large() -> None:
    payload = document(SAMPLE)["signed"]["targets"]["rootfs"]  # type: ignore[index]
    payload["length"] = bounds.GROUPS_MAX * 4096
    payload["custom"]["groups"] = bounds.GROUPS_MAX
    with pytest.raises(ImageError, match=f"at most {bounds.GROUPS_MAX} groups"):
        parse_manifest(changed("signed/targets", {"a": payload, "b": payload}))
    note = document(SAMPLE)["signed"]["targets"]["release-notes.md"]  # type: ignore[index]
    note["length"] = bounds.ATTACHMENT_SIZE_MAX
    with pytest.raises(ImageError, match="bytes of attachments"):
        parse_manifest(changed("signed/targets", {"p": payload} | {f"n{i}": note for i in range(5)}))
    with pytest.raises(ImageError, match="length"):
        parse_manifest(b" " * (bounds.MANIFEST_MAX + 1))


@given(st.data())
def test_a_manifest_with_any_one_byte_changed_is_never_read_as_the_same_statement(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(SAMPLE.manifest_bytes) - 1))
    flipped = bytearray(SAMPLE.manifest_bytes)
    flipped[at] ^= data.draw(st.integers(1, 255))
    try:
        parsed = parse_manifest(bytes(flipped))
    except ImageError:
        return
    assert parsed.digest != SAMPLE.manifest.digest


@given(st.sampled_from(REQUIRED), JSON)
def test_any_value_at_any_place_is_parsed_or_an_image_error(path: str, value: object) -> None:
    error = None
    try:
        parse_manifest(changed(path, value))
    except ImageError as e:
        error = e
    assert error is None or error.expected is not None
