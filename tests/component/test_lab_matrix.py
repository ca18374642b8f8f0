"""A maker's project: requirements beside its tests, one run, one matrix. Whatever does not fit fails the run."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from reqif.parser import ReqIFParser  # type: ignore[import-untyped]

from twinslot_lab.cli_parser import parse
from twinslot_lab.errors import LabError
from twinslot_lab.matrix.cli import run

pytestmark = pytest.mark.slow


def main(argv: list[str]) -> int:
    """`python -m twinslot_lab matrix`, whose errors are not caught here."""
    return run(parse(["matrix", *argv]))


FILES = {
    "requirements/pump.toml": """
[[requirement]]
id = "PUMP-1"
title = "An occlusion stops the motor"
text = "The motor stops once the pressure exceeds `limit`."
rationale = "Drug that is pressed into tissue harms."
risks = ["RISK-1"]

[[requirement]]
id = "PUMP-2"
title = "The manual names the limit"
text = "The instructions for use name the limit."
verification = "inspection"
evidence = "manual.md"

[[risk]]
id = "RISK-1"
title = "An occlusion is not noticed"
harm = "Extravasation"

[[risk]]
id = "RISK-2"
title = "The mains fail"
harm = "Therapy stops"
maker = "A battery is the device's."
""",
    "requirements/standards/60601.toml": """
id = "IEC 60601-2-24"
title = "Infusion pumps"
status = "in force"

[[clause]]
id = "201.12.4.4.104"
title = "occlusion alarm"
requirements = ["PUMP-1"]

[[clause]]
id = "201.7.9"
title = "accompanying documents"
pages = ["manual.md"]
maker = "The rest of the instructions for use."
""",
    "manual.md": "The limit is 80 kPa.\n",
    "app/__init__.py": "",
    "app/pump.py": '''"""A pump."""


class Motor:
    """Turns until the pressure is too high."""

    def __init__(self) -> None:
        self.on = True

    def pressure(self, kpa: float, limit: float) -> None:
        """Hear of the pressure."""
        if kpa > limit:
            self.on = False  # keeps: PUMP-1
''',
    "tests/test_pump.py": """import pytest
from app.pump import Motor


@pytest.mark.verifies("PUMP-1")
def test_an_occlusion_stops_the_motor():
    motor = Motor()
    motor.pressure(90, 80)
    assert not motor.on


def test_a_motor_turns():
    assert Motor().on
""",
    "pytest.ini": """
[pytest]
addopts = -p twinslot_lab.plugin -p no:cacheprovider
pythonpath = .
twinslot_subject = app
""",
}


def ran(*options: str) -> subprocess.CompletedProcess[str]:
    """pytest in the project, as a maker calls it."""
    return subprocess.run([sys.executable, "-m", "pytest", "-q", *options], capture_output=True, text=True)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project, reviewed, and its run."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    assert main(["review", "PUMP-1", "PUMP-2", "RISK-1", "RISK-2", "--by", "A. Reviewer"]) == 0
    return tmp_path


@pytest.fixture(scope="session")
def run_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the project's run wrote; it is the same for all that only reads it."""
    folder = tmp_path_factory.mktemp("maker")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    argv = [sys.executable, "-m", "pytest", "-q", "--run-file", "build/run.json"]
    subprocess.run(argv, cwd=folder, check=True, capture_output=True)
    return (folder / "build/run.json").read_text()


def printed(run: str, *options: str) -> int:
    """`matrix print` of a run."""
    Path("run.json").write_text(run)
    return main(["print", "run.json", "--source", "app", "--output", "out", *options])


def test_one_run_is_a_matrix_from_risk_to_result_and_back(project: Path, run_file: str) -> None:
    assert printed(run_file) == 0
    whole = json.loads(Path("out/matrix.json").read_text())
    first = whole["requirements"][0]
    assert (first["id"], first["verdict"], first["risks"]) == ("PUMP-1", "passed", ["RISK-1"])
    assert first["code"] == [{"place": "app/pump.py:13", "function": "Motor.pressure", "reached": True}]
    assert [test["test"] for test in first["tests"]] == ["tests/test_pump.py::test_an_occlusion_stops_the_motor"]
    assert whole["risks"][0]["controls"] == ["PUMP-1"]
    assert whole["requirements"][1]["verdict"] == "inspected"
    assert whole["faults"] == []
    rows = list(csv.DictReader(io.StringIO(Path("out/matrix.csv").read_text())))
    assert [row["verdict"] for row in rows] == ["passed", "inspected"]


