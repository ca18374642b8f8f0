"""A matrix of a project's files and of runs, and its four outputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from twinslot_lab.errors import LabError
from twinslot_lab.matrix.join import Matrix, join
from twinslot_lab.matrix.load import DataError
from twinslot_lab.matrix.marks import MarkError, find_marks
from twinslot_lab.matrix.model import Requirements, Run
from twinslot_lab.matrix.page import as_html
from twinslot_lab.matrix.reach import digest_of
from twinslot_lab.matrix.render import as_csv, as_json
from twinslot_lab.matrix.reqif import as_reqif


def made(
    data: Requirements, runs: Sequence[Run], root: Path, sources: Sequence[Path], subject: Sequence[Path]
) -> Matrix:
    """The matrix of some runs.

    Args:
        data: What is required.
        runs: What was run.
        root: The project's root; the other paths are relative to it.
        sources: Code with marks.
        subject: What the runs are about.

    Raises:
        LabError: A file cannot be used.
    """
    if missing := [path for path in (*sources, *subject) if not (root / path).exists()]:
        raise DataError(f"there is no '{missing[0]}'", hint="run it where the tests run, in the root of the project")
    named = {r.evidence for r in data.requirements.values()}
    named |= {page for standard in data.standards for clause in standard.clauses for page in clause.pages}
    files = {name for name in named if name and (root / name).is_file()}
    try:
        marks = find_marks(root, [root / path for path in sources])
    except MarkError as e:
        raise DataError(str(e)) from None
    return join(data, marks, runs, digest_of(root, [root / each for each in subject]), files)


def write(matrix: Matrix, folder: Path, title: str) -> None:
    """The four files, whole or not at all.

    Raises:
        LabError: They cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in (
            ("matrix.json", as_json(matrix)),
            ("matrix.csv", as_csv(matrix)),
            ("matrix.reqif", as_reqif(matrix, title)),
            ("matrix.html", as_html(matrix, title)),
        ):
            temporary = folder / f".{name}.new"
            temporary.write_text(text, newline="")
            temporary.replace(folder / name)
    except OSError as e:
        raise LabError(f"the matrix cannot be written: {e}") from None
