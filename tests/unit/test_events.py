"""Everything that is announced has its place in one table; page, catalog and code are held to it."""

from __future__ import annotations

import ast
import json
import runpy
import subprocess
from pathlib import Path

import pytest

from twinslot.core.errors import Refusal, RefusedError
from twinslot.core.events import COMMON, AuditEvent, describe, journal_fields, origin_text
from twinslot.core.journal_entry import VALUE_MAX, encode_entry
from twinslot.core.lifecycle import Event
from twinslot.core.transaction import Outcome

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "client" / "twinslot"
WRITERS = (CLIENT, ROOT / "image_tools/twinslot_image")  # manufacture writes the first row
WRITING = ("audit", "audit_in_boot", "audit_counted")
HOSTILE = "2.0\r\n<3>forged\x1b[2J\u202e"


def announcements() -> list[tuple[str, ast.Call]]:
    """Each call with `AuditEvent.MEMBER` as first argument, with the member's name."""
    found = []
    for path in (path for folder in WRITERS for path in folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            first = node.args[0] if isinstance(node, ast.Call) and node.args else None
            if (
                isinstance(first, ast.Attribute)
                and isinstance(first.value, ast.Name)
                and first.value.id == "AuditEvent"
            ):
                assert isinstance(node, ast.Call)
                found.append((first.attr, node))
    return found


def test_every_event_of_an_update_and_every_end_is_one_of_the_events() -> None:
    assert {*Event, *Outcome} <= {str(event) for event in AuditEvent}


def test_each_event_says_what_it_means_and_each_of_its_fields_too() -> None:
    for event in AuditEvent:
        assert event.meaning[0].islower() or event.meaning.startswith("Twinslot"), event
        assert all(event.fields.values()), event
        assert not event.fields.keys() & COMMON.keys(), event
    assert len({event.message_id for event in AuditEvent}) == len(AuditEvent)


@pytest.mark.verifies("REQ-CMP-02")
def test_message_ids_do_not_change() -> None:
    assert AuditEvent.ACCEPTED.message_id == "ae10bea4ec7154139a7433efeb85988b"
    assert AuditEvent.REFUSED.message_id == "ba4c9e2d656359df95194221f1330f3a"


def test_what_is_announced_has_only_declared_fields() -> None:
    calls = announcements()
    assert len(calls) > 10
    for member, call in calls:
        event = AuditEvent[member]
        given = {keyword.arg for keyword in call.keywords if keyword.arg} - {"needed", "outcome", "reason"}
        given |= {str(key.value) for arg in call.args for key in keys_of(arg)}
        assert given <= event.fields.keys() | COMMON.keys(), f"{member} at line {call.lineno}"


def test_no_row_has_an_event_that_is_none_of_the_events() -> None:
    for path in (path for folder in WRITERS for path in folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in WRITING:
                assert not isinstance(node.args[0], ast.Constant), f"{path}:{node.lineno}"


def keys_of(argument: ast.expr) -> list[ast.Constant]:
    """Keys that stand in a dictionary."""
    keys = argument.keys if isinstance(argument, ast.Dict) else []
    return [key for key in keys if isinstance(key, ast.Constant)]


@pytest.mark.verifies("S19")
def test_nothing_is_audited_beside_the_one_place_that_announces() -> None:
    allowed = {"engine/announce.py", "storage/record/audit_trail.py", "storage/record/record.py"}
    for path in CLIENT.rglob("*.py"):
        named = str(path.relative_to(CLIENT))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in WRITING:
                assert named in allowed, f"{named}:{node.lineno}"


@pytest.mark.parametrize("event", [*AuditEvent, "of-a-newer-client"])
def test_a_line_for_people_has_no_control_characters(event: str) -> None:
    fields = {"release": HOSTILE, "message": HOSTILE, "found": HOSTILE, "origin": {"kind": "bus", "login": HOSTILE}}
    assert describe(event, fields).isprintable()
    assert origin_text(fields["origin"]).isprintable()  # type: ignore[arg-type]


def test_the_line_says_what_who_and_why() -> None:
    fields = {
        "release": "2.0",
        "slot": "b",
        "origin": {"kind": "cli", "uid": 0, "login": "ann"},
        "message": "the release is older than what was committed",
        "expected": "at least 20",
        "found": "10",
        "hint": "ask for a newer one",
    }
    assert describe("refused", fields) == (
        "a request was refused; nothing changed: the release is older than what was committed, expected 'at least 20', "
        "found '10'; hint: ask for a newer one (release '2.0', slot 'b', by cli ann uid 0)"
    )


def test_a_value_with_quotes_stands_in_double_quotes() -> None:
    told = describe("refused", {"message": "a key is wrong", "expected": "'check' alone", "found": "both"})
    assert told.endswith(""": a key is wrong, expected "'check' alone", found 'both'""")


def test_the_journal_gets_the_fields_that_a_search_needs() -> None:
    fields = {"transaction": "a" * 32, "state": "armed", "slot": "b", "release": "2.0", "code": "device.reboot"}
    told = journal_fields(AuditEvent.ACTIVATE, fields)
    assert told["MESSAGE_ID"] == AuditEvent.ACTIVATE.message_id
    assert told["TWINSLOT_EVENT"] == "activate"
    assert [told[f"TWINSLOT_{name}"] for name in ("TRANSACTION", "STATE", "SLOT", "RELEASE", "CODE")] == [
        "a" * 32,
        "armed",
        "b",
        "2.0",
        "device.reboot",
    ]


def test_the_journal_gets_what_an_update_took_and_no_name_that_it_does_not_take() -> None:
    fields = {
        "seconds": {"read-back": 1.25, "write": 3, "x" * 80: 1.0, "a b": 1.0, "later": "soon"},
        "bytes": {"fetched": 1700000, "written": 0},
    }
    told = journal_fields(AuditEvent.COMMITTED, fields)
    assert {name: value for name, value in told.items() if "_SECONDS_" in name or "_BYTES_" in name} == {
        "TWINSLOT_SECONDS_READ_BACK": "1.25",
        "TWINSLOT_SECONDS_WRITE": "3",
        "TWINSLOT_BYTES_FETCHED": "1700000",
        "TWINSLOT_BYTES_WRITTEN": "0",
    }
    assert not any("SECONDS" in name for name in journal_fields(AuditEvent.HELD, {"seconds": 3600}))
    assert encode_entry(told)


def test_a_refusal_with_more_reasons_than_the_journal_takes_is_still_json_there() -> None:
    reasons = tuple(Refusal("signatures", "x" * 900) for _ in range(32))
    told = journal_fields(AuditEvent.REFUSED, RefusedError(reasons).as_dict())
    kept = json.loads(told["TWINSLOT_REASONS"])
    assert 0 < len(kept) < 32
    assert kept[0] == reasons[0].as_dict()
    assert len(told["TWINSLOT_REASONS"]) <= VALUE_MAX


def test_a_finding_of_a_start_is_no_error_in_the_journal() -> None:
    assert "TWINSLOT_FOUND" not in journal_fields(AuditEvent.ADOPTED, {"found": "booted-new"})


def test_page_and_catalog_are_printed_from_the_table() -> None:
    printer = runpy.run_path(str(ROOT / "docs" / "make_events.py"))
    assert (ROOT / "docs" / "events.md").read_text() == printer["page"](), "run 'make docs'"
    assert (ROOT / "systemd" / "twinslot.catalog").read_text() == printer["catalog"](), "run 'make docs'"


@pytest.mark.verifies("REQ-OPS-02")
def test_the_journal_itself_takes_the_catalog_and_finds_each_event(tmp_path: Path) -> None:
    directory = tmp_path / "usr/lib/systemd/catalog"
    directory.mkdir(parents=True)
    (directory / "twinslot.catalog").write_text((ROOT / "systemd" / "twinslot.catalog").read_text())
    (tmp_path / "var/lib/systemd/catalog").mkdir(parents=True)
    journalctl = ["journalctl", f"--root={tmp_path}"]
    subprocess.run([*journalctl, "--update-catalog"], check=True, capture_output=True)
    listed = subprocess.run([*journalctl, "--list-catalog"], check=True, capture_output=True, text=True).stdout
    assert {line.split()[0] for line in listed.splitlines()} == {event.message_id for event in AuditEvent}
    assert listed.count("Twinslot: ") == len(AuditEvent)
