"""Cuts that were made, kept in the repository: docs/power-cuts.jsonl, and docs/power-cuts.md printed from it.

`build/powercut/report.json` has everything about the cuts of one machine. The ledger has a short line for each, so that
the cuts of many machines and days count together, by the client that they were made with.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from twinslot_lab.cache import fingerprint
from twinslot_lab.command import ROOT
from twinslot_lab.powercut.plan import COLD, WARM

# What the device gets: the same package from another builder is the same client.
_CLIENT, _PACKAGING, _BUILDER = ("client", "systemd", "bootloader_hooks/uboot/common.env"), "debian", "build.sh"
_KEPT = ("board", "seed", "number", "phase", "second", "second_cut", "on_card", "outcome", "problems", "next_install")
_COUNTED = ("audit_rows_known", "audit_rows_lost", "boot_seconds", "took")
_ORDER = [phase.name for phase in (*WARM, *COLD)]
_HEAD = """# Power cuts that were made

Printed by `python -m twinslot_lab powercut --docs docs` from [power-cuts.jsonl](power-cuts.jsonl), which has a line for
each cut: board, seed, number, phase, second, outcome, what booted with the first digits of its digest as the guest
measured it. What a cut proves and what it does not: [safety.md](safety.md), "Power cuts, for real". Board, seed and
number draw a cut again: `python -m twinslot_lab powercut --board BOARD --seed SEED --only NUMBER`.

A client is named by the hash of its sources. *Twice*: power went again in the start that followed. *On the card*: power
went while a copy of the environment was being written, or at most two seconds later.
"""

Entry = dict[str, Any]


def client(root: Path = ROOT) -> str:
    """Which client a checkout has: a hash of its sources, the same on every machine."""
    packaging = [part for part in sorted((root / _PACKAGING).iterdir()) if part.name != _BUILDER]
    return fingerprint(*(root / name for name in _CLIENT), *packaging)[:12]


def entry(line: dict[str, Any], client_name: str, subject: str = "") -> Entry:
    """What is kept of a line of a campaign.

    Args:
        line: Of the campaign.
        client_name: As `client` has it.
        subject: The digest that the matrix has of the same client; lines from before there was one have none.
    """
    expected, booted = line["expected"], line["booted"] or {"slot": "", "digest": ""}
    systems = {"expected": expected["slot"], "booted": booted["slot"], "digest": booted["digest"][:12]}
    told = {name: line[name] for name in _KEPT} | systems | {name: line[name] for name in _COUNTED}
    return {"client": client_name} | ({"subject": subject} if subject else {}) | told


def merge(file: Path, new: Iterable[Entry]) -> list[Entry]:
    """Add to the ledger what it does not have yet; returns all of it, in the order in which it was made."""
    entries = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    known = {_identity(entry) for entry in entries}
    entries += [entry for entry in new if _identity(entry) not in known]
    file.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return entries


def _identity(entry: Entry) -> tuple[Any, ...]:
    return tuple(entry[name] for name in ("client", "board", "seed", "number"))


def page(entries: Sequence[Entry]) -> str:
    """The page: one table for each client and board, and what they come to."""
    bricks = sum(entry["outcome"] == "BRICK" for entry in entries)
    lost, known = (sum(entry[name] for entry in entries) for name in ("audit_rows_lost", "audit_rows_known"))
    again = sum(entry["second_cut"] is not None for entry in entries)
    cuts = f"{len(entries)} cuts, {again} of them twice in a row: power went {len(entries) + again} times"
    text = [_HEAD, f"**{cuts}. {bricks} bricks, {lost} of {known} known audit rows lost.**"]
    for name, board in dict.fromkeys((entry["client"], entry["board"]) for entry in entries):
        made = [entry for entry in entries if (entry["client"], entry["board"]) == (name, board)]
        boots = sorted(second for entry in made for second in entry["boot_seconds"])
        text += [f"\n## {board}, client {name}\n", _table(made)]
        if boots:
            text.append(f"\n{len(boots)} starts, half of them in less than {boots[len(boots) // 2]:.0f} s.")
    return "\n".join(text) + "\n"


def _table(made: Sequence[Entry]) -> str:
    outcomes = sorted({entry["outcome"] for entry in made})
    counts = Counter((entry["phase"], entry["outcome"]) for entry in made)
    rows = [["phase", *outcomes, "all", "twice", "on the card"], ["---"] * (len(outcomes) + 4)]
    for phase in sorted({entry["phase"] for entry in made}, key=_place):
        here = [entry for entry in made if entry["phase"] == phase]
        rows.append([phase, *(str(counts[phase, outcome]) for outcome in outcomes), *_sums(here)])
    totals = [str(sum(entry["outcome"] == outcome for entry in made)) for outcome in outcomes]
    rows.append(["**all**", *totals, *_sums(made)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _place(phase: str) -> tuple[int, str]:
    """Phases as they follow each other in an update; at the end what an earlier plan called otherwise."""
    return _ORDER.index(phase) if phase in _ORDER else len(_ORDER), phase


def _sums(made: Sequence[Entry]) -> list[str]:
    twice = sum(entry["second_cut"] is not None for entry in made)
    return [str(len(made)), str(twice), str(sum(entry["on_card"] for entry in made))]
