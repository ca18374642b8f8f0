"""dossier.toml: which files are the evidence of a release."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from twinslot.core.fields import form
from twinslot.core.manifest import RELEASE_NAME
from twinslot_image.description import read_toml
from twinslot_image.toml_table import Table

_TOP: Final = ("class", "client", "documents", "image", "pccp", "previous", "product", "release", "reproducibility")
ONE: Final = (
    "anomalies",
    "changes",
    "coverage",
    "deployment",
    "matrix",
    "previous_matrix",
    "provenance",
    "summary",
)
MANY: Final = ("approvals", "crash_states", "power_cuts", "sbom", "vulnerabilities")
PCCP_FILES: Final = ("comparison", "protocol", "rollback")
_FILES_MAX: Final = 64
_DIGEST: Final = form(r"[0-9a-f]{64}", "a SHA-256 in 64 hex digits, lower case")
_CLASS: Final = form(r"[a-z][a-z0-9-]{0,31}", "1 to 32 lower-case letters, digits and '-'")
_TEXT: Final = form(r"(?s).{1,20000}", "1 to 20000 characters", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Pccp:
    """The section of a release under a predetermined change control plan."""

    modification: str
    files: Mapping[str, Path]


@dataclass(frozen=True, slots=True)
class DossierRequest:
    """What is to be gathered.

    Attributes:
        file: Where it was said.
        product, release: For people; of an image that is given, its own count.
        change_class: Of the change; empty: not said.
        client: SHA-256 that every figure must be of; empty: that of the matrix.
        image: The image, None for a release that is none.
        previous: The image before.
        documents: Files by key.
        builds: Two builds that must be equal, first and second.
        pccp: The plan's section.
    """

    file: Path
    product: str
    release: str
    change_class: str
    client: str
    image: Path | None
    previous: Path | None
    documents: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    builds: tuple[Path, Path] | None = None
    pccp: Pccp | None = None

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Every file that is read."""
        named = [path for paths in self.documents.values() for path in paths]
        pccp = [*self.pccp.files.values()] if self.pccp else []
        return tuple(path for path in (self.file, self.image, self.previous, *named, *pccp) if path is not None)


def read_request(file: Path) -> DossierRequest:
    """The file, with paths relative to it.

    Raises:
        ImageError: `image.description`: it cannot be read, no TOML (with line and column), an unknown key (with the
            nearest), a value of another kind.
    """
    top = Table(read_toml(file), file, "", _TOP)
    image = top.path("image") if top.has("image") else None
    return DossierRequest(
        file,
        _name(top, "product", image),
        _name(top, "release", image),
        top.text("class", _CLASS, "1 to 32 lower-case letters, digits and '-'") if top.has("class") else "",
        top.text("client", _DIGEST, "a SHA-256 in 64 hex digits, lower case") if top.has("client") else "",
        image,
        top.path("previous") if top.has("previous") else None,
        _documents(top),
        _builds(top, image),
        _pccp(top),
    )


def _name(top: Table, key: str, image: Path | None) -> str:
    """What an image says itself is not said again."""
    if image and top.has(key):
        raise top.bad(key, "no such key beside 'image', which says it", top.get(key, str))
    return "" if image else top.text(key, RELEASE_NAME, "1 to 64 letters, digits, blanks and . _ + ~ -")


def _documents(top: Table) -> dict[str, tuple[Path, ...]]:
    table = top.table("documents", (*ONE, *MANY))
    if table is None:
        return {}
    found = {key: (table.path(key),) for key in ONE if table.has(key)}
    return found | {key: table.paths(key, _FILES_MAX) for key in MANY if table.has(key)}


def _builds(top: Table, image: Path | None) -> tuple[Path, Path] | None:
    table = top.table("reproducibility", ("first", "second"))
    if table is None:
        return None
    first = image if image and not table.has("first") else table.path("first")
    return first, table.path("second")


def _pccp(top: Table) -> Pccp | None:
    table = top.table("pccp", ("modification", *PCCP_FILES))
    if table is None:
        return None
    files = {key: table.path(key) for key in PCCP_FILES if table.has(key)}
    return Pccp(table.text("modification", _TEXT, "a text"), files)
