"""The attachments of an image, each with the digest that the manifest has; who signed is not checked."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from twinslot.core.attachments import check_attachment
from twinslot.core.manifest import Manifest, parse_manifest
from twinslot.image.layout import Layout, layout
from twinslot.image.units import Opener, PlainUnits, UnitKind, UnitPlace
from twinslot_image.compose import Front, read_front
from twinslot_image.recipients import Unlock, units_of


def read_attachments(path: Path, unlock: Unlock) -> dict[str, bytes]:
    """Every attachment, by name.

    Args:
        path: The image.
        unlock: Opens the envelope of an encrypted image.

    Raises:
        ImageError: The image is damaged.
    """
    with path.open("rb") as file:
        front = read_front(file)
        manifest = parse_manifest(front.manifest)
        return {each.name: read_attachment(file, front, manifest, each.name, unlock) for each in manifest.attachments}


def read_attachment(file: BinaryIO, front: Front, manifest: Manifest, name: str, unlock: Unlock) -> bytes:
    """One attachment of an open image; the name must be one of the manifest's."""
    found = {attachment.name: attachment for attachment in manifest.attachments}
    where = layout(front.header, manifest)
    opener = _opener(file, manifest, where, unlock)
    span, place = where.attachments[name], UnitPlace(UnitKind.ATTACHMENT, [*found].index(name))
    file.seek(span.offset)
    return check_attachment(found[name], opener.open(place, file.read(span.length)))


def _opener(file: BinaryIO, manifest: Manifest, where: Layout, unlock: Unlock) -> Opener:
    if not manifest.encrypted:
        return PlainUnits()
    file.seek(where.envelope.offset)
    return units_of(unlock(file.read(where.envelope.length)))
