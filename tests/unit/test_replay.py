"""Updates replayed from their rows: the table says the same again, and what was changed is noticed."""

from __future__ import annotations

import json
import os
import random
from dataclasses import replace

import pytest

from twinslot.core.audit_chain import NOTHING, ChainRow, first_break, link_of
from twinslot.core.audit_explain import account_of
from twinslot.core.errors import RefusedError
from twinslot.core.events import AuditEvent
from twinslot.core.lifecycle import BOOT_EVENTS, CLOSING, TABLE, Effect, Event, State, step
from twinslot.core.replay import UpdateAccount, UpdateRow, image_differences, replay

ID = "1" * 32
HISTORIES = int(os.environ.get("TWINSLOT_HISTORIES", "10000"))
SEED = int(os.environ.get("TWINSLOT_SEED", "20261130"))
_OUTCOMES = {Effect.CLOSE_COMMITTED: "committed", Effect.ABANDON: "abandoned"}


def history(draw: random.Random, transaction: str = ID) -> tuple[list[ChainRow], str]:
    """A random life of one update, as `engine.machine` and `engine.open_update` store it; its rows and its end."""
    rows: list[ChainRow] = []
    state, armed, end = State.IDLE, False, ""

    def store(event: str, after: State, **fields: object) -> None:
        body = json.dumps({"transaction": transaction, "state": str(after), **fields}, sort_keys=True)
        before = rows[-1].end if rows else NOTHING
        link = link_of(before.hash, "2026-01-01T00:00:00Z", "b", event, body)
        rows.append(ChainRow(before.number + 1, "2026-01-01T00:00:00Z", "b", event, body, link))

    for _ in range(draw.randint(1, 14)):
        choices = [Event.ACCEPTED, Event.REVERT] if state is State.IDLE else sorted(TABLE[state])
        event = draw.choice(choices)
        after, effects = step(state, event)
        if event in BOOT_EVENTS and not effects and after is state:  # known already: adds no row
            continue
        armed = armed or after is State.ARMED
        if CLOSING.isdisjoint(effects):
            store(event, after)
            if draw.random() < 0.2:
                store(AuditEvent.CHECKED, after, well=True)
            state = after
            continue
        (closing,) = CLOSING & set(effects)
        end = _OUTCOMES.get(closing) or ("rolled-back" if armed else "abandoned")
        store(end, after, outcome=end, reason="")
        state = after
        break
    return rows, end


def told(rows: list[ChainRow]) -> UpdateAccount:
    return account_of(rows, "last")


@pytest.mark.verifies("REQ-AUD-03")
def test_random_histories_replay_to_the_verdict_that_they_had() -> None:
    draw = random.Random(SEED)
    ends: dict[str, int] = {}
    for number in range(HISTORIES):
        rows, end = history(draw)
        account = told(rows)
        assert account.differences == (), f"history {number} of seed {SEED}"
        assert account.outcome == end
        assert account.state == json.loads(rows[-1].body)["state"]
        ends[end] = ends.get(end, 0) + 1
    assert ends.keys() == {"", "committed", "rolled-back", "abandoned"}, "each kind of end was among them"


@pytest.mark.verifies("REQ-AUD-03", "S25")
def test_a_tampered_history_is_refused_by_the_chain_whatever_was_done_to_it() -> None:
    draw = random.Random(SEED)
    for number in range(HISTORIES):
        rows, _ = history(draw)
        at = draw.randrange(len(rows))
        fields = json.loads(rows[at].body) | {"state": draw.choice(list(State))}
        forged = draw.choice(
            (
                [*rows[:at], replace(rows[at], event="healthy"), *rows[at + 1 :]],
                [*rows[:at], replace(rows[at], body=json.dumps(fields)), *rows[at + 1 :]],
                [*rows[:at], *rows[at + 1 :], *([rows[at]] if at < len(rows) - 1 else [])],
            )
        )
        whole = forged == rows[: len(forged)]  # cut off at the end: the signed end tells
        assert whole or first_break(forged, NOTHING) is not None, f"history {number} of seed {SEED}"


def row(number: int, event: str, state: str, **fields: object) -> UpdateRow:
    return UpdateRow(number, "2026-01-01T00:00:00Z", event, {"transaction": ID, "state": state} | fields)


GOOD = [
    row(1, "accepted", "writing", manifest="0" * 64, release="2.0", sequence=20),
    row(2, "verified", "written"),
    row(3, "activate", "armed"),
    row(4, "booted-new", "trial"),
    row(5, "checked", "trial", well=True),
    row(6, "healthy", "committing"),
    row(7, "committed", "idle", outcome="committed"),
]


@pytest.mark.verifies("REQ-AUD-03")
@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (GOOD, ()),
        (GOOD[:3] + GOOD[4:], "row 5: event 'checked' leads nowhere, and the row says 'trial'"),
        (GOOD[1:], "row 2: the rows before event 'verified' are not there"),
        (
            [*GOOD[:2], row(3, "activate", "trial")],
            "row 3: event 'activate' leads to 'armed', and the row says 'trial'",
        ),
        ([*GOOD[:2], row(3, "healthy", "committing")], "row 3: event 'healthy' cannot happen in state 'written'"),
        ([*GOOD, row(8, "activate", "armed")], "row 8: the update had ended as 'committed'"),
        ([*GOOD[:1], row(2, "rolled-back", "idle", outcome="rolled-back")], "row 2: what was never armed is abandoned"),
        ([row(1, "committed", "idle", outcome="committed")], "row 1: no event ends state 'idle' as 'committed'"),
        ([*GOOD[:1], row(2, "verified", "of a newer client")], "row 2: state 'of a newer client' is none of this"),
    ],
)
def test_where_rows_and_table_differ_is_said(rows: list[UpdateRow], told: str | tuple[str, ...]) -> None:
    differences = replay(ID, rows).differences
    if told == ():
        assert differences == ()
    else:
        assert differences[0].startswith(str(told))


@pytest.mark.verifies("REQ-AUD-03")
def test_another_image_than_the_accepted_one_is_said() -> None:
    account = replay(ID, GOOD)
    assert image_differences(account, "0" * 64, "2.0", 20) == ()
    (told,) = image_differences(account, "0" * 64, "2.0", 21)
    assert told == "sequence of the image is '21', the rows say '20'"
    assert image_differences(replay(ID, [row(1, "accepted", "writing")]), "0" * 64, "2.0", 20)
    assert image_differences(replay(ID, GOOD[1:]), "0" * 64, "2.0", 20)


def test_an_update_is_found_by_the_beginning_of_its_id() -> None:
    rows = history(random.Random(1), "ab12" + "0" * 28)[0]
    assert account_of(rows, "ab12").transaction.startswith("ab12")
    for none in ("ab1", "ffff", "", "last?"):
        with pytest.raises(RefusedError) as refused:
            account_of(rows, none)
        assert refused.value.code == "refused.transaction-unknown"
    with pytest.raises(RefusedError):
        account_of([], "last")
