"""docs/guide-matrix.md, word for word: its files are written, its commands are run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from twinslot_lab.matrix.join import FaultKind

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs/guide-matrix.md"
BLOCK = re.compile(r"^```(\w*) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_guide_works_from_an_empty_directory(tmp_path: Path) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    shell = 0
    for language, name, text in BLOCK.findall(PAGE.read_text()):
        if language == "sh":
            environment = os.environ | {"PATH": path}
            done = subprocess.run(
                ["sh", "-eu", "-c", text], cwd=tmp_path, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stdout + done.stderr
            assert {"build/matrix/matrix.html"} <= {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.html")}
            shell += 1
        else:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
    assert shell == 2
    matrix = json.loads((tmp_path / "build/matrix/matrix.json").read_text())
    assert [(row["id"], row["verdict"]) for row in matrix["requirements"]] == [("PUMP-1", "passed")]
    assert matrix["requirements"][0]["code"][0]["reached"] is True


def test_the_page_names_every_kind_of_fault() -> None:
    section = PAGE.read_text().partition("## What fails the run")[2].partition("\n## ")[0]
    table = "\n".join(line for line in section.splitlines() if line.startswith("|"))
    assert set(re.findall(r"`([a-z]+(?:-[a-z]+)+)`", table)) == set(FaultKind)
