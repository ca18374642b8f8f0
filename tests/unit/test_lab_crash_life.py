"""Where a device comes to rest from a state: the client's engine on the boot model, and what counts as bad."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from twinslot.bootloader.uboot.rawenv import encode
from twinslot.core.lifecycle import State
from twinslot.core.model import Floors, Release, SlotName, SlotRecord, StoredPayload
from twinslot.core.transaction import Outcome, Transaction
from twinslot.storage.record.record import Record
from twinslot_lab.crash.bootmodel import Card, power_on
from twinslot_lab.crash.images import Signed
from twinslot_lab.crash.life import ADOPTED, FinalState, Life, Slot, starts_to_come
from twinslot_lab.crash.units import VerbError, run_verb

DIGESTS = {"rootfs": "0" * 64}
OLD = Slot(loads=True, signed=Signed("1.0", 10, well=True, checks=("motor",), units={}, digests=DIGESTS))
NEW = Slot(loads=True, signed=Signed("2.0", 20, well=True, checks=("motor",), units={}, digests=DIGESTS))
SICK = Slot(loads=True, signed=Signed("3.0", 30, well=False, checks=("motor",), units={}, digests=DIGESTS))
WIPED = Slot(loads=False, signed=None)
TORN = Slot(loads=True, signed=None)  # a superblock, but not what was signed
ID = "7" * 32
FLOORS = {"ts_sequence": "10", "ts_epoch": "0", "ts_root": "1"}
CALM = FLOORS | {"slot": "a", "slot_a": "good", "slot_b": "bad", "upgrade_available": "0", "ts_generation": "2"}
ARMED = CALM | {
    "slot": "b",
    "slot_b": "trial",
    "upgrade_available": "1",
    "bootcount": "0",
    "ts_release": "20",
    "ts_release_epoch": "0",
    "ts_txn": ID,
}


def card(variables: dict[str, str]) -> Card:
    return Card.read(encode(variables, 4096, 5), encode(variables, 4096, 4))


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """As the factory leaves it."""
    folder = tmp_path / "record"
    folder.mkdir()
    with Record(folder, lambda: "2026-01-01T00:00:00Z") as database:
        payload = {"rootfs": StoredPayload(1, 1 << 16, "0" * 64)}
        database.save_slot(SlotRecord(SlotName.A, Release("1.0", 10, 0), payload))
        database.raise_floors(Floors(10))
    return folder


@pytest.fixture
def armed_record(record: Path) -> Path:
    """And with an update that waits for its boot."""
    with Record(record, lambda: "2026-01-01T00:00:00Z") as database:
        update = Transaction(ID, State.ARMED, SlotName.B, Release("2.0", 20, 0), armed=True)
        database.save(update, "armed")
    return record


def live(variables: dict[str, str], a: Slot, b: Slot, record: Path) -> FinalState:
    return Life(card(variables), {"a": a, "b": b}, record).live()


def test_a_quiet_device_stays_what_it_is(record: Path) -> None:
    assert live(CALM, OLD, WIPED, record) == FinalState("", "a", "1.0", "opened")


def test_an_armed_update_is_tried_and_kept(armed_record: Path) -> None:
    assert live(ARMED, OLD, NEW, armed_record) == FinalState("", "b", "2.0", "opened")


def test_an_armed_update_that_is_not_well_ends_in_the_old_slot(armed_record: Path) -> None:
    assert live(ARMED, OLD, SICK, armed_record) == FinalState("", "a", "1.0", "opened")


def test_an_armed_update_whose_slot_does_not_load_ends_in_the_old_slot(armed_record: Path) -> None:
    assert live(ARMED, OLD, WIPED, armed_record) == FinalState("", "a", "1.0", "opened")


def test_a_slot_that_starts_and_is_not_what_was_signed_is_bad(armed_record: Path) -> None:
    assert live(ARMED, OLD, TORN, armed_record).wrong == "slot b starts and is not what was signed"


def test_no_slot_that_can_be_started_is_bad(record: Path) -> None:
    assert live(CALM, WIPED, WIPED, record).wrong == "no slot can be started"


def test_a_lost_record_is_rebuilt_and_agrees(tmp_path: Path) -> None:
    final = live(ARMED, OLD, NEW, tmp_path)
    assert (final.wrong, final.running, final.record) == ("", "b", "rebuilt")
    assert ADOPTED in final.notes


def test_a_damaged_record_is_set_aside_and_agrees(record: Path) -> None:
    (record / "record.sqlite").write_bytes(b"noise" * 1000)
    final = live(CALM, OLD, WIPED, record)
    assert (final.wrong, final.running, final.record) == ("", "a", "rebuilt")


def test_a_record_that_tells_of_another_release_is_bad(record: Path) -> None:
    assert live(CALM, NEW, WIPED, record).wrong == "slot a holds 2.0, the record says 1.0"


@pytest.mark.parametrize("payloads", [{"rootfs"}, {"rootfs", "voices"}], ids=["lacks one", "other digest"])
def test_a_record_that_tells_of_another_payload_is_bad(record: Path, payloads: set[str]) -> None:
    two = replace(OLD.signed, digests={"rootfs": "0" * 64, "voices": "1" * 64})  # type: ignore[type-var]
    with Record(record, lambda: "2026-01-01T00:00:00Z") as database:
        held = {name: StoredPayload(1, 1 << 16, "0" * 64) for name in payloads}
        database.save_slot(SlotRecord(SlotName.A, Release("1.0", 10, 0), held))
    said = "slot a holds 1.0, and the record says otherwise of voices"
    assert live(CALM, Slot(loads=True, signed=two), WIPED, record).wrong == said


@pytest.mark.parametrize(("target", "outcome"), [(SlotName.B, Outcome.COMMITTED), (SlotName.A, Outcome.ROLLED_BACK)])
def test_a_record_whose_last_update_ended_otherwise_than_what_runs_says_is_bad(
    record: Path, target: SlotName, outcome: Outcome
) -> None:
    told = Transaction(ID, State.IDLE, target, Release("2.0", 20, 0), outcome=outcome, ended="x")
    with Record(record, lambda: "2026-01-01T00:00:00Z") as database:
        database.save(told, "told")
    said = f"slot a runs, and the record says of the last update, into slot {target}: {outcome}"
    assert live(CALM, OLD, WIPED, record).wrong == said
    other = replace(told, target=SlotName.A if target is SlotName.B else SlotName.B)
    with Record(record, lambda: "2026-01-01T00:00:00Z") as database:
        database.save(other, "told")
    assert live(CALM, OLD, WIPED, record).wrong == ""


def test_with_the_environment_lost_the_older_committed_slot_may_run(record: Path) -> None:
    payload = {"rootfs": StoredPayload(1, 1 << 16, "0" * 64)}
    told = Transaction(ID, State.IDLE, SlotName.B, Release("2.0", 20, 0), outcome=Outcome.COMMITTED, ended="x")
    with Record(record, lambda: "2026-01-01T00:00:00Z") as database:
        database.save(told, "told")
        database.save_slot(SlotRecord(SlotName.B, Release("2.0", 20, 0), payload))
    lost = Card.read(bytes(4096), bytes(4096))
    final = Life(lost, {"a": OLD, "b": NEW}, record).live()
    assert (final.wrong, final.running) == ("", "a")


def test_a_broken_audit_chain_is_bad(record: Path) -> None:
    with Record(record, lambda: "2026-01-01T00:00:00Z") as database:
        database.audit("one")
        database._db.execute("UPDATE audit SET event = 'other'")
    assert "audit chain is broken" in live(CALM, OLD, WIPED, record).wrong


def test_a_release_on_trial_must_pass_each_check_that_its_image_names(armed_record: Path) -> None:
    with Record(armed_record, lambda: "2026-01-01T00:00:00Z") as database:
        update = Transaction(ID, State.ARMED, SlotName.B, Release("2.0", 20, 0), armed=True)
        database.save(replace(update, required_checks=("10-pump-motor",)), "armed")
    assert live(ARMED, OLD, NEW, armed_record).running == "a"


def test_a_verb_that_fails_is_told_with_the_words_of_the_client(record: Path) -> None:
    device = Life(card(CALM), {"a": OLD, "b": WIPED}, record)
    assert device.live().wrong == ""
    with pytest.raises(VerbError, match=r"'twinslot --no-service activate' ended with status 4: nothing to activate"):
        run_verb(device.host, "--no-service", "activate")
    assert run_verb(device.host, "--no-service", "activate", refused=True)["type"] == "error"


def test_both_copies_lost_end_with_record_and_environment_in_agreement(record: Path) -> None:
    lost = Card.read(bytes(4096), bytes(4096))
    final = Life(lost, {"a": OLD, "b": WIPED}, record).live()
    assert (final.wrong, final.running) == ("", "a")


def test_the_slots_to_come_include_the_one_behind_the_last_try() -> None:
    assert list(starts_to_come(card(ARMED), {"a": OLD, "b": NEW}))[:4] == ["b", "b", "b", "a"]


def test_a_bad_slot_never_starts() -> None:
    both_bad = CALM | {"slot_a": "bad"}
    assert power_on(card(both_bad), lambda _: True).slot is None
    assert list(starts_to_come(card(both_bad), {"a": OLD, "b": NEW})) == []
