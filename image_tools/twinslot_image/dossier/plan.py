"""The section of a predetermined change control plan: modification, protocol, comparison, rollback.

Source: FDA, Marketing Submission Recommendations for a Predetermined Change Control Plan (August 2025).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from twinslot_image.dossier.figures import shown_json
from twinslot_image.dossier.model import Body, DossierSection, DossierTable, SectionState
from twinslot_image.dossier.request import PCCP_FILES, Pccp
from twinslot_image.evidence_file import parse_json, reading, text

_FORM: Final = 'a comparison: {"rows": [{"criterion", "baseline", "modified", "limit", "met"}]}'
_COMPARED: Final = ("criterion", "baseline", "modified", "limit")
_MET, _NOT_MET = "yes", "NO"


def plan_section(
    plan: Pccp, files: Mapping[str, tuple[Path, bytes]], placed: Mapping[str, bytes], most: int
) -> DossierSection:
    """The section.

    Args:
        plan: What was described.
        files: Name and content by key, as far as they were named.
        placed: Content by path in the dossier.
        most: Characters of a document on the page.

    Raises:
        ImageError: `image.evidence`: the comparison is none.
    """
    tables = [_comparison(*files["comparison"])] if "comparison" in files else []
    facts = [["modification", plan.modification]]
    facts += [[key, files[key][0].name if key in files else "MISSING"] for key in PCCP_FILES]
    shown = [shown_json(files[key][1])[:most] for key in ("protocol", "rollback") if key in files]
    absent = [key for key in PCCP_FILES if key not in files]
    state, note = SectionState.THERE, ""
    if absent:
        state, note = SectionState.MISSING, f"without {', '.join(absent)}"
    elif any(row[-1] != _MET for table in tables for row in table.rows):
        state, note = SectionState.NOT_PASSED, "a criterion is not met"
    return DossierSection("pccp", state, note, placed, Body(facts, tables, "\n\n".join(shown)))


def _comparison(path: Path, data: bytes) -> DossierTable:
    """The locked baseline beside what it was changed to: one row for each criterion of the protocol."""
    whole = parse_json(data, path, _FORM)
    with reading(path, _FORM):
        rows = [
            [*(text(row[key]) for key in _COMPARED), _MET if row["met"] is True else _NOT_MET] for row in whole["rows"]
        ]
        if not rows:
            raise ValueError("no row")
    head = ["criterion", "locked baseline", "modified", "limit", "met"]
    return DossierTable("Comparison with the locked baseline", head, rows)