def test_a_requirement_tool_reads_the_matrix(project: Path, run_file: str) -> None:
    """By the library of StrictDoc's authors, which nothing of ours shares."""
    assert printed(run_file) == 0
    first = Path("out/matrix.reqif").read_bytes()
    document = ReqIFParser.parse("out/matrix.reqif")
    content = document.core_content.req_if_content
    assert [each.long_name for each in content.specifications] == ["requirements", "risks", "tests"]
    objects = {
        values["ReqIF.ForeignID"]: (each.identifier, values)
        for each in content.spec_objects
        for values in [{a.definition_ref.partition("-")[2]: a.value for a in each.attributes}]
    }
    test = "tests/test_pump.py::test_an_occlusion_stops_the_motor"
    assert objects.keys() == {"PUMP-1", "PUMP-2", "RISK-1", "RISK-2", test}
    assert objects["PUMP-1"][1]["Verdict"] == "passed"
    assert objects["PUMP-1"][1]["ReqIF.Text"] == "The motor stops once the pressure exceeds `limit`."
    pairs = {(each.source, each.target) for each in content.spec_relations}
    wanted = [("PUMP-1", "RISK-1"), (test, "PUMP-1")]
    assert pairs == {(objects[source][0], objects[target][0]) for source, target in wanted}
    assert printed(run_file) == 0
    assert Path("out/matrix.reqif").read_bytes() == first


def test_a_requirement_tool_finds_no_empty_value_and_ids_in_its_own_letters(project: Path, run_file: str) -> None:
    """StrictDoc 0.30 imports no empty field, and writes no id with a bracket that it could read again."""
    assert printed(run_file.replace("stops_the_motor", r"stops_the_motor[1.5 ul\\n, 'x']")) == 0
    content = ReqIFParser.parse("out/matrix.reqif").core_content.req_if_content
    values = [(a.definition_ref.partition("-")[2], a.value) for o in content.spec_objects for a in o.attributes]
    assert all(value for _, value in values)
    ids = [value for name, value in values if name == "ReqIF.ForeignID"]
    assert all(re.fullmatch(r"[A-Za-z0-9_()\-/.: ]+", id_) for id_ in ids)
    names = [value for name, value in values if name == "ReqIF.Name"]
    assert any(name.endswith("[1.5 ul/n, 'x']") for name in names), "called as it is, but for the backslash"


