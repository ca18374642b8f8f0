"""Root file systems with real programs of this machine and with the databases of four package managers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from twinslot_image.elf_links import read_links

PROGRAM = Path("/bin/true").resolve()
DPKG = """Package: libpump1
Status: install ok installed
Maintainer: Pump Team <pump@example.org>
Architecture: arm64
Source: pump (2.0)
Version: 1:2.0-3
Provides: pump-api (= 2)
Description: drives the motor
 of the pump

Package: pump-tools
Status: install ok installed
Architecture: all
Version: 2.0-3
Pre-Depends: libpump1 (>= 2) | libother
Depends: pump-api, absent

Package: gone
Status: deinstall ok config-files
Architecture: arm64
Version: 1
"""
APK = """C:Q1abc=
P:busybox
V:1.37.0-r12
A:aarch64
L:GPL-2.0-only
o:busybox
m:Sören Tempel <soeren@example.org>
D:so:libc.musl-aarch64.so.1
p:/bin/sh cmd:busybox=1.37.0-r12
F:bin
R:busybox
a:0:0:755

P:musl
V:1.2.5-r9
A:aarch64
L:MIT
p:so:libc.musl-aarch64.so.1=1
"""
OPKG = """Package: base-files
Version: 3.0.14-r0
Depends: netbase
Status: install user installed
Architecture: qemuarm64

Package: netbase
Version: 6.4-r0
Status: install user unpacked
Architecture: all

Package: dropped
Version: 1
Status: deinstall user not-installed
Architecture: all
"""
METADATA = """Metadata-Version: 2.4
Name: Pump_Client
Version: 1.4
License-Expression: Apache-2.0
Requires-Dist: construct>=2.10
Requires-Dist: pytest; extra == "test"

Name: not a header any more
"""
OS_RELEASE = 'NAME="Pump OS"\nID=pumpos\nVERSION_ID="13"\n# a comment\n'


def put(tree: Path, path: str, text: str) -> Path:
    """A file in a tree."""
    file = tree / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def make_program_tree(tree: Path) -> Path:
    """`true` of this machine, with its loader and the libraries that it needs, as a system with /lib -> usr/lib."""
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "usr/lib").mkdir()
    (tree / "lib").symlink_to("usr/lib")
    (tree / "etc").mkdir()
    put(tree, "usr/lib/os-release", OS_RELEASE)
    (tree / "etc/os-release").symlink_to("../usr/lib/os-release")
    shutil.copy(PROGRAM, tree / "usr/bin/true")
    for path in libraries():
        below = tree / str(path.parent).lstrip("/")
        below.mkdir(parents=True, exist_ok=True)
        shutil.copy(path.resolve(), below / path.name)
    return tree


def libraries() -> list[Path]:
    """The loader of `true`, and what ld.so finds for it."""
    with PROGRAM.open("rb") as file:
        links = read_links(file)
    assert links
    listed = subprocess.run(["ldd", PROGRAM], check=True, capture_output=True, text=True).stdout
    found = [Path(line.split("=>")[1].split()[0]) for line in listed.splitlines() if "=>" in line]
    return [Path(links.interpreter), *found]


def make_dpkg_tree(tree: Path) -> Path:
    """Two packages that dpkg installed, one that it removed; a Python distribution belongs to the second."""
    put(tree, "etc/os-release", OS_RELEASE)
    put(tree, "var/lib/dpkg/status", DPKG)
    put(tree, "var/lib/dpkg/info/libpump1:arm64.list", "/.\n/usr\n/usr/lib/libpump.so.1\n")
    metadata = "usr/lib/python3/dist-packages/pump_client-1.4.dist-info/METADATA"
    put(tree, "var/lib/dpkg/info/pump-tools.list", f"/.\n/{metadata}\n")
    put(tree, metadata, METADATA)
    return tree


def make_rpm(directory: Path, tree: Path) -> None:
    """A package that the real rpmbuild made and the real rpm installed into the database of a tree."""
    spec = put(
        directory,
        "pump.spec",
        "Name: pump\nEpoch: 2\nVersion: 3.1\nRelease: 4\nSummary: drives\nLicense: MIT\nVendor: Pump Team\n"
        "BuildArch: noarch\nProvides: pump-api\nRequires: motor\n%description\nIt drives.\n"
        "%install\nmkdir -p %{buildroot}/usr/share/pump\necho 1 > %{buildroot}/usr/share/pump/speed\n"
        "%files\n/usr/share/pump/speed\n",
    )
    built = ["rpmbuild", "--quiet", "-bb", "--define", f"_topdir {directory}", "--nodeps", str(spec)]
    subprocess.run(built, check=True, capture_output=True)
    (package,) = (directory / "RPMS").rglob("*.rpm")
    options = ["--root", str(tree), "--dbpath", "/var/lib/rpm", "--nodeps", "--justdb", "--noscripts"]
    subprocess.run(["rpm", *options, "-i", str(package)], check=True, capture_output=True)
