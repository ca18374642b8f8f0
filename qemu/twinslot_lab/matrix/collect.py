"""pytest's side of the matrix: the marker `verifies`, what each test reached, and the file of the run."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest

from twinslot_lab.errors import LabError
from twinslot_lab.matrix import reach
from twinslot_lab.matrix.load import load
from twinslot_lab.matrix.make import made, write
from twinslot_lab.matrix.model import ID, ID_FORM, Result, ResultOutcome, Run
from twinslot_lab.matrix.runs import write_run

_MARKER: Final = "verifies(id, ...): the requirements that the test verifies, such as verifies('S5', 'REQ-IMG-12')"

_WHOLE: Final = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)


def add_options(parser: pytest.Parser, group: pytest.OptionGroup) -> None:
    """`--run-file` and `--matrix`; what the run is about, and where requirements and marked code are."""
    group.addoption("--run-file", type=Path, metavar="FILE", help="write what the tests verified and reached, as JSON")
    group.addoption("--matrix", type=Path, metavar="DIR", help="join this run with the requirements; a fault fails it")
    parser.addini("twinslot_subject", "files and folders that a run is about: their digest is kept", "paths", [])
    parser.addini("twinslot_sources", "code with marks, if it is not what the run is about", "paths", [])
    parser.addini("twinslot_requirements", "the folder of requirements", default="requirements")


class Collector:
    """Gathers the results of a run; in a worker of pytest-xdist it only adds to the reports."""

    def __init__(self, config: pytest.Config) -> None:
        config.addinivalue_line("markers", _MARKER)
        self._config = config
        self._results: dict[str, Result] = {}
        self._failed: set[str] = set()  # node ids of tests of which something failed, if only a subtest
        self._counts = dict.fromkeys(ResultOutcome, 0)
        self._faults: list[str] = []

    @staticmethod
    def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
        """Each id has an id's form; whether it exists, the matrix says."""
        for item in items:
            for marker in item.iter_markers("verifies"):
                wrong = [each for each in marker.args if not isinstance(each, str) or not ID.fullmatch(each)]
                if wrong or marker.kwargs or not marker.args:
                    found = ", ".join([*map(repr, wrong), *(f"{key}=..." for key in marker.kwargs)])
                    raise pytest.UsageError(f"{item.nodeid}: verifies({found}): expected {ID_FORM}")

    @staticmethod
    def pytest_runtest_setup() -> None:
        """What ran before belongs to others."""
        reach.WATCH.begin()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """A report says what its test verifies and what it reached for that, also from a worker."""
        report = yield
        root = f"{self._config.rootpath}/"
        report.verifies = ids_of(item)  # type: ignore[attr-defined]
        reached = reach.WATCH.reached() if report.verifies else []
        report.reached = [each.removeprefix(root) for each in reached]  # type: ignore[attr-defined]
        return report

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """What cannot be imported has tests that did not run."""
        self._counts[ResultOutcome.FAILED] += report.failed

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One result for a test: failed, if any of its phases or subtests did."""
        if report.when == "teardown" and not report.failed:
            return
        if report.when == "setup" and report.passed:
            return
        if report.outcome not in list(ResultOutcome):
            return  # another plugin's word, such as 'rerun': the report that counts comes after it
        outcome = ResultOutcome(report.outcome) if not hasattr(report, "wasxfail") else ResultOutcome.SKIPPED
        before = self._results.get(report.nodeid)
        self._counts[outcome] += 1
        if outcome is ResultOutcome.FAILED:
            self._failed.add(report.nodeid)
        ids = getattr(report, "verifies", []) or (before.verifies if before else [])  # a subtest's report has none
        if ids:
            reached = frozenset(getattr(report, "reached", [])) | (before.reached if before else frozenset())
            worst = ResultOutcome.FAILED if report.nodeid in self._failed else outcome
            self._results[report.nodeid] = Result(report.nodeid, worst, tuple(ids), reached)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the file of the run and the matrix, whatever was asked for."""
        config = session.config
        file: Path | None = config.getoption("--run-file")
        folder: Path | None = config.getoption("--matrix")
        if hasattr(config, "workerinput") or not (file or folder):
            return
        if session.exitstatus not in _WHOLE:
            self._faults = ["the run was stopped before its end: neither its file nor its matrix is written"]
            return
        subject = reach.digest_of(config.rootpath, config.getini("twinslot_subject"))
        counts = [self._counts[each] for each in (ResultOutcome.PASSED, ResultOutcome.FAILED, ResultOutcome.SKIPPED)]
        run = Run(file.stem if file else "this run", subject, tuple(self._results.values()), *counts)
        if file:
            write_run(file, run)
        if folder:
            self._faults = self._joined(run, folder)
            if self._faults and session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _joined(self, run: Run, folder: Path) -> list[str]:
        """Write the matrix of this run alone; what does not fit."""
        config = self._config
        subject = config.getini("twinslot_subject")
        try:
            data = load(config.rootpath / config.getini("twinslot_requirements"))
            matrix = made(data, [run], config.rootpath, config.getini("twinslot_sources") or subject, subject)
            write(matrix, folder, "Traceability matrix")
        except LabError as e:
            return [str(e)]
        return [str(fault) for fault in matrix.faults]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """One line for each fault."""
        if self._faults:
            terminalreporter.section("traceability matrix")
            for fault in self._faults:
                terminalreporter.line(fault)


def ids_of(item: pytest.Item) -> list[str]:
    """What a test says that it verifies: its own markers', its class's and its module's."""
    return sorted({id_ for marker in item.iter_markers("verifies") for id_ in marker.args})
