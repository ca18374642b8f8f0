"""Signed images as what a slot must then hold: the SHA-256 of each 64 KiB of its partitions, tails included."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from twinslot.core.manifest import Manifest, Payload, parse_manifest
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
        checks: Names of the health checks that it requires.
        units: By payload: the digest of each unit of a partition that holds it.
        digests: By payload: what the manifest says, 64 hex digits.
    """

    name: str
    sequence: int
    well: bool
    checks: tuple[str, ...]
    units: Mapping[str, tuple[bytes, ...]]
    digests: Mapping[str, str]


def expected(image: Image, sizes: Mapping[str, int]) -> Signed:
    """From the plain lists in the image.

    Args:
        image: A signed image.
        sizes: Bytes of the partition of each payload.

    Raises:
        LabError: The image's groups are not what the lab compares by, or its payloads are not those of the partitions.
    """
    manifest, lists = _front(image.path)
    if set(lists) != set(sizes):
        raise LabError(f"'{image.path}' has the payloads {sorted(lists)}, a slot has partitions for {sorted(sizes)}")
    units = {
        payload.name: _units(image, payload, lists[payload.name], sizes[payload.name]) for payload in manifest.payloads
    }
    digests = {payload.name: payload.digest for payload in manifest.payloads}
    release, well = manifest.release, image.release.motor == "ready"
    return Signed(release.name, release.sequence, well, manifest.checks, units, digests)


def _units(image: Image, payload: Payload, plain: bytes, size: int) -> tuple[bytes, ...]:
    """One partition that holds the payload."""
    if payload.group_size != UNIT or hashlib.sha256(plain).hexdigest() != payload.plain_list:
        raise LabError(f"'{image.path}' has no plain list of 64 KiB groups")
    units = [plain[at : at + 32] for at in range(0, len(plain), 32)]
    rest = payload.size % UNIT
    if rest:  # the list covers the payload; the partition goes on with zeros
        with image.content(payload.name).open("rb") as content:
            content.seek(payload.size - rest)
            last = content.read()
        if hashlib.sha256(last).digest() != units[-1]:
            raise LabError(f"'{image.content(payload.name)}' is not what '{image.path}' signs")
        units[-1] = hashlib.sha256(last.ljust(UNIT, b"\0")).digest()
    return (*units, *[NOTHING] * (size // UNIT - len(units)))


def _front(path: Path) -> tuple[Manifest, dict[str, bytes]]:
    """Manifest, and the plain list of each payload; nothing behind them is read."""
    reader, manifest, lists = Reader(), None, dict[str, bytes]()
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK):
            events = list(reader.feed(chunk))
            for event in events:
                if isinstance(event, Head):
                    manifest = parse_manifest(event.manifest)
                    events += list(reader.proceed(manifest))
                elif isinstance(event, PlainList):
                    lists[event.payload.name] = event.data
            if manifest is not None and len(lists) == len(manifest.payloads):
                return manifest, lists
    raise LabError(f"'{path}' ends before its plain lists")
