"""Results of tests: the matrix of `twinslot_lab matrix print`, and JUnit. Both are read with their bounds."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from twinslot_image.gate.documents import no_document, read_json, read_named
from twinslot_image.matrix_file import parse_matrix

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_NAMED: Final = 3  # of what went wrong


@dataclass(frozen=True, slots=True)
class TestsRun:
    """What one file says.

    Attributes:
        name: Of the file.
        passed: How many tests passed.
        wrong: What failed, for people.
        subject: Digest of the code that was tested; empty where the form has none.
    """

    __test__ = False  # for pytest

    name: str
    passed: int
    wrong: tuple[str, ...]
    subject: str

    @property
    def summary(self) -> str:
        """What went wrong, in a line."""
        if not self.wrong:
            return "no test that passed"
        more = f" and {len(self.wrong) - _NAMED} more" if len(self.wrong) > _NAMED else ""
        return ", ".join(self.wrong[:_NAMED]) + more


def read_tests(path: Path) -> TestsRun:
    """Read one file.

    Raises:
        ImageError: `image.evidence`: neither a matrix nor JUnit, too large, or XML with entities.
    """
    data = read_named(path)
    return _junit(data, path) if data.removeprefix(BOM_UTF8).lstrip()[:1] == b"<" else _matrix(data, path)


def _matrix(data: bytes, path: Path) -> TestsRun:
    matrix = parse_matrix(data, path)
    return TestsRun(path.name, sum(run.passed for run in matrix.runs), (*matrix.faults, *matrix.red), matrix.subject)


def _junit(data: bytes, path: Path) -> TestsRun:
    from defusedxml import DefusedXmlException  # here: most builds read none
    from defusedxml.ElementTree import ParseError, fromstring

    try:
        root: Element = fromstring(data, forbid_dtd=True)
    except DefusedXmlException as e:
        found = "a document type or entities, which JUnit has not"
        raise no_document(path, "JUnit without either", found) from e
    except (ParseError, ValueError, LookupError) as e:
        raise no_document(path, "JUnit, whole", str(e).partition(":")[0]) from e
    if root.tag not in ("testsuite", "testsuites"):
        raise no_document(path, "JUnit: 'testsuites' or 'testsuite'", f"'{root.tag}'")
    cases = list(root.iter("testcase"))
    wrong = list(_wrong(cases)) or list(_counted(root))
    skipped = sum(case.find("skipped") is not None for case in cases)
    return TestsRun(path.name, len(cases) - len(wrong) - skipped, tuple(wrong), "")


def _counted(root: Element) -> Iterator[str]:
    """What a suite counts as failed, where no case of it shows that: the file is not whole."""
    for suite in (root, *root.iter("testsuite")):
        for key in ("failures", "errors"):
            if (told := suite.get(key, "0").strip() or "0") != "0":
                yield f"'{suite.get('name', '')}' counts {told[:20]} {key}, and no case of them is there"


def _wrong(cases: list[Element]) -> Iterator[str]:
    for case in cases:
        if case.find("failure") is not None or case.find("error") is not None:
            yield f"{case.get('classname', '')}.{case.get('name', '')}".strip(".")[:120]


def read_coverage(path: Path) -> float:
    """Percent of lines that ran, as coverage.py writes it in JSON, to two decimals.

    Raises:
        ImageError: `image.evidence`.
    """
    totals = read_json(read_named(path), path).get("totals")
    value = totals.get("percent_covered") if isinstance(totals, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        raise no_document(path, "coverage in JSON, as 'coverage json' writes it", value if totals else "no 'totals'")
    return round(float(value), 2)
