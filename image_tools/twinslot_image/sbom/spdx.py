"""Packages that an SPDX document names: SPDX 2.2 and 2.3 in JSON, and SPDX 3.0 in JSON-LD, as OpenEmbedded writes both.

A file is one document, or an archive of documents (`create-spdx.bbclass` makes NAME.spdx.tar.zst). Nothing of it is
believed but names, versions, licences and package URLs.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from twinslot.core.errors import ImageError
from twinslot_image.named_file import read_small
from twinslot_image.packed import is_packed, unpack
from twinslot_image.sbom.packages import InstalledPackage, bounded, checked

_DOCUMENTS_MAX: Final = 256 * 1024 * 1024  # bytes of all documents of one archive
_TEXT_MAX: Final = 256  # characters


def read_spdx(path: Path) -> list[InstalledPackage]:
    """Every package of the document or of the documents in the archive.

    Raises:
        ImageError: `image.sbom`: it is no SPDX document of a form that is read here.
        OSError: It cannot be read, or has more than 16 MiB.
    """
    data = read_small(path)
    if is_packed(data[:8]):
        sink = io.BytesIO()
        try:
            unpack(io.BytesIO(data), sink, _DOCUMENTS_MAX)
        except ValueError as e:
            raise _no_spdx(path, e) from e
        data = sink.getvalue()
    documents = _of_archive(data, path) if data[257:262] == b"ustar" else iter([data])
    found = {each.reference: each for document in documents for each in _packages(document, path)}
    return bounded((found[reference] for reference in sorted(found)), str(path))


def _of_archive(data: bytes, path: Path) -> Iterator[bytes]:
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                if member.isfile() and member.name.endswith(".spdx.json"):
                    opened = archive.extractfile(member)
                    assert opened is not None  # a regular file
                    yield opened.read()
    except (tarfile.TarError, ValueError, EOFError) as e:
        raise _no_spdx(path, e) from e


def _packages(document: bytes, path: Path) -> Iterator[InstalledPackage]:
    try:
        whole = json.loads(document)
    except (ValueError, RecursionError) as e:
        raise _no_spdx(path, str(e).partition(":")[0]) from e
    if not isinstance(whole, dict):
        raise _no_spdx(path, "a list")
    if str(whole.get("spdxVersion", "")).startswith("SPDX-2."):
        found = (_of_two(each, path) for each in _objects(whole.get("packages", []), path))
    elif isinstance(whole.get("@graph"), list) and "spdx.org" in str(whole.get("@context", "")):
        graph = _objects(whole["@graph"], path)
        found = (_of_three(each, path) for each in graph if each.get("type") == "software_Package")
    else:
        raise _no_spdx(path, whole.get("spdxVersion", "another document"))
    yield from (package for package in found if package)


def _objects(value: object, path: Path) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise _no_spdx(path, "packages that are no list of objects")
    return value


def _of_two(each: dict[str, Any], path: Path) -> InstalledPackage | None:
    references = each.get("externalRefs", [])
    references = [one for one in references if isinstance(one, dict)] if isinstance(references, list) else []
    locators = (str(one.get("referenceLocator", "")) for one in references if one.get("referenceType") == "purl")
    return _package(each, "name", "versionInfo", next(locators, ""), each.get("licenseDeclared"), path)


def _of_three(each: dict[str, Any], path: Path) -> InstalledPackage | None:
    return _package(each, "name", "software_packageVersion", str(each.get("software_packageUrl", "")), None, path)


def _package(
    each: dict[str, Any], name: str, version: str, purl: str, licence: object, path: Path
) -> InstalledPackage | None:
    """A package without a version is what Yocto calls a recipe's source or the image itself: it is left out."""
    if not isinstance(each.get(name), str) or not isinstance(each.get(version), str) or not each[version]:
        return None
    said = licence if isinstance(licence, str) and licence not in ("NOASSERTION", "NONE") else ""
    found = InstalledPackage(
        "spdx", each[name], each[version], licence=said[:_TEXT_MAX], found=path.name, purl=purl[:_TEXT_MAX]
    )
    return checked(found)


def _no_spdx(path: Path, found: object) -> ImageError:
    what = f"'{path}' is no SPDX document that is read here"
    expected = "a document of SPDX 2.2 or 2.3 in JSON or of SPDX 3.0 in JSON-LD, or an archive of such"
    return ImageError(what, code="sbom", expected=expected, found=str(found)[:200])
