"""What a newer client wrote is read, kept and handed back whole, at every level (S18)."""

from __future__ import annotations

import dataclasses
import enum
import functools
import importlib
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import twinslot
from twinslot.core import stored
from twinslot.core.backoff import Pause
from twinslot.core.consent import Consent
from twinslot.core.errors import Refusal, RefusedError, TwinslotError
from twinslot.core.lifecycle import State
from twinslot.core.model import CheckResult, Floors, Release, SlotName, SlotRecord, StoredPayload
from twinslot.core.origin import Origin
from twinslot.core.stored import Kept
from twinslot.core.transaction import Outcome, Transaction
from twinslot.core.waiting import Waiting
from twinslot.core.watch import WatchState
from twinslot.engine.report_state import ReportPlace, ReportState
from twinslot.fleet.reports import ServerAction
from twinslot.fleet.state import FleetState
from twinslot.repository.state import PollState

STORED = (
    *(
        CheckResult,
        Consent,
        Floors,
        Origin,
        Pause,
        PollState,
        Release,
        ReportPlace,
        ReportState,
        ServerAction,
        SlotRecord,
    ),
    *(FleetState, StoredPayload, Transaction, Waiting, WatchState),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda each: st.lists(each, max_size=2) | st.dictionaries(st.text(max_size=5), each, max_size=2),
    max_leaves=4,
)


def hints(kind: type) -> dict[str, Any]:
    return {name: hint for name, hint in typing.get_type_hints(kind).items() if name != "unknown"}


def as_newer(kind: type) -> st.SearchStrategy[dict[str, Any]]:
    """JSON of a stored class as a newer client may write it: every field, further keys, further words."""
    known = {name: of_hint(hint) for name, hint in hints(kind).items()}
    further = st.dictionaries(st.text(max_size=8).filter(lambda key: key not in known), JSON, max_size=2)
    return st.builds(lambda new, old: new | old, further, st.fixed_dictionaries(known))


def of_hint(hint: Any) -> st.SearchStrategy[Any]:
    if hint is Any:
        return JSON
    inner, kind = typing.get_args(hint), typing.get_origin(hint) or hint
    if isinstance(hint, types.UnionType):
        return st.none() | of_hint(inner[0])
    if kind is tuple:
        return st.lists(of_hint(inner[0]), max_size=2)
    if kind in (dict, Mapping):
        return st.dictionaries(st.text(max_size=5), of_hint(inner[1]), max_size=2)
    if dataclasses.is_dataclass(kind):
        return as_newer(typing.cast("type", kind))
    if issubclass(kind, enum.StrEnum):
        return st.sampled_from([str(member) for member in kind]) | st.text(min_size=1, max_size=5)
    leaves: dict[type, st.SearchStrategy[Any]] = {
        str: st.text(max_size=5),
        int: st.integers(0, 2**53),
        bool: st.booleans(),
        float: st.floats(0, 1e9),
    }
    return leaves[kind]


