"""Prints docs/lifecycle.md from the table in core/lifecycle.py."""

from __future__ import annotations

from twinslot.cli.render import REASONS
from twinslot.core.lifecycle import BOOT_EVENTS, TABLE, Event, State
from twinslot.core.model import Reason


def page() -> str:
    """The page as Markdown."""
    lines = [
        "# The life of an update",
        "",
        "Printed from `client/twinslot/core/lifecycle.py` by `make docs`; a test holds this page to the table.",
        "",
        "```mermaid",
        "stateDiagram-v2",
        f"    [*] --> {State.IDLE}",
        *(_arrow(state, event) for state in State for event in TABLE[state] if event not in BOOT_EVENTS),
        "```",
        "",
        "Events of a running client:",
        "",
        *_table([event for event in Event if event not in BOOT_EVENTS]),
        "",
        "What a start of the client finds (power may return in any state):",
        "",
        *_table([event for event in Event if event in BOOT_EVENTS]),
        "",
        "A state that is not in this table is of a newer client: it counts as `trial` if the target was ever armed,",
        "else as `checking` (S18).",
        "",
        "Why an update was not kept, as the record and the boot environment store it:",
        "",
        "| reason | meaning |",
        "|---|---|",
        *(f"| `{reason}` | {REASONS[reason]} |" for reason in Reason),
    ]
    return "\n".join(lines) + "\n"


def _arrow(state: State, event: Event) -> str:
    return f"    {state} --> {TABLE[state][event][0]}: {event}"


def _table(events: list[Event]) -> list[str]:
    rows = ["| in state | on event | next state | effects, in order |", "|---|---|---|---|"]
    for state in State:
        for event in events:
            if event in TABLE[state]:
                after, effects = TABLE[state][event]
                rows.append(f"| {state} | {event} | {after} | {', '.join(effects) or '-'} |")
    return rows


if __name__ == "__main__":
    print(page(), end="")
