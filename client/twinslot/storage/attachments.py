"""Documents that came with the releases of both slots, kept on the data partition to be read without the image.

Of each slot there is the release's manifest and those of its attachments that fit. The manifest is written last and
goes first: without it nothing of a slot counts, so a power cut leaves a slot's documents whole or none. Whoever reads
one compares it with the manifest's digest, and the manifest with the digest that the record has of the slot (S2).

A later client's files are left alone, since the manifest is kept as it came (S18).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from twinslot.core.bounds import MANIFEST_MAX
from twinslot.core.errors import DeviceError
from twinslot.core.manifest import Attachment
from twinslot.core.model import SlotName
from twinslot.storage.sync import make_directory, sync_directory, write_whole

log = logging.getLogger(__name__)

DIRECTORY: Final = "attachments"  # below the record's
_MANIFEST: Final = "~manifest"
FOR_ALL, FOR_ROOT = 0o644, 0o600  # an image in plain says it to everybody; an encrypted one to those with a key


class AttachmentStore:
    """A directory of documents: `SLOT.NAME`, and `SLOT~manifest`. What cannot be stored is only missing.

    Args:
        directory: Made when the first one is saved.
        most: Bytes of attachments that are kept of one release; 0: none, not even the manifest.
    """

    def __init__(self, directory: Path, most: int = 0) -> None:
        self._directory, self._most = directory, most

    def fitting(self, attachments: Iterable[Attachment]) -> tuple[Attachment, ...]:
        """Those that are kept: the smaller first, as long as there is room."""
        room, found = self._most, []
        for each in sorted(attachments, key=lambda each: (each.size, each.name)):
            if each.size <= room:
                room -= each.size
                found.append(each)
        return tuple(sorted(found, key=lambda each: each.name))

    # keeps: REQ-IMG-30
    def drop(self, slot: SlotName) -> None:
        """Forget a slot's documents, durably: it is about to change."""
        try:
            if not self._directory.is_dir():
                return
            self._path(slot, _MANIFEST).unlink(missing_ok=True)
            sync_directory(self._directory)
            for path in self._directory.glob(f"{slot}.*"):
                path.unlink(missing_ok=True)
        except OSError as e:
            log.warning("the attachments of slot '%s' cannot be removed: %s", slot, e.strerror)

    def save(self, slot: SlotName, name: str, data: bytes, mode: int) -> None:
        """Keep an attachment; it counts once the manifest is there."""
        self._write(self._path(slot, f".{name}"), data, mode)

    def complete(self, slot: SlotName, manifest: bytes) -> None:
        """The slot holds the release of this manifest now."""
        if self._most:
            self._write(self._path(slot, _MANIFEST), manifest, FOR_ALL)

    def manifest(self, slot: SlotName, digest: str) -> bytes | None:
        """The manifest of what a slot holds; None: it is not kept, or of another release.

        Args:
            slot: Which.
            digest: SHA-256 that the record has of it.

        Raises:
            DeviceError: `device.attachments`: it cannot be read.
        """
        data = self._read(self._path(slot, _MANIFEST), MANIFEST_MAX)
        return data if data is not None and hashlib.sha256(data).hexdigest() == digest else None

    def attachment(self, slot: SlotName, attachment: Attachment) -> bytes | None:
        """One attachment as it was signed; None: it is not kept, or damaged.

        Raises:
            DeviceError: `device.attachments`: it cannot be read.
        """
        data = self._read(self._path(slot, f".{attachment.name}"), attachment.size)
        return data if data is not None and hashlib.sha256(data).hexdigest() == attachment.digest else None

    def has(self, slot: SlotName, attachment: Attachment) -> bool:
        """Whether something of its size is kept; `attachment` compares."""
        try:
            return self._path(slot, f".{attachment.name}").stat().st_size == attachment.size
        except OSError:
            return False

    def _path(self, slot: SlotName, what: str) -> Path:
        """Names of attachments have no separators and no '~' (docs/image-format.md section 5.2)."""
        return self._directory / f"{slot}{what}"

    def _write(self, path: Path, data: bytes, mode: int) -> None:
        try:
            make_directory(self._directory, 0o755)
            write_whole(path, data, mode)
        except OSError as e:
            log.warning("'%s' cannot be stored: %s", path, e.strerror)

    def _read(self, path: Path, most: int) -> bytes | None:
        try:
            with path.open("rb") as file:
                data = file.read(most + 1)
        except FileNotFoundError:
            return None
        except OSError as e:
            hint = "those of an encrypted image are for root alone; use 'sudo'"
            what = f"'{path}', which came with the release, cannot be read"
            raise DeviceError(what, code="attachments", found=e.strerror, hint=hint) from e
        return data if len(data) <= most else None
