"""Packages of a foreign architecture are installed by native programs, which leave nothing of themselves behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from twinslot_lab import native, rootfs
from twinslot_lab.command import run
from twinslot_lab.description import load
from twinslot_lab.errors import BuildError

pytestmark = pytest.mark.board

MACHINE = slice(18, 20)  # of an ELF header: whose program it is
POSTINST = """#!/bin/sh
set -e
mkdir -p /var/lib/probe
head -c 20 /usr/bin/head > /var/lib/probe/program
dpkg --print-architecture > /var/lib/probe/architecture
python3 -m py_compile /usr/lib/python3/dist-packages/probe/__init__.py
{end}
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The system of virt-arm64, for these tests to change."""
    tree = tmp_path_factory.mktemp("native") / "tree"
    run("cp", "-a", "--reflink=auto", rootfs.system_tree(load()), tree)
    return tree


def package(folder: Path, end: str = "") -> Path:
    """One with a module, whose script notes what runs it."""
    root = folder / "root"
    (root / "DEBIAN").mkdir(parents=True)
    control = "Package: probe\nVersion: 1\nArchitecture: all\nMaintainer: The Twinslot authors\nDescription: a probe\n"
    (root / "DEBIAN" / "control").write_text(control)
    (root / "DEBIAN" / "postinst").write_text(POSTINST.format(end=end))
    (root / "DEBIAN" / "postinst").chmod(0o755)
    (root / "usr/lib/python3/dist-packages/probe").mkdir(parents=True)
    (root / "usr/lib/python3/dist-packages/probe/__init__.py").write_text("X = 1\n")
    run("dpkg-deb", "--root-owner-group", "--build", root, folder / "probe_1_all.deb")
    return folder / "probe_1_all.deb"


def everything(tree: Path) -> set[str]:
    """The names of all that is in the tree, but for what the package brings and dpkg writes down."""
    walked = (Path(folder, name) for folder, folders, files in os.walk(tree) for name in (*folders, *files))
    names = (str(path.relative_to(tree)) for path in walked)
    return {name for name in names if "probe" not in name and not name.startswith(("var/lib/dpkg", "var/log"))}


def test_scripts_run_natively_under_the_trees_own_dpkg_and_only_the_package_is_left(tree: Path, tmp_path: Path) -> None:
    system, before = load().system, everything(tree)
    native.install(system.suite, system.architecture, [package(tmp_path)], tree, tmp_path / "log")
    assert everything(tree) == before
    assert "Package: probe\nStatus: install ok installed" in (tree / "var/lib/dpkg/status").read_text()
    assert (tree / "var/lib/probe/architecture").read_text() == "arm64\n"
    assert (tree / "var/lib/probe/program").read_bytes()[MACHINE] == Path("/usr/bin/head").read_bytes()[MACHINE]
    assert (tree / "usr/bin/head").read_bytes()[MACHINE] == b"\xb7\x00", "EM_AARCH64 (183): the tree's own is as it was"
    (compiled,) = (tree / "usr/lib/python3/dist-packages/probe/__pycache__").glob("*.pyc")
    (other,) = (tree / "usr/lib/python3/dist-packages/tuf/__pycache__").glob("__init__.*.pyc")
    assert compiled.read_bytes()[:4] == other.read_bytes()[:4], "of the Python that is in the tree"


def test_a_script_that_fails_is_the_cause_that_is_told(tree: Path, tmp_path: Path) -> None:
    system = load().system
    broken = package(tmp_path, end="echo 'probe: cannot find its place' >&2; exit 7")
    with pytest.raises(BuildError, match="cannot find its place") as caught:
        native.install(system.suite, system.architecture, [broken], tree, tmp_path / "log")
    assert "exit status 7" in caught.value.output


def test_a_package_that_is_not_there_is_named(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"there is no package '.*/none\.deb'"):
        native.install("trixie", "arm64", [tmp_path / "none.deb"], tree, tmp_path / "log")
