"""A table over an enumeration has a line for each member: a word that is missing is a KeyError on a device."""

from __future__ import annotations

import ast
import enum
import functools
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from twinslot.cli import render as cli_render
from twinslot.core.lifecycle import BOOT_EVENTS, TABLE, Event, State
from twinslot.image.wire import Section
from twinslot.queries.diagnosis import Severity

ROOT = Path(__file__).parents[2]


@functools.cache
def with_tables() -> dict[Path, list[tuple[str, str, list[str]]]]:
    """Modules that have tables over something, by their paths from the distribution's folder."""
    found = {
        path.relative_to(ROOT / top): list(tables(path))
        for top in ("client", "image_tools")
        for path in sorted((ROOT / top).rglob("*.py"))
        if path.name not in ("__init__.py", "__main__.py")
    }
    return {path: each for path, each in found.items() if each}


# Tables that are meant to have a line for some members only, by module and the first line's key, with those members.
SOME = {
    ("twinslot.image.layout", "Section.ATTACHMENTS"): {  # what stands behind the manifest
        Section.ATTACHMENTS,
        Section.PLAIN_LISTS,
        Section.STORED_TABLES,
        Section.GROUPS,
    },
    ("twinslot_image.pkcs11_worker", "Attribute.CLASS"): None,  # what is looked for in a token
    ("twinslot_image.pkcs11_worker", "Attribute.SENSITIVE"): None,  # what a secret is made with
    ("twinslot.fleet.reports", "AuditEvent.ACCEPTED"): None,  # what else comes tells a server nothing
    ("twinslot.image.wire", "Section.TRUST"): set(Section) - {Section.HEADER},  # its length is fixed
    ("twinslot.cli.verbs.trial", "Event.BOOTED_OLD"): BOOT_EVENTS,  # what `boot` may find
    ("twinslot.queries.doctor", "Event.BOOTED_OLD"): BOOT_EVENTS,
    ("twinslot.engine.recover", "Event.BOOTED_NEW"): {  # an event in which nothing is under way adopts nothing
        Event.BOOTED_NEW,
        Event.STILL_ARMED,
        Event.ROLLED_BACK,
        Event.GIVEN_UP,
    },
    **{("twinslot.core.lifecycle", f"Event.{next(iter(row)).name}"): None for row in TABLE.values()},  # `step` refuses
}


def tables(path: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Dictionaries whose keys are all written `Class.MEMBER`: class, first key, members."""
    for node in ast.walk(ast.parse(path.read_text())):
        keys = node.keys if isinstance(node, ast.Dict) else []
        named = [key for key in keys if isinstance(key, ast.Attribute) and isinstance(key.value, ast.Name)]
        owners = {key.value.id for key in named if isinstance(key.value, ast.Name)}
        if keys and len(named) == len(keys) and len(owners) == 1:
            (owner,) = owners
            yield owner, f"{owner}.{named[0].attr}", [key.attr for key in named]


def importable(name: str) -> ModuleType | None:
    """A module, unless its library is not installed: those are optional."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None


def test_a_table_over_an_enumeration_has_a_line_for_each_member() -> None:
    judged, wrong = 0, []
    for path, found in with_tables().items():
        name = ".".join(path.with_suffix("").parts)
        module = importable(name)
        for owner, first, members in found:
            kind = getattr(module, owner, None)
            if isinstance(kind, type) and issubclass(kind, enum.Enum):
                judged += 1
                wanted = SOME.get((name, first), set(kind))
                if wanted is not None and {kind[member] for member in members} != wanted:
                    wrong.append(f"{path}: the table that begins with {first}")
    assert judged > 20
    assert not wrong


def test_the_search_for_tables_finds_those_that_are_known() -> None:
    found = {first for each in with_tables().values() for _, first, _ in each}
    assert {"Event.BOOTED_OLD", "State.IDLE", "Reason.LOAD_FAILED", "Phase.VERIFY", "Effect.PREPARE"} <= found


def test_every_state_and_severity_has_words_and_every_state_a_row() -> None:
    assert set(TABLE) == set(cli_render.STATES) == set(State)
    assert {str(each) for each in Severity} <= set(cli_render.MARKS)
    assert all(set(row) >= BOOT_EVENTS for row in TABLE.values())
    assert {event for row in TABLE.values() for event in row} == set(Event)
