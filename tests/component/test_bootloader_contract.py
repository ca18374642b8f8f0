"""One contract for every boot loader backend: each decision lands whole or not at all, and says so."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakes import rigs
from twinslot.bootloader.base import CopyState
from twinslot.core.errors import DeviceError, LifecycleError, TwinslotError

pytestmark = pytest.mark.slow

ARMING = {
    "slot": "b",
    "slot_b": "trial",
    "upgrade_available": "1",
    "bootcount": "0",
    "ts_release": "7",
    "ts_txn": "0123456789abcdef" * 2,
    "ts_generation": "12",
}


def _parameters() -> Iterator[object]:
    for factory in rigs.BACKENDS:
        name = factory.__name__
        yield pytest.param(factory, id=name, marks=[pytest.mark.root] if name in rigs.NEEDS_ROOT else [])


@pytest.fixture(params=_parameters())
def blank(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[rigs.Rig]:
    """A backend whose copies are both lost."""
    with contextlib.ExitStack() as stack:
        yield request.param(tmp_path, monkeypatch, stack)


@pytest.fixture
def rig(blank: rigs.Rig) -> rigs.Rig:
    """A backend whose copies agree on the default environment."""
    blank.boot.reset({"ts_generation": "1"})
    return blank


@pytest.mark.verifies("REQ-BOOT-05")
def test_a_lost_environment_says_so_and_takes_no_decision(blank: rigs.Rig) -> None:
    found = blank.boot.read()
    assert found.lost
    assert not found.settled
    assert found.variables == {}
    before = blank.raw()
    with pytest.raises(DeviceError) as caught:
        blank.boot.write(ARMING)
    assert caught.value.code == "device.env-lost"
    assert blank.raw() == before


def test_reset_writes_default_and_changes_to_every_copy(blank: rigs.Rig) -> None:
    wanted = rigs.DEFAULT | {"slot": "b", "slot_a": "bad", "ts_generation": "4"}
    now = blank.boot.reset({"slot": "b", "slot_a": "bad", "ts_generation": "4", "gone": ""})
    assert now.variables == wanted
    assert now.settled
    assert blank.seen() == wanted
    for copy in (0, 1):
        blank.damage(copy)
        assert blank.seen() == wanted, "one copy alone must say it all"
        assert blank.boot.settle().settled


@pytest.mark.verifies("REQ-BOOT-05")
def test_a_good_environment_is_never_reset(rig: rigs.Rig) -> None:
    before = rig.raw()
    with pytest.raises(LifecycleError, match="nothing to reset"):
        rig.boot.reset({"slot": "b"})
    assert rig.raw() == before


@pytest.mark.verifies("S4", "REQ-BOOT-02")
def test_changes_land_together_and_the_rest_stays(rig: rigs.Rig) -> None:
    now = rig.boot.write(ARMING)
    assert now.variables == rigs.DEFAULT | ARMING
    assert rig.boot.read().variables == now.variables
    assert rig.seen() == now.variables


def test_an_empty_value_removes_and_removing_what_is_not_there_is_harmless(rig: rigs.Rig) -> None:
    rig.boot.write({"ts_reason": "bootlimit"})
    now = rig.boot.write({"ts_reason": "", "ts_never": ""})
    assert "ts_reason" not in now.variables
    assert "ts_reason" not in rig.seen()


@pytest.mark.parametrize("value", ["a b", "a=b", "#", "$x ${y} 'q' \"q\" ;&|", "ä", " lead", "x" * 1000])
def test_any_printable_value_survives(rig: rigs.Rig, value: str) -> None:
    rig.boot.write({"ts_txn": value})
    assert rig.seen()["ts_txn"] == value


@pytest.mark.verifies("REQ-BOOT-03")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ts_txn", "a\nslot=b"),
        ("ts_txn", "a\rb"),
        ("ts_txn", "a\0b"),
        ("ts_txn", "a\\b"),
        ("ts_txn", "x" * 1016),
        ("#slot", "b"),
        ("", "b"),
        ("a=b", "c"),
        ("a b", "c"),
    ],
)
def test_what_a_tool_would_change_on_the_way_is_refused_and_nothing_is_written(
    rig: rigs.Rig, name: str, value: str
) -> None:
    before = rig.raw()
    with pytest.raises(LifecycleError) as caught:
        rig.boot.write({"slot": "b", name: value})
    assert caught.value.code == "lifecycle.env-value"
    assert rig.raw() == before


def test_settling_makes_every_copy_agree(rig: rigs.Rig) -> None:
    rig.boot.write(ARMING)
    now = rig.boot.settle()
    assert now.settled
    assert now.variables == rigs.DEFAULT | ARMING
    rig.damage(0)
    assert rig.seen() == now.variables
    rig.boot.settle()
    rig.damage(1)
    assert rig.seen() == now.variables


def test_settling_what_is_settled_writes_nothing(rig: rigs.Rig) -> None:
    before = rig.raw()
    assert rig.boot.settle().settled
    assert rig.raw() == before


@pytest.mark.verifies("REQ-BOOT-02")
@pytest.mark.parametrize("copy", [0, 1])
def test_one_damaged_copy_is_survived_and_healed_by_the_next_write(rig: rigs.Rig, copy: int) -> None:
    rig.damage(copy)
    found = rig.boot.read()
    assert not found.lost
    assert found.variables == rigs.DEFAULT | {"ts_generation": "1"}
    rig.boot.write({"ts_generation": "2"})
    assert rig.boot.settle().settled
    assert rig.seen() == rigs.DEFAULT | {"ts_generation": "2"}


def test_reading_changes_nothing(rig: rigs.Rig) -> None:
    before = rig.raw()
    rig.boot.read()
    assert rig.raw() == before


NAMES = st.sampled_from(["slot", "slot_a", "slot_b", "ts_generation", "ts_failed", "bootcount"])
VALUES = st.sampled_from(["", "a", "b", "good", "bad", "0", "17"])
STEPS = st.lists(st.one_of(st.none(), st.dictionaries(NAMES, VALUES, max_size=4)), max_size=5)


@pytest.mark.verifies("REQ-BOOT-02")
@given(steps=STEPS)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_sequence_of_decisions_equals_a_dictionary(rig: rigs.Rig, steps: list[dict[str, str] | None]) -> None:
    model = dict(rig.boot.read().variables)
    for changes in steps:
        model |= changes or {}
        now = rig.boot.settle() if changes is None else rig.boot.write(changes)
        model = {name: value for name, value in model.items() if value}
        assert now.variables == model
        assert not any(copy.state is CopyState.CORRUPT for copy in now.copies)
    assert rig.seen() == model


def test_every_error_is_one_of_ours_and_has_a_code(blank: rigs.Rig) -> None:
    with pytest.raises(TwinslotError) as caught:
        blank.boot.settle()
    assert caught.value.code == "device.env-lost"
