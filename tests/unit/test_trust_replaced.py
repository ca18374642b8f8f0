"""No key outranks a threshold (S24): what one document takes from another, and how many must have signed that."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]

from both_verifiers import agree
from trust_samples import MADE, Authority, changed, make_authority, resigned
from twinslot.core.canonical import encode
from twinslot.core.errors import DeviceError, RefusedError
from twinslot.trust.verdict import TrustRequest, decode_request, encode_request
from twinslot.trust.verify import verify
from twinslot_image.keys import load_trust, rotate_keys
from twinslot_image.signing import sign_manifest

Object = dict[str, Any]


@pytest.fixture(scope="module")
def weak(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """As no tool makes it any more: one of two keys of targets is enough; clinical needs two of two."""
    authority = make_authority(tmp_path_factory.mktemp("weak") / "keys")
    loosen(authority, "targets")
    return authority


def loosen(authority: Authority, *names: str) -> None:
    """A first root in which one key is enough for these roles."""

    def one(signed: Object) -> None:
        for name in names:
            signed["roles"][name]["threshold"] = 1

    (authority.directory / "1.root.json").write_bytes(changed(authority.root(), one, authority.signers("root")))


def targets_of(authority: Authority) -> bytes:
    return load_trust(authority.directory).targets


def roles_in(signed: Object) -> dict[str, Object]:
    return {role["name"]: role for role in signed["delegations"]["roles"]}


def reasons(request: TrustRequest) -> list[str]:
    """Why it is refused, by the client and by the judge that only read the page; nothing: it is granted."""
    agree(request)
    try:
        verify(request)
    except RefusedError as e:
        return [f"{reason.code}: {reason}" for reason in e.reasons]
    return []


def attack(authority: Authority, keys: int) -> TrustRequest:
    """An image with roles of the attacker's own, by so many stolen keys of targets and no other key."""
    own = {name: CryptoSigner.generate_ed25519() for name in ("engineering", "clinical")}

    def take(signed: Object) -> None:
        signed["version"] += 1
        signed["delegations"]["keys"] = {s.public_key.keyid: s.public_key.to_dict() for s in own.values()}
        for name, role in roles_in(signed).items():
            role |= {"keyids": [own[name].public_key.keyid], "threshold": 1}

    targets = changed(targets_of(authority), take, authority.signers("targets")[:keys])
    manifest = authority.signed_manifest([])
    for name, signer in own.items():
        manifest = sign_manifest(manifest, targets, name, signer)
    return authority.request(targets=targets, manifest=manifest, kept_targets=targets_of(authority))


@pytest.mark.verifies("S24")
def test_one_targets_key_does_not_outrank_engineering_and_two_clinical_people(weak: Authority) -> None:
    request = attack(weak, 1)
    (reason,) = reasons(request)
    assert reason.startswith(
        "outranked: the targets document outranks role 'clinical', which goes from 2 of 2 keys to 1 of 1 with other "
        "keys: expected '2 valid signatures', found '1 valid signature' (hint: "
    )
    assert reasons(replace(request, kept_targets=None)) == [], "a device that was given nothing to compare with"
    assert reasons(attack(weak, 2)) == [], "as many as the role that they replace"


def change_threshold(signed: Object) -> None:
    roles_in(signed)["clinical"]["threshold"] = 1


def add_key(signed: Object) -> None:
    key = CryptoSigner.generate_ed25519().public_key
    signed["delegations"]["keys"][key.keyid] = key.to_dict()
    roles_in(signed)["clinical"]["keyids"].append(key.keyid)


def another_key_under_the_same_id(signed: Object) -> None:
    key_id = roles_in(signed)["clinical"]["keyids"][0]
    signed["delegations"]["keys"][key_id] = CryptoSigner.generate_ed25519().public_key.to_dict()


def drop_role(signed: Object) -> None:
    signed["delegations"]["roles"] = [roles_in(signed)["engineering"]]


def another_path(signed: Object) -> None:
    roles_in(signed)["clinical"]["paths"].append("firmware")


