"""Everything that a root file system says of what it consists of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

from twinslot.core.errors import RefusedError
from twinslot_image.elf import ELF_MAGIC
from twinslot_image.elf_links import Links, read_links
from twinslot_image.libraries import Linked, refusals
from twinslot_image.rootfs import FIRMWARE
from twinslot_image.sbom.apk_database import read_apk
from twinslot_image.sbom.control_databases import read_dpkg, read_opkg
from twinslot_image.sbom.files import EntryKind, RootFiles, TreeEntry
from twinslot_image.sbom.packages import InstalledPackage
from twinslot_image.sbom.python_metadata import read_python
from twinslot_image.sbom.rpm_database import read_rpm

_READERS: Final = (read_dpkg, read_apk, read_opkg, read_rpm)
_OS_RELEASE: Final = ("etc/os-release", "usr/lib/os-release")  # os-release(5)
_OS_RELEASE_MAX: Final = 64 * 1024  # bytes
_BLOCK: Final = 1024 * 1024  # bytes

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Program:
    """One program or library: its path, digest, what it links to, and which package has it (empty: none)."""

    path: str
    digest: str
    links: Links
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a tree consists of.

    Attributes:
        os: Fields of os-release(5): at least `ID` says whose packages they are; empty without the file.
        packages: Of package databases, and Python distributions.
        owners: For a Python distribution's reference the reference of the package that has it.
        programs: Programs and libraries in the order of their paths.
        uses: For a program's path the paths of the libraries that it needs.
    """

    os: dict[str, str]
    packages: tuple[InstalledPackage, ...]
    owners: dict[str, str]
    programs: tuple[Program, ...]
    uses: dict[str, tuple[str, ...]] = field(default_factory=dict)


def take_inventory(
    root: RootFiles, foreign: Iterable[str] = (), on_progress: OnProgress = lambda *_: None
) -> Inventory:
    """Read every database, every Python distribution and every ELF file of a tree.

    Args:
        root: The tree.
        foreign: Patterns of files whose libraries need not be there.
        on_progress: Called with the names seen so far and how many there are.

    Raises:
        ImageError: `image.package-database`: one cannot be read; or the tree cannot.
        RefusedError: `refused.library-missing`, for each library that a program needs and the tree lacks.
    """
    packages = [package for read in _READERS for package in read(root)]
    owner = {root.real_of_listed(path): package.reference for package in packages for path in package.files}
    python = read_python(root)
    owners = {each.reference: owner[each.found] for each in python if each.found in owner}
    linked, programs = Linked(), []
    for number, entry in enumerate(root, 1):
        on_progress(number, len(root))
        if entry.kind is EntryKind.LINK:
            linked.add_link(entry.path)
        elif program := _program(entry, owner):
            linked.files[entry.path] = program.links
            programs.append(program)

    def reach(path: str) -> Links | None:
        return linked.files.get(root.real(path))

    if missing := linked.missing(reach, foreign):
        raise RefusedError(refusals(missing))
    there = {key: root.real(path) for key, path in linked.providers(reach).items()}
    uses = {each.path: tuple(_uses(each.links, there)) for each in programs}
    both = sorted((*packages, *python), key=lambda package: package.reference)
    return Inventory(_os_release(root), tuple(both), owners, tuple(programs), uses)


def _uses(links: Links, there: dict[tuple[str, tuple[str, int, bool]], str]) -> Iterable[str]:
    names = (*links.needed, *([links.interpreter] if links.interpreter else ()))
    return dict.fromkeys(there[name, links.abi] for name in names if (name, links.abi) in there)


def _program(entry: TreeEntry, owner: dict[str, str]) -> Program | None:
    if entry.kind is not EntryKind.FILE or any(fnmatchcase(entry.path, pattern) for pattern in FIRMWARE):
        return None
    with entry.opening() as file:
        if file.read(len(ELF_MAGIC)) != ELF_MAGIC or (links := read_links(file)) is None:
            return None
        file.seek(0)
        digest = hashlib.sha256()
        for block in iter(lambda: file.read(_BLOCK), b""):
            digest.update(block)
    return Program(entry.path, digest.hexdigest(), links, owner.get(entry.path, ""))


def _os_release(root: RootFiles) -> dict[str, str]:
    entry = next((found for path in _OS_RELEASE if (found := root.get(path)) and found.kind is EntryKind.FILE), None)
    if entry is None:
        return {}
    lines = entry.read(_OS_RELEASE_MAX).decode("utf-8", "replace").splitlines()
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}
