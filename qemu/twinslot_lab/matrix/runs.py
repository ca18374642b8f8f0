"""The file of one run: what was tested, what each test that verifies something came to, which marks it reached."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from twinslot_lab.matrix.load import ONE_LINE, DataError
from twinslot_lab.matrix.model import ID, Result, ResultOutcome, Run

FORMAT: Final = "twinslot-run/1"
LARGE: Final = 64 << 20  # bytes; a run of 10,000 tests has two million
_COUNTS: Final = ("passed", "failed", "skipped")


def write_run(path: Path, run: Run) -> None:
    """The file, sorted, so that the same results are the same bytes; the whole of it or nothing."""
    tests = [
        {"test": r.test, "outcome": r.outcome, "verifies": list(r.verifies), "reached": sorted(r.reached)}
        for r in sorted(run.results, key=lambda each: each.test)
    ]
    counts = {key: getattr(run, key) for key in _COUNTS}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(
        json.dumps({"format": FORMAT, "subject": run.subject, **counts, "tests": tests}, indent=1) + "\n"
    )
    temporary.replace(path)


def read_run(path: Path) -> Run:
    """A run's file.

    Raises:
        DataError: It is missing, larger than `LARGE`, no JSON, or of another form.
    """
    try:
        if path.stat().st_size > LARGE:
            raise DataError(f"{path}: {path.stat().st_size} bytes are more than a run has", hint=f"at most {LARGE}")
        data = json.loads(path.read_bytes())
    except OSError as e:
        raise DataError(f"{path}: cannot be read: {e.strerror}", hint="run the tests with --run-file") from None
    except (ValueError, RecursionError):
        raise DataError(f"{path}: not JSON", hint="was the run stopped while it wrote? Run the tests again") from None
    try:
        if data["format"] != FORMAT:
            raise DataError(f"{path}: expected the format {FORMAT}, found {str(data['format'])[:40]}")
        counts = [_count(data[key]) for key in _COUNTS]
        return Run(path.stem, str(data["subject"]), tuple(map(_result, data["tests"])), *counts)
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise DataError(f"{path}: not the file of a run: {type(e).__name__} at {str(e)[:80]}") from None


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("a count of tests")
    return value


def _result(value: Mapping[str, Any]) -> Result:
    ids = tuple(str(each) for each in value["verifies"])
    if not ids or not all(ID.fullmatch(each) for each in ids):
        raise ValueError(f"verifies of {str(value['test'])[:80]}")
    texts = [str(value["test"]), *map(str, value["reached"])]
    if not all(ONE_LINE.fullmatch(each) and each.encode() for each in texts):  # what UTF-8 cannot say is a ValueError
        raise ValueError(f"a name that cannot be printed: {ascii(texts[0])[:80]}")
    return Result(texts[0], ResultOutcome(value["outcome"]), ids, frozenset(texts[1:]))