class Links(HTMLParser):
    """Targets and anchors of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: set[str] = set()
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.anchors.add(str(value))
            if name == "href":
                self.targets.add(str(value))


def test_every_link_of_the_page_leads_to_a_place_on_it(project: Path, run_file: str) -> None:
    assert printed(run_file) == 0
    links = Links()
    links.feed(Path("out/matrix.html").read_text())
    assert links.targets == {f"#{anchor}" for anchor in links.anchors & {each[1:] for each in links.targets}}
    assert {"#PUMP-1", "#PUMP-2", "#RISK-1"} <= links.targets


def test_the_same_run_gives_the_same_bytes(project: Path, run_file: str) -> None:
    assert printed(run_file) == 0
    first = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    assert printed(run_file) == 0
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == first


def test_texts_of_a_page_are_texts(project: Path, run_file: str) -> None:
    change("requirements/pump.toml", "Drug that is pressed", "<script>alert(1)</script> Drug")
    assert printed(run_file) == 1
    assert "<script>" not in Path("out/matrix.html").read_text()


def change(name: str, old: str, new: str) -> None:
    """Replace what a file says, everywhere."""
    text = Path(name).read_text()
    assert old in text
    Path(name).write_text(text.replace(old, new))


def added(name: str, text: str) -> None:
    with Path(name).open("a") as file:
        file.write(text)


def in_run(change_: Callable[[dict[str, object]], object]) -> Callable[[str], str]:
    """A change of what a run wrote."""

    def changed(run: str) -> str:
        data = json.loads(run)
        change_(data)
        return json.dumps(data)

    return changed


def test_of(data: dict[str, object]) -> dict[str, object]:
    tests = data["tests"]
    assert isinstance(tests, list)
    return dict(tests[0])


test_of.__test__ = False  # type: ignore[attr-defined]


def with_test(**values: object) -> Callable[[str], str]:
    return in_run(lambda data: data.update(tests=[test_of(data) | values]))


THIRD = '\n[[requirement]]\nid = "PUMP-3"\ntitle = "A third"\ntext = "Beeps."\n'
Change = Callable[[], object]
BROKEN: dict[str, tuple[Change | None, Callable[[str], str] | None, str]] = {
    "a requirement that no test verifies": (
        lambda: added("requirements/pump.toml", THIRD),
        None,
        "requirement-without-test: PUMP-3",
    ),
    "a test that was skipped": (None, with_test(outcome="skipped"), "requirement-without-executed-test: PUMP-1"),
    "a test that failed": (None, with_test(outcome="failed"), "test-failed: PUMP-1"),
    "a marked line that no test reached": (None, with_test(reached=[]), "marked-line-not-reached: PUMP-1"),
    "a marked line that only a test of something else reached": (
        None,
        in_run(
            lambda data: data.update(
                tests=[test_of(data) | {"reached": []}, test_of(data) | {"test": "x", "verifies": ["PUMP-2"]}]
            )
        ),
        "marked-line-not-reached: PUMP-1",
    ),
    "a mark of an id that is nowhere": (
        lambda: change("app/pump.py", "keeps: PUMP-1", "keeps: PUMP-1, PUMP-11"),
        None,
        "mark-for-unknown-id: PUMP-11: app/pump.py:13 (did you mean 'PUMP-1'?)",
    ),
    "a test of an id that is nowhere": (
        None,
        with_test(verifies=["PUMP-1", "PUMP-12"]),
        "test-for-unknown-id: PUMP-12",
    ),
    "a risk that is not there": (
        lambda: change("requirements/pump.toml", '["RISK-1"]', '["RISK-1", "RISK-9"]'),
        None,
        "unknown-risk: PUMP-1: 'RISK-9' (did you mean",
    ),
    "a risk that nothing controls": (
        lambda: change("requirements/pump.toml", 'risks = ["RISK-1"]', "risks = []"),
        None,
        "risk-without-control: RISK-1",
    ),
    "a risk that is left to nobody": (
        lambda: change("requirements/pump.toml", 'maker = "A battery is the device\'s."', ""),
        None,
        "risk-without-control: RISK-2",
    ),
    "an inspected page that is gone": (Path("manual.md").unlink, None, "evidence-missing: PUMP-2"),
    "a page of a standard that is gone": (Path("manual.md").unlink, None, "evidence-missing: IEC 60601-2-24 201.7.9"),
    "a standard that names an unknown requirement": (
        lambda: change("requirements/standards/60601.toml", '["PUMP-1"]', '["PUMP-4"]'),
        None,
        "standard-names-unknown-id: PUMP-4",
    ),
    "a text that changed since its review": (
        lambda: change("requirements/pump.toml", "once the pressure exceeds", "soon after the pressure exceeds"),
        None,
        "changed-since-review: PUMP-1: its text is not the one that A. Reviewer read",
    ),
    "a risk whose harm changed since its review": (
        lambda: change("requirements/pump.toml", "Extravasation", "Necrosis"),
        None,
        "changed-since-review: RISK-1",
    ),
    "a text that nobody read": (
        lambda: Path("requirements/reviews.toml").unlink(),
        None,
        "changed-since-review: PUMP-2: never reviewed",
    ),
    "a review of what is gone": (
        lambda: added(
            "requirements/reviews.toml", f'[PUMP-7]\nfingerprint = "{"0" * 32}"\nby = "B"\non = "2026-01-01"\n'
        ),
        None,
        "review-of-unknown-id: PUMP-7",
    ),
    "code that changed since the run": (
        lambda: change("app/pump.py", "Turns until", "Turns, until"),
        None,
        "result-of-another-subject: run",
    ),
    "a run of another product": (None, in_run(lambda data: data.update(subject="0" * 64)), "result-of-another-subject"),
    "a run without the test": (None, in_run(lambda data: data.update(tests=[])), "requirement-without-test: PUMP-1"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_matrix_that_does_not_fit_fails_and_says_why(
    what: str, project: Path, run_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change_files, change_run, expected = BROKEN[what]
    if change_files:
        change_files()
    assert printed(change_run(run_file) if change_run else run_file) == 1
    assert expected in capsys.readouterr().err
    assert [fault["kind"] for fault in json.loads(Path("out/matrix.json").read_text())["faults"]]


REFUSED: dict[str, tuple[Change, str]] = {
    "an id twice": (
        lambda: added("requirements/pump.toml", THIRD.replace("PUMP-3", "PUMP-1")),
        "'PUMP-1' stands twice (hint: first in",
    ),
    "an id of a requirement and of a risk": (
        lambda: added("requirements/pump.toml", THIRD.replace("PUMP-3", "RISK-1")),
        "'RISK-1' stands twice",
    ),
    "an unknown key": (
        lambda: added("requirements/pump.toml", THIRD + 'rational = "x"\n'),
        "has no key 'rational' (hint: did you mean 'rationale'?)",
    ),
    "no text": (
        lambda: added("requirements/pump.toml", THIRD.replace("text", "# ")),
        "'requirement 3.text' is missing",
    ),
    "an id of another form": (
        lambda: added("requirements/pump.toml", THIRD.replace("PUMP-3", "pump 3")),
        "'requirement 3.id' is wrong",
    ),
    "an inspection of nothing": (
        lambda: change("requirements/pump.toml", 'evidence = "manual.md"', ""),
        "'requirement 2.evidence' is wrong",
    ),
    "no TOML": (lambda: added("requirements/pump.toml", "[[[\n"), "not TOML"),
    "no text of a file": (lambda: Path("requirements/x.toml").write_bytes(b"\xff\xfe"), "cannot be read"),
    "tables without end": (lambda: Path("requirements/x.toml").write_text("a=" + "[" * 100_000), "not TOML"),
    "a clause that says nothing": (
        lambda: added("requirements/standards/60601.toml", '[[clause]]\nid = "1"\ntitle = "one"\n'),
        "'clause 3.maker' is wrong",
    ),
    "a text of blanks": (
        lambda: added("requirements/pump.toml", THIRD.replace("Beeps.", "  ")),
        "'requirement 3.text' is wrong",
    ),
    "a text that no page can show": (
        lambda: added("requirements/pump.toml", THIRD.replace("Beeps.", "\\u0000")),
        "'requirement 3.text' is wrong",
    ),
    "a title with a line of a terminal": (
        lambda: added("requirements/pump.toml", THIRD.replace("A third", "A \\u001b[2Jthird")),
        "'requirement 3.title' is wrong",
    ),
    "marked code that is no Python": (
        lambda: added("app/pump.py", "def f(:  # keeps: PUMP-1\n"),
        "app/pump.py:14: not Python",
    ),
    "marked code with null bytes": (lambda: added("app/pump.py", "\0"), "app/pump.py:1: not Python"),
    "a mark that names nothing": (
        lambda: change("app/pump.py", "# keeps: PUMP-1", "# keeps: the limit"),
        "app/pump.py:13: 'the limit' is no id",
    ),
    "a mark beside nothing": (
        lambda: added("app/pump.py", "\n        # keeps: PUMP-1\n"),
        "app/pump.py:15: the mark belongs to no statement",
    ),
    "no requirements": (Path("requirements/pump.toml").unlink, "there is no file of requirements"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_read_is_refused_and_nothing_is_written(what: str, project: Path, run_file: str) -> None:
    change_files, expected = REFUSED[what]
    change_files()
    with pytest.raises(LabError, match=re.escape(expected)):
        printed(run_file)
    assert not Path("out").exists()


NO_TEXT = {"tests": [{"test": "\ud800", "outcome": "passed", "verifies": ["S5"], "reached": []}]}


@pytest.mark.parametrize(
    "run",
    [
        *("", "[]", "{}", '{"format": "junit"}', '{"format": "twinslot-run/1"}', "[" * 100_000, "nul"),
        json.dumps({"format": "twinslot-run/1", "subject": "", "passed": 1, "failed": 0, "skipped": 0} | NO_TEXT),
    ],
    ids=["empty", "list", "nothing", "another format", "half", "deep", "cut short", "no text"],
)
def test_a_file_that_is_no_run_is_refused(run: str, project: Path) -> None:
    with pytest.raises(LabError, match=r"run\.json"):
        printed(run)


def test_a_file_larger_than_any_run_is_not_read(project: Path) -> None:
    with Path("run.json").open("wb") as file:
        file.truncate(2 << 30)
    with pytest.raises(LabError, match="bytes are more than a run has"):
        main(["print", "run.json", "--source", "app"])


def test_a_run_of_pytest_fails_by_its_matrix_alone(project: Path) -> None:
    assert ran("--matrix", "out").returncode == 0
    change("tests/test_pump.py", "motor.pressure(90, 80)\n    assert not motor.on", "assert motor.on")
    done = ran("--matrix", "out")
    assert done.returncode == 1
    assert "2 passed" in done.stdout
    assert "marked-line-not-reached: PUMP-1: app/pump.py:13 in 'Motor.pressure'" in done.stdout


@pytest.mark.parametrize("said", ['"pump one"', '["PUMP-1"]', 'id="PUMP-1"', ""])
def test_an_id_that_is_none_ends_the_run_before_it_begins(project: Path, said: str) -> None:
    change("tests/test_pump.py", '"PUMP-1"', said)
    done = ran()
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    told = done.stdout + done.stderr
    assert f"verifies({said.replace(chr(34), chr(39))}" in told.replace("id=...", "id='PUMP-1'")
    assert "expected capital letters" in told
    assert "INTERNALERROR" not in told


SUBTESTS = """import unittest
import pytest
from app.pump import Motor


