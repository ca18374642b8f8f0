"""The client's bill of materials in CycloneDX, for packages: `make install SBOM=PYTHON` writes it beside the pages.

It lists each file that was installed, with its SHA-256, the libraries that `pyproject.toml` names and the programs that
the Debian package depends on, with the lowest versions; which versions are there, only the device's own list can tell.
The same tree and the same SOURCE_DATE_EPOCH give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tomllib
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

try:
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentScope, ComponentType
    from cyclonedx.model.license import DisjunctiveLicense
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL
except ImportError as e:
    sys.exit(f"make_sbom.py: {sys.executable} has no cyclonedx-python-lib ({e}); 'make venv' gives one that has it")

CLIENT = Path(__file__).parents[1] / "client"
SKIPPED = re.compile(r"^python3($|-)")  # the interpreter and the libraries, which pyproject.toml names


def version() -> str:
    """The client's own, without importing it."""
    found = re.search(r'^__version__ = "(.+)"$', (CLIENT / "twinslot/__init__.py").read_text(), re.MULTILINE)
    assert found
    return found[1]


def files(root: Path, prefix: str, modules: str) -> Iterator[Component]:
    """What `make install` put there, byte code left out: the device may make its own."""
    places = [
        modules.strip("/") + "/twinslot",
        *(f"{prefix.strip('/')}/{name}" for name in ("bin", "lib", "share")),
        "usr/lib/twinslot",
    ]
    found = {path for place in places for path in (root / place).rglob("*") if path.is_file()}
    for path in sorted(found):
        name = str(path.relative_to(root))
        if "twinslot" in name and path.suffix not in (".pyc", ".json"):
            digest = HashType(alg=HashAlgorithm.SHA_256, content=hashlib.sha256(path.read_bytes()).hexdigest())
            yield Component(type=ComponentType.FILE, name=f"/{name}", bom_ref=f"file:/{name}", hashes=[digest])


def needed() -> Iterator[Component]:
    """Libraries and programs, each with the versions that will do."""
    for line in tomllib.loads((CLIENT / "pyproject.toml").read_text())["project"]["dependencies"]:
        name, versions = re.fullmatch(r"([\w.-]+)(.*)", line).groups()  # type: ignore[union-attr]
        yield _needed("pypi", None, name, versions)
    control = (CLIENT.parent / "debian/control").read_text()
    depends = re.search(r"^Depends:(.*?)^\S", control, re.MULTILINE | re.DOTALL)
    assert depends
    for line in re.findall(r"^ ([a-z].*?),?$", depends[1], re.MULTILINE):
        name, _, versions = line.partition(" ")
        if not SKIPPED.match(name):
            yield _needed("deb", "debian", name, versions.strip("()"))


def _needed(kind: str, namespace: str | None, name: str, versions: str) -> Component:
    return Component(
        type=ComponentType.LIBRARY if kind == "pypi" else ComponentType.APPLICATION,
        name=name,
        bom_ref=f"{kind}:{name}",
        purl=PackageURL(kind, namespace, name),
        scope=ComponentScope.REQUIRED,
        properties=[Property(name="twinslot:versions", value=versions or "any")],
    )


def bill(root: Path, prefix: str, modules: str) -> Bom:
    """The whole list."""
    installed, libraries = list(files(root, prefix, modules)), list(needed())
    content = "".join(f"{each.name} {hash_.content}\n" for each in installed for hash_ in each.hashes)
    this = Component(
        type=ComponentType.APPLICATION,
        name="twinslot",
        version=version(),
        bom_ref="twinslot",
        licenses=[DisjunctiveLicense(id="Apache-2.0")],
        purl=PackageURL("generic", None, "twinslot", version()),
    )
    told = BomMetaData(component=this, timestamp=datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC))
    bom = Bom(metadata=told, components=[*installed, *libraries])
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_URL, f"twinslot {version()}\n{content}")
    bom.register_dependency(this, libraries)
    return bom


def main() -> int:
    """Print it: `make_sbom.py ROOT PREFIX PYTHONDIR`."""
    if len(sys.argv) != 4:
        sys.exit(f"usage: {sys.argv[0]} ROOT PREFIX PYTHONDIR")
    os.environ.setdefault("SOURCE_DATE_EPOCH", str(int(datetime.now(UTC).timestamp())))
    text = JsonV1Dot6(bill(Path(sys.argv[1]), *sys.argv[2:])).output_as_string()
    whole = json.loads(text)
    whole["metadata"].pop("tools", None)  # their versions would change the bytes
    sys.stdout.write(json.dumps(whole, indent=1, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
