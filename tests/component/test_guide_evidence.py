"""docs/guide-evidence.md, word for word: its commands are run in this order, in one directory."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dossier_bench import matrix, power_cuts
from release_bench import ReleaseBench

from twinslot_image import dossier_verify
from twinslot_image.dossier import request

pytestmark = pytest.mark.slow

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


def bench_image(place: Path) -> Path:
    """The release before."""
    return ReleaseBench(place).image("2026.10", 6, CONTENT + b"x")


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
    shutil.copyfile(bench_image(place), place / "pump-before.twin")
    (place / "osv.json").write_text('{"vulns": []}')
    (place / "vex.json").write_text(json.dumps({"@context": "https://openvex.dev/ns/v0.2.0", "statements": []}))
    assert "Manifest: " in run(place, BLOCKS["diff"])
    assert (place / "changes.html").is_file()
    (place / "dossier.toml").write_text(BLOCKS["dossier"])
    for name, content in {
        "summary.md": "# 2026.11\n",
        "matrix.json": json.dumps(matrix()),
        "matrix-before.json": json.dumps(matrix("0" * 64)),
        "report.json": json.dumps(power_cuts()),
        "anomalies.md": "None.\n",
    }.items():
        (place / name).write_text(content)
    shutil.copyfile(place / "pump.twin", place / "pump-second-build.twin")
    run(place, BLOCKS["make"])
    found = run(place, BLOCKS["verify"])
    assert "missing: sbom: no bill of materials is attached or given" in found
    assert not re.search("^(stale|forged|not passed)", found, re.MULTILINE)
    shutil.copyfile(dossier_verify.__file__, place / "dossier_verify.py")
    alone = BLOCKS["alone"].replace("python3", shlex.quote(sys.executable))
    assert run(place, f"{alone.strip()} || [ $? = 1 ]") == found


def test_the_coverage_of_the_page_says_of_which_client_it_is(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("def limit(pressure):\n    return min(pressure, 90)\n")
    (tmp_path / "test_app.py").write_text("import app\ndef test_limit():\n    assert app.limit(100) == 90\n")
    programs = f'export PATH="{Path(sys.executable).parent}:$PATH"\n'
    run(tmp_path, programs + BLOCKS["coverage"])
    client = run(tmp_path, f"{programs}python -m twinslot_lab matrix subject app.py").strip()
    (tmp_path / "dossier.toml").write_text(
        f'product = "Pump"\nrelease = "2026.11"\nclient = "{client}"\n[documents]\ncoverage = "coverage.json"\n'
    )
    run(tmp_path, f"{programs}openssl genpkey -algorithm ed25519 -out key.pem")
    run(tmp_path, "twinslot-image dossier make dossier.toml -o out --key key.pem")
    sections = json.loads((tmp_path / "out/dossier.json").read_text())["sections"]
    [coverage] = [each for each in sections if each["id"] == "coverage"]
    assert (coverage["state"], coverage["figure"]["client"]) == ("there", client)


def test_the_page_names_each_key_of_a_dossier_s_description() -> None:
    page = PAGE.read_text()
    for key in (*request.ONE, *request.MANY, *request.PCCP_FILES, "client", "class", "modification", "first", "second"):
        assert re.search(rf"[`.]{key}`|^{key} = ", page, re.MULTILINE), key
