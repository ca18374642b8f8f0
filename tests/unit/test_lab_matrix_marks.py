"""Marks in code: to which statement a comment belongs, and that a run sees exactly the statements that ran."""

from __future__ import annotations

import ast
import builtins
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinslot_lab.matrix.marks import MarkError, find_marks, statements
from twinslot_lab.matrix.reach import REACHED, is_own, watched

MODULE = '''"""A module."""
import os

# keeps: S1
LIMIT = 3  # keeps: S2


class Pump:
    """A pump."""

    # keeps: S3, S4
    @staticmethod
    def stop(pressure):
        """Stop."""
        if pressure > LIMIT:  # keeps: S5
            return "stopped"  # keeps: S6
        try:
            # keeps: S7
            return str(
                pressure
            )  # keeps: S8
        finally:
            pass  # keeps: S9
'''


def marks(text: str = MODULE) -> dict[str, tuple[str, int]]:
    return {m.id: (m.function, m.line) for s in statements(ast.parse(text), text, "pump.py") for m in s.marks}


def test_a_mark_belongs_to_the_statement_beside_or_below_it() -> None:
    found = marks()
    assert set(found) == {f"S{number}" for number in range(1, 10)}
    assert found["S1"] == ("", 4)
    assert found["S3"] == found["S4"] == ("Pump.stop", 11)
    assert {found[f"S{number}"][0] for number in range(5, 10)} == {"Pump.stop"}


def ran(pressure: int) -> set[str]:
    """Ids of the marks that ran when the pump heard of a pressure."""
    tree = ast.parse(MODULE)
    watched(tree, MODULE, "pump.py")
    by_place = {f"pump.py:{line}": id_ for id_, (_, line) in marks().items() if id_ != "S4"}
    reached: set[str] = set()
    before = getattr(builtins, REACHED)
    setattr(builtins, REACHED, reached.add)
    try:
        namespace: dict[str, type] = {}
        exec(compile(tree, "pump.py", "exec"), namespace)
        reached.clear()
        namespace["Pump"].stop(pressure)  # type: ignore[attr-defined]
    finally:
        setattr(builtins, REACHED, before)
    return {by_place[place] for place in reached}


def test_a_run_sees_the_statements_that_ran_and_no_others() -> None:
    assert ran(4) == {"S3", "S5", "S6"}
    assert ran(2) == {"S3", "S5", "S7", "S8", "S9"}


def test_lines_and_docstrings_of_a_watched_module_stay() -> None:
    tree = ast.parse(MODULE)
    watched(tree, MODULE, "pump.py")
    stop = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    assert ast.get_docstring(stop) == "Stop."
    lines = {node.lineno for node in ast.walk(ast.parse(MODULE)) if isinstance(node, ast.stmt)}
    assert {node.lineno for node in ast.walk(tree) if isinstance(node, ast.stmt)} == lines


@pytest.mark.parametrize(
    "text", ["x = 1\n# keeps: S1\n", "if True:\n    x = 1\n    # keeps: S1\ny = 2\n", "# keeps: S1\n"]
)
def test_a_mark_that_belongs_to_no_statement_is_refused(text: str) -> None:
    with pytest.raises(MarkError, match=r"pump\.py:\d: the mark belongs to no statement"):
        marks(text)


def test_a_mark_that_says_why_is_not_watched() -> None:
    text = "def stop():\n    return 1  # keeps: S21 (in a process of its own)\n"
    [marked] = statements(ast.parse(text), text, "pump.py")
    assert [(mark.id, mark.watched) for mark in marked.marks] == [("S21", False)]
    tree = ast.parse(text)
    watched(tree, text, "pump.py")
    assert ast.unparse(tree) == ast.unparse(ast.parse(text))


def test_a_mark_in_a_text_is_none() -> None:
    assert marks('TEXT = """\n# keeps: S1\n"""\n') == {}


def test_lines_of_shell_are_found_and_not_watched(tmp_path: Path) -> None:
    (tmp_path / "deadline").write_text(
        '# keeps: S16\nreset() {\n    reboot -f  # keeps: S6\n}\nreset "$@"  # keeps: S12\n'
    )
    above, inside, outside = find_marks(tmp_path, [tmp_path])
    assert (above.id, above.function, above.place) == ("S16", "reset", "deadline:1")
    assert (inside.id, inside.function, inside.watched) == ("S6", "reset", False)
    assert (outside.id, outside.function, outside.place) == ("S12", "", "deadline:5")


def test_a_project_may_stand_below_a_directory_of_any_name(tmp_path: Path) -> None:
    project = tmp_path / "build/python3-pump/node_modules/pump"
    for folder in ("client", "client/build", "build"):
        (project / folder).mkdir(parents=True)
        (project / folder / "stop.py").write_text("x = 1  # keeps: S1\n")
    assert [mark.file for mark in find_marks(project, [project])] == ["client/stop.py"], (
        "what was built is not searched"
    )
    assert is_own(project / "client/stop.py")
    assert not is_own(Path(json.__file__))
    assert not is_own(Path(pytest.__file__))


@given(st.text(alphabet="# keps:S1,\n x=()'\"\\if", max_size=60))
def test_any_module_is_read_or_refused_in_one_way(text: str) -> None:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return
    try:
        statements(tree, text, "any.py")
    except MarkError as e:
        refused = str(e)
    else:
        refused = "any.py:"
    assert "any.py:" in refused
