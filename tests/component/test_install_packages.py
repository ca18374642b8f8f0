"""What a machine lacks is installed: how much is said before, apt is not heard, and a failure ends with its cause."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "install-packages.sh"
APT = """#!/bin/sh
echo "$*" >> "$CALLS"
case "$*" in
    *--print-uris*)
        echo "Reading package lists..."
        for name in {uris}; do echo "'http://mirror/$name.deb' $name.deb 2000000 SHA256:0"; done ;;
    *update*) echo "Get:1 http://mirror InRelease" ;;
    *) echo "Setting up bison ..."; {end} ;;
esac
"""


def run(
    folder: Path, *options: str, uris: str = "bison m4 libfoo", end: str = "true"
) -> subprocess.CompletedProcess[str]:
    """The script on a machine that has `make` and lacks `bison`."""
    programs = folder / "bin"
    programs.mkdir()
    (programs / "apt-get").write_text(APT.format(uris=uris, end=end))
    (programs / "dpkg-query").write_text('#!/bin/sh\n[ "$4" = make ] && echo installed\n')
    (programs / "sudo").write_text('#!/bin/sh\nexec "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    (folder / "list").write_text("# what it takes\nmake\nbison  # grammars\n")
    env = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "CALLS": str(folder / "calls")}
    return subprocess.run(
        ["sh", str(SCRIPT), *options, "list"], cwd=folder, env=env, capture_output=True, text=True, check=False
    )


def test_it_says_how_many_packages_and_megabytes_before_it_installs_and_leaves_apts_words_in_a_log(
    tmp_path: Path,
) -> None:
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr == "installing 3 packages, 6 MB to fetch; what apt says is in build/log/apt.log\n"
    assert "Setting up bison" in (tmp_path / "build/log/apt.log").read_text()
    assert (tmp_path / "calls").read_text().splitlines()[-1].endswith("--no-install-recommends bison")


def test_a_plan_installs_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, "--plan")
    assert done.stdout == "3 packages, 6 MB to fetch; some minutes\n"
    assert "--print-uris" in (tmp_path / "calls").read_text()
    assert len((tmp_path / "calls").read_text().splitlines()) == 1


def test_a_plan_before_apt_knows_any_package_says_what_it_can(tmp_path: Path) -> None:
    assert run(tmp_path, "--plan", uris="").stdout == "1 packages and what they depend on; some minutes\n"


def test_the_last_line_of_an_apt_that_fails_is_the_cause(tmp_path: Path) -> None:
    done = run(tmp_path, end='echo "E: Unable to locate package bison"; echo "E: more"; exit 100')
    assert done.returncode == 100
    assert done.stderr.splitlines()[-1] == (
        "apt failed: E: Unable to locate package bison (all of it: build/log/apt.log)"
    )
