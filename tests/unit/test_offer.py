"""What a repository offers, and what of it a device would take."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinslot.core.canonical import encode
from twinslot.core.errors import ImageError
from twinslot.core.offer import OfferFacts, choose, parse_offers
from twinslot.core.waves import WHOLE

NOW = datetime(2026, 12, 1, tzinfo=UTC)


def offer(sequence: int = 11, **more: Any) -> dict[str, Any]:
    base = {"epoch": 0, "image": "images/pump.twin", "manifest": f"{sequence:064x}", "name": f"r{sequence}"}
    return base | {"sequence": sequence, "size": 1000} | more


def document(*offers: dict[str, Any]) -> bytes:
    return encode({"format": 1, "offers": list(offers)})


def chosen(*offers: dict[str, Any], **facts: Any) -> tuple[int | None, str]:
    known: dict[str, Any] = {"now": NOW, "sequence": 10}
    choice = choose(parse_offers(document(*offers)), OfferFacts(**known | facts))
    return choice.offer.sequence if choice.offer else None, choice.why


def wave(share: int = WHOLE, days: float = 0, spread: int = 0, **more: Any) -> dict[str, Any]:
    return more | {"share": share, "spread": spread, "start": f"{NOW + timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"}


def recall(sequence: int, **more: Any) -> dict[str, Any]:
    return {"name": f"r{sequence}", "reason": "alarm too quiet", "sequence": sequence} | more


def test_the_newest_that_may_be_taken_is() -> None:
    assert chosen(offer(11), offer(13), offer(12)) == (13, "")


def test_what_runs_or_is_older_or_below_the_epoch_is_not_offered() -> None:
    assert chosen(offer(9), offer(10)) == (None, "")
    assert chosen(offer(11), epoch=1) == (None, "")


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"halted": "alarm too quiet"}, "the maker has halted it: alarm too quiet"),
        ({"from": {"lowest": 11}}, "it cannot follow the release that runs"),
        ({"requires": ["zeppelin"]}, "it needs a newer client (zeppelin)"),
        ({"waves": [wave(days=1)]}, "its turn comes at 2026-12-02 00:00 UTC"),
        ({"waves": [wave(share=1)]}, "no wave has reached this device"),
    ],
)
def test_what_stands_in_the_way_of_a_release_is_told_and_an_older_one_is_taken_first(
    more: dict[str, Any], why: str
) -> None:
    assert chosen(offer(13, **more)) == (13, why)
    assert chosen(offer(13, **more), offer(11)) == (11, "")


def test_a_release_that_rolled_back_here_is_told_and_not_taken() -> None:
    assert chosen(offer(11), failed=frozenset({11})) == (11, "it rolled back on this device before")


def test_a_barrier_is_passed_before_what_lies_behind_it() -> None:
    assert chosen(offer(20, **{"from": {"lowest": 15}}), offer(15)) == (15, "")
    assert chosen(offer(20, **{"from": {"lowest": 15}}), offer(15), sequence=15) == (20, "")


def test_a_wave_that_began_is_open_and_stays_so() -> None:
    assert chosen(offer(11, waves=[wave(days=-1)])) == (11, "")


@pytest.mark.parametrize(
    "broken",
    [
        offer(0),
        offer(11, image="../../etc/passwd.twin"),
        offer(11, image="/images/pump.twin"),
        offer(11, image="http://elsewhere/pump.twin"),
        offer(11, manifest="AB"),
        offer(11, waves=[]),
        offer(11, waves=[wave(share=WHOLE), wave(share=1)]),
        offer(11, waves=[wave(share=0)]),
        offer(11, waves=[wave(spread=10**9)]),
        offer(11, waves=[wave(days=1) | {"end": "2026-12-01T00:00:00Z"}]),
        offer(11, waves=[wave(spread=1) | {"start": "9999-12-31T23:59:59Z"}]),
        offer(11, waves=[wave(spread=1) | {"start": "9999-12-31T23:59:59Z", "end": "9999-12-31T23:59:59Z"}]),
        offer(11, waves=[wave(rings=[])]),
        offer(11, waves=[wave(approved_by=["Clinical"])]),
        offer(11, barrier="yes"),
        offer(11, halted="two\nlines"),
        offer(11, size=-1),
        offer(11, **{"from": {"lowest": 5, "highest": 4}}),
    ],
    ids=lambda each: json.dumps(each)[-60:],
)
def test_an_offer_that_makes_no_sense_is_refused_with_its_place(broken: dict[str, Any]) -> None:
    with pytest.raises(ImageError) as caught:
        parse_offers(document(broken))
    assert caught.value.code == "image.offers"
    assert caught.value.expected


@pytest.mark.verifies("REQ-REP-01")
def test_a_wave_waits_for_the_approval_of_each_role_that_it_or_the_device_names() -> None:
    waves = [wave(share=10_000, approved_by=["quality"]), wave(share=WHOLE - 10_000, approved_by=["clinical"])]
    release = offer(11, waves=waves)
    digest = release["manifest"]

    def why(**facts: Any) -> str:
        return chosen(release, device_id="x", **facts)[1]

    assert why() == "wave 2 is not approved by clinical"
    assert why(approvals={"clinical": {digest: WHOLE}}) == ""
    assert why(approvals={"clinical": {digest: 10_000}}) == "wave 2 is not approved by clinical"
    assert why(approvals={"clinical": {"0" * 64: WHOLE}}) == "wave 2 is not approved by clinical"
    assert why(approvals={"quality": {digest: WHOLE}}) == "wave 2 is not approved by clinical"
    assert why(ring="canary", approvals={"quality": {digest: 10_000}}) == ""
    assert why(roles=("site",), approvals={"clinical": {digest: WHOLE}}) == "wave 2 is not approved by site"


@pytest.mark.verifies("REQ-REP-01")
def test_without_waves_a_role_that_the_device_names_must_have_approved_all_of_the_fleet() -> None:
    digest = offer(11)["manifest"]
    assert chosen(offer(11), roles=("site",)) == (11, "it is not approved by site")
    assert chosen(offer(11), roles=("site",), approvals={"site": {digest: WHOLE - 1}})[1]
    assert chosen(offer(11), roles=("site",), approvals={"site": {digest: WHOLE}}) == (11, "")


def test_a_pinned_device_takes_its_turn_whatever_its_place() -> None:
    waves = [wave(share=1, days=-2), wave(share=0, days=-1, rings=["ward-7"]), wave(share=WHOLE - 1, days=2)]
    release = offer(11, waves=waves)
    assert chosen(release, device_id="x")[1] == "its turn comes at 2026-12-03 00:00 UTC"
    for ring in ("canary", "ward-7"):
        assert chosen(release, device_id="x", ring=ring) == (11, "")
    late = offer(11, waves=[wave(share=WHOLE, days=-1, spread=3 * 86_400)])
    assert chosen(late, device_id="x", ring="last")[1] == "its turn comes at 2026-12-02 23:59 UTC"


def test_a_wave_for_other_networks_is_not_taken_over_this_one() -> None:
    release = offer(11, waves=[wave(networks=["ethernet", "wifi"])])
    told = "its wave is for networks of class ethernet or wifi, and this one's is "
    assert chosen(release)[1] == f"{told}not known"
    assert chosen(release, network="lte")[1] == f"{told}lte"
    assert chosen(release, network="wifi") == (11, "")


@pytest.mark.verifies("REQ-REP-02")
def test_what_was_recalled_is_not_taken_and_the_digest_decides_where_there_is_one() -> None:
    def why(**more: Any) -> str:
        recalls = [recall(12, **more)]
        found = parse_offers(encode({"format": 1, "offers": [offer(12)], "recalls": recalls}))
        return choose(found, OfferFacts(NOW, 10)).why

    assert why() == why(manifest=offer(12)["manifest"]) == "the maker has recalled it: alarm too quiet"
    assert why(manifest="0" * 64) == ""


@pytest.mark.verifies("REQ-REP-03")
def test_a_device_that_nothing_leads_away_from_is_told_so() -> None:
    def ends(*offers: dict[str, Any], sequence: int = 10) -> bool:
        return choose(parse_offers(document(*offers)), OfferFacts(NOW, sequence)).dead_end

    assert ends(offer(20, **{"from": {"lowest": 15}}))
    assert not ends(offer(20, **{"from": {"lowest": 15}}), offer(15, waves=[wave(share=1)]))
    assert not ends(offer(20), sequence=20)


@pytest.mark.parametrize("broken", [recall(0), recall(5, manifest="x"), recall(5, reason="two\nlines"), {"name": "x"}])
def test_a_recall_that_makes_no_sense_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(ImageError) as caught:
        parse_offers(encode({"format": 1, "offers": [], "recalls": [broken]}))
    assert caught.value.code == "image.offers"


def test_keys_of_a_newer_repository_are_ignored() -> None:
    assert chosen(offer(11, approved=["clinical"])) == (11, "")


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from([*offer(), "from", "halted", "requires", "waves"]), values))
def test_whatever_stands_in_an_offer_it_is_read_or_refused(changes: dict[str, Any]) -> None:
    code = "image.offers"
    try:
        parse_offers(document(offer() | changes))
    except ImageError as e:
        code = e.code
    assert code in ("image.offers", "image.json", "image.not-canonical")


@given(st.binary(max_size=200))
def test_whatever_bytes_come_they_are_read_or_refused(data: bytes) -> None:
    with pytest.raises(ImageError):
        parse_offers(data)
