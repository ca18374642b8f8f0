"""The databases of dpkg and opkg: control files (deb822(5)), and beside them lists of files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from twinslot_image.sbom.files import RootFiles, TreeEntry
from twinslot_image.sbom.packages import (
    DATABASE_MAX,
    InstalledPackage,
    bounded,
    checked,
    damaged,
    database,
    relations,
    stanzas,
)

_LIST_MAX: Final = 16 * 1024 * 1024  # bytes of a list of one package's files
# Where distributions keep them: dpkg(1); for images without a shell status.d, as Bazel's rules and distroless do;
# opkg's `option info_dir`, with the places of OpenWrt and of OpenEmbedded.
_DPKG: Final = ("var/lib/dpkg",)
_OPKG: Final = ("usr/lib/opkg", "var/lib/opkg")
_SOURCE: Final = re.compile(r"(?P<name>\S+)(?:\s+\((?P<version>[^)]*)\))?")
_ABSENT: Final = ("not-installed", "config-files")  # dpkg(1), "Package states": in all others files are there


def read_dpkg(root: RootFiles) -> list[InstalledPackage]:
    """What dpkg installed, and what images that were put together without dpkg say in `status.d`."""
    return [package for directory in _DPKG for package in _read(root, directory, "deb")]


def read_opkg(root: RootFiles) -> list[InstalledPackage]:
    """What opkg installed."""
    return [package for directory in _OPKG for package in _read(root, directory, "opkg")]


def _read(root: RootFiles, directory: str, kind: str) -> Iterator[InstalledPackage]:
    apart = [entry for entry in root.under(f"{directory}/status.d") if not entry.name.endswith(".md5sums")]
    lists = {entry.name: entry for entry in root.under(f"{directory}/info") if entry.name.endswith(".list")}
    status = database(root, f"{directory}/status")
    for entry in ([status] if status else []) + apart:
        text = entry.read(DATABASE_MAX).decode("utf-8", "replace")
        found = (_package(fields, kind, entry, lists) for fields in stanzas(text, entry.path))
        yield from bounded((package for package in found if package), entry.path)


def _package(
    fields: Mapping[str, str], kind: str, entry: TreeEntry, lists: Mapping[str, TreeEntry]
) -> InstalledPackage | None:
    state = fields.get("status", "install ok installed").split()
    if state[-1:] and state[-1] in _ABSENT:
        return None  # removed, its configuration is left; or never unpacked
    if "package" not in fields:
        raise damaged(entry.path, "a field 'Package' in each paragraph", ", ".join(fields)[:80])
    name, version, architecture = fields["package"], fields.get("version", ""), fields.get("architecture", "")
    package = InstalledPackage(
        kind=kind,
        name=name,
        version=version,
        architecture=architecture,
        source=_source(fields, kind),
        licence=fields.get("license", ""),
        supplier=fields.get("maintainer", ""),
        needs=relations(f"{fields.get('pre-depends', '')},{fields.get('depends', '')}"),
        provides=relations(fields.get("provides", "")),
        files=_files(lists, (f"{name}:{architecture}.list", f"{name}.list")),
        found=entry.path,
    )
    return checked(package)


def _source(fields: Mapping[str, str], kind: str) -> tuple[str, str]:
    """Of a Debian package that does not say it has the name and version of the package itself; opkg says a file."""
    if kind != "deb":
        return ("", "")
    version = fields.get("version", "")
    found = _SOURCE.match(fields.get("source", ""))
    return (found["name"], found["version"] or version) if found else (fields["package"], version)


def _files(lists: Mapping[str, TreeEntry], names: tuple[str, ...]) -> tuple[str, ...]:
    """Opkg's lists have more behind a tab: mode, and where a link leads."""
    for name in names:
        if name in lists:
            lines = lists[name].read(_LIST_MAX).decode("utf-8", "surrogateescape").splitlines()
            return tuple(line.partition("\t")[0].strip("/") for line in lines if line.startswith("/"))
    return ()
