"""Seals what stands behind the manifest of an image, unit by unit (docs/image-format.md section 11)."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from twinslot.core.bounds import DIGEST_SIZE, ENTRY_SIZE
from twinslot.core.errors import ImageError
from twinslot.core.manifest import Manifest
from twinslot.crypto.keys import RecipientKey
from twinslot.crypto.recipients import wrap
from twinslot.crypto.units import ContentKey, Units
from twinslot.image.envelope import CONTENT_KEY_SIZE, Cipher, build_envelope
from twinslot.image.groups import check_stored_table
from twinslot.image.sealed_file import SealedHead, build_sealed_head
from twinslot.image.units import FILE_ID_SIZE, TAG_SIZE, UnitKind, UnitPlace
from twinslot.image.wire import Header


@dataclass(frozen=True, slots=True)
class Encryption:
    """For whom an image is encrypted, and how."""

    recipients: tuple[RecipientKey, ...]
    cipher: Cipher


@dataclass(frozen=True, slots=True)
class SealedBody:
    """The envelope, and what follows it; the units are made as they are asked for, once."""

    envelope: bytes
    units: Iterator[bytes] = field(repr=False)


class Chain:
    """Files one after another, read as one."""

    def __init__(self, files: Sequence[BinaryIO]) -> None:
        self._files = list(files)

    def read(self, size: int = -1) -> bytes:
        """So many bytes; fewer only at the end."""
        parts, missing = [], size
        while self._files and missing:
            part = self._files[0].read(missing)
            if not part:
                self._files.pop(0)
                continue
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)


def seal_body(manifest: Manifest, body: BinaryIO | Chain, encryption: Encryption) -> SealedBody:
    """Seal an image's attachments, lists, tables and groups for these recipients.

    Content key and image id are drawn here, and serve for this one body: no nonce comes twice under one key.

    Args:
        manifest: Of the image.
        body: What stands behind the manifest, in plain, from its first byte.
        encryption: For whom and how.

    Raises:
        ImageError: The body is not what the manifest says; `image.envelope`: no recipient, too many, or one twice.
    """
    content = ContentKey(secrets.token_bytes(CONTENT_KEY_SIZE), encryption.cipher, secrets.token_bytes(FILE_ID_SIZE))
    wrapped = [wrap(content, each) for each in encryption.recipients]
    envelope = build_envelope(content.cipher, content.image_id, wrapped)
    units = Units(content.key, content.cipher, content.image_id)
    sealed = (units.seal(place, plain) for place, plain in _plain_units(manifest, body))
    return SealedBody(envelope, sealed)


def seal_file(content: ContentKey, file: BinaryIO | Chain, size: int) -> Iterator[bytes]:
    """A file beside an encrypted image, sealed in chunks under an id that is drawn here.

    Args:
        content: Of the image.
        file: In plain, from its first byte.
        size: Bytes of it.

    Raises:
        ImageError: It ends early.
    """
    head = SealedHead(secrets.token_bytes(FILE_ID_SIZE), size)
    units = Units(content.key, content.cipher, head.file_id)
    yield build_sealed_head(head)
    for chunk in range(head.chunks):
        yield units.seal(head.place(chunk), _read(file, head.length(chunk) - TAG_SIZE))


def sealed_header(plain: Header, manifest: Manifest, envelope: int) -> Header:
    """The header of the encrypted image, from that of the same image in plain."""
    groups = sum(payload.groups for payload in manifest.payloads)
    each = len(manifest.payloads) * TAG_SIZE
    return replace(
        plain,
        attachments=envelope + plain.attachments + len(manifest.attachments) * TAG_SIZE,
        plain_lists=plain.plain_lists + each,
        stored_tables=plain.stored_tables + each,
        groups=plain.groups + groups * TAG_SIZE,
    )


def _plain_units(manifest: Manifest, body: BinaryIO | Chain) -> Iterator[tuple[UnitPlace, bytes]]:
    """What is sealed, in the order of the image."""
    for number, attachment in enumerate(manifest.attachments):
        yield UnitPlace(UnitKind.ATTACHMENT, number), _read(body, attachment.size)
    for number, payload in enumerate(manifest.payloads):
        yield UnitPlace(UnitKind.PLAIN_LIST, number), _read(body, payload.groups * DIGEST_SIZE)
    tables = []
    for number, payload in enumerate(manifest.payloads):
        data = _read(body, payload.groups * ENTRY_SIZE)
        tables.append(check_stored_table(payload, data))
        yield UnitPlace(UnitKind.STORED_TABLE, number), data
    for number, table in enumerate(tables):
        for index, entry in enumerate(table):
            yield UnitPlace(UnitKind.GROUP, number, index), _read(body, entry.length)


def _read(body: BinaryIO | Chain, size: int) -> bytes:
    data = body.read(size)
    if len(data) < size:
        raise ImageError(
            "the image ends early", code="truncated", expected=f"{size} bytes more", found=f"{len(data)} bytes"
        )
    return data
