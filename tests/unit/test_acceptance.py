"""Does this device want the release? Every reason at once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_samples import FACTS, PAYLOADS, make_sample
from twinslot.core.acceptance import AcceptancePolicy, DeviceFacts, check
from twinslot.core.change import Change, Demands
from twinslot.core.manifest import EPOCH_MAX, SEQUENCE_MAX, SequenceRange
from twinslot.core.model import Floors, Release

MANIFEST = make_sample().manifest
SIZE = len(PAYLOADS["rootfs"])
WELCOMING = DeviceFacts(
    compatible=("acme,pump-3",),
    room={"rootfs": SIZE, "firmware": 4096},
    checks=frozenset({"link", "pump-motor", "unused"}),
    floors=Floors(sequence=7, epoch=1),
    running=Release("2026.10", 6, 1),
)
POLICY = AcceptancePolicy()


def test_a_release_made_for_this_device_is_welcome() -> None:
    assert check(MANIFEST, WELCOMING, POLICY) == ()
    assert check(MANIFEST, WELCOMING, POLICY) == ()


@pytest.mark.verifies("REQ-IMG-27", "S21")
def test_a_device_takes_only_the_changes_that_its_configuration_demands() -> None:
    said = Change("corrective", ("eu",), {"pccp": "PCCP-3"})
    image = make_sample(facts=replace(FACTS, change=said)).manifest
    for demands in (
        Demands(),
        Demands(("corrective", "security")),
        Demands(market="eu"),
        Demands(regulatory=("pccp",)),
    ):
        assert check(image, WELCOMING, AcceptancePolicy(demands=demands)) == ()
    everything = AcceptancePolicy(demands=Demands(("security",), "us", ("510k", "pccp")))
    assert [str(reason).partition(" (hint")[0] for reason in check(image, WELCOMING, everything)] == [
        "the image is a change of a class that this device does not take: expected 'security', found 'corrective'",
        "the image is not for the market of this device: expected 'us', found 'eu'",
        "the image lacks a regulatory number that this device demands: expected '510k', found 'pccp'",
    ]
    assert [reason.code for reason in check(MANIFEST, WELCOMING, everything)] == [
        *("change-class", "market", "regulatory", "regulatory")
    ]


@pytest.mark.verifies("S11")
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"compatible": ("acme,pump-1",)},
            "the image is for another device type: expected 'acme,pump-1', found 'acme,pump-3, acme,pump-4'",
        ),
        (
            {"compatible": ()},
            "the image is for another device type: expected '(none configured)', found 'acme,pump-3, acme,pump-4'",
        ),
        (
            {"room": {"rootfs": SIZE - 1, "firmware": 4096}},
            f"payload 'rootfs' is larger than its place: expected 'at most {SIZE - 1} bytes', found '{SIZE} bytes'",
        ),
        (
            {"room": {"rootfs": SIZE}},
            "this device has no place for a payload: expected 'rootfs', found 'firmware'",
        ),
        (
            {"payload_types": {"firmware": "file"}},
            (
                "payload 'firmware' is of a type that its place on this device is not for: "
                "expected 'file', found 'partition'"
            ),
        ),
        (
            {"room": {"rootfs": SIZE, "firmware": 4096, "modem": 1}},
            "the image lacks a payload that this device needs: expected 'modem', found 'nothing'",
        ),
        (
            {"floors": Floors(sequence=8, epoch=1)},
            "release '2026.11' is a downgrade: sequence: expected 'at least 8', found '7'",
        ),
        (
            {"floors": Floors(sequence=7, epoch=2)},
            "release '2026.11' is below the security epoch: expected 'at least 2', found '1'",
        ),
        (
            {"running": Release("2026.11", 7, 1)},
            "release '2026.11', sequence 7, is installed and running (hint: use '--reinstall' to write it again)",
        ),
        (
            {"failed": frozenset({7})},
            (
                "release '2026.11', sequence 7, rolled back on this device before "
                "(hint: see 'twinslot history'; use '--retry' to try it again)"
            ),
        ),
        (
            {"on_trial": True},
            (
                "the running system is on trial and needs the other slot to go back to "
                "(hint: wait for its health checks, or run 'twinslot commit' or 'twinslot rollback')"
            ),
        ),
        (
            {"checks": frozenset({"link"})},
            "the image requires a health check that this device does not have: expected 'link', found 'pump-motor'",
        ),
    ],
)
def test_each_reason_says_what_was_expected_and_found(change: dict[str, object], sentence: str) -> None:
    reasons = check(MANIFEST, replace(WELCOMING, **change), POLICY)  # type: ignore[arg-type]
    assert [str(reason) for reason in reasons] == [sentence]


@pytest.mark.parametrize(
    ("running", "floor", "welcome"),
    [(4, 4, False), (5, 5, True), (6, 6, True), (5, 7, True), (None, 6, True), (None, 4, False)],
)
def test_an_image_that_names_the_releases_before_it_is_for_these_alone(
    running: int | None, floor: int, welcome: bool
) -> None:
    manifest = make_sample(facts=replace(FACTS, taken_from=SequenceRange(5, 6))).manifest
    release = None if running is None else Release("r", running, 1)
    reasons = check(manifest, replace(WELCOMING, running=release, floors=Floors(sequence=floor, epoch=1)), POLICY)
    assert [str(reason) for reason in reasons] == (
        []
        if welcome
        else [
            (
                "release '2026.11' cannot follow the running release: its sequence: expected '5 to 6', found '4' "
                "(hint: install a release between the two first)"
            )
        ]
    )


def test_a_payload_of_a_type_without_a_handler_is_refused_by_name() -> None:
    payloads = tuple(replace(each, type="file") if each.name == "firmware" else each for each in MANIFEST.payloads)
    reasons = check(replace(MANIFEST, payloads=payloads), WELCOMING, POLICY)
    assert [(reason.code, reason.expected, reason.found) for reason in reasons] == [
        ("payload-type", "partition", "file")
    ]


NARROW = make_sample(facts=replace(FACTS, hardware=("rev-c", "rev-b"), variants=("icu",))).manifest
FITTING = replace(WELCOMING, hardware="rev-b", variant="icu")


def test_a_revision_and_a_variant_that_the_image_names_are_welcome() -> None:
    assert check(NARROW, FITTING, POLICY) == ()


def test_an_image_that_names_none_is_for_every_revision() -> None:
    assert check(MANIFEST, FITTING, POLICY) == ()


@pytest.mark.parametrize(
    ("change", "code", "sentence"),
    [
        (
            {"hardware": "rev-a"},
            "hardware",
            "the image is for another hardware revision: expected 'rev-a', found 'rev-b, rev-c'",
        ),
        (
            {"hardware": None},
            "hardware",
            (
                "the image is for another hardware revision: expected '(none configured)', found 'rev-b, rev-c' "
                "(hint: set 'device.hardware' in the configuration)"
            ),
        ),
        (
            {"variant": "home"},
            "variant",
            "the image is for another variant of the device: expected 'home', found 'icu'",
        ),
        (
            {"variant": None},
            "variant",
            (
                "the image is for another variant of the device: expected '(none configured)', found 'icu' "
                "(hint: set 'device.variant' in the configuration)"
            ),
        ),
    ],
)
def test_other_hardware_is_refused_and_so_is_a_device_that_does_not_know_its_own(
    change: dict[str, str | None], code: str, sentence: str
) -> None:
    (reason,) = check(NARROW, replace(FITTING, **change), POLICY)  # type: ignore[arg-type]
    assert (reason.code, str(reason)) == (code, sentence)


def test_groups_above_the_devices_bound_are_refused_for_each_payload() -> None:
    reasons = check(MANIFEST, WELCOMING, AcceptancePolicy(group_size=2048))
    assert [reason.code for reason in reasons] == ["group-size", "group-size"]


RUNS = Release("2026.11", 7, 1)
SAME = {payload.name: payload.digest for payload in MANIFEST.payloads}


@pytest.mark.parametrize("reinstall", [False, True])
def test_another_content_under_the_running_sequence_is_refused_whatever_is_asked_for(reinstall: bool) -> None:
    facts = replace(WELCOMING, running=RUNS, content=SAME | {"firmware": "0" * 64})
    (reason,) = check(MANIFEST, facts, replace(POLICY, reinstall=reinstall))
    assert (reason.code, reason.expected, reason.found) == ("other-content", "0" * 64, SAME["firmware"])


def test_the_same_content_signed_anew_may_be_reinstalled() -> None:
    facts = replace(WELCOMING, running=replace(RUNS, manifest="1" * 64), content=SAME)
    assert [reason.code for reason in check(MANIFEST, facts, POLICY)] == ["already-installed"]
    assert check(MANIFEST, facts, replace(POLICY, reinstall=True)) == ()


@given(floor=st.integers(0, SEQUENCE_MAX), found=st.integers(1, SEQUENCE_MAX))
def test_no_release_takes_the_last_numbers(floor: int, found: int) -> None:
    manifest = replace(MANIFEST, release=replace(MANIFEST.release, sequence=found))
    reasons = {reason.code for reason in check(manifest, replace(WELCOMING, floors=Floors(floor)), POLICY)}
    if not reasons:
        assert floor == found == SEQUENCE_MAX or SEQUENCE_MAX - found >= (SEQUENCE_MAX - floor) // 2
    assert ("number-room" in reasons) == (found - floor > SEQUENCE_MAX - found + 1)


@pytest.mark.parametrize(("sequence", "epoch"), [(SEQUENCE_MAX, 1), (8, EPOCH_MAX)])
def test_a_mistyped_number_is_refused_while_it_can_be_mended(sequence: int, epoch: int) -> None:
    manifest = replace(MANIFEST, release=replace(MANIFEST.release, sequence=sequence, epoch=epoch))
    (reason,) = check(manifest, WELCOMING, POLICY)
    assert reason.code == "number-room"
    assert "leaves too few numbers for later releases" in str(reason)


@pytest.mark.parametrize("sequence", [20_261_129, 202_611_291_200, 1_795_000_000, 1_795_000_000_000])
def test_a_date_or_a_time_in_seconds_or_milliseconds_is_no_jump_too_far(sequence: int) -> None:
    manifest = replace(MANIFEST, release=replace(MANIFEST.release, sequence=sequence))
    assert check(manifest, WELCOMING, POLICY) == ()


def test_an_operator_may_reinstall_and_retry_but_not_go_below_a_floor() -> None:
    facts = replace(
        WELCOMING, running=Release("2026.11", 7, 1), failed=frozenset({7}), floors=Floors(sequence=8, epoch=2)
    )
    reasons = check(MANIFEST, facts, AcceptancePolicy(reinstall=True, retry=True))
    assert [reason.code for reason in reasons] == ["downgrade", "epoch"]


def test_all_reasons_come_at_once_and_the_error_carries_each() -> None:
    facts = DeviceFacts(
        compatible=("other",),
        room={"rootfs": 1, "modem": 1},
        floors=Floors(sequence=9, epoch=9),
        running=Release("2026.11", 7, 1),
        on_trial=True,
        failed=frozenset({7}),
    )
    reasons = check(MANIFEST, facts, AcceptancePolicy(group_size=2048))
    assert [reason.code for reason in reasons] == [
        *("on-trial", "compatible", "payload-unknown", "group-size", "payload-size", "group-size", "payload-missing"),
        *("downgrade", "epoch", "already-installed", "failed-before", "check-unknown", "check-unknown"),
    ]


def test_the_floor_itself_is_not_below_the_floor() -> None:
    assert check(MANIFEST, replace(WELCOMING, floors=Floors(FACTS.sequence, FACTS.epoch)), POLICY) == ()


@pytest.mark.verifies("S11")
def test_a_payload_of_another_type_is_for_a_place_of_that_type_alone() -> None:
    rootfs, firmware = MANIFEST.payload("rootfs"), replace(MANIFEST.payload("firmware"), type="file")
    manifest = replace(MANIFEST, payloads=(firmware, rootfs))
    assert [each.code for each in check(manifest, WELCOMING, POLICY)] == ["payload-type"]
    assert check(manifest, replace(WELCOMING, payload_types={"firmware": "file"}), POLICY) == ()
    assert [each.code for each in check(manifest, replace(WELCOMING, payload_types={"rootfs": "file"}), POLICY)] == [
        "payload-type",
        "payload-type",
    ]
