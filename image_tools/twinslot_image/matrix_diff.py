"""What differs between two matrices: requirements, the risks that they control, tests and their results."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twinslot_image.matrix_file import MatrixFile, MatrixRequirement


def requirement_changes(old: MatrixFile, new: MatrixFile) -> list[dict[str, Any]]:
    """Requirements whose text, tests or verdict differ: `id`, `title`, `risks`, `change`."""
    ids = dict.fromkeys((*new.requirements, *old.requirements))
    found = ((id_, old.requirements.get(id_), new.requirements.get(id_)) for id_ in ids)
    rows = []
    for id_, before, after in found:
        if changes := list(_changes(before, after)):
            shown = after or before
            assert shown is not None
            risks = sorted({*(before.risks if before else ()), *(after.risks if after else ())})
            rows.append({"id": id_, "title": shown.title, "risks": risks, "change": ", ".join(changes)})
    return rows


def _changes(before: MatrixRequirement | None, after: MatrixRequirement | None) -> Iterator[str]:
    if before is None or after is None:
        yield "new" if before is None else "gone"
        return
    if before.fingerprint != after.fingerprint:
        yield "changed text"
    if before.tests.keys() != after.tests.keys():
        more, fewer = after.tests.keys() - before.tests.keys(), before.tests.keys() - after.tests.keys()
        yield f"tests: {len(more)} more, {len(fewer)} fewer"
    if before.verdict != after.verdict:
        yield f"{before.verdict} before, {after.verdict} now"


def risks_touched(old: MatrixFile, new: MatrixFile) -> list[dict[str, str]]:
    """Risks of requirements that differ, and risks that came or went: `id`, `title`, `change`."""
    touched = {risk for row in requirement_changes(old, new) for risk in row["risks"]}
    rows = []
    for id_, title in ({**old.risks, **new.risks}).items():
        change = "new" if id_ not in old.risks else "gone" if id_ not in new.risks else ""
        if change or id_ in touched:
            rows.append({"id": id_, "title": title, "change": change or "a control of it differs"})
    return rows


def outcome_changes(old: MatrixFile, new: MatrixFile) -> list[dict[str, str]]:
    """Tests that came, went, or have another outcome: `test`, `before`, `after`; empty where there is none."""
    names = sorted(old.tests.keys() | new.tests.keys())
    rows = [{"test": name, "before": old.tests.get(name, ""), "after": new.tests.get(name, "")} for name in names]
    return [row for row in rows if row["before"] != row["after"]]
