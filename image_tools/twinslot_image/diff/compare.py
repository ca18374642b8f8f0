"""Two releases side by side, JSON-ready. Pure: both are read already."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twinslot_image.diff.packages import KnownVulnerabilities, open_in, package_changes
from twinslot_image.diff.side import DiffSide
from twinslot_image.matrix_diff import outcome_changes, requirement_changes, risks_touched
from twinslot_image.matrix_file import MatrixFile

Matrices = tuple[MatrixFile, MatrixFile]


def compare(
    old: DiffSide,
    new: DiffSide,
    matrices: Matrices | None = None,
    known: KnownVulnerabilities | None = None,
) -> dict[str, Any]:
    """Everything that differs; `requirements`, `risks`, `tests` and `vulnerabilities` are null where nothing was given.

    Args:
        old: The release before.
        new: The release.
        matrices: Theirs, in this order.
        known: Vulnerabilities, for both.
    """
    return {
        "old": {"name": old.name, "bill": old.listed},
        "new": {"name": new.name, "bill": new.listed},
        "manifest": list(_facts(old, new)),
        "packages": list(package_changes(old.bills, new.bills)),
        "files": list(_files(old, new)),
        "sizes": list(_sizes(old, new)),
        "vulnerabilities": None if known is None else _vulnerabilities(old, new, known),
        "requirements": requirement_changes(*matrices) if matrices else None,
        "risks": risks_touched(*matrices) if matrices else None,
        "tests": outcome_changes(*matrices) if matrices else None,
    }


def _facts(old: DiffSide, new: DiffSide) -> Iterator[dict[str, str]]:
    for key in dict.fromkeys((*old.facts, *new.facts)):
        before, after = _words(old.facts.get(key)), _words(new.facts.get(key))
        if before != after:
            yield {"field": key, "before": before, "after": after}


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(each)}" for key, each in value.items() if each)
    return ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)


def _files(old: DiffSide, new: DiffSide) -> Iterator[dict[str, Any]]:
    """`path`, `change` (added, removed, changed), bytes before and after; null where it is not there."""
    for path in sorted(old.files.keys() | new.files.keys()):
        before, after = old.files.get(path), new.files.get(path)
        if before != after:
            change = "added" if before is None else "removed" if after is None else "changed"
            sizes = {"before": before.size if before else None, "after": after.size if after else None}
            yield {"path": path.encode("utf-8", "backslashreplace").decode(), "change": change} | sizes


def _sizes(old: DiffSide, new: DiffSide) -> Iterator[dict[str, Any]]:
    for name in dict.fromkeys((*old.sizes, *new.sizes)):
        before, after = old.sizes.get(name), new.sizes.get(name)
        if before != after:
            yield {"what": name, "before": before, "after": after}


def _vulnerabilities(old: DiffSide, new: DiffSide, known: KnownVulnerabilities) -> dict[str, Any]:
    """What is open in the new one and was not, what no longer is, and what still is."""
    before, after = (open_in(each.bills, known) for each in (old, new))
    was, is_ = {(each.id, each.package) for each in before}, {(each.id, each.package) for each in after}
    return {
        "opened": [each.as_dict() for each in after if (each.id, each.package) not in was],
        "closed": [each.as_dict() for each in before if (each.id, each.package) not in is_],
        "still_open": [each.as_dict() for each in after if (each.id, each.package) in was],
    }
