"""Signed images as what a slot must then hold: the SHA-256 of each 64 KiB of the partition, tail included."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from twinslot.core.manifest import Manifest, parse_manifest
from twinslot.image.events import Head, PlainList
from twinslot.image.reader import Reader
from twinslot_lab.errors import LabError
from twinslot_lab.release import Image

UNIT: Final = 64 << 10  # bytes; the group size of our images (docs/image-format.md)
NOTHING: Final = hashlib.sha256(bytes(UNIT)).digest()
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Signed:
    """A release whose manifest was signed.

    Attributes:
        name: The release's name.
        sequence: Orders releases.
        well: Its health checks pass.
        units: Digest of each unit of a slot that holds it.
    """

    name: str
    sequence: int
    well: bool
    units: tuple[bytes, ...]


def expected(image: Image, slot_size: int) -> Signed:
    """From the plain list in the image.

    Raises:
        LabError: The image's groups are not what the lab compares by.
    """
    manifest, plain = _front(image.path)
    payload = manifest.payload("rootfs")
    if payload.group_size != UNIT or hashlib.sha256(plain).hexdigest() != payload.plain_list:
        raise LabError(f"'{image.path}' has no plain list of 64 KiB groups")
    units = [plain[at : at + 32] for at in range(0, len(plain), 32)]
    rest = payload.size % UNIT
    if rest:  # the list covers the payload; the partition goes on with zeros
        with image.slot.open("rb") as slot:
            slot.seek(payload.size - rest)
            last = slot.read()
        if hashlib.sha256(last).digest() != units[-1]:
            raise LabError(f"'{image.slot}' is not what '{image.path}' signs")
        units[-1] = hashlib.sha256(last.ljust(UNIT, b"\0")).digest()
    units += [NOTHING] * (slot_size // UNIT - len(units))
    well = image.release.motor == "ready"
    return Signed(manifest.release.name, manifest.release.sequence, well, tuple(units))


def _front(path: Path) -> tuple[Manifest, bytes]:
    """Manifest and plain list; nothing behind them is read."""
    reader, manifest = Reader(), None
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK):
            events = list(reader.feed(chunk))
            for event in events:
                if isinstance(event, Head):
                    manifest = parse_manifest(event.manifest)
                    events += list(reader.proceed(manifest))
                elif isinstance(event, PlainList) and manifest is not None:
                    return manifest, event.data
    raise LabError(f"'{path}' ends before its plain list")
