"""`python -m twinslot_lab crash record`: a device on logged drives; `crash explore`: what a power cut could leave."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from twinslot_lab.crash import explore
from twinslot_lab.crash.here import TWO_PAYLOADS, record_here
from twinslot_lab.crash.record import SHORT, WHOLE, record


def main(arguments: Sequence[str]) -> int:
    """The exit status: 1 if a state is bad.

    Raises:
        LabError: The recording or the exploration could not be done.
    """
    parser = argparse.ArgumentParser(prog="python -m twinslot_lab crash", description=__doc__)
    parser.add_argument("verb", choices=["record", "explore"])
    stories = (
        f"{WHOLE} and {SHORT} (install, trial and commit only): of a board; {TWO_PAYLOADS}: of this machine, as root"
    )
    parser.add_argument("--story", choices=[WHOLE, SHORT, TWO_PAYLOADS], default=WHOLE, help=stories)
    parser.add_argument("--states", type=int, default=14_000, help="about how many states; default %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="draws the states; the report names it")
    parser.add_argument("--jobs", type=int, default=2, help="processes; default %(default)s")
    words = parser.parse_args(arguments)
    two = words.story == TWO_PAYLOADS
    recording = record_here() if two else record(words.story)
    if words.verb == "record":
        sys.stdout.write(f"{recording.folder}\n")
        return 0
    out = explore.REPORT.with_name(f"report-{TWO_PAYLOADS}.json") if two else explore.REPORT
    return explore.main(recording, words.states, words.seed, words.jobs, out)
