"""What is remembered of the slots' content under the state directory: plain lists, and a first group that came early.

A list only says where a group may be found. Whoever takes one from there hashes it first, so a list that is stale,
damaged or forged costs bytes and never content (S2). It is dropped, durably, before the first byte of its slot changes
and saved again when the slot is complete: a slot without a list is one that nobody knows, such as one whose install was
cut short.

The first group is written last (S5), so an install that is cut short would have to fetch it again: it is kept here
meanwhile.
"""

from __future__ import annotations

import hashlib
import logging
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from twinslot.core.bounds import DIGEST_SIZE, GROUP_SIZE_MAX, GROUPS_MAX
from twinslot.core.model import SlotName
from twinslot.storage.sync import sync_directory

log = logging.getLogger(__name__)

_HEAD: Final = struct.Struct(">8sQI32s")  # magic, payload's size in bytes, group size in bytes, payload's SHA-256
_MAGIC: Final = b"TWLIST\x00\x01"
_LARGEST: Final = _HEAD.size + (GROUPS_MAX + 1) * DIGEST_SIZE  # bytes of a file: head, list, SHA-256 of both


@dataclass(frozen=True, slots=True)
class KnownList:
    """What one partition is said to hold.

    Attributes:
        size: Bytes of the payload, from the start of the partition.
        group_size: Bytes; the last group may be shorter.
        digest: SHA-256 of the payload, 64 hex digits.
        data: Its plain list: 32 bytes of SHA-256 for each group.
    """

    size: int
    group_size: int
    digest: str
    data: bytes = field(repr=False)

    @property
    def groups(self) -> int:
        """How many groups."""
        return len(self.data) // DIGEST_SIZE

    def group_digest(self, index: int) -> bytes:
        """32 bytes; empty for a group that there is not."""
        return self.data[index * DIGEST_SIZE : (index + 1) * DIGEST_SIZE]

    def group_length(self, index: int) -> int:
        """Bytes of one group."""
        return min(self.group_size, self.size - index * self.group_size)


class ListStore:
    """A directory of lists: `SLOT.PAYLOAD`. A file that cannot be read or written is only a list that is missing.

    Args:
        directory: Made when the first list is saved.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self, slot: SlotName, payload: str) -> KnownList | None:
        """The list, or None: there is none, or it is damaged."""
        try:
            with self._path(slot, payload).open("rb") as file:
                return _parse(file.read(_LARGEST + 1))
        except OSError:
            return None

    def save(self, slot: SlotName, payload: str, known: KnownList) -> None:
        """Keep a list: whole or not at all, also through a power cut. The early first group goes."""
        self._write(self._path(slot, payload), _build(known))
        self._remove(self._path(slot, payload, "~first"))

    def drop(self, slot: SlotName, payload: str) -> None:
        """Forget a list, durably."""
        self._remove(self._path(slot, payload))

    def load_first(self, slot: SlotName, payload: str) -> bytes:
        """A first group that came in an install which was cut short; not checked. Empty: there is none."""
        try:
            with self._path(slot, payload, "~first").open("rb") as file:
                return file.read(GROUP_SIZE_MAX)
        except OSError:
            return b""

    def save_first(self, slot: SlotName, payload: str, data: bytes) -> None:
        """Keep the first group until the install is complete."""
        self._write(self._path(slot, payload, "~first"), data)

    def _write(self, path: Path, data: bytes) -> None:
        """Whole or not at all (rename(2) after fsync(2))."""
        fresh = path.with_name(path.name + "~new")
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            with open(fresh, "wb", opener=_for_root_alone) as file:
                os.fchmod(file.fileno(), 0o600)  # one that a power cut left may be an older client's
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            fresh.rename(path)
            sync_directory(self._directory)
        except OSError as e:
            log.warning("the list of groups '%s' cannot be stored: %s", path.name, e)

    def _remove(self, path: Path) -> None:
        try:
            if path.exists():
                path.unlink()
                sync_directory(self._directory)
        except OSError as e:
            log.warning("the list of groups '%s' cannot be removed: %s", path.name, e)

    def _path(self, slot: SlotName, payload: str, what: str = "") -> Path:
        """Payload names come from the configuration, without separators (S11) and without '~'."""
        return self._directory / f"{slot}.{payload}{what}"


def _for_root_alone(path: str, flags: int) -> int:
    """What a slot holds is nobody else's to know: digests of groups that can be guessed tell the content.

    Raises:
        OSError: As the system says it; the caller names what was meant.
    """
    return os.open(path, flags, 0o600)


def _build(known: KnownList) -> bytes:
    data = _HEAD.pack(_MAGIC, known.size, known.group_size, bytes.fromhex(known.digest)) + known.data
    return data + hashlib.sha256(data).digest()


def _parse(data: bytes) -> KnownList | None:
    if not _HEAD.size + DIGEST_SIZE <= len(data) <= _LARGEST:
        return None
    body, checksum = data[:-DIGEST_SIZE], data[-DIGEST_SIZE:]
    magic, size, group_size, digest = _HEAD.unpack_from(body)
    if magic != _MAGIC or hashlib.sha256(body).digest() != checksum or not 0 < group_size <= GROUP_SIZE_MAX:
        return None
    known = KnownList(size, group_size, digest.hex(), body[_HEAD.size :])
    return known if len(known.data) == -(-size // group_size) * DIGEST_SIZE else None
