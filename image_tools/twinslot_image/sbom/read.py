"""A bill of materials in CycloneDX, read for what is needed to compare and to judge; whoever made it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, unquote

from twinslot.core.errors import ImageError

COMPONENTS_MAX: Final = 200_000
_DEPTH_MAX: Final = 16  # components within each other
_PURL: Final = re.compile(
    r"pkg:(?P<kind>[A-Za-z0-9.+-]+)/(?P<path>[^@?#]+)(?:@(?P<version>[^?#]*))?(?:\?(?P<more>[^#]*))?"
)


class Purl(NamedTuple):
    """The parts of a package URL that are compared."""

    kind: str
    namespace: str
    name: str
    version: str
    distribution: str
    upstream: str


@dataclass(frozen=True, slots=True)
class Component:
    """One component.

    Attributes:
        reference: Its `bom-ref`; empty without one.
        name: As it is called.
        version: Empty where nobody says.
        purl: Its package URL; empty.
        kind: Type of the package URL, such as `deb`; empty.
        namespace: Its namespace, such as `debian`; empty.
        distribution: Such as `debian-13`; empty.
        source: Name and version of the source package; the component's own where nothing else is said.
    """

    reference: str
    name: str
    version: str
    purl: str = ""
    kind: str = ""
    namespace: str = ""
    distribution: str = ""
    source: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class Bill:
    """The whole.

    Attributes:
        serial: UUID of its serial number; empty.
        reference: `bom-ref` of what it is of; empty.
        name: Of what it is of.
        version: Of what it is of; empty.
        digests: SHA-256 of what it is of, in hex; none where nobody says.
        components: Packages, libraries and others; files are left out.
    """

    serial: str
    reference: str
    name: str
    version: str
    digests: tuple[str, ...]
    components: tuple[Component, ...]


def read_bill(data: bytes, name: object) -> Bill:
    """Read one.

    Args:
        data: The document.
        name: Of it, for errors.

    Raises:
        ImageError: `image.sbom`: no CycloneDX in JSON, or malformed.
    """
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError) as e:
        raise _no_bill(name, str(e).partition(":")[0]) from e
    if not isinstance(whole, dict) or whole.get("bomFormat") != "CycloneDX":
        raise _no_bill(name, whole.get("bomFormat", "another document") if isinstance(whole, dict) else "no object")
    metadata = whole.get("metadata")
    about = metadata.get("component") if isinstance(metadata, dict) else None
    about = about if isinstance(about, dict) else {}
    hashes = about.get("hashes")
    digests = [
        str(each.get("content", "")).lower()
        for each in (hashes if isinstance(hashes, list) else [])
        if isinstance(each, dict) and each.get("alg") == "SHA-256"
    ]
    components = []
    for each in _flat(whole.get("components"), name, 0):
        components.append(each)
        if len(components) > COMPONENTS_MAX:
            raise _no_bill(name, f"more than {COMPONENTS_MAX} components")
    serial = str(whole.get("serialNumber", "")).removeprefix("urn:uuid:")
    own = (_text(about.get("bom-ref")), _text(about.get("name")), _text(about.get("version")))
    return Bill(serial, *own, tuple(digests), tuple(components))


def _flat(components: object, name: object, depth: int) -> Iterator[Component]:
    if components is None:
        return
    if depth > _DEPTH_MAX or not isinstance(components, list) or not all(isinstance(each, dict) for each in components):
        raise _no_bill(name, "components that are no list of objects")
    for each in components:
        if each.get("type") != "file":
            yield _component(each)
        yield from _flat(each.get("components"), name, depth + 1)


def _component(each: dict[str, Any]) -> Component:
    name, version, text = _text(each.get("name")), _text(each.get("version")), _text(each.get("purl"))
    purl = split_purl(text) or Purl("", "", name, version, "", "")
    source, _, source_version = purl.upstream.partition("@")
    return Component(
        reference=_text(each.get("bom-ref")),
        name=name,
        version=version,
        purl=text,
        kind=purl.kind,
        namespace=purl.namespace,
        distribution=purl.distribution,
        source=(source or name, source_version or version),
    )


def split_purl(text: str) -> Purl | None:
    """The parts of a package URL (purl specification, "How to parse"); None: it is none."""
    found = _PURL.match(text)
    if not found:
        return None
    *namespace, name = found["path"].strip("/").split("/")
    more = dict(parse_qsl(found["more"] or ""))
    parts = (found["kind"].lower(), unquote("/".join(namespace)), unquote(name), unquote(found["version"] or ""))
    return Purl(*parts, more.get("distro", ""), more.get("upstream", ""))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _no_bill(name: object, found: object) -> ImageError:
    what = f"'{name}' is no bill of materials that is read here"
    return ImageError(what, code="sbom", expected="a document of CycloneDX in JSON", found=str(found)[:120])
