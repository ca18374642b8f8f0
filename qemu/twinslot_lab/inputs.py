"""What a board was made of and from where: every package by version and SHA-256, from what the caches hold.

Nothing is fetched for it. apt verified each file against the archive's signed lists when the cache was filled; those
lists stand there still, and so do U-Boot's sources. What a cache directory tells is kept in it as `inputs.json`. A
package of the base whose version is no longer in the lists (the base is older than they are) has no hash, and says so.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from twinslot_lab import jsonfile, kernel, rootfs, uboot
from twinslot_lab.cache import alone
from twinslot_lab.command import BUILD, run
from twinslot_lab.description import BoardDescription, load
from twinslot_lab.errors import LabError

REPORT: Final = BUILD / "lab-inputs.json"
_APT_HELPER: Final = "/usr/lib/apt/apt-helper"  # knows every compression that apt uses
_STATUS: Final = "./var/lib/dpkg/status"
_FORMAT: Final = 1  # of inputs.json
_TOLD_OF_ARCHIVE: Final = ("Origin", "Suite", "Codename", "Version", "Date")

Fields = dict[str, str]


def collect(board: BoardDescription) -> dict[str, Any]:
    """All inputs of one board that is built.

    Returns:
        `base`, `kernel`, `firmware`: archives, and for each package its version and SHA-256 (of the .deb; of each file
        of a source package); `emulator`: QEMU's version; `python`: what the lab runs with.

    Raises:
        LabError: A cache lacks what a build leaves there.
    """
    packages = kernel.packages(board).parent
    lists = packages / "apt" / "lists"
    base = rootfs.base_tar(board)
    source = uboot._source(board).parent
    return {
        "base": _kept(base.parent, lambda: _base(base, lists)),
        "kernel": _kept(packages, lambda: _kernel(board, packages, lists)),
        "firmware": _kept(source, lambda: _firmware(source)),
        "emulator": {board.machine.emulator: run(board.machine.emulator, "--version").splitlines()[0]},
        "python": _python(),
    }


def note(boards: list[str], path: Path = REPORT) -> dict[str, Any]:
    """Write the inputs of these boards, beside those of the boards that stand in the file already; returns all.

    Others may do so for other boards at the same time.
    """
    found = {name: collect(load(name)) for name in boards}
    with alone(path.with_name(f".{path.name}.lock")):
        known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        known = dict(sorted((known | found).items()))
        jsonfile.replace(path, known)
    return known


def gathered(boards: list[str], path: Path = REPORT) -> dict[str, Any]:
    """The inputs of these boards for a report: as written down when they were built, else written down now."""
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if missing := [name for name in boards if name not in known]:
        known = note(missing, path)
    return {name: known[name] for name in boards}


def _kept(folder: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a cache directory's `inputs.json` says; made now if it is not there or of another format."""
    file = folder / "inputs.json"
    if file.exists():
        found: dict[str, Any] = json.loads(file.read_text())
        if found.get("format") == _FORMAT:
            return found
    made = {"format": _FORMAT, "cache": folder.name} | make()
    jsonfile.replace(file, made)
    return made


def paragraphs(text: str) -> Iterator[Fields]:
    """Debian's control data (deb822(5)): paragraphs of `Name: value`; what continues a value is left out."""
    for paragraph in re.split(r"\n[ \t]*\n", text):
        fields: Fields = {}
        for line in paragraph.splitlines():
            name, colon, value = line.partition(":")
            if colon and name and not line[0].isspace():
                fields[name] = value.strip()
        if fields:
            yield fields


def _base(tar: Path, lists: Path) -> dict[str, Any]:
    with tarfile.open(tar) as archive:
        status = archive.extractfile(_STATUS)
        if status is None:
            raise LabError(f"'{tar}' has no {_STATUS}")
        text = status.read().decode(errors="replace")
    hashes = _hashes(lists)
    installed = [fields for fields in paragraphs(text) if "installed" in fields.get("Status", "").split()]
    packages = {
        fields["Package"]: {"version": fields["Version"], "sha256": hashes.get((fields["Package"], fields["Version"]))}
        for fields in installed
    }
    return {"archives": _archives(lists), "sha256": _digest(tar), "packages": packages}


def _kernel(board: BoardDescription, folder: Path, lists: Path) -> dict[str, Any]:
    (version,) = (path.name for path in (folder / "tree" / "usr" / "lib" / "modules").iterdir())
    wanted = {f"linux-image-{version}", "busybox-static"}
    found = {
        name: {"version": number, "sha256": digest}
        for (name, number), digest in _hashes(lists).items()
        if name in wanted
    }
    if wanted - set(found):
        raise LabError(f"the lists in '{lists}' do not name {', '.join(sorted(wanted - set(found)))}")
    return {"archives": _archives(lists), "meta": board.system.kernel, "packages": found}


def _firmware(folder: Path) -> dict[str, Any]:
    files = sorted(path for path in (folder / "source.dsc").iterdir() if path.is_file())
    (dsc,) = (path for path in files if path.suffix == ".dsc")
    fields: Fields = {}
    for paragraph in paragraphs(dsc.read_text()):  # a signed one has the signature's header before it
        fields |= paragraph
    return {
        "archives": _archives(folder / "apt" / "lists"),
        "source": {"package": fields["Source"], "version": fields["Version"]},
        "files": {path.name: _digest(path) for path in files},
    }


def _hashes(lists: Path) -> dict[tuple[str, str], str]:
    """(package, version) -> SHA-256 of the .deb, of all Packages files."""
    found = {}
    for file in sorted(lists.glob("*_Packages*")):
        for fields in paragraphs(run(_APT_HELPER, "cat-file", file)):
            found[fields["Package"], fields["Version"]] = fields["SHA256"]
    return found


def _archives(lists: Path) -> list[dict[str, str]]:
    """Which state of which archive: what its signed index says of itself, and that index's digest."""
    found = []
    for file in sorted(lists.glob("*_InRelease")):
        head = next(fields for fields in paragraphs(file.read_text()) if "Codename" in fields)
        found.append({name: head[name] for name in _TOLD_OF_ARCHIVE if name in head} | {"sha256": _digest(file)})
    return found


def _python() -> dict[str, str]:
    """The interpreter and every distribution in its environment."""
    versions = {dist.name: dist.version for dist in importlib.metadata.distributions()}
    return dict(sorted(versions.items())) | {"python": sys.version.split()[0]}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    note(sys.argv[1:] or ["virt-arm64"])
    sys.stdout.write(f"{REPORT}\n")
