"""Each parser that meets bytes from outside is fuzzed for some seconds, from a seed that changes with the commit.

`make fuzz SECONDS=n` is the same for longer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fuzz.targets import TARGETS

pytest.importorskip("atheris", reason="atheris has no wheel for this Python")
pytestmark = pytest.mark.slow
FUZZ = Path(__file__).parents[1] / "fuzz"
SECONDS = 8  # a target; two minutes of processor time in all


BROKEN = """
from targets import Target

def parse(data):
    if data[:1] == b"f" and data[1:2] == b"u":
        raise KeyError("never declared")

TARGETS = {"broken": Target(parse, lambda: [b"fa"], 8)}
"""


def fuzz(*options: str, modules: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | ({"PYTHONPATH": str(modules)} if modules else {})
    return subprocess.run([sys.executable, str(FUZZ), *options], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_no_input_leaves_a_parser_but_as_it_declares(target: str, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = fuzz("--target", target, "--seconds", str(SECONDS), "--report", str(report))
    assert done.returncode == 0, done.stdout + done.stderr
    [campaign] = json.loads(report.read_text())
    assert campaign["target"] == target
    assert campaign["inputs"] > 0


def test_a_parser_that_breaks_its_promise_is_found_and_the_input_repeats_it(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    options = ("--targets", "broken", "--target", "broken", "--report", str(tmp_path / "report.json"))
    done = fuzz(*options, "--seconds", "60", "--seed", "1", modules=tmp_path)
    assert done.returncode == 1
    assert "KeyError: 'never declared'" in done.stdout + done.stderr
    [campaign] = json.loads((tmp_path / "report.json").read_text())
    again = fuzz(*options, "--repeat", campaign["finding"], modules=tmp_path)
    assert "KeyError: 'never declared'" in again.stderr
