"""An older client after a rollback: what the newer one wrote is kept, and nothing of it counts as damage (S18)."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from simulation.board import SimulatedBoard
from simulation.image import SmallImage
from twinslot.core.lifecycle import State
from twinslot.core.model import Floors, Reason, SlotName
from twinslot.core.transaction import Outcome
from twinslot.storage.record.published import Published

OLD, NEW, SICK = SmallImage("1.0", 10), SmallImage("2.0", 20), SmallImage("3.0", 30, well=False)
KEY = "of-a-newer-client"


@pytest.fixture
def board(tmp_path: Path) -> SimulatedBoard:
    board = SimulatedBoard(tmp_path, OLD, NEW, SICK)
    board.live()
    return board


@contextlib.contextmanager
def database(board: SimulatedBoard) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(board.data / "record.sqlite", isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


def rewrite(board: SimulatedBoard, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change every stored object, as only a newer client would write it."""
    with database(board) as connection:
        for table, key, column in (("transactions", "id", "body"), ("slots", "name", "body"), ("meta", "key", "value")):
            for name, text in connection.execute(f"SELECT {key}, {column} FROM {table}").fetchall():
                if table != "meta" or name == "floors":
                    changed = json.dumps(change(json.loads(text)))
                    connection.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (changed, name))


MAPS = ("payloads", "boots", "seconds", "unused")  # names in them are data, not fields


