"""The database of RPM, as SQLite holds it since RPM 4.16: a table of headers (RPM documentation, "Header structure").

The database is opened in memory, its schema is not trusted, and only one table is read. Older forms (Berkeley DB, NDB)
are refused by name: what cannot be read is never taken for an empty list.
"""

from __future__ import annotations

import sqlite3
import struct
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from twinslot.core.errors import ImageError
from twinslot_image.sbom.files import RootFiles, TreeEntry
from twinslot_image.sbom.packages import DATABASE_MAX, InstalledPackage, bounded, checked, damaged, database

_DIRECTORIES: Final = ("var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm")
_OTHERS: Final = {"Packages": "Berkeley DB", "Packages.db": "NDB"}
_HEAD, _ENTRY = struct.Struct(">II"), struct.Struct(">IIII")  # entries and bytes of data; tag, type, offset, count
_ENTRIES_MAX, _DATA_MAX = 65_536, 256 * 1024 * 1024  # RPM's own bounds (lib/header.c: hdrchkTags, hdrchkData)
_STEPS: Final = 100_000  # of SQLite's machine between two looks at how many there were
_LOOKS: Final = 10_000  # ten times what a database of the largest size takes
_NAME, _VERSION, _RELEASE, _EPOCH, _LICENCE, _ARCH, _SOURCE = 1000, 1001, 1002, 1003, 1014, 1022, 1044
_VENDOR, _PROVIDES, _REQUIRES, _DIRECTORY_OF, _BASENAMES, _DIRNAMES = 1011, 1047, 1049, 1116, 1117, 1118
_INT32, _STRING, _STRINGS, _I18N = 4, 6, 8, 9


def read_rpm(root: RootFiles) -> list[InstalledPackage]:
    """What RPM installed.

    Raises:
        ImageError: `image.package-database`: damaged, or in a form of before SQLite.
    """
    entries = {entry.path: entry for place in _DIRECTORIES if (entry := database(root, f"{place}/rpmdb.sqlite"))}
    for place in _DIRECTORIES:
        for name, form in _OTHERS.items():
            if not entries and (entry := root.get(f"{place}/{name}")):
                what = f"the package database '{entry.path}' is of a form that is not read here"
                hint = "'rpmdb --rebuilddb' of RPM 4.16 or later makes one in SQLite"
                raise ImageError(what, code="package-database", expected="rpmdb.sqlite", found=form, hint=hint)
    return [package for entry in entries.values() for package in bounded(_packages(root, entry), entry.path)]


def _packages(root: RootFiles, entry: TreeEntry) -> Iterator[InstalledPackage]:
    for blob in _headers(entry, database(root, f"{entry.path}-wal")):
        tags = _tags(blob, entry.path)
        if tags.get(_NAME) != ["gpg-pubkey"]:  # a key that signs packages stands among them
            yield checked(_package(tags, entry.path))


def _headers(entry: TreeEntry, journal: TreeEntry | None) -> list[bytes]:
    looks = 0

    def enough() -> bool:
        nonlocal looks
        looks += 1
        return looks > _LOOKS

    opened = sqlite3.connect(":memory:")
    try:
        opened.deserialize(_without_wal(_content(entry, journal)))
        opened.execute("PRAGMA trusted_schema = OFF")
        opened.set_progress_handler(enough, _STEPS)
        kind = opened.execute("SELECT type FROM sqlite_master WHERE name = 'Packages'").fetchone()
        if kind != ("table",):
            raise damaged(entry.path, "a table 'Packages'", "none")
        rows = opened.execute("SELECT blob FROM Packages ORDER BY hnum").fetchall()
    except sqlite3.Error as e:
        raise damaged(entry.path, "an SQLite database with a table 'Packages'", e) from e
    finally:
        opened.close()
    if not all(isinstance(blob, bytes) for (blob,) in rows):
        raise damaged(entry.path, "headers as blobs", "another type")
    return [blob for (blob,) in rows]


