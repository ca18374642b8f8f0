"""Who is believed, and when: one table of roles, thresholds, chains and dates."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]

from both_verifiers import agree
from trust_samples import MADE, NOW, ROLES, Authority, at, changed, make_authority, resigned
from twinslot.core.canonical import encode
from twinslot.core.errors import DeviceError, ImageError, LifecycleError, RefusedError
from twinslot.image.wire import TrustDocuments, build_trust
from twinslot.trust.verdict import (
    TrustFloors,
    TrustPolicy,
    TrustTime,
    decode_request,
    decode_verdict,
    encode_request,
    encode_verdict,
)
from twinslot.trust.verify import verify
from twinslot_image.keys import load_trust, rotate_keys
from twinslot_image.signing import attach_signature, sign_manifest, signed_bytes


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def fresh(tmp_path: Path) -> Authority:
    return make_authority(tmp_path)


def refused(request: Any) -> list[str]:
    with pytest.raises(RefusedError) as caught:
        verify(request)
    return [f"{reason.code}: {reason}" for reason in caught.value.reasons]


def targets_of(authority: Authority) -> bytes:
    return load_trust(authority.directory).targets


def with_delegations(authority: Authority, change: Any) -> bytes:
    return changed(targets_of(authority), lambda signed: change(signed["delegations"]), authority.signers("targets"))


def role(delegations: dict[str, Any], name: str) -> dict[str, Any]:
    return next(entry for entry in delegations["roles"] if entry["name"] == name)


# Granted


@pytest.mark.verifies("REQ-KEY-01")
def test_two_roles_over_the_same_manifest_are_believed_with_their_counts(authority: Authority) -> None:
    verdict = verify(authority.request())
    assert [(r.role, r.threshold, len(r.key_ids)) for r in verdict.roles] == [("engineering", 1, 1), ("clinical", 2, 2)]
    assert (verdict.root_version, verdict.targets_version, verdict.new_roots) == (1, 1, ())
    assert [date.what for date in verdict.dates] == ["root version 1", "targets document", "manifest"]
    assert (verdict.reference, verdict.time_source) == (NOW, "clock")
    assert not verdict.overridden


def test_a_lab_device_believes_engineering_alone(authority: Authority) -> None:
    manifest = authority.signed_manifest(["engineering"])
    verdict = verify(authority.request(manifest=manifest, policy=TrustPolicy(("engineering",))))
    assert [r.role for r in verdict.roles] == ["engineering"]


def test_a_signature_made_elsewhere_counts_like_any_other(authority: Authority) -> None:
    manifest = authority.signed_manifest(["engineering"])
    outside = b""
    for signer in authority.signers("clinical"):
        outside = bytes.fromhex(signer.sign(signed_bytes(manifest)).signature)
        manifest = attach_signature(manifest, targets_of(authority), "clinical", outside)
    verify(authority.request(manifest=manifest))
    with pytest.raises(RefusedError, match="by no key of role 'engineering'"):
        attach_signature(manifest, targets_of(authority), "engineering", outside)


def test_signatures_by_strangers_are_ignored_and_named(authority: Authority) -> None:
    stranger = CryptoSigner.generate_ed25519()
    manifest = json.loads(authority.signed_manifest())
    manifest["signatures"].append(stranger.sign(signed_bytes(encode(manifest))).to_dict())
    manifest["signatures"].sort(key=lambda entry: entry["keyid"])
    assert verify(authority.request(manifest=encode(manifest))).ignored_keys == (stranger.public_key.keyid,)


def test_an_ecdsa_key_from_a_hardware_module_may_hold_a_role(fresh: Authority) -> None:
    signer = CryptoSigner(generate_private_key(SECP256R1()))

    def use_it(delegations: dict[str, Any]) -> None:
        delegations["keys"][signer.public_key.keyid] = signer.public_key.to_dict()
        role(delegations, "engineering")["keyids"] = [signer.public_key.keyid]

    targets = with_delegations(fresh, use_it)
    manifest = sign_manifest(fresh.signed_manifest(["clinical"]), targets, "engineering", signer)
    assert verify(fresh.request(targets=targets, manifest=manifest)).roles[0].key_ids == (signer.public_key.keyid,)


# Signatures: refused with the role and the counts


@pytest.mark.verifies("S2", "CVE-2020-10759", "REQ-KEY-01")
def test_an_unsigned_manifest_is_refused_with_every_role_and_its_counts(authority: Authority) -> None:
    assert refused(authority.request(manifest=authority.signed_manifest([]))) == [
        "signatures: role 'engineering': expected '1 valid signature', found '0'",
        "signatures: role 'clinical': expected '2 valid signatures', found '0'",
    ]


@pytest.mark.verifies("REQ-KEY-01")
def test_one_of_two_clinical_signatures_is_too_few(authority: Authority) -> None:
    manifest = json.loads(authority.signed_manifest())
    gone = authority.signers("clinical")[0].public_key.keyid
    manifest["signatures"] = [entry for entry in manifest["signatures"] if entry["keyid"] != gone]
    expected = ["signatures: role 'clinical': expected '2 valid signatures', found '1'"]
    assert refused(authority.request(manifest=encode(manifest))) == expected


def test_the_wrong_role_signing_twice_does_not_help_the_other(authority: Authority) -> None:
    manifest = authority.signed_manifest(["clinical"])
    assert refused(authority.request(manifest=manifest)) == [
        "signatures: role 'engineering': expected '1 valid signature', found '0'"
    ]


def test_a_signature_under_anothers_key_id_counts_for_none(authority: Authority) -> None:
    manifest = json.loads(authority.signed_manifest())
    first, second = (signer.public_key.keyid for signer in authority.signers("clinical"))
    entries = {entry["keyid"]: entry for entry in manifest["signatures"]}
    entries[first]["sig"] = entries[second]["sig"]
    assert "found '1'" in refused(authority.request(manifest=encode(manifest)))[0]


@pytest.mark.verifies("FLAW-JETKVM-1262")
@pytest.mark.parametrize("sig", ["00", "00" * 64, "ff" * 64, "00" * 63, "00" * 65])
def test_a_signature_of_zeros_or_of_the_wrong_length_is_no_signature(authority: Authority, sig: str) -> None:
    manifest = json.loads(authority.signed_manifest())
    for entry in manifest["signatures"]:
        entry["sig"] = sig
    assert len(refused(authority.request(manifest=encode(manifest)))) == 2


def test_a_manifest_changed_after_signing_is_refused(authority: Authority) -> None:
    manifest = json.loads(authority.signed_manifest())
    manifest["signed"]["version"] += 1
    assert all("found '0'" in reason for reason in refused(authority.request(manifest=encode(manifest))))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_flipped_byte_in_trust_or_manifest_is_refused_and_never_a_traceback(
    authority: Authority, data: st.DataObject
) -> None:
    request = authority.request()
    name = data.draw(st.sampled_from(["trust_section", "manifest"]))
    damaged = bytearray(getattr(request, name))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        verdict = verify(authority.request(**{"manifest": request.manifest, name: bytes(damaged)}))
    except (ImageError, RefusedError):
        return
    # A damaged signature that was not needed, or a digit of one in the other case, changes nothing that is signed.
    if name == "trust_section":
        assert verdict.manifest_digest == verify(request).manifest_digest
        return
    assert json.loads(bytes(damaged))["signed"] == json.loads(request.manifest)["signed"]
    assert verdict.manifest_digest != verify(request).manifest_digest


# Roles: what tuf does not check


def set_role(name: str, key: str, value: object) -> Any:
    def change(delegations: dict[str, Any]) -> None:
        role(delegations, name)[key] = value

    return change


@pytest.mark.verifies("CVE-2020-10759", "CVE-2026-23992")
@pytest.mark.parametrize("threshold", [0, -1, 3, 2**31, 2**53])
def test_a_threshold_below_one_or_above_the_distinct_keys_is_refused(authority: Authority, threshold: int) -> None:
    targets = with_delegations(authority, set_role("clinical", "threshold", threshold))
    assert refused(authority.request(targets=targets)) == [
        f"threshold: role 'clinical': threshold: expected '1 to 2, its number of keys', found '{threshold}'"
    ]


@pytest.mark.verifies("CVE-2026-23992")
@pytest.mark.parametrize("threshold", [True, 1.0, "1", None, [], 10**20])
def test_a_threshold_that_is_no_whole_number_is_an_image_error(authority: Authority, threshold: object) -> None:
    document = json.loads(targets_of(authority))
    role(document["signed"]["delegations"], "clinical")["threshold"] = threshold
    try:
        targets = resigned(document, authority.signers("targets"))
    except Exception:  # noqa: BLE001 - canonical JSON has no floats; then plain JSON is what an attacker would send
        targets = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(ImageError, match="'trust' section"):
        verify(authority.request(targets=targets))


def test_a_role_without_keys_is_refused(authority: Authority) -> None:
    targets = with_delegations(authority, set_role("clinical", "keyids", []))
    assert refused(authority.request(targets=targets))[0].startswith("threshold: role 'clinical'")


def test_one_key_in_two_required_roles_is_refused(authority: Authority) -> None:
    engineer = authority.signers("engineering")[0].public_key.keyid

    def share(delegations: dict[str, Any]) -> None:
        role(delegations, "clinical")["keyids"].append(engineer)

    reasons = refused(authority.request(targets=with_delegations(authority, share)))
    assert reasons == [
        (
            "shared-key: roles 'clinical' and 'engineering' are both required: "
            f"expected 'no key in both', found '1: {engineer[:8]}'"
        )
    ]


def test_one_key_under_two_ids_is_refused_even_inside_one_role(authority: Authority) -> None:
    def double(delegations: dict[str, Any]) -> None:
        clinical = role(delegations, "clinical")
        delegations["keys"]["0" * 64] = delegations["keys"][clinical["keyids"][0]]
        clinical["keyids"] = [clinical["keyids"][0], "0" * 64]

    with pytest.raises(ImageError, match="keyval") as caught:
        verify(authority.request(targets=with_delegations(authority, double)))
    assert caught.value.code == "image.trust"


def test_one_ecdsa_key_in_two_spellings_is_still_one_key(fresh: Authority) -> None:
    key = CryptoSigner(generate_private_key(SECP256R1())).public_key

    def double(delegations: dict[str, Any]) -> None:
        pem = key.to_dict()["keyval"]["public"]
        for key_id, public in (("1" * 64, pem), ("2" * 64, pem.rstrip("\n"))):
            delegations["keys"][key_id] = {**key.to_dict(), "keyval": {"public": public}}

    with pytest.raises(ImageError, match="keyval"):
        verify(fresh.request(targets=with_delegations(fresh, double)))


@pytest.mark.verifies("CVE-2024-47534")
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("keyids", ["0" * 64]),
        ("keyids", "abc"),
        ("terminating", False),
        ("terminating", 1),
        ("paths", []),
        ("paths", ["a/b"]),
        ("paths", [1]),
        ("paths", ["*"] * 17),
        ("name", "../../etc/passwd"),
        ("name", "engineering"),
        ("extra", 1),
    ],
)
def test_a_delegation_that_is_not_a_simple_terminating_one_is_refused(
    authority: Authority, key: str, value: object
) -> None:
    with pytest.raises(ImageError, match="'trust' section"):
        verify(authority.request(targets=with_delegations(authority, set_role("clinical", key, value))))


@pytest.mark.parametrize("change", ["rsa", "point", "keytype", "public", "pem", "extra"])
def test_a_key_that_is_not_what_its_scheme_says_is_refused(authority: Authority, change: str) -> None:
    def spoil(delegations: dict[str, Any]) -> None:
        key = next(iter(delegations["keys"].values()))
        match change:
            case "rsa":
                key |= {"keytype": "rsa", "scheme": "rsassa-pss-sha256"}
            case "point":
                key["keyval"]["public"] = "01" + 31 * "00"
            case "keytype":
                key["keytype"] = "ecdsa"
            case "public":
                key["keyval"]["public"] = key["keyval"]["public"].upper()
            case "pem":
                key |= {"keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp256"}
                key["keyval"]["public"] = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"
            case _:
                key["extra"] = 1

    with pytest.raises(ImageError, match="'trust' section"):
        verify(authority.request(targets=with_delegations(authority, spoil)))


def test_a_role_that_is_not_delegated_is_refused_with_those_that_are(authority: Authority) -> None:
    reasons = refused(authority.request(policy=TrustPolicy(("engineering", "regulatory"))))
    assert reasons == [
        "role-unknown: the targets document lacks a required role: expected 'regulatory', found 'clinical, engineering'"
    ]


def test_a_role_may_only_sign_for_the_names_it_was_given(authority: Authority) -> None:
    targets = with_delegations(authority, set_role("clinical", "paths", ["rootfs", "*.md"]))
    assert refused(authority.request(targets=targets)) == [
        "path: role 'clinical' may not sign for this: expected 'rootfs or *.md', found 'firmware'"
    ]


@pytest.mark.parametrize("roles", [(), ("engineering", "engineering")])
def test_a_policy_without_roles_is_the_devices_fault_and_never_means_unsigned(
    authority: Authority, roles: tuple[str, ...]
) -> None:
    with pytest.raises(DeviceError) as caught:
        verify(authority.request(policy=TrustPolicy(roles)))
    assert caught.value.code == "device.trust-policy"


# Targets document


def test_a_targets_document_by_another_key_is_refused(authority: Authority) -> None:
    document = json.loads(targets_of(authority))
    for signers in ([], authority.signers("engineering"), authority.signers("root")):
        reasons = refused(authority.request(targets=resigned(document, signers)))
        assert reasons == ["signatures: the targets document, role 'targets': expected '2 valid signatures', found '0'"]


def test_an_older_targets_document_than_the_last_trusted_is_refused(authority: Authority) -> None:
    reasons = refused(authority.request(floors=TrustFloors(targets=2)))
    assert reasons == ["targets-version: the targets document has gone back: expected 'at least 2', found '1'"]


def test_a_targets_document_that_signs_files_itself_is_refused(authority: Authority) -> None:
    def sign_for(signed: dict[str, Any]) -> None:
        signed["targets"] = {"rootfs": {"length": 1, "hashes": {"sha256": "0" * 64}}}

    targets = changed(targets_of(authority), sign_for, authority.signers("targets"))
    with pytest.raises(ImageError, match="only delegates"):
        verify(authority.request(targets=targets))


def test_a_stolen_targets_key_that_ran_the_version_up_is_recovered_from_by_replacing_it(fresh: Authority) -> None:
    floors = TrustFloors(targets=2**50)
    assert refused(fresh.request(floors=floors))[0].startswith("targets-version")
    rotate_keys(fresh.directory, "targets", MADE)
    assert verify(fresh.request(floors=floors)).targets_version == 2


# Root chain


@pytest.mark.verifies("REQ-KEY-03")
def test_a_device_that_slept_through_three_rotations_follows_the_chain(fresh: Authority) -> None:
    for name in ("root", "targets", "root"):
        rotate_keys(fresh.directory, name, MADE)
    verdict = verify(fresh.request())
    assert (verdict.root_version, len(verdict.new_roots)) == (4, 3)
    assert verdict.new_roots == tuple(fresh.root(version) for version in (2, 3, 4))
    assert verify(fresh.request(trusted_root=fresh.root(3))).new_roots == (fresh.root(4),)
    assert verify(fresh.request(trusted_root=fresh.root(4))).new_roots == ()


def test_a_root_chain_with_a_hole_is_refused_or_does_not_reach_the_device(fresh: Authority) -> None:
    for _ in range(3):
        rotate_keys(fresh.directory, "root", MADE)
    reasons = refused(fresh.request(roots=(fresh.root(3), fresh.root(4))))
    assert reasons[0].startswith(
        "root-gap: the image's root chain does not reach this device: expected 'root version 2'"
    )
    for roots in ((fresh.root(2), fresh.root(4)), (fresh.root(3), fresh.root(2)), (fresh.root(2), fresh.root(2))):
        with pytest.raises(ImageError, match="'roots'"):
            verify(fresh.request(roots=roots))


def test_a_new_root_needs_the_old_keys_and_its_own(fresh: Authority) -> None:
    old = fresh.signers("root")
    rotate_keys(fresh.directory, "root", MADE)
    document = json.loads(fresh.root(2))
    new = [
        signer for signer in fresh.signers("root") if signer.public_key.keyid not in {s.public_key.keyid for s in old}
    ]
    for signers, who in (([*old, new[0]], 2), ([old[0], *new], 1), (new, 1), (old, 2)):
        reasons = refused(fresh.request(roots=(resigned(document, signers),)))
        count = len({id(s) for s in signers} & {id(s) for s in (old if who == 1 else new)})
        assert reasons == [
            f"signatures: root version 2, by the keys of version {who}: expected '2 valid signatures', found '{count}'"
        ]


def test_a_root_below_the_floor_is_refused_though_the_stored_one_was_lost(fresh: Authority) -> None:
    assert refused(fresh.request(floors=TrustFloors(root=2))) == [
        "root-version: the trusted root has gone back: expected 'at least 2', found '1'"
    ]
    rotate_keys(fresh.directory, "root", MADE)
    assert verify(fresh.request(floors=TrustFloors(root=2))).root_version == 2


def test_a_root_whose_threshold_its_keys_cannot_meet_is_refused(fresh: Authority) -> None:
    rotate_keys(fresh.directory, "root", MADE)
    signers = fresh.signers("root")
    for threshold in (0, 4):
        change = {"roles": {**json.loads(fresh.root(2))["signed"]["roles"]}}
        change["roles"]["root"]["threshold"] = threshold
        root = changed(fresh.root(2), lambda signed, change=change: signed.update(change), signers)  # type: ignore[misc]
        assert refused(fresh.request(roots=(root,)))[0].startswith("threshold: ")


@pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b"not json"])
def test_a_damaged_stored_root_is_the_devices_fault(authority: Authority, damage: bytes) -> None:
    with pytest.raises(DeviceError) as caught:
        verify(authority.request(trusted_root=damage))
    assert caught.value.code == "device.trust-root"
    unsigned = resigned(json.loads(authority.root()), [])
    with pytest.raises(DeviceError, match="trusted root is damaged"):
        verify(authority.request(trusted_root=unsigned))


# Dates


def test_everything_that_expired_is_named_with_the_clock_that_said_so(authority: Authority) -> None:
    reasons = refused(authority.request(time=at(2106)))
    assert [reason.split(":")[0:2] for reason in reasons] == [
        ["expired", " the root version 1 has expired"],
        ["expired", " the targets document has expired"],
        ["expired", " the manifest has expired"],
    ]
    assert "by 'clock'" in reasons[0]


def test_a_document_expires_at_its_very_second(authority: Authority) -> None:
    end = verify(authority.request()).dates[2].expires
    before = TrustTime(end - timedelta(seconds=1), MADE, MADE)
    assert verify(authority.request(time=before)).reference == before.clock
    assert "the manifest has expired" in refused(authority.request(time=replace(before, clock=end)))[0]


@pytest.mark.verifies("S16", "REQ-KEY-04")
def test_a_clock_at_1970_is_held_up_by_what_was_verified_before(authority: Authority) -> None:
    long_ago = datetime(1970, 1, 1, tzinfo=UTC)
    build, verified = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC)
    verdict = verify(authority.request(time=TrustTime(long_ago, build, verified)))
    assert (verdict.reference, verdict.time_source) == (verified, "verified")
    late = datetime(2028, 1, 1, tzinfo=UTC)
    assert "by 'build'" in refused(authority.request(time=TrustTime(long_ago, late, verified)))[0]


def test_an_operators_override_lets_expired_documents_pass_and_names_them(authority: Authority) -> None:
    verdict = verify(authority.request(time=at(2106), policy=TrustPolicy(ROLES, ignore_expiry=True)))
    assert verdict.overridden == ("root version 1", "targets document", "manifest")


def test_an_override_of_dates_overrides_nothing_else(authority: Authority) -> None:
    policy = TrustPolicy(ROLES, ignore_expiry=True)
    assert len(refused(authority.request(manifest=authority.signed_manifest([]), policy=policy))) == 2


@pytest.mark.verifies("S16", "REQ-KEY-03")
def test_an_expired_root_still_leads_to_the_newer_one_in_the_chain(fresh: Authority) -> None:
    late = datetime(2032, 1, 1, tzinfo=UTC)
    assert "root version 1" in refused(fresh.request(time=at(2032)))[0]
    rotate_keys(fresh.directory, "root", late)
    rotate_keys(fresh.directory, "targets", late)
    request = fresh.request(time=at(2032))
    assert [reason[:30] for reason in refused(request)] == ["expired: the manifest has expi"]
    assert verify(replace(request, policy=TrustPolicy(ROLES, ignore_expiry=True))).overridden == ("manifest",)


@pytest.mark.verifies("S16", "REQ-KEY-04")
def test_one_bad_clock_cannot_push_the_verified_date(authority: Authority) -> None:
    assert verify(authority.request()).verified_date == MADE
    wrong = at(2106)
    verdict = verify(authority.request(time=wrong, policy=TrustPolicy(ROLES, ignore_expiry=True)))
    assert verdict.verified_date == MADE
    ahead = TrustTime(NOW, MADE, MADE + timedelta(days=3))
    assert verify(authority.request(time=ahead)).verified_date == MADE + timedelta(days=3), "and it never goes back"


def test_a_build_host_with_a_bad_clock_cannot_push_it_past_the_documents_expiry(authority: Authority) -> None:
    manifest = json.loads(authority.signed_manifest([]))
    manifest["signed"]["expires"] = "2199-01-01T00:00:00Z"
    manifest["signed"]["x-twinslot"]["built"] = "2106-01-01T00:00:00Z"
    verdict = verify(authority.request(manifest=authority.signed_manifest(ROLES, encode(manifest))))
    assert verdict.verified_date == min(date.expires for date in verdict.dates)


# Crossing a process border


def test_request_and_verdict_cross_a_pipe_unchanged(fresh: Authority) -> None:
    rotate_keys(fresh.directory, "root", MADE)
    request = fresh.request()
    assert decode_request(encode_request(request)) == request
    verdict = verify(request)
    assert decode_verdict(encode_verdict(verdict)) == verdict
    assert encode_verdict(verdict).count(b"\n") == 1


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"time":[]}', b"\xff"])
def test_garbage_on_the_pipe_is_our_own_mistake_and_no_traceback(data: bytes) -> None:
    for decode in (decode_request, decode_verdict):
        with pytest.raises(LifecycleError, match="do not understand each other"):
            decode(data)


@pytest.mark.verifies("CVE-2024-47534", "REQ-CLI-02")
@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_as_documents_are_refused_and_never_a_traceback(authority: Authority, junk: bytes) -> None:
    request = authority.request()
    sections = [junk, build_trust(TrustDocuments((), junk or b"x")), build_trust(TrustDocuments((junk or b"x",), b"x"))]
    for section in sections:
        with pytest.raises((ImageError, RefusedError)):
            verify(replace(request, trust_section=section))
    with pytest.raises(ImageError):
        verify(replace(request, manifest=junk))


# Keys of a kind that came later


ML_DSA = {"keytype": "ml-dsa", "keyval": {"public": "ab" * 1952}, "scheme": "ml-dsa-65/1"}
NEW_ID = "f" * 64


def with_new_kind(authority: Authority, role: str, **changes: Any) -> bytes:
    """The targets document, in which this role has a key of a kind that this client does not know."""

    def change(signed: dict[str, Any]) -> None:
        delegations = signed["delegations"]
        delegations["keys"][NEW_ID] = {**ML_DSA, **changes.pop("key", {})}
        for each in delegations["roles"]:
            if each["name"] == role:
                each["keyids"].append(NEW_ID)
                each.update(changes)

    return changed(targets_of(authority), change, authority.signers("targets"))


def signed_twice(authority: Authority) -> bytes:
    """A manifest signed by all, and by a key of the new kind with a signature as long as theirs."""
    document = json.loads(authority.signed_manifest())
    document["signatures"].append({"keyid": NEW_ID, "sig": "ab" * 3309})
    return encode(document)


def test_a_key_of_a_later_kind_is_skipped_and_the_others_of_its_role_count(authority: Authority) -> None:
    request = authority.request(targets=with_new_kind(authority, "clinical"), manifest=signed_twice(authority))
    verdict = verify(request)
    assert [(role.role, role.threshold, len(role.key_ids)) for role in verdict.roles] == [
        ("engineering", 1, 1),
        ("clinical", 2, 2),
    ]
    assert verdict.ignored_keys == (NEW_ID,)
    assert agree(request) != "refused"


@pytest.mark.verifies("S24")
def test_a_key_of_a_later_kind_does_not_help_to_reach_a_threshold(authority: Authority) -> None:
    for threshold, alone in ((3, False), (1, True)):
        targets = with_new_kind(authority, "clinical", threshold=threshold, **({"keyids": [NEW_ID]} if alone else {}))
        request = authority.request(targets=targets, manifest=signed_twice(authority))
        (reason,) = refused(request)
        known = "0" if alone else "2"
        assert reason.startswith(f"threshold: role 'clinical': threshold: expected '1 to {known}, its number of keys'")
        assert agree(request) == "refused"


def test_a_root_may_hold_keys_of_a_later_kind_and_is_signed_by_the_others(fresh: Authority) -> None:
    old = fresh.signers("root")
    rotate_keys(fresh.directory, "targets", MADE)

    def change(signed: dict[str, Any]) -> None:
        signed["keys"][NEW_ID] = ML_DSA
        signed["roles"]["root"]["keyids"].append(NEW_ID)

    root = changed(fresh.root(2), change, old)
    request = fresh.request(roots=(root,))
    assert verify(request).new_roots == (root,), "byte for byte: what tuf does not read is kept"
    assert agree(request) != "refused"


@pytest.mark.parametrize(
    "key",
    [
        {"scheme": "ML-DSA"},
        {"scheme": ""},
        {"keytype": "x" * 65},
        {"keyval": {"public": ""}},
        {"keyval": {"public": "\x7f"}},
        {"keyval": {"public": "a", "private": "b"}},
        {"keyval": {"public": 1}},
    ],
    ids=str,
)
def test_a_key_of_a_later_kind_has_the_form_of_all_keys(authority: Authority, key: dict[str, Any]) -> None:
    request = authority.request(targets=with_new_kind(authority, "clinical", key=key))
    with pytest.raises(ImageError):
        verify(request)
    assert agree(request) == "refused"


def test_one_key_of_a_later_kind_does_not_stand_under_two_ids(authority: Authority) -> None:
    def twice(signed: dict[str, Any]) -> None:
        signed["delegations"]["keys"] |= {NEW_ID: ML_DSA, "e" * 64: ML_DSA}

    request = authority.request(targets=changed(targets_of(authority), twice, authority.signers("targets")))
    with pytest.raises(ImageError, match="no other id names"):
        verify(request)
    assert agree(request) == "refused"