def objects(data: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object in stored JSON, with its place."""
    if isinstance(data, list):
        for each in data:
            yield from objects(each, where)
    elif isinstance(data, dict):
        if where not in MAPS:
            yield where, data
        for name, each in list(data.items()):
            yield from objects(each, "payload" if where == "payloads" else name)


def with_one_key_more(data: dict[str, Any]) -> dict[str, Any]:
    for where, each in list(objects(data)):
        each[KEY] = {"level": where}
    return data


def read(board: SimulatedBoard, table: str, column: str = "body") -> list[dict[str, Any]]:
    with database(board) as connection:
        return [json.loads(text) for (text,) in connection.execute(f"SELECT {column} FROM {table}")]


def levels(board: SimulatedBoard, table: str, column: str = "body") -> set[str]:
    """Where the newer client's key is found, after it was checked to be whole."""
    found = [each for data in read(board, table, column) for each in objects(data) if KEY in each[1]]
    assert all(each[KEY] == {"level": where} for where, each in found)
    return {where for where, _ in found}


def nothing_was_set_aside(board: SimulatedBoard) -> bool:
    return {path.name for path in board.data.glob("record.sqlite*")} <= {"record.sqlite", "record.sqlite-journal"}


@pytest.mark.verifies("S18")
def test_one_more_key_at_each_level_survives_a_trial_its_rollback_and_the_next_commit(board: SimulatedBoard) -> None:
    board.install(SICK)
    rewrite(board, with_one_key_more)
    board.start()
    board.engine().boot()
    board.engine().check()  # the checks are the older client's own: they have one level more from here on
    rewrite(board, with_one_key_more)
    board.live()
    assert board.system() is OLD
    assert levels(board, "transactions") == {"", "release", "floors", "payload", "checks", "origin"}
    assert levels(board, "slots") == {"", "release", "payload"}
    assert levels(board, "meta WHERE key = 'floors'", "value") == {""}
    with board.open_record() as record:
        assert record.history()[0].outcome is Outcome.ROLLED_BACK
        assert record.failed() == {30: "unhealthy"}
    board.install(NEW)
    board.live()
    assert board.system() is NEW
    assert levels(board, "meta WHERE key = 'floors'", "value") == {""}, "floors that rise keep those that are unknown"
    assert nothing_was_set_aside(board)


def test_going_back_keeps_what_a_newer_client_knew_of_the_slot(board: SimulatedBoard) -> None:
    board.install(NEW)
    board.live()
    rewrite(board, with_one_key_more)
    board.engine().rollback()
    board.live()
    assert board.system() is OLD
    with database(board) as connection:
        (text,) = connection.execute("SELECT body FROM slots WHERE name = 'a'").fetchone()
    assert {where for where, each in objects(json.loads(text)) if KEY in each} == {"", "release", "payload"}


def in_state(word: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda data: data | {"state": word} if data.get("outcome", 0) is None else data


@pytest.mark.verifies("S18")
def test_a_trial_in_a_state_of_a_newer_client_goes_on_as_a_trial(board: SimulatedBoard) -> None:
    board.install(NEW)
    rewrite(board, in_state("soaking"))
    board.live()
    assert board.system() is NEW
    with board.open_record() as record:
        assert record.history()[0].outcome is Outcome.COMMITTED


@pytest.mark.verifies("S18")
def test_an_install_in_a_state_of_a_newer_client_is_closed_with_that_reason(board: SimulatedBoard) -> None:
    board.install(NEW, activate=False)
    rewrite(board, in_state("scheduled"))
    board.live()
    assert board.system() is OLD
    with board.open_record() as record:
        last = record.history()[0]
    assert (last.outcome, last.reason) == (Outcome.ABANDONED, Reason.NEWER_CLIENT)
    assert nothing_was_set_aside(board)


def test_a_tried_release_in_a_state_of_a_newer_client_that_was_left_is_remembered(board: SimulatedBoard) -> None:
    board.install(SICK)
    board.start()
    board.engine().boot()
    board.engine().rollback()
    rewrite(board, in_state("reporting"))
    board.live()
    with board.open_record() as record:
        last = record.history()[0]
        assert (last.outcome, last.reason) == (Outcome.ROLLED_BACK, Reason.OPERATOR)
        assert record.failed() == {30: "operator"}


@pytest.mark.verifies("S18")
def test_an_update_of_a_slot_that_only_a_newer_client_has_is_left_to_it(board: SimulatedBoard) -> None:
    board.install(NEW, activate=False)
    rewrite(board, lambda data: data | {"target": "recovery"} if "target" in data else data)
    stored = read(board, "transactions")
    board.live()
    board.install(SICK)
    board.live()
    assert board.system() is OLD
    assert read(board, "transactions")[0] == stored[0]
    with board.open_record() as record:
        assert [str(each.target) for each in record.history()] == ["b", "recovery"]
        assert record.current() is None
    assert nothing_was_set_aside(board)


def test_every_user_is_told_the_status_although_a_newer_client_has_one_slot_more(board: SimulatedBoard) -> None:
    board.install(NEW, activate=False)
    rewrite(board, lambda data: data | {"target": "recovery"} if "target" in data else data)
    with database(board) as connection:
        (body,) = connection.execute("SELECT body FROM slots WHERE name = 'a'").fetchone()
        body = json.dumps(json.loads(body) | {"slot": "recovery"})
        connection.execute("INSERT INTO slots (name, body) VALUES ('recovery', ?)", (body,))
    board.live()
    with board.open_record() as record:
        record.raise_floors(Floors(11))  # whatever is saved next
        assert record.current() is None
    seen = Published(board.data)
    assert seen.floors() == Floors(11)
    assert seen.current() is None
    assert [str(each.target) for each in seen.history()] == ["recovery"]
    known = seen.slot(SlotName.A)
    assert known is not None
    assert known.release.name == OLD.name


def test_documents_of_a_newer_client_are_kept_at_the_commit_and_those_that_stand_are_not_dropped(
    board: SimulatedBoard,
) -> None:
    board.install(NEW)
    with board.open_record() as record:
        current = record.current()
        assert current is not None
        assert current.state is State.ARMED
        record.keep_documents({f"{current.id}.snapshot": "7"})
        record.keep_documents({"mirrors.json": "[]"})
    board.live()
    board.install(SICK)
    with board.open_record() as record:
        assert record.document("snapshot") == "7"
        assert record.document("mirrors.json") == "[]"
        assert record.document(f"{current.id}.snapshot") is None


@pytest.mark.parametrize("outcome", ["superseded", "committed"])
def test_history_shows_outcomes_and_reasons_that_only_a_newer_client_has(board: SimulatedBoard, outcome: str) -> None:
    board.install(SICK)
    board.live()
    rewrite(board, lambda data: data | {"outcome": outcome, "reason": "recalled"} if "outcome" in data else data)
    with board.open_record() as record:
        (last,) = record.history()
    assert (str(last.outcome), last.reason) == (outcome, "recalled")
    assert last.target is SlotName.B
