"""Encrypts an image that was built in plain, and changes who can open one that is encrypted.

The file is replaced as a whole or not at all. Signatures stay as they are when recipients change: nothing of the
envelope is signed, and nothing behind it is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from twinslot.core.canonical import encode, parse_document
from twinslot.core.errors import Refusal, RefusedError
from twinslot.core.manifest import ENCRYPTION, Manifest, parse_manifest
from twinslot.crypto.keys import RecipientKey
from twinslot.crypto.recipients import wrap
from twinslot.crypto.units import ContentKey
from twinslot.image.envelope import Envelope, Recipient, build_envelope, parse_envelope
from twinslot.image.layout import layout
from twinslot.image.wire import Header, build_header
from twinslot_image.compose import Front, copy_rest, read_front
from twinslot_image.envelope_inspect import SHOWN
from twinslot_image.recipients import Unlock
from twinslot_image.replacement import rewriting
from twinslot_image.sealing import Encryption, seal_body, sealed_header


def encrypt_image(path: Path, encryption: Encryption) -> int:
    """Encrypt an image that bears no signature yet; its manifest says from then on that it is encrypted.

    Returns:
        Bytes of the encrypted image.

    Raises:
        RefusedError: `refused.signed`: it is signed, or `refused.encrypted-already`.
        ImageError: It is damaged; no recipient, too many, or one twice.
    """
    with rewriting(path) as (source, sink):
        front = read_front(source)
        plain = parse_manifest(front.manifest)
        _may_encrypt(path, plain)
        layout(front.header, plain)
        manifest = _requiring(front.manifest)
        sealed = seal_body(parse_manifest(manifest), source, encryption)
        header = replace(front.header, manifest=len(manifest))
        header = sealed_header(header, plain, len(sealed.envelope))
        sink.writelines((build_header(header), front.trust, manifest, sealed.envelope))
        sink.writelines(sealed.units)
    return header.total


def read_envelope(file: BinaryIO) -> tuple[Front, Envelope]:
    """The front and the envelope of an encrypted image, from its first byte on.

    Raises:
        RefusedError: `refused.plain-image`: it is not encrypted.
        ImageError: It is damaged.
    """
    front = read_front(file)
    manifest = parse_manifest(front.manifest)
    if not manifest.encrypted:
        what, hint = "the image is not encrypted", "encrypt it with 'twinslot-image encrypt'"
        raise RefusedError(Refusal("plain-image", what, hint=hint))
    return front, parse_envelope(file.read(layout(front.header, manifest).envelope.length))


def content_key(path: Path, unlock: Unlock) -> ContentKey | None:
    """The content key of an image, with which files beside it are sealed; None: it is not encrypted.

    Raises:
        RefusedError: `unlock` does not open it.
    """
    with path.open("rb") as file:
        front = read_front(file)
        manifest = parse_manifest(front.manifest)
        if not manifest.encrypted:
            return None
        return unlock(file.read(layout(front.header, manifest).envelope.length))


def add_recipients(path: Path, keys: Iterable[RecipientKey], unlock: Unlock) -> Envelope:
    """Let more keys open an encrypted image; one that can already stays as it is.

    Args:
        path: The image.
        keys: Of those who are to open it.
        unlock: Opens it now.

    Raises:
        RefusedError: It is not encrypted, or `unlock` does not open it.
        ImageError: It is damaged.
    """

    def change(data: bytes) -> list[Recipient]:
        found = {each.key_id: each for each in parse_envelope(data).recipients}
        content = unlock(data)
        return [*found.values(), *(wrap(content, key) for key in keys if key.key_id not in found)]

    return _change(path, change)


def remove_recipients(path: Path, names: Iterable[str]) -> Envelope:
    """Take recipients out of an image. Who opened it before may have kept its content key.

    Args:
        path: The image.
        names: The beginning of each one's key id.

    Raises:
        RefusedError: `refused.recipient-unknown`: a name fits none, or several; `refused.recipient-last`.
    """

    def change(data: bytes) -> list[Recipient]:
        recipients = parse_envelope(data).recipients
        gone = {_named(recipients, name) for name in names}
        left = [each for each in recipients if each.key_id not in gone]
        if not left:
            what, hint = "nobody could open the image", "add another recipient first"
            raise RefusedError(Refusal("recipient-last", what, "one recipient or more", "none", hint))
        return left

    return _change(path, change)


def _change(path: Path, change: Callable[[bytes], list[Recipient]]) -> Envelope:
    """Give an image another envelope; nothing beside it and the header changes."""
    with rewriting(path) as (source, sink):
        front, old = read_envelope(source)
        before = build_envelope(old.cipher, old.image_id, old.recipients)
        after = build_envelope(old.cipher, old.image_id, change(before))
        sink.write(build_header(_longer(front.header, len(after) - len(before))))
        sink.writelines((front.trust, front.manifest, after))
        copy_rest(source, sink, front.header)
    return parse_envelope(after)


def _longer(header: Header, more: int) -> Header:
    return replace(header, attachments=header.attachments + more)


def _named(recipients: Iterable[Recipient], name: str) -> bytes:
    ids = [each.key_id for each in recipients]
    found = [each for each in ids if each.hex().startswith(name.lower())]
    if len(found) != 1 or not name:
        what = "no recipient of the image has a key id that begins so"
        shown = ", ".join(each.hex()[:SHOWN] for each in ids[:8])
        raise RefusedError(Refusal("recipient-unknown", what, f"one of {shown}", f"{name}: {len(found)} of them"))
    return found[0]


def _may_encrypt(path: Path, manifest: Manifest) -> None:
    if manifest.encrypted:
        what, hint = f"'{path}' is encrypted already", "change who can open it with 'twinslot-image recipients'"
        raise RefusedError(Refusal("encrypted-already", what, hint=hint))
    if manifest.key_ids:
        what = f"'{path}' is signed already, and its manifest does not say that it is encrypted"
        hint = "encrypt the image before it is signed, or set 'recipients' in image.toml"
        raise RefusedError(Refusal("signed", what, "no signature", f"{len(manifest.key_ids)}", hint))


def _requiring(manifest: bytes) -> bytes:
    """The manifest, with the word that says that what follows is sealed."""
    document = parse_document(manifest, "manifest")
    signed: Any = document["signed"]
    ours = signed["x-twinslot"]
    ours["requires"] = sorted({ENCRYPTION, *ours.get("requires", ())})
    return encode(document)
