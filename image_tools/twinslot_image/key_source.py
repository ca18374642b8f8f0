"""Where a key is: in a file, in a variable, or in a token; opened for its signatures, or read for its public half."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]

from twinslot.core.errors import DeviceError
from twinslot.core.pkcs11_uri import is_pkcs11, parse_uri
from twinslot_image.key_files import check_kind, load_public, load_signer
from twinslot_image.named_file import read_small
from twinslot_image.pkcs11_token import TokenSigner, open_token


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key from outside: its public half, what it is called, and what signs with it if that is in reach."""

    key: SSlibKey
    label: str
    signer: CryptoSigner | None = None


def open_signer(where: str, arguments: Namespace) -> CryptoSigner:
    """What signs with a private key.

    Args:
        where: A file in PEM, `env:VARIABLE`, or a PKCS #11 URI.
        arguments: With the passphrase of files and the PINs of tokens.

    Raises:
        DeviceError: `device.key` or `device.pkcs11-...`: it is not there, or cannot be opened.
    """
    if is_pkcs11(where):
        return _open_token(where, arguments)
    if not where.startswith("env:"):
        return load_signer(read_small(Path(where)), where, arguments.passphrase)
    value = os.environb.get(os.fsencode(where.removeprefix("env:")))
    if not value:
        raise DeviceError("the variable that should hold the private key is not set", code="key", expected=where)
    return load_signer(value, where, arguments.passphrase)


def open_public(where: str, arguments: Namespace) -> PublicKey:
    """A public key: of a file in PEM, or of a token, where it has to show that it signs.

    Raises:
        DeviceError: `device.key` or `device.pkcs11-...`: none, or none that a device takes.
    """
    if not is_pkcs11(where):
        return PublicKey(load_public(Path(where)), Path(where).stem)
    signer, uri = _open_token(where, arguments), parse_uri(where)
    return PublicKey(signer.public_key, uri.label or (uri.key_id or b"").hex(), signer)


def open_publics(places: Iterable[str], arguments: Namespace) -> tuple[PublicKey, ...]:
    """Several of them, in order."""
    return tuple(open_public(where, arguments) for where in places)


def _open_token(where: str, arguments: Namespace) -> TokenSigner:
    signer = open_token(where, arguments.pins)
    check_kind(signer.public_key, parse_uri(where).key_name)
    return signer