@pytest.mark.verifies("S24")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (change_threshold, "goes from 2 of 2 keys to 1 of 2"),
        (add_key, "goes from 2 of 2 keys to 2 of 3 with other keys"),
        (another_key_under_the_same_id, "goes from 2 of 2 keys to 2 of 2 with other keys"),
        (drop_role, "needs 2 of 2 and is gone"),
        (another_path, "goes from 2 of 2 keys to 2 of 2 for other names"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_whatever_lets_others_sign_for_a_role_takes_as_many_signatures_as_the_role(
    weak: Authority, change: Callable[[Object], None], words: str
) -> None:
    document = json.loads(targets_of(weak))
    change(document["signed"])
    one, two = (resigned(document, weak.signers("targets")[:count]) for count in (1, 2))
    kept = targets_of(weak)
    (reason,) = reasons(weak.request(targets=one, kept_targets=kept))
    assert words in reason
    assert "outranked" not in "".join(reasons(weak.request(targets=two, kept_targets=kept)))


def test_a_key_less_a_higher_threshold_and_a_new_date_replace_nothing(weak: Authority) -> None:
    kept = changed(targets_of(weak), add_key, weak.signers("targets"))
    for change in (
        lambda signed: signed.update(expires="2030-01-01T00:00:00Z"),
        lambda signed: roles_in(signed)["clinical"].update(threshold=2),
    ):
        now = changed(targets_of(weak), change, weak.signers("targets")[:1])
        assert reasons(weak.request(targets=now, kept_targets=kept)) == []


@pytest.mark.verifies("S24")
def test_a_root_that_one_key_signs_does_not_put_the_keys_in_place_that_outrank_a_role(tmp_path: Path) -> None:
    authority = make_authority(tmp_path / "keys")
    loosen(authority, "root", "targets")
    mine = CryptoSigner.generate_ed25519()
    before = authority.signers("root")

    def give(signed: Object) -> None:
        signed["version"] = 2
        signed["keys"][mine.public_key.keyid] = mine.public_key.to_dict()
        signed["roles"]["targets"]["keyids"].append(mine.public_key.keyid)

    kept = targets_of(authority)
    for signers, found in ((before[:1], ["clinical"]), (before[:2], [])):
        root = changed(authority.root(), give, signers)
        said = reasons(authority.request(roots=(root,), kept_targets=kept))
        assert [f"root version 2 outranks role '{name}', which stands behind 'targets'" for name in found] == [
            each.removeprefix("outranked: ").partition(", which change")[0] for each in said
        ]


def test_a_root_with_nothing_but_a_new_date_is_followed_with_as_many_signatures_as_it_needs(tmp_path: Path) -> None:
    authority = make_authority(tmp_path / "keys")
    loosen(authority, "root", "targets")
    later = {"version": 2, "expires": "2040-01-01T00:00:00Z"}
    root = changed(authority.root(), lambda signed: signed.update(later), authority.signers("root")[:1])
    assert reasons(authority.request(roots=(root,), kept_targets=targets_of(authority))) == []


@pytest.mark.verifies("S24")
def test_a_device_that_slept_through_every_rotation_compares_with_what_it_kept(tmp_path: Path) -> None:
    authority = make_authority(tmp_path / "keys")
    kept, first = targets_of(authority), authority.root()
    for name in ("clinical", "root", "targets", "engineering"):
        rotate_keys(authority.directory, name, MADE)
    trust = load_trust(authority.directory)
    manifest = authority.signed_manifest([])
    for name in ("engineering", "clinical"):
        role = roles_in(json.loads(trust.targets)["signed"])[name]
        for signer in authority.signers(name):
            if signer.public_key.keyid in role["keyids"]:
                manifest = sign_manifest(manifest, trust.targets, name, signer)
    assert reasons(authority.request(trusted_root=first, manifest=manifest, kept_targets=kept)) == []


def test_a_kept_document_of_a_newer_client_is_compared_with_and_a_damaged_one_is_the_devices_fault(
    weak: Authority,
) -> None:
    document = json.loads(targets_of(weak))
    document["signed"]["waves"] = []
    roles_in(document["signed"])["clinical"]["since"] = "2031"
    request = attack(weak, 1)
    with pytest.raises(RefusedError, match="outranks role 'clinical'"):
        verify(replace(request, kept_targets=encode(document)))
    for damage in (b"", b"{}", b"[]", b"not json", b'{"signed": {"delegations": {"keys": {}, "roles": [1]}}}'):
        with pytest.raises(DeviceError, match="targets document is damaged") as caught:
            verify(replace(request, kept_targets=damage))
        assert caught.value.code == "device.trust-targets"


def test_what_was_kept_crosses_the_pipe(weak: Authority) -> None:
    for request in (attack(weak, 1), weak.request()):
        assert decode_request(encode_request(request)) == request