def _content(entry: TreeEntry, journal: TreeEntry | None) -> bytes:
    """The database with what its journal has: of a build that ended while RPM wrote, packages may be there alone."""
    data = entry.read(DATABASE_MAX)
    if not data:
        raise damaged(entry.path, "an SQLite database with a table 'Packages'", "an empty file")
    if journal is None or not journal.size:
        return data
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "rpmdb.sqlite")
        path.write_bytes(data)
        path.with_name(f"{path.name}-wal").write_bytes(journal.read(DATABASE_MAX))
        with closing(sqlite3.connect(path)) as both:
            both.execute("PRAGMA trusted_schema = OFF")
            both.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return path.read_bytes()


def _without_wal(data: bytes) -> bytes:
    """Without the mark of a journal apart, which a database in memory cannot have (SQLite file format, 1.3.3)."""
    return data[:18] + b"\1\1" + data[20:] if data[18:20] == b"\2\2" else data


def _tags(blob: bytes, path: str) -> dict[int, list[str] | list[int]]:
    """The tags of a header that are read here."""
    try:
        entries, size = _HEAD.unpack_from(blob)
        start = _HEAD.size + entries * _ENTRY.size
        if entries > _ENTRIES_MAX or size > _DATA_MAX or start + size > len(blob):
            raise damaged(path, f"a header within its {len(blob)} bytes", f"{entries} entries, {size} bytes")
        found: dict[int, list[str] | list[int]] = {}
        data = blob[start : start + size]
        for at in range(_HEAD.size, start, _ENTRY.size):
            tag, kind, offset, count = _ENTRY.unpack_from(blob, at)
            if tag in _WANTED:
                found[tag] = _value(data, kind, offset, count)
        return found
    except (struct.error, ValueError, UnicodeDecodeError) as e:
        raise damaged(path, "a header of a package", e) from e


_PLAIN_TAGS: Final = {_NAME, _VERSION, _RELEASE, _EPOCH, _LICENCE, _ARCH, _SOURCE, _VENDOR, _PROVIDES, _REQUIRES}
_WANTED: Final = _PLAIN_TAGS | {_DIRECTORY_OF, _BASENAMES, _DIRNAMES}


def _value(data: bytes, kind: int, offset: int, count: int) -> list[str] | list[int]:
    if not 0 <= offset < len(data) or not 0 < count <= len(data) - offset:
        raise ValueError("an entry that leads out of its header")
    if kind == _INT32:
        return list(struct.unpack_from(f">{count}i", data, offset))
    if kind not in (_STRING, _STRINGS, _I18N):
        raise ValueError(f"a tag of type {kind}")
    texts = []
    for _ in range(1 if kind == _STRING else count):
        end = data.index(b"\0", offset)
        texts.append(data[offset:end].decode("utf-8", "surrogateescape"))
        offset = end + 1
    return texts


def _package(tags: dict[int, list[str] | list[int]], path: str) -> InstalledPackage:
    def text(tag: int) -> str:
        return str(next(iter(tags.get(tag, [])), ""))

    epoch, version = text(_EPOCH), f"{text(_VERSION)}-{text(_RELEASE)}"
    source = text(_SOURCE).removesuffix(".src.rpm").rsplit("-", 2)
    return InstalledPackage(
        kind="rpm",
        name=text(_NAME),
        version=f"{epoch}:{version}" if epoch not in ("", "0") else version,
        architecture=text(_ARCH),
        source=(source[0], "-".join(source[1:])) if len(source) == 3 else ("", ""),
        licence=text(_LICENCE),
        supplier=text(_VENDOR),
        needs=tuple(dict.fromkeys(map(str, tags.get(_REQUIRES, ())))),
        provides=tuple(dict.fromkeys(map(str, tags.get(_PROVIDES, ())))),
        files=tuple(_files(tags, path)),
        found=path,
    )


def _files(tags: dict[int, list[str] | list[int]], path: str) -> Iterator[str]:
    names, directories, which = (tags.get(tag, []) for tag in (_BASENAMES, _DIRNAMES, _DIRECTORY_OF))
    if len(names) != len(which):
        raise damaged(path, "as many directories as names of files", f"{len(which)} and {len(names)}")
    for name, index in zip(names, which, strict=True):
        if not isinstance(index, int) or not 0 <= index < len(directories):
            raise damaged(path, f"directories 0 to {len(directories) - 1}", index)
        yield f"{directories[index]}{name}".strip("/")
