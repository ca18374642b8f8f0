"""Each wheel in an empty environment: it brings what it needs, and each of its commands runs there."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import twinslot

pytest.importorskip("pip", reason="wheels are built with the checkout's own environment, from a package index")

ROOT = Path(__file__).parents[2]
VERSION = twinslot.__version__
PACKAGES = {"twinslot": "client", "twinslot_image": "image_tools", "twinslot_lab": "qemu"}
pytestmark = pytest.mark.slow

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    said = subprocess.run(["make", "wheels", f"WHEELS={folder}"], cwd=ROOT, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert sorted(path.name.split("-")[0] for path in folder.iterdir()) == sorted(PACKAGES)
    return folder


@pytest.fixture
def installed(wheels: Path, tmp_path: Path) -> Callable[[str], Run]:
    """An empty environment gets one distribution; gives what runs a program of it, in an empty directory."""
    place, empty = tmp_path / "environment", tmp_path / "empty"
    empty.mkdir()

    def install(name: str) -> Run:
        venv.create(place, symlinks=True)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(place / "bin/python")]
        said = subprocess.run(
            [*pip, "install", "-q", "--no-compile", "--find-links", wheels, name], capture_output=True, text=True
        )
        assert said.returncode == 0, said.stderr
        checked = subprocess.run([*pip, "check"], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout

        def run(program: str, *words: str) -> subprocess.CompletedProcess[str]:
            argv = [str(place / "bin" / program), *words]
            return subprocess.run(argv, cwd=empty, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)

        return run

    return install


def tells(run: Run, name: str, *command: str) -> None:
    """Its version and its help."""
    version, text = run(*command, "--version"), run(*command, "--help")
    assert (version.returncode, version.stdout, version.stderr) == (0, f"{name} {VERSION}\n", "")
    assert (text.returncode, text.stderr) == (0, "")
    assert text.stdout.startswith("usage: ")


@pytest.mark.parametrize("package", PACKAGES)
def test_a_wheel_holds_its_own_package_its_license_and_nothing_of_the_others(wheels: Path, package: str) -> None:
    [path] = wheels.glob(f"{package}-{VERSION}-py3-none-any.whl")
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        licence = wheel.read(f"{package}-{VERSION}.dist-info/licenses/LICENSE")
    assert licence == (ROOT / "LICENSE").read_bytes()
    sources = (ROOT / PACKAGES[package] / package).rglob("*")
    files = {str(p.relative_to(ROOT / PACKAGES[package])) for p in sources if p.is_file() and p.suffix != ".pyc"}
    assert {name for name in names if f"{package}-{VERSION}." not in name} == files
    assert f"{package}/py.typed" in files


@pytest.mark.parametrize(
    ("package", "completion"), [("twinslot", "twinslot"), ("twinslot_image", "twinslot-image"), ("twinslot_lab", "")]
)
def test_a_wheel_brings_its_manual_pages_and_its_completion(wheels: Path, package: str, completion: str) -> None:
    """Where man(1) and bash look beside the directory of the program."""
    manuals = {p.name for p in (ROOT / "docs/man").glob("*.[1-8]") if owner(p.name) == package}
    wanted = {f"man/man{name[-1]}/{name}" for name in manuals}
    wanted |= {f"bash-completion/completions/{completion}"} if completion else set()
    [path] = wheels.glob(f"{package}-{VERSION}-py3-none-any.whl")
    with zipfile.ZipFile(path) as wheel:
        share = f"{package}-{VERSION}.data/data/share/"
        assert {name.removeprefix(share) for name in wheel.namelist() if name.startswith(share)} == wanted


def owner(manual: str) -> str:
    """The package that a manual page is about."""
    if manual.startswith(("twinslot-image", "twinslot-lab")):
        return "_".join(manual.partition(".")[0].split("-")[:2])
    return "twinslot"


def test_the_client_runs_in_an_empty_environment_and_brings_no_other_part(installed: Callable[[str], Run]) -> None:
    run = installed("twinslot")
    tells(run, "twinslot", "twinslot")
    tells(run, "twinslot", "python", "-m", "twinslot")
    for other in ("twinslot_image", "twinslot_lab", "numpy", "pytest"):
        assert run("python", "-c", f"import {other}").returncode == 1, other


def test_the_image_tool_runs_in_an_empty_environment_and_makes_keys(installed: Callable[[str], Run]) -> None:
    run = installed("twinslot-image")
    tells(run, "twinslot-image", "twinslot-image")
    tells(run, "twinslot-image", "python", "-m", "twinslot_image")
    assert run("twinslot-image", "keys", "init", "keys").returncode == 0
    assert run("twinslot-image", "keys", "list", "keys").returncode == 0
    assert run("python", "-c", "import numpy, elftools").returncode == 0
    assert run("python", "-c", "import twinslot_lab").returncode == 1


def test_the_lab_runs_in_an_empty_environment_and_pytest_does_not_load_it_unasked(
    installed: Callable[[str], Run],
) -> None:
    run = installed("twinslot-lab")
    tells(run, "twinslot-lab", "python", "-m", "twinslot_lab")
    assert "--power-seed" not in run("python", "-m", "pytest", "--help").stdout
    assert "--power-seed" in run("python", "-m", "pytest", "-p", "twinslot_lab.plugin", "--help").stdout
    alone = run("python", "-m", "twinslot_lab", "build")
    assert alone.returncode == 1
    assert "set TWINSLOT_CHECKOUT to the directory of one" in alone.stderr
    assert "Traceback" not in alone.stderr


def test_a_checkout_installs_what_its_extras_name(tmp_path: Path) -> None:
    venv.create(tmp_path / "environment", symlinks=True)
    python = tmp_path / "environment/bin/python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    said = subprocess.run([*pip, "install", "-q", "-e", f"{ROOT}[image-tools]"], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    for program in ("twinslot", "twinslot-image"):
        done = subprocess.run([python.with_name(program), "--version"], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, f"{program} {VERSION}\n")
