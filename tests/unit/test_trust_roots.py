"""The anchor is what was built in: what a device keeps of roots counts as far as it follows from there (S24)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trust_samples import MADE, Authority, changed, make_authority, resigned
from twinslot.core.errors import RefusedError, TwinslotError
from twinslot.trust.kept_roots import CHAIN, KEPT_MAX, NEWEST, read_chain, write_chain
from twinslot.trust.verdict import TrustFloors, TrustRequest, Verdict, decode_request, encode_request
from twinslot.trust.verify import verify
from twinslot_image.keys import rotate_keys


@pytest.fixture(scope="module")
def rotated(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Root versions 1 to 4; the third has other keys of targets."""
    authority = make_authority(tmp_path_factory.mktemp("keys") / "keys")
    for name in ("root", "targets", "root"):
        rotate_keys(authority.directory, name, MADE)
    return authority


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Somebody else's keys, as many rotations old."""
    authority = make_authority(tmp_path_factory.mktemp("foreign") / "keys")
    rotate_keys(authority.directory, "root", MADE)
    return authority


def judged(request: TrustRequest) -> tuple[Verdict | None, list[tuple[int, str]]]:
    """The verdict, None where it is a refusal, and what was dropped: how many fit, and why the next one does not."""
    told: list[tuple[int, str]] = []

    def tell(fit: int, why: TwinslotError) -> None:
        told.append((fit, str(why)))

    try:
        return verify(decode_request(encode_request(request)), tell), told
    except RefusedError:
        return None, told


def test_the_kept_roots_are_walked_from_the_built_in_one(rotated: Authority) -> None:
    for kept in range(4):
        roots = tuple(rotated.root(version) for version in range(2, 2 + kept))
        verdict, told = judged(rotated.request(kept_roots=roots))
        assert verdict is not None
        assert (verdict.root_version, len(verdict.new_roots), told) == (4, 3 - kept, [])


def test_an_image_without_the_chain_is_good_for_a_device_that_kept_it(rotated: Authority) -> None:
    kept = tuple(rotated.root(version) for version in (2, 3, 4))
    verdict, _ = judged(rotated.request(roots=(rotated.root(4),), kept_roots=kept))
    assert verdict is not None
    assert judged(rotated.request(roots=(rotated.root(4),)))[0] is None


