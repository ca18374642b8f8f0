"""Twinslot's own dossier: `make dossier` names what the last runs left, and has the image tool gather it.

What is not there is not named, and the dossier says that it is missing.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import twinslot
from twinslot_lab.client_digest import client_subject

ROOT = Path(__file__).parents[1]
# Key of dossier.toml -> files that the runs leave; `make help` names the runs.
LEFT = {
    "summary": ["CHANGELOG.md"],
    "matrix": ["build/matrix/matrix.json"],
    "coverage": ["build/coverage.json"],
    "power_cuts": ["build/powercut/report.json", "docs/power-cuts.jsonl"],
    "crash_states": ["build/crash/report.json", "build/crash/report-two-payloads.json"],
    "sbom": ["build/dossier/first/usr/share/doc/twinslot/twinslot.cdx.json"],
    "anomalies": ["build/dossier/limits.md"],
}
SINGLE = ("summary", "matrix", "coverage", "anomalies")
BUILDS = ("build/dossier/first", "build/dossier/second")


def limits() -> str:
    """What safety.md says that is not covered: the limits that are known."""
    found = re.search(
        r"^## What is not covered\n(.*?)(?=^## |\Z)", (ROOT / "docs/safety.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert found
    return f"# What is not covered\n{found[1]}"


def description() -> Iterator[str]:
    """The lines of dossier.toml, with paths from its own directory."""
    yield f'product = "Twinslot"\nrelease = "{twinslot.__version__}"\nclient = "{client_subject()}"\n\n[documents]'
    for key, names in LEFT.items():
        there = [f'"../../{name}"' for name in names if (ROOT / name).is_file()]
        if there:
            yield f"{key} = {there[0] if key in SINGLE else '[' + ', '.join(there) + ']'}"
    first, second = (f"../../{name}" for name in BUILDS)
    if all((ROOT / name).is_dir() for name in BUILDS):
        yield f'\n[reproducibility]\nfirst = "{first}"\nsecond = "{second}"'


def main(key: str) -> int:
    """Write the description and make the dossier; the status is that of the image tool."""
    place = ROOT / "build/dossier"
    place.mkdir(parents=True, exist_ok=True)
    (place / "limits.md").write_text(limits())
    (place / "dossier.toml").write_text("\n".join(description()) + "\n")
    words = ["dossier", "make", str(place / "dossier.toml"), "-o", str(place / "out"), "--force", "--key", key]
    return subprocess.run([sys.executable, "-m", "twinslot_image", *words], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
