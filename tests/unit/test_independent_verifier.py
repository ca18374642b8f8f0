"""The client and a judge written from docs/image-format.md alone say the same of good and of mutated documents."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

import independent_verifier as independent
from both_verifiers import agree
from image_samples import make_sample
from independent_reader import read_image
from trust_samples import ROLES, Authority, EcdsaKey, at, make_authority, resigned
from twinslot.core.canonical import encode
from twinslot.trust.verdict import TrustFloors, TrustPolicy
from twinslot_image.keys import load_trust, rotate_keys

ODD: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    33,
    2**53,
    "",
    "a",
    "*",
    "x/y",
    "1.0.31",
    "2.0.0",
    [],
    ["*"],
    {},
    {"a": 1},
]
ODD += ["ed25519", "ecdsa", "ecdsa-sha2-nistp256", "0" * 64, "AA" * 32, "2026-02-30T00:00:00Z", "2026-11-15T00:00:00Z"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("keys") / "keys")


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value in a document."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(value[key], (*path, key))


def mutated(document: dict[str, Any], seed: int) -> Iterator[dict[str, Any]]:
    """One change at each place: another value, nothing, one more key, the same twice."""
    draw = random.Random(seed)
    for path in list(places(document)):
        for change in draw.sample(range(4), 2):
            copied = copy.deepcopy(document)
            inside: Any = copied
            for key in path[:-1]:
                inside = inside[key]
            if change == 0:
                inside[path[-1]] = copy.deepcopy(draw.choice(ODD))
            elif change == 1:
                del inside[path[-1]]
            elif change == 2 and isinstance(inside, dict):
                inside["x" * draw.choice([1, 64])] = copy.deepcopy(draw.choice(ODD))
            elif isinstance(inside, list):
                inside.append(copy.deepcopy(inside[path[-1]]))
            yield copied


def test_good_documents_are_good_to_both(authority: Authority) -> None:
    assert agree(authority.request()) == "1 1 [('engineering', 1), ('clinical', 2)]"
    for role in ROLES:
        assert agree(authority.request(policy=TrustPolicy((role,)))) != "refused"


@pytest.mark.verifies("REQ-IMG-08")
def test_the_trust_section_of_a_whole_image_is_judged_from_the_page(authority: Authority) -> None:
    sample = make_sample(trust=load_trust(authority.directory))
    contents = read_image(sample.data)
    for document in contents.roots:
        independent.check_root(document)
    independent.check_targets(contents.targets)


@pytest.mark.parametrize(
    "changes",
    [
        {"time": at(2040)},
        {"time": at(1990)},
        {"floors": TrustFloors(root=2)},
        {"floors": TrustFloors(targets=2)},
        {"policy": TrustPolicy(("engineering", "security"))},
        {"roots": ()},
    ],
    ids=str,
)
def test_dates_floors_and_roles_are_judged_alike(authority: Authority, changes: dict[str, Any]) -> None:
    agree(authority.request(**changes))


def test_at_the_very_second_of_its_end_a_document_has_expired(authority: Authority) -> None:
    good = authority.request()
    ends = datetime.fromisoformat(json.loads(good.manifest)["signed"]["expires"])
    assert agree(replace(good, time=replace(good.time, clock=ends))) == "refused"
    assert agree(replace(good, time=replace(good.time, clock=ends - timedelta(seconds=1)))) != "refused"


def test_signatures_that_are_missing_or_spoiled_count_alike(authority: Authority) -> None:
    good = authority.request()
    document = json.loads(good.manifest)
    for index in range(len(document["signatures"])):
        without, spoiled = copy.deepcopy(document), copy.deepcopy(document)
        del without["signatures"][index]
        assert agree(replace(good, manifest=encode(without))) == "refused"
        signature = bytearray.fromhex(spoiled["signatures"][index]["sig"])
        for at_byte in (0, 31, 32, 63):
            wrong = bytes(b ^ (i == at_byte) for i, b in enumerate(signature))
            spoiled["signatures"][index]["sig"] = wrong.hex()
            assert agree(replace(good, manifest=encode(spoiled))) == "refused"
        for text in ("00", "00" * 64, signature.hex() + "00", signature.hex().upper(), "0", "zz"):
            spoiled["signatures"][index]["sig"] = text
            assert agree(replace(good, manifest=encode(spoiled))) == "refused"


def test_keys_on_both_curves_are_judged_alike(authority: Authority) -> None:
    """ECDSA keys are PEM with line ends, so the signed form differs from the one in the file."""
    for curve in (ec.SECP256R1(), ec.SECP384R1()):
        key = EcdsaKey(ec.generate_private_key(curve))
        targets = json.loads(load_trust(authority.directory).targets)
        delegations = targets["signed"]["delegations"]
        delegations["keys"][key.key_id] = key.public
        role = next(role for role in delegations["roles"] if role["name"] == "engineering")
        role["keyids"] = [key.key_id]
        document = resigned(targets, authority.signers("targets"))
        manifest = json.loads(authority.signed_manifest(("clinical",)))
        covered = independent.olpc(manifest["signed"]).encode()
        manifest["signatures"].append({"keyid": key.key_id, "sig": key.sign(covered).hex()})
        manifest["signatures"].sort(key=lambda each: each["keyid"])
        request = authority.request(targets=document, manifest=encode(manifest))
        assert agree(request) == "1 1 [('engineering', 1), ('clinical', 2)]"
        for public in ("", "x", delegations["keys"][key.key_id]["keyval"]["public"].replace("\n", "\r\n")):
            wrong = copy.deepcopy(targets)
            wrong["signed"]["delegations"]["keys"][key.key_id]["keyval"]["public"] = public
            assert (
                agree(
                    replace(
                        request,
                        trust_section=authority.request(
                            targets=resigned(wrong, authority.signers("targets")), manifest=encode(manifest)
                        ).trust_section,
                    )
                )
                == "refused"
            )


def test_every_mutation_of_the_targets_document_is_judged_alike(authority: Authority) -> None:
    document, signers = json.loads(load_trust(authority.directory).targets), authority.signers("targets")
    manifest = authority.signed_manifest()
    said = set()
    for changed in mutated(document["signed"], seed=1):
        data = resigned({"signatures": [], "signed": changed}, signers)
        said.add(agree(authority.request(targets=data, manifest=manifest)))
    assert {"refused"} < said


def test_every_mutation_of_signatures_is_judged_alike(authority: Authority) -> None:
    manifest = authority.signed_manifest()
    for name, whole in (("targets", load_trust(authority.directory).targets), ("manifest", manifest)):
        document = json.loads(whole)
        for changed in mutated({"signatures": document["signatures"]}, seed=2):
            agree(authority.request(**{"manifest": manifest, name: encode({**document, **changed})}))


@pytest.mark.slow
def test_every_mutation_of_a_new_root_is_judged_alike(tmp_path: Path) -> None:
    authority = make_authority(tmp_path / "keys")
    before = authority.signers("root")
    rotate_keys(authority.directory, "root", datetime(2026, 11, 2, tzinfo=UTC))
    first, second = authority.root(1), json.loads(authority.root(2))
    manifest, everybody = authority.signed_manifest(), [*before, *authority.signers("root")]
    signers = list({signer.public_key.keyid: signer for signer in everybody}.values())
    assert agree(authority.request(trusted_root=first, manifest=manifest)).startswith("2 ")
    said = set()
    for changed in mutated(second["signed"], seed=3):
        data = resigned({"signatures": [], "signed": changed}, signers)
        said.add(agree(authority.request(trusted_root=first, roots=(first, data), manifest=manifest)))
    assert {"refused"} < said


@pytest.mark.slow
def test_every_mutation_of_a_kept_root_is_judged_alike(tmp_path: Path) -> None:
    authority = make_authority(tmp_path / "keys")
    before = authority.signers("root")
    rotate_keys(authority.directory, "root", datetime(2026, 11, 2, tzinfo=UTC))
    second, targets = json.loads(authority.root(2)), load_trust(authority.directory).targets
    everybody = {signer.public_key.keyid: signer for signer in [*before, *authority.signers("root")]}
    said = set()
    for changed in mutated(second["signed"], seed=4):
        data = resigned({"signatures": [], "signed": changed}, everybody.values())
        said.add(agree(authority.request(roots=(authority.root(),), targets=targets, kept_roots=(data, b""))))
    assert {version.partition(" ")[0] for version in said} == {"1", "2"}


@pytest.mark.parametrize(
    ("place", "value"), [(("spec_version",), None), (("consistent_snapshot",), None), (("consistent_snapshot",), 2)]
)
def test_a_root_with_a_value_of_another_type_is_refused(authority: Authority, place: tuple[str], value: object) -> None:
    document = json.loads(authority.root())
    document["signed"][place[0]] = value
    data = resigned({"signatures": [], "signed": document["signed"]}, authority.signers("root"))
    assert agree(authority.request(roots=(data,))) == "refused"


@pytest.mark.parametrize(
    "entry", [{"keyid": "0" * 64}, {"keyid": "x", "sig": "00"}, {"keyid": "0" * 64, "sig": "zz"}, "x"]
)
def test_nothing_unsigned_rides_among_the_signatures_of_a_root(authority: Authority, entry: object) -> None:
    document = json.loads(authority.root())
    assert agree(authority.request(roots=(authority.root(),))) != "refused"
    document["signatures"].append(entry)
    assert agree(authority.request(roots=(encode(document),))) == "refused"
