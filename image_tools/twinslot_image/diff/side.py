"""One of two releases: an image, a root file system (image, tar archive), or a directory.

Nothing is unpacked on disk but the payloads of an image, into the system's directory for temporary files.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from twinslot.core.attachments import SBOM
from twinslot.core.errors import ImageError, RefusedError
from twinslot.core.manifest import parse_manifest
from twinslot_image.attachments import read_attachments
from twinslot_image.compose import read_front
from twinslot_image.evidence_file import read_evidence
from twinslot_image.inspect import describe_image
from twinslot_image.patch_sources import is_image, unpack_image
from twinslot_image.progress import ProgressLine
from twinslot_image.recipients import Unlock
from twinslot_image.replacement import workspace
from twinslot_image.sbom.document import BillSubject, make_sbom
from twinslot_image.sbom.files import EntryKind, RootFiles, open_root
from twinslot_image.sbom.inventory import take_inventory
from twinslot_image.sbom.read import Bill, read_bill

_BLOCK: Final = 1024 * 1024  # bytes
_ALL: Final = ("*",)  # whose libraries need not be there: a diff judges nothing
_FACTS: Final = (
    "product",
    "release",
    "sequence",
    "epoch",
    "type",
    "compatible",
    "hardware",
    "variants",
    "checks",
    "requires",
    "source",
    "change",
    "built",
    "expires",
)


@dataclass(frozen=True, slots=True)
class FileState:
    """What stands under one path: its kind, bytes, and SHA-256 or where a link leads."""

    kind: str
    size: int
    content: str


@dataclass(frozen=True, slots=True)
class DiffSide:
    """A release.

    Attributes:
        name: As it was given.
        facts: What its manifest says; empty of what is no image.
        sizes: Bytes by what has them.
        files: By path; of an image with the payload's name before it.
        bills: Of materials, attached or given; or made from its package databases.
        listed: Where these are from.
    """

    name: str
    facts: Mapping[str, Any]
    sizes: Mapping[str, int]
    files: Mapping[str, FileState]
    bills: tuple[Bill, ...]
    listed: str


def read_side(path: Path, bill: Path | None, unlock: Unlock) -> DiffSide:
    """Read a release.

    Args:
        path: What it is.
        bill: Its bill of materials, if not what the image has attached.
        unlock: Opens an encrypted image.

    Raises:
        ImageError: It is none of what is read, or damaged.
        RefusedError: It is encrypted, and no key opens it.
        OSError: It cannot be read.
    """
    given = (read_bill(read_evidence(bill), bill),) if bill else ()
    if path.is_dir() or not is_image(path):
        with open_root(path) as root:
            return DiffSide(str(path), {}, {}, _files(root, ""), *_bills(given, bill, [root]))
    return _image(path, given, bill, unlock)


def _image(path: Path, given: tuple[Bill, ...], bill: Path | None, unlock: Unlock) -> DiffSide:
    with path.open("rb") as file:
        front = read_front(file)
    manifest, described = parse_manifest(front.manifest), describe_image(front)
    sizes = {f"payload {payload.name}": payload.size for payload in manifest.payloads}
    sizes |= {f"payload {payload.name}, as stored": payload.stored_size for payload in manifest.payloads}
    sizes |= {f"attachment {each.name}": each.size for each in manifest.attachments} | {"image": described["size"]}
    facts = {key: described[key] for key in _FACTS}
    attached = [each.name for each in manifest.attachments if each.type == SBOM]
    if not given and attached:
        documents = read_attachments(path, unlock)
        given = tuple(read_bill(documents[name], name) for name in attached)
        bill = Path(", ".join(attached))
    with _roots(path, unlock) as roots:
        files: dict[str, FileState] = {}
        for payload in manifest.payloads:
            root = roots[payload.name]
            whole = {payload.name: FileState("payload", payload.size, payload.digest)}
            files |= _files(root, f"{payload.name}:/") if root else whole
        return DiffSide(str(path), facts, sizes, files, *_bills(given, bill, [root for root in roots.values() if root]))


@contextmanager
def _roots(path: Path, unlock: Unlock) -> Iterator[dict[str, RootFiles | None]]:
    """The file system of each payload; None where it has none that is read."""
    with workspace(Path(tempfile.gettempdir())) as place, ExitStack() as stack:
        with ProgressLine(f"reading {path.name}", path.stat().st_size) as progress:
            contents = unpack_image(path, place, progress.update, unlock)
        found: dict[str, RootFiles | None] = {}
        for name, content in contents.items():
            try:
                found[name] = stack.enter_context(open_root(content.file))
            except (ImageError, RefusedError):
                found[name] = None
        yield found


def _files(root: RootFiles, before: str) -> dict[str, FileState]:
    found = {}
    for entry in root:
        if entry.kind is EntryKind.FILE:
            digest = hashlib.sha256()
            with entry.opening() as file:
                for block in iter(lambda: file.read(_BLOCK), b""):
                    digest.update(block)
            found[before + entry.path] = FileState("file", entry.size, digest.hexdigest())
        elif entry.kind is not EntryKind.DIRECTORY:
            found[before + entry.path] = FileState(str(entry.kind), 0, entry.target)
    return found


def _bills(given: tuple[Bill, ...], where: Path | None, roots: Iterable[RootFiles]) -> tuple[tuple[Bill, ...], str]:
    """What was given, or a bill of each tree; a tree without a package database has none."""
    if given:
        return given, str(where)
    found = []
    for root in roots:
        inventory = take_inventory(root, _ALL)
        if inventory.packages:
            found.append(read_bill(make_sbom(inventory, BillSubject(root.name, "")), root.name))
    return tuple(found), "package databases" if found else "none"
