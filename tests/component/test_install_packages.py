"""What a machine lacks is installed: how much is said before, apt is not heard, and a failure ends with its cause."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests/install-packages.sh"
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


BARE_APT = """#!/bin/sh
case "$*" in *--print-uris*) exit ;; *install*) echo "$*" >> "$CALLS"; touch "$CALLS.venv" ;; esac
"""
# Debian's interpreter before and after python3-venv.
BARE_PYTHON = """#!/bin/sh
[ -e "$CALLS.venv" ] || exit 1
[ "$*" != "-m venv .venv" ] || { mkdir -p .venv/bin; cp /bin/true .venv/bin/pip; }
"""


def make(folder: Path, *words: str) -> None:
    """The project's `make` in a folder that holds no more than its rules, on that machine."""
    lists = [str(path.relative_to(ROOT)) for path in ROOT.glob("*/*.txt") if path.parent.name != "build"]
    projects = [f"{each}/pyproject.toml" for each in ("client", "image_tools", "qemu")]
    scripts = [f"tests/{name}.sh" for name in ("install-packages", "make-venv", "watched")]
    for name in ["Makefile", "client/install.mk", *scripts, *lists, *projects]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    for name, text in {
        "apt-get": BARE_APT,
        "dpkg-query": "#!/bin/sh\n",
        "sudo": '#!/bin/sh\nexec "$@"\n',
        "python": BARE_PYTHON,
    }.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    env = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "CALLS": str(folder / "calls")}
    argv = ["make", *words, f"PYTHON={programs}/python"]
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed here")
def test_a_machine_that_cannot_make_a_virtual_environment_gets_what_makes_one_and_no_more(tmp_path: Path) -> None:
    for _ in range(2):
        make(tmp_path, "venv")
    assert (tmp_path / ".venv/.installed").exists()
    [call] = (tmp_path / "calls").read_text().splitlines()
    assert call.endswith("--no-install-recommends python3-venv")


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed here")
@pytest.mark.parametrize(
    ("target", "folders"),
    [
        ("venv", ""),
        ("wheels", ""),
        ("pages", ""),
        ("docs-site", "docs"),
        ("docs", "docs"),
        ("deb", "debian"),
        ("mutants", "tests"),
        ("check", "tests debian"),
        ("crash", "qemu qemu debian"),
    ],
)
def test_a_target_installs_what_it_needs_and_no_more(target: str, folders: str) -> None:
    plan = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    named = [line for line in plan.splitlines() if line.startswith("tests/install-packages.sh")]
    lists = [each for line in named for each in line.split()[1:]]
    assert [each.partition("/")[0] for each in lists] == folders.split()


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed here")
@pytest.mark.parametrize(
    ("words", "installs"),
    [
        ("check", False),
        ("mutants", False),
        ("packages", False),
        ("test-hawkbit", True),
        ("test-hawkbit HAWKBIT=http://127.0.0.1:8080", False),
        ("fleet", True),
        ("fleet HAWKBIT=http://127.0.0.1:8080", False),
    ],
)
def test_java_is_installed_only_where_a_real_update_server_is_started(words: str, installs: bool) -> None:
    plan = subprocess.run(["make", "-n", *words.split()], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    named = [line for line in plan.splitlines() if line.startswith("tests/install-packages.sh")]
    packages = {
        line.split()[0]
        for each in named
        for list_ in each.split()[1:]
        for line in (ROOT / list_).read_text().splitlines()
    }
    assert ("maven" in packages) is installs


WATCHED = ROOT / "tests/watched.sh"


def test_a_long_program_is_told_of_while_it_runs_and_its_words_stand_in_the_log(tmp_path: Path) -> None:
    """The pause between two lines is four seconds; here it is as long as the program takes to say another word."""
    (tmp_path / "sleep").write_text('#!/bin/sh\n[ "$1" = 4 ] && exec /bin/sleep 0.05\n')
    (tmp_path / "sleep").chmod(0o755)
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    program = "echo one >&2; until [ -e again ]; do /bin/sleep 0.02; done; echo two"
    where = 'grep -c . "$LOG"; [ ! -e once ] || touch again; touch once'  # asked twice: the first line is out
    argv = [str(WATCHED), "a thing", "log/words", where, "sh", "-c", program]
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[0].startswith("a thing: 1, ")
    assert done.stdout == ""
    assert (tmp_path / "log/words").read_text() == "one\ntwo\n"


def test_the_last_line_of_a_long_program_that_fails_is_its_cause(tmp_path: Path) -> None:
    argv = [str(WATCHED), "pip", "words", "true", "sh", "-c", "echo 'ERROR: No matching distribution'; exit 3"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1] == "pip failed: ERROR: No matching distribution (all of it: words)"


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed here")
def test_clean_leaves_nothing_but_what_the_next_build_takes_up(tmp_path: Path) -> None:
    for name in ("cache", "log", "site", "try"):
        (tmp_path / "build" / name / "deep").mkdir(parents=True)
    make(tmp_path, "clean")
    assert [path.name for path in (tmp_path / "build").iterdir()] == ["cache"]