@pytest.mark.verifies("PUMP-1")
class TestPump(unittest.TestCase):
    def test_each_pressure(self):
        for kpa in (90, 70):
            with self.subTest(kpa=kpa):
                motor = Motor()
                motor.pressure(kpa, 80)
                self.assertFalse(motor.on)
"""


def test_a_test_has_failed_if_one_of_its_subtests_did(project: Path) -> None:
    Path("tests/test_pump.py").write_text(SUBTESTS)
    done = ran("--matrix", "out")
    assert done.returncode == 1
    assert "test-failed: PUMP-1: tests/test_pump.py::TestPump::test_each_pressure" in done.stdout


def test_what_cannot_be_imported_counts_as_failed(project: Path) -> None:
    Path("tests/test_alarm.py").write_text("import nothing_of_this_name\n")
    assert ran("--continue-on-collection-errors", "--run-file", "run.json").returncode == 1
    assert json.loads(Path("run.json").read_text())["failed"] == 1


@pytest.mark.parametrize("stopped", ["raise KeyboardInterrupt", "pytest.exit('no board')"])
def test_a_run_that_was_stopped_leaves_no_result(project: Path, stopped: str) -> None:
    added("tests/test_pump.py", f"\n\ndef test_the_rest():\n    {stopped}\n")
    done = ran("--matrix", "out", "--run-file", "run.json")
    assert done.returncode == pytest.ExitCode.INTERRUPTED
    assert "the run was stopped before its end: neither its file nor its matrix is written" in done.stdout
    assert not [each for each in ("out", "run.json") if Path(each).exists()]


@pytest.mark.parametrize("by", ["", " ", "A\nB", "A\udcff", "\x1b[2J"])
def test_a_reader_without_a_name_is_refused_and_nothing_changes(project: Path, by: str) -> None:
    before = Path("requirements/reviews.toml").read_bytes()
    with pytest.raises(LabError, match="expected the name of a person"):
        main(["review", "PUMP-1", "--by", by])
    assert Path("requirements/reviews.toml").read_bytes() == before
    assert main(["review", "PUMP-1", "--by", "Ä. Reviewer"]) == 0


def test_workers_of_xdist_write_the_same_run(project: Path, run_file: str) -> None:
    assert ran("-n", "2", "--run-file", "parallel.json").returncode == 0
    assert Path("parallel.json").read_text() == run_file
