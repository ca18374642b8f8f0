"""Python distributions: what stands in their metadata (PyPA, "Core metadata specifications")."""

from __future__ import annotations

import re
from email.errors import MessageError
from email.parser import BytesHeaderParser
from email.policy import compat32
from typing import Final

from twinslot_image.sbom.files import RootFiles, TreeEntry
from twinslot_image.sbom.packages import InstalledPackage, bounded, checked, damaged

_METADATA: Final = re.compile(r"[^/]+\.(?:dist-info/METADATA|egg-info(?:/PKG-INFO)?)")
_METADATA_MAX: Final = 16 * 1024 * 1024  # bytes; most are a long description
_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_SEPARATORS: Final = re.compile(r"[-_.]+")
_LICENCE_MAX: Final = 120  # characters; some put the whole text of the licence there


def read_python(root: RootFiles) -> list[InstalledPackage]:
    """Every distribution that has metadata, wherever it lies."""
    found = []
    for entry in root.files():
        above, _, name = entry.path.rpartition("/")
        last = f"{above.rpartition('/')[2]}/{name}"
        if _METADATA.fullmatch(last) or _METADATA.fullmatch(name):
            found.append(_package(entry))
    return bounded(found, root.name)


def _package(entry: TreeEntry) -> InstalledPackage:
    try:
        fields = BytesHeaderParser(policy=compat32).parsebytes(entry.read(_METADATA_MAX))
        name, version = str(fields.get("Name", "")).strip(), str(fields.get("Version", "")).strip()
        licence = str(fields.get("License-Expression", "") or fields.get("License", "") or "").strip()
        needs = [str(value) for value in fields.get_all("Requires-Dist", [])]
    except (MessageError, ValueError, LookupError, UnicodeError) as e:
        raise damaged(entry.path, "metadata of a Python distribution", e) from e
    if not _NAME.fullmatch(name):
        raise damaged(entry.path, "a line 'Name: NAME'", name[:80] or "none")
    names = (found[0] for each in needs if "extra ==" not in each and (found := _NAME.match(each.strip())))
    package = InstalledPackage(
        kind="pypi",
        name=_SEPARATORS.sub("-", name).lower(),  # PyPA, "Names and normalization"
        version=version,
        licence="" if "\n" in licence or len(licence) > _LICENCE_MAX else licence,
        needs=tuple(dict.fromkeys(_SEPARATORS.sub("-", each).lower() for each in names)),
        found=entry.path,
    )
    return checked(package)
