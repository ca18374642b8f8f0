"""No test compares clocks: a machine that is busy, or faster than expected, turns no test red (see tests/waits.py)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import waits

TESTS = Path(__file__).parents[1]
CLOCKS = {"time", "monotonic", "perf_counter", "process_time", "thread_time"}
CLOCKS |= {f"{name}_ns" for name in CLOCKS} | {"clock_gettime", "getrusage", "times"}
MODULES = {"time", "resource", "os"}
# Where the bound of a wait stands among the arguments; None: only by name.
WAITS: dict[str, int | None] = dict.fromkeys(("wait", "join", "settimeout"), 0)
WAITS |= dict.fromkeys(("communicate", "run", "check_output", "check_call", "call", "create_connection"))
WAITS |= {"select": 3}

# Who may read a clock, and why. Boards are real systems with a clock of their own; their tests are not in this list
# where they only bound a wait.
READERS = {
    "waits.py": "the one bound of every wait",
    "board/test_boot_model.py": "bounds a wait for a board",
    "board/test_faults.py": "sets a board's calendar by that of the host",
    "board/test_snapshot.py": "the calendar of a board that was asleep is that of the host",
    "component/host_device.py": "the clock that the client gets",
    "component/lossy_story.py": "told, never compared",
    "component/range_figures.py": "the figures of a page, run by hand",
    "component/test_server_places.py": "a build time in the future of this machine's calendar",
    "unit/test_lab_cache_and_agent.py": "ages of files, hours apart",
}


def clocks(tree: ast.AST) -> Iterator[ast.AST]:
    """Where a clock is read."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in CLOCKS and isinstance(node.value, ast.Name):
            if node.value.id in MODULES:
                yield node
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES and CLOCKS & {a.name for a in node.names}:
            yield node


def short_bounds(tree: ast.AST) -> Iterator[ast.AST]:
    """Where a wait for what must come ends within seconds that a busy machine may take; shorter ones are pauses.

    A bound may be a number, or the name of one in the same file.
    """
    named = {
        target.id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in WAITS:
            place = WAITS[node.func.attr]
            alone = [] if place is None else node.args[place : place + 1]
            for bound in [*alone, *(word.value for word in node.keywords if word.arg == "timeout")]:
                number = named.get(bound.id, bound) if isinstance(bound, ast.Name) else bound
                if isinstance(number, ast.Constant) and isinstance(number.value, int | float):
                    yield from [node] if 1 <= number.value < 120 else []


def found(name: str) -> list[str]:
    tree = ast.parse((TESTS / name).read_text())
    wrong = list(short_bounds(tree)) + ([] if name in READERS else list(clocks(tree)))
    return [f"{name}:{node.lineno}: {ast.unparse(node)}" for node in wrong]  # type: ignore[attr-defined]


def test_no_test_compares_clocks_and_none_waits_less_than_a_hang() -> None:
    names = [str(path.relative_to(TESTS)) for path in TESTS.rglob("*.py")]
    assert len(names) > 150
    wrong = [line for name in sorted(names) for line in found(name)]
    assert not wrong, "\n".join(["count what happens, inject a clock, or wait with waits.until:", *wrong])


def test_who_may_read_a_clock_does() -> None:
    assert [name for name in READERS if not list(clocks(ast.parse((TESTS / name).read_text())))] == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("assert time.monotonic() - began < 3", 1),
        ("from time import perf_counter as now", 1),
        ("os.times()", 1),
        ("process.wait(5)", 1),
        ("subprocess.run(['true'], timeout=20)", 1),
        ("thread.join(timeout=20)", 1),
        ("HANG = 30.0\ndone.wait(HANG)", 1),
        ("select.select([line], [], [], 5)", 1),
        ("process.wait(600); event.wait(0.05); process.wait(HANG)", 0),
        ("time.sleep(0.1); os.path.join(a, b); ','.join(x)", 0),
    ],
)
def test_it_finds_them(text: str, count: int) -> None:
    tree = ast.parse(text)
    assert len([*clocks(tree), *short_bounds(tree)]) == count


def test_the_bound_of_a_wait_is_one_that_only_a_hang_reaches() -> None:
    assert waits.HANG >= 120
    with pytest.raises(AssertionError, match="did not come to pass"):
        waits.until(lambda: False, 0.01)
    looks = iter([False, False, True])
    waits.until(lambda: next(looks))
