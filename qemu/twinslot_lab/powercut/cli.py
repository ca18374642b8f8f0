"""`python -m twinslot_lab powercut`: cut the power of an emulated board, many times, and tell what became of it."""

from __future__ import annotations

import argparse
import signal
import sys
from collections import Counter
from collections.abc import Iterable, Sequence

from twinslot_lab.client_digest import client_subject
from twinslot_lab.powercut import ledger
from twinslot_lab.powercut.campaign import HOME, Campaign, Line, prepare


def run(chosen: argparse.Namespace) -> int:
    """0: no brick; 1: at least one; 130: stopped by a signal, after the cuts that were under way."""
    campaign = Campaign(prepare(chosen.board), chosen.seed, tell)
    if chosen.only is not None:
        campaign.forget(chosen.only)
    numbers = range(chosen.cuts) if chosen.only is None else [chosen.only]
    stopped = not _runs_to_its_end(campaign, numbers, chosen.jobs)
    lines = [line for line in campaign.lines if line["number"] in numbers]
    sys.stdout.write(table(lines) + f"\nreport: {HOME / 'report.json'}\n")
    if stopped:
        sys.stdout.write("stopped; the same command goes on\n")
        return 130
    if chosen.docs is not None:
        made_with = ledger.client()
        entries = [ledger.entry(line, made_with, client_subject()) for line in campaign.lines]
        whole = ledger.merge(chosen.docs / "power-cuts.jsonl", entries)
        (chosen.docs / "power-cuts.md").write_text(ledger.page(whole))
    return 1 if any(line["outcome"] == "BRICK" for line in lines) else 0


def _runs_to_its_end(campaign: Campaign, numbers: Sequence[int], jobs: int) -> bool:
    """False: SIGINT or SIGTERM came. Then what is under way is done first, since emulators must not stay behind."""
    signals = (signal.SIGINT, signal.SIGTERM)  # SIGINT, too: a shell script starts its background deaf to it
    before = [signal.signal(number, signal.default_int_handler) for number in signals]
    try:
        campaign.run(numbers, jobs)
    except KeyboardInterrupt:
        return False
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
    return True


def tell(line: Line) -> None:
    """A line for each cut; for a brick, all that it takes to repeat it."""
    twice = f" and {line['second_cut']:.1f} s into the next start" if line["second_cut"] is not None else ""
    what = f"cut {line['number']:4d}  {line['phase']:<12} {line['second']:6.2f} s{twice}: {line['outcome']}"
    sys.stdout.write(f"{what}  ({line['took']:.0f} s)\n")
    if line["problems"]:
        sys.stdout.write(brick(line) + "\n")
    sys.stdout.flush()


def brick(line: Line) -> str:
    """What is wrong, and how to see it again."""
    why = "; ".join(line["problems"])
    again = f"--board {line['board']} --seed {line['seed']} --only {line['number']}"
    return (
        f"BRICK in phase '{line['phase']}' at second {line['second']}: {why}\n"
        f"  repeat it: python -m twinslot_lab powercut {again}\n  its drives: {line.get('kept', '-')}"
    )


def table(lines: Iterable[Line]) -> str:
    """Phases down, outcomes across, counts."""
    lines = list(lines)
    phases = list(dict.fromkeys(line["phase"] for line in lines))
    outcomes = sorted({line["outcome"] for line in lines})
    counts = Counter((line["phase"], line["outcome"]) for line in lines)
    rows = [["phase", *outcomes, "twice", "all"]]
    for phase in phases:
        twice = sum(line["phase"] == phase and line["second_cut"] is not None for line in lines)
        numbers = [counts[phase, outcome] for outcome in outcomes]
        rows.append([phase, *map(str, numbers), str(twice), str(sum(numbers))])
    rows.append(["all", *(str(sum(counts[p, o] for p in phases)) for o in outcomes), "", str(len(lines))])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    text = ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    boots = [second for line in lines for second in line["boot_seconds"]]
    lost = sum(line["audit_rows_lost"] for line in lines)
    mean = sum(boots) / len(boots) if boots else 0.0
    text.append(f"{lost} audit rows lost; {len(boots)} boots of {mean:.1f} s; {_mean_took(lines):.1f} s for a cut")
    return "\n".join(text)


def _mean_took(lines: Sequence[Line]) -> float:
    return sum(line["took"] for line in lines) / len(lines) if lines else 0.0
