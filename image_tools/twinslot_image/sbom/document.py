"""An inventory as CycloneDX 1.6 (ECMA-424). The only importer of cyclonedx and packageurl.

The same inventory gives the same bytes: no clock, a serial number that is a digest of the content.
"""

from __future__ import annotations

import json
import uuid
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from twinslot.core.text import printable
from twinslot_image import PROGRAM, __version__
from twinslot_image.sbom.inventory import Inventory, Program
from twinslot_image.sbom.packages import InstalledPackage

if TYPE_CHECKING:
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component
    from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
    from packageurl import PackageURL

_OS_KINDS: Final = ("deb", "apk", "rpm", "opkg")
_ROOT: Final = "system"  # bom-ref of what the bill is of
_LICENCE_MAX: Final = 256  # characters


@dataclass(frozen=True, slots=True)
class BillSubject:
    """What the bill is of.

    Attributes:
        name, version: For people.
        digests: SHA-256 of what was looked into, by name of the payload or file: what binds the bill to an image.
        moment: When it was made, UTC; None: not said.
    """

    name: str
    version: str
    digests: Mapping[str, str] = field(default_factory=dict)
    moment: datetime | None = None


def make_sbom(inventory: Inventory, subject: BillSubject, others: Iterable[InstalledPackage] = ()) -> bytes:
    """The bill as JSON, ending with a line end.

    Args:
        inventory: What is in the tree.
        subject: What it is of.
        others: Packages that another bill names; those that the tree names too are left out.
    """
    from cyclonedx.output.json import JsonV1Dot6

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of an empty tree it says that nothing depends on anything
        text = JsonV1Dot6(_bill(inventory, subject, tuple(others))).output_as_string()
    whole: dict[str, Any] = json.loads(text)
    whole.pop("serialNumber", None)
    whole["metadata"].pop("timestamp", None)
    whole["metadata"]["tools"] = {"components": [{"type": "application", "name": PROGRAM, "version": __version__}]}
    body = json.dumps(whole, sort_keys=True, separators=(",", ":"))
    whole["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, body)}"
    if subject.moment is not None:
        whole["metadata"]["timestamp"] = subject.moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    return (_one_line_each(whole) + "\n").encode()


def _one_line_each(whole: dict[str, Any]) -> str:
    """A line for each component and dependency: a fifth of the size of an indented one, and lines can be compared."""
    parts = []
    for key in sorted(whole):
        value = whole[key]
        if isinstance(value, list):
            rows = ",\n".join(json.dumps(each, sort_keys=True, separators=(",", ":")) for each in value)
            parts.append(f'"{key}":[\n{rows}\n]')
        else:
            parts.append(f'"{key}":{json.dumps(value, sort_keys=True, separators=(",", ":"))}')
    return "{" + ",\n".join(parts) + "}"


def _bill(inventory: Inventory, subject: BillSubject, others: tuple[InstalledPackage, ...]) -> Bom:
    from cyclonedx.model.bom import Bom, BomMetaData

    packages = {each.reference: each for each in (*inventory.packages, *_unknown(inventory, others))}
    components = {reference: _package(each, inventory) for reference, each in sorted(packages.items())}
    programs = {each.path: _program(each) for each in inventory.programs}
    system = _system(inventory, subject)
    bill = Bom(metadata=BomMetaData(component=system), components=[*components.values(), *programs.values()])
    tops = set(components) - {below for belows in (_needs(packages)).values() for below in belows}
    strays = [programs[each.path] for each in inventory.programs if not each.owner]
    bill.register_dependency(system, [*(components[reference] for reference in sorted(tops or components)), *strays])
    for reference, needed in _needs(packages).items():
        bill.register_dependency(components[reference], [components[each] for each in needed])
    for path, used in inventory.uses.items():
        bill.register_dependency(programs[path], [programs[each] for each in used if each in programs])
    return bill


def _unknown(inventory: Inventory, others: tuple[InstalledPackage, ...]) -> Iterator[InstalledPackage]:
    known = {(each.name, each.version) for each in inventory.packages}
    return (each for each in others if (each.name, each.version) not in known)


def _needs(packages: Mapping[str, InstalledPackage]) -> dict[str, list[str]]:
    """References of what each package needs, as far as it is there."""
    by_name: dict[tuple[str, str], list[str]] = defaultdict(list)
    for reference, package in packages.items():
        family = package.kind == "pypi"
        for name in (package.name, *package.provides):
            by_name[str(family), name].append(reference)
    found = {}
    for reference, package in packages.items():
        below = {each for name in package.needs for each in by_name.get((str(package.kind == "pypi"), name), ())}
        found[reference] = sorted(below - {reference})
    return found


def _system(inventory: Inventory, subject: BillSubject) -> Component:
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.component import Component, ComponentType

    properties = [Property(name=f"twinslot:payload:{name}", value=digest) for name, digest in subject.digests.items()]
    properties += [
        Property(name=f"twinslot:os:{key.lower()}", value=printable(inventory.os[key])[:256])
        for key in ("ID", "VERSION_ID", "VERSION_CODENAME", "PRETTY_NAME")
        if inventory.os.get(key)
    ]
    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in sorted(set(subject.digests.values()))]
    return Component(
        type=ComponentType.OPERATING_SYSTEM,
        name=subject.name,
        version=subject.version or None,
        bom_ref=_ROOT,
        hashes=hashes,
        properties=properties,
    )