@pytest.mark.verifies("S24")
def test_a_foreign_root_in_the_record_is_dropped_and_its_images_are_refused(
    rotated: Authority, foreign: Authority
) -> None:
    forged = foreign.request(trusted_root=rotated.root(), kept_roots=(foreign.root(2),))
    verdict, ((fit, why),) = judged(forged)
    assert (verdict, fit) == (None, 0)
    assert "root version 2, by the keys of version 1: expected '2 valid signatures', found '0'" in why
    verdict, told = judged(replace(forged, kept_roots=(foreign.root(1), foreign.root(2))))
    assert (verdict, told[0][0]) == (None, 1), "one that is no newer is not looked at"
    verdict, told = judged(rotated.request(kept_roots=(rotated.root(2), foreign.root(2), rotated.root(3))))
    assert verdict is not None
    assert (verdict.root_version, len(verdict.new_roots), told[0][0]) == (4, 2, 1)


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff", b"[" * 100_000, b'{"signatures":[],"signed":{}}'])
def test_a_damaged_kept_root_ends_the_walk_and_what_came_before_it_counts(rotated: Authority, damage: bytes) -> None:
    kept = (rotated.root(2), damage, rotated.root(3))
    verdict, told = judged(rotated.request(kept_roots=kept))
    assert verdict is not None
    assert (verdict.root_version, len(verdict.new_roots), told[0][0]) == (4, 2, 1)


def test_a_hole_in_what_was_kept_is_closed_by_the_next_image(rotated: Authority) -> None:
    """An older client keeps the newest root alone."""
    verdict, told = judged(rotated.request(kept_roots=(rotated.root(4),), floors=TrustFloors(root=4)))
    assert verdict is not None
    assert (len(verdict.new_roots), told[0][0]) == (3, 0)


def test_without_the_chain_the_floor_still_holds(rotated: Authority, foreign: Authority) -> None:
    old = rotated.request(roots=(rotated.root(1),), kept_roots=(foreign.root(2),), floors=TrustFloors(root=4))
    assert judged(old)[0] is None


def test_a_system_with_a_newer_root_built_in_goes_on_from_there(rotated: Authority) -> None:
    kept = tuple(rotated.root(version) for version in (2, 3, 4))
    verdict, told = judged(rotated.request(trusted_root=rotated.root(3), kept_roots=kept))
    assert verdict is not None
    assert (verdict.new_roots, told) == ((), [])


@pytest.mark.verifies("S24")
def test_the_floor_of_targets_falls_when_its_keys_are_replaced_and_not_each_time_after(rotated: Authority) -> None:
    """Of what was kept the newest root is the one to compare with, not the one that was built in."""
    floors = TrustFloors(targets=2**50)
    kept = tuple(rotated.root(version) for version in (2, 3))
    assert judged(rotated.request(floors=floors, kept_roots=kept[:1]))[0] is not None
    assert judged(rotated.request(floors=floors, kept_roots=kept))[0] is None


def test_a_kept_root_that_too_few_signed_for_what_it_replaces_is_dropped(tmp_path: Path) -> None:
    """One key is enough to sign as root here, and two must sign for targets."""
    authority = make_authority(tmp_path / "keys")
    signers = authority.signers("root")

    def weaken(signed: dict[str, object]) -> None:
        signed["roles"]["root"]["threshold"] = 1  # type: ignore[index]

    first = changed(authority.root(), weaken, signers)
    document = json.loads(first)
    document["signed"]["version"] = 2
    document["signed"]["roles"]["targets"]["threshold"] = 1
    for count, fits in ((1, False), (2, True)):
        second = resigned(document, signers[:count])
        _, told = judged(authority.request(trusted_root=first, roots=(first,), kept_roots=(second,)))
        assert (told == []) is fits
        assert fits or "outranks role 'targets'" in told[0][1]


# How they are stored

DOCUMENTS = st.lists(st.text(min_size=1).map(str.encode), max_size=5, unique=True)


@given(roots=DOCUMENTS)
def test_what_is_stored_is_read_back_and_an_older_client_finds_the_newest(roots: list[bytes]) -> None:
    entries = write_chain(roots)
    assert read_chain(entries[CHAIN], entries[NEWEST]) == tuple(roots)
    assert entries[NEWEST] == (roots[-1].decode() if roots else None)


@given(roots=DOCUMENTS, newer=st.text(min_size=1))
def test_a_root_that_an_older_client_added_comes_last(roots: list[bytes], newer: str) -> None:
    chain = write_chain(roots)[CHAIN]
    expected = tuple(roots) if newer.encode() in roots else (*roots, newer.encode())
    assert read_chain(chain, newer) == expected


@given(chain=st.one_of(st.text(), st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps)))
def test_whatever_stands_in_the_record_is_some_documents(chain: str) -> None:
    assert all(isinstance(root, bytes) for root in read_chain(chain, None))


@pytest.mark.parametrize(
    "chain", ["", "{}x", "3", "[3]", "[null]", "[" * 100_000, '["\\ud800"]', "[" + '"x",' * 9 + "]"]
)
def test_a_list_that_is_none_follows_from_nothing(rotated: Authority, chain: str) -> None:
    verdict, told = judged(rotated.request(kept_roots=read_chain(chain, None)))
    assert verdict is not None
    assert [fit for fit, _ in told] == [0]


def test_no_more_is_given_to_the_trust_process_than_it_takes() -> None:
    assert read_chain(json.dumps(["x" * KEPT_MAX, "y"]), None) == (b"",)