@functools.cache
def newer_of(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """`as_newer` of the stored class of this name, made once and not for each example."""
    return as_newer(next(kind for kind in STORED if kind.__name__ == name))


def test_every_stored_class_is_tried_here() -> None:
    for path in (Path(twinslot.__file__).parent / "core").glob("*.py"):
        importlib.import_module(f"twinslot.core.{path.stem}")
    assert {kind.__name__ for kind in Kept.__subclasses__()} == {kind.__name__ for kind in STORED}


@pytest.mark.verifies("S18")
@pytest.mark.slow
@pytest.mark.parametrize("kind", STORED, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_what_a_newer_client_wrote_is_handed_back_whole(kind: type[Kept], data: st.DataObject) -> None:
    newer = data.draw(newer_of(kind.__name__))
    again = stored.write(stored.read(kind, json.loads(json.dumps(newer))))
    assert json.loads(json.dumps(again)) == newer


@pytest.mark.slow
@pytest.mark.parametrize("kind", STORED, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_what_an_older_client_left_out_takes_its_default(kind: type[Kept], data: st.DataObject) -> None:
    newer = data.draw(newer_of(kind.__name__))
    optional = [each.name for each in dataclasses.fields(kind) if each.default is not dataclasses.MISSING]
    left_out = data.draw(st.sampled_from(optional or [""]))
    newer.pop(left_out, None)
    again = stored.write(stored.read(kind, newer))
    assert {key: value for key, value in again.items() if key in newer} == newer


TRANSACTION = Transaction(
    "ab" * 16,
    State.TRIAL,
    SlotName.B,
    Release("2.0", 20),
    Floors(20),
    {"rootfs": StoredPayload(1, 4096, "d" * 64)},
    checks=(CheckResult("motor", required=True, passed=True),),
)


@pytest.mark.parametrize("where", [(), ("release",), ("floors",), ("payloads", "rootfs"), ("checks", 0)], ids=str)
def test_a_key_that_is_not_known_stays_where_it_stood_when_the_rest_changes(where: tuple[Any, ...]) -> None:
    data = TRANSACTION.as_dict()
    place = data
    for step in where:
        place = place[step]
    place["added-later"] = {"deep": [1]}
    changed = dataclasses.replace(Transaction.from_dict(data), state=State.LEAVING, reason="unhealthy").as_dict()
    assert (changed["state"], changed["reason"]) == ("leaving", "unhealthy")
    for step in where:
        changed = changed[step]
    assert changed["added-later"] == {"deep": [1]}


def test_a_key_named_like_the_place_where_others_are_kept_is_kept_as_well() -> None:
    assert stored.write(stored.read(Floors, {"unknown": 7})) == {"unknown": 7} | stored.write(Floors())


@pytest.mark.parametrize(
    "damaged",
    [
        [],
        None,
        {"name": "1.0"},
        {"name": 1, "sequence": 1},
        {"name": "1.0", "sequence": "1"},
        {"name": "1.0", "sequence": True},
        {"name": "1.0", "sequence": 1.5},
    ],
    ids=repr,
)
def test_a_missing_key_or_a_value_of_another_type_is_damage(damaged: object) -> None:
    with pytest.raises(ValueError, match=r"Release|name|sequence"):
        stored.read(Release, damaged)


def test_a_word_that_is_not_known_stays_and_is_none_of_those_that_are() -> None:
    paused = stored.word(State, "paused")
    assert (str(paused), f"{paused}", json.dumps(paused)) == ("paused", "paused", '"paused"')
    assert not stored.is_known(paused)
    assert paused not in set(State)
    assert stored.word(State, "idle") is State.IDLE
    assert stored.is_known(State.IDLE)
    assert list(SlotName) == ["a", "b"], "a word read is no member"


@pytest.mark.parametrize(("armed", "counts_as"), [(True, State.TRIAL), (False, State.CHECKING)])
def test_a_state_of_a_newer_client_counts_as_one_that_lets_the_environment_decide(
    armed: bool, counts_as: State
) -> None:
    paused = dataclasses.replace(TRANSACTION, state=stored.word(State, "paused"), armed=armed)
    assert paused.in_known_state().state is counts_as
    assert TRANSACTION.in_known_state() is TRANSACTION


def test_an_outcome_of_a_newer_client_is_an_outcome() -> None:
    superseded = Transaction.from_dict(TRANSACTION.as_dict() | {"outcome": "superseded"})
    assert superseded.outcome is not None
    assert superseded.outcome not in set(Outcome)
    assert superseded.as_dict()["outcome"] == "superseded"


def test_a_floor_that_only_a_newer_client_knows_never_sinks_either() -> None:
    high, low = (stored.read(Floors, {"sequence": n, "mirror": n, "note": str(n)}) for n in (7, 5))
    assert stored.write(low.highest(high)) == {"sequence": 7, "epoch": 0, "root": 1, "mirror": 7, "note": "5"}
    assert stored.write(high.highest(Floors(9)))["mirror"] == 7
    assert stored.write(Floors(9).highest(high))["mirror"] == 7


@pytest.mark.verifies("S18")
def test_an_error_of_a_newer_process_keeps_its_code_and_its_further_keys_in_each_reason_too() -> None:
    newer = {"family": "policy", "code": "policy.waiting", "message": "not now", "until": "18:00"}
    assert TwinslotError.from_dict(dict(newer)).as_dict() == newer
    reason = {"family": "refused", "code": "refused.x", "message": "later", "gate": {"name": "fetch"}}
    refused = RefusedError(Refusal("x", "later")).as_dict() | {"retry_in": 5, "reasons": [reason]}
    again = TwinslotError.from_dict(dict(refused))
    assert isinstance(again, RefusedError)
    assert again.as_dict() == refused
