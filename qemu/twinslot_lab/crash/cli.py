"""`python -m twinslot_lab crash record`: a device on logged drives; `crash explore`: what a power cut could leave."""

from __future__ import annotations

import argparse
import sys

from twinslot_lab.crash import explore
from twinslot_lab.crash.here import TWO_PAYLOADS, record_here
from twinslot_lab.crash.record import record


def run(words: argparse.Namespace) -> int:
    """The exit status: 1 if a state is bad.

    Raises:
        LabError: The recording or the exploration could not be done.
    """
    two = words.story == TWO_PAYLOADS
    recording = record_here() if two else record(words.story)
    if words.action == "record":
        sys.stdout.write(f"{recording.folder}\n")
        return 0
    out = explore.REPORT.with_name(f"report-{TWO_PAYLOADS}.json") if two else explore.REPORT
    return explore.main(recording, words.states, words.seed, words.jobs, out)
