"""Known vulnerabilities in OSV (Open Source Vulnerability format), given as files; nobody is asked over a network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from twinslot_image.gate.documents import no_document, objects, read_json, read_named, texts
from twinslot_image.gate.severity import Severity, base_score, severity_of, severity_of_score
from twinslot_image.gate.versions import is_before
from twinslot_image.sbom.read import Component, split_purl

# Ecosystems of OSV and the types of their package URLs, with the namespace where it is one distribution's.
_ECOSYSTEMS: Final = {
    "Debian": ("deb", "debian"),
    "Ubuntu": ("deb", "ubuntu"),
    "Alpine": ("apk", "alpine"),
    "PyPI": ("pypi", ""),
    "Red Hat": ("rpm", "redhat"),
    "Rocky Linux": ("rpm", "rocky"),
    "AlmaLinux": ("rpm", "almalinux"),
    "openSUSE": ("rpm", "opensuse"),
    "SUSE": ("rpm", "suse"),
}


@dataclass(frozen=True, slots=True)
class Vulnerability:
    """One entry.

    Attributes:
        names: Its id, and what else it is called.
        severity: None: nobody says, so it counts as the worst.
        affected: Packages and versions, as OSV has them.
    """

    names: tuple[str, ...]
    severity: Severity | None
    affected: tuple[dict[str, Any], ...]

    def concerns(self, component: Component) -> bool:
        """Whether it is in this component, as far as its version tells; what cannot be told counts."""
        return any(_is_named(entry, component) and _is_in(entry, component) for entry in self.affected)


def read_vulnerabilities(paths: tuple[Path, ...]) -> list[Vulnerability]:
    """Every entry that was not withdrawn.

    Raises:
        ImageError: `image.evidence`.
    """
    files = [file for path in paths for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])]
    return [each for file in files for each in parse_vulnerabilities(read_named(file), file)]


def parse_vulnerabilities(data: bytes, name: object) -> list[Vulnerability]:
    """Every entry of one file that was not withdrawn.

    Args:
        data: The file.
        name: Of it, for errors.

    Raises:
        ImageError: `image.evidence`.
    """
    return [_entry(each, name) for each in _entries(data, name) if not each.get("withdrawn")]


def _entries(data: bytes, name: object) -> Iterator[dict[str, Any]]:
    """One, or as OSV's service answers, a list of them."""
    whole = read_json(data, name)
    if "vulns" in whole:
        yield from objects(whole["vulns"], name, "vulns")
    elif isinstance(whole.get("id"), str):
        yield whole
    else:
        raise no_document(name, "OSV: 'id', or 'vulns'", ", ".join(sorted(whole))[:80] or "nothing")


def _entry(each: dict[str, Any], name: object) -> Vulnerability:
    if not isinstance(each.get("id"), str):
        raise no_document(name, "OSV: an 'id' for each entry", each.get("id"))
    names = (each["id"], *texts(each.get("aliases")), *texts(each.get("upstream")))
    affected = tuple(objects(each.get("affected"), name, "affected"))
    return Vulnerability(tuple(dict.fromkeys(names)), _severity(each, affected, name), affected)


def _severity(each: dict[str, Any], affected: tuple[dict[str, Any], ...], name: object) -> Severity | None:
    """The worst that is said."""
    rated = [each, *affected]
    vectors = [one.get("score") for of in rated for one in objects(of.get("severity"), name, "severity")]
    scores = [score for vector in vectors if isinstance(vector, str) and (score := base_score(vector)) is not None]
    specific = [of.get("database_specific") for of in rated]
    words = [severity_of(one.get("severity")) for one in specific if isinstance(one, dict)]
    found = [severity_of_score(score) for score in scores] + [word for word in words if word]
    return max(found, key=lambda severity: severity.order) if found else None


def _is_named(entry: dict[str, Any], component: Component) -> bool:
    package = entry.get("package")
    if not isinstance(package, dict):
        return False
    ecosystem, _, release = str(package.get("ecosystem", "")).partition(":")
    kind, namespace = _ECOSYSTEMS.get(ecosystem, ("", ""))
    name = str(package.get("name", ""))
    if isinstance(package.get("purl"), str) and (purl := split_purl(package["purl"])):
        kind, namespace, name = purl.kind, purl.namespace, purl.name
    if component.kind and kind and kind != component.kind:
        return False
    if namespace and component.namespace and namespace != component.namespace:
        return False
    if release and component.distribution and not component.distribution.endswith(f"-{release.removeprefix('v')}"):
        return False
    return name in (component.name, component.source[0])


def _is_in(entry: dict[str, Any], component: Component) -> bool:
    version = component.version
    if entry.get("package", {}).get("name") == component.source[0] != component.name and component.source[1]:
        version = component.source[1]
    versions = texts(entry.get("versions"))
    ranges = entry.get("ranges")
    told = [one for one in ranges if isinstance(one, dict)] if isinstance(ranges, list) else []
    ordered = [one for one in told if one.get("type") in ("ECOSYSTEM", "SEMVER")]
    if not version or version in versions or not (versions or ordered):
        return True
    return any(_is_between(one, version) for one in ordered)


def _is_between(one: dict[str, Any], version: str) -> bool:
    inside = False
    events = one.get("events")
    for event in events if isinstance(events, list) else []:
        if not isinstance(event, dict):
            continue
        if isinstance(start := event.get("introduced"), str) and (start == "0" or not is_before(version, start)):
            inside = True
        if isinstance(end := event.get("fixed"), str) and not is_before(version, end):
            inside = False
        if isinstance(last := event.get("last_affected"), str) and is_before(last, version):
            inside = False
    return inside
