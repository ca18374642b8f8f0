"""`twinslot-image encrypt` and `twinslot-image recipients`."""

from __future__ import annotations

import argparse
import re

from twinslot.cli.output import Output
from twinslot.core.errors import Refusal, RefusedError
from twinslot.crypto.keys import KINDS, make_private
from twinslot.image.envelope import Envelope
from twinslot_image.cli_commands import counted, say
from twinslot_image.description import CIPHERS
from twinslot_image.encryption import (
    add_recipients,
    encrypt_image,
    read_envelope,
    remove_recipients,
)
from twinslot_image.envelope_inspect import describe_envelope, render_envelope
from twinslot_image.file_kind import require_image, require_lasting
from twinslot_image.key_encryption import encrypt_key
from twinslot_image.output_place import cannot_write
from twinslot_image.progress import size_text
from twinslot_image.recipients import read_encryption, read_public, unlock_with
from twinslot_image.replacement import MODE_SECRET, write_whole


def encrypt(arguments: argparse.Namespace, output: Output) -> None:
    """`encrypt`."""
    path = arguments.image
    require_lasting(path)
    require_image(path)
    encryption = read_encryption(arguments.recipient, CIPHERS[arguments.cipher])
    size = encrypt_image(path, encryption)
    data = {"file": str(path), "size": size, "cipher": arguments.cipher, "recipients": len(encryption.recipients)}
    line = f"{path}: {size_text(size)}, encrypted for {counted(len(encryption.recipients), 'recipient')}; sign it now"
    say(arguments, output, data, [line])


def new_recipient(arguments: argparse.Namespace, output: Output) -> None:
    """`recipients new`."""
    private = arguments.private
    if not private.name:
        raise cannot_write(str(private), "a directory", expected="the name of a file")
    public = private.with_suffix(".pub" + private.suffix)
    for path in (private, public):
        if path.exists() or path.is_symlink():
            what, hint = f"'{path}' is there already", "name another file"
            found = "a directory" if path.is_dir() else "a file"
            raise RefusedError(Refusal("output-exists", what, found=found, hint=hint))
    key = make_private(KINDS[arguments.kind])
    passphrase = arguments.passphrase
    write_whole(private, encrypt_key(key.der(), passphrase) if passphrase else key.pem(), MODE_SECRET)
    try:
        write_whole(public, key.public_key.pem())
    except BaseException:
        private.unlink(missing_ok=True)  # both halves, or nothing is in the way of another try
        raise
    key_id = key.public_key.key_id.hex()
    kept = "under the passphrase" if passphrase else "NOT encrypted, as a device needs it"
    data = {"private": str(private), "public": str(public), "key": key_id, "encrypted": bool(passphrase)}
    lines = [f"{private}: the private key, {kept}", f"{public}: the public key, for 'recipients'", f"key {key_id}"]
    say(arguments, output, data, lines)


def list_recipients(arguments: argparse.Namespace, output: Output) -> None:
    """`recipients list`."""
    require_lasting(arguments.image)
    require_image(arguments.image)
    with arguments.image.open("rb") as file:
        _tell(arguments, output, read_envelope(file)[1])


def add(arguments: argparse.Namespace, output: Output) -> None:
    """`recipients add`."""
    require_lasting(arguments.image)
    require_image(arguments.image)
    keys = [read_public(path) for path in arguments.public]
    unlock = unlock_with(arguments)
    _tell(arguments, output, add_recipients(arguments.image, keys, unlock))


def remove(arguments: argparse.Namespace, output: Output) -> None:
    """`recipients remove`."""
    require_lasting(arguments.image)
    require_image(arguments.image)
    _tell(arguments, output, remove_recipients(arguments.image, [_key_id(name) for name in arguments.key]))


def _key_id(name: str) -> str:
    """How a key id begins; or that of the public key that a file or a token has."""
    return name if re.fullmatch(r"[0-9A-Fa-f]*", name) else read_public(name).key_id.hex()


def _tell(arguments: argparse.Namespace, output: Output, envelope: Envelope) -> None:
    data = describe_envelope(envelope)
    if output.as_json:
        output.line({"type": "recipients", "file": str(arguments.image)} | data)
    else:
        say(arguments, output, data, [f"{arguments.image}: {render_envelope(data)[0]}", *render_envelope(data)[1:]])
