"""docs/guide-evidence.md, word for word: its commands are run in this order, in one directory."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from release_bench import ReleaseBench

PAGE = Path(__file__).parents[2] / "docs/guide-evidence.md"
BLOCKS = dict(re.findall(r"^```[a-z]+ ([a-z-]+)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL))
CONTENT = b"superblock".ljust(4096, b"\1") + bytes(20_000)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the release guide leaves: keys and a signed image; and what people looked at."""
    place = tmp_path_factory.mktemp("release")
    bench = ReleaseBench.make(place)
    (place / "notes.md").write_text("# 2026.11\n")
    shutil.copyfile(bench.image("2026.11", 7, CONTENT), place / "pump.twin")
    (place / "release-notes.md").write_text("# 2026.11\n")
    (place / "trial-report.txt").write_text("Nobody pressed the wrong button.\n")
    (module,) = (place / "keys/private").glob("engineering.*.pem")
    shutil.copyfile(module, place / "module.pem")
    return place


def run(place: Path, script: str) -> str:
    """A block, with the tool of this checkout."""
    tool = f'twinslot-image() {{ {shlex.quote(sys.executable)} -m twinslot_image "$@"; }}\n'
    done = subprocess.run(["bash", "-euc", tool + script], cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_page_works_from_the_release_guides_directory(place: Path) -> None:
    run(place, BLOCKS["approve"])
    run(place, BLOCKS["approve-elsewhere"])
    shown = run(place, "twinslot-image inspect pump.twin")
    wanted = [re.escape(line) for line in BLOCKS["shown"].splitlines()]
    pattern = "\n".join(wanted).replace("TIME", r"\S+Z").replace(r"\.\.\.", r"[\w ]+").replace("KEY", r"[0-9a-f]{16}")
    assert re.search(pattern, shown), shown
    assert "engineering: B. Ohm, review of the code" in shown
    assert "DOES NOT COUNT" not in shown