def _package(package: InstalledPackage, inventory: Inventory) -> Component:
    from cyclonedx.model import Property
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.contact import OrganizationalEntity

    values = {
        "twinslot:source": " ".join(part for part in package.source if part),
        "twinslot:found": package.found,
        "twinslot:package": inventory.owners.get(package.reference, ""),
    }
    return Component(
        type=ComponentType.LIBRARY,
        name=_shown(package.name),
        version=_shown(package.version),
        bom_ref=package.reference,
        supplier=OrganizationalEntity(name=_shown(package.supplier)) if package.supplier else None,
        licenses=_licences(package.licence),
        purl=_purl(package, inventory.os),
        properties=[Property(name=name, value=_shown(value)) for name, value in values.items() if value],
    )


def _licences(text: str) -> list[DisjunctiveLicense | LicenseExpression]:
    """An SPDX id or expression as such, and any other words as a name."""
    from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
    from cyclonedx.spdx import fixup_id, is_expression

    text = _shown(text)[:_LICENCE_MAX].strip()
    if not text:
        return []
    if known := fixup_id(text):
        return [DisjunctiveLicense(id=known)]
    return [LicenseExpression(text) if is_expression(text) else DisjunctiveLicense(name=text)]


def _purl(package: InstalledPackage, os: Mapping[str, str]) -> PackageURL | None:
    from packageurl import PackageURL

    if package.kind == "spdx":
        try:
            return PackageURL.from_string(package.purl) if package.purl else None
        except ValueError:
            return None
    qualifiers = {}
    if package.kind in _OS_KINDS:
        distribution = "-".join(part for part in (os.get("ID", ""), os.get("VERSION_ID", "")) if part)
        qualifiers = {"arch": package.architecture, "distro": _shown(distribution)}
        if package.source[0] and package.source != (package.name, package.version):
            qualifiers["upstream"] = "@".join(part for part in package.source if part)
    qualifiers = {key: value for key, value in qualifiers.items() if value}
    namespace = _shown(os.get("ID", "")) or None if package.kind in _OS_KINDS else None
    return PackageURL(package.kind, namespace, package.name, package.version, qualifiers or None)


def _program(program: Program) -> Component:
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.component import Component, ComponentType

    values = {
        "twinslot:build-id": program.links.build_id,
        "twinslot:soname": program.links.soname,
        "twinslot:package": program.owner,
    }
    return Component(
        type=ComponentType.FILE,
        name=f"/{_shown(program.path)}",
        bom_ref=f"file:/{_shown(program.path)}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=program.digest)],
        properties=[Property(name=name, value=_shown(value)) for name, value in values.items() if value],
    )


def _shown(text: str) -> str:
    """What JSON can hold: bytes that are no UTF-8 as escapes."""
    return printable(text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))
