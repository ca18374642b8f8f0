"""`python -m twinslot_lab matrix`: print the matrix of runs or the digest of what they are about, or review a text."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from twinslot.core.errors import RefusedError
from twinslot_image.signing_time import clock
from twinslot_lab.matrix.load import ONE_LINE, DataError, load, write_reviews
from twinslot_lab.matrix.make import made, write
from twinslot_lab.matrix.model import Requirement, Requirements, Review, Risk
from twinslot_lab.matrix.reach import digest_of
from twinslot_lab.matrix.runs import read_run


def run(arguments: argparse.Namespace) -> int:
    """0 if the matrix has no fault, 1 with one line for each on stderr.

    Raises:
        LabError: A file cannot be used.
    """
    if arguments.action == "subject":
        sys.stdout.write(f"{digest_of(Path.cwd(), [_there(path) for path in arguments.paths])}\n")
        return 0
    data = load(arguments.requirements)
    if arguments.action == "review":
        write_reviews(arguments.requirements, reviewed(data, arguments.ids, arguments.by, today()))
        return 0
    runs = [read_run(path) for path in arguments.runs]
    matrix = made(data, runs, Path.cwd(), arguments.source, arguments.subject or arguments.source)
    write(matrix, arguments.output, arguments.title)
    for fault in matrix.faults:
        sys.stderr.write(f"{fault}\n")
    passed = sum(row.verdict == "passed" for row in matrix.rows)
    sys.stdout.write(
        f"{passed} of {len(matrix.rows)} requirements passed, {len(matrix.faults)} faults: {arguments.output}\n"
    )
    return 1 if matrix.faults else 0


def _there(path: Path) -> Path:
    """Below the working directory, as every result names it.

    Raises:
        DataError: It is not there.
    """
    whole = path.resolve()
    if not whole.exists() or not whole.is_relative_to(Path.cwd()):
        raise DataError(f"'{path}' is not there, or not below the working directory")
    return whole


def today() -> str:
    """The day of a review, by a clock that somebody has set.

    Raises:
        DataError: This machine's shows a day before this program was written.
    """
    try:
        return f"{clock():%Y-%m-%d}"
    except RefusedError as e:
        raise DataError(str(e)) from None


def reviewed(data: Requirements, ids: Sequence[str], by: str, on: str) -> dict[str, Review]:
    """The reviews with those of some items made anew.

    Raises:
        DataError: There is no such item, or the name cannot be printed.
    """
    if not ONE_LINE.fullmatch(by) or by != by.encode(errors="replace").decode():
        raise DataError(f"'--by' is wrong: expected the name of a person, in one line, found {by!a}")
    items: dict[str, Requirement | Risk] = {**data.requirements, **data.risks}
    if unknown := [id_ for id_ in ids if id_ not in items]:
        raise DataError(f"there is no requirement or risk '{unknown[0]}'")
    return {**data.reviews, **{id_: Review(items[id_].fingerprint, by, on) for id_ in ids}}
