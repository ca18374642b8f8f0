"""What a package database says of one package, whichever database that is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from twinslot.core.errors import ImageError
from twinslot_image.sbom.files import EntryKind, RootFiles, TreeEntry

DATABASE_MAX: Final = 256 * 1024 * 1024  # bytes of one database; that of a full Debian desktop has 10 MiB
PACKAGES_MAX: Final = 100_000  # of one tree; all of Debian has fewer
_LINE_MAX: Final = 1024 * 1024  # characters of one line of a text database
_PLAIN: Final = re.compile(r"[!-~]{1,256}")  # names and versions of every database here
_NAME: Final = re.compile(r"[A-Za-z0-9(/_][!-~]{0,255}")


@dataclass(frozen=True, slots=True)
class InstalledPackage:
    """One installed package.

    Attributes:
        kind: Type of its package URL (purl specification): `deb`, `apk`, `opkg`, `rpm`, `pypi`; `spdx` where another
            bill names it.
        name: As its database says.
        version: As its database says, an epoch included.
        architecture: Empty where there is none.
        source: Name and version of the source package, where they are said; empty.
        licence: As its database says; empty.
        supplier: Who maintains it; empty.
        needs: Names of packages or of what they provide; of alternatives each.
        provides: Names that it stands for, beside its own.
        files: Paths that belong to it, from the root without a leading slash.
        found: The file that says all this.
        purl: Its package URL, where the database has it; else it is made of the rest.
    """

    kind: str
    name: str
    version: str
    architecture: str = ""
    source: tuple[str, str] = ("", "")
    licence: str = ""
    supplier: str = ""
    needs: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    found: str = ""
    purl: str = ""

    @property
    def reference(self) -> str:
        """What stands for it in one bill; two architectures of one package are two."""
        return ":".join(part for part in (self.kind, self.name, self.version, self.architecture) if part)


def database(root: RootFiles, path: str) -> TreeEntry | None:
    """The file of a package database; None: there is none.

    Raises:
        ImageError: `image.package-database`: something else stands there, or a link that leads nowhere.
    """
    entry = root.get(path)
    if entry is not None and entry.kind is EntryKind.FILE:
        return entry
    if root.is_listed(path):
        raise damaged(path, "a file", "a link that leads nowhere" if entry is None else f"a {entry.kind}")
    return None


def checked(package: InstalledPackage) -> InstalledPackage:
    """The package, if name and version are what such databases hold.

    Raises:
        ImageError: `image.package-database`.
    """
    for what, value, form in (("name", package.name, _NAME), ("version", package.version, _PLAIN)):
        if not form.fullmatch(value):
            expected = f"the {what} of a package, 1 to 256 printable ASCII characters"
            raise damaged(package.found, expected, value[:80] or "nothing")
    return package


def damaged(path: str, expected: object, found: object) -> ImageError:
    """The error for a database that cannot be read."""
    what = f"the package database '{path}' in the root file system cannot be read"
    hint = "install the packages again, or take the root file system from a build that ended well"
    return ImageError(what, code="package-database", expected=expected, found=str(found)[:200], hint=hint)


def stanzas(text: str, path: str) -> Iterator[dict[str, str]]:
    """The paragraphs of a control file (deb822(5)), keys in lower case; lines that go on are joined by a line end.

    Raises:
        ImageError: `image.package-database`: a line that is neither a field nor goes on.
    """
    fields: dict[str, str] = {}
    last = ""
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > _LINE_MAX:
            raise damaged(path, f"lines of at most {_LINE_MAX} characters", f"line {number} of {len(line)}")
        if not line.strip():
            if fields:
                yield fields
            fields, last = {}, ""
        elif line[0] in " \t":
            if not last:
                raise damaged(path, "a field", f"line {number}: {line.strip()[:80]}")
            fields[last] += f"\n{line.strip()}"
        else:
            key, colon, value = line.partition(":")
            if not colon or not key.strip():
                raise damaged(path, "a field such as 'Package: NAME'", f"line {number}: {line[:80]}")
            last = key.strip().lower()
            fields[last] = value.strip()
    if fields:
        yield fields


def relations(text: str) -> tuple[str, ...]:
    """Names in a field such as `Depends`: without versions and architectures, alternatives each for itself."""
    parts = (part for group in text.replace("\n", " ").split(",") for part in group.split("|"))
    names = (re.split(r"[\s(<>=:]", part.strip(), maxsplit=1)[0] for part in parts)
    return tuple(dict.fromkeys(name for name in names if name))


def bounded(packages: Iterable[InstalledPackage], path: str) -> list[InstalledPackage]:
    """All of them, if they are not too many."""
    found = []
    for package in packages:
        found.append(package)
        if len(found) > PACKAGES_MAX:
            raise damaged(path, f"at most {PACKAGES_MAX} packages", "more")
    return found
