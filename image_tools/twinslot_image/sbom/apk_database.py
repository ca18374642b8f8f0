"""The database of apk, as Alpine has it: one letter, a colon, a value (apk-package(5), "installed")."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from twinslot_image.sbom.files import RootFiles
from twinslot_image.sbom.packages import DATABASE_MAX, InstalledPackage, bounded, checked, damaged, database

_PLACES: Final = ("lib/apk/db/installed", "usr/lib/apk/db/installed")  # apk 2, apk 3
_VERSION: Final = re.compile(r"[<>=~]")


def read_apk(root: RootFiles) -> list[InstalledPackage]:
    """What apk installed."""
    entries = {entry.path: entry for place in _PLACES if (entry := database(root, place))}
    found = []
    for path, entry in entries.items():
        found += bounded(_packages(entry.read(DATABASE_MAX).decode("utf-8", "surrogateescape"), path), path)
    return found


def _packages(text: str, path: str) -> Iterator[InstalledPackage]:
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        if not block.strip():
            continue
        values: dict[str, str] = {}
        files, directory = [], ""
        for line in block.split("\n"):
            key, colon, value = line.partition(":")
            if not colon or len(key) != 1:
                raise damaged(path, "a letter, a colon and a value", line[:80])
            if key == "F":
                directory = value
            elif key == "R":
                files.append(f"{directory}/{value}".strip("/"))
            else:
                values.setdefault(key, value)
        if "P" not in values:
            raise damaged(path, "a line 'P:NAME' in each paragraph", block[:80])
        yield checked(_package(values, tuple(files), path))


def _package(values: dict[str, str], files: tuple[str, ...], path: str) -> InstalledPackage:
    version = values.get("V", "")
    needs = (_VERSION.split(word, maxsplit=1)[0] for word in values.get("D", "").split() if not word.startswith("!"))
    provides = (_VERSION.split(word, maxsplit=1)[0] for word in values.get("p", "").split())
    return InstalledPackage(
        kind="apk",
        name=values["P"],
        version=version,
        architecture=values.get("A", ""),
        source=(values["o"], version) if values.get("o") else ("", ""),
        licence=values.get("L", ""),
        supplier=values.get("m", ""),
        needs=tuple(dict.fromkeys(needs)),
        provides=tuple(dict.fromkeys(provides)),
        files=files,
        found=path,
    )
